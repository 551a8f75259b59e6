//! One damage, a start on what it left, and whether what came of it is what it had to cost.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use gannet_engine::io::sim::{CrashPolicy, SimClock, SimDisk, SimExecutor};
use gannet_engine::shard::log::ShardLog;
use gannet_engine::shard::read::{ReadCursor, ReadError};
use gannet_engine::shard::slot::{Completion, Outcome as Answer, Slot};
use gannet_engine::storage::index::SegmentIndex;
use gannet_engine::storage::layout::{FilePlace, JOURNAL_KEPT_SUFFIX};
use gannet_engine::storage::recovery::Row;
use gannet_engine::storage::{PartitionKey, StorageError};
use gannet_wire::batch::{BatchHeader, STAMP_BYTES, verify_stamped};
use gannet_wire::frame::{Durability, Start};
use gannet_wire::{Offset, Timestamp};

use super::Outcome;
use super::sample::{Answers, PartitionTruth, READ_BYTES, SHARDS, Sample, Truth, home};
use super::toll::{Toll, join};
use crate::world::batches::{Shape, checked, make_batch};
use crate::world::broker::{Broker, Home};
use crate::world::disk::WorldDisk;

type Log = ShardLog<WorldDisk, SimClock>;

/// What happens to a file behind the product's back.
#[derive(Clone, Debug)]
pub(super) enum Damage<'a> {
    /// A bit (0 to 7) of a byte is another one.
    Flipped { path: &'a Path, byte: u64, bit: u32 },
    /// Other bytes stand there.
    Overwritten {
        path: &'a Path,
        position: u64,
        contents: Vec<u8>,
    },
    /// The sector cannot be read.
    Unreadable { path: &'a Path, position: u64 },
}

impl Damage<'_> {
    fn path(&self) -> &Path {
        match self {
            Self::Flipped { path, .. }
            | Self::Overwritten { path, .. }
            | Self::Unreadable { path, .. } => path,
        }
    }

    fn strike(&self, disk: &SimDisk) {
        match self {
            Self::Flipped { path, byte, bit } => disk.flip_bit(path, *byte, *bit),
            Self::Overwritten {
                path,
                position,
                contents,
            } => disk.overwrite(path, *position, contents),
            Self::Unreadable { path, position } => disk.fail_sector(path, *position),
        }
    }
}

/// What a start on a damaged directory led to.
pub(super) enum Ended {
    Served(Found),
    Refused(StorageError),
}

/// What a broker serves from a damaged directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    rows: BTreeSet<Row>,
    /// What the start said that is lost.
    reported: Vec<(PartitionKey, u64, u64)>,
    /// Whether a journal file is kept for an operator.
    keeps_file: bool,
    /// Whether the data was moved to other shards: then it is the drained ones that met the damage, of which nobody reports.
    moved: bool,
    partitions: BTreeMap<PartitionKey, FoundPartition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FoundPartition {
    end: u64,
    /// Ranges that reading says are lost, joined.
    missing: Vec<(u64, u64)>,
    /// What the partition itself says is lost, once it was read.
    fences: Vec<(u64, u64)>,
    groups: BTreeMap<String, Option<u64>>,
}

/// Does the damage, starts the broker, looks at everything, goes on, and starts once more. `Err`: what must never happen.
pub(super) fn start_on(
    sample: &Sample,
    damages: &[Damage<'_>],
    shards: u16,
) -> Result<(Ended, SimDisk), String> {
    let executor = SimExecutor::new(SEED);
    let disk = sample.disk.snapshot(&executor);
    for damage in damages {
        damage.strike(&disk);
    }
    let home = home(&executor, &disk);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        live_twice(&executor, &disk, &home, &sample.truth, shards)
    }));
    match lived {
        Ok(ended) => ended.map(|ended| (ended, disk)),
        Err(panic) => {
            // Its tasks are in no state to be dropped.
            std::mem::forget((executor, disk, home));
            let what = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", what.unwrap_or("no message")))
        }
    }
}

/// What a damage led to, or why that is wrong.
pub(super) fn judge(
    sample: &Sample,
    toll: &Toll,
    damage: &Damage<'_>,
    shards: u16,
) -> Result<Outcome, String> {
    let (ended, disk) = start_on(sample, std::slice::from_ref(damage), shards)?;
    let found = match ended {
        Ended::Served(found) => found,
        Ended::Refused(error) => return Err(format!("the start was refused: {error}")),
    };
    found.matches(&sample.truth, toll)?;
    if toll.rebuilds {
        let bytes = disk.read_file(damage.path());
        if bytes.is_some_and(|bytes| {
            SegmentIndex::decode(&bytes, FilePlace::of(damage.path())).is_some()
        }) {
            return Err("a damaged index is believed".to_owned());
        }
        return Ok(Outcome::Rebuilt);
    }
    Ok(if toll.is_tail {
        Outcome::TailCut
    } else if !toll.records.is_empty() {
        Outcome::Fenced
    } else if !toll.groups.is_empty() {
        Outcome::OlderOffset
    } else if found.keeps_file {
        Outcome::Salvaged
    } else {
        Outcome::Whole
    })
}

/// What damage to both copies of a record led to.
pub(super) fn judge_twins(sample: &Sample, flips: [Damage<'_>; 2]) -> Result<Outcome, String> {
    match start_on(sample, &flips, SHARDS)?.0 {
        Ended::Served(_) => Err("it was served".to_owned()),
        Ended::Refused(error @ StorageError::Damaged { .. }) => {
            let sentence = error.to_string();
            let says = ["is damaged", "/data/", "restore the file from a copy"];
            match says.iter().find(|part| !sentence.contains(*part)) {
                Some(part) => Err(format!("{sentence:?} does not say {part:?}")),
                None => Ok(Outcome::Refused),
            }
        }
        Ended::Refused(error) => Err(format!("it was refused as {error}")),
    }
}

fn live_twice(
    executor: &SimExecutor,
    disk: &SimDisk,
    home: &Home,
    truth: &Truth,
    shards: u16,
) -> Result<Ended, String> {
    let steps = |what: &str, stopped| format!("{what} did not end: {stopped:?}");
    let first = executor
        .block_on_steps(
            Life::begin(home, truth, &BTreeMap::new(), shards),
            STEPS_MAX,
        )
        .map_err(|stopped| steps("a start and reading everything", stopped))?;
    let (life, mut found) = match first {
        Ok(life) => life?,
        Err(error) => return Ok(Ended::Refused(error)),
    };
    let added = executor
        .block_on_steps(life.go_on(home, truth, &found), STEPS_MAX)
        .map_err(|stopped| steps("going on and a clean stop", stopped))??;
    executor.crash();
    drop(life);
    disk.crash(CrashPolicy::ProcessKilled);
    found.moved = shards != SHARDS;
    found.keeps_file = disk
        .list_tree()
        .iter()
        .any(|(path, _)| path.to_string_lossy().ends_with(JOURNAL_KEPT_SUFFIX));
    let second = executor
        .block_on_steps(Life::begin(home, truth, &added, shards), STEPS_MAX)
        .map_err(|stopped| steps("the second start", stopped))?;
    let (life, again) =
        second.map_err(|error| format!("the second start was refused: {error}"))??;
    executor.crash();
    drop(life);
    found.is_kept_by(&again, &added)?;
    Ok(Ended::Served(found))
}

/// Batches that were appended after the first start, by partition: where, and as they were sent.
type Added = BTreeMap<PartitionKey, (u64, Bytes)>;

/// A broker on a damaged directory.
struct Life {
    broker: Rc<Broker>,
}

impl Life {
    /// Starts, and reads everything. The outer error is a start that was refused, the inner one what must not be.
    async fn begin(
        home: &Home,
        truth: &Truth,
        added: &Added,
        shards: u16,
    ) -> Result<Result<(Self, Found), String>, StorageError> {
        let broker = Broker::start(home, shards).await?;
        let life = Self { broker };
        let found = life.look(truth, added).await;
        Ok(found.map(|found| (life, found)))
    }

    async fn look(&self, truth: &Truth, added: &Added) -> Result<Found, String> {
        let mut found = Found::default();
        for report in &self.broker.reports {
            found.rows.extend(report.rows.keys().copied());
            let reported = report.fences.iter();
            found
                .reported
                .extend(reported.map(|(key, from, to)| (*key, from.0, to.0)));
        }
        self.look_at_topics(truth)?;
        for (key, partition) in &truth.partitions {
            let (log, slot) = self
                .broker
                .slot(*key)
                .ok_or_else(|| format!("nobody owns {key}"))?;
            let seen = look_at_partition(&log, &slot, partition, added.get(key))
                .await
                .map_err(|what| format!("{key}: {what}"))?;
            found.partitions.insert(*key, seen);
        }
        match self.broker.failure() {
            Some(error) => Err(format!("the broker failed: {error}")),
            None => Ok(found),
        }
    }

    fn look_at_topics(&self, truth: &Truth) -> Result<(), String> {
        let catalogue = self.broker.catalogue.borrow();
        let state = catalogue
            .as_ref()
            .map(|catalogue| catalogue.state())
            .ok_or("the catalogue is gone")?;
        match state.names == truth.topics {
            true => Ok(()),
            false => Err(format!("the topics are {:?}", state.names)),
        }
    }

    /// Publishes to every partition, and stops; returns what was added.
    async fn go_on(&self, home: &Home, truth: &Truth, found: &Found) -> Result<Added, String> {
        let answers: Rc<Answers> = Rc::default();
        let mut added = Added::new();
        for (token, (key, partition)) in (0u64..).step_by(2).zip(&truth.partitions) {
            let Some((log, slot)) = self.broker.slot(*key) else {
                return Err(format!("nobody owns {key}"));
            };
            let seen = &found.partitions[key];
            let is_whole = seen.missing.is_empty() && seen.end == partition.end;
            if let Some((bytes, base)) = partition.resend.as_ref().filter(|_| is_whole) {
                let completion = Completion::new(answers.clone(), token);
                log.publish(&slot, checked(bytes), Durability::Durable, completion);
                match answers.wait(home, token).await {
                    Answer::Published {
                        base_offset,
                        duplicate: true,
                        ..
                    } if base_offset.0 == *base => {}
                    other => return Err(format!("{key}: sent again, a batch got {other:?}")),
                }
            }
            let shape = Shape {
                records: 1,
                bytes: 200,
            };
            let batch = make_batch(1_000 + token, shape, (0, 0), None);
            let completion = Completion::new(answers.clone(), token + 1);
            log.publish(&slot, checked(&batch), Durability::Durable, completion);
            match answers.wait(home, token + 1).await {
                Answer::Published { base_offset, .. } if base_offset.0 == seen.end => {
                    added.insert(*key, (base_offset.0, batch));
                }
                other => return Err(format!("{key}: at {} a batch got {other:?}", seen.end)),
            }
        }
        self.broker.stop();
        self.broker.stopped().await;
        match self.broker.failure() {
            Some(error) => Err(format!("the broker failed: {error}")),
            None => Ok(added),
        }
    }
}

async fn look_at_partition(
    log: &Rc<Log>,
    slot: &Rc<Slot>,
    truth: &PartitionTruth,
    added: Option<&(u64, Bytes)>,
) -> Result<FoundPartition, String> {
    let mut found = FoundPartition {
        end: slot.state.borrow().durable_offset().0,
        ..FoundPartition::default()
    };
    let mut cursor = ReadCursor::at(Offset(0));
    while cursor.offset.0 < found.end {
        let wanted = cursor.offset.0;
        match log.read(slot, &mut cursor, READ_BYTES).await {
            Ok(batches) if batches.is_empty() => {
                return Err(format!("reading ends at {wanted} before {}", found.end));
            }
            Ok(batches) => {
                let mut next = wanted;
                for batch in &batches {
                    next = check_batch(slot.key(), batch, next, truth, added)?;
                }
                if next != cursor.offset.0 {
                    return Err(format!("reading from {wanted} ends at {next}"));
                }
            }
            Err(ReadError::Fenced(fence)) if fence.from.0 == wanted && fence.to.0 > wanted => {
                match found.missing.last_mut() {
                    Some((_, to)) if *to == wanted => *to = fence.to.0,
                    _ => found.missing.push((wanted, fence.to.0)),
                }
                cursor = ReadCursor::at(fence.to);
            }
            Err(error) => return Err(format!("reading from {wanted}: {error}")),
        }
    }
    look_up(log, slot, truth, added, &found).await?;
    let state = slot.state.borrow();
    found.fences = state
        .damaged()
        .iter()
        .map(|fence| (fence.from.0, fence.to.0))
        .collect();
    for group in truth.groups.keys() {
        let offset = state.committed.fetch(group).map(|known| known.offset.0);
        found.groups.insert(group.clone(), offset);
    }
    Ok(found)
}

/// Whether a batch is the one that was stored there; returns where the next one begins.
fn check_batch(
    key: PartitionKey,
    batch: &[u8],
    expected: u64,
    truth: &PartitionTruth,
    added: Option<&(u64, Bytes)>,
) -> Result<u64, String> {
    let header = verify_stamped(batch, key.topic, key.partition)
        .map_err(|error| format!("a batch at {expected} does not prove itself: {error}"))?;
    let base = header.base_offset().0;
    let known = truth
        .batches
        .get(&base)
        .is_some_and(|known| *known == *batch);
    let is_added = added.is_some_and(|(at, sent)| {
        *at == base && sent.get(STAMP_BYTES..) == batch.get(STAMP_BYTES..)
    });
    if base != expected || !(known || is_added) {
        return Err(format!("a wrong batch at {expected}: it says {base}"));
    }
    Ok(header.next_offset().0)
}

/// Reading from the middle and by time, as the indexes lead there.
async fn look_up(
    log: &Rc<Log>,
    slot: &Rc<Slot>,
    truth: &PartitionTruth,
    added: Option<&(u64, Bytes)>,
    found: &FoundPartition,
) -> Result<(), String> {
    for (base, timestamp) in &truth.timestamps {
        // Where the tail was cut, another batch got its offset.
        let is_there = *base < found.end
            && added.is_none_or(|(at, _)| at != base)
            && !found
                .missing
                .iter()
                .any(|(from, to)| (from..to).contains(&base));
        if !is_there {
            continue;
        }
        let mut cursor = ReadCursor::at(Offset(*base));
        let first = log.read(slot, &mut cursor, 1).await;
        let first = first
            .map_err(|error| format!("reading at {base}: {error}"))?
            .into_iter()
            .next()
            .ok_or_else(|| format!("nothing is at {base}"))?;
        let header = BatchHeader::read_from_prefix_of(&first).map_err(|error| error.to_string())?;
        if header.base_offset().0 != *base {
            return Err(format!("at {base} is {}", header.base_offset()));
        }
        let at = log
            .start_offset(slot, Start::Timestamp(Timestamp(*timestamp)))
            .await
            .map_err(|error| format!("looking for {timestamp}: {error}"))?;
        if at.0 != *base {
            return Err(format!("looking for {timestamp} gave {at} and not {base}"));
        }
    }
    Ok(())
}

impl Found {
    /// Whether everything is there but what the damage had to cost, and that is said.
    pub(super) fn matches(&self, truth: &Truth, toll: &Toll) -> Result<(), String> {
        let mut reported = BTreeMap::new();
        for (key, partition) in &truth.partitions {
            let expected = partition.after(*key, toll);
            let mut found = self.partitions[key].joined();
            if toll.vanishes {
                // Above what it ever gave out it may say that anything is lost, and go on behind that.
                found = found.cut_to(partition.end);
            }
            if found != expected {
                return Err(format!("{key} has {found:?} and not {expected:?}"));
            }
            if !expected.missing.is_empty() {
                reported.insert(*key, expected.missing);
            }
        }
        if !self.moved {
            let rot = self.rows.contains(&Row::Rot);
            if rot && self.reported_up_to_the_end_of(truth, toll) != reported {
                return Err(format!("the start reported {:?}", self.reported));
            }
            let is_reason = rot || toll.may_keep && self.keeps_file;
            if is_reason != self.keeps_file {
                return Err(format!(
                    "rot in the journal is {rot}, and keeping its file {}",
                    self.keeps_file
                ));
            }
        }
        if toll.salvages && !self.keeps_file {
            return Err("the damaged journal file is not kept".to_owned());
        }
        Ok(())
    }

    /// What the start said that is lost; where anything above the end may be, without that.
    fn reported_up_to_the_end_of(
        &self,
        truth: &Truth,
        toll: &Toll,
    ) -> BTreeMap<PartitionKey, Vec<(u64, u64)>> {
        let mut reported: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, from, to) in &self.reported {
            reported.entry(*key).or_default().push((*from, *to));
        }
        for (key, ranges) in &mut reported {
            join(ranges);
            if toll.vanishes {
                let end = truth
                    .partitions
                    .get(key)
                    .map_or(0, |partition| partition.end);
                cut(ranges, end);
            }
        }
        reported.retain(|_, ranges| !ranges.is_empty());
        reported
    }

    /// What was told once holds at the next start.
    fn is_kept_by(&self, again: &Self, added: &Added) -> Result<(), String> {
        for (key, found) in &self.partitions {
            let expected = FoundPartition {
                end: found.end + u64::from(added.contains_key(key)),
                ..found.clone()
            };
            if again.partitions.get(key) != Some(&expected) {
                return Err(format!(
                    "{key} had {expected:?} and has {:?} after another start",
                    again.partitions.get(key)
                ));
            }
        }
        Ok(())
    }
}

impl PartitionTruth {
    /// What is to be found of it.
    fn after(&self, key: PartitionKey, toll: &Toll) -> FoundPartition {
        let lost = toll.records.get(&key).cloned().unwrap_or_default();
        let mut expected = FoundPartition {
            end: toll.ends.get(&key).copied().unwrap_or(self.end),
            missing: lost.clone(),
            fences: lost,
            groups: BTreeMap::new(),
        };
        for (group, offsets) in &self.groups {
            let is_lost = toll.groups.contains(&(key, group.clone()));
            let offset = offsets.iter().rev().nth(usize::from(is_lost)).copied();
            expected.groups.insert(group.clone(), offset);
        }
        expected
    }
}

impl FoundPartition {
    /// The same with ranges that touch as one.
    fn joined(&self) -> Self {
        let mut joined = self.clone();
        join(&mut joined.missing);
        join(&mut joined.fences);
        joined
    }

    /// The same without what is above `end`.
    fn cut_to(mut self, end: u64) -> Self {
        cut(&mut self.missing, end);
        cut(&mut self.fences, end);
        self.end = self.end.min(end);
        self
    }
}

/// Ranges without what is above `end`.
fn cut(ranges: &mut Vec<(u64, u64)>, end: u64) {
    ranges.retain(|(from, _)| *from < end);
    for (_, to) in ranges {
        *to = (*to).min(end);
    }
}

const SEED: u64 = 5;
const STEPS_MAX: u64 = 2_000_000;
