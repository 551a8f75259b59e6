//! What a turn came to, kept as a file of its own as soon as it is known.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gannet_loadgen::report::Report;
use serde::{Deserialize, Serialize};

use super::entrant::Peer;
use super::generator::BrokerUse;
use super::tool::ToolFigures;
use super::turns::Turn;

/// A turn with what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TurnResult {
    /// The turn.
    pub turn: Turn,
    /// What came of it.
    pub outcome: Outcome,
    /// Which build of the broker it was; `None` in results of before it was kept.
    #[serde(default)]
    pub build: Option<String>,
    /// The sitting it was measured in, counted from 1; `None` in results of before it was kept.
    #[serde(default)]
    pub sitting: Option<u32>,
    /// Why it gave no figures when it was measured again: those of before stand.
    #[serde(default)]
    pub failed_again: Option<String>,
}

/// A load of Gannet's that ended because its bytes were stored is judged however short it was when it stored this much: several times what any page cache or journal here holds back.
pub const JUDGED_BYTES_MIN: u64 = 4 << 30;
/// Of the bytes a load may send, what it must have sent to have ended by them: the last record of a producer may not fit.
const BYTES_SENT_SHARE: f64 = 0.99;

/// What came of a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The broker ran the scenario.
    Measured(Box<Measured>),
    /// It did not, and this is why: a sentence.
    Missing(String),
}

/// A broker's figures under one scenario, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The load generator's report.
    pub report: Report,
    /// What the broker used, measured from outside and for every broker in the same way.
    pub broker: BrokerUse,
    /// The broker's own tool beside it.
    pub tool: ToolOutcome,
}

/// What became of a broker's own tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// There is none for this broker or this scenario, or it was not asked for.
    NotRun,
    /// Why there are no figures: a sentence.
    Failed(String),
    /// What it measured.
    Measured(ToolFigures),
}

impl TurnResult {
    /// How long the load lasted in fact, in milliseconds: the warm-up, which is not measured, and what was measured after it.
    #[must_use]
    pub fn lasted_ms(&self, warm_up_ms: u64) -> Option<u64> {
        let measured_ms = self.measured()?.report.last.seconds * 1e3;
        Some(measured_ms.round() as u64 + warm_up_ms.min(self.turn.load_ms))
    }

    /// Whether the load ended because as many bytes as it might send were sent.
    #[must_use]
    pub fn ended_by_bytes(&self) -> bool {
        let Some(measured) = self.measured() else {
            return false;
        };
        let settings = &measured.report.settings;
        settings
            .bytes_max
            .is_some_and(|most| self.sent_bytes() as f64 >= most as f64 * BYTES_SENT_SHARE)
    }

    /// Bytes of records that were sent; by the mean record, when they differ.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.measured().map_or(0, |measured| {
            (measured.report.sent).saturating_mul(measured.report.settings.record_bytes)
        })
    }

    /// Whether a bar may rest on it: it lasted long enough, or was Gannet's and ended earlier because it had stored [`JUDGED_BYTES_MIN`] or more. A virtual machine that compiles while it
    /// runs is warm after a time, whatever it has stored.
    #[must_use]
    pub fn may_be_judged(&self, warm_up_ms: u64) -> bool {
        // What was measured begins and ends a little late.
        let lasted_long = (self.lasted_ms(warm_up_ms))
            .is_some_and(|lasted| lasted + CLOCK_SLACK_MS >= super::bars::JUDGED_LOAD_MS_MIN);
        let is_compiled = self.turn.entrant.peer == Peer::Gannet;
        let stored_enough = self.ended_by_bytes() && self.sent_bytes() >= JUDGED_BYTES_MIN;
        lasted_long || (is_compiled && stored_enough)
    }

    /// The figures, when there are any that count: those of a run with lost or changed records do not.
    #[must_use]
    pub fn measured(&self) -> Option<&Measured> {
        match &self.outcome {
            Outcome::Measured(measured) if measured.report.passed => Some(measured),
            _ => None,
        }
    }

    /// Why there are no figures that count.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Missing(reason) => Some(reason.clone()),
            Outcome::Measured(measured) if !measured.report.passed => {
                Some(measured.report.failures.join("; "))
            }
            Outcome::Measured(_) => None,
        }
    }
}

/// What a load of just the judged length may lack by its clock.
const CLOCK_SLACK_MS: u64 = 100;

/// The folder with a file for each turn.
#[derive(Clone, Debug)]
pub(super) struct Results {
    directory: PathBuf,
}

impl Results {
    /// In this directory; what lies there of an earlier race stays only when it is to be continued.
    pub(super) fn open(directory: &Path, resume: bool) -> io::Result<Self> {
        let directory = directory.join("turns");
        if !resume && directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// What is known of this turn, if it gave figures that stand for it; see [`Turn::is_stood_for_by`].
    pub(super) fn of(&self, turn: &Turn) -> Option<TurnResult> {
        self.with_figures(turn)
            .filter(|result| turn.is_stood_for_by(&result.turn))
    }

    /// Whether there are figures of this turn, be its load another one.
    pub(super) fn has_figures(&self, turn: &Turn) -> bool {
        self.with_figures(turn).is_some()
    }

    fn with_figures(&self, turn: &Turn) -> Option<TurnResult> {
        let text = fs::read_to_string(self.path(turn)).ok()?;
        let result: TurnResult = serde_json::from_str(&text).ok()?;
        result.measured().is_some().then_some(result)
    }

    /// Keeps what a turn came to. Figures are not given up for none: then only the reason is added to them.
    pub(super) fn keep(&self, result: &TurnResult) -> io::Result<()> {
        if let (Some(reason), Some(known)) = (result.failure(), self.with_figures(&result.turn)) {
            return self.write(&TurnResult {
                failed_again: Some(reason),
                ..known
            });
        }
        self.write(result)
    }

    fn write(&self, result: &TurnResult) -> io::Result<()> {
        let path = self.path(&result.turn);
        let written = path.with_extension("part");
        fs::write(&written, serde_json::to_vec_pretty(result)?)?;
        // Whole, or not there.
        fs::rename(written, path)
    }

    /// Those of a scenario are of no use any more.
    pub(super) fn forget(&self, scenario: &str) -> io::Result<()> {
        for result in self.all()? {
            if result.turn.scenario == scenario {
                fs::remove_file(self.path(&result.turn))?;
            }
        }
        Ok(())
    }

    /// All of them, whatever order they were made in.
    pub(super) fn all(&self) -> io::Result<Vec<TurnResult>> {
        let mut results = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let text = fs::read_to_string(&path)?;
                let result: TurnResult = serde_json::from_str(&text)?;
                results.insert(path, result);
            }
        }
        Ok(results.into_values().collect())
    }

    fn path(&self, turn: &Turn) -> PathBuf {
        self.directory.join(format!("{}.json", turn.slug()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::entrant::Entrant;
    use super::*;

    /// A turn of which nothing but a few figures is of interest.
    pub(in super::super) fn measured(
        scenario: &str,
        entrant: Entrant,
        round: u32,
        set: impl FnOnce(&mut Measured),
    ) -> TurnResult {
        let report = serde_json::json!({
            "version": "0", "scenario": scenario, "driver": "native", "label": "", "seed": 1, "settings": gannet_loadgen::report::Settings::default(),
            "machine": gannet_loadgen::report::Machine::default(), "name": "", "rate": null, "seconds": 1.0,
            "publish": gannet_loadgen::report::PublishReport::default(), "consume": gannet_loadgen::report::FlowReport::default(),
            "end_to_end": gannet_loadgen::report::EndToEndReport::default(), "broker": null,
            "generator": gannet_loadgen::report::GeneratorReport::default(), "phases": [], "lost": 0, "duplicated": 0, "reordered": 0, "corrupt": 0,
            "group_findings": [], "unacked": 0, "sent": 1, "acked": 1, "reread": null, "kill": null, "limits": null, "passed": true, "failures": [], "notes": [],
        });
        let mut measured = Measured {
            report: serde_json::from_value(report).unwrap(),
            broker: BrokerUse::default(),
            tool: ToolOutcome::NotRun,
        };
        set(&mut measured);
        TurnResult {
            turn: Turn {
                round,
                scenario: scenario.to_owned(),
                entrant,
                load_ms: 1000,
            },
            outcome: Outcome::Measured(Box::new(measured)),
            build: None,
            sitting: None,
            failed_again: None,
        }
    }

    #[test]
    fn what_a_load_was_counts_and_not_what_was_planned() {
        let by = |entrant, seconds: f64, sent: u64, bytes_max: Option<u64>| {
            let mut result = measured("catch-up", entrant, 1, |measured| {
                measured.report.last.seconds = seconds;
                measured.report.sent = sent;
                measured.report.settings.record_bytes = 1000;
                measured.report.settings.bytes_max = bytes_max;
            });
            result.turn.load_ms = 30_000;
            result
        };
        let of = |seconds, sent, bytes_max| by(GANNET_DURABLE, seconds, sent, bytes_max);
        let whole = of(28.0, 1_000_000, Some(12_000_000_000));
        assert_eq!(whole.lasted_ms(2_000), Some(30_000));
        assert!(whole.may_be_judged(2_000) && !whole.ended_by_bytes());
        // Ended early by nothing that excuses it.
        assert!(!of(11.0, 1_000_000, Some(12_000_000_000)).may_be_judged(2_000));
        assert!(!of(11.0, 12_000_000, None).may_be_judged(2_000));
        // By its bytes: many, and few.
        let full = of(11.0, 12_000_000, Some(12_000_000_000));
        assert!(full.may_be_judged(2_000) && full.ended_by_bytes());
        let small = of(1.0, 1_000_000, Some(1_000_000_000));
        assert!(!small.may_be_judged(2_000) && small.ended_by_bytes());
        // Nothing but time warms Kafka up.
        let kafka = |seconds| by(KAFKA_UNSYNCED, seconds, 12_000_000, Some(12_000_000_000));
        assert!(!kafka(11.0).may_be_judged(2_000) && kafka(11.0).ended_by_bytes());
        assert!(kafka(28.0).may_be_judged(2_000));
    }

    #[test]
    fn a_turn_of_before_builds_were_kept_is_read() {
        let mut kept = serde_json::to_value(measured("paced", GANNET_DURABLE, 1, |_| {})).unwrap();
        for name in ["build", "sitting", "failed_again"] {
            kept.as_object_mut().unwrap().remove(name).unwrap();
        }
        let read: TurnResult = serde_json::from_value(kept).unwrap();
        assert_eq!((read.build, read.sitting), (None, None));
    }

    use super::super::entrant::{GANNET_DURABLE, KAFKA_UNSYNCED};

    #[test]
    fn a_turn_that_was_measured_is_not_run_again_when_a_race_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), false).unwrap();
        let result = measured("paced", GANNET_DURABLE, 1, |_| {});
        results.keep(&result).unwrap();
        let again = Results::open(directory.path(), true).unwrap();
        assert!(again.of(&result.turn).is_some());
        let longer = Turn {
            load_ms: 2000,
            ..result.turn.clone()
        };
        assert!(again.of(&longer).is_none());
        let anew = Results::open(directory.path(), false).unwrap();
        assert!(anew.of(&result.turn).is_none());
    }

    #[test]
    fn figures_are_not_given_up_for_none() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), false).unwrap();
        let good = measured("paced", GANNET_DURABLE, 1, |_| {});
        results.keep(&good).unwrap();
        let mut failed = good.clone();
        failed.turn.load_ms = 90_000;
        failed.outcome = Outcome::Missing("no disk".to_owned());
        results.keep(&failed).unwrap();
        let kept = results.of(&good.turn).unwrap();
        assert!(kept.measured().is_some());
        assert_eq!(kept.failed_again.as_deref(), Some("no disk"));
        // With figures it is the new one that counts.
        let mut again = measured("paced", GANNET_DURABLE, 1, |_| {});
        again.turn.load_ms = 90_000;
        results.keep(&again).unwrap();
        assert!(results.of(&good.turn).is_some() && results.has_figures(&good.turn));
        let all = results.all().unwrap();
        assert_eq!((all.len(), all[0].failed_again.as_deref()), (1, None));
        assert_eq!(all[0].turn.load_ms, 90_000);
    }

    #[test]
    fn what_is_forgotten_of_a_scenario_leaves_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), false).unwrap();
        for (scenario, round) in [("old", 1), ("old", 2), ("kept", 1)] {
            results
                .keep(&measured(scenario, GANNET_DURABLE, round, |_| {}))
                .unwrap();
        }
        results.forget("old").unwrap();
        let left: Vec<String> = (results.all().unwrap().into_iter())
            .map(|result| result.turn.scenario)
            .collect();
        assert_eq!(left, ["kept"]);
    }

    #[test]
    fn a_turn_without_figures_is_tried_again_and_kept_with_its_reason() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), false).unwrap();
        let mut result = measured("paced", KAFKA_UNSYNCED, 1, |_| {});
        result.outcome = Outcome::Missing("no Java".to_owned());
        results.keep(&result).unwrap();
        assert!(results.of(&result.turn).is_none());
        let all = results.all().unwrap();
        assert_eq!(all[0].failure(), Some("no Java".to_owned()));
    }

    #[test]
    fn figures_of_a_run_that_lost_records_do_not_count() {
        let result = measured("paced", KAFKA_UNSYNCED, 1, |measured| {
            measured.report.passed = false;
            measured.report.failures = vec!["3 records were lost".to_owned()];
        });
        assert!(result.measured().is_none());
        assert_eq!(result.failure(), Some("3 records were lost".to_owned()));
    }
}
