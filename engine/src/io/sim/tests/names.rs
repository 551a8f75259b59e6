use super::*;

fn exists_after_crash(run: impl AsyncFn(&SimDisk)) -> BTreeSet<bool> {
    SEEDS
        .map(|seed| {
            let (executor, disk) = world_with_file(seed);
            executor.block_on(run(&disk));
            disk.crash(CrashPolicy::Any);
            disk.read_file(Path::new("/data/b")).is_some()
        })
        .collect()
}

async fn create(disk: &SimDisk, path: &str) -> SimFile {
    disk.open(Path::new(path), OpenMode::CreateNew)
        .await
        .unwrap()
}

#[test]
fn a_new_name_can_be_lost_until_its_directory_is_synced() {
    let unsynced = exists_after_crash(async |disk| {
        let file = create(disk, "/data/b").await;
        file.write_at(0, &filled(2, 1)).await.unwrap();
        file.sync().await.unwrap();
    });
    assert_eq!(unsynced, BTreeSet::from([false, true]));
    let synced = exists_after_crash(async |disk| {
        create(disk, "/data/b").await;
        disk.sync_dir(Path::new("/data")).await.unwrap();
    });
    assert_eq!(synced, BTreeSet::from([true]));
}

#[test]
fn a_removed_name_can_come_back_until_its_directory_is_synced() {
    let b = Path::new("/data/b");
    let unsynced = exists_after_crash(async |disk| {
        disk.write_file(b, b"old");
        disk.remove(b).await.unwrap();
        assert!(disk.open(b, OpenMode::Read).await.is_err());
    });
    assert_eq!(unsynced, BTreeSet::from([false, true]));
    let synced = exists_after_crash(async |disk| {
        disk.write_file(b, b"old");
        disk.remove(b).await.unwrap();
        disk.sync_dir(Path::new("/data")).await.unwrap();
    });
    assert_eq!(synced, BTreeSet::from([false]));
}

#[test]
fn a_file_made_again_is_the_old_one_the_new_one_or_none_after_a_crash() {
    let b = Path::new("/data/b");
    let lengths: BTreeSet<Option<usize>> = SEEDS
        .map(|seed| {
            let (executor, disk) = world_with_file(seed);
            disk.write_file(b, b"old");
            executor.block_on(async {
                disk.remove(b).await.unwrap();
                let file = create(&disk, "/data/b").await;
                file.write_at(0, &filled(2, 1)).await.unwrap();
                file.sync().await.unwrap();
            });
            disk.crash(CrashPolicy::Any);
            disk.read_file(b).map(|contents| contents.len())
        })
        .collect();
    assert_eq!(lengths, BTreeSet::from([None, Some(3), Some(BLOCK_BYTES)]));
}

#[test]
fn two_syncs_that_complete_in_the_other_order_do_not_undo_each_other() {
    let exists = exists_after_crash(async |disk| {
        let dir = Path::new("/data");
        let b = Path::new("/data/b");
        create(disk, "/data/b").await;
        disk.set_latency(Duration::from_millis(9), Duration::from_millis(9));
        let early = disk.sync_dir(dir);
        let late = async {
            disk.set_latency(Duration::from_millis(1), Duration::from_millis(1));
            disk.remove(b).await.unwrap();
            disk.sync_dir(dir).await.unwrap();
        };
        let (early, ()) = join(early, late).await;
        early.unwrap();
    });
    assert_eq!(exists, BTreeSet::from([false]));
}

#[test]
fn made_directories_are_durable_at_once() {
    for seed in SEEDS {
        let (executor, disk) = world(seed);
        let dir = Path::new("/data/deep/er");
        executor.block_on(disk.create_dir_all(dir)).unwrap();
        disk.crash(CrashPolicy::Any);
        assert_eq!(executor.block_on(disk.list(dir)).unwrap(), []);
    }
}

#[test]
fn a_removed_directory_takes_all_below_with_it() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(async {
        disk.remove_dir_all(Path::new("/data")).await.unwrap();
        disk.remove_dir_all(Path::new("/data")).await.unwrap();
        disk.sync_dir(Path::new("/")).await.unwrap();
        let error = disk.list(Path::new("/data")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
    disk.crash(CrashPolicy::Any);
    assert_eq!(disk.list_tree(), []);
}

#[test]
fn a_file_that_exists_is_not_created_and_one_that_does_not_is_not_opened() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(async {
        let error = disk.open(a(), OpenMode::CreateNew).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let missing = disk.open(Path::new("/data/b"), OpenMode::Write).await;
        assert_eq!(missing.err().unwrap().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_listing_gives_lengths_and_directories() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(async {
        disk.create_dir_all(Path::new("/data/dir")).await.unwrap();
        let entries = disk.list(Path::new("/data")).await.unwrap();
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.is_dir, entry.bytes))
            .collect();
        assert_eq!(entries, [("a", false, 8192), ("dir", true, 0)]);
    });
}

#[test]
fn an_unlinked_file_can_be_read_until_it_is_closed() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(async {
        let file = disk.open(a(), OpenMode::Read).await.unwrap();
        disk.remove(a()).await.unwrap();
        disk.sync_dir(Path::new("/data")).await.unwrap();
        assert_eq!(file.read_at(0, BLOCK_BYTES).await.unwrap()[0], 1);
    });
}
