#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::io::sim::{CrashPolicy, Fault, FaultKind};
use crate::shard::flush::tests::{EXPIRES, HOUR, KEEPS, World};
use crate::shard::read::ReadCursor;

/// Rounds in which each partition gets a little, and a segment is sealed every ten minutes.
fn trickle(world: &World, minutes: u64) {
    for _ in 0..minutes {
        for partition in 0..3 {
            world.publish(KEEPS, partition, 300);
        }
        world.run(Duration::from_secs(60));
    }
}

fn runs(world: &World, topic: u64, partition: u32) -> usize {
    world.slot(topic, partition).state.borrow().runs().len()
}

fn counts(world: &World) -> [u64; 3] {
    [0, 1, 2].map(|partition| world.count(KEEPS, partition))
}

#[test]
fn a_trickle_leaves_few_runs_and_few_segments_and_all_its_records() {
    let world = World::new();
    trickle(&world, 600);
    // Sixty segments were sealed, with about ten runs of each partition in each.
    for partition in 0..3 {
        let runs = runs(&world, KEEPS, partition);
        assert!(runs <= 40, "partition {partition} has {runs} runs");
    }
    let segments = world.files("shared", ".seg").len() + world.files("topics", ".seg").len();
    assert!(segments <= 30, "{segments} segments are left");
    assert_eq!(counts(&world), [600; 3]);
    world.assert_sound();
    let world = world.killed();
    assert_eq!(counts(&world), [600; 3]);
}

#[test]
fn a_partition_that_has_gathered_enough_gets_a_segment_of_its_own() {
    let world = World::new();
    for _ in 0..60 {
        world.publish(KEEPS, 0, 4_000);
        world.publish(KEEPS, 1, 100);
        world.run(Duration::from_secs(60));
    }
    assert!(!world.files("topics", ".seg").is_empty());
    assert_eq!((world.count(KEEPS, 0), world.count(KEEPS, 1)), (60, 60));
    world.assert_sound();
    let world = world.killed();
    assert_eq!((world.count(KEEPS, 0), world.count(KEEPS, 1)), (60, 60));
}

#[test]
fn what_expires_gives_its_room_back_although_a_neighbour_stays() {
    let world = World::new();
    for _ in 0..30 {
        world.publish(EXPIRES, 0, 20 << 10);
        world.publish(KEEPS, 0, 100);
        world.run(Duration::from_secs(60));
    }
    let before: u64 = world
        .files("shared", ".seg")
        .iter()
        .map(|file| file.1)
        .sum();
    world.run(3 * HOUR);
    let after: u64 = world
        .files("shared", ".seg")
        .iter()
        .map(|file| file.1)
        .sum();
    assert_eq!((world.count(KEEPS, 0), world.count(EXPIRES, 0)), (30, 0));
    assert!(after < before / 4, "{after} of {before} bytes are left");
    world.assert_sound();
}

#[test]
fn runs_of_one_partition_that_expire_at_different_times_stay_apart() {
    let world = World::new();
    for _ in 0..60 {
        world.publish(EXPIRES, 0, 100);
        world.publish(KEEPS, 0, 100);
        world.run(HOUR / 20);
    }
    let kept = world.count(EXPIRES, 0);
    // An hour's records, those of the segment that is being written, and of what was merged with them: an eighth each.
    assert!((19..=25).contains(&kept), "{kept} records are left");
    assert_eq!(world.count(KEEPS, 0), 60);
    world.assert_sound();
}

#[test]
fn a_crash_at_any_step_of_a_merge_loses_nothing_and_leaves_nothing_that_is_read_twice() {
    let mut merged = 0;
    for steps in (0..600).step_by(7) {
        let world = World::new();
        trickle(&world, 35);
        // The fourth segment is sealed about now: the merge comes within a minute.
        world
            .executor
            .run_for(Duration::from_secs(60 * (steps % 5)));
        world.executor.run_steps(steps);
        let policy = [CrashPolicy::KeepSynced, CrashPolicy::Any][steps as usize % 2];
        merged += usize::from(runs(&world, KEEPS, 0) < 12);
        let world = world.crashed(policy);
        assert_eq!(counts(&world), [35; 3], "after {steps} steps");
        trickle(&world, 40);
        assert_eq!(counts(&world), [75; 3], "after {steps} steps");
        world.assert_sound();
    }
    assert!(merged > 0, "no merge came before a crash");
}

#[test]
fn a_reader_goes_on_where_a_merge_has_moved_what_it_reads() {
    let world = World::new();
    trickle(&world, 9);
    let slot = world.slot(KEEPS, 0);
    let mut cursor = ReadCursor::at(gannet_wire::Offset(0));
    let mut read = 0;
    while read < 100 {
        trickle(&world, 10);
        let batches = world.log.read(&slot, &mut cursor, 1);
        read += world.executor.block_on(batches).unwrap().len();
        assert_eq!(cursor.offset.0, read as u64);
    }
    world.assert_sound();
}

#[test]
fn what_cannot_be_read_stays_where_it_is() {
    let world = World::new();
    trickle(&world, 9);
    let (path, _) = world.files("shared", ".seg").remove(0);
    world.disk.flip_bit(&path, 4096 + 200, 3);
    trickle(&world, 120);
    // The first records are damaged, and reported as such; all others are there.
    let slot = world.slot(KEEPS, 0);
    let mut cursor = ReadCursor::at(gannet_wire::Offset(0));
    let first = world.log.read(&slot, &mut cursor, 1 << 20);
    assert!(world.executor.block_on(first).is_err());
    assert!(world.disk.read_file(&path).is_some());
    assert_eq!(world.count(KEEPS, 1), 129);
    world.assert_sound();
}

#[test]
fn a_merge_that_finds_no_room_is_given_up_and_tried_again() {
    let world = World::new();
    trickle(&world, 25);
    for _ in 0..3 {
        world
            .disk
            .inject(Fault::new(FaultKind::Allocate).at("/shared/"));
    }
    trickle(&world, 60);
    world.disk.clear_faults();
    trickle(&world, 60);
    assert_eq!(counts(&world), [145; 3]);
    assert!(runs(&world, KEEPS, 0) < 40);
    world.assert_sound();
}
