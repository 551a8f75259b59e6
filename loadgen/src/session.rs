//! A run from its options to its report: the directory, the broker, the client, and what must be undone.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gannet_engine::control::config::ConfigError;
use tempfile::TempDir;

use crate::broker::{
    BrokerError, BrokerSettings, OwnBroker, RemovedWhenInterrupted, end_when_interrupted,
};
#[cfg(feature = "amqp")]
use crate::driver::amqp::AmqpConnect;
#[cfg(feature = "kafka")]
use crate::driver::kafka::KafkaConnect;
use crate::driver::native::WireConnect;
#[cfg(feature = "nats")]
use crate::driver::nats::NatsConnect;
use crate::driver::{Driver, DriverError, DriverKind, Target};
use crate::filesystem::{Filesystem, NoRealDisk, choose_directory};
use crate::latency::LatencySummary;
use crate::measure::{DiskError, ping_pong, sync_write_latency, write_bandwidth};
use crate::options::Options;
use crate::plan::{Plan, PlanError};
use crate::progress::ProgressLine;
use crate::report::{Durability, LimitsReport, Machine, PhaseReport, Report, Settings};
use crate::run::{Outcome, Run, RunError, failures, notes};
use crate::worker::port::PortError;

/// How long each latency limit is measured.
const LIMIT: Duration = Duration::from_secs(2);
/// The file the disk's bandwidth is measured with.
const BANDWIDTH_FILE_BYTES: u64 = 1 << 30;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The options make no run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The driver makes no such run.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// There is nowhere to put the data.
    #[error(transparent)]
    Directory(#[from] NoRealDisk),
    /// The configuration of its broker.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker of this run.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The client could not connect or make the topic.
    #[error("using the broker at {server}: {source}")]
    Client {
        /// Its address.
        server: String,
        /// What the client says.
        source: PortError,
    },
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The machine's limits.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The operating system's refusal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The error.
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> SessionError {
    move |source| SessionError::Io {
        what: what.into(),
        source,
    }
}

/// Makes the run. The report says whether it passed.
///
/// # Errors
/// [`SessionError`] when there is nothing to report.
pub fn session(options: &Options) -> Result<Report, SessionError> {
    let plan = Plan::new(options)?;
    let mut session = Session::open(options, &plan)?;
    let mut report = session.run(&plan)?;
    report.fail(session.close()?);
    Ok(report)
}

/// A broker, its own or another's, on which runs can be made one after the other.
pub struct Session<'a> {
    options: &'a Options,
    progress: ProgressLine,
    removed: RemovedWhenInterrupted,
    place: Option<Place>,
    broker: Option<OwnBroker>,
    server: String,
    seed: u64,
    limits: Option<LimitsReport>,
    topics: Topics,
}

/// What becomes of the topics of runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Topics {
    /// They go with the directory of the broker.
    Stay,
    /// Each is deleted after its run.
    AreDeleted,
}

impl<'a> Session<'a> {
    /// Measures the limits of the machine if that is asked for, and starts a broker unless there is one. The plan is one that is going to be run.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn open(options: &'a Options, plan: &Plan) -> Result<Self, SessionError> {
        options.check_driver()?;
        let seed = options.seed.unwrap_or_else(random);
        let mut progress = ProgressLine::new();
        progress.step(format!("seed {seed}"));
        let removed = RemovedWhenInterrupted::default();
        end_when_interrupted(removed.clone()).map_err(io_error("watching for Ctrl-C"))?;

        let needs_place = options.server.is_none() || plan.limits;
        let place = needs_place
            .then(|| Place::choose(options, &removed))
            .transpose()?;
        // Before the broker runs: the limits are the idle machine's.
        let limits = match &place {
            Some(place) if plan.limits => Some(measure_limits(place.path(), &mut progress)?),
            _ => None,
        };
        let (broker, server) = match (&options.server, &place) {
            (None, Some(place)) => {
                let settings = BrokerSettings {
                    shards: options.shards.map(Into::into),
                    config: options.config.clone(),
                };
                plan.clone().fit_into(place.filesystem.free_bytes)?;
                plan.check_records(settings.load()?.network.batch_bytes_max)?;
                progress.step("starting a broker");
                let broker = OwnBroker::start(place.path(), settings, removed.clone())?;
                let server = broker.address().to_string();
                (Some(broker), server)
            }
            (server, _) => (None, server.clone().unwrap_or_default()),
        };
        Ok(Self {
            options,
            progress,
            removed,
            place,
            topics: if broker.is_some() {
                Topics::Stay
            } else {
                Topics::AreDeleted
            },
            broker,
            server,
            seed,
            limits,
        })
    }

    /// The same session, in which the topic of each run is deleted after it, unless the options name it: many runs leave no more behind than one.
    #[must_use]
    pub fn with_topics_deleted(self) -> Self {
        Self {
            topics: Topics::AreDeleted,
            ..self
        }
    }

    /// Where it says what it does.
    pub fn progress(&mut self) -> &mut ProgressLine {
        &mut self.progress
    }

    /// Makes a run, in a topic of its own unless the options name one.
    ///
    /// # Errors
    /// [`SessionError`] when there is nothing to report.
    pub fn run(&mut self, plan: &Plan) -> Result<Report, SessionError> {
        let options = self.options;
        let mut plan = plan.clone();
        if let Some(place) = self.place.as_ref().filter(|_| self.broker.is_some()) {
            let filesystem = Filesystem::of(place.path()).map_err(io_error("looking for room"))?;
            plan.fit_into(filesystem.free_bytes)?;
        }
        let run = (random() & u64::from(u32::MAX)) as u32;
        let topic = options
            .topic
            .clone()
            .unwrap_or_else(|| format!("loadgen-{run:08x}"));
        let target = Target {
            server: &self.server,
            topic: &topic,
            plan: &plan,
            amqp_queue: options.amqp_queue,
        };
        let bench = Bench {
            target,
            leaves_topic: options.topic.is_some() || self.topics == Topics::Stay,
            progress: &mut self.progress,
            run,
            seed: self.seed,
        };
        let ran = bench.run(options.driver, self.broker.as_mut())?;
        let own_broker = self.broker.is_some();
        let settings = Settings {
            server: self.server.clone(),
            own_broker,
            topic,
            durability: (options.driver == DriverKind::Native).then_some(plan.durability),
            durability_label: options.durability_label.clone(),
            shards: options.shards.map(|shards| u32::from(shards.get())),
            ..plan.settings(ran.partitions)
        };
        let place = self.place.as_ref().filter(|_| own_broker);
        let machine = Machine::here(place.map(|place| (place.path(), &place.filesystem)));
        let limits = self.limits.clone();
        let mut report = report(options, ran.outcome, settings, machine, self.seed, limits);
        report
            .notes
            .extend(options.driver.notes(&plan, options.amqp_queue));
        report.notes.extend(ran.left_behind);
        Ok(report)
    }

    /// Stops the broker that was started, and removes its directory. Gives what was not as it should be: a sentence each.
    ///
    /// # Errors
    /// [`SessionError`] when the directory stays.
    pub fn close(mut self) -> Result<Vec<String>, SessionError> {
        let mut failures = Vec::new();
        if let Some(broker) = self.broker.take() {
            self.progress.step("stopping the broker");
            failures = stop(broker);
        }
        self.progress.finish();
        if let Some(place) = self.place.take() {
            place.remove(&self.removed)?;
        }
        Ok(failures)
    }
}

/// What a run needs, whatever its driver.
struct Bench<'a> {
    target: Target<'a>,
    leaves_topic: bool,
    progress: &'a mut ProgressLine,
    run: u32,
    seed: u64,
}

/// What a run came to.
struct Ran {
    outcome: Outcome,
    partitions: u32,
    /// That the run's topic stays behind: a sentence.
    left_behind: Option<String>,
}

impl Bench<'_> {
    fn run(self, driver: DriverKind, broker: Option<&mut OwnBroker>) -> Result<Ran, SessionError> {
        match driver {
            DriverKind::Native => self.run_by::<WireConnect>(broker),
            #[cfg(feature = "kafka")]
            DriverKind::Kafka => self.run_by::<KafkaConnect>(broker),
            #[cfg(feature = "amqp")]
            DriverKind::Amqp => self.run_by::<AmqpConnect>(broker),
            #[cfg(feature = "nats")]
            DriverKind::Nats => self.run_by::<NatsConnect>(broker),
            #[cfg(not(all(feature = "amqp", feature = "kafka", feature = "nats")))]
            other => Err(DriverError::NotBuilt(other).into()),
        }
    }

    fn run_by<D: Driver>(self, broker: Option<&mut OwnBroker>) -> Result<Ran, SessionError> {
        let Target {
            server,
            topic,
            plan,
            ..
        } = self.target;
        let connect = D::connect(&self.target).map_err(|source| SessionError::Client {
            server: server.to_owned(),
            source,
        })?;
        let outcome =
            Run::new(plan, &connect, broker, self.progress, self.run, self.seed).execute()?;
        // What the run found counts, whatever becomes of its topic.
        let left_behind = if self.leaves_topic {
            None
        } else {
            connect.delete_topic().err().map(|error| {
                format!(
                    "the topic {topic} stays on the broker, since it could not be deleted ({error}): {}",
                    D::DELETE_HINT.replace("TOPIC", topic)
                )
            })
        };
        Ok(Ran {
            outcome,
            partitions: connect.partitions(),
            left_behind,
        })
    }
}

/// Stops the broker; gives what was not as it should be.
fn stop(broker: OwnBroker) -> Vec<String> {
    let mut failures: Vec<String> = broker
        .logged_errors()
        .into_iter()
        .take(3)
        .map(|line| format!("the broker logged an error: {line}"))
        .collect();
    failures.extend(broker.stop().err().map(|error| error.to_string()));
    failures
}

/// Where the data of this run goes.
struct Place {
    directory: Option<TempDir>,
    base: PathBuf,
    filesystem: Filesystem,
}

impl Place {
    fn choose(options: &Options, removed: &RemovedWhenInterrupted) -> Result<Self, SessionError> {
        let (base, filesystem) = choose_directory(options.data_dir.as_deref())?;
        if options.server.is_some() {
            return Ok(Self {
                directory: None,
                base,
                filesystem,
            });
        }
        let directory = tempfile::Builder::new()
            .prefix("gannet-loadgen-")
            .tempdir_in(&base)
            .map_err(io_error(format!(
                "making a directory in {}",
                base.display()
            )))?;
        removed.set_directory(Some(directory.path().to_owned()));
        Ok(Self {
            directory: Some(directory),
            base,
            filesystem,
        })
    }

    fn path(&self) -> &Path {
        self.directory
            .as_ref()
            .map_or(self.base.as_path(), TempDir::path)
    }

    fn remove(self, removed: &RemovedWhenInterrupted) -> Result<(), SessionError> {
        if let Some(directory) = self.directory {
            match directory.close() {
                // A signal came just now, and whoever waits for one was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                closed => closed.map_err(io_error("removing the broker's directory"))?,
            }
        }
        removed.set_directory(None);
        Ok(())
    }
}

fn measure_limits(
    directory: &Path,
    progress: &mut ProgressLine,
) -> Result<LimitsReport, SessionError> {
    progress.step("measuring loopback and disk");
    Ok(LimitsReport {
        ping_pong_us: ping_pong(LIMIT)
            .map_err(io_error("measuring loopback TCP"))?
            .summary(),
        sync_write_us: sync_write_latency(directory, LIMIT)?.summary(),
        write_mb_per_s: write_bandwidth(directory, BANDWIDTH_FILE_BYTES)? / 1e6,
        ..LimitsReport::default()
    })
}

fn report(
    options: &Options,
    outcome: Outcome,
    settings: Settings,
    machine: Machine,
    seed: u64,
    limits: Option<LimitsReport>,
) -> Report {
    let durability = settings.durability;
    // Of a broker that cannot be asked for one, any is enough.
    let failures = failures(&outcome, durability.unwrap_or(Durability::Accepted));
    let last: PhaseReport = outcome.phases.last().cloned().unwrap_or_default();
    let driver = options.driver;
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: options
            .scenario
            .as_ref()
            .map(|scenario| scenario.name.clone()),
        driver,
        label: options.label.clone().unwrap_or_else(|| driver.to_string()),
        seed,
        settings,
        notes: notes(&outcome.phases),
        machine,
        limits: limits
            .map(|limits| with_publishes(limits, outcome.publish_alone, &last, durability)),
        last,
        phases: outcome.phases,
        findings: outcome.findings,
        group_findings: outcome.group_findings,
        unacked: outcome.unacked,
        sent: outcome.sent,
        acked: outcome.acked,
        reread: outcome.reread,
        kill: outcome.kill,
        passed: failures.is_empty(),
        failures,
    }
}

fn with_publishes(
    limits: LimitsReport,
    alone: Option<LatencySummary>,
    last: &PhaseReport,
    durability: Option<Durability>,
) -> LimitsReport {
    let alone = alone.unwrap_or_default();
    let least = limits.ping_pong_us.p50 + limits.sync_write_us.p50;
    let ratio = |of: f64, to: f64| if to > 0.0 { of / to } else { 0.0 };
    LimitsReport {
        publish_alone_ratio: (durability == Some(Durability::Durable))
            .then(|| ratio(alone.p50, least)),
        publish_alone_us: alone,
        publish_to_disk_ratio: ratio(last.publish.flow.mb_per_s, limits.write_mb_per_s),
        ..limits
    }
}

/// From the hasher that the standard library seeds anew in each process and for each use.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
