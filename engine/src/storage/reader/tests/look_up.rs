//! Where to begin, by an offset or a time: what an index says, and one that is made again where there is none.

use gannet_wire::LeaderEpoch;
use gannet_wire::batch::stamp;

use super::*;
use crate::io::sim::{Fault, FaultKind};

impl World {
    fn seek(
        &self,
        reader: &SegmentReader<SimDisk>,
        run: &Run,
        offset: u64,
    ) -> Result<Place, ReadFault> {
        let sought = reader.seek(KEY, run, Offset(offset), None);
        self.executor.block_on(sought)
    }
}

#[test]
fn a_missing_index_is_made_again_from_the_batches() {
    let world = World::new(&[70_000, 70_000, 70_000]);
    let place = world.seek(&world.reader(), &world.run, 4).unwrap();
    assert_eq!(place.position, world.batches[2].0);
}

#[test]
fn an_index_is_made_again_of_what_stands_behind_damage_too() {
    let world = World::new(&[70_000; 5]);
    world.flip(1, 90, 0);
    let place = world.seek(&world.reader(), &world.run, 8).unwrap();
    assert_eq!(place.position, world.batches[4].0);
}

#[test]
fn an_index_made_again_for_one_run_leaves_those_of_the_others() {
    let world = World::new(&[70_000; 6]);
    let reader = world.reader_of(0);
    let seek = |run: &Run| {
        let last = run.next_offset.0 - 1;
        world.seek(&reader, run, last).unwrap();
    };
    let halves = [world.run_of(0..3), world.run_of(3..6)];
    halves.iter().for_each(seek);
    let reads = world.disk_reads();
    halves.iter().for_each(seek);
    assert_eq!(world.disk_reads(), reads, "both are known");
}

#[test]
fn an_index_that_cannot_be_opened_for_now_is_not_made_again() {
    let world = World::new(&[70_000; 3]).with_index();
    let reader = world.reader();
    let errno = libc::EMFILE;
    world.disk.inject(Fault::new(FaultKind::Open { errno }));
    let sought = world.seek(&reader, &world.run, 4);
    assert!(matches!(sought, Err(ReadFault::Storage(_))));
    let place = world.seek(&reader, &world.run, 4).unwrap();
    assert_eq!(place.position, world.batches[2].0);
}

#[test]
fn a_look_up_by_append_time_reads_a_few_batches_only() {
    let batches = (0u64..64).map(|number| {
        let mut batch = pair(40_000, 2 * number);
        let epoch = LeaderEpoch(0);
        let (offset, time) = (Offset(2 * number), Timestamp(number as i64));
        stamp(&mut batch, KEY.topic, KEY.partition, offset, time, epoch);
        batch
    });
    let world = World::of_one_write(batches).with_index();
    for wanted in [0, 1, 17, 63] {
        let reader = world.reader();
        let reads = world.disk_reads();
        let sought = reader.seek_append_time(KEY, &world.run, Timestamp(wanted), None);
        let place = world.executor.block_on(sought).unwrap();
        // A point for each batch here: the last one before the first that is wanted.
        assert_eq!(place.offset, Offset(2 * (wanted as u64).saturating_sub(1)));
        assert!(world.disk_reads() - reads < 20, "far from 80 chunks");
    }
}
