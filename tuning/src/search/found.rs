//! What a search found, with everything that it rests on.

use std::path::PathBuf;

use super::descent::{Choice, Decision, Verdict};
use super::figures::{Figures, Spread, cost, reaches};
use super::history::{Measured, Rung};
use super::space::{KnobIndex, Point, Space};
use super::workload::Workload;
use crate::goal::Goal;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Found {
    /// What was to be reached.
    pub goal: Goal,
    /// What was put on the brokers.
    pub workload: Workload,
    /// Where.
    pub place: Place,
    /// When it began, by the wall clock.
    pub date: String,
    /// How long it might take, in seconds.
    pub budget_s: f64,
    /// How long it took, in seconds.
    pub took_s: f64,
    /// Whether somebody ended it.
    pub interrupted: bool,
    /// What the order of trials and the records' bytes came from.
    pub seed: u64,
    /// What could be tried.
    pub space: Space,
    /// What was tried, in order.
    pub trials: Vec<TrialMade>,
    /// The changes that were examined closely.
    pub decisions: Vec<Decision>,
    /// What came of it.
    pub choice: Choice,
    /// By how much two runs of one configuration differ here: the standard deviation of the logarithm of the cost.
    pub spread: Option<f64>,
    /// What went wrong with records and brokers: a sentence each.
    pub failures: Vec<String>,
}

/// The machine.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Place {
    /// Cores that this process may use.
    pub cores: usize,
    /// Its memory.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The filesystem of the brokers' directories.
    pub filesystem: String,
    /// Where these were.
    pub directory: PathBuf,
}

/// A trial and what came of it.
#[derive(Clone, Debug)]
pub struct TrialMade {
    /// When it ended, in seconds from the beginning.
    pub at_s: f64,
    /// What was tried.
    pub point: Point,
    /// The best that was known then: what it was tried against.
    pub against: Point,
    /// For how long.
    pub rung: Rung,
    /// What came of it.
    pub measured: Measured,
    /// What the default cost around that time.
    pub default_cost: Option<f64>,
    /// Of the run that counts.
    pub figures: Option<Figures>,
    /// How many runs it took.
    pub runs: u32,
    /// Why there is nothing.
    pub refused: Option<String>,
    /// Why no higher rate was tried although the last one held.
    pub capped: Option<String>,
}

/// How a configuration did in its longest trials.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    /// How long those were.
    pub rung: Rung,
    /// One of each that has figures.
    pub figures: Vec<&'a Figures>,
    /// What they cost.
    pub cost: Spread,
    /// How many of them reached the goal, where that can be.
    pub reached: Option<usize>,
}

impl Found {
    /// How a configuration did in the longest trials that were made of it. `None` when there was none with figures.
    #[must_use]
    pub fn standing(&self, point: &Point) -> Option<Standing<'_>> {
        [Rung::Final, Rung::Long, Rung::Short]
            .into_iter()
            .find_map(|rung| self.standing_on(point, rung))
    }

    fn standing_on(&self, point: &Point, rung: Rung) -> Option<Standing<'_>> {
        let figures: Vec<_> = self
            .trials
            .iter()
            .filter(|made| made.rung == rung && made.point == *point)
            .filter_map(|made| made.figures.as_ref())
            .collect();
        let costs: Vec<_> = figures
            .iter()
            .map(|figures| cost(&self.goal, figures))
            .collect();
        let reached: Option<Vec<bool>> = figures
            .iter()
            .map(|figures| reaches(&self.goal, figures, self.workload.record_bytes))
            .collect();
        Some(Standing {
            rung,
            cost: Spread::of(&costs)?,
            reached: reached.map(|reached| reached.into_iter().filter(|reached| *reached).count()),
            figures,
        })
    }

    /// Whether the goal was reached: in every one of the choice's longest trials. `None` when there is nothing to reach, or nothing was measured.
    #[must_use]
    pub fn reached(&self) -> Option<bool> {
        let standing = self.standing(&self.choice.point)?;
        Some(standing.reached? == standing.figures.len())
    }

    /// Trials of one value of a knob, beside what was best then.
    pub fn trials_of(&self, knob: KnobIndex, value: usize) -> impl Iterator<Item = &TrialMade> {
        self.trials.iter().filter(move |made| {
            made.point.value(knob) == value
                && made.against.value(knob) != value
                && made.against.with(knob, value) == made.point
        })
    }

    /// The decision that brought a knob to its present value, if there was one.
    #[must_use]
    pub fn kept(&self, knob: KnobIndex) -> Option<&Decision> {
        let value = self.choice.point.value(knob);
        self.decisions
            .iter()
            .rev()
            .find(|decision| decision.kept && decision.knob == knob && decision.to == value)
    }

    /// Why it is this configuration, in a sentence.
    #[must_use]
    pub fn why(&self) -> String {
        let percent = |ln: f64| written_gain(&self.goal, ln);
        match self.choice.verdict {
            Verdict::NothingBetter if self.trials.is_empty() => {
                "Nothing was measured: there was no time. These are the defaults.".to_owned()
            }
            Verdict::NothingBetter => "Nothing that was tried was better than the defaults beyond the spread: they stay.".to_owned(),
            Verdict::Better { gain, needed } => format!(
                "At the end, in turns with the defaults, it had {} than they, where more than {} counts as more than chance.",
                percent(gain),
                written_percent(needed)
            ),
            Verdict::DidNotHold { gain, needed } => format!(
                "What had looked better did not hold at the end, in turns with the defaults: it had {} than they, where more than {} counts as more than chance. So the defaults stay.",
                percent(gain),
                written_percent(needed)
            ),
            Verdict::NotCompared => "There was no time for a comparison with the defaults at the end: each change was better than what was before, by the trials named beside it.".to_owned(),
        }
    }
}

/// A gain as people read it: `12.3 % lower latency`.
#[must_use]
pub fn written_gain(goal: &Goal, ln: f64) -> String {
    match goal {
        Goal::Latency { .. } if ln >= 0.0 => {
            format!("{} lower latency", percent(1.0 - (-ln).exp()))
        }
        Goal::Latency { .. } => format!("{} higher latency", percent((-ln).exp() - 1.0)),
        Goal::Throughput { .. } if ln >= 0.0 => {
            format!("{} more throughput", percent(ln.exp() - 1.0))
        }
        Goal::Throughput { .. } => format!("{} less throughput", percent(1.0 - ln.exp())),
    }
}

/// A difference without a direction.
#[must_use]
pub fn written_percent(ln: f64) -> String {
    percent(ln.exp() - 1.0)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
