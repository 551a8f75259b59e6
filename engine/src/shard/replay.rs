//! The replay: what recovery decided to keep of the journal goes to its partitions again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use gannet_wire::batch::ProducerStamp;
use gannet_wire::{Offset, Timestamp};

use super::log::LogConfig;
use super::recent::Recent;
use super::recover::{RecoveryReport, ShardIdentity};
use super::slot::Slot;
use crate::control::catalogue::{CatalogueState, TopicLife};
use crate::cursor::CommittedOffset;
use crate::partition::{Partition, TailBatch, WindowBatch};
use crate::storage::append_clock::AppendClock;
use crate::storage::checkpoint::CheckpointState;
use crate::storage::commit::{CommitHead, Entry, EntryKind};
use crate::storage::recovery::Step;
use crate::storage::segment::{DirectRun, Run, SegmentRef, header_at};
use crate::storage::slice::Slice;
use crate::storage::{Lsn, PartitionKey, SegmentId, StorageError};

/// The state that the journal's commits are applied to.
pub(super) struct Replay<'a> {
    catalogue: &'a CatalogueState,
    config: &'a LogConfig,
    now: std::time::Duration,
    pub(super) slots: HashMap<PartitionKey, Rc<Slot>>,
    pub(super) unflushed: VecDeque<Recent>,
    /// Partitions with a batch behind the newest commit that is lost beyond knowing.
    seen_since_lost: Option<HashSet<PartitionKey>>,
    lost_commits: u64,
    /// The newest commit that left a fence or is lost: a flush has to pass it before anything is served.
    pub(super) damaged_through: Option<Lsn>,
    pub(super) report: RecoveryReport,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        state: &CheckpointState,
        catalogue: &'a CatalogueState,
        identity: &ShardIdentity,
        config: &'a LogConfig,
        now: std::time::Duration,
    ) -> Self {
        let mut slots: HashMap<PartitionKey, Rc<Slot>> = state
            .partitions
            .iter()
            .filter_map(|(key, record)| {
                let topic = catalogue.topics.get(&key.topic)?;
                Some((*key, Slot::new(topic.clone(), Partition::restore(record))))
            })
            .collect();
        // IMPORTANT: partitions without a checkpoint have their slots from the start: all they ever held may be in a commit that is lost.
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
        Self {
            catalogue,
            config,
            now,
            slots,
            unflushed: VecDeque::new(),
            seen_since_lost: None,
            lost_commits: 0,
            damaged_through: None,
            report: RecoveryReport::default(),
        }
    }

    pub(super) fn apply(
        &mut self,
        step: Step,
        clock: &mut AppendClock,
    ) -> Result<(), StorageError> {
        match step {
            Step::Replay(commit) => {
                let slots =
                    self.apply_entries(&commit.head, &commit.entries, &commit.bytes, clock)?;
                self.touch(commit.head.identity.lsn, commit.head.commit_bytes, slots);
                Ok(())
            }
            Step::Salvage {
                lsn,
                head,
                whole,
                lost,
                bytes,
            } => {
                for entry in &lost {
                    report_lost_entry(lsn, entry);
                }
                // Gaps that the lost entries leave are fenced when what follows them is applied, or at the end.
                let mut slots = self.apply_entries(&head, &whole, &bytes, clock)?;
                for entry in &lost {
                    let Some(slot) = self.slot(entry.key)? else {
                        continue;
                    };
                    if entry.kind != EntryKind::CommittedOffset {
                        self.fence_up_to(&slot, entry.next_offset());
                    }
                    slots.push(slot);
                }
                self.damaged_through = Some(lsn);
                let held = if whole.is_empty() {
                    0
                } else {
                    head.commit_bytes
                };
                self.touch(lsn, held, slots);
                Ok(())
            }
            Step::Lost { first, last } => {
                tracing::error!(
                    first = first.0,
                    last = last.0,
                    "durable commits are damaged beyond knowing what they held: all partitions of this shard go on in a new term, above any offset they may have had"
                );
                self.lost_commits = self.lost_commits.saturating_add(last.0 - first.0 + 1);
                self.seen_since_lost = Some(HashSet::new());
                self.damaged_through = Some(last);
                let mut slots: Vec<Rc<Slot>> = self.slots.values().cloned().collect();
                slots.sort_unstable_by_key(|slot| slot.key());
                self.touch(last, 0, slots);
                Ok(())
            }
        }
    }

    /// Notes which slots a commit touched: the flush that passes it writes them to the checkpoint, with their fences and terms.
    fn touch(&mut self, lsn: Lsn, bytes: usize, slots: Vec<Rc<Slot>>) {
        if !slots.is_empty() {
            self.unflushed.push_back(Recent {
                lsn,
                bytes: bytes as u64,
                slots,
                released_at: self.now,
            });
        }
    }

    /// Applies entries that are whole; returns the slots they went to.
    fn apply_entries(
        &mut self,
        head: &CommitHead,
        entries: &[Entry],
        commit: &Slice,
        clock: &mut AppendClock,
    ) -> Result<Vec<Rc<Slot>>, StorageError> {
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
        Ok(slots)
    }

    fn apply_batch(&mut self, slot: &Rc<Slot>, lsn: Lsn, entry: &Entry, bytes: Slice) {
        if !self.make_room(slot, lsn, entry) {
            return;
        }
        self.report.batches_replayed += 1;
        self.report.bytes_replayed += bytes.len() as u64;
        let header = header_at(&bytes);
        let producer =
            header.and_then(|header| header.producer().map(|stamp| (stamp, header.append_time())));
        let mut state = slot.state.borrow_mut();
        // A term that was stamped was begun, whatever the checkpoint knows of it.
        if let Some(header) = header {
            state.raise_term(header.leader_epoch());
        }
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
        if !self.make_room(slot, lsn, entry) {
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
            append_time: at,
        };
        state.producers.record(stamp, batch, &self.config.producers);
    }

    /// Fences what is missing before an entry. `false`: the partition has these offsets already.
    fn make_room(&mut self, slot: &Rc<Slot>, lsn: Lsn, entry: &Entry) -> bool {
        if let Some(seen) = &mut self.seen_since_lost {
            seen.insert(entry.key);
        }
        let next_offset = slot.state.borrow().next_offset();
        if entry.base_offset > next_offset {
            tracing::error!(partition = %entry.key, from = %next_offset, to = %entry.base_offset, "offsets are missing from the journal: they are fenced");
            self.fence_up_to(slot, entry.base_offset);
            self.damaged_through = Some(lsn);
        }
        entry.base_offset >= next_offset
    }

    /// Fences everything from a partition's end to `to`, if anything lies between.
    fn fence_up_to(&mut self, slot: &Rc<Slot>, to: Offset) {
        let mut state = slot.state.borrow_mut();
        let from = state.next_offset();
        if to > from {
            state.replay_gap(to);
            self.report.fences.push((slot.key(), from, to));
        }
    }

    /// After a commit that is lost beyond knowing every partition goes on in a new term; those of which nothing later says where they
    /// stood, above any offset that the commit may have held.
    pub(super) fn finish(&mut self) {
        let Some(seen) = self.seen_since_lost.take() else {
            return;
        };
        let records = self.lost_commits.saturating_mul(LOST_COMMIT_RECORDS_MAX);
        let mut slots: Vec<Rc<Slot>> = self.slots.values().cloned().collect();
        slots.sort_unstable_by_key(|slot| slot.key());
        for slot in slots {
            slot.state.borrow_mut().begin_term();
            if !seen.contains(&slot.key()) {
                let above = slot.state.borrow().offset_above(records);
                self.fence_up_to(&slot, above);
            }
        }
    }

    /// A group's offset beyond the end is what remains of records that a disk confirmed and lost, or of a client that committed what never was.
    pub(super) fn report_committed_beyond_end(&mut self) {
        let mut slots: Vec<&Rc<Slot>> = self.slots.values().collect();
        slots.sort_unstable_by_key(|slot| slot.key());
        for slot in slots {
            let state = slot.state.borrow();
            let end = state.next_offset();
            for (group, offset) in state.committed.beyond(end) {
                tracing::warn!(partition = %slot.key(), group, %offset, %end, "a group's committed offset lies beyond the end of its partition: the disk lost records that it had confirmed, or a client committed an offset that never was");
                let found = (slot.key(), group.to_owned(), offset);
                self.report.committed_beyond_end.push(found);
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

fn report_lost_entry(lsn: Lsn, entry: &Entry) {
    match entry.kind {
        EntryKind::Batch | EntryKind::DirectRun => {
            tracing::error!(lsn = lsn.0, partition = %entry.key, from = %entry.base_offset, to = %entry.next_offset(), "durable records are damaged in the journal: their offsets are fenced");
        }
        EntryKind::CommittedOffset => {
            tracing::error!(lsn = lsn.0, partition = %entry.key, "a group's committed offset is damaged in the journal: the one it committed before counts again");
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

/// Offsets that one lost commit may have held at most: as many records as its bytes can carry when they compress as well as they may.
const LOST_COMMIT_RECORDS_MAX: u64 = 1 << 33;
