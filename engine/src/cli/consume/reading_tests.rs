use bytes::{Bytes, BytesMut};
use gannet_wire::batch::{BatchBuilder, BatchLimits, Compression, stamp};
use gannet_wire::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, DECOMPRESSED_BYTES_MAX};
use gannet_wire::{LeaderEpoch, Timestamp, TopicId};

use super::*;

const ZERO: PartitionIndex = PartitionIndex(0);

/// A batch as the broker delivers it, whose first record has `base_offset`.
fn records(base_offset: u64, values: &[Option<&[u8]>]) -> Records {
    let mut builder = BatchBuilder::new(BatchLimits {
        batch_bytes_max: BATCH_BYTES_MAX,
        batch_records_max: BATCH_RECORDS_MAX,
        decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
    });
    for value in values {
        builder.push(Timestamp(1), None, *value, &[]).expect("room");
    }
    let batch: Bytes = builder.build(Compression::None, None);
    let mut batch = BytesMut::from(&batch[..]);
    stamp(
        &mut batch,
        TopicId(1),
        ZERO,
        Offset(base_offset),
        Timestamp(1),
        LeaderEpoch(0),
    );
    Records::open(batch.freeze()).expect("whole")
}

fn written(records: &Records, begin: u64, ends: &mut Option<Ends>, left: &mut u64) -> String {
    let mut out = Vec::new();
    write_records(ZERO, records, Offset(begin), ends, left, &mut out).expect("memory");
    String::from_utf8(out).expect("text")
}

#[test]
fn each_value_is_a_line_and_a_null_one_an_empty_line() {
    let records = records(0, &[Some(b"a"), None, Some(b""), Some(b"b c")]);
    let mut left = u64::MAX;
    assert_eq!(written(&records, 0, &mut None, &mut left), "a\n\n\nb c\n");
}

#[test]
fn records_of_the_first_batch_before_the_beginning_are_left_out() {
    let records = records(10, &[Some(b"a"), Some(b"b"), Some(b"c")]);
    let mut left = u64::MAX;
    assert_eq!(written(&records, 11, &mut None, &mut left), "b\nc\n");
}

#[test]
fn no_more_are_written_than_were_asked_for() {
    let records = records(0, &[Some(b"a"), Some(b"b"), Some(b"c")]);
    let mut left = 2;
    assert_eq!(written(&records, 0, &mut None, &mut left), "a\nb\n");
    assert_eq!(left, 0);
}

#[test]
fn without_following_what_came_after_the_start_is_left_out_and_the_end_is_reached() {
    let records = records(0, &[Some(b"a"), Some(b"b"), Some(b"c")]);
    let mut ends = Some(Ends::new([(ZERO, Offset(0), Offset(2))]));
    let mut left = u64::MAX;
    assert_eq!(written(&records, 0, &mut ends, &mut left), "a\nb\n");
    assert!(ends.is_some_and(|ends| ends.all_reached()));
}

const ONE: PartitionIndex = PartitionIndex(1);
const REACHES: [(PartitionIndex, Offset, Offset); 2] =
    [(ZERO, Offset(0), Offset(9)), (ONE, Offset(0), Offset(5))];

#[test]
fn damage_is_left_out_and_told_by_the_status() {
    let mut reading = Reading::new(&REACHES, false, None);
    reading.skip_to(ZERO, Offset(4));
    assert_eq!(
        reading.starts(),
        [
            (ZERO, Start::Offset(Offset(4))),
            (ONE, Start::Offset(Offset(0)))
        ]
    );
    reading.skip_to(ONE, Offset(5));
    assert_eq!(reading.starts(), [(ZERO, Start::Offset(Offset(4)))]);
    reading.skip_to(ZERO, Offset(9));
    assert!(reading.is_done());
    assert_eq!(reading.verdict("t").expect("read"), ExitStatus::Damaged);
}

#[test]
fn a_partition_that_was_given_up_is_not_read_again_and_told_in_the_end() {
    for follow in [false, true] {
        let mut reading = Reading::new(&REACHES, follow, None);
        reading.give_up(ONE);
        assert!(!reading.wants(ONE));
        assert_eq!(reading.starts(), [(ZERO, Start::Offset(Offset(0)))]);
        // Damage elsewhere that is skipped does not make up for it.
        reading.skip_to(ZERO, Offset(3));
        assert!(!reading.is_done());
        let failure = reading.verdict("t").expect_err("one is not read");
        assert_eq!(failure.status, ExitStatus::Server);
        assert!(failure.sentence.contains("partitions: 1"), "{failure}");
    }
}

#[test]
fn a_follower_ends_when_every_partition_was_given_up() {
    let mut reading = Reading::new(&REACHES, true, None);
    reading.give_up(ZERO);
    assert!(!reading.is_done());
    reading.give_up(ONE);
    assert!(reading.is_done());
}

#[test]
fn a_partition_that_was_read_to_its_end_is_wanted_no_more_unless_followed() {
    for follow in [false, true] {
        let mut reading = Reading::new(&REACHES, follow, None);
        reading.skip_to(ONE, Offset(5));
        assert_eq!(reading.wants(ONE), follow);
        assert!(reading.wants(ZERO));
    }
}
