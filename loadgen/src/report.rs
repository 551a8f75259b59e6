//! The result of a run, as `--report FILE.json` writes it. Every field is documented here; fields are added, never renamed, and one that a report
//! of another version does not have is read as empty or zero.
//!
//! MB are 10^6 bytes and count record values alone, without keys, headers and framing. Latencies are in microseconds.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::driver::DriverKind;
use crate::latency::LatencySummary;
use crate::sizes::RecordSizes;
use crate::verify::Findings;

/// What an acknowledgement means.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The broker has it in memory.
    Accepted,
    /// The broker has it on the disk.
    #[default]
    Durable,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Durable => "durable",
        })
    }
}

/// A whole run. Its last phase's figures stand at the top level too (`publish`, `consume`, `end_to_end`, ...), since most readers of a report want one phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The version of the generator.
    pub version: String,
    /// The name of the scenario; absent without `--scenario`.
    pub scenario: Option<String>,
    /// The client library: `native`, `kafka`, `amqp` or `nats`.
    pub driver: DriverKind,
    /// What the run is to be called, from `--label`; else the driver's name.
    pub label: String,
    /// What filled the records; `--seed` gives the same again.
    pub seed: u64,
    /// What was asked for.
    pub settings: Settings,
    /// Where it ran.
    pub machine: Machine,
    /// The figures of the last phase.
    #[serde(flatten)]
    pub last: PhaseReport,
    /// All phases, in order.
    pub phases: Vec<PhaseReport>,
    /// What was wrong with the records: `lost`, `duplicated`, `reordered`, `corrupt`. Over the whole run, the reading after the kill included.
    #[serde(flatten)]
    pub findings: Findings,
    /// The same for each group of consumers; empty unless there are several.
    pub group_findings: Vec<Findings>,
    /// Records sent that were never acknowledged.
    pub unacked: u64,
    /// Records sent in the whole run, warm-up included.
    pub sent: u64,
    /// Records acknowledged in the whole run, warm-up included.
    pub acked: u64,
    /// The whole log read again from its start; absent when that was not done.
    pub reread: Option<RereadReport>,
    /// The broker killed and started again; absent when that was not done.
    pub kill: Option<KillReport>,
    /// The limits of the machine, measured in the same run; absent without `--limits`.
    pub limits: Option<LimitsReport>,
    /// Whether nothing was wrong.
    pub passed: bool,
    /// Why not: a sentence each.
    pub failures: Vec<String>,
    /// What a reader of the figures should know: a sentence each.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds what went wrong, if anything did.
    pub fn fail(&mut self, failures: Vec<String>) {
        self.passed &= failures.is_empty();
        self.failures.extend(failures);
    }
}

/// What was asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The address of the broker.
    pub server: String,
    /// Whether the broker was started by this run, and so its CPU and memory are known.
    pub own_broker: bool,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// Producers, each with a thread and connections of its own.
    pub producers: u32,
    /// Consumers, each with a thread and connections of its own.
    pub consumers: u32,
    /// How many groups of that many consumers, each of which gets every record.
    pub fan_out: u32,
    /// The bytes of a record's value; of the mean record, when they differ.
    pub record_bytes: u64,
    /// The bytes of each record's value, as a scenario writes them.
    pub record_size: RecordSizes,
    /// Distinct keys; 0 for records without.
    pub keys: u32,
    /// The durability asked for; absent with drivers that cannot ask: there it is the broker's configuration.
    pub durability: Option<Durability>,
    /// What an acknowledgement means, as the caller says with `--durability-label`; absent when the caller does not.
    pub durability_label: Option<String>,
    /// The broker's shards, when asked for.
    pub shards: Option<u32>,
    /// The largest batch the client makes of records.
    pub batch_bytes: u64,
    /// Most records in a batch, when asked for.
    pub batch_records: Option<u32>,
    /// How long a batch waits to fill, in microseconds.
    pub linger_us: u64,
    /// Batches in flight for each producer and partition, when asked for.
    pub inflight: Option<u32>,
    /// What may wait in each producer's client.
    pub buffer_bytes: u64,
    /// About how much of each partition the broker was to keep; absent when everything.
    pub retention_bytes: Option<u64>,
    /// How long the phases were to last together, warm-up included, in seconds.
    pub duration_s: f64,
    /// Most bytes of records a phase sends, when that is bounded, by option or by the disk's room; the largest of the phases' bounds.
    pub bytes_max: Option<u64>,
}

/// Where it ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: u32,
    /// The kernel's release.
    pub kernel: String,
    /// The filesystem of the data directory; absent for a broker that was not started by this run.
    pub filesystem: Option<String>,
    /// Whether that is an ext4 with a journal inside, or one without; absent for others, and where the kernel does not tell.
    pub journal: Option<bool>,
    /// The user that it ran as; absent in reports of before it was kept.
    pub uid: Option<u32>,
    /// The limit of locked memory, which binds nobody who has `CAP_IPC_LOCK`, such as root; absent where there is none.
    pub memlock_bytes: Option<u64>,
}

/// One phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PhaseReport {
    /// `paced`, `saturated` or `single`.
    pub name: String,
    /// Records a second asked for, of all producers together; absent for as fast as possible.
    pub rate: Option<u64>,
    /// How long was measured, in seconds, without the warm-up.
    pub seconds: f64,
    /// The publishing side.
    pub publish: PublishReport,
    /// The consuming side; all zero without consumers.
    pub consume: FlowReport,
    /// From when a record should have been sent until a consumer had it.
    pub end_to_end: EndToEndReport,
    /// The consuming side of each group of consumers; empty unless there are several, of which `consume` and `end_to_end` are all together.
    pub groups: Vec<GroupReport>,
    /// What the broker used; absent for a broker that was not started by this run.
    pub broker: Option<BrokerReport>,
    /// What the generator used and how well it kept its schedule.
    pub generator: GeneratorReport,
    /// Why the figures of this phase may be the generator's more than the broker's: a sentence; absent when nothing says so.
    pub limited_by_generator: Option<String>,
}

/// Records and bytes over time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowReport {
    /// Records in the measured time.
    pub records: u64,
    /// Records a second.
    pub records_per_s: f64,
    /// Megabytes (10^6) a second.
    pub mb_per_s: f64,
}

impl FlowReport {
    /// That many records of that size in that time.
    #[must_use]
    pub fn new(records: u64, record_bytes: u64, seconds: f64) -> Self {
        Self::of_bytes(records, records.saturating_mul(record_bytes), seconds)
    }

    /// That many records of so many bytes together, in that time.
    #[must_use]
    pub fn of_bytes(records: u64, bytes: u64, seconds: f64) -> Self {
        let seconds = seconds.max(1e-9);
        Self {
            records,
            records_per_s: records as f64 / seconds,
            mb_per_s: bytes as f64 / seconds / 1e6,
        }
    }
}

/// The publishing side of a phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishReport {
    /// What was acknowledged in the measured time.
    #[serde(flatten)]
    pub flow: FlowReport,
    /// From when a record should have been sent until its acknowledgement was there. At a fixed rate it should have been sent by the schedule, whatever held it up; as fast as possible,
    /// when the generator handed it to the client.
    pub latency_us: LatencySummary,
    /// The lowest durability any acknowledgement stated; absent when none did: other brokers' acknowledgements do not say.
    pub durability: Option<Durability>,
}

/// The consuming side of one group of consumers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupReport {
    /// What it was given in the measured time.
    pub consume: FlowReport,
    /// From when a record should have been sent until the group had it.
    pub end_to_end: EndToEndReport,
}

/// From sender to receiver.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndToEndReport {
    /// From when a record should have been sent until a consumer had it.
    pub latency_us: LatencySummary,
}

/// What the broker's process used in the measured time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerReport {
    /// Cores' worth of CPU.
    pub cpu_cores: f64,
    /// CPU time for each acknowledged record, with its delivery, in microseconds.
    pub cpu_us_per_record: f64,
    /// The most resident memory seen while measuring.
    pub rss_bytes: u64,
    /// The most resident memory since it started.
    pub rss_peak_bytes: u64,
}

/// What the generator used in the measured time, and whether it limited the figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GeneratorReport {
    /// Cores' worth of CPU.
    pub cpu_cores: f64,
    /// How late records were handed to the client, against the schedule. Empty when there was none.
    pub late_us: LatencySummary,
    /// How late they were because a producer's thread woke up late, or not for a while: the part of `late_us` that neither the broker nor the client's back-pressure can have caused.
    pub late_own_us: LatencySummary,
    /// The share of the producers' time (0 to 1) in which they had nothing to do but wait: for the schedule, or for the broker to take more. Near 0 as fast as possible means that the
    /// generator was the limit. Absent where the kernel does not count it.
    pub producers_waiting: Option<f64>,
    /// The busy share (0 to 1) of all the machine's cores, whoever used them.
    pub machine_busy: f64,
}

/// The whole log read again from its start.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RereadReport {
    /// How fast.
    #[serde(flatten)]
    pub flow: FlowReport,
    /// How long it took.
    pub seconds: f64,
    /// How many consumers read it, each with a thread of its own.
    pub consumers: u32,
    /// The share of their time (0 to 1) in which they had nothing to do but wait for the broker or the client. Near 0 the generator was the limit. Absent where the kernel does not count it.
    pub consumers_waiting: Option<f64>,
    /// Cores' worth of the generator's CPU meanwhile; absent where it could not be read, and in reports of before it was.
    pub generator_cpu_cores: Option<f64>,
    /// The busy share (0 to 1) of all the machine's cores meanwhile, whoever used them; absent likewise.
    pub machine_busy: Option<f64>,
}

/// The broker killed (`kill -9`) under load, started again on the same directory.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KillReport {
    /// Bytes of records acknowledged when it was killed; by the mean record, when they differ.
    pub stored_bytes: u64,
    /// Records in flight when it was killed: sent, not acknowledged.
    pub in_flight: u64,
    /// From starting it again until it answered a request about the topic, in milliseconds.
    pub recovery_ms: f64,
    /// Records acknowledged by the new process to producers that had reconnected.
    pub acked_after: u64,
}

/// The limits of the machine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsReport {
    /// 64 bytes to and fro over a loopback TCP connection between two threads.
    pub ping_pong_us: LatencySummary,
    /// One 4 KiB O_DIRECT + O_DSYNC write over blocks written before.
    pub sync_write_us: LatencySummary,
    /// Sequential O_DIRECT writes of 1 MiB, several in flight, in MB/s.
    pub write_mb_per_s: f64,
    /// One record of the run's size published with none other in flight, as the caller sees it.
    pub publish_alone_us: LatencySummary,
    /// The p50 of `publish_alone_us` over the sum of the p50 of `ping_pong_us` and `sync_write_us`; absent unless `durable` was asked for: nothing else waits
    /// for a write.
    pub publish_alone_ratio: Option<f64>,
    /// The last phase's publish throughput over `write_mb_per_s`.
    pub publish_to_disk_ratio: f64,
}
