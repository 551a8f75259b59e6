use super::*;

#[test]
fn a_write_that_was_not_synced_can_be_lost_kept_or_torn() {
    let outcomes = outcomes(async |disk| {
        write(disk, OpenMode::Write, 0, &filled(2, 1)).await;
    });
    assert!(outcomes.contains(&vec![1; 8]), "never lost");
    assert!(outcomes.contains(&vec![2; 8]), "never kept");
    assert!(outcomes.len() > 10, "hardly ever torn: {outcomes:?}");
}

#[test]
fn a_synced_write_is_never_lost() {
    let outcomes = outcomes(async |disk| {
        let file = write(disk, OpenMode::Write, 0, &filled(2, 1)).await;
        file.sync().await.unwrap();
    });
    assert_eq!(outcomes, BTreeSet::from([vec![2; 8]]));
}

#[test]
fn a_durable_write_needs_no_sync() {
    let outcomes = outcomes(async |disk| {
        write(disk, OpenMode::WriteDurable, 0, &filled(2, 1)).await;
    });
    assert_eq!(outcomes, BTreeSet::from([vec![2; 8]]));
}

#[test]
fn a_durable_write_makes_no_other_write_durable() {
    let outcomes = outcomes(async |disk| {
        write(disk, OpenMode::Write, 0, &filled(2, 1)).await;
        write(
            disk,
            OpenMode::WriteDurable,
            BLOCK_BYTES as u64,
            &filled(3, 1),
        )
        .await;
    });
    assert!(outcomes.contains(&vec![1; 8]));
}

#[test]
fn a_sync_does_not_cover_a_write_that_completes_after_its_submission() {
    let outcomes = outcomes(async |disk| {
        let file = disk.open(a(), OpenMode::Write).await.unwrap();
        disk.set_latency(Duration::from_micros(10), Duration::from_micros(10));
        let buffer = filled(2, 1);
        let (written, synced) = join(file.write_at(0, &buffer), file.sync()).await;
        written.unwrap();
        synced.unwrap();
    });
    assert!(outcomes.contains(&vec![1; 8]), "{outcomes:?}");
}

#[test]
fn every_version_since_the_last_sync_can_survive() {
    let outcomes = outcomes(async |disk| {
        let file = write(disk, OpenMode::Write, 0, &filled(2, 1)).await;
        file.sync().await.unwrap();
        file.write_at(0, &filled(3, 1)).await.unwrap();
        file.write_at(0, &filled(4, 1)).await.unwrap();
    });
    let seen: BTreeSet<u8> = outcomes.into_iter().flatten().collect();
    assert_eq!(seen, BTreeSet::from([2, 3, 4]));
}

#[test]
fn a_write_in_flight_is_torn_by_a_crash() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let (executor, disk) = world_with_file(seed);
        let file = executor
            .block_on(disk.open(a(), OpenMode::WriteDurable))
            .unwrap();
        executor.spawner().spawn(async move {
            file.write_at(0, &filled(2, 2)).await.unwrap();
        });
        executor.run_ready();
        assert_eq!(disk.in_flight(), 1);
        executor.crash();
        assert_eq!(
            disk.in_flight(),
            1,
            "the disk works on when its caller is gone"
        );
        disk.crash(CrashPolicy::Any);
        seen.insert(disk.read_file(a()).unwrap());
    }
    assert!(seen.contains(&vec![1; 2 * BLOCK_BYTES]));
    assert!(seen.contains(&vec![2; 2 * BLOCK_BYTES]));
    assert!(seen.len() > 10);
}

#[test]
fn a_dropped_write_happens_all_the_same() {
    let (executor, disk) = world_with_file(1);
    let file = executor.block_on(disk.open(a(), OpenMode::Write)).unwrap();
    let stopped = executor.block_on_steps(file.write_at(0, &filled(2, 1)), 1);
    assert!(matches!(stopped, Err(Stopped::StepsSpent)));
    executor.run_until_idle();
    assert_eq!(disk.read_file(a()).unwrap()[0], 2);
}

#[test]
fn writes_in_flight_complete_in_any_order() {
    let orders: BTreeSet<Vec<u64>> = SEEDS
        .map(|seed| {
            let (executor, disk) = world_with_file(seed);
            let order = RefCell::new(Vec::new());
            executor.block_on(async {
                let file = disk.open(a(), OpenMode::Write).await.unwrap();
                let buffer = filled(2, 1);
                join_all((0..3).map(|block| {
                    let (file, buffer, order) = (&file, &buffer, &order);
                    async move {
                        file.write_at(block * BLOCK_BYTES as u64, buffer)
                            .await
                            .unwrap();
                        order.borrow_mut().push(block);
                    }
                }))
                .await;
            });
            order.into_inner()
        })
        .collect();
    assert_eq!(orders.len(), 6);
}

#[test]
fn a_read_ends_at_the_end_of_the_file() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(async {
        let file = disk.open(a(), OpenMode::Read).await.unwrap();
        let block = BLOCK_BYTES as u64;
        assert_eq!(
            file.read_at(block, 4 * BLOCK_BYTES).await.unwrap().len(),
            BLOCK_BYTES
        );
        assert_eq!(file.read_at(2 * block, BLOCK_BYTES).await.unwrap().len(), 0);
        disk.set_file_bytes(a(), block + 10);
        assert_eq!(file.read_at(block, BLOCK_BYTES).await.unwrap().len(), 10);
    });
}

#[test]
fn a_fresh_buffer_is_not_zeroed() {
    let (_executor, disk) = world(1);
    assert!(disk.buffer(BLOCK_BYTES).iter().any(|byte| *byte != 0));
}

#[test]
#[should_panic(expected = "unaligned write")]
fn an_unaligned_write_is_refused() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(write(&disk, OpenMode::Write, 512, &filled(2, 1)));
}

#[test]
fn a_file_opened_for_reading_cannot_be_written() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(async {
        let file = disk.open(a(), OpenMode::Read).await.unwrap();
        assert_eq!(errno(file.write_at(0, &filled(2, 1)).await), libc::EBADF);
    });
}
