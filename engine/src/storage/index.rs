//! The sparse index of a segment: for about every 64 KiB of a run, which offset stands where and the newest timestamp up to it.
//!
//! Archived with rkyv beside the segment. It only speeds up: one that is missing or damaged is made again from the batches.

use std::collections::HashMap;
use std::ops::Range;

use gannet_wire::{Offset, PartitionIndex, Timestamp, TopicId};

use super::PartitionKey;
use super::layout::FilePlace;

/// A point is kept about every so many bytes.
pub const POINT_SPACING_BYTES: u64 = 64 << 10;

const MAGIC: &[u8; 8] = b"GANNETX\n";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 24;

/// Where a batch of a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct IndexPoint {
    /// The batch's first offset.
    pub offset: u64,
    /// Its first byte in the segment.
    pub position: u64,
    /// The newest timestamp of all records of the run before this batch; `i64::MIN` at its start.
    pub max_timestamp_before: i64,
}

/// The points of one run, in the order of offsets; the first one is the run's first batch.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RunIndex {
    topic: u64,
    partition: u32,
    points: Vec<IndexPoint>,
    next_offset: u64,
    max_timestamp: i64,
}

/// The runs of a segment.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct SegmentIndex {
    /// In the order of the file where they are written, of keys and offsets where they were read.
    pub runs: Vec<RunIndex>,
}

/// The index of a segment that is still being written: in the order of the file, with a way to find a run.
#[derive(Debug, Default)]
pub struct OpenIndex {
    index: SegmentIndex,
    by_run: HashMap<(PartitionKey, Offset), usize>,
    begins_run: bool,
}

impl RunIndex {
    /// An index without points.
    #[must_use]
    pub fn new(key: PartitionKey) -> Self {
        Self {
            topic: key.topic.0,
            partition: key.partition.0,
            points: Vec::new(),
            next_offset: 0,
            max_timestamp: i64::MIN,
        }
    }

    /// Whose run it is.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        PartitionKey {
            topic: TopicId(self.topic),
            partition: PartitionIndex(self.partition),
        }
    }

    /// Notes the next batch of the run: its offsets and where it stands.
    pub fn push(&mut self, offsets: Range<Offset>, position: u64, max_timestamp: Timestamp) {
        let due = self
            .points
            .last()
            .is_none_or(|last| position >= last.position + POINT_SPACING_BYTES);
        if due {
            self.points.push(IndexPoint {
                offset: offsets.start.0,
                position,
                max_timestamp_before: self.max_timestamp,
            });
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp.0);
        self.next_offset = offsets.end.0;
    }

    /// The first offset covered; `None` when there is no point.
    #[must_use]
    pub fn base_offset(&self) -> Option<Offset> {
        self.points.first().map(|point| Offset(point.offset))
    }

    /// The last point at or before `offset`: reading from there meets it.
    #[must_use]
    pub fn seek_offset(&self, offset: Offset) -> Option<IndexPoint> {
        let after = self
            .points
            .partition_point(|point| point.offset <= offset.0);
        after
            .checked_sub(1)
            .and_then(|at| self.points.get(at))
            .copied()
    }

    /// The last point before the first record with a timestamp at or above `timestamp`.
    #[must_use]
    pub fn seek_timestamp(&self, timestamp: Timestamp) -> Option<IndexPoint> {
        let after = self
            .points
            .partition_point(|point| point.max_timestamp_before < timestamp.0);
        after
            .checked_sub(1)
            .and_then(|at| self.points.get(at))
            .copied()
    }

    /// The first point behind `position`.
    #[must_use]
    pub fn first_behind(&self, position: u64) -> Option<IndexPoint> {
        let after = self
            .points
            .partition_point(|point| point.position <= position);
        self.points.get(after).copied()
    }

    /// The points, in the order of offsets.
    #[must_use]
    pub fn points(&self) -> &[IndexPoint] {
        &self.points
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.points.capacity() * size_of::<IndexPoint>()
    }
}

impl OpenIndex {
    /// The next batch begins a run, even where it would go on with the last one.
    pub fn begin_run(&mut self) {
        self.begins_run = true;
    }

    /// Notes the next batch in the file: it goes on with the last run where key and offset fit, else it begins one.
    pub fn push(
        &mut self,
        key: PartitionKey,
        offsets: Range<Offset>,
        position: u64,
        max_timestamp: Timestamp,
    ) {
        let runs = &mut self.index.runs;
        let goes_on = !std::mem::take(&mut self.begins_run)
            && runs
                .last()
                .is_some_and(|run| run.key() == key && run.next_offset == offsets.start.0);
        if !goes_on {
            self.by_run.insert((key, offsets.start), runs.len());
            runs.push(RunIndex::new(key));
        }
        if let Some(run) = runs.last_mut() {
            run.push(offsets, position, max_timestamp);
        }
    }

    /// The index of the run of `key` that begins at `base_offset`.
    #[must_use]
    pub fn run(&self, key: PartitionKey, base_offset: Offset) -> Option<&RunIndex> {
        self.index.runs.get(*self.by_run.get(&(key, base_offset))?)
    }

    /// What is written beside the segment.
    #[must_use]
    pub fn index(&self) -> &SegmentIndex {
        &self.index
    }
}

impl SegmentIndex {
    /// The bytes of the file at `place`.
    #[must_use]
    pub fn encode(&self, place: FilePlace) -> Vec<u8> {
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .expect("memory is the only thing that can be missing");
        let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&checksum(&body, place).to_le_bytes());
        bytes.extend_from_slice(
            &u64::try_from(body.len())
                .expect("a length fits")
                .to_le_bytes(),
        );
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads the bytes of the file at `place`, which may be followed by filler; `None` when they are not an index, whatever the reason: then it is made again.
    #[must_use]
    pub fn decode(bytes: &[u8], place: FilePlace) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let body_bytes = u64::from_le_bytes(head.get(16..24)?.try_into().ok()?);
        let body = rest.get(..usize::try_from(body_bytes).ok()?)?;
        if head.get(..8)? != MAGIC
            || head.get(8..12)? != VERSION.to_le_bytes()
            || !place.accepts(
                u32::from_le_bytes(head.get(12..16)?.try_into().ok()?),
                |place| checksum(body, place),
            )
        {
            return None;
        }
        let mut index = rkyv::from_bytes::<Self, rkyv::rancor::Error>(body).ok()?;
        // Written in the order of the file: a shared segment can hold several runs of a partition with others between.
        index.runs.sort_by_key(|run| (run.key(), run.base_offset()));
        Some(index)
    }

    /// Where the run of `key` that begins at `base_offset` is among [`SegmentIndex::runs`], once they are read.
    #[must_use]
    pub fn find(&self, key: PartitionKey, base_offset: Offset) -> Option<usize> {
        let place = (key, Some(base_offset));
        self.runs
            .binary_search_by(|run| (run.key(), run.base_offset()).cmp(&place))
            .ok()
    }

    /// Bytes of memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.runs.iter().map(RunIndex::memory_bytes).sum::<usize>()
    }
}

fn checksum(body: &[u8], place: FilePlace) -> u32 {
    crc32c::crc32c_append(place.0, body)
}

#[cfg(test)]
mod tests;
