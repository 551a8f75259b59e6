//! A race from its options to its texts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gannet_loadgen::broker::{RemovedWhenInterrupted, end_when_interrupted};
use gannet_loadgen::filesystem::{NoRealDisk, choose_directory};
use gannet_loadgen::page::PlotError;
use gannet_loadgen::progress::ProgressLine;
use gannet_loadgen::scenario::{Scenario, ScenarioError};
use serde::{Deserialize, Serialize};

use crate::numbers::{MachineLimits, NumbersError};

use super::broker::Broker;
use super::entrant::{Entrant, Peer};
use super::generator::{Generator, arguments};
use super::html::html;
use super::machine::MachineInfo;
use super::options::{Options, Place};
use super::outcome::{Measured, Outcome, Results, ToolOutcome, TurnResult};
use super::script::PeerScript;
use super::text;
use super::tool;
use super::turns::{Course, Turn, turns};
use super::workload::Workload;

/// Each limit is measured so long.
const LIMIT: Duration = Duration::from_secs(5);
/// The file for the disk's bandwidth.
const LIMIT_FILE_BYTES: u64 = 1 << 30;
const TINY_LIMIT: Duration = Duration::from_millis(100);
const TINY_LIMIT_FILE_BYTES: u64 = 16 << 20;
/// A load of a tiny race.
const TINY_LOAD: Duration = Duration::from_millis(400);
/// No load fills more of the disk than this share of what is free: a record lies in a journal, in a segment, and in whatever a peer keeps.
const DISK_SHARE: u64 = 4;
/// A tool's share of the load's time.
const TOOL_SHARE: u32 = 2;
/// What a tool may take beyond that: two Java machines that start on a busy machine, and what was in flight.
const TOOL_PATIENCE: Duration = Duration::from_secs(120);
const TOOL_PATIENCE_PER_LOAD: u32 = 8;

/// Why there is no race.
#[derive(Debug, thiserror::Error)]
pub enum RaceError {
    /// There is nowhere to put the data.
    #[error(transparent)]
    Directory(#[from] NoRealDisk),
    /// A scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The machine's limits.
    #[error(transparent)]
    Limits(#[from] NumbersError),
    /// A plot.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// What was asked for is not there.
    #[error("{0}")]
    Nothing(String),
    /// The operating system's refusal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The error.
        source: io::Error,
    },
}

pub(super) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> RaceError {
    move |source| RaceError::Io {
        what: what.into(),
        source,
    }
}

/// What does not change from turn to turn: kept beside the turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// The version of this program and of the broker.
    pub version: String,
    /// Where it ran.
    pub machine: MachineInfo,
    /// What the machine can do by itself, measured when the last sitting began.
    pub limits: MachineLimits,
    /// When that was, in seconds since 1970; `None` in results of before it was kept.
    #[serde(default)]
    pub limits_measured_at: Option<u64>,
    /// Those of the sittings before, the oldest first, as far as they were kept.
    #[serde(default)]
    pub limits_before: Vec<LimitsBefore>,
    /// The scenarios by name, as they stand in their files.
    pub scenarios: BTreeMap<String, String>,
    /// How often each was run.
    pub rounds: u32,
    /// Whether the figures mean nothing.
    pub tiny: bool,
    /// The brokers: version, and what differs from their defaults.
    pub brokers: Vec<BrokerSetting>,
    /// What else the last sitting's figures were made by, with versions: the client libraries, and fio. Empty in results of before it was kept.
    #[serde(default)]
    pub programs: Vec<String>,
}

/// The machine's limits when an earlier sitting of the same race began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitsBefore {
    /// What was measured.
    pub limits: MachineLimits,
    /// When, in seconds since 1970; `None` in results of before it was kept.
    pub measured_at: Option<u64>,
}

impl Setting {
    /// Which sitting the last one is, counted from 1.
    fn sitting(&self) -> u32 {
        u32::try_from(self.limits_before.len() + 1).unwrap_or(u32::MAX)
    }

    /// Scenarios whose files say something else than they did: what was measured is another load's.
    fn changed_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a str> {
        self.scenarios.iter().filter_map(|(name, text)| {
            let before = earlier.scenarios.get(name)?;
            (before != text).then_some(name.as_str())
        })
    }

    /// The whole of a race that is made in parts: what took part earlier and does not now is still of it.
    fn going_on_from(mut self, earlier: Self) -> Self {
        for (name, text) in earlier.scenarios {
            self.scenarios.entry(name).or_insert(text);
        }
        for broker in earlier.brokers {
            let is_known = |known: &BrokerSetting| known.entrant == broker.entrant;
            if !self.brokers.iter().any(is_known) {
                self.brokers.push(broker);
            }
        }
        self.rounds = self.rounds.max(earlier.rounds);
        self.limits_before = earlier.limits_before;
        self.limits_before.push(LimitsBefore {
            limits: earlier.limits,
            measured_at: earlier.limits_measured_at,
        });
        self
    }
}

/// A broker as it was run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BrokerSetting {
    /// The broker and its mode.
    pub entrant: Entrant,
    /// Its name and version; the reason when it takes no part.
    pub version: Result<String, String>,
    /// What differs from its defaults: a line each.
    pub settings: Vec<String>,
}

/// Races, writes the texts, and gives the turns.
///
/// # Errors
/// [`RaceError`] when there is no race.
pub fn session(options: &Options) -> Result<Vec<TurnResult>, RaceError> {
    let removed = RemovedWhenInterrupted::default();
    end_when_interrupted(removed.clone()).map_err(io_error("watching for Ctrl-C"))?;
    let (base, filesystem) = choose_directory(options.data_dir.as_deref())?;
    let scenarios = read_scenarios(options)?;
    let results_dir = options.place.results();
    if !options.resume {
        forget_setting(&results_dir)?;
    }
    let results = Results::open(&results_dir, options.resume).map_err(io_error(format!(
        "keeping results in {}",
        results_dir.display()
    )))?;
    let directory = tempfile::Builder::new()
        .prefix("gannet-race-")
        .tempdir_in(&base)
        .map_err(io_error("making a directory for the brokers"))?;
    removed.set_directory(Some(directory.path().to_owned()));

    let mut progress = ProgressLine::new();
    let entrants = Entrant::of(&options.peers());
    let scripts = scripts(options, &removed);
    let generator = Generator::new(generator_program(options.generator.as_deref()), &removed);
    let brokers = brokers(options, &entrants, &scripts, &generator, &mut progress);
    progress.step("loopback and disk");
    let rounds = if options.tiny {
        1
    } else {
        options.rounds.get()
    };
    let setting = Setting {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: MachineInfo::of(directory.path(), filesystem),
        limits: limits(directory.path(), options.tiny)?,
        limits_measured_at: seconds_since_1970(),
        limits_before: Vec::new(),
        scenarios: scenarios
            .iter()
            .map(|course| (course.scenario.name.clone(), course.text.clone()))
            .collect(),
        rounds,
        tiny: options.tiny,
        brokers,
        programs: programs(),
    };
    let earlier = if options.resume {
        read_setting(&results_dir)?
    } else {
        None
    };
    let setting = match earlier {
        Some(earlier) => {
            for scenario in setting.changed_since(&earlier) {
                results
                    .forget(scenario)
                    .map_err(io_error("forgetting results of another scenario"))?;
            }
            setting.going_on_from(earlier)
        }
        None => setting,
    };
    keep_setting(&results_dir, &setting)?;

    let race = Race {
        options,
        scripts,
        generator,
        directory: directory.path().to_owned(),
        results_dir: results_dir.clone(),
        bytes_max: filesystem.free_bytes / DISK_SHARE,
        removed: removed.clone(),
    };
    let turns = planned(options, &scenarios, &entrants, rounds);
    if options.resume {
        say(&what_is_kept(&results, &turns));
    }
    let mut done = Vec::with_capacity(turns.len());
    let began = Instant::now();
    for (index, turn) in turns.iter().enumerate() {
        progress.step(format!(
            "turn {} of {}, after {} min: round {}, {}, {}",
            index + 1,
            turns.len(),
            began.elapsed().as_secs() / 60,
            turn.round,
            turn.scenario,
            turn.entrant
        ));
        let result = match results.of(turn) {
            Some(known) => known,
            None => race.run(turn, &scenarios, &setting),
        };
        results
            .keep(&result)
            .map_err(io_error("keeping a turn's result"))?;
        done.push(result);
    }
    progress.finish();
    directory
        .close()
        .map_err(io_error("removing the brokers' directory"))?;
    removed.set_directory(None);
    render(&options.place)?;
    Ok(done)
}

/// Writes RACE.md and race.html from what was kept of a race, of what changes with scale, or of both.
///
/// # Errors
/// [`RaceError`] when nothing was, or they cannot be written.
pub fn render(place: &Place) -> Result<(), RaceError> {
    let results_dir = place.results();
    let texts = place.texts();
    let setting = read_setting(&results_dir)?;
    let scale = super::scale::read(&results_dir)?;
    let turns = match (&setting, &scale) {
        (Some(_), _) => Results::open(&results_dir, true)
            .and_then(|results| results.all())
            .map_err(io_error("reading the turns' results"))?,
        (None, Some(_)) => Vec::new(),
        (None, None) => {
            return Err(RaceError::Nothing(format!(
                "there are no results in {}, neither of a race nor of a scale",
                results_dir.display()
            )));
        }
    };
    fs::create_dir_all(&texts).map_err(io_error(format!("making {}", texts.display())))?;
    let write = |name: &str, text: String| {
        fs::write(texts.join(name), text).map_err(io_error(format!("writing {name}")))
    };
    let document = text::document(setting.as_ref(), &turns, scale.as_ref());
    write("RACE.md", document.markdown())?;
    write("race.html", html(&document)?)
}

/// A scenario with the text of its file.
struct ScenarioFile {
    scenario: Scenario,
    path: PathBuf,
    text: String,
}

fn read_scenarios(options: &Options) -> Result<Vec<ScenarioFile>, RaceError> {
    let reading = || format!("reading the scenarios in {}", options.scenarios.display());
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(&options.scenarios).map_err(io_error(reading()))? {
        let path = entry.map_err(io_error(reading()))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let text = fs::read_to_string(&path).map_err(io_error(reading()))?;
            let scenario = Scenario::read(&path)?;
            scenarios.push(ScenarioFile {
                scenario,
                path,
                text,
            });
        }
    }
    scenarios.sort_by(|left, right| left.scenario.name.cmp(&right.scenario.name));
    for name in &options.scenario {
        if !scenarios.iter().any(|file| file.scenario.name == *name) {
            let there: Vec<_> = scenarios
                .iter()
                .map(|file| file.scenario.name.as_str())
                .collect();
            return Err(RaceError::Nothing(format!(
                "there is no scenario {name}, but {}",
                there.join(", ")
            )));
        }
    }
    if !options.scenario.is_empty() {
        scenarios.retain(|file| options.scenario.contains(&file.scenario.name));
    }
    if scenarios.is_empty() {
        return Err(RaceError::Nothing(format!(
            "there is no scenario in {}",
            options.scenarios.display()
        )));
    }
    Ok(scenarios)
}

fn scripts(options: &Options, removed: &RemovedWhenInterrupted) -> BTreeMap<Peer, PeerScript> {
    let script = |peer| {
        let installed_in = options.installed_in.as_deref();
        PeerScript::new(peer, &options.peers, installed_in, removed)
    };
    options
        .peers()
        .into_iter()
        .filter(|peer| *peer != Peer::Gannet)
        .map(|peer| (peer, script(peer)))
        .collect()
}

fn brokers(
    options: &Options,
    entrants: &[Entrant],
    scripts: &BTreeMap<Peer, PeerScript>,
    generator: &Generator,
    progress: &mut ProgressLine,
) -> Vec<BrokerSetting> {
    let mut versions = BTreeMap::new();
    for (&peer, script) in scripts {
        if let Some(reason) = generator.lacks_driver(peer) {
            // Not installed for nothing; but what else is wrong is said with it.
            let reason = match script.version() {
                Ok(_) => reason,
                Err(also) => format!("{also}; and {reason}"),
            };
            say(&format!("{peer} is left out: {reason}"));
            versions.insert(peer, Err(reason));
            continue;
        }
        progress.step(format!("installing {peer}"));
        let installed = if options.no_install {
            Ok(())
        } else {
            script.install()
        };
        versions.insert(peer, installed.and_then(|()| script.version()));
    }
    let gannet = Ok(own_build());
    entrants
        .iter()
        .map(|&entrant| {
            let script = scripts.get(&entrant.peer);
            BrokerSetting {
                entrant,
                version: versions
                    .get(&entrant.peer)
                    .cloned()
                    .unwrap_or_else(|| gannet.clone()),
                settings: match script {
                    Some(script) => script.settings(entrant).unwrap_or_default(),
                    None => vec![format!("topic durability: {}", entrant.mode_name())],
                },
            }
        })
        .collect()
}

fn limits(directory: &Path, tiny: bool) -> Result<MachineLimits, NumbersError> {
    let measured = if tiny {
        MachineLimits::measure(directory, TINY_LIMIT_FILE_BYTES, TINY_LIMIT)
    } else {
        MachineLimits::measure(directory, LIMIT_FILE_BYTES, LIMIT)
    };
    // fio's file: in nobody's way while brokers are measured. Without fio there is none.
    let _ = fs::remove_file(directory.join("fio-blocks"));
    measured
}

#[expect(
    clippy::disallowed_methods,
    reason = "a date for the reader, on which nothing depends"
)]
fn seconds_since_1970() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().map(|since| since.as_secs())
}

/// What this very build of Gannet is called: its version, the commit when bench/race says it, and a sum of the program, which hosts the broker.
fn own_build() -> String {
    let program = std::env::current_exe().and_then(fs::read);
    let sum = program.map_or_else(
        |_| "unknown".to_owned(),
        |bytes| format!("{:016x}", sum_of(&bytes)),
    );
    let commit = std::env::var("GANNET_COMMIT").unwrap_or_default();
    let commit = if commit.is_empty() {
        String::new()
    } else {
        format!("commit {commit}, ")
    };
    format!(
        "Gannet {} ({commit}program {sum})",
        env!("CARGO_PKG_VERSION")
    )
}

/// The client libraries of the other brokers, by the names in the lock file, and fio where it is.
fn programs() -> Vec<String> {
    let lock = include_str!("../../../Cargo.lock");
    let clients = ["rdkafka", "rdkafka-sys", "lapin", "async-nats"];
    let mut programs: Vec<String> = (clients.iter())
        .filter_map(|name| Some(format!("{name} {}", locked_version(lock, name)?)))
        .collect();
    let fio = Command::new("fio").arg("--version").output();
    if let Ok(said) = fio
        && said.status.success()
    {
        programs.push(String::from_utf8_lossy(&said.stdout).trim().to_owned());
    }
    programs
}

/// The version of a package in a lock file.
fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let named = format!("\nname = \"{name}\"\nversion = \"");
    lock.split_once(&named)?.1.split('"').next()
}

/// FNV-1a: to tell builds apart, nothing more.
fn sum_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn planned(
    options: &Options,
    scenarios: &[ScenarioFile],
    entrants: &[Entrant],
    rounds: u32,
) -> Vec<Turn> {
    let courses: Vec<_> = scenarios
        .iter()
        .map(|file| Course {
            scenario: file.scenario.name.clone(),
            load_max: if options.tiny {
                TINY_LOAD
            } else {
                file.scenario.duration
            },
        })
        .collect();
    turns(&courses, entrants, rounds, options.budget)
}

/// The load generator: beside this program unless it is given.
pub(super) fn generator_program(given: Option<&Path>) -> PathBuf {
    given.map_or_else(
        || {
            let program = std::env::current_exe().unwrap_or_default();
            program.with_file_name("gannet-loadgen")
        },
        Path::to_owned,
    )
}

/// How many turns of this race are known from before.
fn what_is_kept(results: &Results, turns: &[Turn]) -> String {
    let known = turns
        .iter()
        .filter(|turn| results.has_figures(turn))
        .count();
    let kept = turns
        .iter()
        .filter(|turn| results.of(turn).is_some())
        .count();
    format!(
        "of {} turns {kept} are kept, {} are measured again since a load of another length does not stand for them, and {} gave no figures yet",
        turns.len(),
        known - kept,
        turns.len() - known
    )
}

/// A sentence for who runs it.
fn say(sentence: &str) {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "gannet-race: {sentence}");
}

const SETTING: &str = "race.json";

/// Turns of another race are not to be taken for its turns when that one is interrupted.
fn forget_setting(results_dir: &Path) -> Result<(), RaceError> {
    match fs::remove_file(results_dir.join(SETTING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("removing what was raced before")(error))
        }
        _ => Ok(()),
    }
}

fn keep_setting(results_dir: &Path, setting: &Setting) -> Result<(), RaceError> {
    let text = serde_json::to_vec_pretty(setting).map_err(io::Error::from);
    text.and_then(|text| fs::write(results_dir.join(SETTING), text))
        .map_err(io_error("keeping what was raced"))
}

/// What was raced, if anything was.
fn read_setting(results_dir: &Path) -> Result<Option<Setting>, RaceError> {
    let path = results_dir.join(SETTING);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path);
    text.and_then(|text| Ok(serde_json::from_str(&text)?))
        .map_err(io_error(format!("reading {}", path.display())))
}

/// Whether what is stored does not grow while the load lasts, so that no bytes need to bound it. Kafka looks for what may go every five minutes, and of RabbitMQ's files nobody
/// says when they go.
fn keeps_its_size(peer: Peer, scenario: &Scenario) -> bool {
    scenario.retention_bytes.is_some() && matches!(peer, Peer::Gannet | Peer::Nats)
}

/// What all turns have in common.
struct Race<'a> {
    options: &'a Options,
    scripts: BTreeMap<Peer, PeerScript>,
    generator: Generator,
    directory: PathBuf,
    results_dir: PathBuf,
    bytes_max: u64,
    removed: RemovedWhenInterrupted,
}

impl Race<'_> {
    /// One turn. Whatever goes wrong in it is its outcome, and the race goes on.
    fn run(&self, turn: &Turn, scenarios: &[ScenarioFile], setting: &Setting) -> TurnResult {
        let broker = setting
            .brokers
            .iter()
            .find(|broker| broker.entrant == turn.entrant);
        let file = scenarios
            .iter()
            .find(|file| file.scenario.name == turn.scenario);
        let outcome = match (broker.map(|broker| &broker.version), file) {
            (Some(Err(reason)), _) => Err(reason.clone()),
            (_, None) => Err("its scenario is gone".to_owned()),
            (_, Some(file)) => self.raced(turn, file),
        };
        TurnResult {
            turn: turn.clone(),
            outcome: match outcome {
                Ok(measured) => Outcome::Measured(Box::new(measured)),
                Err(reason) => Outcome::Missing(reason),
            },
            build: broker.and_then(|broker| broker.version.clone().ok()),
            sitting: Some(setting.sitting()),
            failed_again: None,
        }
    }

    fn raced(&self, turn: &Turn, file: &ScenarioFile) -> Result<Measured, String> {
        // Scripts take an absolute path: they change the directory.
        let directory = std::path::absolute(self.directory.join(turn.slug()))
            .map_err(|error| error.to_string())?;
        let measured = self
            .start(turn.entrant, &directory)
            .and_then(|broker| self.measured(turn, file, broker));
        // What a broker leaves is in the way of the next one's disk.
        let cleared = match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("its directory could not be removed: {error}"))
            }
            _ => Ok(()),
        };
        let measured = measured?;
        cleared.map(|()| measured)
    }

    fn start(&self, entrant: Entrant, directory: &Path) -> Result<Broker, String> {
        match self.scripts.get(&entrant.peer) {
            Some(script) => Broker::peer(script, entrant, directory),
            None => {
                fs::create_dir_all(directory).map_err(|error| error.to_string())?;
                Broker::gannet(directory, self.options.shards, None, &self.removed)
            }
        }
    }

    fn measured(
        &self,
        turn: &Turn,
        file: &ScenarioFile,
        broker: Broker,
    ) -> Result<Measured, String> {
        let told = arguments(
            &file.path,
            turn.entrant,
            &broker.address(),
            turn.load(),
            (!keeps_its_size(turn.entrant.peer, &file.scenario)).then_some(self.bytes_max),
        );
        let report_path = self.results_dir.join("generator.json");
        let (report, used) = self
            .generator
            .run(&told, &report_path, turn.load(), || broker.usage())?;
        let mut measured = Measured {
            report,
            broker: used,
            tool: ToolOutcome::NotRun,
        };
        if let (Broker::Peer(peer), Some(load)) = (&broker, Workload::of(&file.scenario))
            && self.runs_tools()
        {
            let records_per_s = measured.report.last.publish.flow.records_per_s;
            let seconds = (turn.load() / TOOL_SHARE).as_secs_f64();
            let records = (records_per_s * seconds) as u64;
            let calls = tool::calls(turn.entrant.peer, "tool", &load, records);
            let duration_max = turn.load() * TOOL_PATIENCE_PER_LOAD + TOOL_PATIENCE;
            let said = calls.iter().try_fold(String::new(), |said, call| {
                peer.tool(call, duration_max).map(|more| said + &more)
            });
            measured.tool =
                match said.and_then(|said| tool::figures(turn.entrant.peer, &said, &load)) {
                    Ok(figures) => ToolOutcome::Measured(figures),
                    Err(reason) => ToolOutcome::Failed(reason),
                };
        }
        broker.stop()?;
        Ok(measured)
    }

    fn runs_tools(&self) -> bool {
        !self.options.no_tools && !self.options.tiny
    }
}

#[cfg(test)]
pub(super) mod tests;
