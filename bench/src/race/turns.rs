//! Which broker runs which scenario when, and for how long: all of it known before anything starts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bars::JUDGED_LOAD_MS_MIN;
use super::entrant::{Entrant, Peer};

/// One broker under one scenario in one round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Counted from 1.
    pub round: u32,
    /// The scenario's name.
    pub scenario: String,
    /// The broker.
    pub entrant: Entrant,
    /// How long the load lasts, warm-up included, in milliseconds.
    pub load_ms: u64,
}

/// A load that is more than so many times longer than the one that was kept is measured.
const LONGER_MAX: u64 = 2;

impl Turn {
    /// The name of its result's file, without the ending.
    #[must_use]
    pub fn slug(&self) -> String {
        format!(
            "{}-{}-round-{}",
            self.scenario,
            self.entrant.slug(),
            self.round
        )
    }

    /// Whether figures of that turn, of the same round, scenario and broker, stand for this one when a race is gone on with: its load was as long, or long enough to be judged and not
    /// shorter than half of this one's.
    #[must_use]
    pub fn is_stood_for_by(&self, known: &Self) -> bool {
        let is_long = known.load_ms >= JUDGED_LOAD_MS_MIN;
        let is_near = self.load_ms <= known.load_ms.saturating_mul(LONGER_MAX);
        let load_ms = known.load_ms;
        *known
            == Self {
                load_ms,
                ..self.clone()
            }
            && (load_ms == self.load_ms || (is_long && is_near))
    }

    /// How long the load lasts.
    #[must_use]
    pub fn load(&self) -> Duration {
        Duration::from_millis(self.load_ms)
    }
}

/// A scenario as far as the order is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Its name.
    pub scenario: String,
    /// The longest that its load may last.
    pub load_max: Duration,
}

/// Shorter loads measure the warm-up.
const LOAD_MIN: Duration = Duration::from_secs(2);
/// What a turn takes for each second of load: reading again what was published, and the broker's own tool.
const TURN_PER_LOAD: f64 = 2.0;

/// Starting and stopping a broker, about: only used to share out the time.
fn standing_cost(peer: Peer) -> Duration {
    Duration::from_secs(match peer {
        Peer::Gannet => 3,
        Peer::Nats => 5,
        Peer::Kafka => 15,
        Peer::RabbitMq => 20,
    })
}

/// All turns in their order: round by round; within a round scenario by scenario; within a scenario broker by broker, each round beginning with the next one, and every other
/// round backwards, so that no broker follows the same one in two rounds on end.
#[must_use]
pub fn turns(courses: &[Course], entrants: &[Entrant], rounds: u32, budget: Duration) -> Vec<Turn> {
    if entrants.is_empty() {
        return Vec::new();
    }
    let load = load_within(courses.len(), entrants, rounds, budget);
    let mut turns = Vec::new();
    for round in 0..rounds {
        for course in courses {
            let load = load.min(course.load_max);
            let first = round as usize % entrants.len();
            let (before, from) = entrants.split_at(first);
            let mut order: Vec<Entrant> = from.iter().chain(before).copied().collect();
            if round % 2 == 1 {
                // The first stays first.
                order[1..].reverse();
            }
            turns.extend(order.into_iter().map(|entrant| Turn {
                round: round + 1,
                scenario: course.scenario.clone(),
                entrant,
                load_ms: u64::try_from(load.as_millis()).unwrap_or(u64::MAX),
            }));
        }
    }
    turns
}

/// How long each load may last, so that all of them fit.
fn load_within(courses: usize, entrants: &[Entrant], rounds: u32, budget: Duration) -> Duration {
    let repeated = courses as f64 * f64::from(rounds);
    let standing: f64 = entrants
        .iter()
        .map(|entrant| standing_cost(entrant.peer).as_secs_f64())
        .sum::<f64>()
        * repeated;
    let loads = (entrants.len() as f64 * repeated * TURN_PER_LOAD).max(1.0);
    let each = (budget.as_secs_f64() - standing) / loads;
    Duration::from_millis((each.max(0.0) * 1e3) as u64).max(LOAD_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn course(scenario: &str, load_max_s: u64) -> Course {
        Course {
            scenario: scenario.to_owned(),
            load_max: Duration::from_secs(load_max_s),
        }
    }

    #[test]
    fn the_broker_that_begins_is_another_one_each_round() {
        let entrants = Entrant::of(&[Peer::Gannet, Peer::Nats]);
        let turns = turns(&[course("paced", 60)], &entrants, 3, HOUR);
        assert_eq!(turns.len(), 12);
        let of_round = |round: u32| -> Vec<Entrant> {
            turns
                .iter()
                .filter(|turn| turn.round == round)
                .map(|turn| turn.entrant)
                .collect()
        };
        assert_eq!(of_round(1), entrants);
        assert_eq!(of_round(2)[0], entrants[1]);
        assert_eq!(of_round(2)[1], entrants[0]);
        assert_eq!(of_round(3)[0], entrants[2]);
    }

    #[test]
    fn nobody_follows_the_same_broker_in_two_rounds_on_end() {
        let entrants = Entrant::of(&Peer::ALL);
        let turns = turns(&[course("paced", 60)], &entrants, 3, HOUR);
        let pairs_of = |round: u32| -> Vec<(Entrant, Entrant)> {
            let of_round = turns.iter().filter(|turn| turn.round == round);
            let order: Vec<_> = of_round.map(|turn| turn.entrant).collect();
            order.windows(2).map(|pair| (pair[0], pair[1])).collect()
        };
        for round in [1, 2] {
            let after = pairs_of(round + 1);
            let same = pairs_of(round).iter().any(|pair| after.contains(pair));
            assert!(!same, "rounds {round} and {}", round + 1);
        }
    }

    #[test]
    fn rounds_are_interleaved_and_not_one_broker_after_the_other() {
        let entrants = Entrant::of(&[Peer::Gannet, Peer::Kafka]);
        let turns = turns(&[course("a", 60), course("b", 60)], &entrants, 2, HOUR);
        let rounds: Vec<u32> = turns.iter().map(|turn| turn.round).collect();
        assert!(rounds.is_sorted());
        assert!(turns[..4].iter().all(|turn| turn.scenario == "a"));
    }

    #[test]
    fn a_load_that_was_judged_stands_for_any_up_to_twice_as_long() {
        let of = |load_ms| Turn {
            round: 1,
            scenario: "paced".to_owned(),
            entrant: super::super::entrant::GANNET_DURABLE,
            load_ms,
        };
        for (planned, known, stands) in [
            (20_000, 20_000, true),
            (10_000, 20_000, false),
            (20_000, 30_000, true),
            (60_000, 30_000, true),
            (60_001, 30_000, false),
        ] {
            let is_stood_for = of(planned).is_stood_for_by(&of(known));
            assert_eq!(is_stood_for, stands, "{planned} by {known}");
        }
        let other = Turn {
            round: 2,
            ..of(40_000)
        };
        assert!(!of(40_000).is_stood_for_by(&other));
    }

    #[test]
    fn no_load_lasts_longer_than_its_scenario_says() {
        let turns = turns(
            &[course("paced", 10)],
            &Entrant::of(&[Peer::Gannet]),
            1,
            HOUR,
        );
        assert!(turns.iter().all(|turn| turn.load_ms == 10_000));
    }

    #[test]
    fn all_turns_fit_the_budget_when_it_is_enough_for_them() {
        let entrants = Entrant::of(&Peer::ALL);
        let courses = ["a", "b", "c", "d", "e"].map(|name| course(name, 60));
        let all: f64 = turns(&courses, &entrants, 3, HOUR * 2)
            .iter()
            .map(|turn| {
                standing_cost(turn.entrant.peer).as_secs_f64()
                    + turn.load().as_secs_f64() * TURN_PER_LOAD
            })
            .sum();
        assert!(all <= 7200.0, "{all}");
        assert!(all > 7000.0, "{all}");
    }

    #[test]
    fn a_budget_that_is_too_small_still_measures_something() {
        let turns = turns(
            &[course("paced", 60)],
            &Entrant::of(&Peer::ALL),
            3,
            Duration::from_secs(1),
        );
        assert!(turns.iter().all(|turn| turn.load() == LOAD_MIN));
    }
}
