use super::*;

#[test]
fn the_planned_operation_fails_and_only_that() {
    let (executor, disk) = world_with_file(1);
    disk.write_file(Path::new("/data/other"), &[0; BLOCK_BYTES]);
    disk.inject(Fault::new(FaultKind::Read).at("data/a").after(1));
    executor.block_on(async {
        let other = disk
            .open(Path::new("/data/other"), OpenMode::Read)
            .await
            .unwrap();
        let file = disk.open(a(), OpenMode::Read).await.unwrap();
        let mut failed = Vec::new();
        for _ in 0..3 {
            other.read_at(0, BLOCK_BYTES).await.unwrap();
            failed.push(file.read_at(0, BLOCK_BYTES).await.is_err());
        }
        assert_eq!(failed, [false, true, false]);
    });
    assert_eq!(disk.clear_faults(), 0);
}

#[test]
fn a_failed_write_may_have_happened_in_part() {
    let (executor, disk) = world_with_file(1);
    disk.inject(Fault::new(FaultKind::Write));
    executor.block_on(async {
        let file = disk.open(a(), OpenMode::WriteDurable).await.unwrap();
        assert_eq!(errno(file.write_at(0, &filled(2, 2)).await), libc::EIO);
    });
    let seen: BTreeSet<u8> = disk.read_file(a()).unwrap().into_iter().collect();
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn a_failed_sync_loses_data_for_good_though_later_ones_succeed() {
    let lost = SEEDS.filter(|&seed| {
        let (executor, disk) = world_with_file(seed);
        disk.inject(Fault::new(FaultKind::Sync));
        executor.block_on(async {
            let file = write(&disk, OpenMode::Write, 0, &filled(2, 1)).await;
            assert_eq!(errno(file.sync().await), libc::EIO);
            file.sync().await.unwrap();
        });
        assert_eq!(
            disk.read_file(a()).unwrap()[0],
            2,
            "it reads well until the crash"
        );
        disk.crash(CrashPolicy::KeepAll);
        disk.read_file(a()).unwrap()[0] == 1
    });
    assert!((10..54).contains(&lost.count()));
}

#[test]
fn a_lying_disk_loses_what_was_synced() {
    for mode in [OpenMode::Write, OpenMode::WriteDurable] {
        let (executor, disk) = world_with_file(1);
        disk.set_lying(true);
        executor.block_on(async {
            let file = write(&disk, mode, 0, &filled(2, 1)).await;
            file.sync().await.unwrap();
        });
        disk.crash(CrashPolicy::KeepSynced);
        assert_eq!(disk.read_file(a()).unwrap()[0], 1);
    }
}

#[test]
fn a_lost_write_leaves_the_old_block() {
    let (executor, disk) = world_with_file(1);
    disk.inject(Fault::new(FaultKind::LostWrite));
    executor.block_on(write(&disk, OpenMode::WriteDurable, 0, &filled(2, 1)));
    assert_eq!(disk.read_file(a()).unwrap(), vec![1; 2 * BLOCK_BYTES]);
}

#[test]
fn a_misdirected_write_lands_elsewhere() {
    let (executor, disk) = world_with_file(1);
    let to_position = BLOCK_BYTES as u64;
    disk.inject(Fault::new(FaultKind::MisdirectedWrite { to_position }));
    executor.block_on(write(&disk, OpenMode::WriteDurable, 0, &filled(2, 1)));
    let contents = disk.read_file(a()).unwrap();
    assert_eq!((contents[0], contents[BLOCK_BYTES]), (1, 2));
}

#[test]
fn a_flipped_bit_stays_flipped() {
    let (_executor, disk) = world_with_file(1);
    disk.flip_bit(a(), 700, 3);
    disk.crash(CrashPolicy::KeepSynced);
    let contents = disk.read_file(a()).unwrap();
    let changed: Vec<_> = (0..)
        .zip(&contents)
        .filter(|(_, byte)| **byte != 1)
        .collect();
    assert_eq!(changed, [(700, &(1 | 1 << 3))]);
}

#[test]
fn overwritten_bytes_are_durable() {
    let (_executor, disk) = world_with_file(1);
    disk.overwrite(a(), BLOCK_BYTES as u64 - 1, b"xy");
    disk.crash(CrashPolicy::KeepSynced);
    let contents = disk.read_file(a()).unwrap();
    assert_eq!(
        &contents[BLOCK_BYTES - 2..BLOCK_BYTES + 2],
        [1, b'x', b'y', 1]
    );
}

#[test]
fn a_bad_sector_fails_reads_until_it_is_written() {
    let (executor, disk) = world_with_file(1);
    disk.fail_sector(a(), BLOCK_BYTES as u64 + 512);
    executor.block_on(async {
        let file = disk.open(a(), OpenMode::Write).await.unwrap();
        let block = BLOCK_BYTES as u64;
        assert!(file.read_at(0, BLOCK_BYTES).await.is_ok());
        assert!(file.read_at(0, 2 * BLOCK_BYTES).await.is_err());
        assert!(file.read_at(block, BLOCK_BYTES).await.is_err());
        file.write_at(block, &filled(2, 1)).await.unwrap();
        assert!(file.read_at(block, BLOCK_BYTES).await.is_ok());
    });
}

#[test]
fn a_full_disk_refuses_new_blocks_and_takes_old_ones() {
    let (executor, disk) = world_with_file(1);
    disk.set_capacity(3 * BLOCK_BYTES as u64);
    executor.block_on(async {
        let file = disk.open(a(), OpenMode::Write).await.unwrap();
        let two = 2 * BLOCK_BYTES as u64;
        assert_eq!(errno(file.write_at(two, &filled(2, 2)).await), libc::ENOSPC);
        assert_eq!(errno(file.allocate(2 * two).await), libc::ENOSPC);
        file.allocate(two + 1).await.unwrap();
        assert_eq!(disk.available_bytes(a()).await.unwrap(), 0);
        file.write_at(0, &filled(3, 3)).await.unwrap();
        drop(file);
        disk.remove(a()).await.unwrap();
        let free = disk.available_bytes(a()).await.unwrap();
        assert_eq!(free, 3 * BLOCK_BYTES as u64);
    });
}

#[test]
fn opens_and_directory_syncs_fail_as_planned() {
    let (executor, disk) = world_with_file(1);
    disk.inject(Fault::new(FaultKind::Open {
        errno: libc::EMFILE,
    }));
    disk.inject(Fault::new(FaultKind::SyncDir));
    disk.inject(Fault::new(FaultKind::Allocate));
    executor.block_on(async {
        let failed = disk.open(a(), OpenMode::Write).await.map(drop);
        assert_eq!(errno(failed), libc::EMFILE);
        assert_eq!(errno(disk.sync_dir(Path::new("/data")).await), libc::EIO);
        let file = disk.open(a(), OpenMode::Write).await.unwrap();
        assert_eq!(errno(file.allocate(1 << 20).await), libc::ENOSPC);
    });
}
