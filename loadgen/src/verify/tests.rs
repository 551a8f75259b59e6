use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::sizes::RecordSizes;

const RUN: u32 = 7;

fn filler() -> Arc<Filler> {
    Arc::new(Filler::new(42, 4096))
}

fn shape(keys: u32, partitions: u32) -> Arc<RecordShape> {
    let sizes = RecordSizes::Fixed(100);
    Arc::new(RecordShape::new(sizes, keys, partitions, 42))
}

/// Judges one producer's records without keys in that many partitions.
fn verifier(producers: u32, partitions: u32, filler: &Arc<Filler>) -> Verifier {
    Verifier::new(RUN, producers, filler.clone(), shape(0, partitions))
}

fn head(producer: u32, partition: u32, sequence: u64) -> RecordHead {
    RecordHead {
        run: RUN,
        producer,
        partition,
        sequence,
        intended_ns: sequence.wrapping_mul(1000),
    }
}

fn record(filler: &Filler, head: RecordHead, bytes: usize) -> Vec<u8> {
    let mut record = vec![0; bytes];
    head.write(filler, &mut record);
    record
}

/// Delivers records of one producer and one partition, by sequence number, at consecutive offsets.
fn deliver(sequences: &[u64]) -> Verifier {
    let filler = filler();
    let mut verifier = verifier(1, 1, &filler);
    for (&sequence, offset) in sequences.iter().zip(0..) {
        verifier.observe(0, offset, None, &record(&filler, head(0, 0, sequence), 100));
    }
    verifier
}

fn judge(verifier: &Verifier, acked: u64, sent: u64) -> Findings {
    verifier.findings(|_| true, |_, _| acked, |_, _| sent)
}

#[test]
fn a_sound_delivery_has_no_findings() {
    let verifier = deliver(&[0, 1, 2, 3]);
    assert_eq!(verifier.delivered(), 4);
    assert!(judge(&verifier, 4, 4).is_clean());
}

#[test]
fn a_record_missing_in_the_middle_is_lost() {
    assert_eq!(
        judge(&deliver(&[0, 1, 3, 4]), 5, 5),
        Findings {
            lost: 1,
            ..Findings::default()
        }
    );
}

#[test]
fn an_acknowledged_tail_that_never_came_is_lost() {
    assert_eq!(
        judge(&deliver(&[0, 1]), 5, 5),
        Findings {
            lost: 3,
            ..Findings::default()
        }
    );
}

#[test]
fn a_partition_of_which_nothing_came_is_lost_whole() {
    assert_eq!(
        judge(&deliver(&[]), 5, 5),
        Findings {
            lost: 5,
            ..Findings::default()
        }
    );
}

#[test]
fn a_tail_that_was_never_acknowledged_may_be_there_or_not() {
    assert!(judge(&deliver(&[0, 1]), 2, 5).is_clean());
    assert!(judge(&deliver(&[0, 1, 2, 3, 4]), 2, 5).is_clean());
}

#[test]
fn a_record_that_was_never_sent_is_corrupt() {
    assert_eq!(
        judge(&deliver(&[0, 1, 2]), 2, 2),
        Findings {
            corrupt: 1,
            ..Findings::default()
        }
    );
}

#[test]
fn a_record_delivered_twice_is_doubled_and_nothing_else() {
    let verifier = deliver(&[0, 1, 1, 2]);
    assert_eq!(
        judge(&verifier, 3, 3),
        Findings {
            duplicated: 1,
            ..Findings::default()
        }
    );
    assert_eq!(verifier.delivered(), 3);
}

#[test]
fn two_records_swapped_are_reordered_and_not_lost() {
    assert_eq!(
        judge(&deliver(&[0, 2, 1, 3]), 4, 4),
        Findings {
            reordered: 1,
            ..Findings::default()
        }
    );
}

#[test]
fn an_offset_that_is_skipped_or_repeated_is_reordered() {
    let filler = filler();
    for offsets in [[0, 1, 3], [0, 1, 1]] {
        let mut verifier = verifier(1, 1, &filler);
        for (offset, sequence) in offsets.into_iter().zip(0..) {
            verifier.observe(0, offset, None, &record(&filler, head(0, 0, sequence), 64));
        }
        assert_eq!(
            judge(&verifier, 3, 3),
            Findings {
                reordered: 1,
                ..Findings::default()
            }
        );
    }
}

#[test]
fn a_record_out_of_another_partition_is_corrupt() {
    let filler = filler();
    let mut verifier = verifier(1, 2, &filler);
    let observed = verifier.observe(1, 0, None, &record(&filler, head(0, 0, 0), 64));
    assert_eq!(observed, Observed::Wrong);
    assert_eq!(verifier.findings(|_| true, |_, _| 0, |_, _| 1).corrupt, 1);
}

#[test]
fn another_runs_record_is_passed_over() {
    let filler = filler();
    let mut verifier = verifier(1, 1, &filler);
    let other = RecordHead {
        run: RUN + 1,
        ..head(0, 0, 9)
    };
    assert_eq!(
        verifier.observe(0, 0, None, &record(&filler, other, 64)),
        Observed::Foreign
    );
    assert!(judge(&verifier, 0, 0).is_clean());
}

#[test]
fn partitions_of_other_consumers_are_not_judged() {
    let verifier = verifier(1, 2, &filler());
    assert!(verifier.findings(|_| false, |_, _| 9, |_, _| 9).is_clean());
}

#[test]
fn producers_are_followed_separately() {
    let filler = filler();
    let mut verifier = verifier(2, 1, &filler);
    for (offset, (producer, sequence)) in [(0, 0), (1, 0), (1, 1), (0, 1)].into_iter().enumerate() {
        verifier.observe(
            0,
            offset as u64,
            None,
            &record(&filler, head(producer, 0, sequence), 64),
        );
    }
    assert!(verifier.findings(|_| true, |_, _| 2, |_, _| 2).is_clean());
}

#[test]
fn a_record_under_another_key_or_under_none_is_corrupt() {
    let filler = filler();
    let shape = shape(8, 2);
    let sent = shape.key(0, 1, 0).unwrap();
    let other = (1..)
        .filter_map(|sequence| shape.key(0, 1, sequence))
        .find(|key| *key != sent)
        .unwrap();
    for (key, observed) in [
        (Some(sent), Observed::Sound { intended_ns: 0 }),
        (Some(other), Observed::Wrong),
        (None, Observed::Wrong),
    ] {
        let mut verifier = Verifier::new(RUN, 1, filler.clone(), shape.clone());
        let key = key.as_ref().map(Key::as_bytes);
        let value = record(&filler, head(0, 1, 0), 100);
        assert_eq!(verifier.observe(1, 0, key, &value), observed);
    }
}

#[test]
fn a_key_on_a_record_sent_without_one_is_corrupt() {
    let filler = filler();
    let mut verifier = verifier(1, 1, &filler);
    let value = record(&filler, head(0, 0, 0), 100);
    assert_eq!(
        verifier.observe(0, 0, Some(b"key-00000000"), &value),
        Observed::Wrong
    );
}

#[test]
fn records_of_all_sizes_are_checked_whole() {
    let filler = filler();
    let sizes = RecordSizes::Uniform {
        min: RECORD_BYTES_MIN,
        max: 4096,
    };
    let shape = Arc::new(RecordShape::new(sizes, 0, 1, 42));
    let values: Vec<_> = (0..50)
        .map(|sequence| {
            let bytes = shape.bytes(0, 0, sequence);
            record(&filler, head(0, 0, sequence), bytes)
        })
        .collect();
    for changed in 0..50 {
        let mut verifier = Verifier::new(RUN, 1, filler.clone(), shape.clone());
        for (value, offset) in values.iter().zip(0..) {
            let mut value = value.clone();
            if offset == changed {
                *value.last_mut().unwrap() ^= 1;
            }
            verifier.observe(0, offset, None, &value);
        }
        let findings = judge(&verifier, 50, 50);
        assert_eq!(
            (findings.corrupt, findings.lost),
            (1, 1),
            "record {changed}"
        );
    }
}

#[test]
fn the_holes_remembered_are_bounded_and_still_counted() {
    let mut checker = SequenceChecker::default();
    for odd in 0..10_000_u64 {
        checker.observe(odd * 2 + 1);
    }
    assert_eq!(checker.lost(20_000), 10_000);
}

#[test]
fn a_record_as_large_as_a_whole_head_holds_it() {
    let filler = filler();
    let written = record(&filler, head(1, 2, 3), HEAD_BYTES);
    assert_eq!(RecordHead::check(&written, &filler), Ok(head(1, 2, 3)));
}

#[test]
fn tiny_records_that_are_lost_doubled_or_out_of_order_are_found() {
    let filler = filler();
    let judged = |sequences: &[u64]| {
        let mut verifier = verifier(1, 1, &filler);
        for (&sequence, offset) in sequences.iter().zip(0..) {
            let value = record(&filler, head(0, 0, sequence), RECORD_BYTES_MIN);
            verifier.observe(0, offset, None, &value);
        }
        let findings = judge(&verifier, 4, 4);
        [
            findings.lost,
            findings.duplicated,
            findings.reordered,
            findings.corrupt,
        ]
    };
    assert_eq!(judged(&[0, 1, 2, 3]), [0, 0, 0, 0]);
    assert_eq!(judged(&[0, 1, 3]), [1, 0, 0, 0]);
    assert_eq!(judged(&[0, 1, 1, 2, 3]), [0, 1, 0, 0]);
    assert_eq!(judged(&[0, 2, 1, 3]), [0, 0, 1, 0]);
}

#[test]
fn a_tiny_record_of_another_run_partition_or_length_is_corrupt() {
    let filler = filler();
    let written = record(&filler, head(3, 1, 9), 24);
    let checked = |record: &[u8], run, partition| {
        RecordHead::check_tiny(record, &filler, run, partition).is_ok()
    };
    assert!(checked(&written, RUN, 1));
    assert!(!checked(&written, RUN + 1, 1));
    assert!(!checked(&written, RUN, 0));
    assert!(!checked(&written[..23], RUN, 1));
    assert!(!checked(&[&written[..], &[0]].concat(), RUN, 1));
}

#[test]
fn a_tiny_record_with_the_body_of_another_is_corrupt() {
    let filler = filler();
    let mut one = record(&filler, head(0, 0, 1), HEAD_BYTES - 1);
    let two = record(&filler, head(0, 0, 2), HEAD_BYTES - 1);
    one[RECORD_BYTES_MIN..].copy_from_slice(&two[RECORD_BYTES_MIN..]);
    assert_eq!(
        RecordHead::check_tiny(&one, &filler, RUN, 0),
        Err(CorruptRecord::Body)
    );
}

#[test]
fn a_record_with_the_body_of_another_is_corrupt() {
    let filler = filler();
    let mut one = record(&filler, head(0, 0, 1), 200);
    let two = record(&filler, head(0, 0, 2), 200);
    one[HEAD_BYTES..].copy_from_slice(&two[HEAD_BYTES..]);
    assert_eq!(RecordHead::check(&one, &filler), Err(CorruptRecord::Body));
}

#[test]
fn a_record_filled_from_another_seed_is_corrupt() {
    let written = record(&Filler::new(43, 4096), head(0, 0, 1), 200);
    assert_eq!(
        RecordHead::check(&written, &filler()),
        Err(CorruptRecord::Body)
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        run: u32, producer: u32, partition: u32, sequence: u64, intended_ns: u64, bytes in HEAD_BYTES..4096
    ) {
        let filler = filler();
        let head = RecordHead { run, producer, partition, sequence, intended_ns };
        prop_assert_eq!(RecordHead::check(&record(&filler, head, bytes), &filler), Ok(head));
    }

    #[test]
    fn any_flipped_bit_is_found(sequence: u64, bytes in HEAD_BYTES..512, at: prop::sample::Index, bit in 0..8_u32) {
        let filler = filler();
        let mut record = record(&filler, head(1, 2, sequence), bytes);
        let at = at.index(record.len());
        record[at] ^= 1_u8 << bit;
        prop_assert!(RecordHead::check(&record, &filler).is_err());
    }

    #[test]
    fn any_cut_or_extension_is_found(bytes in HEAD_BYTES + 1..512, to in 0..600_usize) {
        prop_assume!(bytes != to);
        let filler = filler();
        let mut record = record(&filler, head(1, 2, 3), bytes);
        record.resize(to, 0);
        prop_assert!(RecordHead::check(&record, &filler).is_err());
    }

    #[test]
    fn a_tiny_record_is_read_back_with_its_time_in_microseconds(
        run: u32, producer in 0..TINY_PRODUCERS_MAX, partition: u32, sequence in 0..1_u64 << 40, us in 0..1_u64 << 40, ns in 0..1000_u64,
        bytes in RECORD_BYTES_MIN..HEAD_BYTES
    ) {
        let filler = filler();
        let head = RecordHead { run, producer, partition, sequence, intended_ns: us * 1000 + ns };
        let written = record(&filler, head, bytes);
        let read = RecordHead::check_tiny(&written, &filler, run, partition);
        prop_assert_eq!(read, Ok(RecordHead { intended_ns: us * 1000, ..head }));
    }

    #[test]
    fn any_flipped_bit_of_a_tiny_record_is_found(
        sequence in 0..1_u64 << 40, bytes in RECORD_BYTES_MIN..HEAD_BYTES, at: prop::sample::Index, bit in 0..8_u32
    ) {
        let filler = filler();
        let mut written = record(&filler, head(1, 2, sequence), bytes);
        written[at.index(bytes)] ^= 1 << bit;
        prop_assert!(RecordHead::check_tiny(&written, &filler, RUN, 2).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = RecordHead::check(&bytes, &filler());
        let _ = RecordHead::check_tiny(&bytes, &filler(), RUN, 0);
    }

    /// Against a plain set: whatever comes in whatever order, lost, doubled and out of order are what a slow count says.
    #[test]
    fn the_checker_counts_as_a_set_does(sequences in prop::collection::vec(0..40_u64, 0..120), acked in 0..50_u64) {
        let mut checker = SequenceChecker::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut highest = None;
        for &sequence in &sequences {
            let observed = checker.observe(sequence);
            let first = seen.insert(sequence);
            match observed {
                Sequenced::Doubled => prop_assert!(!first),
                Sequenced::Late => prop_assert!(first && highest > Some(sequence)),
                Sequenced::Next | Sequenced::Skipped(_) => prop_assert!(first && highest < Some(sequence)),
            }
            highest = highest.max(Some(sequence));
        }
        let end = highest.map_or(0, |highest| highest + 1).max(acked);
        let absent = (0..end).filter(|sequence| !seen.contains(sequence)).count() as u64;
        prop_assert_eq!(checker.lost(acked), absent);
    }
}
