//! Behind the acknowledgements: what the journal holds moves to segments, the checkpoint says so, and journal files become free.
//!
//! A round covers everything up to an LSN. Its order is what recovery relies on: segment data and names are durable, then the
//! checkpoint, and only then journal files are used again and expired segments are unlinked.

use std::cmp::Reverse;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select, try_join_all};
use gannet_wire::{Offset, PartitionIndex, TopicId};

use super::log::{Recent, ShardLog};
use super::recover::load_checkpoint;
use super::slot::Slot;
use crate::io::{Clock, Disk};
use crate::partition::TailBatch;
use crate::storage::checkpoint::{
    CHECKPOINT_VERSION, CheckpointRecord, ClockRecord, RunRecord, cut_records,
};
use crate::storage::layout::CHECKPOINT_NAME;
use crate::storage::open_segment::{OpenSegment, SegmentWriter};
use crate::storage::record_log::RecordLog;
use crate::storage::segment::{
    BATCH_ALIGNMENT, FIRST_BATCH_POSITION, Run, SegmentIds, SegmentRef, aligned_bytes,
};
use crate::storage::{Lsn, PartitionKey, StorageError};

const SYNCS_IN_FLIGHT: usize = 16;
/// Bytes that the flusher lets gather in the device's cache.
const SYNC_BYTES: u64 = 2 << 20;

/// Slots that one round looks at for retention's sake alone.
const EXPIRIES_PER_ROUND_MAX: usize = 256;
/// Room that a checkpoint's log has at least before a round begins, so that retention can go on when the disk is full.
const CHECKPOINT_ROOM_BYTES: u64 = 128 << 10;
/// A shared segment is sealed at this size ...
const SHARED_SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// ... after this time,
const SHARED_SEGMENT_AGE_MAX: Duration = Duration::from_secs(10 * 60);
/// ... and after this part of the shortest retention of those in it.
const SHARED_SEGMENT_RETENTION_SHARE: u64 = 8;

/// The segment that small backlogs go to.
pub(super) struct SharedSegment<D: Disk> {
    pub(super) segment: OpenSegment<D>,
    /// By the monotonic clock.
    seal_at: Duration,
}

/// How a round ended.
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
            if self.flush_wanted.take()
                && (self.has_unflushed() || self.expiry_due() || !self.topics_to_drop().is_empty())
            {
                self.expire_on_a_full_disk().await?;
                match self.flush_round().await? {
                    RoundEnd::Done => {
                        if self.unflushed_bytes.get() >= self.config.flush_bytes {
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
        while self.has_unflushed() {
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

    /// Retention makes room, so it comes before what needs some.
    async fn expire_on_a_full_disk(self: &Rc<Self>) -> Result<(), StorageError> {
        if !self.is_disk_full() {
            return Ok(());
        }
        // Those that cannot go yet are due again at once: each is looked at once.
        let rounds = self.expiries.borrow().len() / EXPIRIES_PER_ROUND_MAX + 1;
        for _ in 0..rounds {
            if let RoundEnd::NoRoom(_) = self.reserve_checkpoint().await? {
                break;
            }
            let mut slots = self.expired_slots(self.next_round(), EXPIRIES_PER_ROUND_MAX);
            if slots.is_empty() {
                break;
            }
            let target = self.flushed_lsn.get();
            // A checkpoint that frees nothing would use up the room that is left for one that does.
            slots.retain(|slot| self.expire(slot, target) > slot.state.borrow().log_start());
            if !slots.is_empty() {
                self.checkpoint_round(target, &slots, Vec::new()).await?;
            }
        }
        Ok(())
    }

    /// Keeps a spare journal file ready; runs until the log has stopped.
    pub async fn run_spares(self: &Rc<Self>) -> Result<(), StorageError> {
        loop {
            let seen = self.spare_wanted.version();
            if self.is_stopping() {
                return Ok(());
            }
            if self.journal.wants_spare() && !self.disk_full.get() {
                match self.journal.make_spare().await {
                    Ok(()) => {}
                    Err(error) if error.is_disk_full() => {
                        if !self.disk_full.replace(true) {
                            tracing::error!(%error, "the disk is full: publishes are refused until there is room again; reading goes on");
                        }
                        self.want_flush();
                    }
                    Err(error) => return Err(error),
                }
            }
            self.spare_wanted.changed_since(seen).await;
        }
    }

    /// Once a second: the clock, the disk's room, and what has waited long enough to be flushed. Runs until the log has stopped.
    pub async fn run_housekeeping(self: &Rc<Self>) {
        while !self.is_stopping() {
            self.observe_clock();
            self.check_space().await;
            let now = self.clock.monotonic();
            let old = self.unflushed.borrow().front().is_some_and(|recent| {
                now.saturating_sub(recent.released_at) >= self.config.flush_interval
            });
            if old || self.expiry_due() {
                self.want_flush();
            }
            if self.unflushed.borrow().is_empty() {
                self.evict_idle(now);
            }
            let tick = self.clock.sleep(Duration::from_secs(1));
            let stop = async {
                while !self.is_stopping() {
                    self.room.wait().await;
                }
            };
            if let Either::Right(_) = select(pin!(tick), pin!(stop)).await {
                return;
            }
        }
    }

    fn has_unflushed(&self) -> bool {
        !self.unflushed.borrow().is_empty()
    }

    /// One round: everything up to some LSN. Where there is no room for it, it ends before anything was done.
    pub(super) async fn flush_round(self: &Rc<Self>) -> Result<RoundEnd, StorageError> {
        let round = self.next_round();
        let (target, mut slots) = self.round_extent(round);
        let (large, small) = self.backlogs(target, &slots);
        if let RoundEnd::NoRoom(error) = self.make_room(&large, &small).await? {
            return Ok(RoundEnd::NoRoom(error));
        }
        slots.extend(self.expired_slots(round, usize::MAX));
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
        self.seal_shared_when_due().await?;
        Ok(RoundEnd::Done)
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
            if bytes >= self.config.own_segment_bytes_min && large.len() < self.files.flush {
                large.push(backlog)
            } else {
                small.push(backlog)
            }
        }
        small.sort_by_key(|backlog| backlog.slot.key());
        (large, small)
    }

    /// How far a round goes, and the slots it touches.
    fn round_extent(&self, round: u64) -> (Lsn, Vec<Rc<Slot>>) {
        let mut slots: Vec<Rc<Slot>> = Vec::new();
        let mut target = self.flushed_lsn.get();
        let mut bytes = 0;
        let mut touch = |slot: &Rc<Slot>| {
            if slot.flush_round.replace(round) != round {
                slots.push(slot.clone());
            }
        };
        let unflushed = self.unflushed.borrow();
        for recent in unflushed.iter() {
            if bytes > 0 && bytes + recent.bytes > self.config.flush_round_bytes_max {
                break;
            }
            bytes += recent.bytes;
            target = recent.lsn;
            recent.slots.iter().for_each(&mut touch);
        }
        if unflushed.back().is_none_or(|last| last.lsn == target) {
            // Nothing lies above but marks.
            target = target.max(self.released_lsn());
        }
        (target, slots)
    }

    /// Slots that retention has to look at, and that `round` has not touched yet.
    fn expired_slots(&self, round: u64, slots_max: usize) -> Vec<Rc<Slot>> {
        let now = self.append_clock.borrow().now();
        let mut expiries = self.expiries.borrow_mut();
        let mut slots = Vec::new();
        while slots.len() < slots_max
            && expiries.peek().is_some_and(|Reverse((at, _))| *at <= now.0)
        {
            let Some(Reverse((_, key))) = expiries.pop() else {
                break;
            };
            if let Some(slot) = self.slot(key) {
                slot.expiry_queued.set(false);
                if slot.flush_round.replace(round) != round {
                    slots.push(slot);
                }
            }
        }
        slots
    }

    /// Opens the segments that a round needs, with room for all of it and for its checkpoint. Nothing of the round has happened yet.
    async fn make_room(
        &self,
        large: &[Backlog],
        small: &[Backlog],
    ) -> Result<RoundEnd, StorageError> {
        let made = async {
            for backlog in large {
                self.open_own(backlog, large).await?;
            }
            if !small.is_empty() {
                self.open_shared(small).await?;
            }
            Ok(())
        };
        match made.await {
            Err(error) if StorageError::is_disk_full(&error) => Ok(RoundEnd::NoRoom(error)),
            Err(error) => Err(error),
            Ok(()) => self.reserve_checkpoint().await,
        }
    }

    /// Opens a partition's own segment with room for its backlog. `round`: whose segments must stay open.
    async fn open_own(&self, backlog: &Backlog, round: &[Backlog]) -> Result<(), StorageError> {
        let key = backlog.slot.key();
        let known = self.flush_segments.borrow_mut().remove(&key);
        let mut segment = match known {
            Some(segment) if segment.position() < self.segment_bytes_max(&backlog.slot) => segment,
            sealed => {
                if let Some(sealed) = sealed {
                    sealed.seal().await?;
                }
                self.limit_flush_segments(round).await?;
                self.try_create_segment(Some(key)).await?
            }
        };
        let reserved = segment.reserve(backlog.bytes).await;
        self.flush_segments.borrow_mut().insert(key, segment);
        reserved
    }

    /// Opens the shared segment with room for what goes there.
    async fn open_shared(&self, backlogs: &[Backlog]) -> Result<(), StorageError> {
        let bytes: u64 = backlogs.iter().map(|backlog| backlog.bytes).sum();
        let now = self.clock.monotonic();
        let known = self.shared_segment.borrow_mut().take();
        let max = self.config.segment_bytes_max.min(SHARED_SEGMENT_BYTES_MAX);
        let fits = |open: &SharedSegment<D>| {
            now < open.seal_at
                && (open.segment.position() + bytes <= max
                    || open.segment.position() == FIRST_BATCH_POSITION)
        };
        let mut open = match known {
            Some(open) if fits(&open) => open,
            other => {
                if let Some(full) = other {
                    self.seal_shared(full).await?;
                }
                let segment = self.try_create_segment(None).await?;
                // As long as it is open, it is not for retention to unlink.
                self.claim_segment(segment.segment);
                SharedSegment {
                    segment,
                    seal_at: now + SHARED_SEGMENT_AGE_MAX,
                }
            }
        };
        // A run only expires when its newest record does: what goes on for long keeps what should be gone.
        let shortest = backlogs
            .iter()
            .filter_map(|backlog| backlog.slot.topic().settings.retention_ms)
            .min();
        if let Some(retention_ms) = shortest {
            let part = Duration::from_millis(retention_ms / SHARED_SEGMENT_RETENTION_SHARE);
            open.seal_at = open.seal_at.min(now.saturating_add(part));
        }
        let reserved = open.segment.reserve(bytes).await;
        *self.shared_segment.borrow_mut() = Some(open);
        reserved
    }

    /// Makes sure of room for a checkpoint before there is something to say in it.
    async fn reserve_checkpoint(&self) -> Result<RoundEnd, StorageError> {
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

    /// Writes a large backlog to its partition's own segment; not synced yet.
    async fn flush_to_own(self: &Rc<Self>, backlog: &Backlog) -> Result<Vec<Run>, StorageError> {
        let key = backlog.slot.key();
        let mut segment = self
            .flush_segments
            .borrow_mut()
            .remove(&key)
            .expect("the round has opened its segments");
        let mut pace = self.flush_pace();
        let mut writer = self.segment_writer(&segment, &pace);
        let runs = self
            .write_runs(&mut writer, &mut segment, backlog, &mut pace)
            .await?;
        segment.advance(writer.finish().await?);
        self.flush_segments.borrow_mut().insert(key, segment);
        Ok(runs)
    }

    /// Makes the own segments of a round durable, several at once.
    async fn sync_own(&self, keys: &[PartitionKey]) -> Result<(), StorageError> {
        for group in keys.chunks(SYNCS_IN_FLIGHT) {
            // Taken out while they are synced: nothing else writes to them, the flusher being one task.
            let segments: Vec<_> = {
                let mut open = self.flush_segments.borrow_mut();
                group
                    .iter()
                    .filter_map(|key| open.remove(key).map(|segment| (*key, segment)))
                    .collect()
            };
            try_join_all(segments.iter().map(|(_, segment)| segment.sync())).await?;
            self.flush_segments.borrow_mut().extend(segments);
        }
        Ok(())
    }

    /// Writes small backlogs, in the order of keys, to one segment.
    async fn flush_to_shared(
        self: &Rc<Self>,
        backlogs: &[Backlog],
    ) -> Result<Vec<(Rc<Slot>, Run)>, StorageError> {
        let mut open = self
            .shared_segment
            .borrow_mut()
            .take()
            .expect("the round has opened its segments");
        let segment = &mut open.segment;
        let mut pace = self.flush_pace();
        let mut writer = self.segment_writer(segment, &pace);
        let mut runs = Vec::with_capacity(backlogs.len());
        for backlog in backlogs {
            let own = self
                .write_runs(&mut writer, segment, backlog, &mut pace)
                .await?;
            runs.extend(own.into_iter().map(|run| (backlog.slot.clone(), run)));
        }
        segment.advance(writer.finish().await?);
        if let Some((_, last)) = runs.last_mut() {
            // Nobody else's batches share its last block: the next round may go on with it.
            last.end = segment.position();
        }
        segment.sync().await?;
        *self.shared_segment.borrow_mut() = Some(open);
        Ok(runs)
    }

    /// A shared segment that has been open for long enough is left to retention.
    async fn seal_shared_when_due(&self) -> Result<(), StorageError> {
        let now = self.clock.monotonic();
        let due = self
            .shared_segment
            .borrow_mut()
            .take_if(|open| now >= open.seal_at);
        match due {
            Some(due) => self.seal_shared(due).await,
            None => Ok(()),
        }
    }

    async fn seal_shared(&self, open: SharedSegment<D>) -> Result<(), StorageError> {
        open.segment.seal().await?;
        // Whose run it was last does not matter: it lies where all shared ones do.
        let anyone = PartitionKey {
            topic: TopicId(0),
            partition: PartitionIndex(0),
        };
        self.unlink(vec![(anyone, open.segment.segment)]).await
    }

    /// Says in the checkpoint what is in segments now, and lets go of what that makes superfluous.
    async fn checkpoint_round(
        self: &Rc<Self>,
        target: Lsn,
        slots: &[Rc<Slot>],
        runs: Vec<(Rc<Slot>, Run)>,
    ) -> Result<(), StorageError> {
        for (slot, run) in runs {
            // Those of a topic that was deleted meanwhile too: they are let go of below.
            self.count_run(&mut slot.state.borrow_mut(), run);
            // Its LSN is the round's: in no case may an earlier checkpoint have it.
            slot.unrecorded.borrow_mut().push_back((target, run));
        }
        let mut expired: Vec<(Rc<Slot>, Offset)> = Vec::new();
        let mut partitions = Vec::with_capacity(slots.len());
        for slot in slots.iter().filter(|slot| !slot.is_deleted()) {
            let log_start = self.expire(slot, target);
            expired.push((slot.clone(), log_start));
            let mut state = slot.state.borrow_mut();
            let now = self.append_clock.borrow().now();
            state.producers.expire(now, &self.config.producers);
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
            durable_lsn: self.released_lsn().0,
            generation: self.journal.generation().0,
            append_clock_ms: self.append_clock.borrow().now().0,
            cuts: cut_records(&self.live_cuts(target)),
            partitions,
            topics_dropped: topics_dropped.iter().map(|topic| topic.id().0).collect(),
            clock: ClockRecord::from(self.append_clock.borrow().behind()),
        };
        self.write_checkpoint(record).await?;
        // Only now: a log start that a reader was told of never goes back.
        let mut dropped: Vec<(PartitionKey, SegmentRef)> = Vec::new();
        for (slot, log_start) in expired {
            let runs = slot.state.borrow_mut().advance_log_start(log_start);
            dropped.extend(runs.into_iter().map(|run| (slot.key(), run.segment)));
        }
        let released = self.topics_checkpointed(&topics_dropped);
        dropped.extend(released.into_iter().map(|(key, run)| (key, run.segment)));
        self.round_durable(target, slots).await?;
        self.unlink(dropped).await?;
        self.give_up_empty_shared().await
    }

    /// The shared segment that is still written to goes at once when deletion or retention has left nothing in it.
    async fn give_up_empty_shared(&self) -> Result<(), StorageError> {
        let empty = {
            let counts = self.segment_runs.borrow();
            self.shared_segment.borrow_mut().take_if(|open| {
                // What is open has a claim of its own.
                open.segment.position() > FIRST_BATCH_POSITION
                    && counts.get(&open.segment.segment) == Some(&1)
            })
        };
        match empty {
            Some(empty) => self.seal_shared(empty).await,
            None => Ok(()),
        }
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
            state.drop_expired_producers(now, self.config.producers.expiry_ms);
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
        loop {
            let recent = {
                let mut unflushed = self.unflushed.borrow_mut();
                match unflushed.front() {
                    Some(first) if first.lsn <= target => unflushed.pop_front(),
                    _ => None,
                }
            };
            let Some(recent) = recent else { break };
            self.unflushed_bytes
                .set(self.unflushed_bytes.get() - recent.bytes);
            self.cached_bytes
                .set(self.cached_bytes.get() + recent.bytes);
            self.cached.borrow_mut().push_back(recent);
        }
        self.evict(self.config.tail_cache_bytes);
        self.journal.recycle(target).await?;
        self.room.notify_all();
        self.flush_done.notify_all();
        Ok(())
    }

    /// Lets go of flushed batches, oldest first, until at most `keep_bytes` are in memory.
    fn evict(&self, keep_bytes: u64) {
        while self.cached_bytes.get() > keep_bytes {
            let Some(recent) = self.cached.borrow_mut().pop_front() else {
                break;
            };
            self.evict_recent(&recent);
        }
    }

    /// An idle shard gives its memory back.
    fn evict_idle(&self, now: Duration) {
        let idle = self.cached.borrow().back().is_some_and(|recent| {
            now.saturating_sub(recent.released_at) >= self.config.flush_interval
        });
        if idle {
            self.evict(0);
            self.reader.clear_chunks();
        }
    }

    fn evict_recent(&self, recent: &Recent) {
        for slot in &recent.slots {
            slot.state.borrow_mut().tail.evict(recent.lsn);
        }
        self.cached_bytes
            .set(self.cached_bytes.get() - recent.bytes);
    }

    /// Counts a run that became known to a partition.
    pub(super) fn count_run(&self, state: &mut crate::partition::Partition, run: Run) {
        let before = state.runs().len();
        state.add_run(run);
        if state.runs().len() > before {
            *self
                .segment_runs
                .borrow_mut()
                .entry(run.segment)
                .or_insert(0) += 1;
        }
    }

    /// Counts a run whose segment was claimed for it: a run of its own takes the claim over, one that only made another longer gives it back.
    pub(super) fn count_claimed_run(&self, state: &mut crate::partition::Partition, run: Run) {
        let before = state.runs().len();
        state.add_run(run);
        if state.runs().len() == before
            && let Some(count) = self.segment_runs.borrow_mut().get_mut(&run.segment)
        {
            *count -= 1;
        }
    }

    /// The log start that retention asks for once everything up to `target` is in segments; queues the next look.
    fn expire(&self, slot: &Rc<Slot>, target: Lsn) -> Offset {
        let settings = slot.topic().settings;
        let clock = self.append_clock.borrow();
        let retention_ms = settings.retention_ms.and_then(|ms| i64::try_from(ms).ok());
        let expire_before = retention_ms.map(|ms| clock.stamped_before(ms));
        let state = slot.state.borrow();
        let log_start = state.expired_up_to(expire_before, settings.retention_bytes, target);
        let mut kept = state
            .runs()
            .iter()
            .filter(|run| run.next_offset > log_start);
        if let (Some(retention_ms), Some(oldest)) = (retention_ms, kept.next())
            && !slot.expiry_queued.replace(true)
        {
            let at = clock.expires_at(oldest.append_time, retention_ms);
            self.expiries.borrow_mut().push(Reverse((at.0, slot.key())));
        }
        log_start
    }

    fn expiry_due(&self) -> bool {
        let now = self.append_clock.borrow().now();
        self.expiries
            .borrow()
            .peek()
            .is_some_and(|Reverse((at, _))| *at <= now.0)
    }

    /// Unlinks the segments whose last run, or last claim, went; each is named once for each that did. The checkpoint that says so is durable.
    pub(super) async fn unlink(
        &self,
        gone: Vec<(PartitionKey, SegmentRef)>,
    ) -> Result<(), StorageError> {
        for (key, segment) in gone {
            let last = {
                let mut counts = self.segment_runs.borrow_mut();
                match counts.get_mut(&segment) {
                    Some(count) if *count > 1 => {
                        *count -= 1;
                        false
                    }
                    _ => {
                        counts.remove(&segment);
                        true
                    }
                }
            };
            if last && self.owns_alone(segment) {
                self.unlink_segment(key, segment).await?;
            }
        }
        Ok(())
    }

    async fn unlink_segment(
        &self,
        key: PartitionKey,
        segment: SegmentRef,
    ) -> Result<(), StorageError> {
        self.reader.forget(segment);
        for open in [&self.direct_segments, &self.flush_segments] {
            let mut open = open.borrow_mut();
            if open.get(&key).is_some_and(|open| open.segment == segment) {
                open.remove(&key);
            }
        }
        for path in [
            segment.path(&self.data, key),
            segment.index_path(&self.data, key),
        ] {
            match self.disk.remove(&path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether no other shard can have runs in a segment: its own do, and so do shared ones that this layout made.
    fn owns_alone(&self, segment: SegmentRef) -> bool {
        !segment.shared || SegmentIds::incarnation_of(segment.id) >= self.layout_incarnation
    }

    /// Writes the indexes of all open segments.
    pub(super) async fn seal_all(&self) -> Result<(), StorageError> {
        let mut open: Vec<OpenSegment<D>> = self.direct_segments.take().into_values().collect();
        open.extend(self.flush_segments.take().into_values());
        for segment in open {
            segment.seal().await?;
        }
        let shared = self.shared_segment.borrow_mut().take();
        match shared {
            Some(shared) => self.seal_shared(shared).await,
            None => Ok(()),
        }
    }

    /// Seals segments that no backlog of this round goes to, while there are too many.
    async fn limit_flush_segments(&self, round: &[Backlog]) -> Result<(), StorageError> {
        loop {
            let sealed = {
                let mut open = self.flush_segments.borrow_mut();
                if open.len() < self.files.flush {
                    return Ok(());
                }
                let needed =
                    |key: &&PartitionKey| round.iter().any(|other| other.slot.key() == **key);
                let Some(key) = open.keys().find(|key| !needed(key)).copied() else {
                    return Ok(());
                };
                open.remove(&key)
            };
            if let Some(sealed) = sealed {
                sealed.sync().await?;
                sealed.seal().await?;
            }
        }
    }

    /// How much of the device the flusher takes: a quarter of its time while little waits, all of it when publishers are about to wait.
    fn flush_pace(&self) -> Pace {
        let most = (self.config.unflushed_bytes_max / 2).max(1);
        let waiting = self.unflushed_bytes.get().min(most);
        Pace {
            pause_percent: PAUSE_PERCENT_MAX - PAUSE_PERCENT_MAX * waiting / most,
            since: self.clock.monotonic(),
            position: 0,
        }
    }

    /// Paced behind the commits; when publishers are about to wait larger writes, more at once, and one sync at the end.
    fn segment_writer(&self, segment: &OpenSegment<D>, pace: &Pace) -> SegmentWriter<D> {
        let factor = if pace.pause_percent == 0 { 4 } else { 1 };
        segment.writer(
            self.config.flush_write_bytes * factor,
            self.config.flush_writes_in_flight_max * factor,
            (factor == 1).then_some(SYNC_BYTES),
        )
    }

    /// Pauses when a write's worth has gone out since the last time.
    async fn keep_pace(&self, pace: &mut Pace, position: u64) {
        if pace.pause_percent == 0
            || position.saturating_sub(pace.position) < self.config.flush_write_bytes as u64
        {
            return;
        }
        let took = self.clock.monotonic().saturating_sub(pace.since);
        let pause = took * u32::try_from(pace.pause_percent).unwrap_or(0) / 100;
        self.clock.sleep(pause.min(PAUSE_MAX)).await;
        *pace = Pace {
            position,
            since: self.clock.monotonic(),
            ..*pace
        };
    }

    /// Cuts that still matter once everything up to `flushed` is in segments.
    fn live_cuts(&self, flushed: Lsn) -> Vec<crate::storage::recovery::Cut> {
        let mut cuts = self.cuts.borrow_mut();
        cuts.retain(|cut| cut.seen_lsn > flushed);
        cuts.clone()
    }

    /// Looks at the disk's room. What is kept free covers what has its offsets and is in no segment yet: this shard's, times the shards,
    /// because the others see the same room.
    async fn check_space(&self) {
        let Ok(available) = self.disk.available_bytes(self.data.root()).await else {
            return;
        };
        let shards = u64::from(self.shards.max(1));
        let owed = self.unflushed_bytes.get() + self.gathered_bytes();
        let kept = self
            .config
            .disk_reserve_bytes
            .saturating_add(owed.saturating_mul(shards));
        // Until the next look no more is taken than there is room for now.
        let publishable = available.saturating_sub(kept) / shards;
        self.publishable_bytes.set(publishable);
        let full = self.disk_full.get();
        if !full && publishable == 0 {
            tracing::error!(
                available,
                kept,
                "the disk is nearly full: publishes are refused until there is room again; reading goes on"
            );
            self.disk_full.set(true);
            self.want_flush();
        } else if full && available > kept.saturating_add(self.config.journal_file_bytes) {
            tracing::info!(available, "the disk has room again: publishes are taken");
            self.disk_full.set(false);
            self.work.notify_all();
            self.spare_wanted.notify_all();
        }
    }

    /// Streams a backlog's batches into a segment and notes them in its index. Batches that went straight to another segment leave
    /// gaps between offsets: each stretch is a run of its own.
    async fn write_runs(
        &self,
        writer: &mut SegmentWriter<D>,
        segment: &mut OpenSegment<D>,
        backlog: &Backlog,
        pace: &mut Pace,
    ) -> Result<Vec<Run>, StorageError> {
        let key = backlog.slot.key();
        let mut runs: Vec<Run> = Vec::new();
        for batch in &backlog.batches {
            let position = writer.end();
            let header = crate::storage::segment::header_at(&batch.bytes)
                .expect("a batch in the tail has a header");
            segment.index.push(
                key,
                batch.base_offset..batch.next_offset,
                position,
                header.max_timestamp(),
            );
            writer.push(&batch.bytes).await?;
            let filler = aligned_bytes(batch.bytes.len()) - batch.bytes.len();
            writer.push(&[0; BATCH_ALIGNMENT][..filler]).await?;
            self.keep_pace(pace, writer.end()).await;
            match runs.last_mut() {
                Some(run) if run.next_offset == batch.base_offset => {
                    run.next_offset = batch.next_offset;
                    run.end = writer.end();
                    run.max_timestamp = run.max_timestamp.max(header.max_timestamp());
                    run.append_time = run.append_time.max(header.append_time());
                }
                _ => runs.push(Run {
                    segment: segment.segment,
                    base_offset: batch.base_offset,
                    next_offset: batch.next_offset,
                    position,
                    end: writer.end(),
                    max_timestamp: header.max_timestamp(),
                    append_time: header.append_time(),
                }),
            }
        }
        Ok(runs)
    }
}

/// The flusher's share of the device during one stream of writes.
struct Pace {
    /// How long it pauses behind each write, in hundredths of what that took.
    pause_percent: u64,
    /// When the last pause ended ...
    since: std::time::Duration,
    /// ... and where the stream stood then.
    position: u64,
}

/// Three times as long as it writes.
const PAUSE_PERCENT_MAX: u64 = 300;
/// A write that took long was waiting for others: no reason to wait as long again.
const PAUSE_MAX: std::time::Duration = std::time::Duration::from_millis(10);

#[cfg(test)]
mod tests;
