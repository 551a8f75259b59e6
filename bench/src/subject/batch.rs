//! Batches and frames.

use bytes::{Bytes, BytesMut};
use gannet_engine::shard::log::CheckedBatch;
use gannet_engine::storage::PartitionKey;
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, CheckDepth, CheckScratch, Compression, check_batch,
};
use gannet_wire::frame::encode_publish_head;
use gannet_wire::{CorrelationId, PartitionIndex, Timestamp, TopicId};

/// The partition that everything goes to.
pub const PARTITION: PartitionKey = PartitionKey {
    topic: TopicId(1),
    partition: PartitionIndex(0),
};

const TIME: Timestamp = Timestamp(1_767_225_600_000);
/// What the values are made of: text that compresses about as events and log lines do, neither noise nor one letter.
const WORDS: [&str; 32] = [
    "accepted",
    "account",
    "amount",
    "boat",
    "catch",
    "customer",
    "delivered",
    "error",
    "false",
    "fish",
    "harbour",
    "id",
    "invoice",
    "landed",
    "latency",
    "null",
    "order",
    "paid",
    "price",
    "quay",
    "received",
    "refused",
    "retry",
    "sea",
    "session",
    "shipped",
    "status",
    "timestamp",
    "total",
    "true",
    "user",
    "wind",
];

/// A value of `bytes`, another one for each `number`, the same in each run.
#[must_use]
pub fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut text = format!("{number:016x} ").into_bytes();
    let mut state = number;
    while text.len() < bytes {
        // The multiplier of Knuth's MMIX generator; its high bits are the good ones.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let word = WORDS
            .get((state >> 59) as usize)
            .copied()
            .unwrap_or_default();
        text.extend_from_slice(word.as_bytes());
        text.extend_from_slice(format!(" {:03} ", (state >> 40) % 1000).as_bytes());
    }
    text.truncate(bytes);
    text
}

/// A batch as a producer sends it.
///
/// # Panics
/// When that is no batch.
#[must_use]
pub fn batch_of(records: u32, value_bytes: usize, compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchLimits::FORMAT);
    for number in 0..records {
        let value = value(u64::from(number), value_bytes);
        builder
            .push(TIME, None, Some(&value), &[])
            .expect("the batch has room");
    }
    builder.build(compression, None)
}

/// A batch with the proof of its check.
///
/// # Panics
/// When it does not pass.
#[must_use]
pub fn checked(bytes: &Bytes) -> CheckedBatch {
    let header = check_batch(
        bytes,
        &BatchLimits::FORMAT,
        CheckDepth::Full,
        &mut CheckScratch::new(),
    )
    .expect("the batch was just built");
    CheckedBatch {
        bytes: bytes.clone(),
        header,
    }
}

/// What a connection receives when `count` publishes of `batch` arrive together.
#[must_use]
pub fn published_frames(batch: &[u8], count: u64) -> BytesMut {
    let mut received = BytesMut::new();
    for correlation in 0..count {
        let head = encode_publish_head(
            CorrelationId(correlation),
            PARTITION.topic,
            PARTITION.partition,
            None,
            batch.len(),
        );
        received.extend_from_slice(&head);
        received.extend_from_slice(batch);
    }
    received
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_and_are_the_same_in_each_run() {
        assert_eq!(value(7, 1000), value(7, 1000));
        assert_ne!(value(7, 1000), value(8, 1000));
        assert_eq!(value(7, 1000).len(), 1000);
        assert_eq!(value(7, 5).len(), 5);
    }

    #[test]
    fn values_compress_but_not_to_nothing() {
        let plain = batch_of(64, 1000, Compression::None).len();
        for compression in [Compression::Lz4, Compression::Zstd] {
            let packed = batch_of(64, 1000, compression).len();
            assert!(packed < plain * 3 / 4, "{compression:?}: {packed}");
            assert!(packed > plain / 10, "{compression:?}: {packed}");
        }
    }
}
