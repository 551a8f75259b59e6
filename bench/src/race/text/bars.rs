//! How the figures stand against the bars, and what they rest on.

use gannet_loadgen::scenario::Scenario;
use gannet_loadgen::units::bytes;

use crate::race::bars::{
    Barred, JUDGED_LOAD_MS_MIN, LoadWas, NotJudged, Pairs, ROUNDS_JUDGED_MIN, bar_texts, bars,
};
use crate::race::document::Section;
use crate::race::entrant::Entrant;
use crate::race::outcome::{JUDGED_BYTES_MIN, TurnResult};
use crate::race::session::Setting;
use crate::race::spread::Spread;
use crate::race::standing::Standing;

use super::LIMITED;
use super::disk::{beside_the_disk, fio_writes};

/// Of what was planned, what a load lasted at most that ended early.
const EARLY_SHARE: f64 = 0.95;

pub(super) fn against_the_bars(
    standing: &Standing,
    setting: &Setting,
    turns: &[TurnResult],
) -> Section {
    let load_of = |scenario: &str, entrant: Entrant, round: u32| {
        load_was(setting, turns, scenario, entrant, round)
    };
    let rows = bars(standing, load_of, fio_writes(setting))
        .iter()
        .zip(bar_texts())
        .map(|(barred, bar)| row(barred, bar))
        .collect();
    let section = Section::new("Against the bars").text(
        "Gannet's durable figures, each acknowledged from the disk, to those of Kafka as it is by default (`acks=all`, one replica), acknowledged from the page cache. What counts is the \
         median of the rounds' ratios. End-to-end figures are our generator's alone: no peer's tool checks them.",
    )
    .text(format!(
        "Judged is what rests on {ROUNDS_JUDGED_MIN} rounds or more of loads that lasted {} s or more, since before that a virtual machine has not warmed up. A load of Gannet's, which has none, may \
         also have ended earlier because it had stored what it might send, {} or more.",
        JUDGED_LOAD_MS_MIN / 1000,
        bytes(JUDGED_BYTES_MIN),
    ))
    .text("A race that is gone on with has several sittings, between which the machine may have changed: in the last column, how many of the rounds' pairs are of two different ones.")
    .table(
        &["what", "bar", "measured", "", "Gannet", "the other", "pairs of two sittings"],
        rows,
    );
    let below = [
        by_bytes(setting, turns),
        beside_the_disk(standing, &setting.limits),
    ];
    (below.into_iter().flatten()).fold(section, |section, sentence| section.text(sentence))
}

/// What the load of a scenario by a broker in a round was.
fn load_was(
    setting: &Setting,
    turns: &[TurnResult],
    scenario: &str,
    entrant: Entrant,
    round: u32,
) -> LoadWas {
    let is_it = |turn: &&TurnResult| {
        let turn = &turn.turn;
        turn.scenario == scenario && turn.entrant == entrant && turn.round == round
    };
    let load = turns.iter().find(is_it);
    LoadWas {
        may_be_judged: load.is_some_and(|load| load.may_be_judged(warm_up_ms(setting, scenario))),
        sitting: load.and_then(|load| load.sitting),
    }
}

/// What a scenario's file says of its warm-up, in milliseconds; none where it says nothing or is not understood.
fn warm_up_ms(setting: &Setting, scenario: &str) -> u64 {
    let text = setting.scenarios.get(scenario).map_or("", String::as_str);
    let read = Scenario::parse(scenario, text).ok();
    let warm_up = read.and_then(|read| read.warm_up).unwrap_or_default();
    u64::try_from(warm_up.as_millis()).unwrap_or(u64::MAX)
}

/// As the table has it.
fn row(barred: &Barred, bar: String) -> Vec<String> {
    let spread = |spread: Option<Spread>| {
        spread.map_or_else(|| "not measured".to_owned(), |spread| spread.to_string())
    };
    let mark = if barred.is_limited { LIMITED } else { "" };
    let measured = match (&barred.row, barred.ratio) {
        (Some(_), Some(ratio)) => format!("{ratio} x{mark}"),
        _ => "not measured".to_owned(),
    };
    vec![
        barred.what.to_owned(),
        bar,
        measured,
        reached(barred),
        format!("{}: {}", barred.unit, spread(barred.gannet)),
        spread(barred.other),
        barred.pairs.map_or_else(|| "-".to_owned(), apart),
    ]
}

/// Whether the bar is reached, or why that is not judged.
fn reached(barred: &Barred) -> String {
    match (&barred.row, barred.not_judged) {
        (None, _) => "not judged".to_owned(),
        (Some(_), Some(NotJudged::TooShort)) => "not judged: too short".to_owned(),
        (Some(_), Some(NotJudged::Rounds(1))) => "not judged: one round".to_owned(),
        (Some(_), Some(NotJudged::Rounds(rounds))) => format!("not judged: {rounds} rounds"),
        (Some(row), None) => match row.reached {
            Some(true) => "reached".to_owned(),
            Some(false) => "**not reached**".to_owned(),
            None => "reported".to_owned(),
        },
    }
}

/// How many of the rounds' pairs were not measured in the same sitting.
fn apart(pairs: Pairs) -> String {
    if pairs.unknown == pairs.all {
        return "not kept".to_owned();
    }
    let apart = format!("{} of {}", pairs.apart, pairs.all);
    match pairs.unknown {
        0 => apart,
        unknown => format!("{apart}, {unknown} not kept"),
    }
}

/// Which loads ended early by their bytes, and after how long.
fn by_bytes(setting: &Setting, turns: &[TurnResult]) -> Option<String> {
    let ended: Vec<String> = turns
        .iter()
        .filter(|turn| turn.ended_by_bytes())
        .filter_map(|turn| {
            let lasted_ms = turn.lasted_ms(warm_up_ms(setting, &turn.turn.scenario))?;
            let is_early = (lasted_ms as f64) < turn.turn.load_ms as f64 * EARLY_SHARE;
            is_early.then(|| {
                format!(
                    "{}, {}, round {}: after {:.1} s and {}",
                    turn.turn.scenario,
                    turn.turn.entrant,
                    turn.turn.round,
                    lasted_ms as f64 / 1e3,
                    bytes(turn.sent_bytes())
                )
            })
        })
        .collect();
    (!ended.is_empty()).then(|| {
        format!(
            "Ended by the bytes that they might send, a quarter of the free disk: {}.",
            ended.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::race::bars::CATCH_UP;
    use crate::race::entrant::GANNET_DURABLE;
    use crate::race::outcome::tests::measured;
    use crate::race::text::sample::of_brokers;

    use super::*;

    #[test]
    fn loads_that_ended_early_by_their_bytes_are_named_and_others_are_not() {
        let of = |round, seconds: f64| {
            let mut turn = measured(CATCH_UP, GANNET_DURABLE, round, |measured| {
                measured.report.last.seconds = seconds;
                measured.report.sent = 100;
                measured.report.settings.record_bytes = 1 << 30;
                measured.report.settings.bytes_max = Some(100 << 30);
            });
            turn.turn.load_ms = 30_000;
            turn
        };
        let setting = of_brokers(&[GANNET_DURABLE], &[CATCH_UP], 2);
        let said = by_bytes(&setting, &[of(1, 20.0), of(2, 29.9)]).unwrap();
        assert_eq!(
            said,
            "Ended by the bytes that they might send, a quarter of the free disk: catch-up, Gannet durable, round 1: after 20.0 s and 100.0 GiB."
        );
        assert_eq!(by_bytes(&setting, &[of(2, 29.9)]), None);
    }

    #[test]
    fn pairs_of_two_sittings_are_said_as_far_as_they_were_kept() {
        let of = |apart, unknown| Pairs {
            all: 3,
            apart,
            unknown,
        };
        assert_eq!(apart(of(0, 0)), "0 of 3");
        assert_eq!(apart(of(1, 1)), "1 of 3, 1 not kept");
        assert_eq!(apart(of(0, 3)), "not kept");
    }
}
