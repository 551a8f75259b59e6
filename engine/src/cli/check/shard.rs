//! One shard: its checkpoint, its journal as recovery would see it, and the partitions that come of both.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use gannet_wire::{Offset, ShardIndex, Timestamp};

use super::coverage::Coverage;
use super::report::Report;
use super::{Stop, runs};
use crate::cli::examine::disk::{ReadOnlyDisk, now};
use crate::cli::exit::Failure;
use crate::control::catalogue::{CatalogueState, TopicLife};
use crate::storage::checkpoint::{CheckpointFault, CheckpointState, PartitionRecord};
use crate::storage::commit::{Entry, EntryKind};
use crate::storage::journal::JournalContents;
use crate::storage::layout::{CHECKPOINT_NAME, DataDir};
use crate::storage::record_log::RecordLog;
use crate::storage::recovery::{Plan, Row, Step, plan};
use crate::storage::segment::{DirectRun, Run, SegmentRef};
use crate::storage::slice::Slice;
use crate::storage::{PartitionKey, SegmentId};

/// A partition as checkpoint and journal together have it.
#[derive(Default)]
struct Stored {
    record: PartitionRecord,
    runs: Vec<Run>,
    coverage: Coverage,
}

/// Checks the shard; the segments that it names join `named`.
pub(super) fn check<W: Write>(
    data: &DataDir,
    catalogue: &CatalogueState,
    shard: ShardIndex,
    named: &mut HashSet<SegmentId>,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    let dir = data.shard(catalogue.layout.number, shard);
    let loaded =
        now(RecordLog::load(&ReadOnlyDisk, &dir, CHECKPOINT_NAME)).map_err(Failure::from)?;
    if loaded.is_none() {
        report.damaged(format_args!("shard {shard}: there is no checkpoint"))?;
    }
    let state =
        match CheckpointState::load(&loaded.map(|loaded| loaded.records).unwrap_or_default()) {
            Ok(state) => state,
            Err(fault @ CheckpointFault::Newer(_)) => {
                return Err(Failure::from(fault.of(&dir.join(CHECKPOINT_NAME))).into());
            }
            Err(fault @ CheckpointFault::Malformed) => {
                report.damaged(format_args!("shard {shard}: {fault}"))?;
                return Ok(());
            }
        };
    let journal = now(JournalContents::scan(
        &ReadOnlyDisk,
        &data.journal(catalogue.layout.number, shard),
        state.journal.flushed_lsn,
    ))
    .map_err(Failure::from)?;
    for path in journal.damaged_files() {
        report.damaged(format_args!(
            "shard {shard}: journal file {} is damaged; it is kept and not used again until an operator removes it and the note beside it",
            path.display()
        ))?;
    }
    let decision = plan(&state.journal, &journal.lives, journal.found);
    let mut partitions: BTreeMap<PartitionKey, Stored> = BTreeMap::new();
    for (key, record) in state.partitions {
        partitions.insert(key, Stored::of(record));
    }
    read_journal(shard, &decision, &mut partitions, report)?;
    for (key, stored) in partitions {
        named.extend(stored.runs.iter().map(|run| run.segment.id));
        match catalogue.life(key.topic) {
            TopicLife::Live => check_partition(data, catalogue, key, stored, report)?,
            TopicLife::Deleted => {}
            TopicLife::NeverGivenOut => {
                report.damaged(format_args!(
                    "shard {shard}: partition {key} is of a topic that the catalogue never had"
                ))?;
            }
        }
    }
    Ok(())
}

/// What recovery would make of the journal.
fn read_journal<W: Write>(
    shard: ShardIndex,
    decision: &Plan,
    partitions: &mut BTreeMap<PartitionKey, Stored>,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    for step in &decision.steps {
        match step {
            Step::Replay(commit) => {
                report.commits += 1;
                for entry in &commit.entries {
                    apply(shard, entry, &commit.bytes, partitions, report)?;
                }
            }
            Step::Salvage {
                lsn,
                whole,
                lost,
                bytes,
                ..
            } => {
                report.commits += 1;
                for entry in whole {
                    apply(shard, entry, bytes, partitions, report)?;
                }
                if lost.is_empty() {
                    report.damaged(format_args!(
                        "shard {shard}, commit {lsn} of the journal is damaged; all that it holds is whole and is kept"
                    ))?;
                }
                for entry in lost {
                    report.damaged(format_args!(
                        "shard {shard}, commit {lsn} of the journal: offsets {}..{} of partition {} are lost",
                        entry.base_offset,
                        entry.next_offset(),
                        entry.key
                    ))?;
                    partitions.entry(entry.key).or_default().coverage.add(entry.base_offset..entry.next_offset());
                }
            }
            Step::Lost { first, last } => report.damaged(format_args!(
                "shard {shard}: commits {first} to {last} of the journal are lost, and with them any offsets they held"
            ))?,
        }
    }
    let behind = [Row::TornTail, Row::BehindCut]
        .iter()
        .filter_map(|row| decision.rows.get(row))
        .sum::<u64>();
    if behind > 0 {
        report.torn_tail(format_args!(
            "shard {shard}: the journal ends with commit {}; {behind} behind it were never acknowledged, and a start cuts them",
            decision.end_lsn
        ))?;
    }
    Ok(())
}

/// Takes an entry that is whole into account.
fn apply<W: Write>(
    shard: ShardIndex,
    entry: &Entry,
    commit: &Slice,
    partitions: &mut BTreeMap<PartitionKey, Stored>,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    let stored = partitions.entry(entry.key).or_default();
    let offsets = entry.base_offset..entry.next_offset();
    match entry.kind {
        EntryKind::CommittedOffset => {}
        EntryKind::Batch => stored.coverage.add(offsets),
        EntryKind::DirectRun => {
            let bytes = entry.bytes_in(commit).unwrap_or_default();
            match rkyv::from_bytes::<DirectRun, rkyv::rancor::Error>(bytes) {
                Ok(direct) => {
                    let run = Run {
                        segment: SegmentRef {
                            id: SegmentId(direct.segment),
                            shared: false,
                        },
                        base_offset: offsets.start,
                        next_offset: offsets.end,
                        position: direct.position,
                        end: direct.end,
                        max_timestamp: Timestamp(direct.max_timestamp),
                        append_time: Timestamp(direct.append_time),
                    };
                    stored.coverage.add(offsets);
                    // One that the checkpoint has already is part of a run there.
                    if run.next_offset > Offset(stored.record.next_offset) {
                        stored.runs.push(run);
                    }
                }
                Err(_) => report.damaged(format_args!(
                    "shard {shard}: an entry of partition {} in the journal has a valid checksum but cannot be read",
                    entry.key
                ))?,
            }
        }
    }
    Ok(())
}

fn check_partition<W: Write>(
    data: &DataDir,
    catalogue: &CatalogueState,
    key: PartitionKey,
    stored: Stored,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    report.partitions += 1;
    let name = catalogue.topics.get(&key.topic).map_or_else(
        || key.to_string(),
        |topic| format!("{}/{}", topic.name, key.partition),
    );
    for (from, to) in &stored.record.fences {
        report.damaged(format_args!(
            "{name}: offsets {from}..{to} were found damaged by an earlier start and are fenced"
        ))?;
    }
    for run in &stored.runs {
        runs::check(data, key, &name, run, report)?;
    }
    let record = &stored.record;
    for gap in stored
        .coverage
        .gaps(Offset(record.log_start), Offset(record.next_offset))
    {
        report.damaged(format_args!(
            "{name}: offsets {}..{} are in no segment and not in the journal",
            gap.start, gap.end
        ))?;
    }
    Ok(())
}

impl Stored {
    fn of(record: PartitionRecord) -> Self {
        let mut coverage = Coverage::default();
        let runs: Vec<Run> = record.runs.iter().map(|run| run.to_run()).collect();
        for run in &runs {
            coverage.add(run.base_offset..run.next_offset);
        }
        for (from, to) in &record.fences {
            coverage.add(Offset(*from)..Offset(*to));
        }
        Self {
            record,
            runs,
            coverage,
        }
    }
}
