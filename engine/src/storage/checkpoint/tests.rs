#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::io::BLOCK_BYTES;

const BLOCK: u64 = BLOCK_BYTES as u64;

fn run(segment: u64, offsets: std::ops::Range<u64>, block: u64) -> RunRecord {
    RunRecord {
        segment,
        shared: false,
        base_offset: offsets.start,
        next_offset: offsets.end,
        position: block * BLOCK,
        end: (block + 1) * BLOCK - 100,
        max_timestamp: 5,
        append_time: 6,
    }
}

fn partition(topic: u64, runs: Vec<RunRecord>) -> PartitionRecord {
    PartitionRecord {
        topic,
        next_offset: runs.iter().map(|run| run.next_offset).max().unwrap_or(0),
        runs,
        ..PartitionRecord::default()
    }
}

fn record(partitions: Vec<PartitionRecord>) -> CheckpointRecord {
    CheckpointRecord {
        version: CHECKPOINT_VERSION,
        partitions,
        ..CheckpointRecord::default()
    }
}

/// The state after these records.
fn folded(records: Vec<CheckpointRecord>) -> CheckpointState {
    let encoded: Vec<Vec<u8>> = records.iter().map(CheckpointRecord::encode).collect();
    CheckpointState::load(&encoded).unwrap()
}

/// The offsets of the runs of a topic's first partition.
fn runs(state: &CheckpointState, topic: u64) -> Vec<(u64, u64)> {
    let key = partition(topic, Vec::new()).key();
    state.partitions[&key]
        .runs
        .iter()
        .map(|run| (run.base_offset, run.next_offset))
        .collect()
}

fn full_record() -> CheckpointRecord {
    CheckpointRecord {
        version: CHECKPOINT_VERSION,
        flushed_lsn: 3,
        durable_lsn: 5,
        generation: 2,
        append_clock_ms: 1_000,
        cuts: vec![(2, 4, 6)],
        partitions: vec![PartitionRecord {
            topic: 7,
            partition: 1,
            log_start: 10,
            next_offset: 30,
            leader_epoch: 2,
            fences: vec![(12, 14)],
            runs: vec![run(1, 10..30, 1)],
            producers: vec![ProducerRecord {
                id: 9,
                epoch: 1,
                last_append: 1_000,
                window: vec![WindowRecord {
                    base_sequence: 4,
                    record_count: 2,
                    base_offset: 28,
                    append_time: 900,
                }],
            }],
            committed: vec![CommittedRecord {
                group: "group".into(),
                offset: 11,
                metadata: "note".into(),
                lsn: 3,
            }],
        }],
        topics_dropped: Vec::new(),
        clock: ClockRecord {
            behind_from_ms: Some(900),
            jumps: vec![(100, 200, 5_000)],
        },
    }
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let record = full_record();
    assert_eq!(CheckpointRecord::decode(&record.encode()), Ok(record));
}

#[test]
fn a_record_of_version_1_says_nothing_of_jumps() {
    let mut record = full_record();
    record.version = 1;
    let bytes = record.encode();
    record.clock = ClockRecord::default();
    assert_eq!(CheckpointRecord::decode(&bytes), Ok(record));
}

#[test]
fn what_the_clock_remembers_comes_back_from_the_newest_record() {
    let state = folded(vec![record(Vec::new()), full_record()]);
    assert_eq!(state.behind.from_ms, Some(900));
    assert_eq!(state.behind.jumps.len(), 1);
}

#[test]
fn a_newer_version_is_refused() {
    let mut record = full_record();
    record.version = CHECKPOINT_VERSION + 1;
    assert_eq!(
        CheckpointRecord::decode(&record.encode()),
        Err(CheckpointFault::Newer(CHECKPOINT_VERSION + 1))
    );
}

#[test]
fn a_record_cut_short_is_malformed() {
    let bytes = full_record().encode();
    assert_eq!(
        CheckpointRecord::decode(&bytes[1..]),
        Err(CheckpointFault::Malformed)
    );
    assert_eq!(
        CheckpointRecord::decode(&[]),
        Err(CheckpointFault::Malformed)
    );
}

#[test]
fn a_full_record_leads_to_the_state_it_was_made_from() {
    let state = folded(vec![full_record()]);
    assert_eq!(folded(vec![state.to_record()]), state);
}

#[test]
fn no_record_means_no_clock() {
    assert_eq!(folded(Vec::new()).append_clock_ms, None);
}

#[test]
fn the_newest_record_says_how_the_journal_stands() {
    let mut newer = full_record();
    newer.flushed_lsn = 9;
    newer.cuts = Vec::new();
    let state = folded(vec![full_record(), newer]);
    assert_eq!(state.journal.flushed_lsn, Lsn(9));
    assert!(state.journal.cuts.is_empty());
}

#[test]
fn a_cut_comes_back_as_it_was_decided() {
    let cut = Cut {
        generation: Generation(2),
        end_lsn: Lsn(4),
        seen_lsn: Lsn(6),
    };
    assert_eq!(folded(vec![full_record()]).journal.cuts, [cut]);
    assert_eq!(cut_records(&[cut]), [(2, 4, 6)]);
}

#[test]
fn a_partition_that_did_not_change_is_kept() {
    let state = folded(vec![
        record(vec![
            partition(1, vec![run(1, 0..5, 1)]),
            partition(2, vec![run(2, 0..9, 1)]),
        ]),
        record(vec![partition(2, vec![run(2, 9..12, 3)])]),
    ]);
    assert_eq!(runs(&state, 1), [(0, 5)]);
}

#[test]
fn new_runs_come_behind_those_that_are_known() {
    let state = folded(vec![
        record(vec![partition(1, vec![run(1, 0..5, 1)])]),
        record(vec![partition(1, vec![run(2, 5..8, 1)])]),
    ]);
    assert_eq!(runs(&state, 1), [(0, 5), (5, 8)]);
}

#[test]
fn a_run_that_goes_on_in_the_next_block_is_joined() {
    let state = folded(vec![
        record(vec![partition(1, vec![run(1, 0..5, 1)])]),
        record(vec![partition(1, vec![run(1, 5..8, 2)])]),
    ]);
    assert_eq!(runs(&state, 1), [(0, 8)]);
}

#[test]
fn a_run_that_grew_replaces_what_was_known_of_it() {
    let state = folded(vec![
        record(vec![partition(1, vec![run(1, 0..5, 1)])]),
        record(vec![partition(1, vec![run(1, 0..8, 1)])]),
    ]);
    assert_eq!(runs(&state, 1), [(0, 8)]);
}

#[test]
fn runs_wholly_before_the_log_start_are_gone() {
    let mut moved = partition(1, vec![run(3, 8..9, 1)]);
    moved.log_start = 6;
    let state = folded(vec![
        record(vec![partition(1, vec![run(1, 0..5, 1), run(2, 5..8, 1)])]),
        record(vec![moved]),
    ]);
    assert_eq!(runs(&state, 1), [(5, 8), (8, 9)]);
}

#[test]
fn what_is_not_a_run_is_replaced_and_not_added() {
    let mut newer = full_record();
    newer.partitions[0].fences = Vec::new();
    newer.partitions[0].committed[0].offset = 20;
    let state = folded(vec![full_record(), newer]);
    let partition = &state.partitions[&full_record().partitions[0].key()];
    assert!(partition.fences.is_empty());
    assert_eq!(
        (partition.committed.len(), partition.committed[0].offset),
        (1, 20)
    );
}

#[test]
fn a_topic_that_was_dropped_loses_all_its_partitions_and_no_others() {
    let mut second = partition(1, Vec::new());
    second.partition = 1;
    let mut drop = record(Vec::new());
    drop.topics_dropped = vec![1];
    let state = folded(vec![
        record(vec![
            partition(1, vec![run(1, 0..5, 1)]),
            second,
            partition(2, Vec::new()),
        ]),
        drop,
    ]);
    let topics: Vec<u64> = state.partitions.keys().map(|key| key.topic.0).collect();
    assert_eq!(topics, [2]);
}

#[test]
fn a_run_comes_back_from_its_record() {
    let record = run(4, 10..20, 3);
    assert_eq!(RunRecord::from(&record.to_run()), record);
}

#[test]
fn a_checkpoint_in_parts_says_the_same_and_each_part_is_within_its_bound() {
    let partitions: Vec<PartitionRecord> = (0..40)
        .map(|partition| PartitionRecord {
            topic: 3,
            partition,
            next_offset: u64::from(partition),
            runs: (0..partition % 7)
                .map(|id| run(id.into(), 0..10, 1))
                .collect(),
            producers: vec![ProducerRecord {
                id: 9,
                epoch: 1,
                last_append: 1_000,
                window: vec![
                    WindowRecord {
                        base_sequence: 4,
                        record_count: 2,
                        base_offset: 28,
                        append_time: 900,
                    };
                    partition as usize % 5
                ],
            }],
            committed: vec![CommittedRecord {
                group: "group".repeat(partition as usize % 3),
                offset: 11,
                metadata: "a note".into(),
                lsn: 3,
            }],
            ..PartitionRecord::default()
        })
        .collect();
    let record = CheckpointRecord {
        flushed_lsn: 5,
        durable_lsn: 6,
        generation: 2,
        append_clock_ms: 77,
        cuts: vec![(1, 2, 3)],
        partitions,
        topics_dropped: vec![3, 4],
        ..CheckpointRecord::default()
    };
    let head = CheckpointRecord {
        cuts: vec![(1, 2, 3)],
        ..CheckpointRecord::default()
    };
    let parts = record.clone().into_parts(2_000);
    assert!(parts.len() > 3);
    for part in &parts {
        let bytes = part.encode().len();
        assert!(bytes <= 2_000 + head.encode().len() + 64, "{bytes} bytes");
    }
    assert_eq!(folded(parts), folded(vec![record]));
}

#[test]
fn a_partition_that_is_larger_than_a_part_has_one_for_itself() {
    let record = CheckpointRecord {
        partitions: vec![PartitionRecord::default(), PartitionRecord::default()],
        ..CheckpointRecord::default()
    };
    assert_eq!(record.into_parts(1).len(), 2);
}

#[test]
fn producers_that_were_silent_for_too_long_leave_a_checkpoint() {
    let producer = |id, last_append| ProducerRecord {
        id,
        epoch: 0,
        last_append,
        window: Vec::new(),
    };
    let mut state = folded(vec![CheckpointRecord {
        partitions: vec![PartitionRecord {
            producers: vec![producer(1, 99), producer(2, 100)],
            ..PartitionRecord::default()
        }],
        ..CheckpointRecord::default()
    }]);
    state.drop_expired_producers(Timestamp(150), 50);
    let left: Vec<u64> = state
        .partitions
        .values()
        .flat_map(|partition| &partition.producers)
        .map(|producer| producer.id)
        .collect();
    assert_eq!(left, [2]);
}
