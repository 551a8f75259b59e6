//! Scenario files: one workload in TOML, that every driver runs unchanged.
//!
//! The keys are the fields of [`Scenario`]; each documents its default, and one that is not there keeps it. Unknown keys are refused. A flag given on the command
//! line counts before the key of the same name.

#[cfg(test)]
mod tests;
mod values;

use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::options::{Options, Rate};
use crate::report::Durability;
use crate::sizes::RecordSizes;
use crate::verify::{HEAD_BYTES, RECORD_BYTES_MIN, TINY_DURATION_MAX, TINY_PRODUCERS_MAX};

/// The largest record that is sent to any broker.
const RECORD_BYTES_MAX: usize = 8 << 20;
/// A consumer is a thread.
const CONSUMERS_MAX: u32 = 4096;
/// Anything shorter measures nothing.
const DURATION_MIN: Duration = Duration::from_millis(100);
/// Where a duration is cut short by a flag, at most so much of it is warm-up.
const WARM_UP_SHARE: u32 = 4;
const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What reports call it. Default: the file's name without `.toml`.
    pub name: String,
    /// Producers, each with a thread and a connection of its own. Default: 1.
    pub producers: NonZeroU32,
    /// Consumers, each with a thread and a connection of its own; the partitions are split over them. 0: nothing is consumed while publishing, and everything is
    /// read afterwards. Default: 1.
    pub consumers: u32,
    /// Partitions of the topic; queues or streams with brokers that have those instead. Default: 2.
    pub partitions: NonZeroU32,
    /// Bytes of each record's value: a size as `1000` or `"10KiB"`, or a table: `{ uniform = [min, max] }`, or
    /// `{ choices = [{ size = "100", weight = 9 }, { size = "10KiB", weight = 1 }] }`. At least 16. Default: 1000.
    pub record_size: RecordSizes,
    /// So many distinct keys, each always in the same partition; 0: records have no keys. With fewer keys than partitions, only as many partitions get records.
    /// Default: 0.
    pub keys: u32,
    /// Records a second of all producers together, sent at fixed times whatever the broker does; or `"max"`, as fast as it goes. Default: `"max"`.
    #[serde(with = "values::rate")]
    pub rate: Rate,
    /// Largest batch the client makes of records, as a size; with clients that send every record by itself, it bounds with `inflight` what is under way.
    /// Default: `"128KiB"`.
    #[serde(with = "values::bytes")]
    pub batch_bytes: u64,
    /// Most records in a batch; 1 sends every record in a batch of its own. Default: as many as fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_records: Option<NonZeroU32>,
    /// How long the client waits for a batch to fill, in microseconds. Default: 0.
    pub linger_us: u64,
    /// Batches in flight for each producer and partition; the broker or its client may allow fewer. Default: the client's own, or 5 where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inflight: Option<NonZeroU32>,
    /// What may wait in each producer's client, as a size; beyond it the producer waits. Default: room for twice the batches in flight to all partitions.
    #[serde(with = "values::room", skip_serializing_if = "Option::is_none")]
    pub buffer_bytes: Option<NonZeroU64>,
    /// About how much of each partition the broker keeps, as a size: what is older goes, so that a run may be long and the disk does not fill up. Records that go before they are
    /// consumed are lost, and nothing can be read again afterwards. Queues keep nothing that was consumed anyway. Default: everything.
    #[serde(with = "values::room", skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<NonZeroU64>,
    /// What an acknowledgement must mean with Gannet: `"durable"` or `"accepted"`. What another broker's means is its configuration. Default: `"durable"`.
    pub durability: Durability,
    /// How long to run, warm-up included, as a time such as `"30s"` or `"500ms"`. Default: `"10s"`.
    #[serde(with = "values::time")]
    pub duration: Duration,
    /// How much of the duration is not measured, as a time. When a flag gives another duration and none gives the warm-up, it is at most a quarter of that.
    /// Default: a quarter of the duration, at most a second.
    #[serde(with = "values::time_or_none", skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<Duration>,
    /// Every record is consumed so many times, each time by all `consumers`. Default: 1.
    pub fan_out: NonZeroU32,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            producers: NonZeroU32::MIN,
            consumers: 1,
            partitions: NonZeroU32::MIN.saturating_add(1),
            record_size: RecordSizes::default(),
            keys: 0,
            rate: Rate::Max,
            batch_bytes: 128 << 10,
            batch_records: None,
            linger_us: 0,
            inflight: None,
            buffer_bytes: None,
            retention_bytes: None,
            durability: Durability::Durable,
            duration: Duration::from_secs(10),
            warm_up: None,
            fan_out: NonZeroU32::MIN,
        }
    }
}

/// Why a file is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It could not be read.
    #[error("the scenario {path} could not be read: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, or has a key or a kind of value that there is not.
    #[error("{path}{place}: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// The line, when it is known.
        place: String,
        /// What the parser expected.
        reason: String,
    },
    /// Values that make no run.
    #[error("{path}: `{}` {}", .fault.key, .fault.sentence)]
    Value {
        /// The file.
        path: String,
        /// Which and why.
        fault: Fault,
    },
}

/// A value that makes no run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key; the flag has dashes in it instead.
    pub key: &'static str,
    /// The value, what is wrong with it and what to do: the rest of a sentence that begins with the key.
    pub sentence: String,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ScenarioError`], which names the file.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable {
            path: shown.clone(),
            source,
        })?;
        let mut scenario = Self::parse(&shown, &text)?;
        if scenario.name.is_empty() {
            let stem = path.file_stem().unwrap_or(path.as_os_str());
            scenario.name = stem.to_string_lossy().into_owned();
        }
        Ok(scenario)
    }

    /// Reads what stands in the file of that name.
    ///
    /// # Errors
    /// [`ScenarioError`], which names the file.
    pub fn parse(path: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::Syntax {
            path: path.to_owned(),
            place: error
                .span()
                .map_or_else(String::new, |span| line_at(text, span.start)),
            reason: error.message().to_owned(),
        })?;
        scenario.check().map_err(|fault| ScenarioError::Value {
            path: path.to_owned(),
            fault,
        })?;
        Ok(scenario)
    }

    /// The scenario with what the command line says otherwise.
    #[must_use]
    pub fn with(&self, options: &Options) -> Self {
        let cut_short = options
            .duration
            .map(|duration| duration / WARM_UP_SHARE)
            .zip(self.warm_up)
            .map(|(most, warm_up)| warm_up.min(most));
        Self {
            name: self.name.clone(),
            producers: options.producers.unwrap_or(self.producers),
            consumers: options.consumers.unwrap_or(self.consumers),
            partitions: options.partitions.unwrap_or(self.partitions),
            record_size: match options.record_size {
                // What does not fit this machine is too large for any broker, and said to be.
                Some(size) => RecordSizes::Fixed(usize::try_from(size).unwrap_or(usize::MAX)),
                None => self.record_size.clone(),
            },
            keys: options.keys.unwrap_or(self.keys),
            rate: options.rate.unwrap_or(self.rate),
            batch_bytes: options.batch_bytes.unwrap_or(self.batch_bytes),
            batch_records: options.batch_records.or(self.batch_records),
            linger_us: options.linger_us.unwrap_or(self.linger_us),
            inflight: options.inflight.or(self.inflight),
            buffer_bytes: options.buffer_bytes.or(self.buffer_bytes),
            retention_bytes: options.retention_bytes.or(self.retention_bytes),
            durability: options.durability.unwrap_or(self.durability),
            duration: options.duration.unwrap_or(self.duration),
            warm_up: options.warm_up.or(cut_short).or(self.warm_up),
            fan_out: options.fan_out.unwrap_or(self.fan_out),
        }
    }

    /// Whether it makes a run.
    ///
    /// # Errors
    /// The first [`Fault`] found.
    pub fn check(&self) -> Result<(), Fault> {
        let fault = |key, sentence| Err(Fault { key, sentence });
        let sizes = &self.record_size;
        if let Err(sentence) = sizes.check() {
            return fault("record_size", sentence);
        }
        let (smallest, largest) = (sizes.min(), sizes.max());
        if smallest < RECORD_BYTES_MIN {
            return fault(
                "record_size",
                format!(
                    "{smallest} is too small: a record needs {RECORD_BYTES_MIN} bytes to say which one it is"
                ),
            );
        }
        if smallest < HEAD_BYTES && self.producers.get() > TINY_PRODUCERS_MAX {
            return fault(
                "producers",
                format!(
                    "{} are more than records of {smallest} bytes tell apart: at most {TINY_PRODUCERS_MAX}, or records of at least {HEAD_BYTES} bytes",
                    self.producers
                ),
            );
        }
        if smallest < HEAD_BYTES && self.duration > TINY_DURATION_MAX {
            return fault(
                "duration",
                format!(
                    "is too long for records of {smallest} bytes, which count at most {} days: give at least {HEAD_BYTES} bytes",
                    TINY_DURATION_MAX.as_secs() / SECONDS_PER_DAY
                ),
            );
        }
        if largest > RECORD_BYTES_MAX {
            return fault(
                "record_size",
                format!("{largest} is too large: at most {RECORD_BYTES_MAX}"),
            );
        }
        if self.batch_bytes == 0 || u32::try_from(self.batch_bytes).is_err() {
            return fault(
                "batch_bytes",
                format!(
                    "{} is no batch: give a size from 1 to 4GiB, such as 128KiB",
                    self.batch_bytes
                ),
            );
        }
        if self.duration < DURATION_MIN {
            return fault(
                "duration",
                "must be at least 100ms for anything to be measured".to_owned(),
            );
        }
        if let Some(warm_up) = self.warm_up.filter(|warm_up| *warm_up >= self.duration) {
            return fault(
                "warm_up",
                format!(
                    "{} s leaves nothing of the {} s to measure: give less, or a longer duration",
                    warm_up.as_secs_f64(),
                    self.duration.as_secs_f64()
                ),
            );
        }
        if let Some(bytes) = self.retention_bytes
            && self.consumers == 0
        {
            return fault(
                "retention_bytes",
                format!(
                    "{bytes} lets records go that nobody has read: give at least 1 consumer, or keep everything"
                ),
            );
        }
        if self.fan_out.get() > 1 && self.consumers == 0 {
            return fault(
                "fan_out",
                format!("{} needs consumers: give at least 1", self.fan_out),
            );
        }
        let threads = u64::from(self.fan_out.get()) * u64::from(self.consumers);
        if threads > u64::from(CONSUMERS_MAX) {
            return fault(
                "fan_out",
                format!(
                    "{} times {} consumers are {threads} threads: at most {CONSUMERS_MAX}",
                    self.fan_out, self.consumers
                ),
            );
        }
        Ok(())
    }
}

/// Which line a byte is in, and what stands there.
fn line_at(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    format!(", line {} ({})", number + 1, line.trim())
}
