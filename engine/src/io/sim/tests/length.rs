use super::*;

fn length_after_crash(seed: u64, run: impl AsyncFn(&SimFile)) -> u64 {
    let (executor, disk) = world_with_file(seed);
    executor.block_on(async {
        let file = disk.open(a(), OpenMode::WriteDurable).await.unwrap();
        run(&file).await;
    });
    disk.crash(CrashPolicy::Any);
    disk.read_file(a()).unwrap().len() as u64
}

#[test]
fn space_that_was_only_reserved_reads_as_zeros() {
    let (executor, disk) = world_with_file(1);
    executor.block_on(async {
        let file = disk.open(a(), OpenMode::Write).await.unwrap();
        file.allocate(4 * BLOCK_BYTES as u64).await.unwrap();
        assert_eq!(file.bytes().await.unwrap(), 4 * BLOCK_BYTES as u64);
        let read = file
            .read_at(BLOCK_BYTES as u64, 3 * BLOCK_BYTES)
            .await
            .unwrap();
        assert!(read[..BLOCK_BYTES].iter().all(|byte| *byte == 1));
        assert!(read[BLOCK_BYTES..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn a_length_that_was_not_synced_can_fall_back() {
    let lengths: BTreeSet<_> = SEEDS
        .map(|seed| length_after_crash(seed, async |file| file.allocate(1 << 20).await.unwrap()))
        .collect();
    assert!(lengths.contains(&(2 * BLOCK_BYTES as u64)));
    assert!(lengths.contains(&(1 << 20)));
    assert!(lengths.len() > 2, "never between");
}

#[test]
fn a_synced_length_stays() {
    for seed in SEEDS {
        let length = length_after_crash(seed, async |file| {
            file.allocate(1 << 20).await.unwrap();
            file.sync().await.unwrap();
        });
        assert_eq!(length, 1 << 20);
    }
}

#[test]
fn a_durable_write_keeps_the_length_it_needs() {
    for seed in SEEDS {
        let length = length_after_crash(seed, async |file| {
            file.write_at(4 * BLOCK_BYTES as u64, &filled(2, 1))
                .await
                .unwrap();
        });
        assert_eq!(length, 5 * BLOCK_BYTES as u64);
    }
}
