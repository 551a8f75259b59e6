//! Where a sweep goes next, and when it has found what it looks for. Pure: what was measured goes in, the next rate comes out.
//!
//! Call [`Search::next`], measure at the rate it gives, hand the result to [`Search::take`], and so on until it gives an end.

use serde::{Deserialize, Serialize};

/// Rates beyond this are nobody's.
pub const RATE_MAX: u64 = 1_000_000_000;

/// What a sweep is to find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The first rate, in records a second.
    pub from: u64,
    /// The rate beyond which is not searched.
    pub to: u64,
    /// How much larger each rate is than the one before it, until one is too high.
    pub factor: f64,
    /// A rate is kept up with when at least this share of it is reached.
    pub kept_up_min: f64,
    /// A rate is too slow when its p99 is more than so many times that of the lowest rate that was kept up with.
    pub p99_times: f64,
    /// The search ends when the lowest rate that is too high is at most this share above the highest one that is not.
    pub precision: f64,
    /// How many times a rate must fail before it counts as too high: a hiccup of the machine is no knee.
    pub tries: u32,
}

/// What was measured at a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Records a second that were to be sent.
    pub offered: u64,
    /// Records a second that were acknowledged, or delivered if those were fewer.
    pub achieved: f64,
    /// In microseconds: from when a record should have been sent until it was acknowledged, or delivered if there were consumers.
    pub p99_us: f64,
}

/// How a rate went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was reached, at a latency like that of the low rates.
    KeptUp,
    /// It was reached, but the p99 was beyond its bound.
    Slow,
    /// It was not reached.
    FellBehind,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Measure at this rate.
    Try(u64),
    /// Nothing: that is how it ended.
    End(End),
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The knee is known as precisely as was asked.
    Found,
    /// The highest rate allowed was kept up with.
    ReachedHighest,
    /// Not even a single record a second was kept up with.
    NothingKeptUp,
    /// There was no time for another rate.
    Budget,
    /// The disk has no room for a higher rate.
    NoRoom,
    /// Records were lost, or something else failed.
    Failed,
}

/// A search in progress.
#[derive(Clone, Debug)]
pub struct Search {
    goal: Goal,
    loads: Vec<Load>,
}

/// What is known of a rate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Good,
    Bad,
    /// It failed, but not often enough to count.
    Undecided,
}

impl Search {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(goal: Goal) -> Self {
        Self {
            goal,
            loads: Vec::new(),
        }
    }

    /// Takes what was measured.
    pub fn take(&mut self, load: Load) {
        self.loads.push(load);
    }

    /// The p99 of the lowest rate that was kept up with, against which the others are judged.
    #[must_use]
    pub fn low_load_p99_us(&self) -> Option<f64> {
        let kept_up = self.loads.iter().filter(|load| self.is_reached(load));
        let lowest = kept_up.clone().map(|load| load.offered).min()?;
        // Of several tries at that rate the quickest: the others had a hiccup.
        kept_up
            .filter(|load| load.offered == lowest)
            .map(|load| load.p99_us)
            .min_by(f64::total_cmp)
    }

    /// How a measurement is judged, by what is known now.
    #[must_use]
    pub fn verdict(&self, load: &Load) -> Verdict {
        if !self.is_reached(load) {
            return Verdict::FellBehind;
        }
        match self.low_load_p99_us() {
            Some(low) if load.p99_us > low * self.goal.p99_times => Verdict::Slow,
            _ => Verdict::KeptUp,
        }
    }

    /// The highest rate that was kept up with below any that was too high.
    #[must_use]
    pub fn kept_up(&self) -> Option<u64> {
        let too_high = self.too_high().unwrap_or(u64::MAX);
        self.rates(Known::Good)
            .into_iter()
            .rfind(|rate| *rate < too_high)
    }

    /// The lowest rate that was too high.
    #[must_use]
    pub fn too_high(&self) -> Option<u64> {
        self.rates(Known::Bad).first().copied()
    }

    /// Where to go next.
    #[must_use]
    pub fn next(&self) -> Next {
        if let Some(again) = self.rates(Known::Undecided).first() {
            return Next::Try(*again);
        }
        match (self.kept_up(), self.too_high()) {
            (None, None) => Next::Try(self.goal.from.clamp(1, RATE_MAX)),
            (Some(low), None) => self.rise_from(low),
            (None, Some(high)) if high <= 1 => Next::End(End::NothingKeptUp),
            (None, Some(high)) => {
                Next::Try(rounded(high as f64 / self.goal.factor).clamp(1, high - 1))
            }
            (Some(low), Some(high)) => self.halve(low, high),
        }
    }

    fn rise_from(&self, low: u64) -> Next {
        let highest = self.goal.to.min(RATE_MAX);
        if low >= highest {
            return Next::End(End::ReachedHighest);
        }
        Next::Try(rounded(low as f64 * self.goal.factor).clamp(low + 1, highest))
    }

    /// Between the two by their ratio: latency bends by factors, not by differences.
    fn halve(&self, low: u64, high: u64) -> Next {
        let is_close = high as f64 <= low as f64 * (1.0 + self.goal.precision);
        if is_close || high - low <= 1 {
            return Next::End(End::Found);
        }
        let middle = rounded((low as f64 * high as f64).sqrt());
        Next::Try(middle.clamp(low + 1, high - 1))
    }

    fn is_reached(&self, load: &Load) -> bool {
        load.achieved >= load.offered as f64 * self.goal.kept_up_min
    }

    /// The rates of which that is known, rising.
    fn rates(&self, known: Known) -> Vec<u64> {
        let mut rates: Vec<u64> = self
            .loads
            .iter()
            .map(|load| load.offered)
            .filter(|rate| self.known(*rate) == known)
            .collect();
        rates.sort_unstable();
        rates.dedup();
        rates
    }

    fn known(&self, rate: u64) -> Known {
        let tries = self.loads.iter().filter(|load| load.offered == rate);
        let (mut failed, tries_min) = (0, self.goal.tries.max(1));
        for load in tries {
            match self.verdict(load) {
                Verdict::KeptUp => return Known::Good,
                Verdict::Slow | Verdict::FellBehind => failed += 1,
            }
        }
        if failed < tries_min {
            Known::Undecided
        } else {
            Known::Bad
        }
    }
}

/// Three digits are more precise than any measurement.
fn rounded(rate: f64) -> u64 {
    let unit = 10.0_f64.powf((rate.max(1.0).log10().floor() - 2.0).max(0.0));
    ((rate / unit).round() * unit) as u64
}

#[cfg(test)]
mod tests;
