//! Races for tests, and what their reports say.

use crate::race::bars::SATURATED_LARGE;
use crate::race::entrant::Entrant;
use crate::race::outcome::TurnResult;
use crate::race::outcome::tests::measured;
use crate::race::session::tests::setting;
use crate::race::session::{BrokerSetting, Setting};

use super::document;

/// A race by these brokers, who are all there, of these scenarios.
pub(super) fn of_brokers(brokers: &[Entrant], scenarios: &[&str], rounds: u32) -> Setting {
    Setting {
        brokers: (brokers.iter())
            .map(|entrant| BrokerSetting {
                entrant: *entrant,
                version: Ok("1".to_owned()),
                settings: Vec::new(),
            })
            .collect(),
        scenarios: (scenarios.iter())
            .map(|name| ((*name).to_owned(), String::new()))
            .collect(),
        rounds,
        ..setting(2_000.0, None)
    }
}

pub(super) fn ran(scenario: &str, entrant: Entrant, rounds: u32) -> Vec<TurnResult> {
    (1..=rounds)
        .map(|round| measured(scenario, entrant, round, |_| {}))
        .collect()
}

pub(super) fn saturated(entrant: Entrant, mb_per_s: f64) -> TurnResult {
    measured(SATURATED_LARGE, entrant, 1, |measured| {
        let flow = &mut measured.report.last.publish.flow;
        (flow.records, flow.mb_per_s) = (1, mb_per_s);
    })
}

/// The report of a race.
pub(super) fn told(setting: &Setting, turns: &[TurnResult]) -> String {
    document(Some(setting), turns, None).markdown()
}

#[track_caller]
pub(super) fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[track_caller]
pub(super) fn assert_says_none(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(!text.contains(part), "{part:?} is in:\n{text}");
    }
}
