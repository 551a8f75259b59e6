use super::*;
use crate::storage::sample::producer;

const GOES: TopicId = TopicId(1);
const STAYS: TopicId = TopicId(2);

/// Both topics have a partition in a shared segment, and one in a segment of its own.
fn world_with_segments(seed: u64) -> World {
    let mut world = World::new(seed);
    for topic in [1, 2] {
        world.publish(key(topic, 0), 100);
        world.publish(key(topic, 1), 60 << 10);
    }
    world.flush();
    assert_eq!(
        world.files("shared").len(),
        1,
        "a segment; its index comes when it is sealed"
    );
    assert!(!world.files_of(GOES).is_empty() && !world.files_of(STAYS).is_empty());
    world
}

#[test]
fn the_files_of_a_deleted_topic_go_and_those_of_others_stay() {
    let mut world = world_with_segments(1);
    let others = world.files_of(STAYS);
    world.delete(GOES);
    world.remove(GOES);
    assert_eq!(world.files_of(GOES), Vec::<PathBuf>::new());
    assert_eq!(world.files_of(STAYS), others);
    assert_eq!(
        world.files("shared").len(),
        1,
        "the other topic has a run there"
    );
    assert_eq!((world.count(key(2, 0)), world.count(key(2, 1))), (1, 1));
}

#[test]
fn a_shared_segment_goes_with_the_last_topic_that_has_a_run_in_it() {
    let mut world = world_with_segments(1);
    for topic in [GOES, STAYS] {
        world.delete(topic);
        world.remove(topic);
    }
    assert_eq!(world.files("shared"), Vec::<PathBuf>::new());
    assert_eq!(world.files("topics"), Vec::<PathBuf>::new());
}

#[test]
fn a_topic_deleted_in_the_middle_of_a_flush_leaves_nothing() {
    for steps in 0..120 {
        let mut world = World::new(steps);
        for partition in 0..2 {
            world.publish(key(1, partition), 100);
            world.publish(key(1, partition), 60 << 10);
        }
        world.executor.run_for(Duration::from_millis(100));
        world.log.want_flush();
        world.executor.run_steps(steps);
        world.delete(GOES);
        world.remove(GOES);
        assert_eq!(
            world.files("topics"),
            Vec::<PathBuf>::new(),
            "after {steps} steps"
        );
        assert_eq!(
            world.files("shared"),
            Vec::<PathBuf>::new(),
            "after {steps} steps"
        );
        assert_eq!(world.log.recent.unflushed_bytes(), 0);
    }
}

/// Requests of every kind for a topic: batches that wait, that are in a commit, in a chunk; duplicates; offsets.
pub(super) fn ask_all_kinds(world: &mut World, topic: u64) {
    for sequence in 0..3 {
        world.publish_as(key(topic, 0), producer(9, 0, sequence));
    }
    world.publish_as(key(topic, 0), producer(9, 0, 1));
    world.commit_offset(key(topic, 0));
    // Enough for several chunks.
    for _ in 0..12 {
        world.publish(key(topic, 1), 60 << 10);
    }
    world.commit_offset(key(topic, 1));
}

#[test]
fn whoever_waits_for_a_deleted_topic_hears_of_it_exactly_once() {
    let mut published = 0;
    let mut refused = 0;
    for steps in 0..200 {
        let mut world = World::new(steps);
        ask_all_kinds(&mut world, 1);
        ask_all_kinds(&mut world, 2);
        world.executor.run_steps(steps);
        world.delete(GOES);
        world.remove(GOES);
        let half = world.requests as usize / 2;
        let answers = world.answers.each(world.requests);
        let (of_gone, of_other) = answers.split_at(half);
        for answer in of_gone {
            match answer {
                Outcome::Failed(_) => {
                    assert!(failed_with(answer, ErrorCode::TopicDeleted), "{answer:?}");
                    refused += 1;
                }
                _ => published += 1,
            }
        }
        assert!(
            !of_other
                .iter()
                .any(|answer| matches!(answer, Outcome::Failed(_)))
        );
        assert_eq!(world.log.arrivals.bytes(), 0, "after {steps} steps");
        assert_eq!(
            world.files_of(GOES),
            Vec::<PathBuf>::new(),
            "after {steps} steps"
        );
        assert_eq!((world.count(key(2, 0)), world.count(key(2, 1))), (3, 12));
        world.flush();
        assert_eq!(world.log.recent.unflushed_bytes(), 0);
        assert!(
            world.ended.borrow().is_empty(),
            "{:?}",
            world.ended.borrow()
        );
    }
    assert!(
        published > 100 && refused > 100,
        "{published} and {refused}: both must happen"
    );
}

#[test]
fn a_reader_of_a_deleted_topic_gets_its_records_or_a_typed_end() {
    let mut ends = [0, 0];
    for steps in 0..60 {
        let mut world = World::new(steps);
        for _ in 0..8 {
            world.publish(key(1, 1), 60 << 10);
        }
        world.flush();
        let slot = world.slot(key(1, 1));
        let seen = Rc::new(RefCell::new(Vec::new()));
        world.executor.spawner().spawn({
            let (log, seen) = (world.log.clone(), seen.clone());
            async move {
                let mut cursor = ReadCursor::at(Offset(0));
                loop {
                    let before = cursor.offset;
                    let read = log.read(&slot, &mut cursor, 1 << 20).await;
                    let over = !matches!(&read, Ok(batches) if !batches.is_empty());
                    seen.borrow_mut()
                        .push((before, read.map(|batches| batches.len())));
                    if over {
                        return;
                    }
                }
            }
        });
        world.executor.run_steps(steps);
        world.delete(GOES);
        world.remove(GOES);
        assert_eq!(world.files_of(GOES), Vec::<PathBuf>::new());
        match seen.borrow().last() {
            Some((_, Err(ReadError::Deleted))) => ends[0] += 1,
            Some((offset, Ok(0))) => {
                assert_eq!(*offset, Offset(8));
                ends[1] += 1;
            }
            other => panic!("after {steps} steps reading ended with {other:?}"),
        };
    }
    assert!(ends[0] > 5 && ends[1] > 0, "{ends:?}");
}

#[test]
fn a_crash_anywhere_in_a_deletion_is_finished_by_the_next_start() {
    for steps in 0..80 {
        let mut world = world_with_segments(steps);
        ask_all_kinds(&mut world, 1);
        world.executor.run_steps(steps / 2);
        world.tombstone(GOES);
        world.log.drop_topic(GOES);
        world.executor.spawner().spawn({
            let log = world.log.clone();
            async move {
                log.topic_released(GOES).await;
                log.remove_topic(GOES).await.unwrap();
            }
        });
        world.executor.run_steps(steps);
        let mut world = world.crashed(CrashPolicy::Any);
        world.sweep();
        assert_eq!(
            world.files_of(GOES),
            Vec::<PathBuf>::new(),
            "after {steps} steps"
        );
        assert_eq!((world.count(key(2, 0)), world.count(key(2, 1))), (1, 1));
        assert!(world.log.slot(key(1, 0)).is_none());
        // The last run of the shared segment goes as well.
        world.delete(STAYS);
        world.remove(STAYS);
        assert_eq!(
            world.files("shared"),
            Vec::<PathBuf>::new(),
            "after {steps} steps"
        );
    }
}
