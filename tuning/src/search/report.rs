//! All trials as JSON, for whoever wants to look closer or draw. Fields are added, never renamed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::Figures;
use super::found::{Found, Place};
use super::history::{Measured, Rung};
use super::workload::Workload;

/// A search.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    /// The version of the tuner.
    pub version: String,
    /// The goal, as it can be written on the command line.
    pub goal: String,
    /// What a trial's `cost` is: `latency_us` or `us_per_record`. The lower the better.
    pub cost_unit: &'static str,
    /// Whether the choice reached the goal in all of its longest trials; null when there is nothing to reach or nothing was measured.
    pub reached: Option<bool>,
    /// Why it is this choice.
    pub why: String,
    /// When it began.
    pub date: String,
    /// How long it might take.
    pub budget_s: f64,
    /// How long it took.
    pub took_s: f64,
    /// Whether somebody ended it.
    pub interrupted: bool,
    /// What chance came from.
    pub seed: u64,
    /// The standard deviation of the logarithm of the cost of one configuration here.
    pub spread_ln: Option<f64>,
    /// The machine.
    pub machine: Place,
    /// What was put on the brokers.
    pub workload: Workload,
    /// What could be tried: the values of each knob, and its default.
    pub knobs: Vec<KnobReport>,
    /// What was tried, in order.
    pub trials: Vec<TrialReport>,
    /// The changes that were examined closely, in order.
    pub decisions: Vec<DecisionReport>,
    /// What was chosen, where it is not the default.
    pub choice: BTreeMap<&'static str, String>,
    /// What went wrong with records and brokers.
    pub failures: Vec<String>,
}

/// A knob.
#[derive(Clone, Debug, Serialize)]
pub struct KnobReport {
    /// Its name; `client.` stands before those that are the client's.
    pub name: &'static str,
    /// Its values, as TOML.
    pub values: Vec<String>,
    /// The default one.
    pub default: String,
}

/// A trial.
#[derive(Clone, Debug, Serialize)]
pub struct TrialReport {
    /// When it ended, from the beginning.
    pub at_s: f64,
    /// `short`, `long` or `final`.
    pub rung: Rung,
    /// What was not at its default.
    pub settings: BTreeMap<&'static str, String>,
    /// `measured`, `ended_early` or `refused`.
    pub outcome: &'static str,
    /// What it cost; for one that was ended early at least so much; null when it was refused.
    pub cost: Option<f64>,
    /// What the default cost around that time.
    pub default_cost: Option<f64>,
    /// How many runs it took.
    pub runs: u32,
    /// Why it was refused.
    pub refused: Option<String>,
    /// Why no higher rate was tried although the last one held: the cost may be too high then.
    pub capped: Option<String>,
    /// The figures of the run that counts.
    pub figures: Option<Figures>,
}

/// A change that was examined closely.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionReport {
    /// The knob.
    pub knob: &'static str,
    /// The value it had.
    pub from: String,
    /// The value that was examined.
    pub to: String,
    /// The logarithm of the factor by which it was better.
    pub gain_ln: f64,
    /// What that had to exceed.
    pub needed_ln: f64,
    /// Whether the value was kept.
    pub kept: bool,
}

impl Found {
    /// Everything, for a file.
    #[must_use]
    pub fn to_report(&self) -> SearchReport {
        let settings = |point| {
            self.space
                .changes(point)
                .map(|(name, value)| (name, value.to_owned()))
                .collect()
        };
        let knobs = self.space.knobs();
        let value = |knob: usize, value: usize| {
            let values = knobs.get(knob).map(|knob| &knob.values);
            values
                .and_then(|values| values.get(value))
                .cloned()
                .unwrap_or_default()
        };
        SearchReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            goal: self.goal.to_string(),
            cost_unit: match self.goal {
                crate::goal::Goal::Latency { .. } => "latency_us",
                crate::goal::Goal::Throughput { .. } => "us_per_record",
            },
            reached: self.reached(),
            why: self.why(),
            date: self.date.clone(),
            budget_s: self.budget_s,
            took_s: self.took_s,
            interrupted: self.interrupted,
            seed: self.seed,
            spread_ln: self.spread,
            machine: self.place.clone(),
            workload: self.workload.clone(),
            knobs: knobs
                .iter()
                .map(|knob| KnobReport {
                    name: knob.name,
                    values: knob.values.clone(),
                    default: knob.values.get(knob.default).cloned().unwrap_or_default(),
                })
                .collect(),
            trials: self
                .trials
                .iter()
                .map(|made| {
                    let (outcome, cost) = match made.measured {
                        Measured::Cost(cost) => ("measured", Some(cost)),
                        Measured::AtLeast(cost) => ("ended_early", Some(cost)),
                        Measured::Refused => ("refused", None),
                    };
                    TrialReport {
                        at_s: made.at_s,
                        rung: made.rung,
                        settings: settings(&made.point),
                        outcome,
                        cost,
                        default_cost: made.default_cost,
                        runs: made.runs,
                        refused: made.refused.clone(),
                        capped: made.capped.clone(),
                        figures: made.figures.clone(),
                    }
                })
                .collect(),
            decisions: self
                .decisions
                .iter()
                .map(|decision| DecisionReport {
                    knob: knobs.get(decision.knob.0).map_or("", |knob| knob.name),
                    from: value(decision.knob.0, decision.from),
                    to: value(decision.knob.0, decision.to),
                    gain_ln: decision.gain,
                    needed_ln: decision.needed,
                    kept: decision.kept,
                })
                .collect(),
            choice: settings(&self.choice.point),
            failures: self.failures.clone(),
        }
    }
}
