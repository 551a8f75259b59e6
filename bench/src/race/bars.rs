//! The bars: how far Gannet is to be ahead of Kafka, and how near to the disk; what was measured, and whether that is reached.

use std::collections::BTreeMap;

use crate::numbers::{Bar, NoFigure, Row};

use super::entrant::{Entrant, GANNET_DURABLE, KAFKA_UNSYNCED};
use super::spread::Spread;
use super::standing::{Figure, Measure, Standing};

/// Large batches, as fast as it goes.
pub const SATURATED_LARGE: &str = "saturated-large";
/// One record a batch, as fast as it goes.
pub const SATURATED_SINGLE: &str = "saturated-single";
/// 10,000 records a second.
pub const PACED: &str = "paced";
/// Published, and only then read.
pub const CATCH_UP: &str = "catch-up";

/// Loads that lasted shorter than this, warm-up included, are not judged, in milliseconds, unless they were Gannet's and ended because their bytes were stored: a virtual machine that
/// compiles while it runs has only begun to by then, and Kafka would be measured at a tenth of what it does warm.
pub const JUDGED_LOAD_MS_MIN: u64 = 30_000;

/// Fewer rounds than this are not judged: of two nobody knows which is the odd one.
pub const ROUNDS_JUDGED_MIN: usize = 3;

/// One bar.
struct Sought {
    what: &'static str,
    gannet: (&'static str, Measure),
    other: Other,
    bar: Bar,
}

/// What Gannet's figure is set against.
enum Other {
    /// Kafka's, un-synced.
    Kafka(&'static str, Measure),
    /// fio's sequential writes.
    Fio,
}

const SOUGHT: [Sought; 7] = [
    Sought {
        what: "durable publish, saturated, large batches, consumed meanwhile / Kafka's un-synced",
        gannet: (SATURATED_LARGE, Measure::PublishMbPerS),
        other: Other::Kafka(SATURATED_LARGE, Measure::PublishMbPerS),
        bar: Bar::AtLeast(7.0),
    },
    Sought {
        what: "durable publish, saturated, large batches, nobody consumes / Kafka's un-synced",
        gannet: (CATCH_UP, Measure::PublishMbPerS),
        other: Other::Kafka(CATCH_UP, Measure::PublishMbPerS),
        bar: Bar::AtLeast(7.0),
    },
    Sought {
        what: "durable publish, saturated, large batches, nobody consumes / fio's sequential writes",
        gannet: (CATCH_UP, Measure::PublishMbPerS),
        other: Other::Fio,
        bar: Bar::AtLeast(0.5),
    },
    Sought {
        what: "durable publish, saturated, one record a batch / Kafka's un-synced in large batches",
        gannet: (SATURATED_SINGLE, Measure::PublishMbPerS),
        other: Other::Kafka(SATURATED_LARGE, Measure::PublishMbPerS),
        bar: Bar::AtLeast(4.0),
    },
    Sought {
        what: "end to end, 10,000 records/s, durable: p99 / Kafka's un-synced p99",
        gannet: (PACED, Measure::EndToEndP99Us),
        other: Other::Kafka(PACED, Measure::EndToEndP99Us),
        bar: Bar::AtMost(0.25),
    },
    Sought {
        what: "reading everything again / Kafka's from its page cache",
        gannet: (CATCH_UP, Measure::RereadMbPerS),
        other: Other::Kafka(CATCH_UP, Measure::RereadMbPerS),
        bar: Bar::AtLeast(1.5),
    },
    Sought {
        what: "broker's CPU for a record, saturated, large batches / Kafka's",
        gannet: (SATURATED_LARGE, Measure::CpuUsPerRecord),
        other: Other::Kafka(SATURATED_LARGE, Measure::CpuUsPerRecord),
        bar: Bar::Reported,
    },
];

/// A bar with its figures, or why there are none.
#[derive(Clone, Debug)]
pub struct Barred {
    /// What it is about.
    pub what: &'static str,
    /// The median of the rounds' ratios, judged; without, one of the two was not measured in any round in which the other was.
    pub row: Option<Row>,
    /// The rounds' ratios.
    pub ratio: Option<Spread>,
    /// Gannet's figure, in what the column of that measure has.
    pub gannet: Option<Spread>,
    /// Kafka's, or fio's.
    pub other: Option<Spread>,
    /// What both are figures of.
    pub unit: &'static str,
    /// Why it is not judged although it was measured.
    pub not_judged: Option<NotJudged>,
    /// Whether the generator may have been the limit of either.
    pub is_limited: bool,
    /// Of the rounds that count; `None` where the other is no broker's.
    pub pairs: Option<Pairs>,
}

/// What is to be known of a load whose figure a bar rests on.
#[derive(Clone, Copy, Debug)]
pub struct LoadWas {
    /// Whether it was long enough.
    pub may_be_judged: bool,
    /// The sitting that it was measured in, if that was kept.
    pub sitting: Option<u32>,
}

/// In which sittings the two figures of each round were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// How many there are.
    pub all: usize,
    /// In two different ones: the machine may have been another's neighbour by then.
    pub apart: usize,
    /// Of which that was not kept.
    pub unknown: usize,
}

/// Why a bar is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJudged {
    /// A load was shorter than [`JUDGED_LOAD_MS_MIN`].
    TooShort,
    /// There were so many rounds, fewer than [`ROUNDS_JUDGED_MIN`].
    Rounds(usize),
}

/// All of them. `load_of`: what the load of a scenario by a broker in a round was. `fio`: its sequential writes, in MB/s.
#[must_use]
pub fn bars(
    standing: &Standing,
    load_of: impl Fn(&str, Entrant, u32) -> LoadWas,
    fio: Option<Spread>,
) -> Vec<Barred> {
    SOUGHT
        .iter()
        .map(|sought| sought.judged(standing, &load_of, fio))
        .collect()
}

impl Sought {
    fn judged(
        &self,
        standing: &Standing,
        load_of: impl Fn(&str, Entrant, u32) -> LoadWas,
        fio: Option<Spread>,
    ) -> Barred {
        let gannet = standing.figure(self.gannet.0, GANNET_DURABLE, self.gannet.1);
        let kafka = match self.other {
            Other::Kafka(scenario, measure) => standing.figure(scenario, KAFKA_UNSYNCED, measure),
            Other::Fio => None,
        };
        // Round by round: a machine that slowed down in between slowed down both.
        let compared: BTreeMap<u32, f64> = (gannet.iter())
            .flat_map(|gannet| &gannet.by_round)
            .filter_map(|(round, figure)| {
                let beside = match self.other {
                    Other::Kafka(..) => *kafka?.by_round.get(round)?,
                    Other::Fio => fio?.median,
                };
                (*figure > 0.0 && beside > 0.0).then_some((*round, figure / beside))
            })
            .collect();
        let ratio = Spread::of(compared.values().copied());
        let rounds = compared.len();
        // Those that the ratio is of; without one, whatever there is.
        let scaled = |figure: Option<&Figure>| {
            let counts = |round: &u32| compared.is_empty() || compared.contains_key(round);
            let figures = figure?.by_round.iter().filter(|(round, _)| counts(round));
            Some(Spread::of(figures.map(|(_, figure)| *figure))?.divided_by(self.gannet.1.scale()))
        };
        let other = match self.other {
            Other::Kafka(..) => scaled(kafka),
            Other::Fio => fio,
        };
        let loads: Vec<(LoadWas, Option<LoadWas>)> = (compared.keys())
            .map(|round| {
                let kafkas = match self.other {
                    Other::Kafka(scenario, _) => Some(load_of(scenario, KAFKA_UNSYNCED, *round)),
                    Other::Fio => None,
                };
                (load_of(self.gannet.0, GANNET_DURABLE, *round), kafkas)
            })
            .collect();
        let are_long = (loads.iter()).all(|(gannets, kafkas)| {
            gannets.may_be_judged && kafkas.is_none_or(|kafkas| kafkas.may_be_judged)
        });
        let not_judged = if matches!(self.bar, Bar::Reported) {
            None
        } else if !are_long {
            Some(NotJudged::TooShort)
        } else {
            (rounds < ROUNDS_JUDGED_MIN).then_some(NotJudged::Rounds(rounds))
        };
        let bar = if not_judged.is_some() {
            Bar::Reported
        } else {
            self.bar
        };
        let row = ratio.and_then(|ratio| {
            let row: Result<Row, NoFigure> = Row::new(self.what, (ratio.median, "x"), bar, []);
            row.ok()
        });
        let limited = |figure: Option<&Figure>| figure.is_some_and(|figure| figure.is_limited);
        Barred {
            what: self.what,
            row,
            ratio,
            gannet: scaled(gannet),
            other,
            unit: self.gannet.1.title(),
            not_judged,
            is_limited: limited(gannet) || limited(kafka),
            pairs: pairs(&loads),
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

fn pairs(loads: &[(LoadWas, Option<LoadWas>)]) -> Option<Pairs> {
    let mut pairs = Pairs::default();
    for (gannets, kafkas) in loads {
        pairs.all += 1;
        match (gannets.sitting, (*kafkas)?.sitting) {
            (Some(gannets), Some(kafkas)) => pairs.apart += usize::from(gannets != kafkas),
            _ => pairs.unknown += 1,
        }
    }
    (pairs.all > 0).then_some(pairs)
}

/// What each bar is, in the order of [`bars`].
#[must_use]
pub fn bar_texts() -> Vec<String> {
    SOUGHT.iter().map(Sought::bar_text).collect()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::TurnResult;
    use super::super::outcome::tests::measured;
    use super::*;

    /// In each of the rounds.
    fn published(scenario: &str, entrant: Entrant, mb_per_s: &[f64]) -> Vec<TurnResult> {
        (1..)
            .zip(mb_per_s)
            .map(|(round, &mb_per_s)| {
                measured(scenario, entrant, round, |measured| {
                    let flow = &mut measured.report.last.publish.flow;
                    (flow.records, flow.mb_per_s) = (1, mb_per_s);
                })
            })
            .collect()
    }

    fn judged(results: &[TurnResult]) -> Vec<Barred> {
        bars(&Standing::of(results), |_, _, _| was(true), None)
    }

    fn was(may_be_judged: bool) -> LoadWas {
        LoadWas {
            may_be_judged,
            sitting: Some(1),
        }
    }

    /// Of the bar whose text has these words.
    fn of<'a>(barred: &'a [Barred], words: &str) -> &'a Barred {
        let mut found = barred.iter().filter(|barred| barred.what.contains(words));
        found.next().unwrap()
    }

    fn reached(barred: &Barred) -> Option<bool> {
        barred.row.as_ref().and_then(|row| row.reached)
    }

    const LARGE: &str = "large batches, consumed meanwhile";
    const ALONE: &str = "nobody consumes / Kafka's";
    const FIO: &str = "fio's";
    const SINGLE: &str = "one record a batch";

    #[test]
    fn one_record_a_batch_stands_against_kafkas_large_batches_of_the_same_round() {
        let results = [
            published(SATURATED_LARGE, GANNET_DURABLE, &[690.0; 3]),
            published(SATURATED_SINGLE, GANNET_DURABLE, &[400.0, 200.0, 50.0]),
            published(SATURATED_LARGE, KAFKA_UNSYNCED, &[100.0, 40.0, 10.0]),
            published(SATURATED_SINGLE, KAFKA_UNSYNCED, &[1.0; 3]),
        ]
        .concat();
        let barred = judged(&results);
        let single = of(&barred, SINGLE);
        let ratio = single.ratio.unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (5.0, 4.0, 5.0));
        assert_eq!(reached(single), Some(true));
        assert_eq!(reached(of(&barred, ALONE)), None);
    }

    #[test]
    fn the_median_of_the_rounds_ratios_counts_and_not_the_ratio_of_the_medians() {
        let results = [
            published(SATURATED_LARGE, GANNET_DURABLE, &[100.0, 800.0, 900.0]),
            published(SATURATED_LARGE, KAFKA_UNSYNCED, &[10.0, 200.0, 100.0]),
        ]
        .concat();
        let barred = judged(&results);
        let large = of(&barred, LARGE);
        // Of the medians it is 8.
        assert_eq!(large.ratio.unwrap().median, 9.0);
        assert_eq!(reached(large), Some(true));
    }

    #[test]
    fn fewer_than_three_rounds_are_shown_and_not_judged() {
        let of_rounds = |rounds: usize| {
            let results = [
                published(SATURATED_LARGE, GANNET_DURABLE, &vec![900.0; rounds]),
                // A round that Gannet was not in says nothing.
                published(SATURATED_LARGE, KAFKA_UNSYNCED, &vec![100.0; rounds + 1]),
            ]
            .concat();
            of(&judged(&results), LARGE).clone()
        };
        for rounds in [1, 2] {
            let barred = of_rounds(rounds);
            assert_eq!(barred.not_judged, Some(NotJudged::Rounds(rounds)));
            assert_eq!(reached(&barred), None);
            assert_eq!(barred.ratio.unwrap().median, 9.0);
        }
        assert_eq!(reached(&of_rounds(3)), Some(true));
    }

    #[test]
    fn loads_that_are_too_short_for_kafka_to_warm_up_are_measured_and_not_judged() {
        let results = [
            published(SATURATED_LARGE, GANNET_DURABLE, &[900.0; 3]),
            published(SATURATED_SINGLE, GANNET_DURABLE, &[900.0; 3]),
            published(SATURATED_LARGE, KAFKA_UNSYNCED, &[100.0; 3]),
        ]
        .concat();
        let standing = Standing::of(&results);
        let large = |scenario: &str, _: Entrant, _: u32| was(scenario == SATURATED_LARGE);
        let barred = bars(&standing, large, None);
        assert_eq!(reached(of(&barred, LARGE)), Some(true));
        let single = of(&barred, SINGLE);
        assert_eq!(single.not_judged, Some(NotJudged::TooShort));
        assert_eq!(single.row.as_ref().unwrap().measured, 9.0);
        let gannets = |_: &str, entrant: Entrant, _: u32| was(entrant == GANNET_DURABLE);
        let barred = bars(&standing, gannets, None);
        assert_eq!(of(&barred, LARGE).not_judged, Some(NotJudged::TooShort));
    }

    #[test]
    fn only_rounds_that_both_were_in_are_judged_and_shown() {
        let results = [
            published(SATURATED_LARGE, GANNET_DURABLE, &[900.0, 900.0, 900.0, 1.0]),
            published(SATURATED_LARGE, KAFKA_UNSYNCED, &[100.0; 3]),
            published(CATCH_UP, GANNET_DURABLE, &[900.0; 4]),
        ]
        .concat();
        // The fourth was short.
        let load_of = |_: &str, _: Entrant, round: u32| was(round < 4);
        let barred = bars(&Standing::of(&results), load_of, None);
        let large = of(&barred, LARGE);
        assert_eq!(reached(large), Some(true));
        let gannets = large.gannet.unwrap();
        assert_eq!((gannets.min, gannets.rounds), (900.0, 3));
        // Nothing to compare with: all of it.
        assert_eq!(of(&barred, ALONE).gannet.unwrap().rounds, 4);
    }

    #[test]
    fn pairs_of_two_sittings_are_counted() {
        let results = [
            published(SATURATED_LARGE, GANNET_DURABLE, &[900.0; 3]),
            published(SATURATED_LARGE, KAFKA_UNSYNCED, &[100.0; 4]),
        ]
        .concat();
        let load_of = |_: &str, entrant: Entrant, round: u32| LoadWas {
            may_be_judged: true,
            sitting: match (entrant, round) {
                (GANNET_DURABLE, 2) => Some(2),
                (_, 3) => None,
                _ => Some(1),
            },
        };
        let barred = bars(&Standing::of(&results), load_of, Spread::of([100.0]));
        let (all, apart, unknown) = (3, 1, 1);
        let expected = Some(Pairs {
            all,
            apart,
            unknown,
        });
        assert_eq!(of(&barred, LARGE).pairs, expected);
        assert_eq!(of(&barred, FIO).pairs, None);
    }

    #[test]
    fn without_kafka_no_bar_is_judged_and_none_is_left_out() {
        let barred = judged(&published(SATURATED_LARGE, GANNET_DURABLE, &[690.0; 3]));
        assert_eq!(barred.len(), bar_texts().len());
        assert!(barred.iter().all(|barred| barred.row.is_none()));
    }

    #[test]
    fn half_of_what_fio_writes_is_enough() {
        let results = published(CATCH_UP, GANNET_DURABLE, &[1_000.0; 3]);
        let standing = Standing::of(&results);
        for (fio, is_reached) in [(2_000.0, true), (2_001.0, false)] {
            let barred = bars(&standing, |_, _, _| was(true), Spread::of([fio]));
            assert_eq!(reached(of(&barred, FIO)), Some(is_reached));
        }
    }

    #[test]
    fn a_quarter_of_kafkas_latency_is_enough() {
        let waited = |entrant, p99| {
            (1..=3).map(move |round| {
                measured(PACED, entrant, round, |measured| {
                    let latency = &mut measured.report.last.end_to_end.latency_us;
                    (latency.count, latency.p99) = (1, p99);
                })
            })
        };
        let results: Vec<_> = waited(GANNET_DURABLE, 1.0)
            .chain(waited(KAFKA_UNSYNCED, 4.0))
            .collect();
        assert_eq!(reached(of(&judged(&results), "end to end")), Some(true));
    }
}
