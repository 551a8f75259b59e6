//! What one run came to, and what that means for the goal.

use std::time::Duration;

use gannet_loadgen::latency::LatencySummary;
use gannet_loadgen::report::PhaseReport;
use serde::Serialize;

use super::history::{Measured, median};
use crate::goal::{Bound, Goal, Percentile, Way};

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Records a second that were offered; absent for as fast as it goes.
    pub offered_records_per_s: Option<u64>,
    /// How long was measured.
    pub seconds: f64,
    /// Records acknowledged a second.
    pub records_per_s: f64,
    /// Megabytes (10^6) of them a second.
    pub mb_per_s: f64,
    /// From when a record should have been sent to its acknowledgement, in microseconds.
    pub publish_us: Latencies,
    /// The same to a consumer.
    pub end_to_end_us: Latencies,
    /// Cores' worth of CPU that the broker used.
    pub broker_cpu_cores: Option<f64>,
    /// The most memory it had.
    pub broker_rss_bytes: Option<u64>,
    /// How late the generator was with one record of 100, in microseconds: what it adds to the latencies itself.
    pub sent_late_p99_us: f64,
    /// Whether it was ended early.
    pub ended_early: bool,
    /// How to run it again, beside a gannet.toml with the trial's settings.
    pub command: String,
}

/// Some of a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Latencies {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

impl Latencies {
    fn of(summary: &LatencySummary) -> Self {
        Self {
            p50: summary.p50,
            p90: summary.p90,
            p99: summary.p99,
            p99_9: summary.p99_9,
            max: summary.max,
        }
    }

    /// One of them.
    #[must_use]
    pub fn at(&self, percentile: Percentile) -> f64 {
        match percentile {
            Percentile::P50 => self.p50,
            Percentile::P90 => self.p90,
            Percentile::P99 => self.p99,
            Percentile::P99_9 => self.p99_9,
            Percentile::Max => self.max,
        }
    }
}

impl Figures {
    /// Of the phase of a run. `None` when nothing was measured.
    #[must_use]
    pub fn of(phase: &PhaseReport, ended_early: bool, command: String) -> Option<Self> {
        if phase.publish.latency_us.count == 0 || phase.seconds <= 0.0 {
            return None;
        }
        Some(Self {
            offered_records_per_s: phase.rate,
            seconds: phase.seconds,
            records_per_s: phase.publish.flow.records_per_s,
            mb_per_s: phase.publish.flow.mb_per_s,
            publish_us: Latencies::of(&phase.publish.latency_us),
            end_to_end_us: Latencies::of(&phase.end_to_end.latency_us),
            broker_cpu_cores: phase.broker.as_ref().map(|broker| broker.cpu_cores),
            broker_rss_bytes: phase.broker.as_ref().map(|broker| broker.rss_bytes),
            sent_late_p99_us: phase.generator.late_us.p99,
            ended_early,
            command,
        })
    }

    /// The latency that a bound is about, in microseconds.
    #[must_use]
    pub fn latency_us(&self, bound: &Bound) -> f64 {
        let latencies = match bound.way {
            Way::Publish => &self.publish_us,
            Way::EndToEnd => &self.end_to_end_us,
        };
        latencies.at(bound.percentile)
    }

    /// Whether the latency is below its bound, to the nanosecond.
    #[must_use]
    pub fn holds(&self, bound: &Bound) -> bool {
        !self.ended_early && self.latency_us(bound) < micros(bound.below)
    }
}

/// A time in microseconds.
#[must_use]
pub fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// What a search makes smaller: for a latency goal the latency in microseconds, for a throughput goal the microseconds for each record.
#[must_use]
pub fn cost(goal: &Goal, figures: &Figures) -> f64 {
    match goal {
        Goal::Latency { bound, .. } => figures.latency_us(bound),
        Goal::Throughput { .. } => 1e6 / figures.records_per_s.max(1e-3),
    }
    // A logarithm is taken of it.
    .max(1e-3)
}

/// Whether a run reached the goal. `None` when the goal is only to do as well as can be.
#[must_use]
pub fn reaches(goal: &Goal, figures: &Figures, record_bytes: u64) -> Option<bool> {
    match goal {
        Goal::Latency { bound, load } => {
            let carried = figures.records_per_s >= load.records_per_s(record_bytes);
            Some(carried && figures.holds(bound))
        }
        Goal::Throughput { bound } => bound.map(|bound| figures.holds(&bound)),
    }
}

/// The middle of several costs and their extremes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The lowest.
    pub least: f64,
    /// The middle.
    pub middle: f64,
    /// The highest.
    pub most: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            least: values.iter().copied().min_by(f64::total_cmp)?,
            middle: median(values)?,
            most: values.iter().copied().max_by(f64::total_cmp)?,
        })
    }
}

/// A cost as people read it, against its own interest: a latency rounded up, a rate rounded down, so that what is printed is never better than what was measured.
#[must_use]
pub fn written_cost(goal: &Goal, cost: f64) -> String {
    match goal {
        Goal::Latency { .. } => written_latency(cost),
        Goal::Throughput { .. } => written_rate(1e6 / cost),
    }
}

/// A latency in microseconds, rounded up.
#[must_use]
pub fn written_latency(us: f64) -> String {
    let up = |value: f64| (value * 100.0).ceil() / 100.0;
    match us {
        us if us < 1e3 => format!("{:.1} us", (us * 10.0).ceil() / 10.0),
        us if us < 1e6 => format!("{:.2} ms", up(us / 1e3)),
        us => format!("{:.2} s", up(us / 1e6)),
    }
}

/// Records a second, rounded down.
#[must_use]
pub fn written_rate(records_per_s: f64) -> String {
    format!(
        "{} records/s",
        gannet_loadgen::units::grouped(records_per_s.max(0.0) as u64)
    )
}

/// What a trial came to, in words.
#[must_use]
pub fn written(goal: &Goal, measured: Measured) -> String {
    match (measured, goal) {
        (Measured::Cost(cost), _) => written_cost(goal, cost),
        (Measured::AtLeast(cost), Goal::Latency { .. }) => {
            format!("hopeless, beyond {} or so", written_cost(goal, cost))
        }
        (Measured::AtLeast(cost), Goal::Throughput { .. }) => {
            format!("less than {}", written_cost(goal, cost))
        }
        (Measured::Refused, _) => "refused".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p99: f64, records_per_s: f64) -> Figures {
        Figures {
            offered_records_per_s: Some(1000),
            seconds: 1.0,
            records_per_s,
            mb_per_s: records_per_s / 1e3,
            publish_us: Latencies {
                p99,
                ..Latencies::default()
            },
            end_to_end_us: Latencies {
                p99: 2.0 * p99,
                ..Latencies::default()
            },
            broker_cpu_cores: None,
            broker_rss_bytes: None,
            sent_late_p99_us: 0.0,
            ended_early: false,
            command: String::new(),
        }
    }

    fn reached(goal: &str, p99: f64, records_per_s: f64) -> Option<bool> {
        reaches(&goal.parse().unwrap(), &figures(p99, records_per_s), 1000)
    }

    #[test]
    fn a_goal_that_is_missed_by_a_hair_is_missed() {
        let goal = "p99 < 2ms at 1 MB/s";
        assert_eq!(reached(goal, 1999.9, 1000.0), Some(true));
        assert_eq!(reached(goal, 2000.0, 1000.0), Some(false));
        assert_eq!(reached(goal, 1.0, 999.9), Some(false));
        assert_eq!(
            reached("end to end p99 < 2ms at 1 MB/s", 1500.0, 1000.0),
            Some(false)
        );
    }

    #[test]
    fn a_run_that_was_ended_early_reaches_nothing() {
        let figures = Figures {
            ended_early: true,
            ..figures(1.0, 1e6)
        };
        let goal = "max throughput with p99 < 1s".parse().unwrap();
        assert_eq!(reaches(&goal, &figures, 1000), Some(false));
    }

    #[test]
    fn as_much_as_can_be_is_never_reached() {
        assert_eq!(reached("max throughput", 1.0, 1.0), None);
    }

    #[test]
    fn what_is_written_is_never_better_than_what_was_measured() {
        assert_eq!(written_latency(1_990.1), "2.00 ms");
        assert_eq!(written_latency(999.91), "1000.0 us");
        assert_eq!(written_latency(1_000_001.0), "1.01 s");
        assert_eq!(written_rate(1999.99), "1,999 records/s");
    }
}
