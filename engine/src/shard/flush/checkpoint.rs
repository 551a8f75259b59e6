//! The checkpoint of a round: from now on a start finds what the round wrote, and what that makes superfluous may go.

use std::rc::Rc;

use gannet_wire::Offset;

use super::super::log::ShardLog;
use super::super::recover::load_checkpoint;
use super::super::slot::Slot;
use super::RoundEnd;
use crate::io::{Clock, Disk};
use crate::storage::checkpoint::{
    CHECKPOINT_VERSION, CheckpointRecord, ClockRecord, RunRecord, cut_records,
};
use crate::storage::layout::CHECKPOINT_NAME;
use crate::storage::record_log::RecordLog;
use crate::storage::recovery::Cut;
use crate::storage::segment::{Run, SegmentRef};
use crate::storage::{Generation, Lsn, PartitionKey, StorageError};

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Makes sure of room for a checkpoint before there is something to say in it.
    pub(in crate::shard) async fn reserve_checkpoint(&self) -> Result<RoundEnd, StorageError> {
        let mut log = self
            .checkpoint
            .borrow_mut()
            .take()
            .expect("the flusher alone writes checkpoints");
        let reserved = if log.room_bytes() < CHECKPOINT_ROOM_BYTES {
            log.reserve(2 * CHECKPOINT_ROOM_BYTES as usize).await
        } else {
            Ok(())
        };
        let enough = log.room_bytes() >= CHECKPOINT_ROOM_BYTES / 2;
        *self.checkpoint.borrow_mut() = Some(log);
        match reserved {
            // Retention has to go on where nothing else can.
            Err(error) if error.is_disk_full() && !enough => Ok(RoundEnd::NoRoom(error)),
            Err(error) if !error.is_disk_full() => Err(error),
            _ => Ok(RoundEnd::Done),
        }
    }

    /// Says in the checkpoint what is in segments now, and lets go of what that makes superfluous.
    pub(in crate::shard) async fn checkpoint_round(
        self: &Rc<Self>,
        target: Lsn,
        slots: &[Rc<Slot>],
        runs: Vec<(Rc<Slot>, Run)>,
    ) -> Result<(), StorageError> {
        let mut replaced: Vec<(PartitionKey, SegmentRef)> = Vec::new();
        for (slot, run) in runs {
            // Those of a topic that was deleted meanwhile too: they are let go of below.
            let gone = self.claims.add_run(&mut slot.state.borrow_mut(), run);
            replaced.extend(gone.into_iter().map(|run| (slot.key(), run.segment)));
            // Its LSN is the round's: in no case may an earlier checkpoint have it.
            slot.unrecorded.borrow_mut().push_back((target, run));
        }
        let producer_limits = self.producer_limits();
        let mut expired: Vec<(Rc<Slot>, Offset)> = Vec::new();
        let mut partitions = Vec::with_capacity(slots.len());
        for slot in slots.iter().filter(|slot| !slot.is_deleted()) {
            let log_start = self.expire(slot, target);
            expired.push((slot.clone(), log_start));
            let mut state = slot.state.borrow_mut();
            let now = self.append_clock.borrow().now();
            state.producers.expire(now, &producer_limits);
            let mut unrecorded = slot.unrecorded.borrow_mut();
            let mut recorded: Vec<Run> = unrecorded
                .iter()
                .filter(|(lsn, _)| *lsn <= target)
                .map(|(_, run)| *run)
                .collect();
            unrecorded.retain(|(lsn, _)| *lsn > target);
            recorded.sort_by_key(|run| run.base_offset);
            recorded.retain(|run| run.next_offset > log_start);
            // IMPORTANT: what lies above the target says where the log stood, never what lies below it: batches that went straight to a
            // segment, and fences, stand in no tail after a replay, and what a checkpoint takes for free is given out again.
            let next_offset = state
                .tail
                .base_offset_above(target)
                .into_iter()
                .chain(unrecorded.iter().map(|(_, run)| run.base_offset))
                .min()
                .unwrap_or(state.durable_offset());
            partitions.push(state.record(
                next_offset,
                log_start,
                recorded.iter().map(RunRecord::from).collect(),
            ));
        }
        let topics_dropped = self.topics_to_drop();
        let record = CheckpointRecord {
            version: CHECKPOINT_VERSION,
            flushed_lsn: target.0,
            durable_lsn: self.progress.released().0,
            generation: self.journal.generation().0,
            append_clock_ms: self.append_clock.borrow().now().0,
            cuts: cut_records(&self.live_cuts(target)),
            partitions,
            topics_dropped: topics_dropped.iter().map(|topic| topic.id().0).collect(),
            clock: ClockRecord::from(self.append_clock.borrow().behind()),
        };
        let generation = Generation(record.generation);
        self.write_checkpoint(record).await?;
        self.noted_generation.set(generation);
        // Only now: a log start that a reader was told of never goes back.
        let mut dropped = replaced;
        for (slot, log_start) in expired {
            let runs = slot.state.borrow_mut().advance_log_start(log_start);
            dropped.extend(runs.into_iter().map(|run| (slot.key(), run.segment)));
        }
        let released = self.topics_checkpointed(&topics_dropped);
        dropped.extend(released.into_iter().map(|(key, run)| (key, run.segment)));
        self.round_durable(target, slots).await?;
        if dropped.iter().any(|(_, segment)| segment.shared) {
            self.merge_wanted.notify_all();
        }
        self.unlink(dropped).await?;
        self.give_up_empty_shared().await
    }

    /// Notes in the checkpoint which journal file is in use: one that is gone at the next start is known to be missing then.
    pub(super) async fn note_generation(self: &Rc<Self>) -> Result<RoundEnd, StorageError> {
        if let RoundEnd::NoRoom(error) = self.reserve_checkpoint().await? {
            return Ok(RoundEnd::NoRoom(error));
        }
        let target = self.flushed_lsn.get();
        self.checkpoint_round(target, &[], Vec::new()).await?;
        Ok(RoundEnd::Done)
    }

    /// Whether the journal went on to a file that no checkpoint knows of.
    pub(super) fn generation_to_note(&self) -> bool {
        self.journal.generation() > self.noted_generation.get()
    }

    async fn write_checkpoint(&self, record: CheckpointRecord) -> Result<(), StorageError> {
        let mut log = self
            .checkpoint
            .borrow_mut()
            .take()
            .expect("the flusher alone writes checkpoints");
        let encoded = record.encode_in_parts();
        while let Err(error) = log.reserve_parts(&encoded).await {
            self.wait_for_space(error).await?;
        }
        log.append_in_parts(&encoded).await?;
        if log.wants_snapshot(self.config.checkpoint_bytes_min) {
            // What is on disk is the truth: put together again, it is the next log's snapshot.
            let dir = self.data.shard(self.layout, self.shard);
            let (mut state, _) = load_checkpoint(&self.disk, &dir).await?;
            let now = self.append_clock.borrow().now();
            state.drop_expired_producers(now, self.producer_limits().expiry_ms);
            let started = RecordLog::start_in_parts(
                &self.disk,
                &dir,
                CHECKPOINT_NAME,
                log.sequence() + 1,
                &state.to_record().encode_in_parts(),
            )
            .await;
            match started {
                Ok(new) => log = new,
                // The one there is goes on.
                Err(error) if error.is_disk_full() => {
                    tracing::warn!(%error, "the disk is full: a checkpoint's log goes on without a new snapshot");
                }
                Err(error) => return Err(error),
            }
        }
        *self.checkpoint.borrow_mut() = Some(log);
        Ok(())
    }

    /// The checkpoint is durable: memory and journal files can go.
    async fn round_durable(&self, target: Lsn, slots: &[Rc<Slot>]) -> Result<(), StorageError> {
        self.flushed_lsn.set(target);
        for slot in slots {
            slot.state.borrow_mut().tail.mark_flushed(target);
        }
        self.recent.flushed(target);
        self.recent.evict(self.config.tail_cache_bytes);
        self.journal.recycle(target).await?;
        self.room.notify_all();
        self.flush_done.notify_all();
        Ok(())
    }

    /// Cuts that still matter once everything up to `flushed` is in segments.
    fn live_cuts(&self, flushed: Lsn) -> Vec<Cut> {
        let mut cuts = self.cuts.borrow_mut();
        cuts.retain(|cut| cut.seen_lsn > flushed);
        cuts.clone()
    }
}

/// Room that a checkpoint's log has at least before a round begins, so that retention can go on when the disk is full.
const CHECKPOINT_ROOM_BYTES: u64 = 128 << 10;
