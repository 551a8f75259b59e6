//! The generator: what it used, and what it says of its own runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::race::document::Section;
use crate::race::entrant::Entrant;
use crate::race::outcome::TurnResult;
use crate::race::session::Setting;
use crate::race::spread::Spread;

use super::LIMITED;

/// What the generator itself used, and how late it was by its own doing.
pub(super) fn generator(setting: &Setting, turns: &[TurnResult]) -> Option<Section> {
    type Runs = (Vec<f64>, Vec<f64>);
    let mut used: BTreeMap<(&str, Entrant), Runs> = BTreeMap::new();
    for turn in turns {
        if let Some(measured) = turn.measured() {
            let last = &measured.report.last;
            let of = (turn.turn.scenario.as_str(), turn.turn.entrant);
            let (cores, late) = used.entry(of).or_default();
            cores.push(last.generator.cpu_cores);
            if last.generator.late_own_us.count > 0 {
                late.push(last.generator.late_own_us.p99 / 1e3);
            }
        }
    }
    let rows: Vec<Vec<String>> = used
        .into_iter()
        .map(|((scenario, entrant), (cores, late))| {
            let text = |figures: Vec<f64>| {
                Spread::of(figures).map_or_else(|| "-".to_owned(), |spread| spread.to_string())
            };
            let (cores, late) = (text(cores), text(late));
            vec![scenario.to_owned(), entrant.to_string(), cores, late]
        })
        .collect();
    (!rows.is_empty()).then(|| {
        Section::new("What the generator used")
            .text(format!(
                "While it published, of {} core(s) in all; reading again is not counted. Late by its own doing, where there was a rate.",
                setting.machine.cores
            ))
            .table(
                &["scenario", "broker", "CPU, cores", "late p99, ms"],
                rows,
            )
    })
}

/// What the generator says of its own runs: first of all where it was the limit.
pub(super) fn notes(turns: &[TurnResult]) -> Option<Section> {
    let mut notes: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<Entrant>)> = BTreeMap::new();
    let mut limited: BTreeMap<(&str, Entrant), Vec<&str>> = BTreeMap::new();
    for turn in turns {
        if let Some(measured) = turn.measured() {
            if let Some(reason) = &measured.report.last.limited_by_generator {
                let of = (turn.turn.scenario.as_str(), turn.turn.entrant);
                limited.entry(of).or_default().push(reason);
            }
            for note in &measured.report.notes {
                let (scenarios, entrants) = notes.entry(note).or_default();
                scenarios.insert(&turn.turn.scenario);
                entrants.insert(turn.turn.entrant);
            }
        }
    }
    let mut points: Vec<_> = limited
        .into_iter()
        .map(|((scenario, entrant), reasons)| {
            let first = reasons.first().copied().unwrap_or_default();
            let rounds = reasons.len();
            format!("{LIMITED} {scenario}, {entrant}: the generator may be the limit in {rounds} round(s): {first}")
        })
        .collect();
    points.extend(notes.into_iter().map(|(note, (scenarios, entrants))| {
        let scenarios: Vec<_> = scenarios.into_iter().collect();
        let entrants: Vec<_> = entrants.iter().map(Entrant::to_string).collect();
        format!("{note} ({}; {})", entrants.join(", "), scenarios.join(", "))
    }));
    (!points.is_empty()).then(|| Section::new("What the generator notes").list(points))
}

#[cfg(test)]
mod tests {
    use crate::race::bars::{CATCH_UP, PACED};
    use crate::race::entrant::{GANNET_DURABLE, KAFKA_UNSYNCED};
    use crate::race::outcome::tests::measured;
    use crate::race::session::tests::setting;
    use crate::race::text::sample::{assert_says, told};

    #[test]
    fn a_note_stands_once_with_whom_it_is_about() {
        let noted = |scenario, entrant| {
            measured(scenario, entrant, 1, |measured| {
                measured.report.notes = vec!["nobody asked".to_owned()];
            })
        };
        let turns = [
            noted(PACED, GANNET_DURABLE),
            noted(PACED, KAFKA_UNSYNCED),
            noted(CATCH_UP, KAFKA_UNSYNCED),
        ];
        let text = told(&setting(2_000.0, None), &turns);
        assert_eq!(text.matches("nobody asked").count(), 1, "{text}");
        assert_says(
            &text,
            &["- nobody asked (Gannet durable, Kafka default; catch-up, paced)"],
        );
    }
}
