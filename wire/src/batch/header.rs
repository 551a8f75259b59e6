//! The 80-byte header: 32 bytes that the broker may rewrite, 48 that belong to the producer and lie under its CRC.

use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BatchError, Compression};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, DECOMPRESSED_BYTES_MAX, DECOMPRESSION_RATIO_MAX,
    DECOMPRESSION_SLACK_BYTES, OFFSET_MAX, TIMESTAMP_MAX,
};

/// Bytes of a batch's header.
pub const BATCH_HEADER_BYTES: usize = 80;
/// Bytes at the front of the header that the broker writes; the rest lies under the producer's CRC.
pub const STAMP_BYTES: usize = 32;
/// The body is an rkyv archive of columns.
pub const FORMAT_COLUMNS: u8 = 1;
/// The body is a Kafka record batch as the client sent it. Reserved: refused for now.
pub const FORMAT_KAFKA_V2: u8 = 2;

const _: () = {
    assert!(size_of::<BatchHeader>() == BATCH_HEADER_BYTES);
    assert!(size_of::<BrokerRegion>() == STAMP_BYTES);
};

/// Who sent a batch and in which order, when the producer is idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer. Never [`ProducerId::NONE`].
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record.
    pub base_sequence: Sequence,
}

/// A batch's header, as it lies in the bytes.
///
/// A reference from [`read_from_prefix_of`](Self::read_from_prefix_of) is sane: every field lies within the limits of the
/// format. That says nothing yet about the checksums.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    pub(super) broker: BrokerRegion,
    pub(super) format: u8,
    pub(super) compression: u8,
    pub(super) flags: U16,
    pub(super) record_count: U32,
    pub(super) first_timestamp: I64,
    pub(super) max_timestamp: I64,
    pub(super) producer_id: U64,
    pub(super) producer_epoch: U32,
    pub(super) base_sequence: U32,
    pub(super) body_bytes: U32,
    pub(super) reserved: U32,
}

/// The front of the header, which the broker may rewrite without touching the producer's CRC.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct BrokerRegion {
    pub(super) batch_bytes: U32,
    pub(super) crc: U32,
    pub(super) base_offset: U64,
    pub(super) append_time: I64,
    pub(super) leader_epoch: U32,
    pub(super) stamp_crc: U32,
}

impl BatchHeader {
    /// The header at the front of `bytes`, once every field has been found within the limits of the format. The body
    /// need not be there.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] under 80 bytes; otherwise what the first bad field says.
    pub fn read_from_prefix_of(bytes: &[u8]) -> Result<&Self, BatchError> {
        let (header, _) = Self::ref_from_prefix(bytes).map_err(|_| BatchError::Truncated {
            needed: BATCH_HEADER_BYTES,
            found: bytes.len(),
        })?;
        header.check()?;
        Ok(header)
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        self.broker.batch_bytes.get() as usize
    }

    /// CRC-32C of everything from byte 32 on.
    #[must_use]
    pub fn crc(&self) -> u32 {
        self.broker.crc.get()
    }

    /// The offset of the first record; 0 until stamped.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(self.broker.base_offset.get())
    }

    /// The offset behind the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        // Cannot saturate in a sane header: the base is at most OFFSET_MAX.
        Offset(
            self.broker
                .base_offset
                .get()
                .saturating_add(u64::from(self.record_count())),
        )
    }

    /// When the broker appended the batch; 0 until stamped.
    #[must_use]
    pub fn append_time(&self) -> Timestamp {
        Timestamp(self.broker.append_time.get())
    }

    /// The term in which the batch was appended; 0 until stamped.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.broker.leader_epoch.get())
    }

    /// CRC-32C of topic, partition and the 28 bytes before it; 0 until stamped.
    #[must_use]
    pub fn stamp_crc(&self) -> u32 {
        self.broker.stamp_crc.get()
    }

    /// The format of the body: [`FORMAT_COLUMNS`].
    #[must_use]
    pub fn format(&self) -> u8 {
        self.format
    }

    /// How the body is compressed.
    ///
    /// # Errors
    /// [`BatchError::CompressionUnsupported`] when the byte is none we know, which cannot be in a sane header.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_byte(self.compression)
    }

    /// Records in the batch.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        self.record_count.get()
    }

    /// The timestamp of the first record.
    #[must_use]
    pub fn first_timestamp(&self) -> Timestamp {
        Timestamp(self.first_timestamp.get())
    }

    /// The latest timestamp of any record.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.max_timestamp.get())
    }

    /// Who sent the batch, or `None` when the producer is not idempotent.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerStamp> {
        let id = ProducerId(self.producer_id.get());
        (id != ProducerId::NONE).then(|| ProducerStamp {
            id,
            epoch: ProducerEpoch(self.producer_epoch.get()),
            base_sequence: Sequence(self.base_sequence.get()),
        })
    }

    pub(super) fn set_producer(&mut self, producer: ProducerStamp) {
        assert_ne!(
            producer.id,
            ProducerId::NONE,
            "an idempotent producer has an id"
        );
        self.producer_id = producer.id.0.into();
        self.producer_epoch = producer.epoch.0.into();
        self.base_sequence = producer.base_sequence.0.into();
    }

    /// Writes the producer's checksum, the last thing to change in a batch that is to be sent.
    pub(super) fn sign(&mut self, body: &[u8]) {
        let signed = self.as_bytes().get(STAMP_BYTES..).unwrap_or_default();
        self.broker.crc = crc32c::crc32c_append(crc32c::crc32c(signed), body).into();
    }

    /// Bytes of the body before compression.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body_bytes.get() as usize
    }

    /// Bytes of the body as it lies in the batch.
    #[must_use]
    pub fn stored_body_bytes(&self) -> usize {
        self.batch_bytes().saturating_sub(BATCH_HEADER_BYTES)
    }

    fn check(&self) -> Result<(), BatchError> {
        let batch_bytes = self.broker.batch_bytes.get();
        if self.batch_bytes() <= BATCH_HEADER_BYTES {
            return Err(BatchError::Malformed(
                "the length does not even cover a header and a body",
            ));
        }
        check_limit("bytes of a batch", batch_bytes, BATCH_BYTES_MAX)?;
        if self.format != FORMAT_COLUMNS {
            return Err(BatchError::FormatUnsupported(self.format));
        }
        let compression = self.compression()?;
        if self.flags.get() != 0 {
            return Err(BatchError::Malformed("a flag is set, and none is defined"));
        }
        if self.reserved.get() != 0 {
            return Err(BatchError::Malformed("the reserved field is not 0"));
        }
        if self.record_count() == 0 {
            return Err(BatchError::Malformed("there is no record"));
        }
        check_limit("records of a batch", self.record_count(), BATCH_RECORDS_MAX)?;
        let first = self.first_timestamp.get();
        let max = self.max_timestamp.get();
        if first < 0 || max < first || max > TIMESTAMP_MAX {
            return Err(BatchError::Malformed("the timestamps are out of range"));
        }
        if self.producer_id.get() == ProducerId::NONE.0
            && (self.producer_epoch.get() != 0 || self.base_sequence.get() != 0)
        {
            return Err(BatchError::Malformed(
                "an epoch or a sequence without a producer id",
            ));
        }
        if self.broker.base_offset.get() > OFFSET_MAX {
            return Err(BatchError::Malformed("the base offset is out of range"));
        }
        self.check_body_bytes(compression)
    }

    /// What decompression may cost is decided here, before anything is reserved.
    fn check_body_bytes(&self, compression: Compression) -> Result<(), BatchError> {
        let body_bytes = self.body_bytes.get();
        let stored = self.stored_body_bytes();
        if compression == Compression::None {
            return if self.body_bytes() == stored {
                Ok(())
            } else {
                Err(BatchError::Malformed(
                    "the body's length is not the batch's less its header",
                ))
            };
        }
        check_limit(
            "bytes of a decompressed body",
            body_bytes,
            DECOMPRESSED_BYTES_MAX,
        )?;
        let limit = decompressed_bytes_allowed(stored);
        if u64::from(body_bytes) > limit {
            return Err(BatchError::TooLarge {
                what: "bytes of a decompressed body, for so few compressed ones",
                size: u64::from(body_bytes),
                limit,
            });
        }
        Ok(())
    }
}

impl std::fmt::Debug for BatchHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchHeader")
            .field("batch_bytes", &self.batch_bytes())
            .field("crc", &format_args!("{:#010x}", self.crc()))
            .field("base_offset", &self.base_offset())
            .field("append_time", &self.append_time())
            .field("leader_epoch", &self.leader_epoch())
            .field("stamp_crc", &format_args!("{:#010x}", self.stamp_crc()))
            .field("format", &self.format)
            .field("compression", &self.compression)
            .field("record_count", &self.record_count())
            .field("first_timestamp", &self.first_timestamp())
            .field("max_timestamp", &self.max_timestamp())
            .field("producer", &self.producer())
            .field("body_bytes", &self.body_bytes())
            .finish_non_exhaustive()
    }
}

/// The most bytes that `compressed_bytes` may decompress to under the ratio.
pub(super) fn decompressed_bytes_allowed(compressed_bytes: usize) -> u64 {
    (compressed_bytes as u64)
        .saturating_mul(u64::from(DECOMPRESSION_RATIO_MAX))
        .saturating_add(u64::from(DECOMPRESSION_SLACK_BYTES))
}

pub(super) fn check_limit(what: &'static str, size: u32, limit: u32) -> Result<(), BatchError> {
    if size > limit {
        return Err(BatchError::TooLarge {
            what,
            size: u64::from(size),
            limit: u64::from(limit),
        });
    }
    Ok(())
}
