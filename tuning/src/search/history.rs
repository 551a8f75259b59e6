//! What was measured, in order, and what it says once the machine's drift is taken out of it.

use super::space::Point;

/// A factor between two runs of one configuration that is never called a difference, however quiet the machine seemed.
const SPREAD_MIN: f64 = 0.005;
/// With fewer differences the largest of them stands for all.
const DIFFERENCES_MIN: usize = 4;

/// How long a trial runs. What looks good in a short one is tried again in longer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// Shortest: to see whether a value is worth a closer look.
    Short,
    /// To decide.
    Long,
    /// For the figures of default and choice.
    Final,
}

/// What became of a trial. A cost is positive and the lower the better: a latency, or the time for a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measured {
    /// It ran to its end.
    Cost(f64),
    /// It was ended early: the cost would have been this at least.
    AtLeast(f64),
    /// There is no such configuration, or it does not work here.
    Refused,
}

/// A trial that was made.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was tried.
    pub point: Point,
    /// For how long.
    pub rung: Rung,
    /// What became of it.
    pub measured: Measured,
}

/// All trials, in order.
#[derive(Clone, Debug)]
pub struct History {
    default: Point,
    entries: Vec<Entry>,
}

impl Measured {
    /// The logarithm of the cost; infinite when there is none.
    fn ln(self) -> f64 {
        match self {
            Self::Cost(cost) | Self::AtLeast(cost) => cost.ln(),
            Self::Refused => f64::INFINITY,
        }
    }
}

impl History {
    /// Nothing yet; `default` is what everything is compared with.
    #[must_use]
    pub fn new(default: Point) -> Self {
        Self {
            default,
            entries: Vec::new(),
        }
    }

    /// Adds a trial.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// The trials, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether the latest trial was one of the default on that rung.
    #[must_use]
    pub fn ends_with_default(&self, rung: Rung) -> bool {
        self.entries
            .last()
            .is_some_and(|entry| entry.point == self.default && entry.rung == rung)
    }

    /// The latest cost of the default, on any rung.
    #[must_use]
    pub fn default_cost(&self) -> Option<f64> {
        self.entries
            .iter()
            .rev()
            .filter(|entry| entry.point == self.default)
            .find_map(|entry| match entry.measured {
                Measured::Cost(cost) => Some(cost),
                Measured::AtLeast(_) | Measured::Refused => None,
            })
    }

    /// How much worse than the default a point was, as the logarithm of the factor, in each of its trials from `since` on: the default's cost is read off between the trials of it on the same
    /// rung before and after, so that what the machine did to both is not counted.
    #[must_use]
    pub fn excesses(&self, point: &Point, rung: Rung, since: usize) -> Vec<f64> {
        self.entries
            .iter()
            .enumerate()
            .skip(since)
            .filter(|(_, entry)| entry.rung == rung && entry.point == *point)
            .map(|(index, entry)| {
                entry.measured.ln() - self.default_ln(index, rung).unwrap_or(f64::NAN)
            })
            .filter(|excess| !excess.is_nan())
            .collect()
    }

    /// The default's cost at the time of a trial.
    #[must_use]
    pub fn default_cost_at(&self, index: usize) -> Option<f64> {
        let rung = self.entries.get(index)?.rung;
        self.default_ln(index, rung).map(f64::exp)
    }

    fn default_ln(&self, index: usize, rung: Rung) -> Option<f64> {
        let is_default = |(at, entry): &(usize, &Entry)| {
            *at != index && entry.rung == rung && entry.point == self.default
        };
        let all = || self.entries.iter().enumerate();
        let before = all().take(index).rev().find(is_default);
        let after = all().skip(index).find(is_default);
        match (before, after) {
            (Some((from, before)), Some((to, after))) => {
                let way = (index - from) as f64 / (to - from) as f64;
                Some(before.measured.ln() * (1.0 - way) + after.measured.ln() * way)
            }
            (Some((_, one)), None) | (None, Some((_, one))) => Some(one.measured.ln()),
            (None, None) => None,
        }
    }

    /// How far apart two runs of one configuration are on this machine: the standard deviation of the logarithm of the cost, from trials of the default that followed each other. `None` while there
    /// are not two.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let mut differences: Vec<f64> = [Rung::Short, Rung::Long, Rung::Final]
            .into_iter()
            .flat_map(|rung| self.default_steps(rung))
            .collect();
        differences.sort_by(f64::total_cmp);
        // The difference of two has twice the variance of one.
        let one = std::f64::consts::FRAC_1_SQRT_2;
        let spread = if differences.len() < DIFFERENCES_MIN {
            one * differences.last()?
        } else {
            // Not the root of the mean square: a single stall of the disk would hide everything. The factor makes it the same where there is none.
            one * median(&differences)? * 1.4826
        };
        Some(spread.max(SPREAD_MIN))
    }

    fn default_steps(&self, rung: Rung) -> Vec<f64> {
        let costs: Vec<f64> = self
            .entries
            .iter()
            .filter(|entry| entry.rung == rung && entry.point == self.default)
            .map(|entry| entry.measured.ln())
            .filter(|ln| ln.is_finite())
            .collect();
        costs
            .iter()
            .zip(costs.iter().skip(1))
            .map(|(before, after)| (after - before).abs())
            .collect()
    }
}

/// The middle of values; between the middle two when their number is even. `None` of none.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle - 1)?;
    // Two infinities have no middle by halves.
    Some(if lower == upper {
        upper
    } else {
        (lower + upper) / 2.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::space::{Knob, KnobIndex, Space};

    fn points() -> (Point, Point) {
        let knob = Knob {
            name: "a",
            values: vec!["1".to_owned(), "2".to_owned()],
            default: 0,
        };
        let default = Space::new(vec![knob]).default_point();
        let other = default.with(KnobIndex(0), 1);
        (default, other)
    }

    fn history(costs: &[(bool, f64)]) -> (History, Point) {
        let (default, other) = points();
        let mut history = History::new(default.clone());
        for &(is_default, cost) in costs {
            history.push(Entry {
                point: if is_default {
                    default.clone()
                } else {
                    other.clone()
                },
                rung: Rung::Short,
                measured: Measured::Cost(cost),
            });
        }
        (history, other)
    }

    #[test]
    fn a_machine_that_slows_down_does_not_make_what_was_tried_later_worse() {
        let costs = [
            (true, 100.0),
            (false, 200.0),
            (true, 400.0),
            (false, 800.0),
            (true, 1600.0),
        ];
        let (history, other) = history(&costs);
        for excess in history.excesses(&other, Rung::Short, 0) {
            assert!(excess.abs() < 1e-9, "{excess}");
        }
    }

    #[test]
    fn one_stall_is_not_the_spread() {
        let quiet = [
            100.0, 101.0, 100.0, 101.0, 100.0, 5000.0, 100.0, 101.0, 100.0, 101.0,
        ];
        let (history, _) = history(&quiet.map(|cost| (true, cost)));
        let spread = history.spread().unwrap();
        assert!(spread > SPREAD_MIN && spread < 0.03, "{spread}");
    }

    #[test]
    fn a_few_runs_that_differ_much_are_a_large_spread() {
        let (history, _) = history(&[(true, 100.0), (true, 101.0), (true, 150.0)]);
        assert!(history.spread().unwrap() > 0.25);
    }

    #[test]
    fn what_was_refused_is_worse_than_anything() {
        let (default, other) = points();
        let (mut history, _) = history(&[(true, 100.0)]);
        history.push(Entry {
            point: other.clone(),
            rung: Rung::Short,
            measured: Measured::Refused,
        });
        assert_eq!(history.excesses(&other, Rung::Short, 0), [f64::INFINITY]);
        assert!(history.excesses(&default, Rung::Long, 0).is_empty());
    }

    #[test]
    fn the_middle_of_infinities_is_one() {
        assert_eq!(median(&[f64::INFINITY, f64::INFINITY]), Some(f64::INFINITY));
        assert_eq!(median(&[1.0, 3.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
