//! The bodies of the messages that are not about topics.

#![warn(clippy::indexing_slicing)]

use bytes::{BufMut, BytesMut};

use super::error::FrameErrorKind;
use super::field::{FieldReader, put_count, put_error_body, put_string};
use super::message::{
    CommittedOffset, Goodbye, Hello, HelloReply, OffsetLookup, OffsetLookupReply, OffsetToCommit,
    OffsetsCommit, OffsetsFetch, OffsetsReply, ProducerReply, PublishAck, Start, Subscribe,
    Subscribed, SubscriptionEnd,
};
use super::topic::Durability;
use crate::error::{ErrorCode, cut_sentence};
use crate::ids::{
    CorrelationId, Offset, PartitionIndex, ProducerEpoch, ProducerId, ShardIndex, SubscriptionId,
    Timestamp, TopicId,
};
use crate::limits::{
    GROUP_NAME_BYTES_MAX, HEARTBEAT_MS_MIN, OFFSET_METADATA_BYTES_MAX, OFFSETS_MAX,
    PEER_NAME_BYTES_MAX, PUBLISH_ACK_BYTES, PUBLISH_ACKS_MAX, SENTENCE_BYTES_MAX,
};

impl Hello {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        if body.u32()? != HELLO_MAGIC {
            return Err(body.wrong("magic"));
        }
        let protocol_min = body.u16()?;
        let protocol_max = body.u16()?;
        if protocol_min > protocol_max {
            return Err(body.wrong("protocol_max"));
        }
        let features = body.u64()?;
        let shard = match body.u16()? {
            SHARD_ANY => None,
            shard => Some(ShardIndex(shard)),
        };
        let client_name = body.string("client_name", PEER_NAME_BYTES_MAX)?.to_owned();
        Ok(Self {
            protocol_min,
            protocol_max,
            features,
            shard,
            client_name,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(HELLO_MAGIC);
        out.put_u16_le(self.protocol_min);
        out.put_u16_le(self.protocol_max);
        out.put_u64_le(self.features);
        out.put_u16_le(self.shard.map_or(SHARD_ANY, |shard| shard.0));
        put_string(out, "client_name", &self.client_name, PEER_NAME_BYTES_MAX);
    }
}

impl HelloReply {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let protocol = body.u16()?;
        let shard = ShardIndex(body.u16()?);
        let shards = body.u16()?;
        body.reserved::<2>()?;
        let features = body.u64()?;
        let frame_bytes_max = body.u32()?;
        let batch_bytes_max = body.u32()?;
        let batch_records_max = body.u32()?;
        let producer_inflight_max = body.u32()?;
        let heartbeat_ms = body.u32()?;
        if heartbeat_ms < HEARTBEAT_MS_MIN {
            return Err(body.wrong("heartbeat_ms"));
        }
        Ok(Self {
            protocol,
            shard,
            shards,
            features,
            frame_bytes_max,
            batch_bytes_max,
            batch_records_max,
            producer_inflight_max,
            heartbeat_ms,
            broker_id: body.u64()?,
            server_name: body.string("server_name", PEER_NAME_BYTES_MAX)?.to_owned(),
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.protocol);
        out.put_u16_le(self.shard.0);
        out.put_u16_le(self.shards);
        out.put_u16_le(0);
        out.put_u64_le(self.features);
        out.put_u32_le(self.frame_bytes_max);
        out.put_u32_le(self.batch_bytes_max);
        out.put_u32_le(self.batch_records_max);
        out.put_u32_le(self.producer_inflight_max);
        assert!(
            self.heartbeat_ms >= HEARTBEAT_MS_MIN,
            "heartbeat_ms is {}",
            self.heartbeat_ms
        );
        out.put_u32_le(self.heartbeat_ms);
        out.put_u64_le(self.broker_id);
        put_string(out, "server_name", &self.server_name, PEER_NAME_BYTES_MAX);
    }
}

impl ProducerReply {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let producer = ProducerId(body.u64()?);
        if producer == ProducerId::NONE {
            return Err(body.wrong("producer_id"));
        }
        Ok(Self {
            producer,
            epoch: ProducerEpoch(body.u32()?),
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.producer.0);
        out.put_u32_le(self.epoch.0);
    }
}

pub(super) fn decode_publish_durability(
    body: &mut FieldReader<'_>,
) -> Result<Option<Durability>, FrameErrorKind> {
    let durability = match body.u8()? {
        0 => None,
        byte => Some(Durability::from_u8(byte).ok_or_else(|| body.wrong("durability"))?),
    };
    body.reserved::<3>()?;
    Ok(durability)
}

pub(super) fn decode_acks(body: &mut FieldReader<'_>) -> Result<Vec<PublishAck>, FrameErrorKind> {
    let count = body.u32()? as usize;
    body.reserved::<4>()?;
    let count = body.count("count", count, PUBLISH_ACKS_MAX as usize, PUBLISH_ACK_BYTES)?;
    let mut acks = Vec::with_capacity(count);
    for _ in 0..count {
        acks.push(PublishAck::decode(body)?);
    }
    Ok(acks)
}

impl PublishAck {
    fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let correlation = CorrelationId(body.u64()?);
        let base_offset = Offset(body.u64()?);
        let append_time = Timestamp(body.i64()?);
        let durability = Durability::from_u8(body.u8()?).ok_or_else(|| body.wrong("durability"))?;
        let duplicate = match body.u8()? {
            0 => false,
            1 => true,
            _ => return Err(body.wrong("duplicate")),
        };
        body.reserved::<6>()?;
        Ok(Self {
            correlation,
            base_offset,
            append_time,
            durability,
            duplicate,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.reserve(PUBLISH_ACK_BYTES);
        out.put_u64_le(self.correlation.0);
        out.put_u64_le(self.base_offset.0);
        out.put_i64_le(self.append_time.0);
        out.put_u8(self.durability as u8);
        out.put_u8(u8::from(self.duplicate));
        out.put_bytes(0, 6);
    }
}

impl Start {
    fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let start = body.u8()?;
        body.reserved::<3>()?;
        let value = body.u64()?;
        match (start, value) {
            (0, 0) => Ok(Self::Earliest),
            (1, 0) => Ok(Self::Latest),
            (0 | 1, _) => Err(body.wrong("start_value")),
            (2, offset) => Ok(Self::Offset(Offset(offset))),
            (3, timestamp) => Ok(Self::Timestamp(Timestamp(timestamp.cast_signed()))),
            _ => Err(body.wrong("start")),
        }
    }

    fn encode(self, out: &mut BytesMut) {
        let (start, value) = match self {
            Self::Earliest => (0, 0),
            Self::Latest => (1, 0),
            Self::Offset(offset) => (2, offset.0),
            Self::Timestamp(timestamp) => (3, timestamp.0.cast_unsigned()),
        };
        out.put_u8(start);
        out.put_bytes(0, 3);
        out.put_u64_le(value);
    }
}

impl Subscribe {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        Ok(Self {
            subscription: SubscriptionId(body.u64()?),
            topic: TopicId(body.u64()?),
            partition: PartitionIndex(body.u32()?),
            start: Start::decode(body)?,
            credit: body.u64()?,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.subscription.0);
        out.put_u64_le(self.topic.0);
        out.put_u32_le(self.partition.0);
        self.start.encode(out);
        out.put_u64_le(self.credit);
    }
}

impl Subscribed {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        Ok(Self {
            subscription: SubscriptionId(body.u64()?),
            start_offset: Offset(body.u64()?),
            log_start: Offset(body.u64()?),
            next_offset: Offset(body.u64()?),
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.subscription.0);
        out.put_u64_le(self.start_offset.0);
        out.put_u64_le(self.log_start.0);
        out.put_u64_le(self.next_offset.0);
    }
}

impl SubscriptionEnd {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        Ok(Self {
            subscription: SubscriptionId(body.u64()?),
            error: body.error_body()?,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.subscription.0);
        put_error_body(out, &self.error);
    }
}

fn decode_group(body: &mut FieldReader<'_>) -> Result<String, FrameErrorKind> {
    Ok(body.string("group", GROUP_NAME_BYTES_MAX)?.to_owned())
}

fn decode_metadata(body: &mut FieldReader<'_>) -> Result<String, FrameErrorKind> {
    Ok(body
        .string("metadata", OFFSET_METADATA_BYTES_MAX)?
        .to_owned())
}

impl OffsetsCommit {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let group = decode_group(body)?;
        let topic = TopicId(body.u64()?);
        let count = body.u32()? as usize;
        let count = body.count("count", count, OFFSETS_MAX as usize, 14)?;
        let mut offsets = Vec::with_capacity(count);
        for _ in 0..count {
            offsets.push(OffsetToCommit {
                partition: PartitionIndex(body.u32()?),
                offset: decode_stored_offset(body)?,
                metadata: decode_metadata(body)?,
            });
        }
        Ok(Self {
            group,
            topic,
            offsets,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_string(out, "group", &self.group, GROUP_NAME_BYTES_MAX);
        out.put_u64_le(self.topic.0);
        put_count(out, "count", self.offsets.len(), OFFSETS_MAX);
        for offset in &self.offsets {
            out.put_u32_le(offset.partition.0);
            out.put_i64_le(stored_offset_on_wire(offset.offset));
            put_string(out, "metadata", &offset.metadata, OFFSET_METADATA_BYTES_MAX);
        }
    }
}

/// An offset that OffsetsReply can give back, where -1 has a meaning.
fn decode_stored_offset(body: &mut FieldReader<'_>) -> Result<Offset, FrameErrorKind> {
    u64::try_from(body.i64()?)
        .map(Offset)
        .map_err(|_| body.wrong("offset"))
}

fn stored_offset_on_wire(offset: Offset) -> i64 {
    i64::try_from(offset.0).expect("an offset to store is documented to be at most i64::MAX")
}

impl OffsetsFetch {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let group = decode_group(body)?;
        let topic = TopicId(body.u64()?);
        let count = body.u32()? as usize;
        let count = body.count("count", count, OFFSETS_MAX as usize, 4)?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(PartitionIndex(body.u32()?));
        }
        Ok(Self {
            group,
            topic,
            partitions,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_string(out, "group", &self.group, GROUP_NAME_BYTES_MAX);
        out.put_u64_le(self.topic.0);
        put_count(out, "count", self.partitions.len(), OFFSETS_MAX);
        for partition in &self.partitions {
            out.put_u32_le(partition.0);
        }
    }
}

impl OffsetsReply {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let count = body.u32()? as usize;
        let count = body.count("count", count, OFFSETS_MAX as usize, 14)?;
        let mut offsets = Vec::with_capacity(count);
        for _ in 0..count {
            let partition = PartitionIndex(body.u32()?);
            let offset = match body.i64()? {
                -1 => None,
                offset => Some(Offset(
                    u64::try_from(offset).map_err(|_| body.wrong("offset"))?,
                )),
            };
            offsets.push(CommittedOffset {
                partition,
                offset,
                metadata: decode_metadata(body)?,
            });
        }
        Ok(Self { offsets })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_count(out, "count", self.offsets.len(), OFFSETS_MAX);
        for offset in &self.offsets {
            out.put_u32_le(offset.partition.0);
            out.put_i64_le(offset.offset.map_or(-1, stored_offset_on_wire));
            put_string(out, "metadata", &offset.metadata, OFFSET_METADATA_BYTES_MAX);
        }
    }
}

impl OffsetLookup {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        Ok(Self {
            topic: TopicId(body.u64()?),
            partition: PartitionIndex(body.u32()?),
            start: Start::decode(body)?,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.topic.0);
        out.put_u32_le(self.partition.0);
        self.start.encode(out);
    }
}

impl OffsetLookupReply {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        Ok(Self {
            offset: Offset(body.u64()?),
            log_start: Offset(body.u64()?),
            next_offset: Offset(body.u64()?),
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.offset.0);
        out.put_u64_le(self.log_start.0);
        out.put_u64_le(self.next_offset.0);
    }
}

impl Goodbye {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        Ok(Self {
            code: ErrorCode::from_u16(body.u16()?),
            sentence: body.string("sentence", SENTENCE_BYTES_MAX)?.to_owned(),
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u16_le(self.code.to_u16());
        put_string(
            out,
            "sentence",
            cut_sentence(&self.sentence),
            SENTENCE_BYTES_MAX,
        );
    }
}

/// The letters GNNT.
const HELLO_MAGIC: u32 = u32::from_le_bytes(*b"GNNT");
const SHARD_ANY: u16 = u16::MAX;
