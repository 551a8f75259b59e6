#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::storage::sample::{KEY, stamped};

const BLOCK: u64 = BLOCK_BYTES as u64;
const HEADER: SegmentHeader = SegmentHeader {
    id: SegmentId(0x0000_0001_0200_0003),
    owner: Some(KEY),
};

fn block(header: SegmentHeader) -> Vec<u8> {
    let mut block = vec![0xAA; BLOCK_BYTES];
    header.write(&mut block);
    block
}

fn run(segment: u64, offsets: std::ops::Range<u64>, position: u64) -> Run {
    Run {
        segment: SegmentRef {
            id: SegmentId(segment),
            shared: false,
        },
        base_offset: Offset(offsets.start),
        next_offset: Offset(offsets.end),
        position,
        end: position + 1_000,
        max_timestamp: Timestamp(offsets.start as i64),
        append_time: Timestamp(offsets.end as i64),
    }
}

fn inserted(runs: &[Run]) -> VecDeque<Run> {
    let mut all = VecDeque::new();
    for run in runs {
        insert_run(&mut all, *run);
    }
    all
}

fn offsets(runs: &VecDeque<Run>) -> Vec<(u64, u64)> {
    runs.iter()
        .map(|run| (run.base_offset.0, run.next_offset.0))
        .collect()
}

#[test]
fn a_header_comes_back_as_it_was_written() {
    assert_eq!(SegmentHeader::read(&block(HEADER)), Ok(HEADER));
}

#[test]
fn a_shared_segment_has_no_owner() {
    let shared = SegmentHeader {
        owner: None,
        ..HEADER
    };
    assert_eq!(SegmentHeader::read(&block(shared)), Ok(shared));
}

#[test]
fn every_flipped_bit_of_a_header_is_found() {
    for at in 0..size_of::<RawHeader>() {
        for bit in 0..8 {
            let mut bytes = block(HEADER);
            bytes[at] ^= 1 << bit;
            assert_eq!(SegmentHeader::read(&bytes), Err(SegmentFault::Header));
        }
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = block(HEADER);
    bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
    let checksum = crc32c::crc32c_append(
        crc32c::crc32c(&bytes[..12]),
        &bytes[16..size_of::<RawHeader>()],
    );
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(SegmentHeader::read(&bytes), Err(SegmentFault::Newer(2)));
}

#[test]
fn fewer_bytes_than_a_header_are_none() {
    assert_eq!(SegmentHeader::read(&[0; 10]), Err(SegmentFault::Header));
}

#[test]
fn a_batch_is_framed_by_its_length() {
    let mut bytes = stamped(2, 10, 0).to_vec();
    let length = bytes.len();
    bytes.extend_from_slice(&[0; 50]);
    assert_eq!(frame_at(&bytes), Framed::Batch(length));
    assert_eq!(header_at(&bytes).unwrap().record_count(), 2);
}

#[test]
fn a_length_of_zero_is_filler() {
    assert_eq!(frame_at(&[0; 8]), Framed::Filler);
}

#[test]
fn a_batch_that_is_not_all_there_says_how_much_it_needs() {
    let bytes = stamped(2, 10, 0);
    assert_eq!(frame_at(&bytes[..20]), Framed::Partial(bytes.len()));
}

#[test]
fn without_a_length_a_header_is_needed() {
    for bytes in 0..4 {
        assert_eq!(
            frame_at(&[1, 1, 1][..bytes.min(3)]),
            Framed::Partial(BATCH_HEADER_BYTES)
        );
    }
}

#[test]
fn a_length_no_batch_can_have_is_bad() {
    let max = gannet_wire::limits::BATCH_BYTES_MAX;
    for (length, framed) in [
        (1, Framed::Bad),
        (BATCH_HEADER_BYTES as u32 - 1, Framed::Bad),
        (
            BATCH_HEADER_BYTES as u32,
            Framed::Partial(BATCH_HEADER_BYTES),
        ),
        (max, Framed::Partial(max as usize)),
        (max + 1, Framed::Bad),
        (u32::MAX, Framed::Bad),
    ] {
        assert_eq!(frame_at(&length.to_le_bytes()), framed, "length {length}");
    }
}

#[test]
fn batches_are_filled_up_to_eight_bytes() {
    let filled: Vec<usize> = [80, 81, 87, 88].map(aligned_bytes).to_vec();
    assert_eq!(filled, [80, 88, 88, 88]);
}

#[test]
fn runs_stand_in_the_order_of_offsets_whatever_order_they_came_in() {
    let runs = inserted(&[
        run(2, 5..8, BLOCK),
        run(1, 0..5, BLOCK),
        run(3, 8..9, BLOCK),
    ]);
    assert_eq!(offsets(&runs), [(0, 5), (5, 8), (8, 9)]);
}

#[test]
fn a_run_on_the_next_block_of_the_same_segment_is_joined() {
    let runs = inserted(&[run(1, 0..5, BLOCK), run(1, 5..8, 2 * BLOCK)]);
    assert_eq!(offsets(&runs), [(0, 8)]);
    assert_eq!((runs[0].position, runs[0].end), (BLOCK, 2 * BLOCK + 1_000));
    assert_eq!(
        (runs[0].max_timestamp, runs[0].append_time),
        (Timestamp(5), Timestamp(8))
    );
}

#[test]
fn a_run_with_other_runs_between_is_not_joined() {
    let runs = inserted(&[run(1, 0..5, BLOCK), run(1, 5..8, 3 * BLOCK)]);
    assert_eq!(offsets(&runs), [(0, 5), (5, 8)]);
}

#[test]
fn a_run_in_another_segment_is_not_joined() {
    let runs = inserted(&[run(1, 0..5, BLOCK), run(2, 5..8, 2 * BLOCK)]);
    assert_eq!(offsets(&runs), [(0, 5), (5, 8)]);
}

#[test]
fn a_run_behind_a_gap_is_not_joined() {
    let runs = inserted(&[run(1, 0..5, BLOCK), run(1, 6..8, 2 * BLOCK)]);
    assert_eq!(offsets(&runs), [(0, 5), (6, 8)]);
}

#[test]
fn the_same_run_again_changes_nothing() {
    let runs = inserted(&[run(1, 0..5, BLOCK), run(1, 0..5, BLOCK)]);
    assert_eq!(offsets(&runs), [(0, 5)]);
}

#[test]
fn a_run_that_was_joined_already_changes_nothing_when_it_comes_again() {
    let joined = [run(1, 0..5, BLOCK), run(1, 5..8, 2 * BLOCK)];
    let once = inserted(&joined);
    let twice = inserted(&[joined[0], joined[1], joined[1]]);
    assert_eq!(twice, once);
}

#[test]
fn segment_ids_differ_over_lives_shards_and_calls() {
    let mut ids = std::collections::BTreeSet::new();
    for incarnation in [1, 2] {
        for shard in [0, 255] {
            let mut given = SegmentIds::new(incarnation, ShardIndex(shard));
            for _ in 0..3 {
                let id = given.allocate();
                assert_eq!(SegmentIds::incarnation_of(id), incarnation);
                assert!(ids.insert(id.0));
            }
        }
    }
}

fn shared(mut run: Run) -> Run {
    run.segment.shared = true;
    run
}

#[test]
fn a_run_of_a_shared_segment_goes_on_only_where_nobody_elses_bytes_can_lie_between() {
    let first = shared(run(1, 0..10, BLOCK));
    let next = shared(run(1, 10..20, 2 * BLOCK));
    // The rest of the first one's block may be another partition's.
    assert_eq!(offsets(&inserted(&[first, next])), [(0, 10), (10, 20)]);
    let alone = Run {
        end: 2 * BLOCK,
        ..first
    };
    assert_eq!(offsets(&inserted(&[alone, next])), [(0, 20)]);
}
