#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::io::sim::{CrashPolicy, Fault, FaultKind, SimDisk, SimExecutor};

const NAME: &str = "log";
const BLOCK: u64 = BLOCK_BYTES as u64;
const SEEDS: std::ops::Range<u64> = 0..8;

fn dir() -> &'static Path {
    Path::new("/data")
}

fn file(sequence: u64, copy: &str) -> PathBuf {
    copy_path(&dir().join(NAME), sequence, copy)
}

struct World {
    executor: SimExecutor,
    disk: SimDisk,
}

impl World {
    fn new(seed: u64) -> Self {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(&executor);
        Self { executor, disk }
    }

    /// A log `sequence` of these records, the first of which is its snapshot.
    fn with_log(sequence: u64, records: &[&[u8]]) -> Self {
        let world = Self::new(1);
        world.write(sequence, records);
        world
    }

    fn write(&self, sequence: u64, records: &[&[u8]]) {
        self.executor.block_on(async {
            let mut log = RecordLog::start(&self.disk, dir(), NAME, sequence, records[0])
                .await
                .unwrap();
            for record in &records[1..] {
                log.append(record).await.unwrap();
            }
        });
    }

    fn load(&self) -> Result<Option<LoadedLog>, StorageError> {
        self.executor
            .block_on(RecordLog::load(&self.disk, dir(), NAME))
    }

    fn records(&self) -> Vec<Vec<u8>> {
        self.load().unwrap().unwrap().records
    }

    fn flip(&self, sequence: u64, copy: &str, position: u64) {
        self.disk.flip_bit(&file(sequence, copy), position, 0);
    }
}

#[test]
fn there_is_no_log_before_the_first_start() {
    assert_eq!(World::new(1).load().unwrap(), None);
}

#[test]
fn records_come_back_in_order() {
    let records: [&[u8]; 4] = [b"snapshot", b"", &[7; 5_000], b"last"];
    let loaded = World::with_log(3, &records).load().unwrap().unwrap();
    assert_eq!(loaded.sequence, 3);
    assert_eq!(loaded.records, records);
}

#[test]
fn a_record_of_many_writes_comes_back_whole() {
    for bytes in [
        WRITE_BYTES_MAX - HEAD_BYTES,
        WRITE_BYTES_MAX - HEAD_BYTES + 1,
        2 * WRITE_BYTES_MAX,
    ] {
        let record: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        let world = World::with_log(1, &[&record, b"behind"]);
        assert!(world.records() == [&record[..], b"behind"], "{bytes} bytes");
    }
}

#[test]
fn what_an_append_returned_for_survives_any_crash() {
    for seed in SEEDS {
        let world = World::new(seed);
        world.write(1, &[b"snapshot", b"one", b"two"]);
        world.disk.crash(CrashPolicy::Any);
        assert_eq!(world.records(), [&b"snapshot"[..], b"one", b"two"]);
    }
}

#[test]
fn a_crash_at_any_step_of_an_append_leaves_it_done_or_not_done() {
    for seed in SEEDS {
        for steps in 0.. {
            let world = World::new(seed);
            world.write(1, &[b"snapshot", b"one"]);
            let mut done = false;
            let ended = world.executor.block_on_steps(
                async {
                    let mut log = RecordLog::start(&world.disk, dir(), NAME, 2, b"second")
                        .await
                        .unwrap();
                    log.append(&[9; 9_000]).await.unwrap();
                    done = true;
                },
                steps,
            );
            world.executor.crash();
            world.disk.crash(CrashPolicy::Any);
            let loaded = world.load().unwrap().unwrap();
            let allowed: &[&[&[u8]]] = if done {
                &[&[b"second", &[9; 9_000]]]
            } else {
                &[
                    &[b"snapshot", b"one"],
                    &[b"second"],
                    &[b"second", &[9; 9_000]],
                ]
            };
            assert!(
                allowed.iter().any(|records| loaded.records == *records),
                "seed {seed}, crash after {steps} steps, done {done}"
            );
            if ended.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_crash_at_any_step_of_the_very_first_start_leaves_the_log_or_none() {
    for seed in SEEDS {
        for steps in 0.. {
            let world = World::new(seed);
            let ended = world.executor.block_on_steps(
                async {
                    RecordLog::start(&world.disk, dir(), NAME, 1, b"first")
                        .await
                        .map(drop)
                },
                steps,
            );
            world.executor.crash();
            world.disk.crash(CrashPolicy::Any);
            let loaded = world.load().unwrap();
            match loaded {
                Some(loaded) => assert_eq!(loaded.records, [b"first"]),
                None => assert!(ended.is_err(), "seed {seed}, {steps} steps: it was durable"),
            }
            if ended.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_second_crash_during_the_next_start_never_loses_the_log() {
    for seed in SEEDS {
        for steps in 0..60 {
            let world = World::new(seed);
            world.write(1, &[b"snapshot", b"one"]);
            let mut known: Vec<Vec<Vec<u8>>> = vec![vec![b"snapshot".to_vec(), b"one".to_vec()]];
            for (life, cut) in [(0u8, steps), (1, steps / 2)] {
                let loaded = world.load().unwrap().unwrap();
                assert!(
                    known.contains(&loaded.records),
                    "seed {seed}, {steps} steps"
                );
                let snapshot = [b'a' + life; 9_000];
                known.push(vec![snapshot.to_vec()]);
                let _ = world.executor.block_on_steps(
                    async {
                        RecordLog::start(&world.disk, dir(), NAME, loaded.sequence + 1, &snapshot)
                            .await
                            .map(drop)
                    },
                    cut,
                );
                world.executor.crash();
                world.disk.crash(CrashPolicy::Any);
            }
            assert!(known.contains(&world.load().unwrap().unwrap().records));
        }
    }
}

#[test]
fn a_flip_in_one_copy_is_healed_by_the_other() {
    for copy in COPIES {
        for position in [0, 40, BLOCK, BLOCK + 33, 2 * BLOCK + 16] {
            let world = World::with_log(1, &[b"snapshot", b"one", b"two"]);
            world.flip(1, copy, position);
            assert_eq!(world.records(), [&b"snapshot"[..], b"one", b"two"]);
        }
    }
}

#[test]
fn flips_in_different_records_of_both_copies_are_healed() {
    let world = World::with_log(1, &[b"snapshot", b"one", b"two"]);
    world.flip(1, "a", 0);
    world.flip(1, "b", BLOCK);
    assert_eq!(world.records(), [&b"snapshot"[..], b"one", b"two"]);
}

#[test]
fn every_flipped_bit_of_a_record_in_both_copies_is_found() {
    let world = World::with_log(1, &[b"snapshot", b"one", b"two"]);
    for at in 0..(HEAD_BYTES + 3) as u64 {
        for bit in 0..8 {
            for copy in COPIES {
                world.disk.flip_bit(&file(1, copy), BLOCK + at, bit);
            }
            assert!(
                matches!(world.load(), Err(StorageError::Damaged { .. })),
                "bit {bit} of byte {at}"
            );
            for copy in COPIES {
                world.disk.flip_bit(&file(1, copy), BLOCK + at, bit);
            }
        }
    }
}

#[test]
fn a_record_that_is_whole_in_neither_copy_ends_the_log_when_it_is_the_last() {
    let world = World::with_log(1, &[b"snapshot", b"one", b"two"]);
    world.flip(1, "a", 2 * BLOCK);
    world.flip(1, "b", 2 * BLOCK);
    assert_eq!(world.records(), [&b"snapshot"[..], b"one"]);
}

#[test]
fn a_snapshot_that_is_whole_in_neither_copy_is_damage_when_a_record_follows() {
    let world = World::with_log(1, &[b"snapshot", b"one"]);
    world.flip(1, "a", 3);
    world.flip(1, "b", 3);
    assert!(matches!(world.load(), Err(StorageError::Damaged { .. })));
}

#[test]
fn a_log_without_any_whole_snapshot_is_damage_after_the_first_start() {
    let world = World::with_log(2, &[b"snapshot"]);
    world.flip(2, "a", 3);
    world.flip(2, "b", 3);
    assert!(matches!(world.load(), Err(StorageError::Damaged { .. })));
}

#[test]
fn a_damaged_length_is_never_followed() {
    let world = World::with_log(1, &[b"snapshot", b"one"]);
    for copy in COPIES {
        // Both lengths of the snapshot would lead behind the end.
        world
            .disk
            .overwrite(&file(1, copy), 24, &u32::MAX.to_le_bytes());
    }
    assert!(matches!(world.load(), Err(StorageError::Damaged { .. })));
}

#[test]
fn a_copy_that_is_missing_is_served_by_the_other() {
    for copy in COPIES {
        let world = World::with_log(1, &[b"snapshot", b"one"]);
        world.disk.remove_file(&file(1, copy));
        assert_eq!(world.records(), [&b"snapshot"[..], b"one"]);
    }
}

#[test]
fn a_sector_that_cannot_be_read_costs_no_record_that_the_other_copy_has() {
    let world = World::with_log(1, &[b"snapshot", b"one", b"two"]);
    world.disk.fail_sector(&file(1, "a"), BLOCK);
    assert_eq!(world.records(), [&b"snapshot"[..], b"one", b"two"]);
}

#[test]
fn what_follows_an_unreadable_sector_of_one_copy_still_heals_the_other() {
    let world = World::with_log(1, &[b"snapshot", b"one", b"two"]);
    world.disk.fail_sector(&file(1, "a"), BLOCK);
    world.flip(1, "b", 2 * BLOCK);
    assert_eq!(world.records(), [&b"snapshot"[..], b"one", b"two"]);
}

#[test]
fn the_newer_pair_counts_and_the_older_is_gone() {
    let world = World::with_log(1, &[b"old"]);
    world.write(2, &[b"new"]);
    assert_eq!(world.records(), [b"new"]);
    assert_eq!(world.disk.read_file(&file(1, "a")), None);
}

#[test]
fn an_older_pair_that_came_back_does_not_count() {
    let world = World::with_log(1, &[b"old"]);
    let old = world.disk.read_file(&file(1, "a")).unwrap();
    world.write(2, &[b"new"]);
    world.disk.write_file(&file(1, "a"), &old);
    assert_eq!(world.records(), [b"new"]);
}

#[test]
fn a_pair_that_was_never_finished_gives_way_to_the_one_before() {
    let world = World::with_log(4, &[b"old"]);
    world.disk.write_file(&file(5, "a"), &[0; BLOCK_BYTES]);
    world.disk.write_file(&file(5, "b"), &[]);
    assert_eq!(world.load().unwrap().unwrap().sequence, 4);
}

#[test]
fn what_an_unfinished_start_left_is_replaced() {
    let world = World::with_log(4, &[b"old"]);
    world.disk.write_file(&file(5, "a"), &[1; 3 * BLOCK_BYTES]);
    world.write(5, &[b"new"]);
    assert_eq!(world.records(), [b"new"]);
}

#[test]
fn a_record_of_another_pair_is_not_taken_for_one_of_this() {
    let world = World::with_log(1, &[b"old", b"behind"]);
    let old = world.disk.read_file(&file(1, "a")).unwrap();
    world.write(2, &[b"new"]);
    for copy in COPIES {
        let mut mixed = world.disk.read_file(&file(2, copy)).unwrap();
        mixed.extend_from_slice(&old[BLOCK_BYTES..]);
        world.disk.write_file(&file(2, copy), &mixed);
    }
    assert_eq!(world.records(), [b"new"]);
}

#[test]
fn a_newer_version_is_refused() {
    let world = World::with_log(1, &[b"snapshot"]);
    for copy in COPIES {
        let mut bytes = world.disk.read_file(&file(1, copy)).unwrap();
        bytes[4] = 2;
        let checksum = crc32c::crc32c_append(
            crc32c::crc32c(&bytes[..HEAD_BYTES - 4]),
            &bytes[HEAD_BYTES..HEAD_BYTES + 8],
        );
        bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        world.disk.write_file(&file(1, copy), &bytes);
    }
    assert!(matches!(
        world.load(),
        Err(StorageError::Newer {
            found: 2,
            known: RECORD_LOG_VERSION,
            ..
        })
    ));
}

#[test]
fn a_log_of_another_name_in_the_same_directory_is_left_alone() {
    let world = World::with_log(1, &[b"mine"]);
    world.executor.block_on(async {
        RecordLog::start(&world.disk, dir(), "log2", 9, b"other")
            .await
            .map(drop)
            .unwrap();
    });
    world.write(2, &[b"new"]);
    assert_eq!(world.records(), [b"new"]);
    assert!(world.disk.read_file(&dir().join("log2-9.a")).is_some());
}

#[test]
fn an_append_whose_write_or_sync_fails_says_so() {
    for kind in [FaultKind::Write, FaultKind::Sync] {
        for copy in COPIES {
            let world = World::new(1);
            let result = world.executor.block_on(async {
                let mut log = RecordLog::start(&world.disk, dir(), NAME, 1, b"snapshot")
                    .await
                    .unwrap();
                world
                    .disk
                    .inject(Fault::new(kind).at(&format!("log-1.{copy}")));
                log.append(b"one").await
            });
            assert!(matches!(result, Err(StorageError::Io { .. })));
        }
    }
}

#[test]
fn a_start_whose_directory_cannot_be_synced_keeps_the_older_pair() {
    let world = World::with_log(1, &[b"old"]);
    world.disk.inject(Fault::new(FaultKind::SyncDir));
    let started = world
        .executor
        .block_on(RecordLog::start(&world.disk, dir(), NAME, 2, b"new"));
    assert!(started.is_err());
    assert!(world.disk.read_file(&file(1, "a")).is_some());
}

#[test]
fn a_snapshot_pays_once_what_was_appended_has_outgrown_it() {
    let world = World::new(1);
    world.executor.block_on(async {
        let mut log = RecordLog::start(&world.disk, dir(), NAME, 1, b"small")
            .await
            .unwrap();
        assert!(!log.wants_snapshot(ROTATE_BYTES_MIN));
        log.append(&vec![1; ROTATE_BYTES_MIN as usize])
            .await
            .unwrap();
        assert!(log.wants_snapshot(ROTATE_BYTES_MIN));
    });
}

#[test]
fn what_was_written_in_parts_is_there_with_all_of_them() {
    let world = World::new(1);
    world.executor.block_on(async {
        let mut log = RecordLog::start_in_parts(&world.disk, dir(), NAME, 1, &["a", "b"])
            .await
            .unwrap();
        log.append_in_parts(&["c", "d", "e"]).await.unwrap();
        log.append(b"f").await.unwrap();
    });
    assert_eq!(world.records(), [b"a", b"b", b"c", b"d", b"e", b"f"]);
}

#[test]
fn of_parts_whose_last_one_is_not_whole_none_is_there() {
    let world = World::new(1);
    world.executor.block_on(async {
        let mut log = RecordLog::start(&world.disk, dir(), NAME, 1, b"a")
            .await
            .unwrap();
        log.append_in_parts(&["b", "c", "d"]).await.unwrap();
    });
    for copy in COPIES {
        world.flip(1, copy, 3 * BLOCK + HEAD_BYTES as u64);
    }
    assert_eq!(world.records(), [b"a"]);
}

#[test]
fn a_crash_while_a_snapshot_is_written_in_parts_leaves_the_one_before() {
    for seed in SEEDS {
        for steps in 0..60 {
            let world = World::new(seed);
            world.write(1, &[b"old"]);
            let (disk, parts) = (world.disk.clone(), ["new", "new", "new"]);
            let _ = world.executor.block_on_steps(
                RecordLog::start_in_parts(&disk, dir(), NAME, 2, &parts),
                steps,
            );
            world.executor.crash();
            world.disk.crash(CrashPolicy::Any);
            let records = world.records();
            assert!(
                records == [b"old"] || records == [b"new"; 3],
                "{records:?} with seed {seed} after {steps} steps"
            );
        }
    }
}

#[test]
fn a_full_disk_refuses_a_record_and_takes_it_once_there_is_room() {
    let world = World::new(1);
    world.executor.block_on(async {
        let mut log = RecordLog::start(&world.disk, dir(), NAME, 1, b"snapshot")
            .await
            .unwrap();
        world.disk.set_capacity(3 * BLOCK);
        let refused = log.reserve(100).await.unwrap_err();
        assert!(refused.is_disk_full(), "{refused}");
        world.disk.set_capacity(u64::MAX);
        log.reserve(100).await.unwrap();
        log.append(&[7; 100]).await.unwrap();
    });
    assert_eq!(world.records(), [b"snapshot".to_vec(), vec![7; 100]]);
}

#[test]
fn a_start_that_a_full_disk_refuses_leaves_the_log_before_as_it_was() {
    let world = World::with_log(1, &[b"snapshot", b"more"]);
    world.disk.set_capacity(4 * BLOCK);
    let refused = world
        .executor
        .block_on(RecordLog::start(&world.disk, dir(), NAME, 2, b"new"))
        .err()
        .unwrap();
    assert!(refused.is_disk_full(), "{refused}");
    world.disk.crash(CrashPolicy::KeepAll);
    assert_eq!(world.records(), [b"snapshot".to_vec(), b"more".to_vec()]);
}

#[test]
fn a_start_that_runs_out_of_room_after_all_is_final() {
    // The new pair may be whole on the disk: whoever went on with the one before would be forgotten at the next start.
    for writes in 0..2 {
        let world = World::with_log(1, &[b"first"]);
        let fault = Fault::new(FaultKind::WriteNoRoom).at("log-2");
        world.disk.inject(fault.after(writes));
        let started = RecordLog::start(&world.disk, dir(), NAME, 2, b"second");
        let error = world.executor.block_on(started).err().unwrap();
        assert!(!error.is_disk_full(), "{error}");
    }
}

#[test]
fn a_copy_that_was_cut_inside_a_block_is_read_up_to_there() {
    let records: [&[u8]; 3] = [b"snapshot", b"first", b"second"];
    let world = World::with_log(1, &records);
    for copy in ["a", "b"] {
        // Inside the last record's block, and inside the first's.
        for bytes in [2 * BLOCK + 100, 100] {
            let world = World::with_log(1, &records);
            world.disk.set_file_bytes(&file(1, copy), bytes);
            assert_eq!(world.records(), records, "{copy} cut to {bytes}");
        }
        world.disk.set_file_bytes(&file(1, copy), 2 * BLOCK + 30);
    }
    // Both: the last one is whole nowhere.
    assert_eq!(world.records(), records[..2]);
}
