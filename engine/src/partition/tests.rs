#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::storage::sample::{KEY, disk_buffer, producer};
use crate::storage::segment::SegmentRef;
use crate::storage::slice::Slice;
use crate::storage::{Lsn, SegmentId};

const LIMITS: ProducerLimits = ProducerLimits {
    inflight_max: 2,
    expiry_ms: 1_000,
    producers_max: 3,
};
const NOW: Timestamp = Timestamp(10_000);

fn run(offsets: std::ops::Range<u64>, bytes: u64, append_time: i64) -> Run {
    Run {
        segment: SegmentRef {
            id: SegmentId(offsets.start),
            shared: false,
        },
        base_offset: Offset(offsets.start),
        next_offset: Offset(offsets.end),
        position: 4_096,
        end: 4_096 + bytes,
        max_timestamp: Timestamp(0),
        append_time: Timestamp(append_time),
    }
}

fn tail_batch(offsets: std::ops::Range<u64>) -> TailBatch {
    TailBatch {
        base_offset: Offset(offsets.start),
        next_offset: Offset(offsets.end),
        lsn: Lsn(offsets.end),
        bytes: Slice::new(disk_buffer(&[1; 100]), 0..100),
        flushed: false,
    }
}

fn append(
    partition: &mut Partition,
    stamp: Option<ProducerStamp>,
    count: u32,
) -> Result<Appended, AppendRefusal> {
    partition.append(stamp, count, NOW, &LIMITS)
}

fn new_at(base_offset: u64) -> Result<Appended, AppendRefusal> {
    Ok(Appended::New {
        base_offset: Offset(base_offset),
    })
}

/// Runs 0..10 and 10..20 in segments, 25..30 in the tail, 20..25 fenced.
fn mixed() -> Partition {
    let mut partition = Partition::new(KEY);
    for (run, end) in [(run(0..10, 1_000, 100), 10), (run(10..20, 1_000, 200), 20)] {
        partition.replay_offsets(run.base_offset, Offset(end));
        partition.replay_durable(Offset(end));
        partition.add_run(run);
    }
    partition.replay_gap(Offset(25));
    partition.replay_offsets(Offset(25), Offset(30));
    partition.batch_durable(tail_batch(25..30));
    partition
}

fn fenced(from: u64, to: u64) -> ReadPlace {
    ReadPlace::Fenced(Fence {
        from: Offset(from),
        to: Offset(to),
    })
}

#[test]
fn batches_get_consecutive_offsets() {
    let mut partition = Partition::new(KEY);
    assert_eq!(append(&mut partition, None, 3), new_at(0));
    assert_eq!(append(&mut partition, None, 2), new_at(3));
    assert_eq!(partition.next_offset(), Offset(5));
}

#[test]
fn an_appended_batch_is_not_durable_yet() {
    let mut partition = Partition::new(KEY);
    append(&mut partition, None, 3).unwrap();
    assert_eq!(partition.durable_offset(), Offset(0));
    assert_eq!(partition.place(Offset(0)), ReadPlace::End);
}

#[test]
fn a_batch_that_was_appended_is_answered_with_its_first_place() {
    let mut partition = Partition::new(KEY);
    append(&mut partition, None, 5).unwrap();
    append(&mut partition, Some(producer(1, 0, 0)), 3).unwrap();
    assert_eq!(
        append(&mut partition, Some(producer(1, 0, 0)), 3),
        Ok(Appended::Duplicate {
            base_offset: Offset(5),
            next_offset: Offset(8),
            append_time: NOW,
        })
    );
    assert_eq!(partition.next_offset(), Offset(8));
}

#[test]
fn a_batch_that_is_refused_takes_no_offsets() {
    let mut partition = Partition::new(KEY);
    append(&mut partition, Some(producer(1, 0, 0)), 3).unwrap();
    assert_eq!(
        append(&mut partition, Some(producer(1, 0, 4)), 3),
        Err(AppendRefusal::SequenceGap)
    );
    assert_eq!(partition.next_offset(), Offset(3));
}

#[test]
fn the_successors_of_a_refused_batch_are_gaps() {
    let mut partition = Partition::new(KEY);
    append(&mut partition, Some(producer(1, 0, 0)), 3).unwrap();
    for base_sequence in [5, 7, 9] {
        assert_eq!(
            append(&mut partition, Some(producer(1, 0, base_sequence)), 2),
            Err(AppendRefusal::SequenceGap)
        );
    }
    assert_eq!(
        append(&mut partition, Some(producer(1, 0, 3)), 2),
        new_at(3)
    );
}

#[test]
fn a_partition_without_offsets_refuses_and_keeps_the_producers_sequence() {
    let mut partition = Partition::new(KEY);
    partition.replay_gap(Offset(u64::MAX / 2 - 1));
    assert_eq!(
        append(&mut partition, Some(producer(1, 0, 0)), 1),
        Err(AppendRefusal::OffsetsExhausted)
    );
    assert!(partition.producers.is_empty());
}

#[test]
fn no_offset_that_is_given_out_is_beyond_the_formats() {
    let mut partition = Partition::new(KEY);
    partition.replay_gap(Offset(gannet_wire::limits::OFFSET_MAX - 10));
    while append(&mut partition, None, 1).is_ok() {}
    assert!(partition.next_offset().0 <= gannet_wire::limits::OFFSET_MAX);
}

#[test]
fn each_offset_is_read_where_it_stands() {
    let partition = mixed();
    let in_run = |offset: u64| match partition.place(Offset(offset)) {
        ReadPlace::Run(run) => run.base_offset.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (in_run(0), in_run(9), in_run(10), in_run(19)),
        (0, 0, 10, 10)
    );
    assert_eq!(partition.place(Offset(20)), fenced(20, 25));
    assert_eq!(partition.place(Offset(24)), fenced(20, 25));
    assert_eq!(partition.place(Offset(25)), ReadPlace::Tail);
    assert_eq!(partition.place(Offset(29)), ReadPlace::Tail);
    assert_eq!(partition.place(Offset(30)), ReadPlace::End);
}

#[test]
fn the_tail_comes_before_the_segment_that_has_the_same() {
    let mut partition = mixed();
    partition.add_run(run(25..30, 100, 300));
    assert_eq!(partition.place(Offset(27)), ReadPlace::Tail);
}

#[test]
fn offsets_that_are_nowhere_are_fenced_up_to_the_next_run() {
    let mut partition = mixed();
    partition.runs.remove(0);
    assert_eq!(partition.place(Offset(3)), fenced(3, 10));
}

#[test]
fn offsets_that_are_nowhere_are_fenced_up_to_the_tail() {
    let mut partition = mixed();
    partition.fences.clear();
    assert_eq!(partition.place(Offset(21)), fenced(21, 25));
}

#[test]
fn offsets_that_are_nowhere_are_fenced_up_to_the_durable_end() {
    let mut partition = Partition::new(KEY);
    partition.replay_offsets(Offset(0), Offset(7));
    partition.replay_durable(Offset(7));
    assert_eq!(partition.place(Offset(2)), fenced(2, 7));
}

#[test]
fn moving_the_log_start_drops_runs_that_lie_wholly_before_it() {
    let mut partition = mixed();
    let dropped = partition.advance_log_start(Offset(15));
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0].base_offset, Offset(0));
    assert_eq!(partition.place(Offset(14)), ReadPlace::BeforeStart);
    assert!(matches!(partition.place(Offset(15)), ReadPlace::Run(_)));
}

#[test]
fn moving_the_log_start_drops_fences_before_it() {
    let mut partition = mixed();
    partition.advance_log_start(Offset(24));
    assert_eq!(partition.fences().len(), 1);
    partition.advance_log_start(Offset(25));
    assert!(partition.fences().is_empty());
}

#[test]
fn the_log_start_never_goes_back() {
    let mut partition = mixed();
    partition.advance_log_start(Offset(10));
    assert!(partition.advance_log_start(Offset(5)).is_empty());
    assert_eq!(partition.log_start(), Offset(10));
}

#[test]
fn an_emptied_partition_goes_on_at_its_next_offset() {
    let mut partition = mixed();
    partition.advance_log_start(Offset(30));
    assert_eq!(append(&mut partition, None, 1), new_at(30));
}

#[test]
#[should_panic(expected = "what is not durable yet cannot expire")]
fn the_log_start_never_passes_the_durable_end() {
    mixed().advance_log_start(Offset(31));
}

#[test]
fn runs_expire_once_their_newest_batch_is_old_enough() {
    let partition = mixed();
    let expired = |before| partition.expired_up_to(Some(Timestamp(before)), None, Lsn(0));
    assert_eq!(expired(100), Offset(0));
    assert_eq!(expired(101), Offset(10));
    assert_eq!(expired(i64::MAX), Offset(20));
}

#[test]
fn an_old_run_behind_a_young_one_does_not_expire() {
    let mut partition = mixed();
    partition.runs[0].append_time = Timestamp(500);
    assert_eq!(
        partition.expired_up_to(Some(Timestamp(300)), None, Lsn(0)),
        Offset(0)
    );
}

#[test]
fn runs_expire_by_size_while_at_least_the_limit_stays() {
    // Two runs of 1,000 bytes and a tail of 100.
    let partition = mixed();
    let expired = |bytes| partition.expired_up_to(None, Some(bytes), Lsn(0)).0;
    assert_eq!((expired(2_100), expired(1_101)), (0, 0));
    assert_eq!((expired(1_100), expired(101)), (10, 10));
    assert_eq!(expired(100), 20);
}

#[test]
fn what_a_round_has_just_flushed_counts_once_for_retention_by_size() {
    let mut partition = mixed();
    // In a segment now, and the tail does not know it yet.
    partition.add_run(run(25..30, 100, 300));
    let expired = partition.expired_up_to(None, Some(1_101), Lsn(30));
    assert_eq!(expired, Offset(0), "1,100 bytes would stay");
}

#[test]
fn a_run_behind_batches_that_no_segment_has_never_expires() {
    let mut partition = mixed();
    partition.replay_offsets(Offset(30), Offset(40));
    partition.add_run(run(30..40, 1_000, 100));
    partition.replay_durable(Offset(40));
    // To drop it would drop 25..30, which are only in memory, with it.
    let by_size = partition.expired_up_to(None, Some(1), Lsn(0));
    let by_time = partition.expired_up_to(Some(Timestamp(i64::MAX)), None, Lsn(0));
    assert_eq!((by_size, by_time), (Offset(20), Offset(20)));
}

#[test]
fn the_tail_tells_where_the_log_stood_by_what_lies_above() {
    let mut tail = Tail::default();
    tail.push(tail_batch(10..20));
    tail.push(tail_batch(25..30));
    assert_eq!(tail.base_offset_above(Lsn(0)), Some(Offset(10)));
    // Not 20: what lies between stands in no tail.
    assert_eq!(tail.base_offset_above(Lsn(20)), Some(Offset(25)));
    assert_eq!(tail.base_offset_above(Lsn(30)), None);
}

#[test]
fn nothing_expires_without_a_retention() {
    assert_eq!(mixed().expired_up_to(None, None, Lsn(0)), Offset(0));
}

#[test]
fn stored_bytes_are_those_in_segments_and_those_not_there_yet() {
    let mut partition = mixed();
    assert_eq!(partition.stored_bytes(), 2_100);
    partition.add_run(run(25..30, 100, 300));
    partition.tail.mark_flushed(Lsn(30));
    assert_eq!(partition.stored_bytes(), 2_100);
}

#[test]
fn a_gap_in_the_replay_is_fenced() {
    let mut partition = Partition::new(KEY);
    partition.replay_gap(Offset(4));
    assert_eq!(
        partition.fences(),
        [Fence {
            from: Offset(0),
            to: Offset(4)
        }]
    );
    assert_eq!(
        (partition.next_offset(), partition.durable_offset()),
        (Offset(4), Offset(4))
    );
}

#[test]
fn a_fence_that_a_replay_finds_again_is_not_noted_twice() {
    let mut partition = Partition::new(KEY);
    partition.fence(Offset(2), Offset(4));
    partition.fence(Offset(2), Offset(4));
    partition.fence(Offset(1), Offset(4));
    assert_eq!(
        partition.fences(),
        [Fence {
            from: Offset(1),
            to: Offset(4)
        }]
    );
}

#[test]
fn a_stamped_term_raises_a_partitions_term_and_never_lowers_it() {
    let mut partition = Partition::new(KEY);
    partition.raise_term(LeaderEpoch(3));
    partition.raise_term(LeaderEpoch(2));
    assert_eq!(partition.leader_epoch(), LeaderEpoch(3));
}

#[test]
fn a_replay_without_a_gap_fences_nothing() {
    let mut partition = Partition::new(KEY);
    partition.replay_gap(Offset(0));
    assert!(partition.fences().is_empty());
}

#[test]
fn after_an_unknown_loss_a_partition_goes_on_above_it_in_a_new_term() {
    let mut partition = mixed();
    partition.begin_term();
    let above = partition.offset_above(1_000);
    partition.replay_gap(above);
    assert_eq!(partition.leader_epoch(), LeaderEpoch(1));
    assert_eq!(partition.place(Offset(30)), fenced(30, 1_030));
    assert_eq!(append(&mut partition, None, 1), new_at(1_030));
}

#[test]
#[should_panic(expected = "in the order of their offsets")]
fn a_batch_never_becomes_durable_before_the_one_before_it() {
    let mut partition = Partition::new(KEY);
    append(&mut partition, None, 10).unwrap();
    partition.batch_durable(tail_batch(5..10));
}

#[test]
fn a_partition_comes_back_from_its_record() {
    let mut partition = mixed();
    partition.advance_log_start(Offset(10));
    partition.add_run(run(25..30, 100, 300));
    append(&mut partition, Some(producer(1, 0, 0)), 1).unwrap();
    let runs = partition.runs().iter().map(RunRecord::from).collect();
    let record = partition.record(Offset(30), partition.log_start(), runs);
    let restored = Partition::restore(&record);
    assert_eq!(restored.log_start(), Offset(10));
    assert_eq!(restored.next_offset(), Offset(30));
    assert_eq!(restored.durable_offset(), Offset(30));
    assert_eq!(restored.fences(), partition.fences());
    assert_eq!(restored.runs(), partition.runs());
    // Appended at 30, which the checkpoint does not hold yet.
    assert!(restored.producers.is_empty());
}

#[test]
fn a_tail_is_read_from_the_batch_that_holds_the_offset() {
    let mut tail = Tail::default();
    for offsets in [0..5, 5..10, 10..15] {
        tail.push(tail_batch(offsets));
    }
    let mut batches = Vec::new();
    assert_eq!(tail.read(Offset(7), 1_000, &mut batches), Some(Offset(15)));
    assert_eq!(batches.len(), 2);
}

#[test]
fn a_read_of_the_tail_gives_one_batch_however_little_is_asked_for() {
    let mut tail = Tail::default();
    tail.push(tail_batch(0..5));
    tail.push(tail_batch(5..10));
    let mut batches = Vec::new();
    assert_eq!(tail.read(Offset(0), 1, &mut batches), Some(Offset(5)));
}

#[test]
fn a_read_of_the_tail_ends_at_a_gap() {
    let mut tail = Tail::default();
    tail.push(tail_batch(0..5));
    tail.push(tail_batch(7..10));
    let mut batches = Vec::new();
    assert_eq!(tail.read(Offset(0), 1_000, &mut batches), Some(Offset(5)));
    assert!(!tail.covers(Offset(6)) && tail.covers(Offset(7)));
    assert_eq!(tail.read(Offset(6), 1_000, &mut Vec::new()), None);
}

#[test]
fn only_what_a_segment_has_leaves_the_tail() {
    let mut tail = Tail::default();
    tail.push(tail_batch(0..5));
    tail.push(tail_batch(5..10));
    tail.mark_flushed(Lsn(5));
    tail.evict(Lsn(10));
    assert_eq!(tail.base_offset(), Some(Offset(5)));
    assert_eq!(tail.unflushed_bytes(), 100);
}

#[test]
fn as_many_runs_behind_one_as_have_the_bytes_asked_for() {
    let mut partition = Partition::new(KEY);
    let runs: Vec<Run> = (0..5)
        .map(|number| run(10 * number..10 * number + 10, 100, 0))
        .collect();
    for run in &runs {
        partition.add_run(*run);
    }
    assert_eq!(partition.runs_behind(&runs[0], 0, 9), []);
    assert_eq!(partition.runs_behind(&runs[0], 100, 9), runs[1..2]);
    assert_eq!(partition.runs_behind(&runs[0], 101, 9), runs[1..3]);
    assert_eq!(partition.runs_behind(&runs[1], 1_000, 9), runs[2..]);
    assert_eq!(partition.runs_behind(&runs[1], 1_000, 2), runs[2..4]);
    assert_eq!(partition.runs_behind(&runs[4], 1_000, 9), []);
}
