#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::storage::sample::producer;

const LIMITS: ProducerLimits = ProducerLimits {
    inflight_max: 2,
    expiry_ms: 1_000,
    producers_max: 3,
};
const NOW: Timestamp = Timestamp(10_000);

/// A table that was told of batches of `count` records each, by one producer in one epoch, from `base_sequence` and offset 0 on.
fn told(epoch: u32, base_sequence: u32, batches: u32, count: u32) -> ProducerTable {
    let mut table = ProducerTable::default();
    for batch in 0..batches {
        let sequence = base_sequence.wrapping_add(batch * count);
        note(
            &mut table,
            producer(1, epoch, sequence),
            count,
            u64::from(batch * count),
            NOW,
        );
    }
    table
}

fn note(
    table: &mut ProducerTable,
    stamp: ProducerStamp,
    record_count: u32,
    base_offset: u64,
    at: Timestamp,
) {
    let batch = WindowBatch {
        base_sequence: stamp.base_sequence,
        record_count,
        base_offset: Offset(base_offset),
        append_time: at,
    };
    table.record(&stamp, batch, &LIMITS);
}

fn check(table: &ProducerTable, stamp: ProducerStamp, count: u32) -> SequenceVerdict {
    table.check(&stamp, count, NOW, &LIMITS)
}

fn duplicate(base_offset: u64) -> SequenceVerdict {
    SequenceVerdict::Duplicate {
        base_offset: Offset(base_offset),
        append_time: NOW,
    }
}

use AppendRefusal::{DuplicateExpired, ProducerFenced, ProducerUnknown, SequenceGap};
use SequenceVerdict::{Next, Refused};

#[test]
fn a_producer_begins_at_sequence_zero() {
    let table = ProducerTable::default();
    assert_eq!(check(&table, producer(1, 0, 0), 1), Next);
    assert_eq!(
        check(&table, producer(1, 0, 1), 1),
        Refused(ProducerUnknown)
    );
}

#[test]
fn the_next_sequence_is_behind_the_last_record() {
    let table = told(0, 0, 2, 5);
    assert_eq!(check(&table, producer(1, 0, 10), 3), Next);
    assert_eq!(check(&table, producer(1, 0, 11), 3), Refused(SequenceGap));
}

#[test]
fn twice_as_many_batches_as_may_be_in_flight_are_remembered() {
    let table = told(0, 0, 6, 1);
    for sequence in 2..6 {
        let verdict = check(&table, producer(1, 0, sequence), 1);
        assert_eq!(verdict, duplicate(u64::from(sequence)));
    }
    for sequence in 0..2 {
        let verdict = check(&table, producer(1, 0, sequence), 1);
        assert_eq!(verdict, Refused(DuplicateExpired));
    }
}

#[test]
fn a_resend_cut_otherwise_is_not_answered_with_a_wrong_place() {
    let table = told(0, 0, 2, 5);
    assert_eq!(
        check(&table, producer(1, 0, 5), 4),
        Refused(DuplicateExpired)
    );
    assert_eq!(
        check(&table, producer(1, 0, 6), 4),
        Refused(DuplicateExpired)
    );
}

#[test]
fn sequences_go_on_over_the_wrap_around() {
    // Three batches of two records: the second one holds the last sequence and 0 follows.
    let table = told(0, u32::MAX - 3, 2, 2);
    assert_eq!(check(&table, producer(1, 0, 0), 2), Next);
    assert_eq!(check(&table, producer(1, 0, 1), 2), Refused(SequenceGap));
}

#[test]
fn a_batch_that_holds_the_wrap_around_is_found_again() {
    let table = told(0, u32::MAX - 2, 2, 2);
    assert_eq!(check(&table, producer(1, 0, u32::MAX), 2), duplicate(2));
    assert_eq!(check(&table, producer(1, 0, 1), 2), Next);
}

#[test]
fn what_was_sent_before_the_wrap_around_is_the_past() {
    let table = told(0, u32::MAX - 3, 6, 2);
    assert_eq!(
        check(&table, producer(1, 0, u32::MAX - 3), 2),
        Refused(DuplicateExpired)
    );
}

#[test]
fn an_older_epoch_is_fenced() {
    let table = told(2, 0, 1, 1);
    assert_eq!(check(&table, producer(1, 1, 1), 1), Refused(ProducerFenced));
    assert_eq!(check(&table, producer(1, 1, 0), 1), Refused(ProducerFenced));
}

#[test]
fn a_newer_epoch_begins_at_sequence_zero() {
    let table = told(2, 0, 1, 1);
    assert_eq!(check(&table, producer(1, 3, 0), 1), Next);
    assert_eq!(check(&table, producer(1, 3, 1), 1), Refused(SequenceGap));
}

#[test]
fn a_newer_epoch_forgets_the_batches_of_the_older() {
    let mut table = told(0, 0, 1, 3);
    note(&mut table, producer(1, 1, 0), 3, 3, NOW);
    assert_eq!(check(&table, producer(1, 1, 0), 3), duplicate(3));
    assert_eq!(check(&table, producer(1, 0, 0), 3), Refused(ProducerFenced));
}

#[test]
fn a_producer_that_was_silent_too_long_is_unknown() {
    let table = told(0, 0, 1, 1);
    for (silent, verdict) in [(1_000, Next), (1_001, Refused(ProducerUnknown))] {
        let now = Timestamp(NOW.0 + silent);
        assert_eq!(table.check(&producer(1, 0, 1), 1, now, &LIMITS), verdict);
    }
}

#[test]
fn a_producer_that_begins_again_after_its_expiry_is_taken_up() {
    let mut table = told(0, 0, 3, 1);
    let later = Timestamp(NOW.0 + 5_000);
    note(&mut table, producer(1, 0, 0), 1, 50, later);
    assert_eq!(
        table.check(&producer(1, 0, 0), 1, later, &LIMITS),
        SequenceVerdict::Duplicate {
            base_offset: Offset(50),
            append_time: later,
        }
    );
    assert_eq!(table.check(&producer(1, 0, 1), 1, later, &LIMITS), Next);
}

#[test]
fn a_clock_that_went_back_expires_nobody() {
    let table = told(0, 0, 1, 1);
    let verdict = table.check(&producer(1, 0, 1), 1, Timestamp(i64::MIN), &LIMITS);
    assert_eq!(verdict, Next);
}

#[test]
fn beyond_the_bound_the_producer_that_was_silent_longest_is_forgotten() {
    let mut table = ProducerTable::default();
    for (id, at) in [(1, 30), (2, 10), (3, 20), (4, 40)] {
        note(&mut table, producer(id, 0, 0), 1, id, Timestamp(at));
    }
    assert_eq!(table.len(), 3);
    let known: Vec<u64> = table
        .records(Offset(100))
        .iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(known, [1, 3, 4]);
}

#[test]
fn a_batch_that_a_replay_meets_twice_is_noted_once() {
    let mut table = told(0, 0, 2, 5);
    note(&mut table, producer(1, 0, 5), 5, 5, NOW);
    assert_eq!(table.records(Offset(100))[0].window.len(), 2);
    assert_eq!(check(&table, producer(1, 0, 10), 1), Next);
}

#[test]
fn a_checkpoint_leaves_out_what_is_not_in_it_yet() {
    let table = told(0, 0, 3, 5);
    let restored = ProducerTable::restore(&table.records(Offset(10)));
    assert_eq!(check(&restored, producer(1, 0, 5), 5), duplicate(5));
    assert_eq!(check(&restored, producer(1, 0, 10), 5), Next);
}

#[test]
fn a_producer_without_a_batch_in_the_checkpoint_is_not_in_it() {
    assert!(told(0, 0, 1, 5).records(Offset(0)).is_empty());
}

#[test]
fn a_table_comes_back_from_its_records_with_time_and_epoch() {
    let table = told(4, 0, 2, 5);
    let records = table.records(Offset(100));
    assert_eq!((records[0].epoch, records[0].last_append), (4, NOW.0));
    assert_eq!(
        ProducerTable::restore(&records).records(Offset(100)),
        records
    );
}

#[test]
fn a_duplicate_is_answered_with_the_time_of_its_original_even_from_a_checkpoint() {
    let mut table = ProducerTable::default();
    note(&mut table, producer(1, 0, 0), 5, 0, Timestamp(9_500));
    note(&mut table, producer(1, 0, 5), 5, 5, NOW);
    let first = SequenceVerdict::Duplicate {
        base_offset: Offset(0),
        append_time: Timestamp(9_500),
    };
    assert_eq!(check(&table, producer(1, 0, 0), 5), first);
    let restored = ProducerTable::restore(&table.records(Offset(100)));
    assert_eq!(check(&restored, producer(1, 0, 0), 5), first);
}

#[test]
fn a_producer_that_was_silent_for_longer_than_the_expiry_is_forgotten() {
    let mut table = ProducerTable::default();
    note(&mut table, producer(1, 0, 0), 1, 0, Timestamp(8_999));
    note(&mut table, producer(2, 0, 0), 1, 1, Timestamp(9_000));
    table.expire(NOW, &LIMITS);
    let known: Vec<u64> = table
        .records(Offset(100))
        .iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(known, [2]);
}
