use super::*;

#[test]
fn handles_of_an_earlier_life_are_dead_and_the_disk_is_not() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(async {
        let old = disk.open(a(), OpenMode::Write).await.unwrap();
        disk.crash(CrashPolicy::Any);
        assert!(old.read_at(0, BLOCK_BYTES).await.is_err());
        assert!(old.write_at(0, &filled(2, 1)).await.is_err());
        assert!(old.sync().await.is_err());
        let new = disk.open(a(), OpenMode::Write).await.unwrap();
        assert_eq!(new.read_at(0, BLOCK_BYTES).await.unwrap()[0], 1);
    });
}

#[test]
fn a_killed_process_loses_nothing_that_completed_and_a_later_power_cut_may() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(write(&disk, OpenMode::Write, 0, &filled(2, 1)));
    executor.crash();
    disk.crash(CrashPolicy::ProcessKilled);
    assert_eq!(disk.read_file(a()).unwrap()[0], 2);
    disk.crash(CrashPolicy::KeepSynced);
    assert_eq!(disk.read_file(a()).unwrap()[0], 1);
}

#[test]
fn a_snapshot_goes_its_own_way() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(write(&disk, OpenMode::Write, 0, &filled(2, 1)));
    let copy = disk.snapshot(&executor);
    copy.crash(CrashPolicy::KeepSynced);
    assert_eq!(copy.read_file(a()).unwrap()[0], 1);
    assert_eq!(disk.read_file(a()).unwrap()[0], 2);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (executor, disk) = world_with_file(seed);
        let spawner = executor.spawner();
        for task in 0..6_u8 {
            let disk = disk.clone();
            spawner.spawn(async move {
                let file = disk.open(a(), OpenMode::Write).await.unwrap();
                for round in 0..4 {
                    let position = u64::from(round) * BLOCK_BYTES as u64;
                    file.write_at(position, &filled(task * 4 + round, 1))
                        .await
                        .unwrap();
                }
                file.sync().await.unwrap();
            });
        }
        executor.run_steps(60);
        executor.crash();
        disk.crash(CrashPolicy::Any);
        (
            disk.read_file(a()).unwrap(),
            executor.clock().monotonic(),
            disk.counts(),
        )
    };
    for seed in SEEDS {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(1), run(2));
}
