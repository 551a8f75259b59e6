#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::io::sim::{SimDisk, SimExecutor};
use crate::storage::sample::{commit_of, identity};
use crate::storage::scan::Found;

const DIR: &str = "/journal";

/// A file with these commits (bytes a value), the first of which is commit 1; returns where each begins.
fn journal_file(disk: &SimDisk, commits: &[&[usize]]) -> Vec<u64> {
    let mut bytes = vec![0; FIRST_COMMIT_POSITION as usize];
    JournalHeader {
        generation: Generation(1),
        first_lsn: Lsn(1),
        file_bytes: 1 << 20,
        file: FilePlace::NONE,
    }
    .write(&mut bytes);
    let mut positions = Vec::new();
    for (lsn, values) in (1..).zip(commits) {
        positions.push(bytes.len() as u64);
        let batches: Vec<(u32, usize)> = values.iter().map(|bytes| (1, *bytes)).collect();
        bytes.extend(commit_of(identity(1, lsn, bytes.len() as u64), 0, &batches));
    }
    bytes.resize(1 << 20, 0);
    disk.write_file(&path(), &bytes);
    positions
}

fn path() -> PathBuf {
    Path::new(DIR).join(format!("0{JOURNAL_SUFFIX}"))
}

fn scan(executor: &SimExecutor, disk: &SimDisk) -> JournalContents {
    executor
        .block_on(JournalContents::scan(disk, Path::new(DIR), Lsn(0)))
        .unwrap()
}

/// The LSNs of whole commits, and of damaged ones with how many of their entries are whole.
fn found(contents: &JournalContents) -> (Vec<u64>, Vec<(u64, usize)>) {
    let mut whole = Vec::new();
    let mut damaged = Vec::new();
    for found in &contents.found {
        match found {
            Found::Commit(commit) => whole.push(commit.head.identity.lsn.0),
            Found::Damaged(damage) => {
                let entries = damage.entries.iter().flatten();
                let kept = entries.filter(|entry| damage.head.entry_is_whole(&damage.bytes, entry));
                damaged.push((damage.head.identity.lsn.0, kept.count()));
            }
            Found::Unreadable { .. } => {}
        }
    }
    (whole, damaged)
}

fn world() -> (SimExecutor, SimDisk) {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    (executor, disk)
}

#[test]
fn a_sector_that_cannot_be_read_never_costs_the_commits_around_it() {
    for bad in 0..20 {
        let (executor, disk) = world();
        let at = journal_file(&disk, &[&[20_000], &[20_000], &[20_000], &[20_000]]);
        let block = FIRST_COMMIT_POSITION + bad * BLOCK_BYTES as u64;
        disk.fail_sector(&path(), block);
        let hit = at.iter().filter(|start| **start <= block).count() as u64;
        let expected: Vec<u64> = (1..=4).filter(|lsn| *lsn != hit).collect();
        let (whole, damaged) = found(&scan(&executor, &disk));
        assert_eq!(whole, expected, "block {bad}");
        assert!(damaged.iter().all(|(lsn, _)| *lsn == hit), "block {bad}");
    }
}

#[test]
fn an_unreadable_sector_in_a_commit_costs_only_the_batch_it_lies_in() {
    let (executor, disk) = world();
    let at = journal_file(&disk, &[&[20_000, 20_000, 20_000]]);
    disk.fail_sector(&path(), at[0] + 30_000);
    let (_, damaged) = found(&scan(&executor, &disk));
    assert_eq!(damaged.first(), Some(&(1, 2)));
}

#[test]
fn a_commit_whose_first_sector_cannot_be_read_is_salvaged_from_its_foot() {
    let (executor, disk) = world();
    let at = journal_file(&disk, &[&[20_000, 20_000, 20_000]]);
    disk.fail_sector(&path(), at[0]);
    let (_, damaged) = found(&scan(&executor, &disk));
    // The first batch begins in the block that is lost.
    assert_eq!(damaged, [(1, 2)]);
}

#[test]
fn a_header_copy_that_cannot_be_read_leaves_the_other_one() {
    for copy in 0..2 {
        let (executor, disk) = world();
        journal_file(&disk, &[&[10]]);
        disk.fail_sector(&path(), copy * BLOCK_BYTES as u64);
        let contents = scan(&executor, &disk);
        assert_eq!(contents.lives.generations, [Generation(1)]);
    }
}

#[test]
fn a_directory_that_is_not_there_holds_no_files() {
    let (executor, disk) = world();
    assert_eq!(scan(&executor, &disk).file_count(), 0);
}

#[test]
fn a_put_to_use_file_has_a_life_above_all_others_before_its_first_commit() {
    let (executor, disk) = world();
    journal_file(&disk, &[&[10]]);
    executor.block_on(async {
        let contents = JournalContents::scan(&disk, Path::new(DIR), Lsn(0))
            .await
            .unwrap();
        let journal = Journal::open(
            &disk,
            Path::new(DIR),
            1 << 20,
            1,
            &contents,
            Generation(1),
            Lsn(1),
        )
        .await
        .unwrap();
        journal.rotate(Lsn(2)).await.unwrap();
        assert_eq!(
            journal.place(BLOCK_BYTES).unwrap().generation,
            Generation(2)
        );
    });
    disk.crash(crate::io::sim::CrashPolicy::KeepSynced);
    let mut generations = scan(&executor, &disk).lives.generations;
    generations.sort_unstable();
    assert_eq!(generations, [Generation(1), Generation(2)]);
}

#[test]
fn a_spare_whose_name_no_sync_has_seen_yet_has_a_durable_name_before_it_is_used() {
    let (executor, disk) = world();
    executor.block_on(async {
        crate::io::Disk::create_dir_all(&disk, Path::new(DIR))
            .await
            .unwrap();
        // A life that was killed right before it synced the directory.
        let path = path_of(Path::new(DIR), 0);
        let file = disk.open(&path, OpenMode::CreateNew).await.unwrap();
        file.allocate(1 << 20).await.unwrap();
        file.write_at(0, &zeros(&disk, 1 << 20)).await.unwrap();
        file.sync().await.unwrap();
    });
    disk.crash(crate::io::sim::CrashPolicy::ProcessKilled);
    executor.block_on(async {
        let contents = JournalContents::scan(&disk, Path::new(DIR), Lsn(0))
            .await
            .unwrap();
        let journal = Journal::open(
            &disk,
            Path::new(DIR),
            1 << 20,
            1,
            &contents,
            Generation(0),
            Lsn(0),
        )
        .await
        .unwrap();
        journal.recycle(Lsn(0)).await.unwrap();
        journal.rotate(Lsn(1)).await.unwrap();
        assert_eq!(journal.disk_bytes(), 1 << 20, "the spare is used");
    });
    disk.crash(crate::io::sim::CrashPolicy::KeepSynced);
    assert_eq!(scan(&executor, &disk).lives.generations, [Generation(1)]);
}

#[test]
fn commits_under_a_header_that_was_never_written_are_found() {
    let (executor, disk) = world();
    journal_file(&disk, &[&[100], &[20_000]]);
    // The disk claimed to have written the header: a new file's is blank, a recycled one's is that of its former life.
    disk.overwrite(&path(), 0, &[0; 2 * BLOCK_BYTES]);
    assert_eq!(found(&scan(&executor, &disk)).0, [1, 2]);
    let mut former = vec![0; 2 * BLOCK_BYTES];
    JournalHeader {
        generation: Generation(0),
        first_lsn: Lsn(1),
        file_bytes: 1 << 20,
        file: FilePlace::NONE,
    }
    .write(&mut former);
    disk.overwrite(&path(), 0, &former);
    assert_eq!(found(&scan(&executor, &disk)).0, [1, 2]);
}

#[test]
fn a_former_lifes_header_never_hides_the_commits_of_a_life_whose_header_was_never_written() {
    let (executor, disk) = world();
    let header = |generation, first_lsn| {
        let mut bytes = vec![0; 1 << 20];
        JournalHeader {
            generation: Generation(generation),
            first_lsn: Lsn(first_lsn),
            file_bytes: 1 << 20,
            file: FilePlace::NONE,
        }
        .write(&mut bytes[..2 * BLOCK_BYTES]);
        bytes
    };
    // Used for life 1, and again for life 3; between them life 2 began, below what segments have.
    let mut used_again = header(1, 1);
    let commit = commit_of(identity(3, 9, FIRST_COMMIT_POSITION), 0, &[(1, 100)]);
    let at = 2 * BLOCK_BYTES;
    used_again[at..at + commit.len()].copy_from_slice(&commit);
    disk.write_file(&path_of(Path::new(DIR), 0), &used_again);
    disk.write_file(&path_of(Path::new(DIR), 1), &header(2, 5));
    let contents = executor
        .block_on(JournalContents::scan(&disk, Path::new(DIR), Lsn(8)))
        .unwrap();
    assert_eq!(found(&contents).0, [9]);
}
