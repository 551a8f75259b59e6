#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::io::sim::{SimDisk, SimExecutor};
use crate::storage::SegmentId;
use crate::storage::sample::{KEY, TIME, stamped};
use crate::storage::segment::FIRST_BATCH_POSITION;

const SEGMENT: SegmentRef = SegmentRef {
    id: SegmentId(5),
    shared: false,
};

/// A segment of [`KEY`] with one batch of two records for each length of a value.
struct World {
    executor: SimExecutor,
    disk: SimDisk,
    run: Run,
    /// Where each batch begins.
    batches: Vec<u64>,
}

impl World {
    fn new(values: &[usize]) -> Self {
        let executor = SimExecutor::new(1);
        let disk = SimDisk::new(&executor);
        let mut bytes = vec![0; BLOCK_BYTES];
        SegmentHeader {
            id: SEGMENT.id,
            owner: Some(KEY),
        }
        .write(&mut bytes);
        let mut batches = Vec::new();
        for (index, value_bytes) in (0u64..).zip(values) {
            batches.push(bytes.len() as u64);
            bytes.extend_from_slice(&stamped(2, *value_bytes, 2 * index));
            bytes.resize(aligned_bytes(bytes.len()), 0);
        }
        let end = bytes.len() as u64;
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        disk.write_file(&path(), &bytes);
        let run = Run {
            segment: SEGMENT,
            base_offset: Offset(0),
            next_offset: Offset(2 * values.len() as u64),
            position: FIRST_BATCH_POSITION,
            end,
            max_timestamp: TIME,
            append_time: TIME,
        };
        Self {
            executor,
            disk,
            run,
            batches,
        }
    }

    fn reader(&self) -> SegmentReader<SimDisk> {
        SegmentReader::new(
            self.disk.clone(),
            DataDir::new("/data"),
            64 << 10,
            1 << 20,
            4,
        )
    }

    /// The base offsets of all batches from `offset` on, and the fence if that is how it ends.
    fn read_from(&self, offset: u64) -> (Vec<u64>, Option<Fence>) {
        let reader = self.reader();
        let mut bases = Vec::new();
        let (mut position, mut offset) = (self.run.position, Offset(offset));
        while offset < self.run.next_offset {
            let read = reader.read(KEY, &self.run, position, offset);
            match self.executor.block_on(read) {
                Ok(read) => {
                    assert!(read.next_offset > offset, "a read goes on");
                    for batch in &read.batches {
                        let header = verify_stamped(&batch.bytes, KEY.topic, KEY.partition);
                        bases.push(header.unwrap().base_offset().0);
                    }
                    (position, offset) = (read.next_position, read.next_offset);
                }
                Err(ReadFault::Damaged(fence)) => return (bases, Some(fence)),
                Err(error) => panic!("{error}"),
            }
        }
        (bases, None)
    }
}

fn path() -> std::path::PathBuf {
    DataDir::new("/data").segment(Some(KEY), SEGMENT.id)
}

fn fence(from: u64, to: u64) -> Fence {
    Fence {
        from: Offset(from),
        to: Offset(to),
    }
}

#[test]
fn batches_are_read_in_order() {
    assert_eq!(
        World::new(&[10, 3_000, 10]).read_from(0),
        (vec![0, 2, 4], None)
    );
}

#[test]
fn reading_begins_with_the_batch_that_holds_the_offset() {
    assert_eq!(World::new(&[10, 10, 10]).read_from(3), (vec![2, 4], None));
}

#[test]
fn a_batch_larger_than_a_chunk_is_read_whole() {
    assert_eq!(
        World::new(&[10, 200_000, 10]).read_from(0),
        (vec![0, 2, 4], None)
    );
}

#[test]
fn a_damaged_batch_ends_the_read_with_a_fence_from_there_on() {
    let world = World::new(&[10, 10, 10]);
    world.disk.flip_bit(&path(), world.batches[1] + 90, 0);
    assert_eq!(world.read_from(0), (vec![0], Some(fence(2, 6))));
}

#[test]
fn a_length_that_reaches_behind_the_run_ends_the_read() {
    // Any bit of the last batch's length: the read must neither go on for ever nor leave the run.
    for bit in 0..32 {
        let world = World::new(&[10, 10]);
        world
            .disk
            .flip_bit(&path(), world.batches[1] + bit / 8, (bit % 8) as u32);
        assert_eq!(
            world.read_from(0),
            (vec![0], Some(fence(2, 4))),
            "bit {bit}"
        );
    }
}

#[test]
fn a_segment_cut_short_ends_the_read() {
    let world = World::new(&[10, 9_000]);
    world.disk.set_file_bytes(&path(), 2 * BLOCK_BYTES as u64);
    assert_eq!(world.read_from(0), (vec![0], Some(fence(2, 4))));
}

#[test]
fn a_batch_of_another_partition_is_not_read() {
    let world = World::new(&[10]);
    let other = PartitionKey {
        partition: gannet_wire::PartitionIndex(KEY.partition.0 + 1),
        ..KEY
    };
    let bytes = world.disk.read_file(&path()).unwrap();
    world.disk.write_file(
        &DataDir::new("/data").segment(Some(other), SEGMENT.id),
        &bytes,
    );
    let read = world.executor.block_on(world.reader().read(
        other,
        &world.run,
        FIRST_BATCH_POSITION,
        Offset(0),
    ));
    assert!(matches!(read, Err(ReadFault::Damaged(_))));
}

#[test]
fn a_missing_index_is_made_again_from_the_batches() {
    let world = World::new(&[70_000, 70_000, 70_000]);
    let position = world
        .executor
        .block_on(world.reader().seek(KEY, &world.run, Offset(4), None));
    assert_eq!(position.unwrap(), world.batches[2]);
}

#[test]
fn what_is_in_a_cache_is_got_back() {
    let mut cache = Cache::new(10);
    cache.insert(1, "one", 4);
    assert_eq!((cache.get(&1), cache.get(&2)), (Some("one"), None));
}

#[test]
fn a_full_cache_lets_go_of_what_was_not_used_longest() {
    let mut cache = Cache::new(3);
    for key in 1..=3 {
        cache.insert(key, key, 1);
    }
    cache.get(&1);
    cache.insert(4, 4, 1);
    let kept: Vec<i32> = (1..=4).filter_map(|key| cache.get(&key)).collect();
    assert_eq!(kept, [1, 3, 4]);
}

#[test]
fn a_large_entry_makes_room_of_many_small_ones() {
    let mut cache = Cache::new(10);
    for key in 1..=5 {
        cache.insert(key, key, 2);
    }
    cache.insert(6, 6, 7);
    assert_eq!(
        (cache.used, cache.get(&4), cache.get(&6)),
        (9, None, Some(6))
    );
}

#[test]
fn an_entry_that_is_inserted_again_is_counted_once() {
    let mut cache = Cache::new(10);
    cache.insert(1, "old", 6);
    cache.insert(1, "new", 5);
    assert_eq!((cache.used, cache.get(&1)), (5, Some("new")));
}

#[test]
fn what_costs_more_than_the_whole_cache_is_not_kept() {
    let mut cache = Cache::new(10);
    cache.insert(1, "small", 5);
    cache.insert(2, "huge", 11);
    assert_eq!(
        (cache.used, cache.get(&1), cache.get(&2)),
        (5, Some("small"), None)
    );
}

#[test]
fn an_entry_that_is_removed_costs_nothing_any_more() {
    let mut cache = Cache::new(10);
    cache.insert(1, (), 5);
    cache.insert(2, (), 5);
    cache.remove_where(|key| *key == 1);
    cache.remove(&7);
    assert_eq!(
        (cache.used, cache.get(&1), cache.get(&2)),
        (5, None, Some(()))
    );
    assert_eq!(cache.order.len(), 1);
}
