//! The replay: what recovery decided to keep of the journal goes to its partitions again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use gannet_wire::batch::ProducerStamp;
use gannet_wire::{Offset, Timestamp};

use super::log::{LogConfig, Recent};
use super::recover::RecoveryReport;
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
    pub(super) report: RecoveryReport,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
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

    pub(super) fn apply(
        &mut self,
        step: Step,
        clock: &mut AppendClock,
    ) -> Result<(), StorageError> {
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
    pub(super) fn finish(&mut self) {
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

/// Offsets that one lost commit may have held at most: as many records as its bytes can carry when they compress as well as they may.
const LOST_COMMIT_RECORDS_MAX: u64 = 1 << 33;
