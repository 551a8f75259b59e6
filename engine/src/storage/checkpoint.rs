//! A shard's state as of an LSN. A [`RecordLog`](super::record_log) holds it: a full record first, then what changed.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use gannet_wire::limits::{GROUP_NAME_BYTES_MAX, OFFSET_METADATA_BYTES_MAX};
use gannet_wire::{Offset, PartitionIndex, Timestamp, TopicId};

use super::append_clock::{Behind, Jump};
use super::record_log::RECORD_BYTES_MAX;
use super::recovery::{Cut, JournalState};
use super::segment::{Run, SegmentRef, insert_run};
use super::{Generation, Lsn, PartitionKey, SegmentId, StorageError};
use crate::cursor::GROUPS_MAX;
use crate::limits::{PRODUCER_INFLIGHT_MAX, PRODUCERS_MAX};

/// The newest checkpoint format this program reads.
pub const CHECKPOINT_VERSION: u32 = 2;
/// The first one that says what the append clock remembers. It stands before the record, which is at the end in all versions.
const CLOCK_VERSION: u32 = 2;
const CLOCK_LENGTH_BYTES: usize = size_of::<u32>();

/// One checkpoint: everything, or what changed since the one before.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct CheckpointRecord {
    /// [`CHECKPOINT_VERSION`].
    pub version: u32,
    /// Everything up to here is in segments.
    pub flushed_lsn: u64,
    /// Everything up to here was durable.
    pub durable_lsn: u64,
    /// The newest journal life in use.
    pub generation: u64,
    /// The append clock, in milliseconds since the Unix epoch; 0 before it was first started.
    pub append_clock_ms: i64,
    /// Cuts: generation, end LSN, newest LSN seen.
    pub cuts: Vec<(u64, u64, u64)>,
    /// Partitions that changed. Runs are those that are new or grew; everything else replaces what was known.
    pub partitions: Vec<PartitionRecord>,
    /// Topics that are gone.
    pub topics_dropped: Vec<u64>,
    /// What the append clock remembers of jumps.
    #[rkyv(with = rkyv::with::Skip)]
    pub clock: ClockRecord,
}

/// What the append clock remembers, in a checkpoint.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct ClockRecord {
    /// The first stamp given while the clock is behind the wall clock.
    pub behind_from_ms: Option<i64>,
    /// Jumps: first stamp, last stamp, by how much.
    pub jumps: Vec<(i64, i64, i64)>,
}

/// A partition in a checkpoint.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[allow(missing_docs, reason = "the fields of Partition")]
pub struct PartitionRecord {
    pub topic: u64,
    pub partition: u32,
    pub log_start: u64,
    pub next_offset: u64,
    pub leader_epoch: u32,
    pub fences: Vec<(u64, u64)>,
    pub runs: Vec<RunRecord>,
    pub producers: Vec<ProducerRecord>,
    pub committed: Vec<CommittedRecord>,
}

/// A run in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[allow(missing_docs, reason = "the fields of Run")]
pub struct RunRecord {
    pub segment: u64,
    pub shared: bool,
    pub base_offset: u64,
    pub next_offset: u64,
    pub position: u64,
    pub end: u64,
    pub max_timestamp: i64,
    pub append_time: i64,
}

/// An idempotent producer in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[allow(missing_docs, reason = "the fields of the producers' table")]
pub struct ProducerRecord {
    pub id: u64,
    pub epoch: u32,
    pub last_append: i64,
    pub window: Vec<WindowRecord>,
}

/// A batch of an idempotent producer in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[allow(missing_docs, reason = "the fields of WindowBatch")]
pub struct WindowRecord {
    pub base_sequence: u32,
    pub record_count: u32,
    pub base_offset: u64,
    pub append_time: i64,
}

/// A committed offset in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[allow(missing_docs, reason = "the fields of Committed")]
pub struct CommittedRecord {
    pub group: String,
    pub offset: u64,
    pub metadata: String,
    pub lsn: u64,
}

/// All checkpoints of a log put together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointState {
    /// What recovery needs.
    pub journal: JournalState,
    /// The append clock; `None` before the first checkpoint.
    pub append_clock_ms: Option<i64>,
    /// What it remembers of jumps.
    pub behind: Behind,
    /// The partitions, by key.
    pub partitions: BTreeMap<PartitionKey, PartitionRecord>,
}

/// Why a checkpoint's bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFault {
    /// Not a checkpoint, although the log's checksum matched.
    #[error("a checkpoint cannot be read")]
    Malformed,
    /// Written by a newer program.
    #[error("a checkpoint has format version {0}, which is newer than this program")]
    Newer(u32),
}

impl CheckpointFault {
    /// What a start says of it, which `path` is the log of.
    #[must_use]
    pub fn of(self, path: &Path) -> StorageError {
        let path = path.display().to_string();
        match self {
            Self::Newer(found) => StorageError::Newer {
                path,
                found,
                known: CHECKPOINT_VERSION,
            },
            Self::Malformed => StorageError::Damaged {
                path,
                what: self.to_string(),
            },
        }
    }
}

impl CheckpointRecord {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let record = rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .expect("memory is the only thing that can be missing");
        if self.version < CLOCK_VERSION {
            return record.into_vec();
        }
        let clock = rkyv::to_bytes::<rkyv::rancor::Error>(&self.clock)
            .expect("memory is the only thing that can be missing");
        let length = u32::try_from(clock.len()).expect("the jumps are few");
        let mut bytes = Vec::with_capacity(CLOCK_LENGTH_BYTES + clock.len() + record.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&clock);
        bytes.extend_from_slice(&record);
        bytes
    }

    /// The record in parts that the log takes, as bytes; together they say the same.
    #[must_use]
    pub fn encode_in_parts(self) -> Vec<Vec<u8>> {
        let parts = self.into_parts(PART_BYTES_MAX);
        parts.iter().map(Self::encode).collect()
    }

    /// Parts of about `bytes_max` at most, unless a single partition takes more.
    fn into_parts(mut self, bytes_max: usize) -> Vec<Self> {
        let partitions = std::mem::take(&mut self.partitions);
        let mut parts = Vec::new();
        let mut bytes = 0;
        for partition in partitions {
            let more = partition.encoded_bytes_max();
            if bytes > 0 && bytes + more > bytes_max {
                // What is dropped is dropped before anything is added, so the first part says it for all.
                let next = self.clone_head();
                parts.push(std::mem::replace(&mut self, next));
                bytes = 0;
            }
            bytes += more;
            self.partitions.push(partition);
        }
        parts.push(self);
        parts
    }

    fn clone_head(&self) -> Self {
        Self {
            cuts: self.cuts.clone(),
            partitions: Vec::new(),
            topics_dropped: Vec::new(),
            clock: self.clock.clone(),
            ..*self
        }
    }

    /// Reads a record's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointFault> {
        let mut record = rkyv::from_bytes::<Self, rkyv::rancor::Error>(bytes)
            .map_err(|_| CheckpointFault::Malformed)?;
        if record.version > CHECKPOINT_VERSION {
            return Err(CheckpointFault::Newer(record.version));
        }
        if record.version >= CLOCK_VERSION {
            record.clock = ClockRecord::decode(bytes).ok_or(CheckpointFault::Malformed)?;
        }
        Ok(record)
    }
}

impl ClockRecord {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<CLOCK_LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        rkyv::from_bytes::<Self, rkyv::rancor::Error>(rest.get(..length)?).ok()
    }

    fn to_behind(&self) -> Behind {
        Behind {
            from_ms: self.behind_from_ms,
            jumps: self
                .jumps
                .iter()
                .map(|(from_ms, to_ms, by_ms)| Jump {
                    from_ms: *from_ms,
                    to_ms: *to_ms,
                    by_ms: *by_ms,
                })
                .collect(),
        }
    }
}

impl From<&Behind> for ClockRecord {
    fn from(behind: &Behind) -> Self {
        Self {
            behind_from_ms: behind.from_ms,
            jumps: behind
                .jumps
                .iter()
                .map(|jump| (jump.from_ms, jump.to_ms, jump.by_ms))
                .collect(),
        }
    }
}

impl CheckpointState {
    /// Puts the records of a log together.
    pub fn load(records: &[Vec<u8>]) -> Result<Self, CheckpointFault> {
        let mut state = Self::default();
        for bytes in records {
            state.apply(CheckpointRecord::decode(bytes)?);
        }
        Ok(state)
    }

    /// Takes one more record.
    pub fn apply(&mut self, record: CheckpointRecord) {
        self.journal = JournalState {
            flushed_lsn: Lsn(record.flushed_lsn),
            durable_lsn: Lsn(record.durable_lsn),
            generation: Generation(record.generation),
            cuts: record
                .cuts
                .iter()
                .map(|(generation, end, seen)| Cut {
                    generation: Generation(*generation),
                    end_lsn: Lsn(*end),
                    seen_lsn: Lsn(*seen),
                })
                .collect(),
        };
        // The first checkpoint of a new data directory has no time yet: a clock that began at zero would be off the wall clock by decades,
        // and not follow it for an hour.
        self.append_clock_ms = (record.append_clock_ms != 0).then_some(record.append_clock_ms);
        self.behind = record.clock.to_behind();
        for topic in record.topics_dropped {
            self.partitions.retain(|key, _| key.topic != TopicId(topic));
        }
        for mut changed in record.partitions {
            let known = self.partitions.entry(changed.key()).or_default();
            let mut runs = std::mem::take(&mut known.runs);
            for run in &changed.runs {
                insert_record(&mut runs, run);
            }
            let gone = runs.partition_point(|run| run.next_offset <= changed.log_start);
            runs.drain(..gone);
            changed.runs = runs;
            *known = changed;
        }
    }

    /// Forgets producers that sent nothing for so long.
    pub fn drop_expired_producers(&mut self, now: Timestamp, expiry_ms: i64) {
        for partition in self.partitions.values_mut() {
            partition
                .producers
                .retain(|producer| now.0.saturating_sub(producer.last_append) <= expiry_ms);
        }
    }

    /// A full record, as a new log begins with.
    #[must_use]
    pub fn to_record(&self) -> CheckpointRecord {
        CheckpointRecord {
            version: CHECKPOINT_VERSION,
            flushed_lsn: self.journal.flushed_lsn.0,
            durable_lsn: self.journal.durable_lsn.0,
            generation: self.journal.generation.0,
            append_clock_ms: self.append_clock_ms.unwrap_or_default(),
            cuts: cut_records(&self.journal.cuts),
            partitions: self.partitions.values().cloned().collect(),
            topics_dropped: Vec::new(),
            clock: ClockRecord::from(&self.behind),
        }
    }
}

/// [`insert_run`] where the others are records: it looks at no more than the neighbours and what is covered, so they are all that is put together again.
fn insert_record(records: &mut Vec<RunRecord>, run: &RunRecord) {
    let at = records.partition_point(|other| other.base_offset < run.base_offset);
    let behind = records.partition_point(|other| other.base_offset < run.next_offset);
    let near = at.saturating_sub(1)..behind.max(at + 1).min(records.len());
    let mut runs: VecDeque<Run> = records
        .get(near.clone())
        .unwrap_or_default()
        .iter()
        .map(RunRecord::to_run)
        .collect();
    insert_run(&mut runs, run.to_run());
    records.splice(near, runs.iter().map(RunRecord::from));
}

/// Cuts as a record holds them.
#[must_use]
pub fn cut_records(cuts: &[Cut]) -> Vec<(u64, u64, u64)> {
    cuts.iter()
        .map(|cut| (cut.generation.0, cut.end_lsn.0, cut.seen_lsn.0))
        .collect()
}

impl PartitionRecord {
    /// An upper bound of what it takes in a checkpoint.
    fn encoded_bytes_max(&self) -> usize {
        let producers = self.producers.iter();
        let committed = self.committed.iter();
        128 + 16 * self.fences.len()
            + size_of::<RunRecord>() * self.runs.len()
            + producers
                .map(|producer| PRODUCER_BYTES_MAX + WINDOW_BYTES_MAX * producer.window.len())
                .sum::<usize>()
            + committed
                .map(|committed| {
                    COMMITTED_BYTES_MAX + committed.group.len() + committed.metadata.len()
                })
                .sum::<usize>()
    }

    /// Which partition.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        PartitionKey {
            topic: TopicId(self.topic),
            partition: PartitionIndex(self.partition),
        }
    }
}

impl RunRecord {
    /// The run.
    #[must_use]
    pub fn to_run(&self) -> Run {
        Run {
            segment: SegmentRef {
                id: SegmentId(self.segment),
                shared: self.shared,
            },
            base_offset: Offset(self.base_offset),
            next_offset: Offset(self.next_offset),
            position: self.position,
            end: self.end,
            max_timestamp: Timestamp(self.max_timestamp),
            append_time: Timestamp(self.append_time),
        }
    }
}

impl From<&Run> for RunRecord {
    fn from(run: &Run) -> Self {
        Self {
            segment: run.segment.id.0,
            shared: run.segment.shared,
            base_offset: run.base_offset.0,
            next_offset: run.next_offset.0,
            position: run.position,
            end: run.end,
            max_timestamp: run.max_timestamp.0,
            append_time: run.append_time.0,
        }
    }
}

/// What a part of a checkpoint takes at most, unless a single partition takes more.
const PART_BYTES_MAX: usize = 64 << 20;
const PRODUCER_BYTES_MAX: usize = size_of::<ProducerRecord>();
const WINDOW_BYTES_MAX: usize = size_of::<WindowRecord>();
const COMMITTED_BYTES_MAX: usize = size_of::<CommittedRecord>();

const _: () = assert!(
    PART_BYTES_MAX
        + PRODUCERS_MAX
            * (PRODUCER_BYTES_MAX + 2 * PRODUCER_INFLIGHT_MAX as usize * WINDOW_BYTES_MAX)
        + GROUPS_MAX * (COMMITTED_BYTES_MAX + GROUP_NAME_BYTES_MAX + OFFSET_METADATA_BYTES_MAX)
        < RECORD_BYTES_MAX,
    "the largest partition has its place in one record"
);

#[cfg(test)]
mod tests;
