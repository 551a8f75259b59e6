//! Behind the acknowledgements: what the journal holds moves to segments, the checkpoint says so, and journal files become free.
//!
//! A round covers everything up to an LSN. Its order is what recovery relies on: segment data and names are durable, then the
//! checkpoint, and only then journal files are used again and expired segments are unlinked.

mod checkpoint;
mod pace;
mod retention;
mod write;

use std::rc::Rc;

pub(super) use self::pace::Pace;
use self::retention::EXPIRIES_PER_ROUND_MAX;
use super::log::ShardLog;
use super::slot::Slot;
use crate::io::{Clock, Disk};
use crate::partition::TailBatch;
use crate::storage::segment::{Run, aligned_bytes};
use crate::storage::{Lsn, PartitionKey, StorageError};

/// How a round ended.
#[must_use]
pub(super) enum RoundEnd {
    Done,
    /// The disk is full, and nothing has been done: it can be tried again.
    NoRoom(StorageError),
}

/// What one slot has to flush.
struct Backlog {
    slot: Rc<Slot>,
    batches: Vec<TailBatch>,
    bytes: u64,
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Flushes whenever there is enough, or something is old enough; runs until the log has stopped and everything is in segments.
    ///
    /// At a stop on a full disk it ends all the same: what is not in segments stays in the journal, for the next start.
    pub async fn run_flushes(self: &Rc<Self>) -> Result<(), StorageError> {
        match self.flush_all().await {
            Err(error) if self.is_stopping() && error.is_disk_full() => {
                self.leave_to_the_journal(&error);
                loop {
                    let seen = self.flush.version();
                    if self.commits_ended() {
                        return Ok(());
                    }
                    self.flush.changed_since(seen).await;
                }
            }
            ended => ended,
        }
    }

    async fn flush_all(self: &Rc<Self>) -> Result<(), StorageError> {
        loop {
            let seen = self.flush.version();
            if self.commits_ended() {
                return self.finish_flushes().await;
            }
            if self.seal_due() {
                self.seal_due_segments().await?;
            }
            let merged = self.merged.borrow_mut().take();
            if let Some(merged) = merged {
                self.checkpoint_merged(merged).await?;
            }
            if self.generation_to_note()
                && let RoundEnd::NoRoom(error) = self.note_generation().await?
            {
                // Retention needs the room more.
                tracing::debug!(%error, "no room to note the journal file in use");
            }
            if self.flush_wanted.take()
                && (!self.recent.all_flushed()
                    || self.expiry_due()
                    || !self.topics_to_drop().is_empty())
            {
                self.expire_on_a_full_disk().await?;
                match self.flush_round().await? {
                    RoundEnd::Done => {
                        if self.recent.unflushed_bytes() >= self.config.flush_bytes
                            || self.expiry_due()
                        {
                            self.flush_wanted.set(true);
                        }
                    }
                    RoundEnd::NoRoom(_) if self.is_stopping() => {
                        // The commits end soon, and then it is tried once more.
                        self.flush.changed_since(seen).await;
                    }
                    RoundEnd::NoRoom(error) => self.wait_for_space(error).await?,
                }
                continue;
            }
            self.flush.changed_since(seen).await;
        }
    }

    /// What is left is moved to segments, unless the disk is full: then the journal has it, for the next start.
    async fn finish_flushes(self: &Rc<Self>) -> Result<(), StorageError> {
        self.expire_on_a_full_disk().await?;
        while !self.recent.all_flushed() {
            if let RoundEnd::NoRoom(error) = self.flush_round().await? {
                self.leave_to_the_journal(&error);
                break;
            }
        }
        self.seal_all().await
    }

    fn leave_to_the_journal(&self, error: &StorageError) {
        tracing::error!(%error, "the disk is full: what is not in segments stays in the journal until the next start");
    }

    /// One round: everything up to some LSN. Where there is no room for it, it ends before anything was done.
    pub(super) async fn flush_round(self: &Rc<Self>) -> Result<RoundEnd, StorageError> {
        let round = self.next_round();
        let (target, mut slots) = self.round_extent(round);
        let (large, small) = self.backlogs(target, &slots);
        if let RoundEnd::NoRoom(error) = self.make_room(&large, &small).await? {
            return Ok(RoundEnd::NoRoom(error));
        }
        slots.extend(self.expired_slots(round, EXPIRIES_PER_ROUND_MAX));
        let mut runs: Vec<(Rc<Slot>, Run)> = Vec::new();
        let mut written: Vec<PartitionKey> = Vec::new();
        for backlog in &large {
            let own = self.flush_to_own(backlog).await?;
            written.push(backlog.slot.key());
            runs.extend(own.into_iter().map(|run| (backlog.slot.clone(), run)));
        }
        self.sync_own(&written).await?;
        if !small.is_empty() {
            runs.extend(self.flush_to_shared(&small).await?);
        }
        self.checkpoint_round(target, &slots, runs).await?;
        self.seal_due_segments().await?;
        Ok(RoundEnd::Done)
    }

    /// How far a round goes, and the slots it touches.
    fn round_extent(&self, round: u64) -> (Lsn, Vec<Rc<Slot>>) {
        let mut slots: Vec<Rc<Slot>> = Vec::new();
        let touch = |slot: &Rc<Slot>| {
            if slot.flush_round.replace(round) != round {
                slots.push(slot.clone());
            }
        };
        let (newest, all) = self.recent.extent(self.config.flush_round_bytes_max, touch);
        let mut target = newest.unwrap_or(self.flushed_lsn.get());
        if all {
            // Nothing lies above but marks.
            target = target.max(self.progress.released());
        }
        (target, slots)
    }

    fn next_round(&self) -> u64 {
        self.flush_rounds.set(self.flush_rounds.get() + 1);
        self.flush_rounds.get()
    }

    /// What goes to segments of their own, and what to a shared one, in the order of keys.
    fn backlogs(&self, target: Lsn, slots: &[Rc<Slot>]) -> (Vec<Backlog>, Vec<Backlog>) {
        let mut large = Vec::new();
        let mut small = Vec::new();
        for slot in slots {
            if slot.is_deleted() {
                continue;
            }
            let batches: Vec<TailBatch> = slot
                .state
                .borrow()
                .tail
                .unflushed(target)
                .cloned()
                .collect();
            let bytes = batches
                .iter()
                .map(|batch| aligned_bytes(batch.bytes.len()) as u64)
                .sum();
            if bytes == 0 {
                continue;
            }
            let backlog = Backlog {
                slot: slot.clone(),
                batches,
                bytes,
            };
            if bytes >= self.config.own_segment_bytes_min
                && large.len() < self.segments.shares.flush
            {
                large.push(backlog)
            } else {
                small.push(backlog)
            }
        }
        small.sort_by_key(|backlog| backlog.slot.key());
        (large, small)
    }
}

#[cfg(test)]
pub(super) mod tests;
