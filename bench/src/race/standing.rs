//! The figures of each broker under each scenario over the rounds, and how they stand to Gannet's.

use std::collections::BTreeMap;

use super::entrant::{Entrant, GANNET_DURABLE, Peer};
use super::outcome::{Measured, ToolOutcome, TurnResult};
use super::spread::Spread;

/// What is measured of a broker under a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Records acknowledged, in MB a second.
    PublishMbPerS,
    /// From when a record should have been sent until its acknowledgement.
    PublishP50Us,
    /// Likewise.
    PublishP99Us,
    /// From when a record should have been sent until a consumer had it.
    EndToEndP50Us,
    /// Likewise.
    EndToEndP99Us,
    /// Everything read again from its start, in MB a second.
    RereadMbPerS,
    /// The broker's CPU for a record.
    CpuUsPerRecord,
    /// The most memory it had.
    RssMib,
    /// What it made the disk read, where everything was read again: which of the brokers read from the disk, and which from memory. Not compared.
    DiskReadGb,
}

impl Measure {
    /// All, in the order of the tables.
    pub const ALL: [Self; 9] = [
        Self::PublishMbPerS,
        Self::PublishP50Us,
        Self::PublishP99Us,
        Self::EndToEndP50Us,
        Self::EndToEndP99Us,
        Self::RereadMbPerS,
        Self::CpuUsPerRecord,
        Self::RssMib,
        Self::DiskReadGb,
    ];

    /// The head of its column.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::PublishMbPerS => "published, MB/s",
            Self::PublishP50Us => "ack p50, ms",
            Self::PublishP99Us => "ack p99, ms",
            Self::EndToEndP50Us => "end to end p50, ms",
            Self::EndToEndP99Us => "end to end p99, ms",
            Self::RereadMbPerS => "read again, MB/s",
            Self::CpuUsPerRecord => "broker CPU, µs a record",
            Self::RssMib => "memory, MiB",
            Self::DiskReadGb => "read from the disk, GB",
        }
    }

    /// What a figure is divided by for its column.
    #[must_use]
    pub fn scale(self) -> f64 {
        match self {
            Self::PublishP50Us | Self::PublishP99Us | Self::EndToEndP50Us | Self::EndToEndP99Us => {
                1e3
            }
            _ => 1.0,
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::PublishMbPerS | Self::RereadMbPerS)
    }

    /// Of one turn, by our generator. `None` where it was not measured.
    fn ours(self, measured: &Measured) -> Option<f64> {
        let report = &measured.report;
        let publish = &report.last.publish;
        let end_to_end = &report.last.end_to_end.latency_us;
        let some = |figure: f64, measured: bool| measured.then_some(figure);
        let acked = publish.latency_us.count > 0;
        let delivered = end_to_end.count > 0;
        match self {
            Self::PublishMbPerS => some(publish.flow.mb_per_s, publish.flow.records > 0),
            Self::PublishP50Us => some(publish.latency_us.p50, acked),
            Self::PublishP99Us => some(publish.latency_us.p99, acked),
            Self::EndToEndP50Us => some(end_to_end.p50, delivered),
            Self::EndToEndP99Us => some(end_to_end.p99, delivered),
            Self::RereadMbPerS => report.reread.map(|reread| reread.flow.mb_per_s),
            Self::CpuUsPerRecord => Some(measured.broker.cpu_us_per_record),
            Self::RssMib => Some(measured.broker.rss_max_bytes as f64 / MIB),
            Self::DiskReadGb => some(
                measured.broker.disk_read_bytes as f64 / 1e9,
                report.reread.is_some(),
            ),
        }
    }

    /// Of one turn, by the broker's own tool.
    fn theirs(self, measured: &Measured) -> Option<f64> {
        let ToolOutcome::Measured(tool) = &measured.tool else {
            return None;
        };
        let mb = measured.report.settings.record_bytes as f64 / 1e6;
        match self {
            Self::PublishMbPerS => Some(tool.publish_records_per_s * mb),
            // In whole milliseconds by Kafka's: 0 is less than one, and no figure.
            Self::PublishP50Us => tool.publish_p50_us.filter(|us| *us > 0.0),
            Self::PublishP99Us => tool.publish_p99_us.filter(|us| *us > 0.0),
            Self::RereadMbPerS => tool.consume_records_per_s.map(|rate| rate * mb),
            _ => None,
        }
    }

    fn better(self, left: f64, right: f64) -> f64 {
        if self.more_is_better() {
            left.max(right)
        } else {
            left.min(right)
        }
    }
}

/// Nearer than this is noise.
const LOSS_RATIO_MAX: f64 = 0.95;
const MIB: f64 = (1 << 20) as f64;

/// One broker under one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What stands for it: in each round the better of our generator's and the broker's own tool's.
    pub counted: Spread,
    /// By our generator alone.
    pub ours: Option<Spread>,
    /// By the broker's own tool alone.
    pub theirs: Option<Spread>,
    /// What stands for it in each round, by the round's number.
    pub by_round: BTreeMap<u32, f64>,
    /// Whether our generator may have been the limit in any round.
    pub is_limited: bool,
    /// Whether it was published at a fixed rate, in which case how much was published says nothing.
    pub is_paced: bool,
    /// Whether the broker's own tool gave the figure in any round.
    pub is_theirs: bool,
    /// Gannet's (durable) to it, round by round: above 1 is better for Gannet, whichever way the measure goes. Absent for Gannet itself.
    pub gannet_is_better_by: Option<Spread>,
}

/// Everything that was measured, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    figures: BTreeMap<(String, Entrant, Measure), Figure>,
    /// Why a broker has no figures, or fewer rounds than others: scenario, broker, round and sentence.
    pub missing: Vec<(String, Entrant, u32, String)>,
    /// Why a broker's own tool has none.
    pub tools_missing: Vec<(String, Entrant, u32, String)>,
}

impl Standing {
    /// Of these turns.
    #[must_use]
    pub fn of(results: &[TurnResult]) -> Self {
        let mut standing = Self::default();
        let mut counted: BTreeMap<(String, Entrant, Measure), BTreeMap<u32, Counted>> =
            BTreeMap::new();
        for result in results {
            let turn = &result.turn;
            let place = |reason: String| (turn.scenario.clone(), turn.entrant, turn.round, reason);
            standing.missing.extend(result.failure().map(place));
            let Some(measured) = result.measured() else {
                continue;
            };
            if let ToolOutcome::Failed(reason) = &measured.tool {
                standing.tools_missing.push(place(reason.clone()));
            }
            for measure in Measure::ALL {
                if let Some(figure) = Counted::of(measure, measured) {
                    let key = (turn.scenario.clone(), turn.entrant, measure);
                    counted.entry(key).or_default().insert(turn.round, figure);
                }
            }
        }
        for ((scenario, entrant, measure), rounds) in &counted {
            let gannets = counted.get(&(scenario.clone(), GANNET_DURABLE, *measure));
            let ratios = gannets
                .filter(|_| *entrant != GANNET_DURABLE && *measure != Measure::DiskReadGb)
                .map(|gannets| ratios(*measure, gannets, rounds));
            if let Some(figure) = figure(rounds, ratios) {
                let key = (scenario.clone(), *entrant, *measure);
                standing.figures.insert(key, figure);
            }
        }
        standing
    }

    /// A figure, if it was measured.
    #[must_use]
    pub fn figure(&self, scenario: &str, entrant: Entrant, measure: Measure) -> Option<&Figure> {
        self.figures.get(&(scenario.to_owned(), entrant, measure))
    }

    /// Brokers with any figure under a scenario, in the order of the tables.
    #[must_use]
    pub fn entrants(&self, scenario: &str) -> Vec<Entrant> {
        let mut entrants: Vec<_> = self
            .figures
            .keys()
            .filter(|(of, ..)| of == scenario)
            .map(|(_, entrant, _)| *entrant)
            .collect();
        entrants.dedup();
        entrants
    }

    /// Where Gannet, durable, is behind another broker in every round: a sentence each, the largest gap first. What was published at a fixed rate is no gap, and neither is one of less
    /// than 5 %.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut losses: Vec<(f64, String)> = self
            .figures
            .iter()
            .filter(|((_, entrant, _), _)| entrant.peer != Peer::Gannet)
            .filter_map(|((scenario, entrant, measure), figure)| {
                let ratio = figure.gannet_is_better_by.as_ref()?;
                let is_set = *measure == Measure::PublishMbPerS && figure.is_paced;
                (ratio.max < 1.0 && ratio.median < LOSS_RATIO_MAX && !is_set).then(|| {
                    let spread = if ratio.rounds == 1 {
                        "one round".to_owned()
                    } else {
                        format!(
                            "{:.2} to {:.2} in the rounds",
                            1.0 / ratio.max,
                            1.0 / ratio.min
                        )
                    };
                    let weaker = if entrant.acknowledges_early() {
                        format!("; its acknowledgement: {}", entrant.acknowledged())
                    } else {
                        String::new()
                    };
                    (
                        ratio.median,
                        format!(
                            "{scenario}, {}: {entrant} is ahead {}-fold ({spread}){weaker}.",
                            measure.title(),
                            super::spread::figure(1.0 / ratio.median),
                        ),
                    )
                })
            })
            .collect();
        losses.sort_by(|left, right| left.0.total_cmp(&right.0));
        losses.into_iter().map(|(_, sentence)| sentence).collect()
    }
}

/// One round's figure.
#[derive(Clone, Copy, Debug)]
struct Counted {
    counted: f64,
    ours: Option<f64>,
    theirs: Option<f64>,
    is_limited: bool,
    is_paced: bool,
}

impl Counted {
    fn of(measure: Measure, measured: &Measured) -> Option<Self> {
        let ours = measure.ours(measured);
        let theirs = measure.theirs(measured);
        let counted = match (ours, theirs) {
            (Some(ours), Some(theirs)) => measure.better(ours, theirs),
            // A tool's figure alone has nothing of Gannet's to stand against.
            (Some(ours), None) => ours,
            (None, _) => return None,
        };
        Some(Self {
            counted,
            ours,
            theirs,
            is_limited: measured.report.last.limited_by_generator.is_some(),
            is_paced: measured.report.last.rate.is_some(),
        })
    }
}

fn ratios(
    measure: Measure,
    gannets: &BTreeMap<u32, Counted>,
    others: &BTreeMap<u32, Counted>,
) -> Vec<f64> {
    others
        .iter()
        .filter_map(|(round, other)| {
            let (gannets, others) = (gannets.get(round)?.counted, other.counted);
            // Nothing is so many times a 0.
            if gannets <= 0.0 || others <= 0.0 {
                return None;
            }
            let ratio = gannets / others;
            Some(if measure.more_is_better() {
                ratio
            } else {
                1.0 / ratio
            })
        })
        .collect()
}

fn figure(rounds: &BTreeMap<u32, Counted>, ratios: Option<Vec<f64>>) -> Option<Figure> {
    Some(Figure {
        counted: Spread::of(rounds.values().map(|round| round.counted))?,
        ours: Spread::of(rounds.values().filter_map(|round| round.ours)),
        theirs: Spread::of(rounds.values().filter_map(|round| round.theirs)),
        by_round: (rounds.iter())
            .map(|(round, figure)| (*round, figure.counted))
            .collect(),
        is_limited: rounds.values().any(|round| round.is_limited),
        is_paced: rounds.values().any(|round| round.is_paced),
        is_theirs: rounds
            .values()
            .any(|round| round.ours != Some(round.counted)),
        gannet_is_better_by: ratios.and_then(Spread::of),
    })
}

#[cfg(test)]
mod tests {
    use super::super::entrant::KAFKA_UNSYNCED;
    use super::super::outcome::Outcome;
    use super::super::outcome::tests::measured;
    use super::super::tool::ToolFigures;
    use super::*;

    fn published(entrant: Entrant, round: u32, mb_per_s: f64) -> TurnResult {
        measured("saturated", entrant, round, |measured| {
            measured.report.settings.record_bytes = 1000;
            let flow = &mut measured.report.last.publish.flow;
            (flow.records, flow.mb_per_s) = (1, mb_per_s);
        })
    }

    fn with_tool(mut result: TurnResult, records_per_s: f64) -> TurnResult {
        if let Outcome::Measured(measured) = &mut result.outcome {
            measured.tool = ToolOutcome::Measured(ToolFigures {
                publish_records_per_s: records_per_s,
                ..ToolFigures::default()
            });
        }
        result
    }

    fn kafkas(results: &[TurnResult]) -> Figure {
        Standing::of(results)
            .figure("saturated", KAFKA_UNSYNCED, Measure::PublishMbPerS)
            .unwrap()
            .clone()
    }

    #[test]
    fn ratios_are_taken_within_each_round() {
        let kafka = kafkas(&[
            published(GANNET_DURABLE, 1, 100.0),
            published(GANNET_DURABLE, 2, 400.0),
            published(KAFKA_UNSYNCED, 1, 50.0),
            published(KAFKA_UNSYNCED, 2, 100.0),
        ]);
        let ratio = kafka.gannet_is_better_by.unwrap();
        assert_eq!((ratio.min, ratio.max), (2.0, 4.0));
    }

    #[test]
    fn where_the_brokers_own_tool_is_faster_its_figure_counts() {
        let kafka = kafkas(&[
            published(GANNET_DURABLE, 1, 100.0),
            with_tool(published(KAFKA_UNSYNCED, 1, 50.0), 80_000.0),
        ]);
        assert_eq!(kafka.counted.median, 80.0);
        assert!(kafka.is_theirs);
        assert_eq!(kafka.gannet_is_better_by.unwrap().median, 1.25);
    }

    #[test]
    fn where_our_generator_is_faster_its_figure_counts() {
        let kafka = kafkas(&[with_tool(published(KAFKA_UNSYNCED, 1, 50.0), 20_000.0)]);
        assert_eq!(kafka.counted.median, 50.0);
        assert!(!kafka.is_theirs);
        assert_eq!(kafka.theirs.unwrap().median, 20.0);
    }

    #[test]
    fn a_lower_latency_is_the_better_one() {
        let waited = |entrant, p99| {
            measured("paced", entrant, 1, |measured| {
                let latency = &mut measured.report.last.end_to_end.latency_us;
                (latency.count, latency.p99) = (1, p99);
            })
        };
        let results = [waited(GANNET_DURABLE, 100.0), waited(KAFKA_UNSYNCED, 400.0)];
        let standing = Standing::of(&results);
        let kafka = standing.figure("paced", KAFKA_UNSYNCED, Measure::EndToEndP99Us);
        assert_eq!(
            kafka.unwrap().gannet_is_better_by.as_ref().unwrap().median,
            4.0
        );
    }

    #[test]
    fn a_tools_latency_of_no_whole_millisecond_is_no_figure() {
        let waited = |entrant, p50| {
            measured("paced", entrant, 1, |measured| {
                let latency = &mut measured.report.last.publish.latency_us;
                (latency.count, latency.p50) = (1, p50);
                measured.tool = ToolOutcome::Measured(ToolFigures {
                    publish_p50_us: Some(0.0),
                    ..ToolFigures::default()
                });
            })
        };
        let results = [waited(GANNET_DURABLE, 100.0), waited(KAFKA_UNSYNCED, 400.0)];
        let standing = Standing::of(&results);
        let kafka = standing.figure("paced", KAFKA_UNSYNCED, Measure::PublishP50Us);
        let kafka = kafka.unwrap();
        assert_eq!((kafka.counted.median, kafka.theirs), (400.0, None));
        assert_eq!(kafka.gannet_is_better_by.unwrap().median, 4.0);
    }

    #[test]
    fn nobody_is_so_many_times_ahead_of_nothing() {
        for (gannets, kafkas_rate) in [(0.0, 100.0), (100.0, 0.0)] {
            let results = [
                published(GANNET_DURABLE, 1, gannets),
                published(KAFKA_UNSYNCED, 1, kafkas_rate),
            ];
            assert_eq!(kafkas(&results).gannet_is_better_by, None);
            assert_eq!(Standing::of(&results).losses(), Vec::<String>::new());
        }
    }

    #[test]
    fn a_loss_is_said_with_its_spread() {
        let standing = Standing::of(&[
            published(GANNET_DURABLE, 1, 100.0),
            published(KAFKA_UNSYNCED, 1, 200.0),
        ]);
        let losses = standing.losses();
        assert!(
            losses[0].contains("Kafka default is ahead 2.00-fold"),
            "{losses:?}"
        );
        assert!(losses[0].contains("in the page cache"), "{losses:?}");
        assert!(losses[0].contains("(one round)"), "{losses:?}");
    }

    #[test]
    fn what_is_within_the_spread_or_was_published_at_a_fixed_rate_is_no_loss() {
        let rounds = |kafkas: [f64; 2], rate: Option<u64>| {
            let mut results = Vec::new();
            for (round, kafka) in [(1, kafkas[0]), (2, kafkas[1])] {
                for (entrant, mb_per_s) in [(GANNET_DURABLE, 100.0), (KAFKA_UNSYNCED, kafka)] {
                    let mut result = published(entrant, round, mb_per_s);
                    if let Outcome::Measured(measured) = &mut result.outcome {
                        measured.report.last.rate = rate;
                    }
                    results.push(result);
                }
            }
            let losses = Standing::of(&results).losses();
            losses
                .iter()
                .filter(|loss| loss.contains("published"))
                .count()
        };
        assert_eq!(rounds([150.0, 120.0], None), 1);
        assert_eq!(rounds([150.0, 90.0], None), 0);
        assert_eq!(rounds([101.0, 102.0], None), 0);
        assert_eq!(rounds([150.0, 120.0], Some(10_000)), 0);
    }

    #[test]
    fn a_win_is_no_loss() {
        let standing = Standing::of(&[
            published(GANNET_DURABLE, 1, 300.0),
            published(KAFKA_UNSYNCED, 1, 200.0),
        ]);
        let about_publishing = |loss: &String| loss.contains("published");
        assert!(!standing.losses().iter().any(about_publishing));
    }

    #[test]
    fn a_broker_that_did_not_run_is_missing_with_its_reason() {
        let mut result = published(KAFKA_UNSYNCED, 1, 1.0);
        result.outcome = Outcome::Missing("no Java".to_owned());
        let standing = Standing::of(&[result, published(GANNET_DURABLE, 1, 1.0)]);
        assert_eq!(standing.missing[0].3, "no Java");
        assert_eq!(standing.entrants("saturated"), [GANNET_DURABLE]);
    }
}
