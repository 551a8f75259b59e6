//! What the figures mean: what fails a run, and what a reader should know.

use super::Outcome;
use crate::report::{Durability, PhaseReport};
use crate::units::{grouped, micros};

/// Producers that wait less than this share of the time, sending as fast as it goes, are the limit themselves.
const WAITING_MIN: f64 = 0.05;
/// From this share on the machine counts as full.
const BUSY: f64 = 0.95;
/// Lateness that explains less than this share of a latency is not worth a note.
const LATE_SHARE: f64 = 0.25;
const LATE_US: f64 = 500.0;

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

/// What a reader of the figures should know: a sentence each.
#[must_use]
pub fn notes(phases: &[PhaseReport], cores: u32) -> Vec<String> {
    let mut notes = Vec::new();
    for phase in phases {
        let name = &phase.name;
        let generator = &phase.generator;
        match phase.rate {
            Some(rate) => {
                let late = generator.late_us.p99;
                let latency = phase.publish.latency_us.p99;
                if late > LATE_US && late > latency * LATE_SHARE {
                    notes.push(format!(
                        "{name}: 1 % of the records left {} late or more, against a publish p99 of {}: a part of the latency is the generator's, or the broker held it back",
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
            None => {
                if generator
                    .producers_waiting
                    .is_some_and(|waiting| waiting < WAITING_MIN)
                {
                    notes.push(format!(
                        "{name}: the producers never waited for the broker, so the generator may be the limit: try more of them (--producers)"
                    ));
                }
            }
        }
        if generator.machine_busy > BUSY {
            notes.push(format!(
                "{name}: all {cores} core(s) of the machine were busy; the generator used {:.2} of them, which the broker would have had on a machine of its own",
                generator.cpu_cores
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
    fn a_generator_that_never_waited_is_named_as_the_limit() {
        let mut phase = PhaseReport::default();
        phase.generator.producers_waiting = Some(0.01);
        assert!(notes(&[phase.clone()], 2)[0].contains("--producers"));
        phase.generator.producers_waiting = Some(0.5);
        assert!(notes(&[phase], 2).is_empty());
    }

    #[test]
    fn a_late_generator_is_named() {
        let mut phase = PhaseReport {
            rate: Some(100),
            ..PhaseReport::default()
        };
        phase.publish.flow.records_per_s = 100.0;
        phase.publish.latency_us.p99 = 2_000.0;
        phase.generator.late_us.p99 = 1_500.0;
        assert_eq!(notes(&[phase.clone()], 2).len(), 1);
        phase.generator.late_us.p99 = 100.0;
        assert!(notes(&[phase], 2).is_empty());
    }
}
