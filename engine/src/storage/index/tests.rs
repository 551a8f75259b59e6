#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::storage::sample::{KEY, OTHER_KEY};

const PLACE: FilePlace = FilePlace(9);

/// A run of batches of ten records, one a point, whose newest timestamps are these.
fn run_index(timestamps: &[i64]) -> RunIndex {
    let mut index = RunIndex::new(KEY);
    for (batch, timestamp) in (0u64..).zip(timestamps) {
        index.push(
            Offset(10 * batch)..Offset(10 * batch + 10),
            4_096 + batch * POINT_SPACING_BYTES,
            Timestamp(*timestamp),
        );
    }
    index
}

fn segment_index() -> SegmentIndex {
    open_index().index().clone()
}

fn open_index() -> OpenIndex {
    let mut index = OpenIndex::default();
    for (key, base, position) in [
        (KEY, 0, 4_096),
        (KEY, 10, 8_192),
        (OTHER_KEY, 0, 12_288),
        (OTHER_KEY, 30, 16_384),
    ] {
        index.push(
            key,
            Offset(base)..Offset(base + 10),
            position,
            Timestamp(base as i64),
        );
    }
    index
}

#[test]
fn an_offset_is_sought_at_the_last_point_before_it() {
    let index = run_index(&[1, 2, 3]);
    for (offset, found) in [(0, 0), (9, 0), (10, 10), (29, 20), (1_000, 20)] {
        assert_eq!(index.seek_offset(Offset(offset)).unwrap().offset, found);
    }
}

#[test]
fn an_offset_before_the_first_point_is_not_found() {
    let mut index = RunIndex::new(KEY);
    index.push(Offset(5)..Offset(6), 4_096, Timestamp(0));
    assert_eq!(index.seek_offset(Offset(4)), None);
}

#[test]
fn a_time_is_sought_at_the_last_point_before_its_first_record() {
    let index = run_index(&[100, 200, 300]);
    for (timestamp, found) in [(0, 0), (100, 0), (101, 10), (200, 10), (201, 20), (999, 20)] {
        let point = index.seek_timestamp(Timestamp(timestamp)).unwrap();
        assert_eq!(point.offset, found, "time {timestamp}");
    }
}

#[test]
fn times_that_go_back_do_not_hide_the_first_record_at_or_above_one() {
    // The second batch is older than the first: 300 is met in the first batch and not behind it.
    let index = run_index(&[300, 100, 400]);
    assert_eq!(index.seek_timestamp(Timestamp(300)).unwrap().offset, 0);
    assert_eq!(index.seek_timestamp(Timestamp(301)).unwrap().offset, 20);
}

#[test]
fn points_are_kept_only_so_often() {
    let mut index = RunIndex::new(KEY);
    for batch in 0..100 {
        index.push(
            Offset(batch)..Offset(batch + 1),
            4_096 + batch * POINT_SPACING_BYTES / 10,
            Timestamp(0),
        );
    }
    assert_eq!(index.points.len(), 10);
}

#[test]
fn an_index_without_points_has_no_base() {
    assert_eq!(RunIndex::new(KEY).base_offset(), None);
    assert_eq!(RunIndex::new(KEY).seek_timestamp(Timestamp(0)), None);
}

#[test]
fn a_batch_that_goes_on_belongs_to_the_run_and_any_other_begins_one() {
    let index = segment_index();
    let runs: Vec<_> = index
        .runs
        .iter()
        .map(|run| (run.key(), run.base_offset().unwrap().0, run.next_offset))
        .collect();
    assert_eq!(
        runs,
        [(KEY, 0, 20), (OTHER_KEY, 0, 10), (OTHER_KEY, 30, 40)]
    );
}

#[test]
fn a_run_is_found_by_its_key_and_first_offset() {
    let index = open_index();
    assert_eq!(
        index.run(OTHER_KEY, Offset(30)).unwrap().base_offset(),
        Some(Offset(30))
    );
    assert_eq!(index.run(OTHER_KEY, Offset(31)), None);
}

#[test]
fn runs_of_a_segment_are_found_although_they_were_not_written_in_the_order_of_keys() {
    let mut index = OpenIndex::default();
    for (key, base, position) in [
        (OTHER_KEY, 0, 4_096),
        (KEY, 0, 8_192),
        (OTHER_KEY, 10, 12_288),
    ] {
        index.push(key, Offset(base)..Offset(base + 10), position, Timestamp(0));
    }
    let read = SegmentIndex::decode(&index.index().encode(PLACE), PLACE).unwrap();
    for (key, base) in [(KEY, 0), (OTHER_KEY, 0), (OTHER_KEY, 10)] {
        let base = Offset(base);
        assert!(index.run(key, base).is_some(), "{key} from {base}");
        assert!(read.find(key, base).is_some(), "{key} from {base}");
    }
}

#[test]
fn an_index_comes_back_as_it_was_written_whatever_follows_it() {
    let index = segment_index();
    let mut bytes = index.encode(PLACE);
    bytes.extend_from_slice(&[0xAA; 100]);
    assert_eq!(SegmentIndex::decode(&bytes, PLACE), Some(index));
}

#[test]
fn every_flipped_bit_of_an_index_is_found() {
    let bytes = segment_index().encode(PLACE);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert_eq!(
                SegmentIndex::decode(&damaged, PLACE),
                None,
                "bit {bit} of byte {at}"
            );
        }
    }
}

#[test]
fn an_index_cut_anywhere_is_none() {
    let bytes = segment_index().encode(PLACE);
    for length in 0..bytes.len() {
        assert_eq!(SegmentIndex::decode(&bytes[..length], PLACE), None);
    }
}

#[test]
fn the_index_of_another_file_is_not_believed() {
    let index = segment_index();
    let other = index.encode(FilePlace(10));
    assert_eq!(SegmentIndex::decode(&other, PLACE), None);
    // Before an index said whose it is, it said nothing.
    let unplaced = index.encode(FilePlace::NONE);
    assert_eq!(SegmentIndex::decode(&unplaced, PLACE), Some(index));
}
