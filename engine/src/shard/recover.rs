//! A shard's start: checkpoint, journal, decision, and a log that goes on in a fresh file. And the move to another number of shards.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use gannet_wire::{Offset, ShardIndex};

use super::flush::RoundEnd;
use super::log::{LogConfig, LogParts, ShardLog, report_wall_clock};
use super::replay::Replay;
use super::segment_claims::SegmentClaims;
use crate::control::catalogue::{CatalogueState, Layout, TopicLife};
use crate::io::{Clock, Disk};
use crate::storage::append_clock::{AppendClock, Behind};
use crate::storage::checkpoint::CheckpointState;
use crate::storage::journal::{Journal, JournalContents};
use crate::storage::layout::{CHECKPOINT_NAME, DataDir};
use crate::storage::record_log::RecordLog;
use crate::storage::recovery::{JournalState, Plan, Row, plan};
use crate::storage::segment::SegmentIds;
use crate::storage::{Generation, Lsn, PartitionKey, StorageError};

/// Journal files kept ready for reuse.
const SPARES_MAX: usize = 8;

/// What a start did, for the log and for tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Commits by the row they fell into.
    pub rows: BTreeMap<Row, u64>,
    /// Batches taken over from the journal.
    pub batches_replayed: u64,
    /// Bytes of them.
    pub bytes_replayed: u64,
    /// Ranges that are lost.
    pub fences: Vec<(PartitionKey, Offset, Offset)>,
    /// Groups whose committed offset lies beyond the end of its partition.
    pub committed_beyond_end: Vec<(PartitionKey, String, Offset)>,
}

/// Who starts, and where.
#[derive(Clone, Debug)]
pub struct ShardIdentity {
    /// The shard.
    pub shard: ShardIndex,
    /// The layout it belongs to.
    pub layout: Layout,
    /// The broker's life.
    pub incarnation: u32,
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Puts a shard's log together again: nothing is served before its decision about the journal's end is durable.
    pub async fn recover(
        disk: D,
        clock: C,
        data: DataDir,
        config: LogConfig,
        identity: &ShardIdentity,
        catalogue: &CatalogueState,
    ) -> Result<(Rc<Self>, RecoveryReport), StorageError> {
        let dir = data.shard(identity.layout.number, identity.shard);
        let journal_dir = data.journal(identity.layout.number, identity.shard);
        let (mut state, sequence) = load_checkpoint(&disk, &dir).await?;
        check_topics(&dir, &mut state, catalogue)?;

        let mut contents =
            JournalContents::scan(&disk, &journal_dir, state.journal.flushed_lsn).await?;
        let found = std::mem::take(&mut contents.found);
        let decision = plan(&state.journal, &contents.lives, found);
        contents.keep_damaged(&decision.steps);
        let mut append_clock = AppendClock::start(
            state.append_clock_ms,
            state.behind.clone(),
            clock.monotonic(),
            clock.wall_ms(),
        );
        let silence_ms = append_clock.stamps_of_age(config.producers.expiry_ms);
        state.drop_expired_producers(append_clock.now(), silence_ms);
        let mut replay = Replay::new(&state, catalogue, identity, &config, clock.monotonic());
        let Plan {
            steps,
            end_lsn,
            generation,
            cuts,
            rows,
        } = decision;
        replay.report.rows = rows;
        if contents.flushed_commits > 0 {
            *replay.report.rows.entry(Row::Flushed).or_default() += contents.flushed_commits;
        }
        for step in steps {
            replay.apply(step, &mut append_clock)?;
        }
        replay.finish();
        replay.report_committed_beyond_end();
        if config.trust_wall_clock {
            append_clock.follow(clock.wall_ms());
        }
        // Nothing is stamped before the first look at the wall clock.
        report_wall_clock(append_clock.observe(clock.monotonic(), clock.wall_ms()));

        // The decision is durable before anything is served: a second crash must not decide otherwise.
        state.journal = JournalState {
            durable_lsn: end_lsn,
            generation,
            cuts: cuts.clone(),
            ..state.journal
        };
        state.append_clock_ms = Some(append_clock.now().0);
        state.behind = append_clock.behind().clone();
        let flushed_lsn = state.journal.flushed_lsn;
        let checkpoint = RecordLog::start_in_parts(
            &disk,
            &dir,
            CHECKPOINT_NAME,
            sequence + 1,
            &state.to_record().encode_in_parts(),
        )
        .await?;
        let journal = Journal::open(
            &disk,
            &journal_dir,
            config.journal_file_bytes,
            SPARES_MAX,
            &contents,
            generation,
            end_lsn,
        )
        .await?;
        journal.recycle(flushed_lsn).await?;
        journal.rotate(end_lsn.next()).await?;
        journal.recycle(flushed_lsn).await?;

        let Replay {
            slots,
            unflushed,
            damaged_through,
            report,
            ..
        } = replay;
        let claims = SegmentClaims::default();
        for slot in slots.values() {
            for run in slot.state.borrow().runs() {
                claims.claim(run.segment);
            }
        }
        let parts = LogParts {
            journal,
            checkpoint,
            cuts,
            slots,
            append_clock,
            segment_ids: SegmentIds::new(identity.incarnation, identity.shard),
            claims,
            layout: identity.layout.number,
            shards: identity.layout.shards,
            layout_incarnation: identity.layout.incarnation,
            unflushed,
            end_lsn,
            flushed_lsn,
            noted_generation: generation,
        };
        let log = Self::assemble(disk, clock, data, config, identity.shard, parts);
        // IMPORTANT: fences, jumps and new terms are in the checkpoint before anything is served. The damage they come from may read
        // differently next time, and what a consumer was told of offsets and terms must hold then too.
        if let Some(lsn) = damaged_through {
            log.flush_through(lsn).await?;
        }
        log.queue_expiries();
        Ok((log, report))
    }

    /// Flushes everything and returns the shard's whole state: what a layout with other shards takes over.
    pub async fn drain(self: &Rc<Self>) -> Result<CheckpointState, StorageError> {
        while !self.recent.all_flushed() {
            if let RoundEnd::NoRoom(error) = self.flush_round().await? {
                return Err(error);
            }
        }
        self.seal_all().await?;
        let dir = self.data.shard(self.layout, self.shard);
        Ok(load_checkpoint(&self.disk, &dir).await?.0)
    }

    /// Flushes until segments and checkpoint have everything up to and with `lsn`.
    async fn flush_through(self: &Rc<Self>, lsn: Lsn) -> Result<(), StorageError> {
        while self.flushed_lsn.get() < lsn {
            if let RoundEnd::NoRoom(error) = self.flush_round().await? {
                return Err(error);
            }
        }
        Ok(())
    }

    fn queue_expiries(&self) {
        let clock = self.append_clock.borrow();
        for slot in self.slots.borrow().values() {
            let settings = slot.topic().settings;
            let state = slot.state.borrow();
            let Some(oldest) = state.runs().front() else {
                continue;
            };
            // What the size says is looked at now; what the time says, when it comes.
            let at = match (settings.retention_bytes, settings.retention_ms) {
                (Some(_), _) => Some(clock.now()),
                (None, Some(ms)) => i64::try_from(ms)
                    .ok()
                    .map(|ms| clock.expires_at(oldest.append_time, ms)),
                (None, None) => None,
            };
            if let Some(at) = at {
                slot.expiry_queued.set(true);
                self.expiries.push(at, slot.key());
            }
        }
    }
}

/// Writes the first checkpoints of a new layout: every partition of the drained shards under its new owner.
pub async fn lay_out<D: Disk>(
    disk: &D,
    data: &DataDir,
    drained: Vec<CheckpointState>,
    layout: Layout,
) -> Result<(), StorageError> {
    let dir = data.layout(layout.number);
    // What an unfinished move left.
    disk.remove_dir_all(&dir)
        .await
        .map_err(StorageError::io("remove", &dir))?;
    let end_lsn = drained
        .iter()
        .map(|state| state.journal.durable_lsn.max(state.journal.flushed_lsn))
        .max()
        .unwrap_or_default();
    let append_clock_ms = drained
        .iter()
        .filter_map(|state| state.append_clock_ms)
        .max();
    let behind = Behind::joined(drained.iter().map(|state| state.behind.clone()));
    let journal = JournalState {
        flushed_lsn: end_lsn,
        durable_lsn: end_lsn,
        // There is no journal file yet that could be missed, and none of another layout is ever read here.
        generation: Generation::default(),
        cuts: Vec::new(),
    };
    let mut shards: Vec<CheckpointState> = (0..layout.shards)
        .map(|_| CheckpointState {
            journal: journal.clone(),
            append_clock_ms,
            behind: behind.clone(),
            partitions: BTreeMap::new(),
        })
        .collect();
    for state in drained {
        for (key, record) in state.partitions {
            let owner = usize::from(layout.owner(key).0);
            if let Some(shard) = shards.get_mut(owner) {
                shard.partitions.insert(key, record);
            }
        }
    }
    for (shard, state) in (0u16..).zip(&shards) {
        let dir = data.shard(layout.number, ShardIndex(shard));
        let snapshot = state.to_record().encode_in_parts();
        RecordLog::start_in_parts(disk, &dir, CHECKPOINT_NAME, 1, &snapshot).await?;
    }
    disk.sync_dir(data.root())
        .await
        .map_err(StorageError::io("sync", data.root()))
}

/// What the checkpoint in `dir` says, and its log's sequence. Every shard of a layout has one before the catalogue knows the layout, so one
/// that is not there was lost, whatever else is gone with it.
pub(super) async fn load_checkpoint<D: Disk>(
    disk: &D,
    dir: &Path,
) -> Result<(CheckpointState, u64), StorageError> {
    let loaded = RecordLog::load(disk, dir, CHECKPOINT_NAME)
        .await?
        .ok_or_else(|| StorageError::Damaged {
            path: dir.display().to_string(),
            what: "there is no checkpoint".into(),
        })?;
    let state = CheckpointState::load(&loaded.records)
        .map_err(|fault| fault.of(&dir.join(CHECKPOINT_NAME)))?;
    Ok((state, loaded.sequence))
}

/// Drops deleted topics; refuses ids that were never given out.
fn check_topics(
    dir: &Path,
    state: &mut CheckpointState,
    catalogue: &CatalogueState,
) -> Result<(), StorageError> {
    if let Some(key) = state
        .partitions
        .keys()
        .find(|key| catalogue.life(key.topic) == TopicLife::NeverGivenOut)
    {
        return Err(StorageError::Damaged {
            path: dir.display().to_string(),
            what: format!("it holds partition {key}, whose topic the catalogue never had"),
        });
    }
    state
        .partitions
        .retain(|key, _| catalogue.life(key.topic) == TopicLife::Live);
    Ok(())
}

#[cfg(test)]
mod tests;
