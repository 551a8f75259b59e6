//! Batches of chosen sizes whose bytes say which one they are.

use bytes::Bytes;
use gannet_engine::io::sim::Random;
use gannet_engine::shard::log::{CheckedBatch, LogConfig};
use gannet_engine::storage::commit::commit_bytes;
use gannet_wire::Timestamp;
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, CheckDepth, CheckScratch, Compression, ProducerStamp, check_batch,
};

use super::limits::pick;

/// The size of a batch to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) records: u32,
    pub(crate) bytes: usize,
}

/// Draws a size: the edges of what the broker treats differently, as often as what lies between them.
pub(crate) fn draw_shape(random: &mut Random, config: &LogConfig) -> Shape {
    let alone = commit_room(config.commit_bytes_max, 1);
    let edges = [
        // One small record.
        BYTES_MIN,
        // Near the boundary of a block.
        4096 - usize::try_from(random.below(300)).unwrap_or(0),
        // Exactly a commit, where batches of that size may go there.
        alone.min(config.direct_bytes_min - 1),
        config.direct_bytes_min - 1,
        config.direct_bytes_min,
        config.direct_bytes_min + 1,
        config.direct_chunk_bytes_max,
        // More than a chunk: the largest.
        config.direct_chunk_bytes_max + 5_000,
    ];
    let bytes = match random.below(10) {
        0..4 => BYTES_MIN + random.index(2_000),
        4..6 => BYTES_MIN + random.index(config.direct_bytes_min),
        _ => pick(random, &edges),
    };
    let records = match random.below(4) {
        0 | 1 => 1,
        2 => u32::try_from(random.between(2, 10)).unwrap_or(2),
        _ => u32::try_from(random.between(1, (bytes as u64 / 16).clamp(1, 500))).unwrap_or(1),
    };
    Shape {
        records,
        bytes: bytes.max(BYTES_MIN + 12 * records as usize),
    }
}

/// A batch of that shape (as near as can be), full of its number.
pub(crate) fn make_batch(
    number: u64,
    shape: Shape,
    timestamps: (i64, i64),
    producer: Option<ProducerStamp>,
) -> Bytes {
    let mut builder = BatchBuilder::new(BatchLimits::FORMAT);
    let (first, step) = timestamps;
    for record in 0..shape.records {
        let timestamp = Timestamp(first + step * i64::from(record));
        let mut value = number.to_le_bytes().to_vec();
        if record + 1 == shape.records {
            let more = shape
                .bytes
                .saturating_sub(builder.encoded_bytes() + 4 + value.len());
            value.extend((0u32..).take(more).map(|at| (number as u32 ^ at) as u8));
        }
        builder
            .push(timestamp, None, Some(&value), &[])
            .expect("far below the limits of the format");
    }
    builder.build(Compression::None, producer)
}

/// The batch as a gateway hands it over.
pub(crate) fn checked(bytes: &Bytes) -> CheckedBatch {
    let mut scratch = CheckScratch::new();
    let header = check_batch(bytes, &BatchLimits::FORMAT, CheckDepth::Full, &mut scratch)
        .expect("a batch that was just made");
    CheckedBatch {
        bytes: bytes.clone(),
        header,
    }
}

/// The largest payload of so many entries that a commit has room for.
fn commit_room(commit_bytes_max: usize, entries: usize) -> usize {
    let mut room = commit_bytes_max;
    while commit_bytes(entries, room) > commit_bytes_max {
        room -= 1;
    }
    room
}

/// A batch with one record of eight bytes and a little more.
const BYTES_MIN: usize = 160;
