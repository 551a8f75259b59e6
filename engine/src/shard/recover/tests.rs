#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::sample::{World, key};
use std::path::PathBuf;

use super::*;
use crate::shard::start::open_catalogue;

#[test]
fn what_a_lost_entry_fenced_stays_fenced_after_a_flush_and_another_start() {
    let world = World::new(2);
    let life = world.start();
    life.publish(0, 10, 10, None);
    world.stop(life);
    let life = world.start();
    let lsn = world.publish_each(&life, 0, &[10])[0];
    world.kill(life);
    world.rot_entry(lsn, 0);

    let life = world.start();
    assert_eq!(life.report.fences, [(key(0), Offset(10), Offset(20))]);
    life.publish(1, 1, 10, None);
    world.stop(life);
    let life = world.start();
    assert_eq!(life.next_offset(0), 20);
    assert_eq!(life.fences(0), [(10, 20)]);
}

#[test]
fn where_a_partition_went_on_above_a_lost_commit_it_is_after_a_flush_and_another_start() {
    let world = World::new(2);
    let life = world.start();
    life.publish(0, 10, 10, None);
    world.stop(life);
    let life = world.start();
    let lsn = world.publish_each(&life, 0, &[10])[0];
    world.kill(life);
    world.rot_commit(lsn);

    let life = world.start();
    let (next, term, fences) = (life.next_offset(0), life.term(0), life.fences(0));
    assert!(next > 20 && term == 1, "{next} in term {term}");
    life.publish(1, 1, 10, None);
    world.stop(life);
    let life = world.start();
    assert_eq!(
        (life.next_offset(0), life.term(0), life.fences(0)),
        (next, term, fences)
    );
}

#[test]
fn what_a_recovery_decided_holds_even_when_the_damage_is_gone_at_the_next_start() {
    let world = World::new(1);
    let life = world.start();
    let lsn = world.publish_each(&life, 0, &[10])[0];
    world.kill(life);
    let (path, range) = world.commit(lsn);
    let bytes = world.disk.read_file(&path).unwrap();
    world.rot_commit(lsn);
    let life = world.start();
    let (next, term) = (life.next_offset(0), life.term(0));
    world.kill(life);
    world
        .disk
        .overwrite(&path, range.start as u64, &bytes[range.clone()]);
    let life = world.start();
    assert_eq!((life.next_offset(0), life.term(0)), (next, term));
}

#[test]
fn a_partition_whose_only_batches_were_lost_goes_on_above_them_in_a_new_term() {
    let world = World::new(1);
    let life = world.start();
    let lsn = world.publish_each(&life, 0, &[10])[0];
    world.kill(life);
    world.rot_commit(lsn);
    let life = world.start();
    assert!(life.next_offset(0) > 10, "{}", life.next_offset(0));
    assert_eq!(life.term(0), 1);
    assert_eq!(life.fences(0), [(0, life.next_offset(0))]);
}

#[test]
fn partitions_that_are_seen_behind_a_lost_commit_go_on_in_a_new_term_too() {
    let world = World::new(2);
    let life = world.start();
    let lsns = world.publish_each(&life, 0, &[10, 10, 10]);
    world.kill(life);
    world.rot_commit(lsns[1]);
    let life = world.start();
    assert_eq!(life.fences(0), [(10, 20)]);
    assert_eq!(life.next_offset(0), 30);
    assert_eq!((life.term(0), life.term(1)), (1, 1));
}

#[test]
fn a_term_that_a_recovery_began_holds_after_a_kill_before_any_flush() {
    let world = World::new(2);
    let life = world.start();
    let lsns = world.publish_each(&life, 0, &[10, 10]);
    world.kill(life);
    world.rot_commit(lsns[1]);
    let life = world.start();
    let next = life.next_offset(0);
    life.publish(0, 5, 10, None);
    world.kill(life);
    let life = world.start();
    assert_eq!(life.term(0), 1);
    assert_eq!(life.next_offset(0), next + 5);
    world.kill(life);
    let life = world.start();
    assert_eq!((life.term(0), life.term(1)), (1, 1));
}

#[test]
fn a_lost_committed_offset_fences_nothing() {
    let world = World::new(1);
    let life = world.start();
    world.publish_each(&life, 0, &[10]);
    life.commit_offset(0, "group", 4);
    world.settle();
    let lsn = life.newest_data_lsn();
    world.kill(life);
    world.rot_entry(lsn, 0);
    let life = world.start();
    assert_eq!((life.next_offset(0), life.fences(0)), (10, Vec::new()));
    let slot = life.slot(0);
    assert!(slot.state.borrow().committed.fetch("group").is_none());
}

#[test]
fn a_shard_without_its_checkpoint_does_not_start_even_when_its_journal_is_gone_too() {
    let world = World::new(1);
    let life = world.start();
    life.publish(0, 10, 10, None);
    world.stop(life);
    let shard = world.data.shard(1, ShardIndex(0));
    for (path, _) in world.disk.list_tree() {
        if path.starts_with(&shard) {
            world.disk.remove_file(&path);
        }
    }
    assert!(matches!(
        world.try_start().map(|_| ()),
        Err(StorageError::Damaged { .. })
    ));
}

/// Publishes and flushes until every file that is not kept has been used again.
fn turn_journal_over(world: &World) {
    for _ in 0..12 {
        let life = world.start();
        for _ in 0..20 {
            life.publish(1, 1, 20_000, None);
            world.settle();
        }
        world.stop(life);
    }
}

#[test]
fn a_journal_file_with_rot_is_never_used_again_nor_removed() {
    for rot in [World::rot_commit, |world: &World, lsn| {
        world.rot_entry(lsn, 0)
    }] {
        let world = World::new(2);
        let life = world.start();
        let lsn = world.publish_each(&life, 0, &[10, 10, 10])[1];
        world.kill(life);
        rot(&world, lsn);
        let (path, _) = world.commit(Lsn(lsn.0 - 1));
        let evidence = world.disk.read_file(&path).unwrap();
        turn_journal_over(&world);
        assert_eq!(world.disk.read_file(&path), Some(evidence));
        let mut note = path.into_os_string();
        note.push(".damaged");
        assert!(world.disk.read_file(Path::new(&note)).is_some());
    }
}

#[test]
fn a_torn_tail_costs_no_journal_file() {
    let world = World::new(1);
    let life = world.start();
    world.publish_each(&life, 0, &[10]);
    let token = life.publish(0, 1, 20_000, None);
    while world.disk.in_flight() == 0 {
        world.executor.run_steps(1);
    }
    assert_eq!(life.outcomes.of(token), None);
    world.kill_now(life);
    let life = world.start();
    assert!(life.report.fences.is_empty());
    world.kill_now(life);
    let notes = world.disk.list_tree().into_iter();
    assert_eq!(
        notes
            .filter(|(path, _)| path.to_string_lossy().ends_with(".damaged"))
            .count(),
        0
    );
}

#[test]
fn a_full_journal_file_whose_header_blocks_are_zeros_is_read_and_kept() {
    let world = World::new(1);
    let life = world.start();
    let lsn = world.publish_each(&life, 0, &[10])[0];
    world.kill(life);
    let (path, _) = world.commit(lsn);
    world.disk.overwrite(&path, 0, &[0; 8192]);
    let before = world.disk.read_file(&path);
    let life = world.start();
    assert_eq!(life.next_offset(0), 10);
    assert_eq!(life.fences(0), []);
    world.stop(life);
    assert_eq!(world.disk.read_file(&path), before);
}

#[test]
fn a_start_reads_only_the_headers_of_journal_files_that_segments_have() {
    let world = World::new(1);
    let life = world.start();
    for _ in 0..60 {
        life.publish(0, 1, 30_000, None);
        world.settle();
    }
    assert!(world.journal_files().len() > 6);
    world.stop(life);
    // The checkpoint's log is read whole, with the room reserved in it.
    let tree = world.disk.list_tree().into_iter();
    let checkpoint: u64 = tree
        .filter(|(path, _)| path.to_string_lossy().contains("checkpoint"))
        .map(|(_, bytes)| bytes)
        .sum();
    let before = world.disk.counts().read_bytes;
    world.kill_now(world.start());
    let read = world.disk.counts().read_bytes - before - checkpoint;
    // The newest file is the only one that may hold more than segments have; the catalogue is small.
    assert!(
        read < 2 * world.config.journal_file_bytes,
        "{read} bytes were read"
    );
}

#[test]
fn what_segments_have_is_not_kept_in_memory_while_the_journal_is_read() {
    let world = World::new(1);
    let life = world.start();
    world.publish_each(&life, 0, &[10, 10, 10]);
    let lsn = life.newest_data_lsn();
    world.kill(life);
    let dir = world.journal_dir();
    let scan = |flushed| {
        let scan = JournalContents::scan(&world.disk, &dir, flushed);
        let contents = world.executor.block_on(scan).unwrap();
        (contents.found.len() as u64, contents.flushed_commits)
    };
    let (all, _) = scan(Lsn(0));
    let (found, flushed) = scan(lsn);
    // What remains is the mark above it.
    assert_eq!((found, found + flushed), (1, all));
}

#[test]
fn a_committed_offset_beyond_the_end_is_reported() {
    let world = World::new(1);
    let life = world.start();
    world.publish_each(&life, 0, &[10]);
    life.commit_offset(0, "behind", 10);
    life.commit_offset(0, "beyond", 11);
    world.kill(life);
    let life = world.start();
    assert_eq!(
        life.report.committed_beyond_end,
        [(key(0), "beyond".to_owned(), Offset(11))]
    );
}

#[test]
fn a_start_after_damage_on_a_full_disk_ends_with_an_error() {
    let world = World::new(1);
    let life = world.start();
    let lsn = world.publish_each(&life, 0, &[10, 10])[0];
    world.kill(life);
    world.rot_entry(lsn, 0);
    let used: u64 = world.disk.list_tree().iter().map(|(_, bytes)| bytes).sum();
    // The start's own files have room, a segment has not.
    let mut refused = 0;
    for blocks in 0..100 {
        let fork = world.fork();
        fork.disk.set_capacity(used + blocks * 4096);
        match fork.try_start() {
            Err(error) => {
                assert!(error.is_disk_full(), "{error}");
                refused += 1;
            }
            Ok(life) => {
                assert_eq!(life.fences(0), [(0, 10)]);
                break;
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_damaged_journal_file_is_kept_when_the_number_of_shards_changes() {
    let world = World::new(1);
    let life = world.start();
    let lsn = world.publish_each(&life, 0, &[10, 10])[0];
    world.kill(life);
    world.rot_entry(lsn, 0);
    let (path, _) = world.commit(lsn);
    let bytes = world.disk.read_file(&path).unwrap();
    for shards in [2, 3] {
        let clock = world.executor.clock();
        let opened = open_catalogue(&world.disk, &clock, &world.data, shards, &world.config, 7);
        world.executor.block_on(opened).unwrap();
        assert_eq!(world.disk.read_file(&path), Some(bytes.clone()));
        let of_former = world.disk.list_tree().into_iter();
        let left = of_former.filter(|(path, _)| path.starts_with(world.data.layout(1)));
        // The file and the note beside it.
        assert_eq!(left.count(), 2);
    }
}

/// Everything is durable, and most of it only in the journal's newest file.
fn with_much_in_the_newest_file(world: &World) -> PathBuf {
    let life = world.start();
    for _ in 0..40 {
        world.publish_each(&life, 0, &[100]);
    }
    let newest = world.commit(life.newest_data_lsn()).0;
    world.kill(life);
    newest
}

fn assert_goes_on_above_what_may_be_lost(world: &World, was: u64) {
    let life = world.start();
    let (next, term) = (life.next_offset(0), life.term(0));
    assert!(next > was, "{next} was given out before");
    assert_eq!(term, 1);
    assert!(!life.fences(0).is_empty());
    assert_eq!(life.report.rows.get(&Row::Vanished), Some(&1));
    world.kill(life);
    // It is dealt with once.
    let life = world.start();
    assert_eq!((life.next_offset(0), life.term(0)), (next, term));
    assert_eq!(life.report.rows.get(&Row::Vanished), None);
}

#[test]
fn a_journal_file_that_is_gone_with_its_name_is_missed() {
    let world = World::new(1);
    let newest = with_much_in_the_newest_file(&world);
    world.disk.remove_file(&newest);
    assert_goes_on_above_what_may_be_lost(&world, 4_000);
}

#[test]
fn a_journal_without_any_file_is_missed() {
    let world = World::new(1);
    with_much_in_the_newest_file(&world);
    for file in world.journal_files() {
        world.disk.remove_file(&file);
    }
    assert_goes_on_above_what_may_be_lost(&world, 4_000);
}

#[test]
fn the_end_of_a_journal_file_that_is_gone_is_missed_and_the_file_is_kept() {
    let world = World::new(1);
    let newest = with_much_in_the_newest_file(&world);
    let bytes = world.disk.read_file(&newest).unwrap().len() as u64;
    world.disk.set_file_bytes(&newest, bytes / 8);
    assert_goes_on_above_what_may_be_lost(&world, 4_000);
    assert!(world.journal_files().contains(&newest));
}
