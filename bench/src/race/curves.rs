//! The latencies of each broker by percentile, as a race's page draws them.

use gannet_loadgen::latency::LatencySummary;

use super::document::Percentiles;
use super::entrant::Entrant;
use super::outcome::{Measured, TurnResult};

/// Latencies of a scenario: until a consumer had the record where one consumed, else until the acknowledgement. A broker's curve is that of the round whose p99 is the
/// median: one that really was, rather than percentiles of several.
#[must_use]
pub(super) fn curves(
    scenario: &str,
    entrants: &[Entrant],
    turns: &[TurnResult],
) -> Option<Percentiles> {
    let of_scenario = || turns.iter().filter(|turn| turn.turn.scenario == scenario);
    let consumed = of_scenario()
        .filter_map(TurnResult::measured)
        .any(|measured| end_to_end(measured).count > 0);
    let latency = if consumed { end_to_end } else { publish };
    let curves: Vec<_> = entrants
        .iter()
        .filter_map(|entrant| {
            let mut rounds: Vec<&LatencySummary> = of_scenario()
                .filter(|turn| turn.turn.entrant == *entrant)
                .filter_map(TurnResult::measured)
                .map(latency)
                .filter(|latency| !latency.curve.is_empty())
                .collect();
            rounds.sort_by(|left, right| left.p99.total_cmp(&right.p99));
            let median = rounds.get(rounds.len().saturating_sub(1) / 2)?;
            Some((entrant.to_string(), median.curve.clone()))
        })
        .collect();
    let what = if consumed {
        "end to end"
    } else {
        "until acknowledged"
    };
    (!curves.is_empty()).then(|| Percentiles {
        title: format!("{scenario}: latency {what}"),
        curves,
    })
}

fn end_to_end(measured: &Measured) -> &LatencySummary {
    &measured.report.last.end_to_end.latency_us
}

fn publish(measured: &Measured) -> &LatencySummary {
    &measured.report.last.publish.latency_us
}

#[cfg(test)]
mod tests {
    use super::super::entrant::{GANNET_DURABLE, KAFKA_UNSYNCED};
    use super::super::outcome::tests::measured;
    use super::*;

    fn summary(p99: f64) -> LatencySummary {
        LatencySummary {
            count: 100,
            p99,
            curve: vec![(0.0, 1.0), (99.0, p99)],
            ..LatencySummary::default()
        }
    }

    #[test]
    fn the_curve_of_a_broker_is_that_of_its_median_round() {
        let turns: Vec<_> = [(1, 9.0), (2, 5.0), (3, 7.0)]
            .map(|(round, p99)| {
                measured("paced", GANNET_DURABLE, round, |measured| {
                    measured.report.last.end_to_end.latency_us = summary(p99);
                })
            })
            .into();
        let drawn = curves("paced", &[GANNET_DURABLE, KAFKA_UNSYNCED], &turns).unwrap();
        assert_eq!(
            drawn.curves,
            [("Gannet durable".to_owned(), vec![(0.0, 1.0), (99.0, 7.0)])]
        );
        assert!(drawn.title.contains("end to end"), "{}", drawn.title);
    }

    #[test]
    fn where_nobody_consumes_the_acknowledgement_counts() {
        let turns = [measured("catch-up", GANNET_DURABLE, 1, |measured| {
            measured.report.last.publish.latency_us = summary(3.0);
            measured.report.last.end_to_end.latency_us = LatencySummary::default();
        })];
        let drawn = curves("catch-up", &[GANNET_DURABLE], &turns).unwrap();
        assert_eq!(drawn.curves[0].1, vec![(0.0, 1.0), (99.0, 3.0)]);
        assert_eq!(curves("paced", &[GANNET_DURABLE], &turns), None);
    }
}
