//! Brokers to measure, each on a directory of its own, and loads to put on them.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gannet_loadgen::broker::{BrokerSettings, OwnBroker, RemovedWhenInterrupted};
use gannet_loadgen::driver::native::{NewTopic, WireConnect};
use gannet_loadgen::options::Rate;
use gannet_loadgen::plan::{Batching, PhasePlan, Plan};
use gannet_loadgen::progress::ProgressLine;
use gannet_loadgen::report::{Durability, PhaseReport};
use gannet_loadgen::run::{Run, failures, notes};
use gannet_loadgen::sizes::RecordSizes;

use super::options::{Options, Scale};
use super::row::NoFigure;
use super::session::{NumbersError, io_error};
use super::{RECORD_BYTES, RECORD_OVERHEAD_BYTES};

/// What fills the records: the same in each run.
const SEED: u64 = 7;
/// Lines of a broker's log that are repeated.
const LOGGED_ERRORS_MAX: usize = 3;

/// A load of publishes, and of consuming them meanwhile when there are consumers.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Its name in notes and failures, and its topic's.
    pub(super) name: &'static str,
    pub(super) partitions: u32,
    pub(super) producers: u32,
    pub(super) consumers: u32,
    pub(super) rate: Rate,
    /// Warm-up included.
    pub(super) duration: Duration,
    pub(super) warm_up: Duration,
    /// Most bytes of records; `None` where what is kept is bounded instead.
    pub(super) bytes_max: Option<u64>,
    /// About how much of each partition the broker keeps; everything without.
    pub(super) retention_bytes: Option<NonZeroU64>,
    pub(super) batching: Batching,
}

/// What a load came to.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    /// Over the measured time.
    pub(super) phase: PhaseReport,
    /// Bytes of records acknowledged, the warm-up's too.
    pub(super) acked_bytes: u64,
}

/// See the module's text.
pub(super) struct Workbench<'a> {
    pub(super) options: &'a Options,
    pub(super) scale: Scale,
    pub(super) progress: ProgressLine,
    /// What went wrong with records and brokers: a sentence each.
    pub(super) failures: Vec<String>,
    /// What a reader of the figures should know.
    pub(super) notes: Vec<String>,
    directory: &'a Path,
    removed: RemovedWhenInterrupted,
    runs: u32,
}

impl<'a> Workbench<'a> {
    pub(super) fn new(
        options: &'a Options,
        scale: Scale,
        directory: &'a Path,
        removed: RemovedWhenInterrupted,
    ) -> Self {
        Self {
            options,
            scale,
            progress: ProgressLine::new(),
            failures: Vec::new(),
            notes: Vec::new(),
            directory,
            removed,
            runs: 0,
        }
    }

    /// Starts a broker on the directory of that name, new or left by [`Workbench::stop`].
    pub(super) fn start(&mut self, name: &str) -> Result<OwnBroker, NumbersError> {
        let directory = self.directory_of(name);
        std::fs::create_dir_all(&directory).map_err(io_error("making a broker's directory"))?;
        let settings = BrokerSettings {
            shards: self.options.shards.map(Into::into),
            ..BrokerSettings::default()
        };
        Ok(OwnBroker::start(
            &directory,
            settings,
            self.removed.clone(),
        )?)
    }

    /// Stops a broker; its directory stays.
    pub(super) fn stop(&mut self, broker: OwnBroker) -> Result<(), NumbersError> {
        let errors = broker.logged_errors().into_iter().take(LOGGED_ERRORS_MAX);
        self.failures
            .extend(errors.map(|line| format!("a broker logged an error: {line}")));
        Ok(broker.stop()?)
    }

    /// Stops a broker and removes all it wrote.
    pub(super) fn clear(&mut self, name: &str, broker: OwnBroker) -> Result<(), NumbersError> {
        self.stop(broker)?;
        std::fs::remove_dir_all(self.directory_of(name))
            .map_err(io_error("removing a broker's directory"))
    }

    /// Puts a load on a broker, and notes what a reader of its figures should know.
    pub(super) fn measure(
        &mut self,
        broker: &mut OwnBroker,
        load: &Load,
    ) -> Result<Loaded, NumbersError> {
        let loaded = self.load(broker, load)?;
        let phase = &loaded.phase;
        self.notes.extend(notes(std::slice::from_ref(phase)));
        let limited = phase.limited_by_generator.as_ref();
        self.notes.extend(
            limited.map(|reason| format!("{}: limited by the generator: {reason}", phase.name)),
        );
        Ok(loaded)
    }

    /// Puts a load on a broker. What it does to the records is checked as always.
    pub(super) fn load(
        &mut self,
        broker: &mut OwnBroker,
        load: &Load,
    ) -> Result<Loaded, NumbersError> {
        let topic = NewTopic {
            retention_bytes: load.retention_bytes,
            ..NewTopic::durable(load.partitions)
        };
        let connect = connect(broker, load.name, &topic)?;
        let plan = load.plan();
        self.runs += 1;
        let run = Run::new(
            &plan,
            &connect,
            Some(broker),
            &mut self.progress,
            self.runs,
            SEED,
        );
        let outcome = run.execute()?;
        let failed = failures(&outcome, plan.durability);
        self.failures.extend(
            failed
                .into_iter()
                .map(|what| format!("{}: {what}", load.name)),
        );
        let phase = outcome
            .phases
            .into_iter()
            .next_back()
            .ok_or_else(|| NoFigure(load.name.to_owned()))?;
        Ok(Loaded {
            phase,
            acked_bytes: outcome.acked * RECORD_BYTES as u64,
        })
    }

    /// Connects to a broker's topic, which is made when there is none of that name.
    pub(super) fn connect(
        &self,
        broker: &OwnBroker,
        topic: &str,
        partitions: u32,
    ) -> Result<WireConnect, NumbersError> {
        connect(broker, topic, &NewTopic::durable(partitions))
    }

    /// As fast as it goes, in batches of about `batch_bytes`, with retention at work; so it ends with its time, unless retention is at work nowhere.
    pub(super) fn saturated(&self, name: &'static str, partitions: u32, batch_bytes: u64) -> Load {
        let retention_bytes = self.scale.kept_of(partitions);
        Load {
            name,
            partitions,
            producers: self.options.producers.max(1),
            consumers: 0,
            rate: Rate::Max,
            duration: self.scale.row(),
            warm_up: self.scale.warm_up(),
            bytes_max: retention_bytes.is_none().then_some(self.scale.bytes_max),
            retention_bytes,
            batching: whole_batches(batch_bytes),
        }
    }

    fn directory_of(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn connect(
    broker: &OwnBroker,
    topic: &str,
    new_topic: &NewTopic,
) -> Result<WireConnect, NumbersError> {
    let address = broker.address().to_string();
    let topic = topic.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    WireConnect::open(&address, &topic, new_topic).map_err(NumbersError::client("making a topic"))
}

impl Load {
    /// The same, of which the broker keeps all: it ends with so many bytes too.
    pub(super) fn kept_up_to(self, bytes_max: u64) -> Self {
        Self {
            bytes_max: Some(bytes_max),
            retention_bytes: None,
            ..self
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            phases: vec![PhasePlan {
                name: self.name,
                rate: self.rate,
                duration: self.duration,
                warm_up: self.warm_up,
                bytes_max: self.bytes_max,
                overrun_max: None,
                batching: self.batching,
            }],
            producers: self.producers,
            consumers: self.consumers,
            partitions: self.partitions,
            record_sizes: RecordSizes::Fixed(RECORD_BYTES),
            keys: 0,
            fan_out: 1,
            retention_bytes: self.retention_bytes,
            durability: Durability::Durable,
            kill: false,
            reread: false,
            limits: false,
        }
    }
}

/// Batches that leave full: bounded by records, so that none waits for a record that does not fit.
fn whole_batches(batch_bytes: u64) -> Batching {
    let batch_bytes = u32::try_from(batch_bytes).unwrap_or(u32::MAX);
    Batching {
        batch_bytes,
        batch_records: Some((batch_bytes / (RECORD_BYTES as u32 + RECORD_OVERHEAD_BYTES)).max(1)),
        linger: Duration::ZERO,
        inflight: None,
        buffer_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::numbers::CommandLine;
    use crate::subject::batch_of;
    use gannet_wire::batch::Compression;

    fn saturated(arguments: &[&str]) -> Load {
        let line = CommandLine::try_parse_from([&["gannet-numbers"], arguments].concat()).unwrap();
        let scale = Scale::new(&line.options, 100 << 30);
        let removed = RemovedWhenInterrupted::default();
        let bench = Workbench::new(&line.options, scale, Path::new("/nowhere"), removed);
        bench.saturated("saturated", 2, 64 << 10)
    }

    #[test]
    fn a_saturated_load_ends_with_its_time_where_retention_is_at_work_and_else_with_its_bytes() {
        let plan = saturated(&[]).plan();
        assert_eq!(plan.retention_bytes, NonZeroU64::new(512 << 20));
        assert_eq!(plan.phases[0].bytes_max, None);
        for all_kept in [
            saturated(&["--retention-bytes", "0"]),
            saturated(&[]).kept_up_to(8 << 30),
        ] {
            let plan = all_kept.plan();
            assert_eq!(plan.retention_bytes, None);
            assert_eq!(plan.phases[0].bytes_max, Some(8 << 30));
        }
    }

    #[test]
    fn a_whole_batch_of_records_fits_its_bytes() {
        for batch_bytes in [16 << 10, 64 << 10, 256 << 10] {
            let batching = whole_batches(batch_bytes);
            let records = batching.batch_records.unwrap();
            let bytes = batch_of(records, RECORD_BYTES, Compression::None).len() as u64;
            assert!(bytes <= batch_bytes, "{records} records take {bytes}");
            assert!(
                bytes > batch_bytes * 9 / 10,
                "{records} records take {bytes}"
            );
            assert_eq!(batching.records_in_turn(RECORD_BYTES), u64::from(records));
        }
    }
}
