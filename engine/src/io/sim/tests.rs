#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::*;
use crate::io::{BLOCK_BYTES, Clock, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode, Spawn};

const SEEDS: std::ops::Range<u64> = 0..64;

fn filled(byte: u8, blocks: usize) -> DiskBuffer {
    let mut buffer = DiskBufferMut::heap(blocks * BLOCK_BYTES);
    buffer.fill(byte);
    buffer.freeze()
}

fn world(seed: u64) -> (SimExecutor, SimDisk) {
    let executor = SimExecutor::new(seed);
    let disk = SimDisk::new(&executor);
    (executor, disk)
}

fn a() -> &'static Path {
    Path::new("/data/a")
}

/// A world with a durable file of two blocks of ones at [`a`].
fn world_with_file(seed: u64) -> (SimExecutor, SimDisk) {
    let (executor, disk) = world(seed);
    disk.write_file(a(), &[1; 2 * BLOCK_BYTES]);
    (executor, disk)
}

async fn write(disk: &SimDisk, mode: OpenMode, position: u64, buffer: &DiskBuffer) -> SimFile {
    let file = disk.open(a(), mode).await.unwrap();
    file.write_at(position, buffer).await.unwrap();
    file
}

fn errno(result: std::io::Result<()>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// What the first block holds after a power cut, over all seeds.
fn outcomes(run: impl AsyncFn(&SimDisk)) -> BTreeSet<Vec<u8>> {
    SEEDS
        .map(|seed| {
            let (executor, disk) = world_with_file(seed);
            executor.block_on(run(&disk));
            executor.crash();
            disk.crash(CrashPolicy::Any);
            let mut sectors = disk.read_file(a()).unwrap();
            sectors.truncate(BLOCK_BYTES);
            let sectors: Vec<u8> = sectors
                .chunks(512)
                .map(|sector| {
                    assert!(
                        sector.iter().all(|byte| *byte == sector[0]),
                        "a torn sector"
                    );
                    sector[0]
                })
                .collect();
            sectors
        })
        .collect()
}

mod executor {
    use super::*;

    fn order(seed: u64) -> Vec<u32> {
        let executor = SimExecutor::new(seed);
        let order = Rc::new(RefCell::new(Vec::new()));
        for task in 0..8 {
            let (order, clock) = (Rc::clone(&order), executor.clock());
            executor.spawner().spawn(async move {
                order.borrow_mut().push(task);
                clock.sleep(Duration::from_millis(1)).await;
                order.borrow_mut().push(task);
            });
        }
        executor.run_until_idle();
        assert_eq!(executor.tasks(), 0);
        order.take()
    }

    #[test]
    fn the_seed_decides_the_order_of_tasks() {
        assert_eq!(order(7), order(7));
        let orders: BTreeSet<_> = SEEDS.map(order).collect();
        assert!(orders.len() > 32, "only {} orders", orders.len());
    }

    #[test]
    fn time_stands_still_while_a_task_can_run() {
        let executor = SimExecutor::new(1);
        let clock = executor.clock();
        executor.spawner().spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(3600)).await }
        });
        executor.run_ready();
        assert_eq!(clock.monotonic(), Duration::ZERO);
        executor.run_until_idle();
        assert_eq!(clock.monotonic(), Duration::from_secs(3600));
    }

    #[test]
    fn running_for_a_while_stops_in_the_middle_of_a_sleep() {
        let executor = SimExecutor::new(1);
        executor.spawner().spawn({
            let clock = executor.clock();
            async move { clock.sleep(Duration::from_secs(10)).await }
        });
        executor.run_for(Duration::from_secs(9));
        assert_eq!(executor.tasks(), 1);
        executor.run_for(Duration::from_secs(1));
        assert_eq!(executor.tasks(), 0);
    }

    #[test]
    fn a_future_that_nothing_wakes_is_reported_as_stuck() {
        let executor = SimExecutor::new(1);
        let never = std::future::pending::<()>();
        assert_eq!(executor.block_on_steps(never, 1000), Err(Stopped::Stuck));
    }

    #[test]
    fn a_future_that_does_not_end_in_its_steps_is_dropped() {
        let executor = SimExecutor::new(1);
        let clock = executor.clock();
        let held = Rc::new(());
        let future = async {
            let _held = Rc::clone(&held);
            loop {
                clock.sleep(Duration::from_millis(1)).await;
            }
        };
        let stopped = executor.block_on_steps::<()>(future, 100);
        assert_eq!(stopped, Err(Stopped::StepsSpent));
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[test]
    fn a_crash_drops_every_task() {
        let executor = SimExecutor::new(1);
        let held = Rc::new(());
        for _ in 0..3 {
            let (held, clock) = (Rc::clone(&held), executor.clock());
            executor.spawner().spawn(async move {
                let _held = held;
                clock.sleep(Duration::from_secs(1)).await;
            });
        }
        executor.run_ready();
        executor.crash();
        assert_eq!((executor.tasks(), Rc::strong_count(&held)), (0, 1));
        executor.run_until_idle();
    }

    #[test]
    fn the_wall_clock_jumps_alone() {
        let executor = SimExecutor::new(1);
        let clock = executor.clock();
        let before = clock.wall_ms();
        executor.run_for(Duration::from_millis(5));
        clock.jump_wall_ms(-1000);
        assert_eq!(clock.wall_ms(), before + 5 - 1000);
        assert_eq!(clock.monotonic(), Duration::from_millis(5));
    }
}

mod contents {
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
}

mod length {
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
            .map(|seed| {
                length_after_crash(seed, async |file| file.allocate(1 << 20).await.unwrap())
            })
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
}

mod names {
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
}

mod faults {
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
}

mod lives {
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
}
