//! Messages to bytes.

use bytes::{BufMut, BytesMut};

use super::field::put_error_body;
use super::header::FrameHeader;
use super::kind::FrameKind;
use super::message::{Message, PublishAck};
use super::topic::{Durability, encode_name};
use crate::ids::{CorrelationId, Offset, PartitionIndex, SubscriptionId, TopicId};
use crate::limits::{
    DATA_HEAD_BYTES, FRAME_HEADER_BYTES, PUBLISH_ACK_BYTES, PUBLISH_ACKS_HEAD_BYTES,
    PUBLISH_ACKS_MAX,
};

/// Appends one frame to `out`.
///
/// # Panics
/// A string, a list or the frame is longer than [`crate::limits`] allows, or a number that the message documents as
/// bounded is out of its bounds: check what comes from a user first. The sentence of an error is cut instead.
pub fn encode(correlation: CorrelationId, message: &Message, out: &mut BytesMut) {
    match message {
        Message::Publish(publish) => {
            out.reserve(DATA_HEAD_BYTES + publish.batch.len());
            out.put_slice(&encode_publish_head(
                correlation,
                publish.topic,
                publish.partition,
                publish.durability,
                publish.batch.len(),
            ));
            out.put_slice(&publish.batch);
            return;
        }
        Message::PublishAcks(acks) => {
            put_acks(correlation, acks, out);
            return;
        }
        _ => {}
    }
    let start = out.len();
    out.put_bytes(0, FRAME_HEADER_BYTES);
    encode_body(message, out);
    let kind = message.kind();
    let frame_bytes = checked_frame_bytes(kind, out.len() - start);
    out[start..start + FRAME_HEADER_BYTES].copy_from_slice(&FrameHeader::encode(
        frame_bytes,
        kind,
        correlation,
    ));
}

/// What stands before the batch in a Publish: the batch, of `batch_bytes`, is to follow at once.
///
/// # Panics
/// The frame would be longer than [`crate::limits::FRAME_BYTES_MAX`].
#[must_use]
pub fn encode_publish_head(
    correlation: CorrelationId,
    topic: TopicId,
    partition: PartitionIndex,
    durability: Option<Durability>,
    batch_bytes: usize,
) -> [u8; DATA_HEAD_BYTES] {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&topic.0.to_le_bytes());
    body[8..12].copy_from_slice(&partition.0.to_le_bytes());
    body[12] = durability.map_or(0, |durability| durability as u8);
    data_head(FrameKind::Publish, correlation, body, batch_bytes)
}

/// What stands before the batches in a Deliver: the batches, of `batches_bytes` together, are to follow at once.
///
/// # Panics
/// The frame would be longer than [`crate::limits::FRAME_BYTES_MAX`].
#[must_use]
pub fn encode_deliver_head(
    subscription: SubscriptionId,
    next_offset: Offset,
    batches_bytes: usize,
) -> [u8; DATA_HEAD_BYTES] {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&subscription.0.to_le_bytes());
    body[8..].copy_from_slice(&next_offset.0.to_le_bytes());
    data_head(FrameKind::Deliver, CorrelationId(0), body, batches_bytes)
}

/// Gathers acknowledgements into as few PublishAcks frames as their limit allows.
///
/// The frames are complete once the writer is dropped; a writer that got nothing writes nothing.
#[derive(Debug)]
pub struct PublishAcksWriter<'a> {
    out: &'a mut BytesMut,
    start: usize,
    count: u32,
}

impl<'a> PublishAcksWriter<'a> {
    /// A writer that appends to `out`.
    #[must_use]
    pub fn new(out: &'a mut BytesMut) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            count: 0,
        }
    }

    /// Adds an acknowledgement.
    pub fn push(&mut self, ack: &PublishAck) {
        if self.count == PUBLISH_ACKS_MAX {
            self.complete();
        }
        if self.count == 0 {
            self.start = self.out.len();
            self.out.put_bytes(0, PUBLISH_ACKS_HEAD_BYTES);
        }
        ack.encode(self.out);
        self.count += 1;
    }

    /// Completes the frame; the same as dropping the writer.
    pub fn finish(self) {}

    fn complete(&mut self) {
        if self.count == 0 {
            return;
        }
        put_acks_head(CorrelationId(0), self.count, &mut self.out[self.start..]);
        self.count = 0;
    }
}

impl Drop for PublishAcksWriter<'_> {
    fn drop(&mut self) {
        self.complete();
    }
}

fn put_acks(correlation: CorrelationId, acks: &[PublishAck], out: &mut BytesMut) {
    let count = u32::try_from(acks.len()).unwrap_or(u32::MAX);
    assert!(
        count <= PUBLISH_ACKS_MAX,
        "{count} acknowledgements where {PUBLISH_ACKS_MAX} are allowed in a frame"
    );
    let start = out.len();
    out.reserve(PUBLISH_ACKS_HEAD_BYTES + acks.len() * PUBLISH_ACK_BYTES);
    out.put_bytes(0, PUBLISH_ACKS_HEAD_BYTES);
    for ack in acks {
        ack.encode(out);
    }
    put_acks_head(correlation, count, &mut out[start..]);
}

fn put_acks_head(correlation: CorrelationId, count: u32, frame: &mut [u8]) {
    let kind = FrameKind::PublishAcks;
    let header = FrameHeader::encode(checked_frame_bytes(kind, frame.len()), kind, correlation);
    frame[..FRAME_HEADER_BYTES].copy_from_slice(&header);
    frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + 4].copy_from_slice(&count.to_le_bytes());
}

fn data_head(
    kind: FrameKind,
    correlation: CorrelationId,
    body: [u8; 16],
    data_bytes: usize,
) -> [u8; DATA_HEAD_BYTES] {
    let frame_bytes = checked_frame_bytes(kind, DATA_HEAD_BYTES.saturating_add(data_bytes));
    let mut head = [0; DATA_HEAD_BYTES];
    head[..FRAME_HEADER_BYTES].copy_from_slice(&FrameHeader::encode(
        frame_bytes,
        kind,
        correlation,
    ));
    head[FRAME_HEADER_BYTES..].copy_from_slice(&body);
    head
}

fn checked_frame_bytes(kind: FrameKind, frame_bytes: usize) -> u32 {
    let frame_bytes_max = kind.frame_bytes_max();
    match u32::try_from(frame_bytes) {
        Ok(frame_bytes) if frame_bytes <= frame_bytes_max => frame_bytes,
        _ => panic!(
            "a frame of kind {} has {frame_bytes} bytes where {frame_bytes_max} are allowed",
            kind.name()
        ),
    }
}

fn encode_body(message: &Message, out: &mut BytesMut) {
    match message {
        Message::Hello(hello) => hello.encode(out),
        Message::HelloReply(reply) => reply.encode(out),
        Message::Ping(opaque) | Message::Pong(opaque) => out.put_u64_le(*opaque),
        Message::TopicCreate(create) => create.encode(out),
        Message::TopicDescribe(name) | Message::TopicDelete(name) => encode_name(name, out),
        Message::TopicReply(description) => description.encode(out),
        Message::TopicList(list) => list.encode(out),
        Message::TopicListReply(reply) => reply.encode(out),
        Message::ProducerInit => out.put_u32_le(0),
        Message::ProducerReply(reply) => reply.encode(out),
        Message::Subscribe(subscribe) => subscribe.encode(out),
        Message::Subscribed(subscribed) => subscribed.encode(out),
        Message::Credit(subscription, bytes) => {
            out.put_u64_le(subscription.0);
            out.put_u64_le(*bytes);
        }
        Message::Deliver(deliver) => {
            out.put_u64_le(deliver.subscription.0);
            out.put_u64_le(deliver.next_offset.0);
            out.put_slice(&deliver.batches);
        }
        Message::Unsubscribe(subscription) => out.put_u64_le(subscription.0),
        Message::SubscriptionEnd(end) => end.encode(out),
        Message::OffsetsCommit(commit) => commit.encode(out),
        Message::OffsetsFetch(fetch) => fetch.encode(out),
        Message::OffsetsReply(reply) => reply.encode(out),
        Message::OffsetLookup(lookup) => lookup.encode(out),
        Message::OffsetLookupReply(reply) => reply.encode(out),
        Message::Ok => {}
        Message::Error(body) => put_error_body(out, body),
        Message::Goodbye(goodbye) => goodbye.encode(out),
        Message::Publish(_) | Message::PublishAcks(_) => {
            unreachable!("frames of the hot path have encoders of their own")
        }
    }
}
