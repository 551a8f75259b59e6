//! Which trial comes next, decided from the results so far: no clock, no broker, no chance but the seed's.
//!
//! Call [`Descent::poll`] for a trial, make it, give what came of it to [`Descent::handle`], and so on until there is none; then ask for [`Descent::choice`]. It can be asked at any time.
//!
//! The way goes down one knob after the other, from the defaults:
//!
//! 1. The default is measured a few times, which gives a first spread.
//! 2. For each knob the neighbours of its present value are tried in short trials, and those behind a neighbour as long as it does not get worse. The default is measured again after every other
//!    trial: everything is compared with it as it was around that time.
//! 3. What was better by more than the spread is tried longer; the better half of that, at last one value, repeatedly and beside the present configuration. Only these last trials decide, since the
//!    best of several short ones owes some of that to luck. The value is kept if the middle of its gains is more than twice the spread leaves in doubt.
//! 4. When a round over all knobs has changed something there is another one, in an order that the seed gives.
//! 5. Some time is set aside for the end: default and choice run longest, in turns. Should the choice not be better then, the default stays.

use std::collections::VecDeque;
use std::time::Duration;

use super::history::{Entry, History, Measured, Rung, median};
use super::random::Random;
use super::space::{KnobIndex, Point, Space};

/// Trials of the default at the beginning.
const BASELINES: usize = 3;
/// Trials between two of the default.
const TRIALS_BETWEEN: usize = 2;
/// A configuration that is less than this better is not worth leaving the default for, whatever the spread is: about 2 %.
const GAIN_MIN: f64 = 0.02;
/// So many standard deviations count as beyond chance.
const DOUBT: f64 = 2.0;
/// A direction is given up when a value is worse by so many spreads.
const WORSE: f64 = 1.5;
/// Repetitions that decide about one value.
const CONFIRMATIONS: u32 = 3;
/// Rounds over all knobs.
const ROUNDS_MAX: u32 = 4;
/// Trials of each of default and choice at the end.
const FINALS: u32 = 3;
/// The share of the time that is set aside for them at most.
const FINAL_SHARE: f64 = 0.4;
/// A trial is hopeless when its cost is beyond so many times the default's, unless [`Descent::giving_up_beyond`] says otherwise.
const HOPELESS: f64 = 2.0;
/// Durations of so many trials are remembered.
const TOOK_KEPT: usize = 5;
/// A comparison with what the default was around that time has its own spread: that of the trial and that of the mean of two others.
const COMPARED: f64 = 1.5;

/// How long a trial is thought to take at first, everything that belongs to it included.
#[derive(Clone, Copy, Debug)]
pub struct Guesses {
    /// A short one.
    pub short: Duration,
    /// A long one.
    pub long: Duration,
    /// One at the end.
    pub last: Duration,
}

/// What to try.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The configuration.
    pub point: Point,
    /// For how long.
    pub rung: Rung,
    /// A cost beyond which it may be ended early. `None` for the default, whose figures are always wanted.
    pub hopeless_above: Option<f64>,
}

/// A change of one knob that was examined closely.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Which.
    pub knob: KnobIndex,
    /// The value it had.
    pub from: usize,
    /// The value that was examined.
    pub to: usize,
    /// By how much it was better: the logarithm of the factor, the middle of its repetitions.
    pub gain: f64,
    /// More than this was needed.
    pub needed: f64,
    /// Whether it was kept.
    pub kept: bool,
}

/// What the search has come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The configuration.
    pub point: Point,
    /// Why it is that one.
    pub verdict: Verdict,
}

/// Why the search chose as it did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing was better beyond the spread.
    NothingBetter,
    /// It was better at the end, too.
    Better {
        /// The logarithm of the factor.
        gain: f64,
        /// More than this was needed.
        needed: f64,
    },
    /// What had looked better was not at the end: the default stays.
    DidNotHold {
        /// The logarithm of the factor.
        gain: f64,
        /// More than this was needed.
        needed: f64,
    },
    /// There was no time for the comparison at the end.
    NotCompared,
}

/// See the module's text.
#[derive(Debug)]
pub struct Descent {
    space: Space,
    history: History,
    random: Random,
    incumbent: Point,
    stage: Stage,
    queue: VecDeque<(Point, Rung)>,
    awaited: Option<(Point, Rung)>,
    round: VecDeque<KnobIndex>,
    rounds: u32,
    round_changed: bool,
    decisions: Vec<Decision>,
    guesses: Guesses,
    took: Vec<(Rung, Duration)>,
    /// A trial is hopeless when its cost is beyond so many times the default's.
    hopeless: f64,
    /// What there was at first.
    budget: Option<Duration>,
}

#[derive(Debug)]
enum Stage {
    Baseline,
    Climb(Climb),
    Shortlist(Candidates),
    Confirm(Confirm),
    Final,
    Done,
}

/// Short trials of one knob's values.
#[derive(Debug)]
struct Climb {
    knob: KnobIndex,
    since: usize,
    /// The values under trial: the way down and the way up.
    ways: [Option<usize>; 2],
    tried: Vec<usize>,
}

/// The values of one knob that are tried longer.
#[derive(Debug)]
struct Candidates {
    knob: KnobIndex,
    since: usize,
    values: Vec<usize>,
}

/// The one value that is tried repeatedly.
#[derive(Debug)]
struct Confirm {
    knob: KnobIndex,
    since: usize,
    value: usize,
    repeats: u32,
}

impl Descent {
    /// From the defaults of this space.
    #[must_use]
    pub fn new(space: Space, seed: u64, guesses: Guesses) -> Self {
        let default = space.default_point();
        Self {
            history: History::new(default.clone()),
            random: Random::new(seed),
            queue: vec![(default.clone(), Rung::Short); BASELINES].into(),
            incumbent: default,
            stage: Stage::Baseline,
            awaited: None,
            round: space.indexes().collect(),
            rounds: 1,
            round_changed: false,
            decisions: Vec::new(),
            guesses,
            took: Vec::new(),
            hopeless: HOPELESS,
            budget: None,
            space,
        }
    }

    /// Gives a trial up when its cost is beyond so many times the default's, instead of twice.
    #[must_use]
    pub fn giving_up_beyond(self, times: f64) -> Self {
        Self {
            hopeless: times,
            ..self
        }
    }

    /// The next trial, when so much time is left. `None` when the search is over.
    pub fn poll(&mut self, left: Duration) -> Option<Trial> {
        assert!(self.awaited.is_none(), "a trial is under way");
        self.budget.get_or_insert(left);
        loop {
            let Some((point, rung)) = self.queue.front().cloned() else {
                if matches!(self.stage, Stage::Done) {
                    return None;
                }
                self.advance();
                continue;
            };
            let needed = self.takes(rung);
            if matches!(self.stage, Stage::Final) {
                if left < needed {
                    self.stop();
                    return None;
                }
            } else if left < needed + self.reserve() {
                self.begin_final();
                continue;
            }
            self.queue.pop_front();
            self.awaited = Some((point.clone(), rung));
            let is_default = point == self.space.default_point();
            return Some(Trial {
                hopeless_above: self
                    .history
                    .default_cost()
                    .filter(|_| !is_default)
                    .map(|cost| cost * self.hopeless),
                point,
                rung,
            });
        }
    }

    /// Takes what came of the trial, and how long it took with everything that belongs to it.
    pub fn handle(&mut self, measured: Measured, took: Duration) {
        let (point, rung) = self.awaited.take().expect("a trial was given out");
        self.took.push((rung, took));
        self.history.push(Entry {
            point,
            rung,
            measured,
        });
    }

    /// Ends the search where it is; a trial that was given out is forgotten.
    pub fn stop(&mut self) {
        self.awaited = None;
        self.queue.clear();
        self.stage = Stage::Done;
    }

    /// Everything that was measured.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What can be tried.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The changes that were examined closely, in order.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The best that is known.
    #[must_use]
    pub fn incumbent(&self) -> &Point {
        &self.incumbent
    }

    /// What the search has come to by now.
    #[must_use]
    pub fn choice(&self) -> Choice {
        let default = self.space.default_point();
        let choose = |point, verdict| Choice { point, verdict };
        if self.incumbent == default {
            return choose(default, Verdict::NothingBetter);
        }
        let gains = self.gains(&self.incumbent, &default, Rung::Final, 0);
        let Some(gain) = median(&gains) else {
            return choose(self.incumbent.clone(), Verdict::NotCompared);
        };
        let needed = self.needed(gains.len(), false);
        if gain > needed {
            choose(self.incumbent.clone(), Verdict::Better { gain, needed })
        } else {
            choose(default, Verdict::DidNotHold { gain, needed })
        }
    }

    fn advance(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Baseline => self.next_knob(),
            Stage::Climb(climb) => self.climb_on(climb),
            Stage::Shortlist(candidates) => self.shorten(&candidates),
            Stage::Confirm(confirm) => self.confirm(confirm),
            Stage::Final | Stage::Done => {}
        }
    }

    fn next_knob(&mut self) {
        if self.round.is_empty() && self.round_changed && self.rounds < ROUNDS_MAX {
            self.rounds += 1;
            self.round_changed = false;
            let mut order: Vec<_> = self.space.indexes().collect();
            self.random.shuffle(&mut order);
            self.round = order.into();
        }
        let Some(knob) = self.round.pop_front() else {
            self.begin_final();
            return;
        };
        let value = self.incumbent.value(knob);
        let ways = [
            value.checked_sub(1),
            Some(value + 1).filter(|next| *next < self.space.values(knob)),
        ];
        self.climb(Climb {
            knob,
            since: self.history.entries().len(),
            ways,
            tried: Vec::new(),
        });
    }

    /// Tries the values that its ways have come to.
    fn climb(&mut self, mut climb: Climb) {
        let values: Vec<usize> = climb.ways.into_iter().flatten().collect();
        let mut points = self.points(climb.knob, &values);
        if climb.tried.is_empty() && self.has_changes() {
            points.push(self.incumbent.clone());
        }
        self.random.shuffle(&mut points);
        climb.tried.extend(values);
        self.try_among_defaults(points, Rung::Short);
        self.stage = Stage::Climb(climb);
    }

    fn climb_on(&mut self, mut climb: Climb) {
        let given_up = WORSE * self.spread().max(GAIN_MIN);
        let last = self.space.values(climb.knob).saturating_sub(1);
        for (way, up) in climb.ways.iter_mut().zip([false, true]) {
            *way = way
                .filter(|value| {
                    let point = self.incumbent.with(climb.knob, *value);
                    let gain = self.gain(&point, Rung::Short, climb.since);
                    gain.is_some_and(|gain| gain > -given_up)
                })
                .and_then(|value| {
                    if up {
                        Some(value + 1).filter(|next| *next <= last)
                    } else {
                        value.checked_sub(1)
                    }
                });
        }
        if climb.ways.iter().any(Option::is_some) {
            self.climb(climb);
            return;
        }
        let gate = self.spread().max(GAIN_MIN);
        let values = self.best(climb.knob, &climb.tried, Rung::Short, climb.since, gate);
        self.look_closer(climb.knob, values);
    }

    /// One value is tried repeatedly; of several the better ones remain first.
    fn look_closer(&mut self, knob: KnobIndex, values: Vec<usize>) {
        let since = self.history.entries().len();
        match values[..] {
            [] => self.next_knob(),
            [value] => self.repeat(Confirm {
                knob,
                since,
                value,
                repeats: 0,
            }),
            _ => {
                let mut points = self.points(knob, &values);
                if self.has_changes() {
                    points.push(self.incumbent.clone());
                }
                self.random.shuffle(&mut points);
                self.try_among_defaults(points, Rung::Long);
                self.stage = Stage::Shortlist(Candidates {
                    knob,
                    since,
                    values,
                });
            }
        }
    }

    fn shorten(&mut self, candidates: &Candidates) {
        let Candidates {
            knob,
            since,
            values,
        } = candidates;
        let mut best = self.best(*knob, values, Rung::Long, *since, 0.0);
        best.truncate(values.len() / 2);
        self.look_closer(*knob, best);
    }

    fn repeat(&mut self, mut confirm: Confirm) {
        confirm.repeats += 1;
        let mut points = self.points(confirm.knob, &[confirm.value]);
        if self.has_changes() {
            points.push(self.incumbent.clone());
        }
        self.random.shuffle(&mut points);
        self.try_among_defaults(points, Rung::Long);
        self.stage = Stage::Confirm(confirm);
    }

    fn confirm(&mut self, confirm: Confirm) {
        let point = self.incumbent.with(confirm.knob, confirm.value);
        let gains = self.gains(&point, &self.incumbent, Rung::Long, confirm.since);
        let gain = median(&gains).unwrap_or(f64::NEG_INFINITY);
        // Nothing that follows could make up for it.
        let is_lost = gain <= 0.0;
        if !is_lost && confirm.repeats < CONFIRMATIONS {
            self.repeat(confirm);
            return;
        }
        let needed = self.needed(gains.len(), self.has_changes());
        let kept = gain > needed;
        self.decisions.push(Decision {
            knob: confirm.knob,
            from: self.incumbent.value(confirm.knob),
            to: confirm.value,
            gain,
            needed,
            kept,
        });
        if kept {
            self.incumbent = point;
            self.round_changed = true;
        }
        self.next_knob();
    }

    fn begin_final(&mut self) {
        self.queue.clear();
        self.stage = Stage::Final;
        let default = (self.space.default_point(), Rung::Final);
        let chosen = (self.incumbent.clone(), Rung::Final);
        for turn in 0..FINALS {
            if !self.has_changes() {
                self.queue.push_back(default.clone());
            } else if turn % 2 == 0 {
                // The other way round every other time, so that a steady drift favours neither.
                self.queue.extend([default.clone(), chosen.clone()]);
            } else {
                self.queue.extend([chosen.clone(), default.clone()]);
            }
        }
    }

    /// Puts trials into the queue, with one of the default before, after, and after every other one.
    fn try_among_defaults(&mut self, points: Vec<Point>, rung: Rung) {
        let default = (self.space.default_point(), rung);
        if points.is_empty() {
            return;
        }
        if !self.history.ends_with_default(rung) {
            self.queue.push_back(default.clone());
        }
        for some in points.chunks(TRIALS_BETWEEN) {
            self.queue
                .extend(some.iter().map(|point| (point.clone(), rung)));
            self.queue.push_back(default.clone());
        }
    }

    fn points(&self, knob: KnobIndex, values: &[usize]) -> Vec<Point> {
        values
            .iter()
            .map(|value| self.incumbent.with(knob, *value))
            .collect()
    }

    /// Those of the values that gain more than `gate`, the best first.
    fn best(
        &self,
        knob: KnobIndex,
        values: &[usize],
        rung: Rung,
        since: usize,
        gate: f64,
    ) -> Vec<usize> {
        let mut gaining: Vec<(f64, usize)> = values
            .iter()
            .filter_map(|value| {
                let point = self.incumbent.with(knob, *value);
                Some((self.gain(&point, rung, since)?, *value))
            })
            .filter(|(gain, _)| *gain > gate)
            .collect();
        gaining.sort_by(|one, other| other.0.total_cmp(&one.0));
        gaining.into_iter().map(|(_, value)| value).collect()
    }

    /// By how much a point was better than the incumbent, in the trials since then.
    fn gain(&self, point: &Point, rung: Rung, since: usize) -> Option<f64> {
        median(&self.gains(point, &self.incumbent, rung, since))
    }

    /// The same for each of its trials.
    fn gains(&self, point: &Point, incumbent: &Point, rung: Rung, since: usize) -> Vec<f64> {
        let excesses = self.history.excesses(point, rung, since);
        if *incumbent == self.space.default_point() {
            return excesses.into_iter().map(|excess| -excess).collect();
        }
        let Some(beside) = median(&self.history.excesses(incumbent, rung, since)) else {
            return Vec::new();
        };
        excesses.into_iter().map(|excess| beside - excess).collect()
    }

    /// How much better the middle of so many trials must be. `both`: it is compared with trials of a configuration that is not the default either.
    fn needed(&self, trials: usize, both: bool) -> f64 {
        let compared = if both { 2.0 * COMPARED } else { COMPARED };
        let doubt = DOUBT * self.spread() * (compared / trials.max(1) as f64).sqrt();
        doubt.max(GAIN_MIN)
    }

    /// Without two trials of the default nothing is known to be beyond chance.
    fn spread(&self) -> f64 {
        self.history.spread().unwrap_or(f64::INFINITY)
    }

    fn has_changes(&self) -> bool {
        self.incumbent != self.space.default_point()
    }

    /// The longest that a trial took lately.
    fn takes(&self, rung: Rung) -> Duration {
        let took = self.took.iter().rev().filter(|(of, _)| *of == rung);
        let longest = took.take(TOOK_KEPT).map(|(_, took)| *took).max();
        longest.unwrap_or(match rung {
            Rung::Short => self.guesses.short,
            Rung::Long => self.guesses.long,
            Rung::Final => self.guesses.last,
        })
    }

    /// The time set aside for the end.
    fn reserve(&self) -> Duration {
        let trials = if self.has_changes() {
            2 * FINALS
        } else {
            FINALS
        };
        let share = self.budget.unwrap_or_default().mul_f64(FINAL_SHARE);
        (self.takes(Rung::Final) * trials).min(share)
    }
}

#[cfg(test)]
mod tests;
