//! Making trials: a broker of its own for each, with a directory of its own on the disk, loaded and verified by the load generator.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use gannet_engine::control::Config;
use gannet_loadgen::broker::{BrokerSettings, Interrupted, OwnBroker, RemovedWhenInterrupted};
use gannet_loadgen::driver::Driver;
use gannet_loadgen::driver::native::{NewTopic, WireConnect};
use gannet_loadgen::filesystem::Filesystem;
use gannet_loadgen::options::CommandLine;
use gannet_loadgen::plan::Plan;
use gannet_loadgen::progress::ProgressLine;
use gannet_loadgen::run::{Referee, Run, Seen, failures};

use super::figures::{Figures, cost};
use super::history::Measured;
use super::ladder::{Ladder, Tried};
use super::workload::Workload;
use crate::goal::{Bound, Goal, Way};

/// So much more than the goal's load is offered, so that what is carried is not a little less than it.
const OFFERED: f64 = 1.01;
/// A phase is judged when so much was measured, or a part of it where the whole is short.
const JUDGED_FROM: Duration = Duration::from_secs(1);
const JUDGED_FROM_PART: u32 = 4;
/// It is hopeless when so many times the records are slow that may be.
const SLOW_TIMES: f64 = 3.0;
/// A run as fast as it goes is judged from the middle on: what its beginning carried says little about the rest.
const THROUGHPUT_JUDGED_FROM_PART: u32 = 2;
/// The first guess of a rate is this share of what the default did as fast as it went.
const FIRST_GUESS: f64 = 0.8;
/// With a bound each run of a trial is so much shorter: there are several.
const RUNS_IN_TRIAL: u32 = 2;
const RUN_MIN: Duration = Duration::from_millis(400);

/// A trial to make.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// What to call it while it is made.
    pub(super) title: String,
    /// The broker's configuration, but for address and directory.
    pub(super) toml: String,
    /// The client's options.
    pub(super) client: Vec<String>,
    /// How long.
    pub(super) duration: Duration,
    /// A cost beyond which there is no use in going on.
    pub(super) hopeless_above: Option<f64>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) measured: Measured,
    /// Of the run that counts: the one at the highest rate that held, where there were several.
    pub(super) figures: Option<Figures>,
    /// How many runs it took.
    pub(super) runs: u32,
    /// Why there is nothing: a sentence.
    pub(super) refused: Option<String>,
    /// Why no higher rate was tried although the last one held: a sentence.
    pub(super) capped: Option<String>,
    /// What went wrong with records: a sentence each.
    pub(super) failures: Vec<String>,
    /// The search's end came first: this says nothing about the configuration.
    pub(super) cut_short: bool,
}

/// What all trials have in common.
pub(super) struct Bench {
    pub(super) goal: Goal,
    pub(super) workload: Workload,
    pub(super) directory: PathBuf,
    pub(super) seed: u64,
    pub(super) removed: RemovedWhenInterrupted,
    pub(super) interrupted: Interrupted,
    pub(super) deadline: Instant,
    pub(super) progress: ProgressLine,
    /// Runs made so far: each has records of its own.
    pub(super) runs: u32,
    /// The highest rate that held lately.
    pub(super) guess: Option<f64>,
}

/// When a run is hopeless, and may be ended.
#[derive(Clone, Copy, Debug)]
enum Hopeless {
    /// Far more records take longer than those microseconds than the bound allows.
    Slow(Bound, f64),
    /// A record costs more than those microseconds.
    Costly(f64),
}

/// One run of a trial.
struct RunMade {
    figures: Option<Figures>,
    failures: Vec<String>,
}

/// Why a run was not made. Says it in a sentence.
#[derive(Debug, thiserror::Error)]
enum RunError {
    /// Too much for the disk as it is now: a lower rate may do.
    #[error("{0}")]
    NoRoom(String),
    /// Anything else: the configuration, the broker or the machine.
    #[error("{0}")]
    Failed(String),
}

impl RunError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Bench {
    pub(super) fn make(&mut self, order: &Order) -> Made {
        let before = self.runs;
        self.progress.whole(&order.title);
        let made = self.try_it(order).unwrap_or_else(|sentence| Made {
            measured: Measured::Refused,
            figures: None,
            runs: 0,
            refused: Some(sentence),
            capped: None,
            failures: Vec::new(),
            cut_short: false,
        });
        Made {
            runs: self.runs - before,
            cut_short: self.is_over(),
            ..made
        }
    }

    /// Clears what the progress shows.
    pub(super) fn finish(&self) {
        self.progress.finish();
    }

    fn is_over(&self) -> bool {
        self.interrupted.is_set() || Instant::now() >= self.deadline
    }

    fn try_it(&mut self, order: &Order) -> Result<Made, String> {
        let directory = self.directory.join("trial");
        fs::create_dir_all(&directory)
            .map_err(|error| format!("making {}: {error}", directory.display()))?;
        let made = self.try_in(order, &directory);
        // The broker is gone by now.
        fs::remove_dir_all(&directory)
            .map_err(|error| format!("removing {}: {error}", directory.display()))?;
        made
    }

    fn try_in(&mut self, order: &Order, directory: &Path) -> Result<Made, String> {
        let file = directory.join("gannet.toml");
        Config::from_toml(&file, &order.toml).map_err(|error| error.to_string())?;
        fs::write(&file, &order.toml)
            .map_err(|error| format!("writing {}: {error}", file.display()))?;
        self.progress.step("starting a broker");
        let settings = BrokerSettings {
            config: Some(file),
            ..BrokerSettings::default()
        };
        let mut broker = OwnBroker::start(directory, settings, self.removed.clone())
            .map_err(|error| error.to_string())?;
        let made = match self.goal {
            Goal::Latency { bound, load } => {
                let rate = load.records_per_s(self.workload.record_bytes) * OFFERED;
                self.paced(order, &mut broker, rate.ceil() as u64, &bound)
            }
            Goal::Throughput { bound: None } => self.saturated(order, &mut broker),
            Goal::Throughput { bound: Some(bound) } => self.climbed(order, &mut broker, &bound),
        };
        let errors = broker.logged_errors().into_iter().take(3);
        let errors: Vec<_> = errors
            .map(|line| format!("the broker logged an error: {line}"))
            .collect();
        // It is not asked to stop: what it would write then was not measured, and is removed.
        drop(broker);
        made.map(|mut made| {
            made.failures.extend(errors);
            made
        })
    }

    fn paced(
        &mut self,
        order: &Order,
        broker: &mut OwnBroker,
        rate: u64,
        bound: &Bound,
    ) -> Result<Made, String> {
        let hopeless = order
            .hopeless_above
            .map(|cost| Hopeless::Slow(*bound, cost));
        let run = self
            .run(order, broker, Some(rate), order.duration, hopeless)
            .map_err(|error| error.to_string())?;
        self.made_of(run, order.hopeless_above)
    }

    fn saturated(&mut self, order: &Order, broker: &mut OwnBroker) -> Result<Made, String> {
        let hopeless = order.hopeless_above.map(Hopeless::Costly);
        let run = self
            .run(order, broker, None, order.duration, hopeless)
            .map_err(|error| error.to_string())?;
        self.made_of(run, order.hopeless_above)
    }

    fn made_of(&self, run: RunMade, hopeless_above: Option<f64>) -> Result<Made, String> {
        let figures = run
            .figures
            .ok_or("nothing was acknowledged in the measured time")?;
        let cost = cost(&self.goal, &figures);
        Ok(Made {
            measured: match hopeless_above {
                Some(least) if figures.ended_early => Measured::AtLeast(cost.max(least)),
                _ => Measured::Cost(cost),
            },
            figures: Some(figures),
            runs: 0,
            refused: None,
            capped: None,
            failures: run.failures,
            cut_short: false,
        })
    }

    /// The highest rate at which the latency stays below its bound.
    fn climbed(
        &mut self,
        order: &Order,
        broker: &mut OwnBroker,
        bound: &Bound,
    ) -> Result<Made, String> {
        let duration = (order.duration / RUNS_IN_TRIAL).max(RUN_MIN);
        let mut failures = Vec::new();
        let guess = match self.guess {
            Some(guess) => guess,
            None => {
                let run = self
                    .run(order, broker, None, duration, None)
                    .map_err(|error| error.to_string())?;
                failures.extend(run.failures);
                let figures = run
                    .figures
                    .ok_or("nothing was acknowledged in the measured time")?;
                figures.records_per_s * FIRST_GUESS
            }
        };
        let climbed = Ladder::new(guess).climb(|rate| {
            if self.is_over() {
                return Tried::Over;
            }
            let hopeless = Hopeless::Slow(*bound, super::figures::micros(bound.below));
            match self.run(order, broker, Some(rate), duration, Some(hopeless)) {
                Ok(run) => {
                    failures.extend(run.failures);
                    match run.figures {
                        Some(figures) if figures.holds(bound) => Tried::Held(figures),
                        // Nothing acknowledged in time is nothing that held.
                        figures => Tried::NotHeld(figures),
                    }
                }
                Err(RunError::NoRoom(sentence)) => Tried::NoRoom(sentence),
                Err(RunError::Failed(sentence)) => Tried::Failed(sentence),
            }
        })?;
        if let Some(best) = &climbed.best {
            self.guess = best.offered_records_per_s.map(|rate| rate as f64);
        }
        let measured = match (&climbed.best, climbed.none_held_from) {
            (Some(figures), _) => Measured::Cost(cost(&self.goal, figures)),
            (None, Some(rate)) => Measured::AtLeast(1e6 / rate as f64),
            (None, None) => Measured::Refused,
        };
        Ok(Made {
            measured,
            figures: climbed.best.or(climbed.last),
            runs: 0,
            refused: None,
            capped: climbed.capped,
            failures,
            cut_short: false,
        })
    }

    /// One run; it is ended early when it is hopeless.
    fn run(
        &mut self,
        order: &Order,
        broker: &mut OwnBroker,
        rate: Option<u64>,
        duration: Duration,
        hopeless: Option<Hopeless>,
    ) -> Result<RunMade, RunError> {
        self.runs += 1;
        let arguments = self.arguments(order, rate, duration);
        let line = CommandLine::try_parse_from(&arguments).map_err(RunError::failed)?;
        let mut plan = Plan::new(&line.options).map_err(RunError::failed)?;
        let filesystem = Filesystem::of(&self.directory).map_err(RunError::failed)?;
        plan.fit_into(filesystem.free_bytes)
            .map_err(|error| RunError::NoRoom(error.to_string()))?;
        let connect = WireConnect::open(
            &broker.address().to_string(),
            &format!("tune-{}", self.runs),
            &NewTopic::of(&plan),
        )
        .map_err(RunError::failed)?;
        let mut ended_early = false;
        let (interrupted, deadline) = (self.interrupted.clone(), self.deadline);
        let mut ends = |seen: &Seen| {
            let is_hopeless = hopeless.is_some_and(|hopeless| hopeless.is(seen, duration));
            ended_early = is_hopeless || interrupted.is_set() || Instant::now() >= deadline;
            ended_early
        };
        let referee = Referee {
            slow: match hopeless {
                Some(Hopeless::Slow(_, us)) => Duration::from_nanos((us * 1e3) as u64),
                Some(Hopeless::Costly(_)) | None => Duration::MAX,
            },
            ends: &mut ends,
        };
        let outcome = Run::new(
            &plan,
            &connect,
            Some(broker),
            &mut self.progress,
            self.runs,
            self.seed,
        )
        .watched_by(referee)
        .execute()
        .map_err(RunError::failed)?;
        let failures = if self.is_over() {
            // A broker that was killed because the time was over loses what was not acknowledged; nothing of this run counts.
            Vec::new()
        } else {
            // The next run has records of its own: these would only take its room on the disk.
            connect
                .delete_topic()
                .map_err(|error| RunError::Failed(format!("deleting what a run left: {error}")))?;
            failures(&outcome, plan.durability)
        };
        let command = arguments.join(" ") + " --config gannet.toml";
        let figures = outcome
            .phases
            .last()
            .and_then(|phase| Figures::of(phase, ended_early, command));
        Ok(RunMade { figures, failures })
    }

    /// What the load generator would be called with.
    fn arguments(&self, order: &Order, rate: Option<u64>, duration: Duration) -> Vec<String> {
        let rate = rate.map_or_else(|| "max".to_owned(), |rate| rate.to_string());
        let mut arguments = vec!["gannet-loadgen".to_owned()];
        arguments.extend(["--rate".to_owned(), rate]);
        arguments.extend([
            "--duration".to_owned(),
            format!("{}ms", duration.as_millis()),
        ]);
        arguments.extend(self.workload.arguments());
        arguments.extend(order.client.iter().cloned());
        arguments.extend(["--seed".to_owned(), self.seed.to_string()]);
        arguments
    }
}

impl Hopeless {
    /// Whether a run of that length is by now.
    fn is(&self, seen: &Seen, duration: Duration) -> bool {
        match self {
            Self::Slow(bound, _) => {
                is_hopeless(seen, bound, JUDGED_FROM.min(duration / JUDGED_FROM_PART))
            }
            Self::Costly(most_us) => {
                let (records, _) = seen.published;
                seen.measured >= duration / THROUGHPUT_JUDGED_FROM_PART
                    && super::figures::micros(seen.measured) > most_us * records as f64
            }
        }
    }
}

/// Whether so many records were slow that the latency that a bound is about will be slow too.
fn is_hopeless(seen: &Seen, bound: &Bound, judged_from: Duration) -> bool {
    let (measured, slow) = match bound.way {
        Way::Publish => seen.published,
        Way::EndToEnd => seen.consumed,
    };
    let allowed = measured as f64 * bound.percentile.share_above();
    // What is neither acknowledged nor slow yet is in no count: where nothing comes back at all, nothing is judged.
    seen.measured >= judged_from && slow as f64 > SLOW_TIMES * allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> Bound {
        text.parse::<Goal>().unwrap().bound().unwrap()
    }

    fn seen(millis: u64, published: (u64, u64), consumed: (u64, u64)) -> Seen {
        Seen {
            measured: Duration::from_millis(millis),
            published,
            consumed,
        }
    }

    #[test]
    fn a_run_is_hopeless_when_far_more_records_are_slow_than_may_be() {
        let p99 = bound("p99 < 2ms at 1 MB/s");
        let from = Duration::from_secs(1);
        assert!(!is_hopeless(&seen(1000, (1000, 30), (0, 0)), &p99, from));
        assert!(is_hopeless(&seen(1000, (1000, 31), (0, 0)), &p99, from));
        assert!(
            !is_hopeless(&seen(999, (1000, 1000), (0, 0)), &p99, from),
            "too early to say"
        );
    }

    #[test]
    fn a_run_as_fast_as_it_goes_is_hopeless_when_its_records_cost_more_than_the_most() {
        // 10 us a record: 100,000 a second.
        let hopeless = Hopeless::Costly(10.0);
        let whole = Duration::from_secs(2);
        assert!(!hopeless.is(&seen(1000, (100_000, 0), (0, 0)), whole));
        assert!(hopeless.is(&seen(1000, (99_999, 0), (0, 0)), whole));
        assert!(
            !hopeless.is(&seen(999, (0, 0), (0, 0)), whole),
            "too early to say"
        );
        assert!(hopeless.is(&seen(1000, (0, 0), (0, 0)), whole));
    }

    #[test]
    fn a_single_slow_record_decides_about_the_longest() {
        let longest = bound("end to end max < 2ms at 1 MB/s");
        assert!(is_hopeless(
            &seen(1000, (0, 0), (1000, 1)),
            &longest,
            Duration::ZERO
        ));
        assert!(!is_hopeless(
            &seen(1000, (1000, 9), (1000, 0)),
            &longest,
            Duration::ZERO
        ));
    }
}
