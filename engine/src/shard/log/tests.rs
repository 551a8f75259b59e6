#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::super::sample::{Life, World};
use super::super::slot::Outcome;
use super::*;
use crate::storage::sample::producer;

/// Runs until so many requests have an answer, and not a step longer.
fn run_until_answered(world: &World, life: &Life, answers: usize) {
    for _ in 0..1_000_000 {
        if life.outcomes.len() >= answers {
            return;
        }
        world.executor.run_steps(1);
    }
    panic!("{} of {answers} answers came", life.outcomes.len());
}

fn is_published(life: &Life, token: u64) -> bool {
    matches!(life.outcomes.of(token), Some(Outcome::Published { .. }))
}

#[test]
fn a_batch_that_no_commit_has_room_for_is_acknowledged_and_survives_a_kill_before_any_mark() {
    let mut world = World::new(1);
    world.config.journal_file_bytes = 16 << 20;
    world.config.commit_bytes_max = 1 << 20;
    world.config.direct_bytes_min = 16 << 20;
    world.config.direct_chunk_bytes_max = 64 << 20;
    world.config.segment_bytes_max = 64 << 20;
    let life = world.start();
    let token = life.publish(0, 1, 6 << 20, None);
    run_until_answered(&world, &life, 1);
    assert!(is_published(&life, token));
    world.kill_now(life);
    assert_eq!(world.start().next_offset(0), 1);
}

#[test]
fn what_the_journal_notes_of_a_chunk_of_many_tiny_batches_fits_into_commits() {
    let mut world = World::new(1);
    world.config.commit_bytes_max = 16 << 10;
    world.config.direct_bytes_min = 16 << 10;
    world.config.direct_chunk_bytes_max = 1 << 20;
    let life = world.start();
    for sequence in 0..2_000 {
        life.publish(0, 1, 8, Some(producer(1, 0, sequence)));
    }
    run_until_answered(&world, &life, 2_000);
    world.kill(life);
    let life = world.start();
    assert_eq!(life.next_offset(0), 2_000);
    // The table is whole: the newest batch is a duplicate, the one behind it is not.
    life.publish(0, 1, 8, Some(producer(1, 0, 1_999)));
    life.publish(0, 1, 8, Some(producer(1, 0, 2_000)));
    run_until_answered(&world, &life, 2);
    assert_eq!(life.next_offset(0), 2_001);
}

#[test]
fn a_partition_with_much_waiting_leaves_its_neighbours_their_part_of_a_commit() {
    let mut world = World::new(2);
    // Everything has to go through the journal.
    world.config.directs_in_flight_max = 0;
    world.config.commits_in_flight_max = 1;
    let life = world.start();
    let first = life.publish(0, 1, 2_000, None);
    for _ in 0..400 {
        life.publish(0, 1, 2_000, None);
    }
    let neighbour = life.publish(1, 1, 10, None);
    run_until_answered(&world, &life, 401);
    let place = life.outcomes.place(neighbour).unwrap();
    // One commit holds about 30 of them.
    assert!(place < 40, "{place} answers came before the neighbour's");
    assert_eq!(life.outcomes.place(first), Some(0));
}

#[test]
fn a_duplicate_is_acknowledged_with_the_append_time_of_its_original() {
    let world = World::new(1);
    let life = world.start();
    let time_of = |life: &Life, token| match life.outcomes.of(token) {
        Some(Outcome::Published { append_time, .. }) => append_time,
        other => panic!("{other:?}"),
    };
    let first = life.publish(0, 1, 8, Some(producer(1, 0, 0)));
    world.executor.run_for(Duration::from_secs(3));
    let again = life.publish(0, 1, 8, Some(producer(1, 0, 0)));
    run_until_answered(&world, &life, 2);
    let original = time_of(&life, first);
    assert_eq!(time_of(&life, again), original);
    world.kill(life);
    let life = world.start();
    world.executor.run_for(Duration::from_secs(3));
    let again = life.publish(0, 1, 8, Some(producer(1, 0, 0)));
    run_until_answered(&world, &life, 1);
    assert_eq!(time_of(&life, again), original);
}

#[test]
fn a_producer_that_sent_an_hour_ago_is_known_however_far_the_clock_jumped_since() {
    let world = World::new(1);
    let life = world.start();
    life.publish(0, 1, 8, None);
    world.stop(life);
    // Down for longer than a producer may be silent.
    world.executor.clock().jump_wall_ms(60 * 60 * 60 * 1000);
    let life = world.start();
    let first = life.publish(0, 1, 8, Some(producer(1, 0, 0)));
    run_until_answered(&world, &life, 1);
    assert!(is_published(&life, first));
    world.executor.run_for(Duration::from_secs(61 * 60));
    // The flush of the stop, and the start behind it, look at the table too.
    life.publish(0, 1, 8, None);
    world.stop(life);
    let life = world.start();
    let again = life.publish(0, 1, 8, Some(producer(1, 0, 0)));
    run_until_answered(&world, &life, 1);
    match life.outcomes.of(again) {
        Some(Outcome::Published { duplicate, .. }) => assert!(duplicate),
        other => panic!("{other:?}"),
    }
}

#[test]
fn commits_are_acknowledged_while_the_next_journal_file_finds_no_room() {
    let mut world = World::new(1);
    world.config.commits_in_flight_max = 8;
    // Everything goes through the journal, and what is there is all that there will be.
    world.config.directs_in_flight_max = 0;
    let life = world.start();
    world.settle();
    let used: u64 = world.disk.list_tree().iter().map(|(_, bytes)| bytes).sum();
    world.disk.set_capacity(used);
    let tokens: Vec<u64> = (0..40).map(|_| life.publish(0, 1, 20_000, None)).collect();
    world.executor.run_for(Duration::from_secs(30));
    let answered = tokens.iter().filter(|token| is_published(&life, **token));
    // A file of 256 KiB holds a dozen of them, in several commits.
    let answered = answered.count();
    assert!((10..40).contains(&answered), "{answered} were acknowledged");
    life.expect_healthy();
}

#[test]
fn what_is_being_written_counts_as_memory() {
    let mut world = World::new(1);
    world.config.unflushed_bytes_max = 100 << 10;
    // Nothing is written so quickly that it would be released meanwhile.
    world
        .disk
        .set_latency(Duration::from_secs(1), Duration::from_secs(1));
    let life = world.start();
    for _ in 0..3 {
        assert!(life.log.admits());
        for _ in 0..4 {
            life.publish(0, 1, 9_000, None);
        }
        world.executor.run_for(Duration::from_millis(10));
    }
    assert_eq!(life.outcomes.len(), 0);
    assert!(!life.log.admits());
}

/// After how many milliseconds something is answered that found a commit being written, while a batch is published every millisecond.
fn answered_after_ms(streams: bool, ask: impl FnOnce(&Life) -> u64) -> u64 {
    let mut world = World::new(1);
    world.config.commit_interval = Duration::from_millis(8);
    world.config.commit_gather_bytes = 64 << 10;
    let life = world.start();
    life.outcomes.streams.set(streams);
    life.publish(0, 1, 10, None);
    while !life.log.arrivals.is_empty() {
        world.executor.run_steps(1);
    }
    let waiting = ask(&life);
    for ms in 0..20 {
        if life.outcomes.of(waiting).is_some() {
            return ms;
        }
        life.publish(0, 1, 10, None);
        world.executor.run_for(Duration::from_millis(1));
    }
    panic!("it was not answered");
}

#[test]
fn a_stream_gathers_for_an_interval_and_who_waits_for_a_quarter_of_it() {
    let publish = |life: &Life| life.publish(0, 1, 10, None);
    let streamed = answered_after_ms(true, publish);
    assert!((7..=9).contains(&streamed), "{streamed} ms");
    let alone = answered_after_ms(false, publish);
    assert!((1..=3).contains(&alone), "{alone} ms");
}

#[test]
fn a_group_s_offset_does_not_wait_for_a_stream() {
    let waited = answered_after_ms(true, |life| life.commit_offset(0, "group", 1));
    assert!((1..=3).contains(&waited), "{waited} ms");
}

#[test]
fn a_stop_does_not_wait_for_company() {
    let mut world = World::new(1);
    world.config.commit_interval = Duration::from_secs(3600);
    world.config.commit_gather_bytes = 64 << 10;
    let life = world.start();
    life.outcomes.streams.set(true);
    life.publish(0, 1, 10, None);
    while !life.log.arrivals.is_empty() {
        world.executor.run_steps(1);
    }
    let waiting = life.publish(0, 1, 10, None);
    let began = world.executor.clock().monotonic();
    let outcomes = life.outcomes.clone();
    world.stop(life);
    assert!(outcomes.of(waiting).is_some());
    let took = world.executor.clock().monotonic() - began;
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn what_waits_for_the_disk_is_bounded_however_much_memory_there_is() {
    let mut world = World::new(1);
    world.config.unflushed_bytes_max = 1 << 30;
    world.config.flush_bytes = 1 << 29;
    world.config.segment_bytes_max = 1 << 28;
    let life = world.start();
    let mut published = 0;
    while life.log.admits() {
        life.publish(0, 1, 1 << 20, None);
        published += 1;
        assert!(published <= 40, "no end to what waits");
    }
    let began = world.executor.clock().monotonic();
    world.executor.block_on(life.log.admitted());
    assert!(life.log.admits());
    // Nothing was flushed for it, which would come with the flush interval of a day.
    let took = world.executor.clock().monotonic() - began;
    assert!(took < Duration::from_secs(60), "{took:?}");
    run_until_answered(&world, &life, published);
}
