//! A partition: its offsets, what may be appended, its newest batches in memory and the runs that hold the others. Pure state;
//! the shard's log ([`crate::shard::log`]) moves the bytes.

mod damage;
mod producers;
mod tail;

use std::collections::VecDeque;

use gannet_wire::batch::ProducerStamp;
use gannet_wire::{LeaderEpoch, Offset, Timestamp};

pub use damage::FoundDamage;
pub use producers::{ProducerTable, SequenceVerdict, WindowBatch};
pub use tail::{Tail, TailBatch};

use crate::cursor::CommittedOffsets;
use crate::storage::checkpoint::{PartitionRecord, RunRecord};
use crate::storage::segment::{Inserted, Run, insert_run};
use crate::storage::{Lsn, PartitionKey};

/// Offsets `from..to` whose records are lost: reading them gives a typed error, and the reader may go on behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The first lost offset.
    pub from: Offset,
    /// Behind the last lost one.
    pub to: Offset,
}

/// Why a batch is not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendRefusal {
    /// A batch before this one is missing.
    #[error(
        "the batch's sequence is not the next one: an earlier batch was refused or lost; send from there again"
    )]
    SequenceGap,
    /// The table knows nothing of this producer, and the batch is not its first.
    #[error("the producer is not known here (any more); ask for a new producer id")]
    ProducerUnknown,
    /// A newer epoch of the same producer has appended.
    #[error("a newer epoch of this producer is at work")]
    ProducerFenced,
    /// A resend of a batch that is too old to answer for.
    #[error("the batch was appended before, too long ago to say where")]
    DuplicateExpired,
    /// The partition has used up its offsets.
    #[error("the partition has no offsets left")]
    OffsetsExhausted,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It got these offsets.
    New {
        /// The first.
        base_offset: Offset,
    },
    /// It was appended before, here.
    Duplicate {
        /// The first.
        base_offset: Offset,
        /// Behind the last: durable once the partition's durable end reaches it.
        next_offset: Offset,
        /// What it was stamped with then.
        append_time: Timestamp,
    },
}

/// Where a read has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPlace {
    /// In memory.
    Tail,
    /// In a segment.
    Run(Run),
    /// Nowhere yet: at or behind the durable end.
    End,
    /// Before the log start.
    BeforeStart,
    /// In a fence.
    Fenced(Fence),
}

/// See the module's text. Belongs to one shard.
#[derive(Debug)]
pub struct Partition {
    key: PartitionKey,
    log_start: Offset,
    next_offset: Offset,
    durable_offset: Offset,
    leader_epoch: LeaderEpoch,
    fences: Vec<Fence>,
    runs: VecDeque<Run>,
    /// The newest batches.
    pub tail: Tail,
    /// Idempotent producers.
    pub producers: ProducerTable,
    /// Consumer groups' offsets.
    pub committed: CommittedOffsets,
    /// What reading found damaged.
    pub damage: FoundDamage,
}

impl Partition {
    /// A new, empty partition.
    #[must_use]
    pub fn new(key: PartitionKey) -> Self {
        Self {
            key,
            log_start: Offset(0),
            next_offset: Offset(0),
            durable_offset: Offset(0),
            leader_epoch: LeaderEpoch(0),
            fences: Vec::new(),
            runs: VecDeque::new(),
            tail: Tail::default(),
            producers: ProducerTable::default(),
            committed: CommittedOffsets::default(),
            damage: FoundDamage::default(),
        }
    }

    /// The partition as a checkpoint has it.
    #[must_use]
    pub fn restore(record: &PartitionRecord) -> Self {
        let mut partition = Self::new(record.key());
        partition.log_start = Offset(record.log_start);
        partition.next_offset = Offset(record.next_offset);
        partition.durable_offset = Offset(record.next_offset);
        partition.leader_epoch = LeaderEpoch(record.leader_epoch);
        partition.fences = record
            .fences
            .iter()
            .map(|(from, to)| Fence {
                from: Offset(*from),
                to: Offset(*to),
            })
            .collect();
        partition.runs = record.runs.iter().map(RunRecord::to_run).collect();
        partition.producers = ProducerTable::restore(&record.producers);
        partition.committed = CommittedOffsets::restore(&record.committed);
        partition
    }

    /// Which partition this is.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// The oldest offset that can still be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset the next record gets.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Everything before it is durable: the end of the log for readers.
    #[must_use]
    pub fn durable_offset(&self) -> Offset {
        self.durable_offset
    }

    /// The partition's term.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Ranges that a start found lost: nothing of them is left to be read.
    #[must_use]
    pub fn fences(&self) -> &[Fence] {
        &self.fences
    }

    /// All that is known to be damaged, by a start or by reading, in the order of offsets.
    #[must_use]
    pub fn damaged(&self) -> Vec<Fence> {
        let mut ranges = Vec::new();
        for fence in self.fences.iter().chain(self.damage.ranges()) {
            damage::join(&mut ranges, *fence);
        }
        ranges
    }

    /// Stretches in segments, in the order of offsets.
    #[must_use]
    pub fn runs(&self) -> &VecDeque<Run> {
        &self.runs
    }

    /// The runs behind this one, in the order of offsets, until they have so many bytes; at most `max` of them.
    #[must_use]
    pub fn runs_behind(&self, run: &Run, bytes: u64, max: usize) -> Vec<Run> {
        let at = self
            .runs
            .partition_point(|other| other.base_offset <= run.base_offset);
        let mut left = bytes;
        let wanted = self.runs.range(at..).take(max).take_while(|run| {
            let is_wanted = left > 0;
            left = left.saturating_sub(run.bytes());
            is_wanted
        });
        wanted.copied().collect()
    }

    /// Bytes in segments and in the tail that is not there yet.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.runs.iter().map(Run::bytes).sum::<u64>() + self.tail.unflushed_bytes()
    }

    /// Gives a batch its offsets, unless its producer's sequence says otherwise. `window_max`: batches a producer may have in flight.
    pub fn append(
        &mut self,
        producer: Option<ProducerStamp>,
        record_count: u32,
        now: Timestamp,
        limits: &ProducerLimits,
    ) -> Result<Appended, AppendRefusal> {
        if let Some(stamp) = producer {
            match self.producers.check(&stamp, record_count, now, limits) {
                SequenceVerdict::Next => {}
                SequenceVerdict::Duplicate {
                    base_offset,
                    append_time,
                } => {
                    return Ok(Appended::Duplicate {
                        base_offset,
                        next_offset: Offset(base_offset.0 + u64::from(record_count)),
                        append_time,
                    });
                }
                SequenceVerdict::Refused(refusal) => return Err(refusal),
            }
        }
        let base_offset = self.next_offset;
        self.next_offset = base_offset
            .checked_add(u64::from(record_count))
            .filter(|next| next.0 <= OFFSET_MAX)
            .ok_or(AppendRefusal::OffsetsExhausted)?;
        if let Some(stamp) = producer {
            self.producers.record(
                &stamp,
                WindowBatch {
                    base_sequence: stamp.base_sequence,
                    record_count,
                    base_offset,
                    append_time: now,
                },
                limits,
            );
        }
        Ok(Appended::New { base_offset })
    }

    /// A batch became durable: readers may have it.
    pub fn batch_durable(&mut self, batch: TailBatch) {
        assert_eq!(
            batch.base_offset, self.durable_offset,
            "batches become durable in the order of their offsets"
        );
        self.durable_offset = batch.next_offset;
        self.tail.push(batch);
    }

    /// A run in a segment became known: from the flusher, from batches that went there directly, or from a merge.
    pub fn add_run(&mut self, run: Run) -> Inserted {
        insert_run(&mut self.runs, run)
    }

    /// Whether exactly these runs follow one another here.
    #[must_use]
    pub fn has_runs(&self, runs: &[Run]) -> bool {
        let Some(first) = runs.first() else {
            return true;
        };
        let at = self
            .runs
            .partition_point(|run| run.base_offset < first.base_offset);
        self.runs.range(at..).take(runs.len()).eq(runs)
    }

    /// Where the record at `offset` is read.
    #[must_use]
    pub fn place(&self, offset: Offset) -> ReadPlace {
        if offset < self.log_start {
            return ReadPlace::BeforeStart;
        }
        if offset >= self.durable_offset {
            return ReadPlace::End;
        }
        if self.tail.covers(offset) {
            return ReadPlace::Tail;
        }
        if let Some(fence) = self
            .fences
            .iter()
            .find(|fence| fence.from <= offset && offset < fence.to)
        {
            return ReadPlace::Fenced(*fence);
        }
        let after = self.runs.partition_point(|run| run.base_offset <= offset);
        match after.checked_sub(1).and_then(|at| self.runs.get(at)) {
            Some(run) if offset < run.next_offset => ReadPlace::Run(*run),
            // Every offset between start and end is in the tail, in a run or in a fence; one that is nowhere is lost, and is
            // reported as such up to the next place that is known.
            _ => {
                let next_run = self.runs.get(after).map(|run| run.base_offset);
                let next_tail = self.tail.base_offset().filter(|base| *base > offset);
                let to = [next_run, next_tail]
                    .into_iter()
                    .flatten()
                    .min()
                    .unwrap_or(self.durable_offset);
                ReadPlace::Fenced(Fence { from: offset, to })
            }
        }
    }

    /// Moves the log start; returns the runs that are wholly before it now.
    pub fn advance_log_start(&mut self, log_start: Offset) -> Vec<Run> {
        assert!(
            log_start <= self.durable_offset,
            "what is not durable yet cannot expire"
        );
        self.log_start = self.log_start.max(log_start);
        let mut dropped = Vec::new();
        while self
            .runs
            .front()
            .is_some_and(|run| run.next_offset <= self.log_start)
        {
            dropped.extend(self.runs.pop_front());
        }
        self.fences.retain(|fence| fence.to > self.log_start);
        self.damage.forget_before(self.log_start);
        dropped
    }

    /// The log start that a retention by time and size leads to: whole runs only, oldest first. `flushed`: runs have everything up to here,
    /// which the tail need not know yet.
    #[must_use]
    pub fn expired_up_to(
        &self,
        expire_before: Option<Timestamp>,
        bytes_max: Option<u64>,
        flushed: Lsn,
    ) -> Offset {
        let mut log_start = self.log_start;
        let mut unflushed = self.tail.unflushed_above(flushed).peekable();
        // IMPORTANT: runs behind it went straight to a segment. To drop one would drop these batches with it.
        let unflushed_from = unflushed.peek().map(|batch| batch.base_offset);
        let mut bytes = self.runs.iter().map(Run::bytes).sum::<u64>()
            + unflushed.map(|batch| batch.bytes.len() as u64).sum::<u64>();
        for run in &self.runs {
            let by_time = expire_before.is_some_and(|before| run.append_time < before);
            let by_size = bytes_max.is_some_and(|max| bytes > max && bytes - run.bytes() >= max);
            let is_behind = unflushed_from.is_some_and(|from| run.base_offset >= from);
            if is_behind || (!by_time && !by_size) {
                break;
            }
            bytes -= run.bytes();
            log_start = log_start.max(run.next_offset);
        }
        log_start
    }

    /// Replay: the log goes on at `base_offset`, and what lies between is lost.
    pub fn replay_gap(&mut self, base_offset: Offset) {
        if base_offset > self.next_offset {
            self.fence(self.next_offset, base_offset);
            self.next_offset = base_offset;
            self.durable_offset = base_offset;
        }
    }

    /// Replay: a batch's records, durable before the restart.
    pub fn replay_offsets(&mut self, base_offset: Offset, next_offset: Offset) {
        assert_eq!(
            base_offset, self.next_offset,
            "a replayed batch follows the one before"
        );
        self.next_offset = next_offset;
    }

    /// Replay: records up to `next_offset` became durable without standing in the tail.
    pub fn replay_durable(&mut self, next_offset: Offset) {
        self.durable_offset = next_offset;
    }

    /// Marks a range as lost. A replay may find again what the checkpoint already has.
    pub fn fence(&mut self, from: Offset, to: Offset) {
        assert!(from < to, "a fence has records");
        if self
            .fences
            .iter()
            .any(|known| known.from <= from && to <= known.to)
        {
            return;
        }
        self.fences
            .retain(|known| known.from < from || to < known.to);
        self.fences.push(Fence { from, to });
    }

    /// Replay: a batch was stamped in this term.
    pub fn raise_term(&mut self, stamped: LeaderEpoch) {
        self.leader_epoch = self.leader_epoch.max(stamped);
    }

    /// Replay: nobody knows what was lost, so the partition goes on in a new term.
    pub fn begin_term(&mut self) {
        self.leader_epoch = LeaderEpoch(self.leader_epoch.0.saturating_add(1));
    }

    /// Where the log goes on when so many records of it may be lost.
    #[must_use]
    pub fn offset_above(&self, records: u64) -> Offset {
        Offset(self.next_offset.0.saturating_add(records).min(OFFSET_MAX))
    }

    /// What a checkpoint at which everything up to `next_offset` is in segments says. `log_start`: the one that is to hold from then on;
    /// `runs`: those the last checkpoint did not have.
    #[must_use]
    pub fn record(
        &self,
        next_offset: Offset,
        log_start: Offset,
        runs: Vec<RunRecord>,
    ) -> PartitionRecord {
        PartitionRecord {
            topic: self.key.topic.0,
            partition: self.key.partition.0,
            log_start: log_start.0,
            next_offset: next_offset.0,
            leader_epoch: self.leader_epoch.0,
            fences: self
                .fences
                .iter()
                .filter(|fence| fence.to > log_start)
                .map(|fence| (fence.from.0, fence.to.0))
                .collect(),
            runs,
            producers: self.producers.records(next_offset),
            committed: self.committed.records(),
        }
    }
}

/// Half of the range stays free, so that no sum of an offset and a count can ever overflow.
const OFFSET_MAX: u64 = u64::MAX / 2 - 1;

/// Bounds of the producers' table.
#[derive(Clone, Copy, Debug)]
pub struct ProducerLimits {
    /// Batches a producer may have in flight for one partition.
    pub inflight_max: usize,
    /// A producer that sent nothing for this long is forgotten.
    pub expiry_ms: i64,
    /// Producers remembered for one partition; beyond it the one that was silent longest is forgotten.
    pub producers_max: usize,
}

#[cfg(test)]
mod tests;
