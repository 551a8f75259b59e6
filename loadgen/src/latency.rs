//! Latencies: recorded by each worker in nanoseconds, merged, and summed up in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency told apart from longer ones: one hour.
const NS_MAX: u64 = 3_600_000_000_000;

/// Where within each nine a curve has points: shares of what the nine before left over.
const CURVE_SHARES: [f64; 10] = [1.0, 0.8, 0.65, 0.5, 0.4, 0.32, 0.25, 0.2, 0.16, 0.125];
/// A curve ends at p99.999.
const CURVE_NINES: i32 = 5;

/// The distribution of one kind of latency. Each worker has its own; [`LatencyHistogram::merge`] puts them together.
#[derive(Clone, Debug)]
pub struct LatencyHistogram(Histogram<u64>);

impl Default for LatencyHistogram {
    fn default() -> Self {
        // Three digits over an hour: 0.1 % off at most, about 300 KiB.
        Self(
            Histogram::new_with_bounds(1, NS_MAX, 3)
                .expect("the bounds are constants that hdrhistogram accepts"),
        )
    }
}

impl LatencyHistogram {
    /// Takes one latency.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Takes the same latency of `count` records.
    #[inline]
    pub fn record_many(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns.max(1), count);
    }

    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("all histograms have the same bounds");
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The percentiles.
    #[must_use]
    pub fn summary(&self) -> LatencySummary {
        if self.0.is_empty() {
            return LatencySummary::default();
        }
        let us = |ns: u64| ns as f64 / 1000.0;
        let quantile = |quantile| us(self.0.value_at_quantile(quantile));
        LatencySummary {
            count: self.0.len(),
            mean: self.0.mean() / 1000.0,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            max: us(self.0.max()),
            curve: self.curve(),
        }
    }

    /// Points from p0 to p99.999, as far as there are records beyond each of them: a percentile that only the longest latency reaches says nothing that `max` does not.
    fn curve(&self) -> Vec<(f64, f64)> {
        (0..=CURVE_NINES)
            .flat_map(|nines| CURVE_SHARES.map(|share| share * 10.0_f64.powi(-nines)))
            .filter(|beyond| {
                *beyond > 0.99 * 10.0_f64.powi(-CURVE_NINES) && beyond * self.0.len() as f64 >= 1.0
            })
            .map(|beyond| {
                let us = self.0.value_at_quantile(1.0 - beyond) as f64 / 1000.0;
                // Without the noise of the last binary digits.
                (((1.0 - beyond) * 1e8).round() / 1e6, us)
            })
            .collect()
    }
}

/// A distribution summed up. All in microseconds, but for the count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencySummary {
    /// How many were measured.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// Half were at most this.
    pub p50: f64,
    /// 90 % were at most this.
    pub p90: f64,
    /// 99 % were at most this.
    pub p99: f64,
    /// 99.9 % were at most this.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
    /// For plots: pairs of a percentile (0 to 100) and of what so much percent were at most, rising, at most 51 of them, from p0 to p99.999 or to the last percentile
    /// that at least one latency lies beyond. Empty in reports of versions that had none.
    pub curve: Vec<(f64, f64)>,
}

/// Whole nanoseconds; 584 years at most.
#[must_use]
#[inline]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_recorded_sums_up_to_zero() {
        assert_eq!(
            LatencyHistogram::default().summary(),
            LatencySummary::default()
        );
    }

    #[test]
    fn a_latency_beyond_the_longest_counts_as_the_longest() {
        let mut histogram = LatencyHistogram::default();
        histogram.record(u64::MAX);
        assert!(histogram.summary().max >= 3.6e9);
    }

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = LatencyHistogram::default();
        histogram.record_many(100_000, 99);
        histogram.record(5_000_000);
        let summary = histogram.summary();
        assert_eq!(summary.count, 100);
        assert!((summary.p50 - 100.0).abs() < 0.2, "{summary:?}");
        assert!((summary.p99 - 100.0).abs() < 0.2, "{summary:?}");
        assert!((summary.max - 5000.0).abs() < 10.0, "{summary:?}");
    }

    #[test]
    fn a_curve_has_the_usual_percentiles_and_ends_where_no_record_lies_beyond() {
        let mut histogram = LatencyHistogram::default();
        for ns in 1..=1_000_000 {
            histogram.record(ns * 1000);
        }
        let curve = histogram.summary().curve;
        assert_eq!(curve.len(), 51);
        for percentile in [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999] {
            let (_, us) = curve.iter().find(|(at, _)| *at == percentile).unwrap();
            assert!(
                (us - percentile * 1e4).abs() <= 0.001 * percentile * 1e4 + 2.0,
                "p{percentile}: {us}"
            );
        }
        let mut few = LatencyHistogram::default();
        few.record_many(5_000, 10);
        let last = few.summary().curve.last().copied();
        assert_eq!(last.map(|(percentile, _)| percentile), Some(90.0));
    }

    #[test]
    fn a_summary_of_a_version_without_curves_still_opens() {
        let summary: LatencySummary = serde_json::from_str(r#"{"count": 3, "p50": 1.5}"#).unwrap();
        assert_eq!(
            (summary.count, summary.p50, summary.curve.len()),
            (3, 1.5, 0)
        );
    }

    proptest! {
        #[test]
        fn a_curve_rises_and_is_bounded(latencies in prop::collection::vec(1..10_000_000_u64, 0..300)) {
            let mut histogram = LatencyHistogram::default();
            for &ns in &latencies {
                histogram.record(ns);
            }
            let curve = histogram.summary().curve;
            prop_assert!(curve.len() <= 51);
            prop_assert!(curve.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1), "{:?}", curve);
        }

        #[test]
        fn merging_is_recording_all_in_one(ones in prop::collection::vec(1..10_000_000_u64, 0..50), others in prop::collection::vec(1..10_000_000_u64, 0..50)) {
            let (mut one, mut other, mut all) = (LatencyHistogram::default(), LatencyHistogram::default(), LatencyHistogram::default());
            for &ns in &ones {
                one.record(ns);
                all.record(ns);
            }
            for &ns in &others {
                other.record(ns);
                all.record(ns);
            }
            one.merge(&other);
            prop_assert_eq!(one.summary(), all.summary());
        }
    }
}
