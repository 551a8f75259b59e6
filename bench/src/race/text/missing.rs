//! What is missing: who took no part, what was not run, and what gave no figures.

use std::collections::BTreeSet;

use crate::race::document::Section;
use crate::race::entrant::{Entrant, Peer};
use crate::race::outcome::TurnResult;
use crate::race::session::{BrokerSetting, Setting};
use crate::race::standing::Standing;

use super::{SCENARIOS, rounds_of};

pub(super) fn missing(standing: &Standing, setting: &Setting, turns: &[TurnResult]) -> Section {
    let mut points: BTreeSet<String> = not_run(setting, turns).into_iter().collect();
    for broker in &setting.brokers {
        if let Err(reason) = &broker.version {
            let when = if took_no_part(broker, turns) {
                "took no part"
            } else {
                "took no part in the last sitting"
            };
            points.insert(format!("{} {when}: {reason}", broker.entrant));
        }
    }
    for (scenario, entrant, round, reason) in &standing.missing {
        let is_absent = setting
            .brokers
            .iter()
            .any(|broker| broker.entrant == *entrant && took_no_part(broker, turns));
        if !is_absent {
            points.insert(format!("{entrant}, {scenario}, round {round}: {reason}"));
        }
    }
    for (scenario, entrant, round, reason) in &standing.tools_missing {
        let tool = entrant.peer.tool().unwrap_or("its tool");
        points.insert(format!(
            "{tool} with {entrant}, {scenario}, round {round}: {reason}"
        ));
    }
    for turn in turns {
        if let Some(reason) = &turn.failed_again {
            let turn = &turn.turn;
            points.insert(format!(
                "{}, {}, round {}: measured again without figures, those of before stand: {reason}",
                turn.entrant, turn.scenario, turn.round
            ));
        }
    }
    let section = Section::new("What is missing");
    if points.is_empty() {
        section.text("Nothing: every broker ran every scenario in every round.")
    } else {
        section.list(points.into_iter().collect())
    }
}

/// Whether a broker was not there in any sitting: where it was in one, its rounds are told one by one.
fn took_no_part(broker: &BrokerSetting, turns: &[TurnResult]) -> bool {
    let mut own = turns
        .iter()
        .filter(|turn| turn.turn.entrant == broker.entrant);
    broker.version.is_err() && own.all(|turn| turn.measured().is_none())
}

/// What a whole race has and this one has not: brokers, scenarios, rounds of a scenario, and single turns.
fn not_run(setting: &Setting, turns: &[TurnResult]) -> Vec<String> {
    let mut points = Vec::new();
    let is_there = |entrant: &Entrant| {
        let mut known = setting.brokers.iter().map(|broker| broker.entrant);
        known.any(|known| known == *entrant)
    };
    for entrant in Entrant::of(&Peer::ALL) {
        if !is_there(&entrant) {
            points.push(format!("{entrant} was not raced."));
        }
    }
    // Scenarios of one's own are a race by themselves.
    if SCENARIOS
        .iter()
        .any(|name| setting.scenarios.contains_key(*name))
    {
        for name in SCENARIOS {
            if !setting.scenarios.contains_key(name) {
                points.push(format!("Scenario {name} was not run."));
            }
        }
    }
    let wanted = |rounds: &BTreeSet<u32>| {
        let most = setting.rounds.max(rounds.last().copied().unwrap_or(0));
        (1..=most).collect::<BTreeSet<u32>>()
    };
    let all: BTreeSet<u32> = turns.iter().map(|turn| turn.turn.round).collect();
    for name in setting.scenarios.keys() {
        let run = rounds_of(name, turns);
        let never: Vec<u32> = wanted(&all).difference(&run).copied().collect();
        if !never.is_empty() {
            points.push(format!("{name}: nobody ran {}.", named(&never)));
        }
        for broker in &setting.brokers {
            let own: BTreeSet<u32> = turns
                .iter()
                .filter(|turn| turn.turn.scenario == *name && turn.turn.entrant == broker.entrant)
                .map(|turn| turn.turn.round)
                .collect();
            let absent: Vec<u32> = run.difference(&own).copied().collect();
            if !absent.is_empty() && !took_no_part(broker, turns) {
                let broker = broker.entrant;
                points.push(format!("{broker}, {name}: did not run {}.", named(&absent)));
            }
        }
    }
    points
}

fn named(rounds: &[u32]) -> String {
    let numbers: Vec<String> = rounds.iter().map(u32::to_string).collect();
    let word = if rounds.len() == 1 { "round" } else { "rounds" };
    format!("{word} {}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use crate::race::bars::{CATCH_UP, PACED};
    use crate::race::entrant::{GANNET_DURABLE, KAFKA_UNSYNCED};
    use crate::race::outcome::Outcome;
    use crate::race::text::sample::{assert_says, assert_says_none, of_brokers, ran, told};

    use super::*;

    #[test]
    fn nothing_is_missing_only_when_everybody_ran_everything_in_every_round() {
        let all = Entrant::of(&Peer::ALL);
        let setting = of_brokers(&all, &SCENARIOS, 2);
        let mut turns: Vec<_> = (SCENARIOS.iter())
            .flat_map(|name| all.iter().flat_map(move |entrant| ran(name, *entrant, 2)))
            .collect();
        assert_eq!(not_run(&setting, &turns), Vec::<String>::new());
        assert_says(
            &told(&setting, &turns),
            &["Nothing: every broker ran every scenario in every round."],
        );
        turns.retain(|turn| {
            let turn = &turn.turn;
            (turn.entrant, turn.scenario.as_str(), turn.round) != (KAFKA_UNSYNCED, PACED, 2)
        });
        let points = not_run(&setting, &turns);
        assert_eq!(points, ["Kafka default, paced: did not run round 2."]);
    }

    #[test]
    fn a_scenario_with_fewer_rounds_than_another_a_scenario_and_a_broker_that_is_not_there_are_missing()
     {
        let setting = of_brokers(&[GANNET_DURABLE, KAFKA_UNSYNCED], &[CATCH_UP, PACED], 3);
        let turns = [
            ran(CATCH_UP, GANNET_DURABLE, 1),
            ran(CATCH_UP, KAFKA_UNSYNCED, 1),
            ran(PACED, GANNET_DURABLE, 3),
            ran(PACED, KAFKA_UNSYNCED, 3),
        ]
        .concat();
        let text = told(&setting, &turns);
        assert_says(
            &text,
            &[
                "- catch-up: nobody ran rounds 2, 3.",
                "- Scenario fan-out was not run.",
                "- NATS default was not raced.",
                "(catch-up 1, paced 3)",
            ],
        );
        assert_says_none(&text, &["Nothing: every broker", "did not run"]);
    }

    #[test]
    fn who_was_there_in_an_earlier_sitting_took_part_and_its_rounds_are_told() {
        let mut setting = of_brokers(&[GANNET_DURABLE, KAFKA_UNSYNCED], &[PACED], 2);
        setting.brokers[1].version = Err("no Java".to_owned());
        let mut turns = ran(PACED, KAFKA_UNSYNCED, 2);
        turns[1].outcome = Outcome::Missing("no Java".to_owned());
        turns[0].failed_again = Some("no Java".to_owned());
        assert_says(
            &told(&setting, &turns),
            &[
                "- Kafka default took no part in the last sitting: no Java",
                "- Kafka default, paced, round 2: no Java",
                "- Kafka default, paced, round 1: measured again without figures, those of before stand: no Java",
            ],
        );
        turns.remove(0);
        let text = told(&setting, &turns);
        assert_says(&text, &["- Kafka default took no part: no Java"]);
        assert_says_none(&text, &["round 2: no Java"]);
    }
}
