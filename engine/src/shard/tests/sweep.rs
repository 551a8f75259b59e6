use super::*;
use crate::shard::sweep::{sweep_deleted_topics, sweep_own, sweep_shared};
use crate::storage::SegmentId;

impl World {
    /// What a start does behind serving; says how many files went.
    pub(super) fn sweep(&self) -> u64 {
        let (disk, data, catalogue) = (&self.disk, &self.data, &self.catalogue);
        let own = self.log.own_segments();
        let shared = self.log.shared_segments().into_iter().collect();
        self.executor.block_on(async {
            sweep_shared(disk, data, &shared, catalogue.incarnation)
                .await
                .unwrap()
                + sweep_deleted_topics(disk, data, catalogue).await.unwrap()
                + sweep_own(disk, data, catalogue, |_| true, &own)
                    .await
                    .unwrap()
        })
    }

    fn put_segment(&self, key: PartitionKey, id: u64) -> PathBuf {
        let path = self.data.segment(Some(key), SegmentId(id));
        self.disk.write_file(&path, &[0; 4096]);
        path
    }
}

/// An id that the broker's first life gave out, far from those it really did.
const OF_THE_FIRST_LIFE: u64 = 1 << 40 | 0xffff;

#[test]
fn segments_that_no_checkpoint_and_no_journal_names_go_at_the_next_start() {
    let mut orphans = 0;
    for steps in 0..150 {
        let mut world = World::new(steps);
        for _ in 0..16 {
            world.publish(key(1, 1), 60 << 10);
        }
        world.publish(key(2, 0), 60 << 10);
        world.executor.run_steps(steps);
        let world = world.crashed(CrashPolicy::Any);
        let kept = [world.count(key(1, 1)), world.count(key(2, 0))];
        orphans += world.sweep();
        world.flush();
        assert_eq!([world.count(key(1, 1)), world.count(key(2, 0))], kept);
        let live = world.log.own_segments().live;
        for path in world.files("topics") {
            let name = path.file_name().unwrap().to_str().unwrap();
            let id = DataDir::segment_of_name(name).unwrap();
            assert!(live.contains(&id), "{name} is left after {steps} steps");
        }
    }
    assert!(orphans > 0, "no crash left anything to sweep");
}

#[test]
fn a_segment_of_this_life_is_never_swept() {
    let world = World::new(1);
    let own = world.put_segment(key(1, 0), OF_THE_FIRST_LIFE);
    assert_eq!(world.sweep(), 0);
    assert_eq!(world.files("topics"), [own]);
}

#[test]
fn an_orphan_of_a_former_life_goes_with_its_index() {
    let world = World::new(1);
    world.put_segment(key(1, 0), OF_THE_FIRST_LIFE);
    let index = world
        .data
        .index(Some(key(1, 0)), SegmentId(OF_THE_FIRST_LIFE));
    world.disk.write_file(&index, &[0; 4096]);
    let world = world.crashed(CrashPolicy::KeepSynced);
    assert_eq!(world.sweep(), 2);
    assert_eq!(world.files("topics"), Vec::<PathBuf>::new());
}

#[test]
fn what_lies_beside_a_loss_stays() {
    let world = World::new(1);
    let kept = world.put_segment(key(1, 0), OF_THE_FIRST_LIFE);
    let world = world.crashed(CrashPolicy::KeepSynced);
    world
        .slot(key(1, 0))
        .state
        .borrow_mut()
        .fence(Offset(0), Offset(5));
    assert_eq!(world.sweep(), 0);
    assert_eq!(world.files("topics"), [kept]);
}

#[test]
fn a_directory_of_an_id_that_was_never_given_out_stays() {
    let world = World::new(1);
    let unknown = world.put_segment(key(3, 0), 1);
    let world = world.crashed(CrashPolicy::KeepSynced);
    assert_eq!(world.sweep(), 0);
    assert_eq!(world.files("topics"), [unknown]);
}

#[test]
fn files_with_other_names_are_nobodys_to_sweep() {
    let world = World::new(1);
    let path = world.data.partition(key(1, 0)).join("notes.txt");
    world.disk.write_file(&path, b"mine");
    let world = world.crashed(CrashPolicy::KeepSynced);
    assert_eq!(world.sweep(), 0);
    assert_eq!(world.files("topics"), [path]);
}
