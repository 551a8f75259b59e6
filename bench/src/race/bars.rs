//! The bars that name Kafka: how far Gannet is to be ahead of it, what was measured, and whether that is reached.

use crate::numbers::{Bar, NoFigure, Row};

use super::entrant::{GANNET_DURABLE, KAFKA_UNSYNCED};
use super::spread::Spread;
use super::standing::{Measure, Standing};

/// Large batches, as fast as it goes.
pub const SATURATED_LARGE: &str = "saturated-large";
/// One record a batch, as fast as it goes.
pub const SATURATED_SINGLE: &str = "saturated-single";
/// 10,000 records a second.
pub const PACED: &str = "paced";
/// Published, and only then read.
pub const CATCH_UP: &str = "catch-up";

/// Loads shorter than this are not judged, in milliseconds: a virtual machine that compiles while it runs has only begun to by then, and Kafka would be measured at a
/// tenth of what it does warm.
pub const JUDGED_LOAD_MS_MIN: u64 = 30_000;

/// One bar.
struct Sought {
    what: &'static str,
    gannet: (&'static str, Measure),
    kafka: (&'static str, Measure),
    bar: Bar,
}

const SOUGHT: [Sought; 5] = [
    Sought {
        what: "durable publish, saturated, large batches / Kafka's un-synced",
        gannet: (SATURATED_LARGE, Measure::PublishMbPerS),
        kafka: (SATURATED_LARGE, Measure::PublishMbPerS),
        bar: Bar::AtLeast(7.0),
    },
    Sought {
        what: "durable publish, saturated, one record a batch / Kafka's un-synced in large batches",
        gannet: (SATURATED_SINGLE, Measure::PublishMbPerS),
        kafka: (SATURATED_LARGE, Measure::PublishMbPerS),
        bar: Bar::AtLeast(4.0),
    },
    Sought {
        what: "end to end, 10,000 records/s, durable: p99 / Kafka's un-synced p99",
        gannet: (PACED, Measure::EndToEndP99Us),
        kafka: (PACED, Measure::EndToEndP99Us),
        bar: Bar::AtMost(0.25),
    },
    Sought {
        what: "reading everything again / Kafka's from its page cache",
        gannet: (CATCH_UP, Measure::RereadMbPerS),
        kafka: (CATCH_UP, Measure::RereadMbPerS),
        bar: Bar::AtLeast(1.5),
    },
    Sought {
        what: "broker's CPU for a record, saturated, large batches / Kafka's",
        gannet: (SATURATED_LARGE, Measure::CpuUsPerRecord),
        kafka: (SATURATED_LARGE, Measure::CpuUsPerRecord),
        bar: Bar::Reported,
    },
];

/// A bar with its figures, or why there are none.
#[derive(Clone, Debug)]
pub struct Barred {
    /// What it is about.
    pub what: &'static str,
    /// The ratio of the medians, judged; without, one of the two was not measured.
    pub row: Option<Row>,
    /// Gannet's figure, in what the column of that measure has.
    pub gannet: Option<Spread>,
    /// Kafka's.
    pub kafka: Option<Spread>,
    /// What both are figures of.
    pub unit: &'static str,
    /// Whether it is not judged because a load was shorter than [`JUDGED_LOAD_MS_MIN`].
    pub is_too_short: bool,
}

/// All of them. `shortest_ms`: how long the shortest load of a scenario lasted, in milliseconds.
#[must_use]
pub fn bars(standing: &Standing, shortest_ms: impl Fn(&str) -> u64) -> Vec<Barred> {
    SOUGHT
        .iter()
        .map(|sought| {
            let load_ms = shortest_ms(sought.gannet.0).min(shortest_ms(sought.kafka.0));
            sought.judged(standing, load_ms < JUDGED_LOAD_MS_MIN)
        })
        .collect()
}

impl Sought {
    fn judged(&self, standing: &Standing, is_too_short: bool) -> Barred {
        let bar = if is_too_short {
            Bar::Reported
        } else {
            self.bar
        };
        let spread = |scenario, entrant, measure: Measure| {
            let figure = standing.figure(scenario, entrant, measure)?;
            Some(figure.counted.divided_by(measure.scale()))
        };
        let gannet = spread(self.gannet.0, GANNET_DURABLE, self.gannet.1);
        let kafka = spread(self.kafka.0, KAFKA_UNSYNCED, self.kafka.1);
        let row = gannet.zip(kafka).and_then(|(gannet, kafka)| {
            let figures = [("gannet", gannet.median), ("kafka", kafka.median)];
            let ratio = gannet.median / kafka.median;
            let row: Result<Row, NoFigure> = Row::new(self.what, (ratio, "x"), bar, figures);
            row.ok()
        });
        Barred {
            what: self.what,
            row,
            gannet,
            kafka,
            unit: self.gannet.1.title(),
            is_too_short,
        }
    }

    /// As the table has it.
    fn bar_text(&self) -> String {
        match self.bar {
            Bar::AtMost(bar) => format!("at most {bar} x"),
            Bar::Below(bar) => format!("below {bar} x"),
            Bar::AtLeast(bar) => format!("at least {bar} x"),
            Bar::Reported => "reported".to_owned(),
        }
    }
}

/// What each bar is, in the order of [`bars`].
#[must_use]
pub fn bar_texts() -> Vec<String> {
    SOUGHT.iter().map(Sought::bar_text).collect()
}

#[cfg(test)]
mod tests {
    use super::super::entrant::Entrant;
    use super::super::outcome::TurnResult;
    use super::super::outcome::tests::measured;
    use super::*;

    fn published(scenario: &str, entrant: Entrant, mb_per_s: f64) -> TurnResult {
        measured(scenario, entrant, 1, |measured| {
            let flow = &mut measured.report.last.publish.flow;
            (flow.records, flow.mb_per_s) = (1, mb_per_s);
        })
    }

    fn reached(results: &[TurnResult]) -> Vec<Option<bool>> {
        reached_by_loads_of(JUDGED_LOAD_MS_MIN, results)
    }

    fn reached_by_loads_of(load_ms: u64, results: &[TurnResult]) -> Vec<Option<bool>> {
        bars(&Standing::of(results), |_| load_ms)
            .into_iter()
            .map(|barred| barred.row.and_then(|row| row.reached))
            .collect()
    }

    #[test]
    fn one_record_a_batch_stands_against_kafkas_large_batches() {
        let results = [
            published(SATURATED_LARGE, GANNET_DURABLE, 690.0),
            published(SATURATED_SINGLE, GANNET_DURABLE, 400.0),
            published(SATURATED_LARGE, KAFKA_UNSYNCED, 100.0),
            published(SATURATED_SINGLE, KAFKA_UNSYNCED, 1.0),
        ];
        assert_eq!(
            reached(&results),
            [Some(false), Some(true), None, None, None]
        );
    }

    #[test]
    fn loads_that_are_too_short_for_kafka_to_warm_up_are_measured_and_not_judged() {
        let results = [
            published(SATURATED_LARGE, GANNET_DURABLE, 900.0),
            published(SATURATED_LARGE, KAFKA_UNSYNCED, 100.0),
        ];
        let short = JUDGED_LOAD_MS_MIN - 1;
        assert_eq!(reached(&results)[0], Some(true));
        assert_eq!(reached_by_loads_of(short, &results)[0], None);
        let barred = bars(&Standing::of(&results), |_| short);
        let measured = barred[0].row.clone().unwrap();
        assert!((measured.measured - 9.0).abs() < 1e-9);
    }

    #[test]
    fn a_short_scenario_leaves_the_bars_of_the_others_alone() {
        let results = [
            published(SATURATED_LARGE, GANNET_DURABLE, 900.0),
            published(SATURATED_SINGLE, GANNET_DURABLE, 900.0),
            published(SATURATED_LARGE, KAFKA_UNSYNCED, 100.0),
        ];
        let barred = bars(&Standing::of(&results), |scenario| {
            if scenario == SATURATED_SINGLE {
                JUDGED_LOAD_MS_MIN - 1
            } else {
                JUDGED_LOAD_MS_MIN
            }
        });
        let reached = |at: usize| barred[at].row.as_ref().and_then(|row| row.reached);
        assert_eq!((reached(0), reached(1)), (Some(true), None));
        assert_eq!(
            (barred[0].is_too_short, barred[1].is_too_short),
            (false, true)
        );
    }

    #[test]
    fn without_kafka_no_bar_is_judged_and_none_is_left_out() {
        let results = [published(SATURATED_LARGE, GANNET_DURABLE, 690.0)];
        let barred = bars(&Standing::of(&results), |_| JUDGED_LOAD_MS_MIN);
        assert_eq!(barred.len(), bar_texts().len());
        assert!(barred.iter().all(|barred| barred.row.is_none()));
    }

    #[test]
    fn a_quarter_of_kafkas_latency_is_enough() {
        let waited = |entrant, p99| {
            measured(PACED, entrant, 1, |measured| {
                let latency = &mut measured.report.last.end_to_end.latency_us;
                (latency.count, latency.p99) = (1, p99);
            })
        };
        let results = [waited(GANNET_DURABLE, 1.0), waited(KAFKA_UNSYNCED, 4.0)];
        assert_eq!(reached(&results)[2], Some(true));
    }
}
