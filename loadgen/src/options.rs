//! The command line.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::comparison::CompareOptions;
use crate::driver::{AmqpQueue, DriverError, DriverKind};
use crate::report::Durability;
use crate::scenario::{Scenario, ScenarioError};
use crate::sweep::options::SweepOptions;
use crate::units::{parse_bytes, parse_duration};

/// Publishes to a Gannet broker and consumes from it, measures both, and checks that every record came out once, unchanged, in order.
///
/// Without a broker's address it starts a broker of its own on a temporary directory of a real disk. Without --rate and --duration it runs two phases, one at a fixed
/// rate and one as fast as it goes, then kills the broker under load, starts it again and reads everything from the start.
///
/// The exit status is 0 when every record came out as it should, 1 when any did not, 2 when the run could not be made or its report not be written, 130 when interrupted.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, args_conflicts_with_subcommands = true)]
pub struct CommandLine {
    /// What to do other than a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run's options.
    #[command(flatten)]
    pub options: Options,
}

/// What this program does other than a run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes runs at rising rates until the broker does not keep up, and finds the rate at which that begins: latency against load.
    ///
    /// Each step is a run of its own in a topic of its own, on the same broker, and verifies every record. A rate that fails is tried once more before it counts as too high. --report
    /// writes all steps as JSON, in the fields that loadgen/src/sweep/report.rs documents; `gannet-loadgen report` draws them.
    Sweep(Box<SweepOptions>),
    /// Draws the reports of runs and sweeps on one page: every figure, latency by percentile, throughput, latency against load.
    Report(CompareOptions),
    /// Hosts a broker until the parent ends it or dies.
    #[command(hide = true, name = crate::broker::HOST_COMMAND)]
    HostBroker(HostOptions),
}

/// What the broker of a run is told.
#[derive(Clone, Debug, Args)]
pub struct HostOptions {
    /// Its data directory.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Where it listens.
    #[arg(long)]
    pub listen: std::net::SocketAddr,
    /// Its shards; its own default without.
    #[arg(long)]
    pub shards: Option<NonZeroU16>,
    /// A configuration file, such as gannet.toml; its address and data directory are overridden.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The process that started it.
    #[arg(long)]
    pub parent: i32,
}

/// The options of a run.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Use the broker at this address (HOST:PORT) instead of starting one. Its CPU and memory are then not measured, and it is not killed.
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["data_dir", "shards", "config", "kill"])]
    pub server: Option<String>,
    /// The workload: a file in TOML, whose keys are documented in loadgen/src/scenario.rs. A flag given here counts before the key of the same name. Without, the two default phases.
    #[arg(long, value_name = "FILE.toml", value_parser = read_scenario)]
    pub scenario: Option<Scenario>,
    /// The client library to use; all but native are features of this program, and need --server.
    #[arg(long, value_enum, default_value_t = DriverKind::Native)]
    pub driver: DriverKind,
    /// What reports and plots call this run. Without, the driver's name.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// What an acknowledgement means with the broker as it is configured, to stand beside the figures: for brokers whose acknowledgements do not say.
    #[arg(long, value_name = "TEXT")]
    pub durability_label: Option<String>,
    /// The kind of queue that --driver amqp makes.
    #[arg(long, value_enum, default_value_t = AmqpQueue::Quorum)]
    pub amqp_queue: AmqpQueue,
    /// Producers, each with a thread and a connection of its own [default: 1].
    #[arg(long)]
    pub producers: Option<NonZeroU32>,
    /// Consumers, each with a thread and a connection of its own; the partitions are split over them. 0: nothing is consumed while publishing, and everything is read afterwards [default: 1].
    #[arg(long)]
    pub consumers: Option<u32>,
    /// Every record is consumed so many times, each time by all consumers [default: 1].
    #[arg(long, value_name = "TIMES")]
    pub fan_out: Option<NonZeroU32>,
    /// Partitions of the topic; an existing topic has its own number [default: 2].
    #[arg(long)]
    pub partitions: Option<NonZeroU32>,
    /// Bytes of each record's value, at least 16; a scenario can also say a distribution [default: 1000].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub record_size: Option<u64>,
    /// So many distinct keys, each always in the same partition; 0: records have no keys [default: 0].
    #[arg(long)]
    pub keys: Option<u32>,
    /// Largest batch the client makes of records [default: 128KiB].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub batch_bytes: Option<u64>,
    /// Most records in a batch; 1 sends every record in a batch of its own.
    #[arg(long, value_name = "RECORDS")]
    pub batch_records: Option<NonZeroU32>,
    /// How long the client waits for a batch to fill, in microseconds [default: 0].
    #[arg(long, value_name = "US")]
    pub linger_us: Option<u64>,
    /// Records a second of all producers together, sent at fixed times whatever the broker does; or "max" for as fast as it goes.
    #[arg(long, value_name = "RECORDS/S|max")]
    pub rate: Option<Rate>,
    /// How long to run, warm-up included.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// How much of the duration is not measured. Without, a quarter, at most a second.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub warm_up: Option<Duration>,
    /// What an acknowledgement must mean; Gannet only [default: durable].
    #[arg(long, value_enum)]
    pub durability: Option<Durability>,
    /// Batches in flight for each producer and partition; the broker may allow fewer.
    #[arg(long, value_name = "BATCHES")]
    pub inflight: Option<NonZeroU32>,
    /// What may wait in each producer's client; beyond it the producer waits. Without: room for twice the batches in flight to all partitions.
    #[arg(long, value_name = "BYTES", value_parser = parse_room)]
    pub buffer_bytes: Option<NonZeroU64>,
    /// About how much of each partition the broker keeps: what is older goes, so that a long run does not fill the disk. Nothing can be read again then. Without: everything.
    #[arg(long, value_name = "BYTES", value_parser = parse_room)]
    pub retention_bytes: Option<NonZeroU64>,
    /// The topic; created when there is none of that name. Without, one with a name of its own, deleted afterwards.
    #[arg(long)]
    pub topic: Option<String>,
    /// Shards (cores) of the broker that is started; its own default without.
    #[arg(long)]
    pub shards: Option<NonZeroU16>,
    /// Configuration of the broker that is started, checked as `gannet serve` checks it; `listen` and `data_dir` in it do not count, --shards goes above it, and variables of the environment are
    /// left out.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the broker that is started keeps its data: in a new directory in this one, which must exist, removed afterwards. Without: $TMPDIR, /var/tmp or beside this program, whichever is on a real disk.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Kill the broker (kill -9) under load after the last phase, start it again and read everything from the start. The default run does so anyway.
    #[arg(long)]
    pub kill: bool,
    /// Read everything from the start after the last phase. Done anyway with --kill and without consumers.
    #[arg(long)]
    pub reread: bool,
    /// Most bytes of records to send as fast as it goes, so that the disk does not fill up.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub bytes_max: Option<u64>,
    /// Measure the limits of this machine too: TCP ping-pong, synced writes, disk bandwidth, and a publish with none other in flight.
    #[arg(long)]
    pub limits: bool,
    /// What fills the records; drawn and printed without.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Write the report to this file as JSON. Its fields are documented in loadgen/src/report.rs.
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
}

impl Options {
    /// Whether the driver can make such a run.
    ///
    /// # Errors
    /// A sentence when it cannot.
    pub fn check_driver(&self) -> Result<(), DriverError> {
        let driver = self.driver;
        if !driver.is_built() {
            return Err(DriverError::NotBuilt(driver));
        }
        if driver == DriverKind::Native {
            return Ok(());
        }
        if self.server.is_none() {
            return Err(DriverError::NeedsServer(driver));
        }
        // A scenario's durability is for every driver to read; a flag is for this run.
        if self.durability.is_some() {
            return Err(DriverError::Durability(driver));
        }
        if driver == DriverKind::Amqp && self.reread {
            return Err(DriverError::ReadOnce);
        }
        Ok(())
    }
}

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Open loop: so many records a second of all producers together.
    PerSecond(u64),
    /// As fast as the broker takes them.
    Max,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(rate) if rate > 0 => Ok(Self::PerSecond(rate)),
            _ => Err(format!(
                "{text:?} is no rate: give a number of records a second, or max"
            )),
        }
    }
}

fn read_scenario(path: &str) -> Result<Scenario, ScenarioError> {
    Scenario::read(Path::new(path))
}

fn parse_room(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(parse_bytes(text)?).ok_or_else(|| "there must be room for something".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &[&str]) -> Result<(), DriverError> {
        let line = CommandLine::try_parse_from([&["gannet-loadgen"], arguments].concat()).unwrap();
        line.options.check_driver()
    }

    #[test]
    fn gannets_own_driver_makes_any_run() {
        assert_eq!(checked(&["--reread", "--durability", "accepted"]), Ok(()));
    }

    #[test]
    #[cfg(not(feature = "kafka"))]
    fn a_driver_that_is_not_built_is_refused() {
        let error = checked(&["--driver", "kafka", "--server", "h:1"]).unwrap_err();
        assert!(error.to_string().contains("--features kafka"), "{error}");
    }

    #[test]
    #[cfg(feature = "amqp")]
    fn what_only_gannet_can_do_is_refused_of_other_brokers() {
        const AMQP: [&str; 4] = ["--driver", "amqp", "--server", "h:1"];
        assert_eq!(checked(&AMQP), Ok(()));
        for (arguments, words) in [
            (vec!["--driver", "amqp"], "needs --server"),
            (
                [&AMQP[..], &["--durability", "durable"]].concat(),
                "--durability-label",
            ),
            ([&AMQP[..], &["--reread"]].concat(), "--consumers 0"),
        ] {
            let error = checked(&arguments).unwrap_err().to_string();
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
    }
}
