//! That a broker which does not keep its promise is found out.

use super::*;

fn plan() -> LoadPlan {
    LoadPlan {
        topic: "load".to_owned(),
        partitions: 1,
        producers: 1,
        consumers: 1,
        durability: gannet_wire::frame::Durability::Durable,
        seed: 0,
    }
}

fn record(sequence: u64) -> Identity {
    Identity {
        producer: 0,
        sequence,
    }
}

/// Four records of one producer, acknowledged two by two, and all of them delivered.
fn history() -> History {
    let mut history = History::new(&plan());
    for first in [0, 2] {
        history.acked(Acked {
            producer: 0,
            partition: 0,
            first,
            records: 2,
            base_offset: first,
        });
    }
    let delivered: Vec<_> = (0..4).map(|number| (number, record(number))).collect();
    history.delivered(0, 0, &delivered);
    history.sent(0, &[4]);
    history
}

fn findings_of(stored: &[u64]) -> Findings {
    let stored = Stored {
        partitions: vec![stored.iter().map(|sequence| record(*sequence)).collect()],
    };
    history().findings(&stored)
}

#[test]
fn a_broker_that_holds_what_it_acknowledged_is_clean() {
    let findings = findings_of(&[0, 1, 2, 3]);
    assert!(findings.is_clean(), "{findings}");
}

#[test]
fn a_cut_end_is_lost_and_changes_what_was_delivered() {
    let findings = findings_of(&[0, 1, 2]);
    assert_eq!((findings.lost, findings.changed), (1, 1), "{findings}");
    assert!(!findings.is_clean());
    assert!(!findings.only_what_accepted_allows());
}

#[test]
fn a_record_stored_twice_is_doubled() {
    let findings = findings_of(&[0, 1, 2, 3, 3]);
    assert_eq!(
        (findings.doubled, findings.reordered, findings.lost),
        (1, 0, 0),
        "{findings}"
    );
    assert!(!findings.only_what_accepted_allows());
}

#[test]
fn two_records_that_changed_places_are_moved_reordered_and_changed() {
    let findings = findings_of(&[0, 2, 1, 3]);
    assert_eq!(
        (findings.moved, findings.reordered, findings.changed),
        (2, 1, 2),
        "{findings}"
    );
}

#[test]
fn a_record_that_nobody_answered_for_is_counted() {
    let mut history = history();
    history.sent(0, &[5]);
    let stored = Stored {
        partitions: vec![(0..4).map(record).collect()],
    };
    assert_eq!(history.findings(&stored).refused, 1);
}

#[test]
fn an_offset_that_is_delivered_out_of_turn_is_told() {
    let mut history = history();
    history.delivered(0, 0, &[(9, record(9))]);
    assert_eq!(history.troubles.len(), 1);
}
