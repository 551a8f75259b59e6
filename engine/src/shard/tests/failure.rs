use super::deletion::ask_all_kinds;
use super::*;
use crate::io::sim::{Fault, FaultKind};

/// Asks for everything at once, lets the n-th operation of a kind on such a path fail, and returns the answers.
fn answers_around(fault: Fault, steps: u64) -> (World, Vec<Outcome>) {
    let mut world = World::new(steps);
    world.flush();
    world.disk.inject(fault);
    ask_all_kinds(&mut world, 1);
    world.executor.run_steps(steps);
    ask_all_kinds(&mut world, 2);
    world.executor.run_for(Duration::from_secs(1));
    world.log.want_flush();
    world.executor.run_for(Duration::from_secs(1));
    let answers = world.answers.each(world.requests);
    (world, answers)
}

fn assert_each_is_told_once(kind: FaultKind, path: &str) {
    let mut refused = 0;
    for operation in 0..6 {
        for steps in [0, 10, 30, 60, 100] {
            let fault = Fault::new(kind).at(path).after(operation);
            let (mut world, answers) = answers_around(fault, steps);
            if world.disk.clear_faults() > 0 {
                // So many operations there were not.
                continue;
            }
            for answer in &answers {
                if matches!(answer, Outcome::Failed(_)) {
                    assert!(failed_with(answer, ErrorCode::StorageFailed), "{answer:?}");
                    refused += 1;
                }
            }
            let failures = world
                .ended
                .borrow()
                .iter()
                .filter(|end| end.is_err())
                .count();
            assert_eq!(failures, 1, "{:?}", world.ended.borrow());
            // And whoever comes later is told at once.
            world.publish(key(1, 0), 10);
            let answers = world.answers.each(world.requests);
            assert!(failed_with(
                &answers[answers.len() - 1],
                ErrorCode::StorageFailed
            ));
            assert!(
                world.log.admits()
                    || world
                        .executor
                        .block_on_steps(world.log.admitted(), 100)
                        .is_ok()
            );
        }
    }
    assert!(refused > 0, "no fault on {path} hurt anybody");
}

#[test]
fn everyone_who_waits_hears_once_that_a_write_of_the_journal_failed() {
    assert_each_is_told_once(FaultKind::Write, "journal");
}

#[test]
fn everyone_who_waits_hears_once_that_a_chunk_could_not_be_written() {
    assert_each_is_told_once(FaultKind::Write, "topics");
}

#[test]
fn everyone_who_waits_hears_once_that_a_chunk_could_not_be_synced() {
    assert_each_is_told_once(FaultKind::Sync, "topics");
}

#[test]
fn everyone_who_waits_hears_once_that_a_checkpoint_could_not_be_written() {
    // A flush that comes while requests are on their way.
    let mut refused = 0;
    for steps in 0..60 {
        let mut world = World::new(steps);
        ask_all_kinds(&mut world, 1);
        world.executor.run_for(Duration::from_millis(100));
        world
            .disk
            .inject(Fault::new(FaultKind::Write).at("checkpoint"));
        world.log.want_flush();
        world.executor.run_steps(steps);
        ask_all_kinds(&mut world, 2);
        world.executor.run_for(Duration::from_secs(1));
        for answer in world.answers.each(world.requests) {
            if matches!(answer, Outcome::Failed(_)) {
                assert!(failed_with(&answer, ErrorCode::StorageFailed), "{answer:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "the failure never hurt anybody");
}
