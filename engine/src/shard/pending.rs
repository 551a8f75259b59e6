//! What waits in a slot to be committed.

use std::collections::VecDeque;

use bytes::Bytes;
use gannet_wire::batch::ProducerStamp;
use gannet_wire::{LeaderEpoch, Offset, Timestamp};

use super::completion::{Completion, Outcome};
use super::on_their_way::OnItsWay;
use crate::cursor::CommittedOffset;
use crate::limits::COMMIT_BYTES_MAX_MIN;
use crate::storage::commit::lone_entry_bytes_max;
use crate::storage::segment::{DirectProducer, Run};
use crate::storage::slice::Slice;

/// A batch that has its offsets and waits for a commit.
pub(super) struct BatchArrival {
    pub(super) bytes: Bytes,
    pub(super) base_offset: Offset,
    pub(super) record_count: u32,
    pub(super) append_time: Timestamp,
    pub(super) max_timestamp: Timestamp,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) producer: Option<ProducerStamp>,
    /// `None` when the acknowledgement did not wait for the disk.
    pub(super) completion: Option<Completion>,
}

impl BatchArrival {
    pub(super) fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0 + u64::from(self.record_count))
    }
}

/// A batch in a segment, durable there, whose place the journal does not know yet.
pub(super) struct DirectBatch {
    pub(super) base_offset: Offset,
    pub(super) next_offset: Offset,
    pub(super) append_time: Timestamp,
    pub(super) bytes: Slice,
    pub(super) completion: Option<Completion>,
}

/// Batches that went to a segment together.
pub(super) struct DirectChunk {
    pub(super) run: Run,
    pub(super) batches: Vec<DirectBatch>,
    pub(super) producers: Vec<DirectProducer>,
    pub(super) allocated_bytes: usize,
    pub(super) _on_its_way: OnItsWay,
}

impl DirectChunk {
    /// Who waits for its batches.
    pub(super) fn into_completions(self) -> Vec<Completion> {
        let batches = self.batches.into_iter();
        batches.filter_map(|batch| batch.completion).collect()
    }
}

/// A group's offset on its way.
pub(super) struct CommitArrival {
    pub(super) offset: CommittedOffset,
    pub(super) encoded: Vec<u8>,
    pub(super) completion: Completion,
}

/// What a commit is made of.
pub(super) enum Arrival {
    Batch(BatchArrival),
    Direct(DirectChunk),
    Committed(CommitArrival),
}

impl Arrival {
    /// Who waits for it.
    pub(super) fn into_completions(self) -> Vec<Completion> {
        match self {
            Self::Batch(batch) => batch.completion.into_iter().collect(),
            Self::Direct(chunk) => chunk.into_completions(),
            Self::Committed(commit) => vec![commit.completion],
        }
    }
}

/// A duplicate whose original is not durable yet.
pub(super) struct WaitingDuplicate {
    pub(super) next_offset: Offset,
    pub(super) outcome: Outcome,
    pub(super) completion: Completion,
}

/// What waits to be committed. Chunks come before batches: their offsets are lower.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) commits: VecDeque<CommitArrival>,
    /// Chunks that are durable in their segment, in the order of offsets.
    pub(super) landed: VecDeque<DirectChunk>,
    /// Chunks on their way, oldest first; `Some` once durable while an older one is not. Batches wait behind them.
    pub(super) directs: VecDeque<Option<DirectChunk>>,
    /// The number of the oldest chunk in `directs`.
    pub(super) first_direct: u64,
    /// A chunk is making a new segment: no other one may start.
    pub(super) opening_segment: bool,
    pub(super) batches: VecDeque<BatchArrival>,
    pub(super) batch_bytes: usize,
    /// Whether the slot stands in the shard's queue.
    pub(super) queued: bool,
    /// Whether it stands in the queue of those with enough for a chunk.
    pub(super) large_queued: bool,
    pub(super) duplicates: Vec<WaitingDuplicate>,
}

impl Pending {
    /// Whether a commit could take anything now. `large_waits`: batches of a slot with enough for a chunk are left to it.
    pub(super) fn front_bytes(&self, direct_bytes_min: usize, direct_room: bool) -> Option<usize> {
        if let Some(commit) = self.commits.front() {
            return Some(commit.encoded.len());
        }
        if let Some(chunk) = self.landed.front() {
            return Some(DIRECT_ENTRY_BYTES + DIRECT_PRODUCER_BYTES * chunk.producers.len());
        }
        let batch = self.batches.front().filter(|_| self.directs.is_empty())?;
        let for_a_chunk = batch.bytes.len() >= direct_bytes_min
            || (direct_room && self.batch_bytes >= direct_bytes_min);
        (!for_a_chunk).then_some(batch.bytes.len())
    }

    /// Takes what [`Pending::front_bytes`] spoke of.
    pub(super) fn pop_front(&mut self) -> Option<Arrival> {
        if let Some(commit) = self.commits.pop_front() {
            return Some(Arrival::Committed(commit));
        }
        if let Some(chunk) = self.landed.pop_front() {
            return Some(Arrival::Direct(chunk));
        }
        let batch = self.batches.pop_front()?;
        self.batch_bytes -= batch.bytes.len();
        Some(Arrival::Batch(batch))
    }

    /// Takes everything that waits, because nothing will become of it: who is to hear so, and the bytes of the batches. Chunks on their
    /// way stay counted in `directs` until they land.
    pub(super) fn abandon(&mut self) -> (Vec<Completion>, usize) {
        let mut waiting: Vec<Completion> = Vec::new();
        waiting.extend(self.commits.drain(..).map(|commit| commit.completion));
        let mut chunks: Vec<DirectChunk> = self.landed.drain(..).collect();
        self.directs
            .retain_mut(|place| place.take().map(|chunk| chunks.push(chunk)).is_none());
        waiting.extend(chunks.into_iter().flat_map(DirectChunk::into_completions));
        waiting.extend(self.batches.drain(..).filter_map(|batch| batch.completion));
        waiting.extend(
            self.duplicates
                .drain(..)
                .map(|duplicate| duplicate.completion),
        );
        (waiting, std::mem::take(&mut self.batch_bytes))
    }
}

/// An upper bound of an encoded [`crate::storage::segment::DirectRun`] without producers.
const DIRECT_ENTRY_BYTES: usize = 64;
/// ... and of each producer in it.
const DIRECT_PRODUCER_BYTES: usize = 48;

/// Batches of a chunk, at most: if each has a producer, its entry still fits into a commit of `commit_bytes_max` bytes.
pub(super) const fn chunk_batches_max(commit_bytes_max: usize) -> usize {
    (lone_entry_bytes_max(commit_bytes_max) - DIRECT_ENTRY_BYTES) / DIRECT_PRODUCER_BYTES
}

const _: () = assert!(
    chunk_batches_max(COMMIT_BYTES_MAX_MIN as usize) > 0,
    "the smallest commit notes a chunk of one batch"
);
