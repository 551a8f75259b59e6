//! A shard's start: checkpoint, journal, decision, and a log that goes on in a fresh file. And the move to another number of shards.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::rc::Rc;

use gannet_wire::batch::ProducerStamp;
use gannet_wire::{Offset, ShardIndex, Timestamp};

use super::flush::RoundEnd;
use super::log::{LogConfig, LogParts, Recent, ShardLog, report_wall_clock};
use super::slot::Slot;
use crate::control::catalogue::{CatalogueState, Layout, TopicLife};
use crate::cursor::CommittedOffset;
use crate::io::{Clock, Disk};
use crate::partition::{Partition, TailBatch, WindowBatch};
use crate::storage::append_clock::{AppendClock, Behind};
use crate::storage::checkpoint::CheckpointState;
use crate::storage::commit::{CommitHead, Entry, EntryKind};
use crate::storage::journal::Journal;
use crate::storage::layout::{CHECKPOINT_NAME, DataDir};
use crate::storage::record_log::RecordLog;
use crate::storage::recovery::{JournalState, Plan, Row, Step, plan};
use crate::storage::segment::{DirectRun, Run, SegmentIds, SegmentRef, header_at};
use crate::storage::slice::Slice;
use crate::storage::{Lsn, PartitionKey, SegmentId, StorageError};

/// Offsets that one lost commit may have held at most: as many records as its bytes can carry when they compress as well as they may.
const LOST_COMMIT_RECORDS_MAX: u64 = 1 << 33;

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
        let loaded = RecordLog::load(&disk, &dir, CHECKPOINT_NAME).await?;
        let contents = Journal::scan(&disk, &journal_dir).await?;
        if loaded.is_none() && contents.file_count() > 0 {
            return Err(StorageError::Damaged {
                path: dir.display().to_string(),
                what: "there is a journal but no checkpoint".into(),
            });
        }
        let (mut state, sequence) = match loaded {
            Some(loaded) => (load_state(&dir, &loaded.records)?, loaded.sequence),
            None => (CheckpointState::default(), 0),
        };
        check_topics(&dir, &mut state, catalogue)?;

        let mut contents = contents;
        let found = std::mem::take(&mut contents.found);
        let decision = plan(&state.journal, &contents.generations, found);
        let mut replay = Replay::new(&state, catalogue, &config, clock.monotonic());
        let mut append_clock = AppendClock::start(
            state.append_clock_ms,
            state.behind.clone(),
            clock.monotonic(),
            clock.wall_ms(),
        );
        let Plan {
            steps,
            end_lsn,
            generation,
            cuts,
            rows,
        } = decision;
        replay.report.rows = rows;
        for step in steps {
            replay.apply(step, &mut append_clock)?;
        }
        replay.finish();
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
        let checkpoint = RecordLog::start(
            &disk,
            &dir,
            CHECKPOINT_NAME,
            sequence + 1,
            &state.to_record().encode(),
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

        let Replay {
            mut slots,
            unflushed,
            report,
            ..
        } = replay;
        for topic in catalogue.topics.values() {
            for key in topic
                .keys()
                .filter(|key| identity.layout.owner(*key) == identity.shard)
            {
                slots
                    .entry(key)
                    .or_insert_with(|| Slot::new(topic.clone(), Partition::new(key)));
            }
        }
        let mut segment_runs: HashMap<SegmentRef, u32> = HashMap::new();
        for slot in slots.values() {
            for run in slot.state.borrow().runs() {
                *segment_runs.entry(run.segment).or_insert(0) += 1;
            }
        }
        let parts = LogParts {
            journal,
            checkpoint,
            cuts,
            slots,
            append_clock,
            segment_ids: SegmentIds::new(identity.incarnation, identity.shard),
            segment_runs,
            layout: identity.layout.number,
            shards: identity.layout.shards,
            layout_incarnation: identity.layout.incarnation,
            unflushed,
            end_lsn,
            flushed_lsn,
        };
        let log = Self::assemble(disk, clock, data, config, identity.shard, parts);
        log.queue_expiries();
        Ok((log, report))
    }

    /// Flushes everything and returns the shard's whole state: what a layout with other shards takes over.
    pub async fn drain(self: &Rc<Self>) -> Result<CheckpointState, StorageError> {
        while !self.unflushed.borrow().is_empty() {
            if let RoundEnd::NoRoom(error) = self.flush_round().await? {
                return Err(error);
            }
        }
        self.seal_all().await?;
        let dir = self.data.shard(self.layout, self.shard);
        let loaded = RecordLog::load(&self.disk, &dir, CHECKPOINT_NAME).await?;
        load_state(
            &dir,
            &loaded.map(|loaded| loaded.records).unwrap_or_default(),
        )
    }

    fn queue_expiries(&self) {
        let now = self.append_clock.borrow().now();
        for slot in self.slots.borrow().values() {
            if slot.topic().settings.retention_ms.is_some()
                || slot.topic().settings.retention_bytes.is_some()
            {
                slot.expiry_queued.set(true);
                self.expiries
                    .borrow_mut()
                    .push(std::cmp::Reverse((now.0, slot.key())));
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
    let generation = drained
        .iter()
        .map(|state| state.journal.generation)
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
        generation,
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
        RecordLog::start(disk, &dir, CHECKPOINT_NAME, 1, &state.to_record().encode()).await?;
    }
    disk.sync_dir(data.root())
        .await
        .map_err(StorageError::io("sync", data.root()))
}

/// Removes shared segments that no partition has a run in, left by a crash or by partitions that moved between shards. `live`: of all shards.
pub async fn sweep_shared<D: Disk>(
    disk: &D,
    data: &DataDir,
    live: &HashSet<SegmentId>,
    incarnation: u32,
) -> Result<u64, StorageError> {
    let dir = data.shared();
    let entries = match disk.list(&dir).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StorageError::io("list", &dir)(error)),
    };
    let mut removed = 0;
    for entry in entries {
        let Some(id) = DataDir::segment_of_name(&entry.name) else {
            continue;
        };
        // What this life makes is not for the sweep.
        if !live.contains(&id) && SegmentIds::incarnation_of(id) < incarnation {
            let path = dir.join(&entry.name);
            disk.remove(&path)
                .await
                .map_err(StorageError::io("remove", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn load_state(dir: &Path, records: &[Vec<u8>]) -> Result<CheckpointState, StorageError> {
    CheckpointState::load(records).map_err(|fault| StorageError::Damaged {
        path: dir.display().to_string(),
        what: fault.to_string(),
    })
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

/// The state that the journal's commits are applied to.
struct Replay<'a> {
    catalogue: &'a CatalogueState,
    config: &'a LogConfig,
    now: std::time::Duration,
    slots: HashMap<PartitionKey, Rc<Slot>>,
    unflushed: VecDeque<Recent>,
    /// Partitions with a batch behind the newest commit that is lost beyond knowing.
    seen_since_lost: Option<HashSet<PartitionKey>>,
    lost_commits: u64,
    report: RecoveryReport,
}

impl<'a> Replay<'a> {
    fn new(
        state: &CheckpointState,
        catalogue: &'a CatalogueState,
        config: &'a LogConfig,
        now: std::time::Duration,
    ) -> Self {
        let slots = state
            .partitions
            .iter()
            .filter_map(|(key, record)| {
                let topic = catalogue.topics.get(&key.topic)?;
                Some((*key, Slot::new(topic.clone(), Partition::restore(record))))
            })
            .collect();
        Self {
            catalogue,
            config,
            now,
            slots,
            unflushed: VecDeque::new(),
            seen_since_lost: None,
            lost_commits: 0,
            report: RecoveryReport::default(),
        }
    }

    fn apply(&mut self, step: Step, clock: &mut AppendClock) -> Result<(), StorageError> {
        match step {
            Step::Replay(commit) => {
                self.apply_entries(&commit.head, &commit.entries, &commit.bytes, clock)
            }
            Step::Salvage {
                lsn,
                head,
                whole,
                lost,
                bytes,
            } => {
                for entry in &lost {
                    tracing::error!(lsn = lsn.0, partition = %entry.key, from = %entry.base_offset, to = %entry.next_offset(), "a durable batch is damaged in the journal: its offsets are fenced");
                }
                // Gaps that the lost entries leave are fenced when what follows them is applied, or at the end.
                self.apply_entries(&head, &whole, &bytes, clock)?;
                for entry in lost.iter().filter(|entry| {
                    entry.kind == EntryKind::Batch || entry.kind == EntryKind::DirectRun
                }) {
                    let Some(slot) = self.slot(entry.key)? else {
                        continue;
                    };
                    let mut state = slot.state.borrow_mut();
                    if entry.next_offset() > state.next_offset() {
                        self.report.fences.push((
                            entry.key,
                            state.next_offset(),
                            entry.next_offset(),
                        ));
                        state.replay_gap(entry.next_offset());
                    }
                }
                Ok(())
            }
            Step::Lost { first, last } => {
                tracing::error!(
                    first = first.0,
                    last = last.0,
                    "durable commits are damaged beyond knowing what they held: partitions go on above any offset they may have had"
                );
                self.lost_commits += last.0 - first.0 + 1;
                self.seen_since_lost = Some(HashSet::new());
                Ok(())
            }
        }
    }

    fn apply_entries(
        &mut self,
        head: &CommitHead,
        entries: &[Entry],
        commit: &Slice,
        clock: &mut AppendClock,
    ) -> Result<(), StorageError> {
        clock.raise_to(head.identity.append_time);
        let lsn = head.identity.lsn;
        let mut slots = Vec::new();
        for entry in entries {
            let Some(slot) = self.slot(entry.key)? else {
                continue;
            };
            let start = entry.start as usize;
            let bytes = commit.part(start..start + entry.length as usize);
            match entry.kind {
                EntryKind::Batch => self.apply_batch(&slot, lsn, entry, bytes),
                EntryKind::DirectRun => self.apply_direct(&slot, lsn, entry, &bytes)?,
                EntryKind::CommittedOffset => {
                    let offset =
                        CommittedOffset::decode(&bytes).ok_or_else(|| damaged_entry(entry))?;
                    slot.state.borrow_mut().committed.apply(offset, lsn);
                }
            }
            slots.push(slot);
        }
        if !slots.is_empty() {
            self.unflushed.push_back(Recent {
                lsn,
                bytes: head.commit_bytes as u64,
                slots,
                released_at: self.now,
            });
        }
        Ok(())
    }

    fn apply_batch(&mut self, slot: &Rc<Slot>, lsn: Lsn, entry: &Entry, bytes: Slice) {
        if !self.make_room(slot, entry) {
            return;
        }
        self.report.batches_replayed += 1;
        self.report.bytes_replayed += bytes.len() as u64;
        let producer = header_at(&bytes)
            .and_then(|header| header.producer().map(|stamp| (stamp, header.append_time())));
        let mut state = slot.state.borrow_mut();
        state.replay_offsets(entry.base_offset, entry.next_offset());
        if let Some((stamp, append_time)) = producer {
            self.record_producer(
                &mut state,
                &stamp,
                entry.base_offset,
                entry.record_count,
                append_time,
            );
        }
        state.batch_durable(TailBatch {
            base_offset: entry.base_offset,
            next_offset: entry.next_offset(),
            lsn,
            bytes,
            flushed: false,
        });
    }

    fn apply_direct(
        &mut self,
        slot: &Rc<Slot>,
        lsn: Lsn,
        entry: &Entry,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let direct = rkyv::from_bytes::<DirectRun, rkyv::rancor::Error>(bytes)
            .map_err(|_| damaged_entry(entry))?;
        if !self.make_room(slot, entry) {
            return Ok(());
        }
        let run = Run {
            segment: SegmentRef {
                id: SegmentId(direct.segment),
                shared: false,
            },
            base_offset: entry.base_offset,
            next_offset: entry.next_offset(),
            position: direct.position,
            end: direct.end,
            max_timestamp: Timestamp(direct.max_timestamp),
            append_time: Timestamp(direct.append_time),
        };
        let mut state = slot.state.borrow_mut();
        state.replay_offsets(run.base_offset, run.next_offset);
        state.replay_durable(run.next_offset);
        state.add_run(run);
        for producer in &direct.producers {
            self.record_producer(
                &mut state,
                &producer.stamp(),
                Offset(producer.base_offset),
                producer.record_count,
                Timestamp(producer.append_time),
            );
        }
        drop(state);
        slot.unrecorded.borrow_mut().push_back((lsn, run));
        Ok(())
    }

    fn record_producer(
        &self,
        state: &mut Partition,
        stamp: &ProducerStamp,
        base_offset: Offset,
        record_count: u32,
        at: Timestamp,
    ) {
        let batch = WindowBatch {
            base_sequence: stamp.base_sequence,
            record_count,
            base_offset,
        };
        state
            .producers
            .record(stamp, batch, at, &self.config.producers);
    }

    /// Fences what is missing before an entry. `false`: the partition has these offsets already.
    fn make_room(&mut self, slot: &Rc<Slot>, entry: &Entry) -> bool {
        if let Some(seen) = &mut self.seen_since_lost {
            seen.insert(entry.key);
        }
        let mut state = slot.state.borrow_mut();
        if entry.base_offset > state.next_offset() {
            tracing::error!(partition = %entry.key, from = %state.next_offset(), to = %entry.base_offset, "offsets are missing from the journal: they are fenced");
            self.report
                .fences
                .push((entry.key, state.next_offset(), entry.base_offset));
            state.replay_gap(entry.base_offset);
        }
        entry.base_offset == state.next_offset()
    }

    /// Partitions that may have lost their end, without anything saying how much, go on above it in a new term.
    fn finish(&mut self) {
        let Some(seen) = self.seen_since_lost.take() else {
            return;
        };
        for (key, slot) in &self.slots {
            if !seen.contains(key) {
                let mut state = slot.state.borrow_mut();
                let from = state.next_offset();
                state.resume_above(self.lost_commits * LOST_COMMIT_RECORDS_MAX);
                self.report.fences.push((*key, from, state.next_offset()));
            }
        }
    }

    /// The slot of an entry; `None` when its topic was deleted.
    fn slot(&mut self, key: PartitionKey) -> Result<Option<Rc<Slot>>, StorageError> {
        if let Some(slot) = self.slots.get(&key) {
            return Ok(Some(slot.clone()));
        }
        match (
            self.catalogue.life(key.topic),
            self.catalogue.topics.get(&key.topic),
        ) {
            (TopicLife::Live, Some(topic)) if key.partition.0 < topic.partitions => {
                let slot = Slot::new(topic.clone(), Partition::new(key));
                self.slots.insert(key, slot.clone());
                Ok(Some(slot))
            }
            (TopicLife::Deleted, _) => Ok(None),
            _ => Err(StorageError::Damaged {
                path: "the journal".into(),
                what: format!("it holds partition {key}, which the catalogue never had"),
            }),
        }
    }
}

fn damaged_entry(entry: &Entry) -> StorageError {
    StorageError::Damaged {
        path: "the journal".into(),
        what: format!(
            "an entry of partition {} has a valid checksum but cannot be read",
            entry.key
        ),
    }
}
