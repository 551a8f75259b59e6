//! Segments: files with runs of stamped batches, of one partition or of many.
//!
//! A segment is one header block, then batches as they were stamped, each filled up with zeros to [`BATCH_ALIGNMENT`]. Where a write
//! ended inside a block the rest of it is zeros: a batch length of 0 says that the next batch starts on the next block. The
//! alignment is what makes this certain: without it a length could straddle the block's end. A run is a stretch of batches of one
//! partition with consecutive offsets; which runs a segment holds is the checkpoint's to say, and its index's to speed up.

use std::collections::VecDeque;
use std::path::PathBuf;

use gannet_wire::batch::{BATCH_HEADER_BYTES, BatchHeader};
use gannet_wire::{
    Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, ShardIndex, Timestamp, TopicId,
};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout::DataDir;
use super::{PartitionKey, SegmentId};
use crate::io::BLOCK_BYTES;

/// Where the first batch of a segment begins.
pub const FIRST_BATCH_POSITION: u64 = BLOCK_BYTES as u64;
/// Every batch begins at a multiple of it.
pub const BATCH_ALIGNMENT: usize = 8;
/// The newest segment format this program reads.
pub const SEGMENT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"GANNETS\n";
const SHARED_TOPIC: u64 = u64::MAX;
/// In a segment's id the counter has 32 bits, the shard 8, the incarnation the other 24.
const SHARD_SHIFT: u32 = 32;
const INCARNATION_SHIFT: u32 = 40;

/// Consecutive batches of one partition in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The file.
    pub segment: SegmentRef,
    /// The first record.
    pub base_offset: Offset,
    /// Behind the last record.
    pub next_offset: Offset,
    /// The first batch's first byte in the file.
    pub position: u64,
    /// Behind the last batch's last byte.
    pub end: u64,
    /// The newest record timestamp.
    pub max_timestamp: Timestamp,
    /// The append time of the newest batch: what retention goes by.
    pub append_time: Timestamp,
}

/// Names a segment and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentRef {
    /// Its id.
    pub id: SegmentId,
    /// Whether it holds runs of many partitions.
    pub shared: bool,
}

impl SegmentRef {
    /// The file, for a run of `key`.
    #[must_use]
    pub fn path(&self, data: &DataDir, key: PartitionKey) -> PathBuf {
        data.segment((!self.shared).then_some(key), self.id)
    }

    /// Its index.
    #[must_use]
    pub fn index_path(&self, data: &DataDir, key: PartitionKey) -> PathBuf {
        data.index((!self.shared).then_some(key), self.id)
    }
}

impl Run {
    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end - self.position
    }

    /// Behind what can only be filler.
    fn end_of_filler(&self) -> u64 {
        if self.segment.shared {
            self.end
        } else {
            self.end.next_multiple_of(BLOCK_BYTES as u64)
        }
    }
}

/// What [`insert_run`] did.
#[derive(Debug, PartialEq, Eq)]
pub struct Inserted {
    /// It made the run before it longer, or was part of that already.
    pub joined: bool,
    /// Runs that it took the place of.
    pub replaced: Vec<Run>,
}

/// Puts a run among the others of its partition: in the order of offsets, in place of those that it covers, joined to the one before where it goes
/// on right behind it in the same segment. What is written next begins on the next block; in a shared segment the rest of a block may
/// be another partition's, so that only a run that reaches up to the block's end is gone on with.
pub fn insert_run(runs: &mut VecDeque<Run>, run: Run) -> Inserted {
    let at = runs.partition_point(|other| other.base_offset < run.base_offset);
    let before = at.checked_sub(1).and_then(|before| runs.get(before));
    if before.is_some_and(|before| {
        before.segment == run.segment && run.next_offset <= before.next_offset
    }) {
        // The same one again, flushed or replayed a second time after a crash before the checkpoint, and joined to the one before.
        return Inserted {
            joined: true,
            replaced: Vec::new(),
        };
    }
    // A merge writes one run for several; and the same one may come again.
    let covered = runs
        .range(at..)
        .take_while(|other| {
            other.next_offset <= run.next_offset || other.base_offset == run.base_offset
        })
        .count();
    let replaced = runs.drain(at..at + covered).collect();
    if let Some(before) = at.checked_sub(1).and_then(|before| runs.get_mut(before))
        && before.segment == run.segment
        && before.next_offset == run.base_offset
        && run.position == before.end_of_filler()
    {
        before.next_offset = run.next_offset;
        before.end = run.end;
        before.max_timestamp = before.max_timestamp.max(run.max_timestamp);
        before.append_time = before.append_time.max(run.append_time);
        return Inserted {
            joined: true,
            replaced,
        };
    }
    runs.insert(at, run);
    Inserted {
        joined: false,
        replaced,
    }
}

/// Gives out segment ids. An id holds the broker's incarnation (rises with every start), the shard and a counter, so that no two
/// segments ever share one, over shards and restarts, without asking anybody.
#[derive(Debug)]
pub struct SegmentIds {
    incarnation: u32,
    shard: ShardIndex,
    next: u32,
}

impl SegmentIds {
    /// The ids of one shard in one life of the broker.
    #[must_use]
    pub fn new(incarnation: u32, shard: ShardIndex) -> Self {
        assert!(
            usize::from(shard.0) < crate::limits::SHARDS_MAX,
            "a shard's number fits its place in a segment's id"
        );
        Self {
            incarnation,
            shard,
            next: 0,
        }
    }

    /// A new id.
    pub fn allocate(&mut self) -> SegmentId {
        assert!(
            self.incarnation < 1 << (u64::BITS - INCARNATION_SHIFT),
            "there were fewer than 16 million starts"
        );
        let id = u64::from(self.incarnation) << INCARNATION_SHIFT
            | u64::from(self.shard.0) << SHARD_SHIFT
            | u64::from(self.next);
        self.next = self
            .next
            .checked_add(1)
            .expect("a shard makes fewer than four thousand million segments in one life");
        SegmentId(id)
    }

    /// The life of the broker in which `id` was given out.
    #[must_use]
    pub fn incarnation_of(id: SegmentId) -> u32 {
        (id.0 >> INCARNATION_SHIFT) as u32
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    id: U64,
    topic: U64,
    partition: U32,
    reserved: U32,
}

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its id.
    pub id: SegmentId,
    /// Whose it is; `None` when it holds runs of many partitions.
    pub owner: Option<PartitionKey>,
}

/// Why a segment's header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// Not a segment, or damaged.
    #[error("the segment's header is damaged")]
    Header,
    /// Written by a newer program.
    #[error("the segment has format version {0}, which is newer than this program")]
    Newer(u32),
}

impl SegmentHeader {
    /// The header block.
    pub fn write(&self, block: &mut [u8]) {
        let mut raw = RawHeader {
            magic: MAGIC,
            version: U32::new(SEGMENT_VERSION),
            checksum: U32::new(0),
            id: U64::new(self.id.0),
            topic: U64::new(self.owner.map_or(SHARED_TOPIC, |key| key.topic.0)),
            partition: U32::new(self.owner.map_or(0, |key| key.partition.0)),
            reserved: U32::new(0),
        };
        raw.checksum = U32::new(raw.computed_checksum());
        block[..BLOCK_BYTES].fill(0);
        block[..size_of::<RawHeader>()].copy_from_slice(raw.as_bytes());
    }

    /// Reads the header block.
    pub fn read(block: &[u8]) -> Result<Self, SegmentFault> {
        let (raw, _) = RawHeader::ref_from_prefix(block).map_err(|_| SegmentFault::Header)?;
        if raw.magic != MAGIC || raw.checksum.get() != raw.computed_checksum() {
            return Err(SegmentFault::Header);
        }
        if raw.version.get() > SEGMENT_VERSION {
            return Err(SegmentFault::Newer(raw.version.get()));
        }
        let owner = (raw.topic.get() != SHARED_TOPIC).then(|| PartitionKey {
            topic: TopicId(raw.topic.get()),
            partition: PartitionIndex(raw.partition.get()),
        });
        Ok(Self {
            id: SegmentId(raw.id.get()),
            owner,
        })
    }
}

impl RawHeader {
    fn computed_checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
    }
}

/// The journal's word on batches that went straight to a segment. They were durable there before this was written.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DirectRun {
    /// [`SegmentId`].
    pub segment: u64,
    /// First byte of the first batch.
    pub position: u64,
    /// Behind the last byte.
    pub end: u64,
    /// Newest record timestamp.
    pub max_timestamp: i64,
    /// Append time of the newest batch.
    pub append_time: i64,
    /// What the producers' table needs of each idempotent batch.
    pub producers: Vec<DirectProducer>,
}

/// An idempotent batch in a [`DirectRun`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DirectProducer {
    /// [`ProducerId`].
    pub id: u64,
    /// [`ProducerEpoch`].
    pub epoch: u32,
    /// [`Sequence`] of its first record.
    pub base_sequence: u32,
    /// Its first offset.
    pub base_offset: u64,
    /// Its records.
    pub record_count: u32,
    /// The append clock.
    pub append_time: i64,
}

impl DirectProducer {
    /// Who sent it.
    #[must_use]
    pub fn stamp(&self) -> gannet_wire::batch::ProducerStamp {
        gannet_wire::batch::ProducerStamp {
            id: ProducerId(self.id),
            epoch: ProducerEpoch(self.epoch),
            base_sequence: Sequence(self.base_sequence),
        }
    }
}

/// The bytes a batch takes in a segment.
#[must_use]
pub fn aligned_bytes(batch_bytes: usize) -> usize {
    batch_bytes.next_multiple_of(BATCH_ALIGNMENT)
}

/// What stands at a place among batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// A batch of this many bytes, all of them there.
    Batch(usize),
    /// Filler up to the next block boundary.
    Filler,
    /// A batch begins and is not all there: this many bytes are needed.
    Partial(usize),
    /// No batch can begin here.
    Bad,
}

/// Looks at the bytes where a batch or filler is expected.
#[must_use]
pub fn frame_at(bytes: &[u8]) -> Framed {
    let Some(length) = bytes.get(..4) else {
        return Framed::Partial(BATCH_HEADER_BYTES);
    };
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    match length {
        0 => Framed::Filler,
        length
            if length < BATCH_HEADER_BYTES
                || length > gannet_wire::limits::BATCH_BYTES_MAX as usize =>
        {
            Framed::Bad
        }
        length if length > bytes.len() => Framed::Partial(length),
        length => Framed::Batch(length),
    }
}

/// The header of a batch that [`frame_at`] found.
#[must_use]
pub fn header_at(bytes: &[u8]) -> Option<&BatchHeader> {
    BatchHeader::read_from_prefix_of(bytes).ok()
}

#[cfg(test)]
mod tests;
