//! A search from its options to its files.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use gannet_engine::control::{Config, ConfigError, Machine};
use gannet_loadgen::broker::{Interrupted, RemovedWhenInterrupted, told_when_interrupted};
use gannet_loadgen::filesystem::{NoRealDisk, choose_directory};
use gannet_loadgen::page::PlotError;
use gannet_loadgen::progress::ProgressLine;

use super::bench::{Bench, Made, Order};
use super::descent::{Descent, Guesses, Trial};
use super::found::{Found, Place, TrialMade};
use super::history::Rung;
use super::knobs;
use super::options::SearchOptions;
use super::output::{Output, OutputError};
use crate::goal::Goal;

/// The budget over this is the length of a short trial, within limits; the others are so many times as long.
const SHORT_SHARE: u32 = 160;
const SHORT_MIN: Duration = Duration::from_millis(500);
const SHORT_MAX: Duration = Duration::from_secs(4);
const LONG_TIMES: u32 = 2;
const FINAL_TIMES: u32 = 3;
/// What belongs to a trial besides its load, at first sight.
const OVERHEAD: Duration = Duration::from_millis(1500);
/// Runs of a trial that looks for the highest rate, each half as long.
const CLIMB_TIMES: f64 = 2.5;
/// As fast as it goes: what carries less than three quarters of the default's records until the middle of its trial is given up there. It would have to carry far more than them in the rest, and
/// trials of one configuration differ by much less.
const SLOWER_TIMES: f64 = 4.0 / 3.0;
/// Kept at the end of the budget for ending a trial, also one that does not end, and for writing the files.
const CLOSING: Duration = Duration::from_millis(2000);
/// A trial that does not end so long after it was told to is left alone.
const PATIENCE: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_millis(50);

/// Why a search has no result.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// There is nowhere to put the brokers' data.
    #[error(transparent)]
    Directory(#[from] NoRealDisk),
    /// The default configuration itself cannot be measured.
    #[error("the default configuration cannot be measured: {0}")]
    Default(String),
    /// What was found is no configuration: a bug.
    #[error("the configuration that was found is refused by the broker, which is a bug: {0}")]
    Found(ConfigError),
    /// A plot that cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The operating system's refusal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The error.
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> SearchError {
    move |source| SearchError::Io {
        what: what.into(),
        source,
    }
}

/// Searches, and writes what was found. `date` is when, for the files.
///
/// # Errors
/// [`SearchError`] when there is nothing to write.
pub fn search(options: &SearchOptions, date: String) -> Result<Found, SearchError> {
    let began = Instant::now();
    let deadline = began + options.budget.saturating_sub(CLOSING);
    let output = Output::reserve(&options.output, options.force)?;
    let page = Output::reserve(&options.page_path(), options.force)?;
    let report = options
        .report
        .as_deref()
        .map(|path| Output::reserve(path, options.force))
        .transpose()?;
    let (base, filesystem) = choose_directory(options.data_dir.as_deref())?;
    let removed = RemovedWhenInterrupted::default();
    let interrupted =
        told_when_interrupted(removed.clone()).map_err(io_error("watching for Ctrl-C"))?;
    let directory = tempfile::Builder::new()
        .prefix("gannet-tune-")
        .tempdir_in(&base)
        .map_err(io_error(format!(
            "making a directory in {}",
            base.display()
        )))?;
    removed.set_directory(Some(directory.path().to_owned()));

    let machine = Machine::detect();
    let seed = options.seed.unwrap_or_else(random);
    let durations = Durations::of(options.budget);
    let bench = Bench {
        goal: options.goal,
        workload: options.workload(),
        directory: directory.path().to_owned(),
        seed,
        removed: removed.clone(),
        interrupted: interrupted.clone(),
        deadline,
        progress: ProgressLine::new(),
        runs: 0,
        guess: None,
    };
    let space = knobs::space(&options.goal, &machine, options.record_size);
    let descent = Descent::new(space, seed, durations.guesses(&options.goal));
    let descent = match options.goal {
        Goal::Throughput { bound: None } => descent.giving_up_beyond(SLOWER_TIMES),
        Goal::Throughput { bound: Some(_) } | Goal::Latency { .. } => descent,
    };
    let mut search = Search {
        descent,
        durations,
        began,
        deadline,
        interrupted: interrupted.clone(),
        trials: Vec::new(),
        failures: Vec::new(),
    };
    let searched = search.run(bench);
    // Whatever still runs is a trial that did not end: it goes with its broker.
    removed.kill_child();
    removed.set_directory(None);
    let closed = directory.close();
    searched?;
    if let Err(error) = closed {
        search.failures.push(format!(
            "the brokers' directory could not be removed: {error}"
        ));
    }

    let Search {
        descent,
        mut trials,
        failures,
        ..
    } = search;
    for (index, made) in trials.iter_mut().enumerate() {
        made.default_cost = descent.history().default_cost_at(index);
    }
    let found = Found {
        goal: options.goal,
        workload: options.workload(),
        place: place(&machine, filesystem.to_string(), base),
        date,
        budget_s: options.budget.as_secs_f64(),
        took_s: began.elapsed().as_secs_f64(),
        interrupted: interrupted.is_set(),
        seed,
        choice: descent.choice(),
        spread: descent.history().spread(),
        decisions: descent.decisions().to_vec(),
        space: descent.space().clone(),
        trials,
        failures,
    };
    write(&found, &machine, output, report, page)?;
    Ok(found)
}

/// Writes the files.
fn write(
    found: &Found,
    machine: &Machine,
    output: Output,
    report: Option<Output>,
    page: Output,
) -> Result<(), SearchError> {
    let text = found.to_toml();
    Config::from_toml(output.path(), &text)
        .and_then(|config| config.budgets(machine))
        .map_err(SearchError::Found)?;
    output.write(&text)?;
    if let Some(report) = report {
        let text = serde_json::to_string_pretty(&found.to_report())
            .map_err(|error| io_error("writing the report")(error.into()))?;
        report.write(&text)?;
    }
    page.write(&found.to_page()?)?;
    Ok(())
}

/// How long trials load a broker.
#[derive(Clone, Copy)]
struct Durations {
    short: Duration,
}

impl Durations {
    fn of(budget: Duration) -> Self {
        Self {
            short: (budget / SHORT_SHARE).clamp(SHORT_MIN, SHORT_MAX),
        }
    }

    fn at(self, rung: Rung) -> Duration {
        self.short
            * match rung {
                Rung::Short => 1,
                Rung::Long => LONG_TIMES,
                Rung::Final => FINAL_TIMES,
            }
    }

    fn guesses(self, goal: &Goal) -> Guesses {
        let runs = match goal {
            Goal::Throughput { bound: Some(_) } => CLIMB_TIMES,
            Goal::Throughput { bound: None } | Goal::Latency { .. } => 1.0,
        };
        let guess = |rung| self.at(rung).mul_f64(runs) + OVERHEAD;
        Guesses {
            short: guess(Rung::Short),
            long: guess(Rung::Long),
            last: guess(Rung::Final),
        }
    }
}

/// A search under way.
struct Search {
    descent: Descent,
    durations: Durations,
    began: Instant,
    deadline: Instant,
    interrupted: Interrupted,
    trials: Vec<TrialMade>,
    failures: Vec<String>,
}

impl Search {
    /// Tries until there is nothing more to try, the time is over, or somebody ends it.
    ///
    /// Trials are made by a thread of their own: should one never end, the search does.
    fn run(&mut self, bench: Bench) -> Result<(), SearchError> {
        let (orders, ordered) = channel();
        let (sender, made) = channel();
        std::thread::Builder::new()
            .name("trials".to_owned())
            .spawn(move || make_all(bench, &ordered, &sender))
            .map_err(io_error("starting a thread"))?;
        while let Some(trial) = self.next() {
            let started = Instant::now();
            let order = self.order(&trial);
            if orders.send(order).is_err() {
                break;
            }
            let Some(made) = self.wait(&made) else {
                self.descent.stop();
                break;
            };
            self.failures.extend(made.failures.iter().cloned());
            if made.cut_short {
                self.descent.stop();
                break;
            }
            let is_default = trial.point == self.descent.space().default_point();
            if let (true, Some(sentence)) = (is_default, &made.refused) {
                return Err(SearchError::Default(sentence.clone()));
            }
            self.keep(trial, made, started.elapsed());
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Trial> {
        if self.interrupted.is_set() {
            self.descent.stop();
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.descent.poll(left)
    }

    fn order(&self, trial: &Trial) -> Order {
        let space = self.descent.space();
        let changes: Vec<String> = space
            .changes(&trial.point)
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let what = if changes.is_empty() {
            "defaults".to_owned()
        } else {
            changes.join(", ")
        };
        Order {
            title: format!(
                "trial {}, {} s left, {what}",
                self.trials.len() + 1,
                left.as_secs()
            ),
            toml: knobs::broker_toml(space, &trial.point),
            client: knobs::client_arguments(space, &trial.point),
            duration: self.durations.at(trial.rung),
            hopeless_above: trial.hopeless_above,
        }
    }

    /// What comes of a trial. `None` when it does not end although it was told to.
    fn wait(&self, made: &Receiver<Made>) -> Option<Made> {
        let mut told = None;
        loop {
            match made.recv_timeout(LOOK) {
                Ok(made) => return Some(made),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if told.is_none() && (self.interrupted.is_set() || Instant::now() >= self.deadline) {
                told = Some(Instant::now());
            }
            if told.is_some_and(|told| told.elapsed() >= PATIENCE) {
                return None;
            }
        }
    }

    fn keep(&mut self, trial: Trial, made: Made, took: Duration) {
        self.trials.push(TrialMade {
            at_s: self.began.elapsed().as_secs_f64(),
            point: trial.point,
            against: self.descent.incumbent().clone(),
            rung: trial.rung,
            measured: made.measured,
            default_cost: None,
            figures: made.figures,
            runs: made.runs,
            refused: made.refused,
            capped: made.capped,
        });
        self.descent.handle(made.measured, took);
    }
}

/// Makes what is ordered until nobody orders any more.
fn make_all(mut bench: Bench, orders: &Receiver<Order>, made: &Sender<Made>) {
    while let Ok(order) = orders.recv() {
        if made.send(bench.make(&order)).is_err() {
            break;
        }
    }
    bench.finish();
}

fn place(machine: &Machine, filesystem: String, directory: PathBuf) -> Place {
    Place {
        cores: machine.cores.len(),
        memory_bytes: machine.memory_bytes,
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        filesystem,
        directory,
    }
}

/// From the hasher that the standard library seeds anew in each process.
fn random() -> u64 {
    // Short enough to be typed again.
    RandomState::new().build_hasher().finish() >> 32
}
