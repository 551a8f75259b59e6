//! The flusher and retention on the simulated disk.

#![allow(clippy::unwrap_used, reason = "tests")]

mod clocks;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gannet_wire::batch::{BatchLimits, CheckDepth, CheckScratch, check_batch};
use gannet_wire::frame::{Durability, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex, ShardIndex, TopicId};

use super::*;
use crate::control::catalogue::{CatalogueState, Layout, Topic};
use crate::io::sim::{CrashPolicy, SimClock, SimDisk, SimExecutor};
use crate::partition::ProducerLimits;
use crate::shard::log::{CheckedBatch, LogConfig};
use crate::shard::read::ReadCursor;
use crate::shard::recover::{ShardIdentity, lay_out};
use crate::shard::slot::{Completion, CompletionSink, Outcome};
use crate::shard::start::{LogTasks, start_log};
use crate::storage::layout::DataDir;
use crate::storage::sample::batch_of;
use crate::storage::segment::SegmentIds;

type SimLog = ShardLog<SimDisk, SimClock>;

pub(in crate::shard) const HOUR: Duration = Duration::from_secs(60 * 60);
/// A topic that keeps everything, and one that keeps an hour.
pub(in crate::shard) const KEEPS: u64 = 1;
pub(in crate::shard) const EXPIRES: u64 = 2;

#[derive(Default)]
struct Answers(RefCell<Vec<Outcome>>);

impl CompletionSink for Answers {
    fn complete(&self, _: u64, outcome: Outcome) {
        self.0.borrow_mut().push(outcome);
    }
}

pub(in crate::shard) struct World {
    pub(in crate::shard) executor: SimExecutor,
    pub(in crate::shard) disk: SimDisk,
    pub(in crate::shard) log: Rc<SimLog>,
    pub(in crate::shard) tasks: Rc<LogTasks>,
    answers: Rc<Answers>,
    pub(in crate::shard) failures: Rc<RefCell<Vec<StorageError>>>,
}

fn config() -> LogConfig {
    LogConfig {
        journal_file_bytes: 256 << 10,
        commit_bytes_max: 64 << 10,
        commits_in_flight_max: 2,
        commit_gather_bytes: 16 << 10,
        commit_interval: Duration::ZERO,
        mark_interval: Duration::from_millis(10),
        unflushed_bytes_max: 4 << 20,
        flush_bytes: 1 << 20,
        flush_interval: Duration::from_secs(5),
        flush_round_bytes_max: 4 << 20,
        own_segment_bytes_min: 64 << 10,
        direct_bytes_min: 32 << 10,
        direct_chunk_bytes_max: 64 << 10,
        directs_in_flight_max: 2,
        segment_bytes_max: 1 << 20,
        merge_segments_min: 3,
        merge_interval: Duration::from_secs(60),
        checkpoint_bytes_min: 1 << 20,
        flush_write_bytes: 64 << 10,
        flush_writes_in_flight_max: 2,
        tail_cache_bytes: 0,
        read_chunk_bytes: 64 << 10,
        read_cache_bytes: 1 << 20,
        open_files_max: 12,
        disk_reserve_bytes: 64 << 10,
        trust_wall_clock: false,
        producers: ProducerLimits {
            inflight_max: 5,
            expiry_ms: 1_000_000,
            producers_max: 100,
        },
    }
}

fn catalogue() -> CatalogueState {
    let topic = |id, retention| Topic {
        id: TopicId(id),
        name: format!("topic-{id}"),
        partitions: 4,
        settings: TopicSettings {
            retention_ms: retention,
            ..TopicSettings::default()
        },
    };
    let topics = [topic(KEEPS, None), topic(EXPIRES, Some(60 * 60 * 1000))];
    CatalogueState {
        names: topics
            .iter()
            .map(|topic| (topic.name.clone(), topic.id))
            .collect(),
        topics: topics
            .into_iter()
            .map(|topic| (topic.id, Arc::new(topic)))
            .collect::<BTreeMap<_, _>>(),
        next_topic: TopicId(3),
        incarnation: 1,
        layout: Layout {
            number: 1,
            shards: 1,
            incarnation: 1,
        },
        broker_id: 1,
    }
}

impl World {
    pub(in crate::shard) fn new() -> Self {
        let executor = SimExecutor::new(7);
        let disk = SimDisk::new(&executor);
        let data = DataDir::new("/data");
        let laid_out = lay_out(&disk, &data, Vec::new(), catalogue().layout);
        executor.block_on(laid_out).unwrap();
        Self::start(executor, disk, 1)
    }

    pub(in crate::shard) fn start(executor: SimExecutor, disk: SimDisk, incarnation: u32) -> Self {
        let mut state = catalogue();
        state.incarnation = incarnation;
        let identity = ShardIdentity {
            shard: ShardIndex(0),
            layout: state.layout,
            incarnation,
        };
        let recovered = SimLog::recover(
            disk.clone(),
            executor.clock(),
            DataDir::new("/data"),
            config(),
            &identity,
            &state,
        );
        let (log, _) = executor.block_on(recovered).unwrap();
        let failures = Rc::new(RefCell::new(Vec::new()));
        let tasks = start_log(&log, &executor.spawner(), {
            let failures = failures.clone();
            move |error| failures.borrow_mut().push(error)
        });
        Self {
            executor,
            disk,
            log,
            tasks,
            answers: Rc::default(),
            failures,
        }
    }

    /// The next life on the same disk.
    pub(in crate::shard) fn killed(self) -> Self {
        self.crashed(CrashPolicy::KeepSynced)
    }

    pub(in crate::shard) fn crashed(self, policy: CrashPolicy) -> Self {
        let Self {
            executor,
            disk,
            log,
            ..
        } = self;
        let incarnation = SegmentIds::incarnation_of(log.segments.skip_id()) + 1;
        executor.crash();
        drop(log);
        disk.crash(policy);
        Self::start(executor, disk, incarnation)
    }

    pub(in crate::shard) fn slot(&self, topic: u64, partition: u32) -> Rc<Slot> {
        let key = PartitionKey {
            topic: TopicId(topic),
            partition: PartitionIndex(partition),
        };
        self.log.slot(key).unwrap()
    }

    /// Publishes one record, and gives it the time to become durable.
    pub(in crate::shard) fn publish(&self, topic: u64, partition: u32, value_bytes: usize) {
        self.send(topic, partition, value_bytes);
        self.run(Duration::from_millis(50));
    }

    pub(in crate::shard) fn send(&self, topic: u64, partition: u32, value_bytes: usize) {
        self.send_batch(topic, partition, batch_of(1, value_bytes, None));
    }

    fn send_batch(&self, topic: u64, partition: u32, bytes: Bytes) {
        let header = check_batch(
            &bytes,
            &BatchLimits::default(),
            CheckDepth::Full,
            &mut CheckScratch::new(),
        )
        .unwrap();
        let completion = Completion::new(self.answers.clone(), 0);
        self.log.publish(
            &self.slot(topic, partition),
            CheckedBatch { bytes, header },
            Durability::Durable,
            completion,
        );
    }

    pub(in crate::shard) fn run(&self, time: Duration) {
        self.executor.run_for(time);
    }

    /// Long enough for the flusher to find everything old.
    pub(in crate::shard) fn flushed(&self) {
        self.run(Duration::from_secs(10));
    }

    pub(in crate::shard) fn acknowledged(&self) -> usize {
        let answers = self.answers.0.borrow();
        let published = |outcome: &&Outcome| matches!(outcome, Outcome::Published { .. });
        answers.iter().filter(published).count()
    }

    pub(in crate::shard) fn refused(&self) -> usize {
        let answers = self.answers.0.borrow();
        let full = |outcome: &&Outcome| matches!(outcome, Outcome::Failed(error) if error.code == ErrorCode::DiskFull);
        answers.iter().filter(full).count()
    }

    /// Files below a directory of the data with their lengths.
    pub(in crate::shard) fn files(&self, dir: &str, suffix: &str) -> Vec<(PathBuf, u64)> {
        let dir = PathBuf::from("/data").join(dir);
        let mut files = self.disk.list_tree();
        files
            .retain(|(path, _)| path.starts_with(&dir) && path.to_string_lossy().ends_with(suffix));
        files
    }

    pub(in crate::shard) fn used(&self) -> u64 {
        self.disk.list_tree().iter().map(|(_, bytes)| bytes).sum()
    }

    /// How many records there are from the log's start on.
    pub(in crate::shard) fn count(&self, topic: u64, partition: u32) -> u64 {
        let slot = self.slot(topic, partition);
        let start = slot.state.borrow().log_start();
        let mut cursor = ReadCursor::at(start);
        loop {
            let read = self.log.read(&slot, &mut cursor, 1 << 20);
            match self.executor.block_on(read) {
                Ok(batches) if batches.is_empty() => return cursor.offset.0 - start.0,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(in crate::shard) fn assert_sound(&self) {
        let failures = self.failures.borrow();
        assert!(failures.is_empty(), "{failures:?}");
    }
}

#[test]
fn a_trickle_goes_to_one_shared_segment_that_takes_no_more_room_than_it_holds() {
    let world = World::new();
    for _ in 0..30 {
        world.publish(KEEPS, 0, 100);
        world.publish(KEEPS, 1, 100);
        world.flushed();
    }
    let segments = world.files("shared", ".seg");
    assert_eq!(segments.len(), 1, "{segments:?}");
    // The header's block, and one for each round: now and then one falls between the two of a turn.
    let blocks = segments[0].1 / 4096;
    assert!((31..=36).contains(&blocks), "{segments:?}");
    assert_eq!((world.count(KEEPS, 0), world.count(KEEPS, 1)), (30, 30));
    world.assert_sound();
}

#[test]
fn a_shared_segment_that_is_still_written_to_is_read_like_any_other_after_a_crash() {
    let world = World::new();
    for _ in 0..5 {
        world.publish(KEEPS, 0, 100);
        world.publish(KEEPS, 1, 100);
        world.flushed();
    }
    let world = world.killed();
    assert_eq!((world.count(KEEPS, 0), world.count(KEEPS, 1)), (5, 5));
    world.publish(KEEPS, 0, 100);
    world.flushed();
    assert_eq!(world.count(KEEPS, 0), 6);
    world.assert_sound();
}

#[test]
fn shared_segments_of_a_topic_that_expires_go_although_the_trickle_goes_on() {
    let world = World::new();
    for _ in 0..60 {
        world.publish(EXPIRES, 0, 100);
        world.run(HOUR / 20);
    }
    let kept = world.count(EXPIRES, 0);
    // An hour's records, and those of the segment that is being written: an eighth of the hour.
    assert!((20..=24).contains(&kept), "{kept} records are left");
    assert!(world.files("shared", ".seg").len() <= 12);
    world.assert_sound();
}

#[test]
fn a_segment_gives_back_what_was_reserved_ahead_when_it_is_sealed() {
    let world = World::new();
    for _ in 0..3 {
        world.publish(KEEPS, 0, 40 << 10);
    }
    let open: u64 = world
        .files("topics", ".seg")
        .iter()
        .map(|(_, bytes)| bytes)
        .sum();
    assert!(open >= 1 << 20, "nothing is reserved ahead");
    world.log.stop();
    world.executor.block_on(world.tasks.ended());
    let sealed = world.files("topics", ".seg");
    assert!(!sealed.is_empty());
    for (path, bytes) in sealed {
        assert!(bytes <= 200 << 10, "{path:?} has {bytes} bytes");
    }
    assert_eq!(world.count(KEEPS, 0), 3);
    world.assert_sound();
}

#[test]
fn retention_goes_on_while_the_disk_is_full_and_makes_the_room_that_publishing_needs() {
    let world = World::new();
    for _ in 0..40 {
        world.publish(EXPIRES, 0, 40 << 10);
    }
    world.flushed();
    world.publish(KEEPS, 0, 1_000);
    let acknowledged = world.acknowledged();
    // From here on there is no room at all, not even for what is in the journal.
    world.disk.set_capacity(world.used());
    world.run(Duration::from_secs(30));
    world.send(KEEPS, 0, 1_000);
    world.run(Duration::from_secs(1));
    assert_eq!((world.acknowledged(), world.refused()), (acknowledged, 1));
    assert_eq!(world.count(EXPIRES, 0), 40, "reading goes on");
    let full = world.used();
    world.run(HOUR + Duration::from_secs(60));
    assert_eq!(world.count(EXPIRES, 0), 0);
    assert!(world.used() + (1 << 20) < full, "nothing was freed");
    world.publish(KEEPS, 0, 1_000);
    assert_eq!(world.acknowledged(), acknowledged + 1);
    assert_eq!(world.count(KEEPS, 0), 2);
    world.assert_sound();
}

#[test]
fn a_stop_on_a_full_disk_ends_and_leaves_to_the_next_start_what_is_in_the_journal() {
    let world = World::new();
    for partition in 0..4 {
        world.publish(KEEPS, partition, 20 << 10);
    }
    let acknowledged = world.acknowledged();
    assert_eq!(acknowledged, 4);
    world.disk.set_capacity(world.used());
    world.log.stop();
    world.run(Duration::from_secs(5));
    // It ended by now, or this never returns.
    world.executor.block_on(world.tasks.ended());
    world.assert_sound();
    world.disk.set_capacity(u64::MAX);
    let world = world.killed();
    for partition in 0..4 {
        assert_eq!(world.count(KEEPS, partition), 1);
    }
}

#[test]
fn publishes_that_wait_for_a_journal_file_on_a_full_disk_do_not_keep_a_stop_from_ending() {
    let world = World::new();
    world.publish(KEEPS, 0, 1_000);
    world.disk.set_capacity(world.used());
    // More than the journal has room for, all before anybody looks at the disk again.
    for _ in 0..40 {
        world.send(KEEPS, 1, 20 << 10);
    }
    world.run(Duration::from_secs(5));
    let acknowledged = world.acknowledged();
    assert!(acknowledged < 41, "the disk was not full");
    world.log.stop();
    world.run(Duration::from_secs(5));
    world.executor.block_on(world.tasks.ended());
    world.assert_sound();
    world.disk.set_capacity(u64::MAX);
    let world = world.killed();
    assert_eq!(world.count(KEEPS, 0), 1);
    assert!(world.count(KEEPS, 1) as usize + 1 >= acknowledged);
}

#[test]
fn no_more_is_taken_than_there_was_room_for_at_the_last_look() {
    let world = World::new();
    world.publish(KEEPS, 0, 100);
    world.flushed();
    let room = 512 << 10;
    world
        .disk
        .set_capacity(world.used() + config().disk_reserve_bytes + room);
    world.run(Duration::from_secs(2));
    // In one moment, before the disk's room is looked at again.
    for _ in 0..100 {
        world.send(KEEPS, 1, 20 << 10);
    }
    let refused = world.refused() as u64;
    let taken = (100 - refused) * (20 << 10);
    assert!(refused > 0 && taken > 0, "{refused} of 100 were refused");
    assert!(taken <= room + (20 << 10), "{taken} bytes were taken");
    world.run(Duration::from_secs(30));
    world.assert_sound();
}

#[test]
fn a_segment_that_a_chunk_is_on_its_way_to_outlives_its_last_run() {
    let world = World::new();
    world.publish(EXPIRES, 0, 40 << 10);
    assert_eq!(
        world.files("topics", ".seg").len(),
        1,
        "it went straight to a segment"
    );
    world.flushed();
    world.run(HOUR - Duration::from_secs(11));
    // From here on everything takes so long that retention is done before the chunk is.
    let slow = Duration::from_secs(10);
    world.disk.set_latency(slow, slow);
    world.send(EXPIRES, 0, 40 << 10);
    world.run(Duration::from_secs(300));
    world
        .disk
        .set_latency(Duration::ZERO, Duration::from_micros(100));
    world.run(Duration::from_secs(60));
    assert_eq!(world.slot(EXPIRES, 0).state.borrow().log_start(), Offset(1));
    assert_eq!(world.acknowledged(), 2);
    assert_eq!(world.count(EXPIRES, 0), 1);
    let world = world.killed();
    assert_eq!(world.count(EXPIRES, 0), 1);
    world.assert_sound();
}

/// At every step of a round: the next one must not find what the reader took for the end of the segment.
#[test]
fn a_shared_segment_that_is_read_while_a_round_writes_to_it_holds_that_round_afterwards() {
    for steps in 0..80 {
        let world = World::new();
        world.publish(KEEPS, 0, 100);
        world.flushed();
        // A segment of its own comes first in the round, after room was made for both.
        for _ in 0..5 {
            world.publish(EXPIRES, 0, 20 << 10);
        }
        world.publish(KEEPS, 1, 100);
        world.log.want_flush();
        world.executor.run_steps(steps);
        // It opens the file for this, and keeps the chunk.
        assert_eq!(world.count(KEEPS, 0), 1);
        world.run(Duration::from_millis(500));
        world.log.recent.evict(0);
        assert_eq!(world.count(KEEPS, 1), 1, "after {steps} steps");
        world.assert_sound();
    }
}

#[test]
fn a_segment_of_one_partition_is_sealed_after_an_eighth_of_its_retention_whatever_its_size() {
    let world = World::new();
    // Both ways to a segment of its own: a lone large batch goes straight there.
    for _ in 0..40 {
        world.publish(EXPIRES, 0, 40 << 10);
        for _ in 0..4 {
            world.publish(EXPIRES, 1, 20 << 10);
        }
        world.run(HOUR / 20);
    }
    for (partition, each) in [(0, 1), (1, 4)] {
        let kept = world.count(EXPIRES, partition);
        // An hour's records, those of the segment that is being written, and of a look that comes a little later.
        assert!(
            (19 * each..=24 * each).contains(&kept),
            "{kept} records are left of partition {partition}"
        );
    }
    world.assert_sound();
}

#[test]
fn an_idle_segment_is_sealed_too_and_gives_back_what_was_reserved_ahead() {
    let world = World::new();
    world.publish(EXPIRES, 0, 40 << 10);
    world.run(HOUR / 8 + Duration::from_secs(5));
    let segments = world.files("topics", ".seg");
    assert_eq!(segments.len(), 1);
    assert!(segments[0].1 <= 48 << 10, "{segments:?}");
    assert_eq!(world.files("topics", ".idx").len(), 1);
    world.assert_sound();
}

#[test]
fn a_seek_in_a_segment_that_is_written_to_asks_its_index_even_in_the_middle_of_a_round() {
    let world = World::new();
    for round in 0..3 {
        // Not in the order of keys: each round begins anew.
        for partition in [0, 1, 2] {
            for _ in 0..3 {
                world.publish(KEEPS, partition, 10 << 10);
            }
        }
        world.flushed();
        world.log.recent.evict(0);
        for steps in 0..20 {
            world.publish(KEEPS, 3, 100);
            world.log.want_flush();
            world.executor.run_steps(steps);
            let slot = world.slot(KEEPS, 1);
            let offset = Offset(3 * round + 1);
            let run = *slot.state.borrow().runs().back().unwrap();
            assert!(run.base_offset < offset && offset < run.next_offset);
            let place = world.log.open_index_place(&slot, &run, offset);
            assert!(place.is_some(), "round {round}, {steps} steps");
        }
    }
    world.assert_sound();
}

#[test]
fn a_start_looks_at_no_more_partitions_a_round_than_any_other_time() {
    let world = World::new();
    world.publish(EXPIRES, 0, 100);
    world.flushed();
    let world = world.killed();
    // Nothing is due before its time.
    assert!(!world.log.expiry_due());
    world.run(HOUR + Duration::from_secs(5));
    assert_eq!(world.count(EXPIRES, 0), 0);
    world.assert_sound();
}
