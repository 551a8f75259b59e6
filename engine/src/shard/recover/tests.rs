#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::sample::{World, key};
use super::*;

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
