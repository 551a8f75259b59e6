//! What the figures mean: what fails a run, and what a reader should know.

use super::Outcome;
use super::generator::is_late;
use crate::report::{Durability, PhaseReport};
use crate::units::{grouped, micros};

/// Why the run did not pass: a sentence each. None when it did.
#[must_use]
pub fn failures(outcome: &Outcome, asked: Durability) -> Vec<String> {
    let mut failures = outcome.failures.clone();
    let findings = &outcome.findings;
    for (count, what) in [
        (findings.lost, "acknowledged record(s) never came out"),
        (findings.duplicated, "record(s) came out more than once"),
        (findings.reordered, "record(s) came out of order"),
        (
            findings.corrupt,
            "record(s) came out changed, or were never sent",
        ),
        (outcome.unacked, "record(s) were never acknowledged"),
    ] {
        if count > 0 {
            failures.push(format!("{} {what}", grouped(count)));
        }
    }
    let lowest = outcome
        .phases
        .iter()
        .filter_map(|phase| phase.publish.durability)
        .min();
    if let Some(lowest) = lowest
        && lowest < asked
    {
        failures.push(format!(
            "{asked} was asked for, but acknowledgements said {lowest}"
        ));
    }
    if outcome.acked == 0 {
        failures.push("nothing was acknowledged at all".to_owned());
    }
    failures
}

/// What a reader of the figures should know: a sentence each. What the generator did to them stands with the phase.
#[must_use]
pub fn notes(phases: &[PhaseReport]) -> Vec<String> {
    let mut notes = Vec::new();
    for phase in phases {
        let name = &phase.name;
        let Some(rate) = phase.rate else { continue };
        let generator = &phase.generator;
        let (late, latency) = (generator.late_us.p99, phase.publish.latency_us.p99);
        if is_late(late, latency) && !is_late(generator.late_own_us.p99, latency) {
            notes.push(format!(
                "{name}: 1 % of the records left {} late or more, against a publish p99 of {}: the broker held the producers back",
                micros(late),
                micros(latency),
            ));
        }
        let reached = phase.publish.flow.records_per_s;
        if reached < rate as f64 * 0.98 {
            notes.push(format!(
                "{name}: {} records/s were asked for and {} reached",
                grouped(rate),
                grouped(reached as u64)
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Findings;

    fn outcome() -> Outcome {
        Outcome {
            acked: 10,
            sent: 10,
            ..Outcome::default()
        }
    }

    #[test]
    fn a_sound_outcome_has_no_failures() {
        assert_eq!(
            failures(&outcome(), Durability::Durable),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_finding_fails_the_run() {
        for findings in [
            Findings {
                lost: 1,
                ..Findings::default()
            },
            Findings {
                duplicated: 1,
                ..Findings::default()
            },
            Findings {
                reordered: 1,
                ..Findings::default()
            },
            Findings {
                corrupt: 1,
                ..Findings::default()
            },
        ] {
            assert_eq!(
                failures(
                    &Outcome {
                        findings,
                        ..outcome()
                    },
                    Durability::Durable
                )
                .len(),
                1,
                "{findings:?}"
            );
        }
    }

    #[test]
    fn records_never_acknowledged_fail_the_run() {
        assert_eq!(
            failures(
                &Outcome {
                    unacked: 1,
                    ..outcome()
                },
                Durability::Durable
            )
            .len(),
            1
        );
    }

    #[test]
    fn a_run_that_published_nothing_does_not_pass() {
        assert_eq!(failures(&Outcome::default(), Durability::Durable).len(), 1);
    }

    #[test]
    fn less_than_the_durability_asked_for_fails_the_run() {
        let mut phase = PhaseReport::default();
        phase.publish.durability = Some(Durability::Accepted);
        let outcome = Outcome {
            phases: vec![phase],
            ..outcome()
        };
        assert_eq!(failures(&outcome, Durability::Durable).len(), 1);
        assert!(failures(&outcome, Durability::Accepted).is_empty());
    }

    #[test]
    fn a_broker_that_held_the_producers_back_is_named() {
        let mut phase = PhaseReport {
            rate: Some(100),
            ..PhaseReport::default()
        };
        phase.publish.flow.records_per_s = 100.0;
        phase.publish.latency_us.p99 = 2_000.0;
        phase.generator.late_us.p99 = 1_500.0;
        assert_eq!(notes(&[phase.clone()]).len(), 1);
        phase.generator.late_own_us.p99 = 1_500.0;
        assert!(notes(&[phase.clone()]).is_empty(), "it was not the broker");
        phase.generator.late_own_us.p99 = 0.0;
        phase.generator.late_us.p99 = 100.0;
        assert!(notes(&[phase]).is_empty());
    }

    #[test]
    fn a_rate_that_was_not_reached_is_named() {
        let mut phase = PhaseReport {
            rate: Some(1_000),
            ..PhaseReport::default()
        };
        phase.publish.flow.records_per_s = 900.0;
        assert!(notes(&[phase.clone()])[0].contains("900 reached"));
        phase.publish.flow.records_per_s = 990.0;
        assert!(notes(&[phase]).is_empty());
    }
}
