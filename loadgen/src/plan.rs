//! What a run will do, made of its options before anything starts.

use std::num::NonZeroU64;
use std::time::Duration;

use gannet_wire::Timestamp;
use gannet_wire::batch::{BatchBuilder, BatchLimits};

use crate::options::{Options, Rate};
use crate::report::{Durability, Settings};
use crate::scenario::{Fault, Scenario};
use crate::sizes::RecordSizes;
use crate::verify::HEAD_BYTES;

/// The default run sends at most this as fast as it goes: reading it all again must fit into the run's minute.
const DEFAULT_RUN_BYTES_MAX: u64 = 5 << 30;
/// Producers share one budget for what waits in their clients.
const BUFFER_BYTES_MAX: u64 = 256 << 20;
const BUFFER_BYTES_MIN: u64 = 1 << 20;
/// What clients have in flight for each producer and partition when nobody says how much.
const INFLIGHT_DEFAULT: u32 = 5;
/// Without a warm-up asked for, so much of a phase is warm-up, and at most so long.
const WARM_UP_SHARE: u32 = 4;
const WARM_UP_MAX: Duration = Duration::from_secs(1);

/// Why options make no run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(String);

impl PlanError {
    /// What makes no sense: a sentence.
    pub(crate) fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

impl From<Fault> for PlanError {
    /// The scenario was sound when it was read, so what is wrong was said on the command line.
    fn from(fault: Fault) -> Self {
        Self(format!(
            "--{} {}",
            fault.key.replace('_', "-"),
            fault.sentence
        ))
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One after the other.
    pub phases: Vec<PhasePlan>,
    /// Producers.
    pub producers: u32,
    /// Consumers.
    pub consumers: u32,
    /// Partitions of a topic that is created.
    pub partitions: u32,
    /// How large records are.
    pub record_sizes: RecordSizes,
    /// Distinct keys; 0 for records without.
    pub keys: u32,
    /// How many times every record is consumed, each time by all consumers.
    pub fan_out: u32,
    /// About how much of each partition the broker keeps; everything without.
    pub retention_bytes: Option<NonZeroU64>,
    /// What acknowledgements must mean.
    pub durability: Durability,
    /// Whether the broker is killed after the last phase.
    pub kill: bool,
    /// Whether everything is read again at the end.
    pub reread: bool,
    /// Whether the machine's limits are measured.
    pub limits: bool,
}

/// A phase of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhasePlan {
    /// Its name in the report.
    pub name: &'static str,
    /// How fast.
    pub rate: Rate,
    /// How long, warm-up included.
    pub duration: Duration,
    /// How much of it is not measured.
    pub warm_up: Duration,
    /// Ends the phase early.
    pub bytes_max: Option<u64>,
    /// At a fixed rate: for how long after its end what was due before is still sent. Without, all of it is, however long that takes.
    pub overrun_max: Option<Duration>,
    /// How the client makes batches.
    pub batching: Batching,
}

/// How the client makes batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Largest batch.
    pub batch_bytes: u32,
    /// Most records in a batch.
    pub batch_records: Option<u32>,
    /// How long a batch may wait to fill.
    pub linger: Duration,
    /// Batches in flight for each producer and partition; the client's default without.
    pub inflight: Option<u32>,
    /// What may wait in one producer's client; what the batches in flight need without.
    pub buffer_bytes: Option<u64>,
}

impl Batching {
    /// How many records of this size go to one partition before the next takes its turn, when sending as fast as it goes: what fills a batch.
    #[must_use]
    pub fn records_in_turn(&self, record_bytes: usize) -> u64 {
        let fill = u64::from(self.batch_bytes) / record_bytes as u64;
        fill.min(self.batch_records.map_or(u64::MAX, u64::from))
            .max(1)
    }

    /// Batches in flight for each producer and partition.
    #[must_use]
    pub fn inflight(&self) -> u32 {
        self.inflight.unwrap_or(INFLIGHT_DEFAULT)
    }

    /// How many records of this size one producer has in flight at most, to all partitions together, with a client that sends every record by itself: as many as
    /// there are in the batches that others have in flight.
    #[must_use]
    pub fn records_in_flight(&self, record_bytes: usize, partitions: u32) -> u64 {
        (u64::from(self.inflight()) * u64::from(partitions))
            .saturating_mul(self.records_in_turn(record_bytes))
    }

    /// How much may wait in one producer's client, so that a latency measured as fast as it goes is the broker's more than that of a long queue in front of it.
    #[must_use]
    pub fn buffer_bytes(&self, record_bytes: usize, partitions: u32, producers: u32) -> u64 {
        if let Some(bytes) = self.buffer_bytes {
            return bytes;
        }
        // Twice the room of the batches in flight: the next ones fill while these are under way.
        let batch_bytes = self
            .batch_records
            .map_or(u64::from(self.batch_bytes), |records| {
                u64::from(self.batch_bytes).min(u64::from(records) * (record_bytes as u64 + 128))
            });
        let in_flight = u64::from(self.inflight()) * batch_bytes * u64::from(partitions);
        let share = (BUFFER_BYTES_MAX / u64::from(producers)).max(4 * u64::from(self.batch_bytes));
        (2 * in_flight)
            .clamp(BUFFER_BYTES_MIN.min(share), share)
            .max(4 * batch_bytes)
    }
}

impl Plan {
    /// The run that the options ask for.
    ///
    /// # Errors
    /// A sentence for what makes no sense.
    pub fn new(options: &Options) -> Result<Self, PlanError> {
        let is_default =
            options.scenario.is_none() && options.rate.is_none() && options.duration.is_none();
        let scenario = options.scenario.clone().unwrap_or_default().with(options);
        scenario.check()?;
        let smallest = scenario.record_size.min();
        if options.topic.is_some() && smallest < HEAD_BYTES {
            return Err(PlanError(format!(
                "--topic may name one with records of other runs, from which those of {smallest} bytes cannot be told: leave it out, or give records of at least {HEAD_BYTES} bytes"
            )));
        }
        let phases = if is_default {
            vec![
                phase(
                    "paced",
                    Rate::PerSecond(10_000),
                    Duration::from_secs(7),
                    options.bytes_max,
                    &scenario,
                )?,
                phase(
                    "saturated",
                    Rate::Max,
                    Duration::from_secs(9),
                    Some(options.bytes_max.unwrap_or(DEFAULT_RUN_BYTES_MAX)),
                    &scenario,
                )?,
            ]
        } else {
            let name = if scenario.rate == Rate::Max {
                "saturated"
            } else {
                "paced"
            };
            let (rate, duration) = (scenario.rate, scenario.duration);
            vec![phase(name, rate, duration, options.bytes_max, &scenario)?]
        };
        let kill = options.kill || (is_default && options.server.is_none());
        let reread = options.reread || kill || scenario.consumers == 0;
        if scenario.retention_bytes.is_some() && reread {
            return Err(PlanError(
                "--retention-bytes lets records go, and so they cannot be read again: leave out --reread and --kill, and give a --duration (the default run ends with a kill)".to_owned(),
            ));
        }
        Ok(Self {
            phases,
            producers: scenario.producers.get(),
            consumers: scenario.consumers,
            partitions: scenario.partitions.get(),
            record_sizes: scenario.record_size,
            keys: scenario.keys,
            fan_out: scenario.fan_out.get(),
            retention_bytes: scenario.retention_bytes,
            durability: scenario.durability,
            kill,
            reread,
            limits: options.limits,
        })
    }

    /// The size to expect of a record.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.record_sizes.mean_bytes()
    }

    /// Whether the broker takes batches that are large enough for the records.
    ///
    /// # Errors
    /// A sentence when it does not.
    pub fn check_records(&self, batch_bytes_max: u32) -> Result<(), PlanError> {
        let limits = BatchLimits {
            batch_bytes_max,
            ..BatchLimits::FORMAT
        };
        let largest = self.record_sizes.max();
        let value = vec![0; largest];
        BatchBuilder::new(limits)
            .push(Timestamp(0), None, Some(&value), &[])
            .map_err(|error| {
                PlanError(format!(
                    "--record-size {largest} is too large for the broker ({error}; its network.batch_bytes_max)"
                ))
            })
    }

    /// What of this the report repeats; the rest is for the caller to add.
    #[must_use]
    pub fn settings(&self, partitions: u32) -> Settings {
        let durations = self.phases.iter().map(|phase| phase.duration.as_secs_f64());
        let settings = Settings {
            duration_s: durations.sum(),
            bytes_max: self.phases.iter().filter_map(|phase| phase.bytes_max).max(),
            producers: self.producers,
            consumers: self.consumers,
            fan_out: self.fan_out,
            partitions,
            record_bytes: self.record_bytes() as u64,
            record_size: self.record_sizes.clone(),
            keys: self.keys,
            retention_bytes: self.retention_bytes.map(NonZeroU64::get),
            ..Settings::default()
        };
        // All phases have the same batching.
        let Some(PhasePlan { batching, .. }) = self.phases.first() else {
            return settings;
        };
        Settings {
            batch_bytes: batching.batch_bytes.into(),
            batch_records: batching.batch_records,
            linger_us: u64::try_from(batching.linger.as_micros()).unwrap_or(u64::MAX),
            inflight: batching.inflight,
            buffer_bytes: self.buffer_bytes(batching, partitions),
            ..settings
        }
    }

    /// How much may wait in one producer's client.
    #[must_use]
    pub fn buffer_bytes(&self, batching: &Batching, partitions: u32) -> u64 {
        // The largest record needs room too, however rare it is.
        batching
            .buffer_bytes(self.record_bytes(), partitions, self.producers)
            .max(self.record_sizes.max() as u64 + 1)
    }

    /// Bounds what phases send as fast as they go by the room on the disk: every byte may be there twice for a while, and some must stay free. Where the broker keeps only so
    /// much, that must fit.
    ///
    /// # Errors
    /// A sentence when there is not enough room for a run at all.
    pub fn fit_into(&mut self, free_bytes: u64) -> Result<(), PlanError> {
        let room = free_bytes / 3;
        if let Some(bytes) = self.retention_bytes {
            let kept = bytes.get().saturating_mul(self.partitions.into());
            if kept > room {
                return Err(PlanError(format!(
                    "the disk has {} free, and --retention-bytes for {} partition(s) needs {}: give less, or another --data-dir",
                    crate::units::bytes(free_bytes),
                    self.partitions,
                    crate::units::bytes(kept.saturating_mul(3)),
                )));
            }
            return Ok(());
        }
        let fixed: u64 = self
            .phases
            .iter()
            .map(|phase| phase.bytes_at_rate(self.record_bytes()))
            .sum();
        let left = room.saturating_sub(fixed);
        if left < 64 << 20 {
            return Err(PlanError(format!(
                "the disk has {} free, and this run needs {}: give another --data-dir, or a shorter run",
                crate::units::bytes(free_bytes),
                crate::units::bytes((fixed + (64 << 20)) * 3),
            )));
        }
        for phase in &mut self.phases {
            if phase.rate == Rate::Max {
                phase.bytes_max = Some(
                    phase
                        .bytes_max
                        .map_or(left, |bytes_max| bytes_max.min(left)),
                );
            }
        }
        Ok(())
    }
}

impl PhasePlan {
    /// What a phase at a fixed rate sends; 0 for one as fast as it goes.
    fn bytes_at_rate(&self, record_bytes: usize) -> u64 {
        match self.rate {
            Rate::PerSecond(rate) => {
                let bytes =
                    (rate as f64 * self.duration.as_secs_f64() * record_bytes as f64) as u64;
                bytes.min(self.bytes_max.unwrap_or(u64::MAX))
            }
            Rate::Max => 0,
        }
    }
}

fn phase(
    name: &'static str,
    rate: Rate,
    duration: Duration,
    bytes_max: Option<u64>,
    scenario: &Scenario,
) -> Result<PhasePlan, PlanError> {
    let warm_up = scenario
        .warm_up
        .unwrap_or_else(|| (duration / WARM_UP_SHARE).min(WARM_UP_MAX));
    if warm_up >= duration {
        return Err(PlanError(format!(
            "--warm-up {} s leaves nothing to measure of the {name} phase, which is {} s long",
            warm_up.as_secs_f64(),
            duration.as_secs_f64()
        )));
    }
    let batching = Batching {
        batch_bytes: u32::try_from(scenario.batch_bytes)
            .map_err(|_| PlanError("--batch-bytes is beyond any batch".to_owned()))?,
        batch_records: scenario.batch_records.map(Into::into),
        linger: Duration::from_micros(scenario.linger_us),
        inflight: scenario.inflight.map(Into::into),
        buffer_bytes: scenario.buffer_bytes.map(Into::into),
    };
    Ok(PhasePlan {
        name,
        rate,
        duration,
        warm_up,
        bytes_max,
        overrun_max: None,
        batching,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::CommandLine;

    fn plan(arguments: &[&str]) -> Result<Plan, PlanError> {
        let line = CommandLine::try_parse_from([&["gannet-loadgen"], arguments].concat()).unwrap();
        Plan::new(&line.options)
    }

    #[test]
    fn without_arguments_there_are_two_phases_and_a_kill() {
        let plan = plan(&[]).unwrap();
        let names: Vec<_> = plan.phases.iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["paced", "saturated"]);
        assert!(plan.kill && plan.reread);
    }

    #[test]
    fn the_default_run_sends_for_well_under_a_minute() {
        let total: Duration = plan(&[])
            .unwrap()
            .phases
            .iter()
            .map(|phase| phase.duration)
            .sum();
        assert!(total <= Duration::from_secs(20));
    }

    #[test]
    fn a_rate_or_a_duration_makes_one_phase_and_no_kill() {
        for arguments in [["--rate", "max"], ["--rate", "500"], ["--duration", "3s"]] {
            let plan = plan(&arguments).unwrap();
            assert_eq!(plan.phases.len(), 1, "{arguments:?}");
            assert!(!plan.kill && !plan.reread, "{arguments:?}");
        }
    }

    #[test]
    fn a_broker_that_is_not_ours_is_never_killed() {
        assert!(!plan(&["--server", "127.0.0.1:7470"]).unwrap().kill);
        assert!(
            CommandLine::try_parse_from(["gannet-loadgen", "--server", "h:1", "--kill"]).is_err()
        );
    }

    #[test]
    fn without_consumers_everything_is_read_afterwards() {
        assert!(plan(&["--rate", "max", "--consumers", "0"]).unwrap().reread);
    }

    #[test]
    fn what_the_broker_lets_go_of_is_not_read_again() {
        let kept = ["--retention-bytes", "1GiB", "--duration", "3s"];
        assert!(!plan(&kept).unwrap().reread);
        let read_again = [
            &kept[..2],
            &[&kept[..], &["--reread"]].concat(),
            &[&kept[..], &["--kill"]].concat(),
        ];
        for arguments in read_again {
            let sentence = plan(arguments).unwrap_err().to_string();
            assert!(sentence.contains("read again"), "{arguments:?}: {sentence}");
        }
    }

    #[test]
    fn a_run_that_keeps_so_much_sends_without_bound_if_that_has_room() {
        let kept = ["--rate", "max", "--retention-bytes", "1GiB"];
        let mut plan = plan(&kept).unwrap();
        plan.fit_into(6 << 30).unwrap();
        assert_eq!(plan.phases[0].bytes_max, None);
        let sentence = plan.fit_into((6 << 30) - 3).unwrap_err().to_string();
        assert!(sentence.contains("--retention-bytes"), "{sentence}");
    }

    #[test]
    fn a_record_too_small_for_its_head_is_refused() {
        assert!(plan(&["--record-size", "15"]).is_err());
        assert!(plan(&["--record-size", "16"]).is_ok());
    }

    #[test]
    fn records_that_do_not_say_which_run_they_are_of_get_a_topic_to_themselves() {
        let sentence = plan(&["--record-size", "39", "--topic", "shared"]);
        let sentence = sentence.unwrap_err().to_string();
        assert!(
            sentence.contains("--topic") && sentence.contains("40 bytes"),
            "{sentence}"
        );
        assert!(plan(&["--record-size", "40", "--topic", "shared"]).is_ok());
    }

    #[test]
    fn a_record_that_fits_no_batch_of_the_broker_is_refused() {
        let largest = plan(&["--record-size", "1048428"]).unwrap();
        assert_eq!(largest.check_records(1 << 20), Ok(()));
        let error = plan(&["--record-size", "1MiB"])
            .unwrap()
            .check_records(1 << 20);
        let sentence = error.unwrap_err().to_string();
        assert!(
            sentence.contains("--record-size") && sentence.contains("1048576"),
            "{sentence}"
        );
    }

    #[test]
    fn the_report_repeats_how_batches_were_made() {
        let arguments = [
            "--batch-bytes",
            "64KiB",
            "--batch-records",
            "7",
            "--linger-us",
            "50",
            "--inflight",
            "3",
            "--buffer-bytes",
            "4MiB",
            "--duration",
            "3s",
            "--bytes-max",
            "1MB",
        ];
        let settings = plan(&arguments).unwrap().settings(2);
        assert_eq!(
            (
                settings.batch_bytes,
                settings.batch_records,
                settings.linger_us
            ),
            (64 << 10, Some(7), 50)
        );
        assert_eq!(
            (settings.inflight, settings.buffer_bytes),
            (Some(3), 4 << 20)
        );
        assert_eq!(
            (settings.duration_s, settings.bytes_max),
            (3.0, Some(1_000_000))
        );
    }

    #[test]
    fn a_small_disk_bounds_what_is_sent() {
        let mut plan = plan(&["--rate", "max", "--duration", "1h"]).unwrap();
        plan.fit_into(3 << 30).unwrap();
        assert_eq!(plan.phases[0].bytes_max, Some(1 << 30));
    }

    #[test]
    fn a_disk_too_small_for_the_rate_is_refused() {
        let mut plan = plan(&["--rate", "1000000", "--duration", "1h"]).unwrap();
        assert!(plan.fit_into(3 << 30).is_err());
    }

    #[test]
    fn a_turn_fills_a_batch() {
        let batching = plan(&["--batch-bytes", "64KiB"]).unwrap().phases[0].batching;
        assert_eq!(batching.records_in_turn(1000), 65);
        assert_eq!(batching.records_in_turn(1 << 20), 1);
        assert_eq!(
            Batching {
                batch_records: Some(1),
                ..batching
            }
            .records_in_turn(1000),
            1
        );
    }

    #[test]
    fn a_buffer_that_is_asked_for_does_not_grow_with_the_partitions() {
        let batching = plan(&["--buffer-bytes", "4MiB"]).unwrap().phases[0].batching;
        assert_eq!(batching.buffer_bytes(1000, 10_000, 1), 4 << 20);
        assert_eq!(batching.buffer_bytes(1000, 2, 1), 4 << 20);
        assert!(
            CommandLine::try_parse_from(["gannet-loadgen", "--buffer-bytes", "0"]).is_err(),
            "a client without room sends nothing"
        );
    }

    #[test]
    fn the_buffer_is_bounded_whatever_the_partitions() {
        let batching = plan(&[]).unwrap().phases[0].batching;
        assert!(batching.buffer_bytes(1000, 100_000, 1) <= BUFFER_BYTES_MAX);
        assert!(batching.buffer_bytes(1000, 1, 1) >= BUFFER_BYTES_MIN);
    }
}
