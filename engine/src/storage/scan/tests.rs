#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::storage::commit::{ENTRY_BYTES, HEAD_BYTES};
use crate::storage::sample::{commit_of, disk_buffer, identity};

const GENERATION: u64 = 3;
/// The file that is scanned, and another one.
const FILE: FilePlace = FilePlace(9);
const OTHER_FILE: FilePlace = FilePlace(10);
const START: u64 = FIRST_COMMIT_POSITION;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A journal file's bytes, commit by commit.
struct File {
    bytes: Vec<u8>,
    /// Where each commit begins.
    commits: Vec<usize>,
}

impl File {
    fn new() -> Self {
        Self {
            bytes: vec![0; START as usize],
            commits: Vec::new(),
        }
    }

    fn commit(mut self, generation: u64, lsn: u64, batches: &[(u32, usize)]) -> Self {
        let identity = identity(generation, lsn, self.bytes.len() as u64);
        self.commits.push(self.bytes.len());
        self.bytes.extend(commit_of(identity, 0, batches));
        self
    }

    /// A commit that was meant for `file`.
    fn commit_of(mut self, file: FilePlace, lsn: u64) -> Self {
        let identity = CommitIdentity {
            file,
            ..identity(GENERATION, lsn, self.bytes.len() as u64)
        };
        self.commits.push(self.bytes.len());
        self.bytes.extend(commit_of(identity, 0, &[(1, 10)]));
        self
    }

    fn blocks(mut self, blocks: usize, byte: u8) -> Self {
        self.bytes
            .resize(self.bytes.len() + blocks * BLOCK_BYTES, byte);
        self
    }

    fn flip(mut self, at: usize) -> Self {
        self.bytes[at] ^= 1;
        self
    }

    /// Scans as a disk would that has an unreadable block here and there.
    fn scan_with(&self, generation: Option<Generation>, unreadable: &[u64]) -> Vec<Found> {
        let mut scanner = Scanner::new(Some(FILE), generation, self.bytes.len() as u64);
        let mut reads = 0;
        while let Some((position, bytes)) = scanner.poll_read() {
            reads += 1;
            assert!(reads < 1_000, "the scan does not end");
            let end = (position as usize + bytes).min(self.bytes.len());
            match unreadable
                .iter()
                .filter(|block| (position..end as u64).contains(block))
                .min()
            {
                None => {
                    scanner.handle_read(position, &disk_buffer(&self.bytes[position as usize..end]))
                }
                Some(block) if *block == position => scanner.handle_unreadable(position),
                Some(block) => {
                    let part = &self.bytes[position as usize..*block as usize];
                    scanner.handle_read(position, &disk_buffer(part));
                }
            }
        }
        scanner.into_found()
    }

    fn scan(&self) -> Vec<Found> {
        self.scan_with(Some(Generation(GENERATION)), &[])
    }
}

/// One word for each thing found.
fn summary(found: &[Found]) -> Vec<String> {
    found
        .iter()
        .map(|found| match found {
            Found::Commit(commit) => format!("commit {}", commit.head.identity.lsn),
            Found::Damaged(damage) => format!(
                "damaged {} {}",
                damage.head.identity.lsn,
                damage.entries.as_ref().map_or(0, Vec::len)
            ),
            Found::Unreadable { position } => format!("unreadable {}", (position - START) / BLOCK),
        })
        .collect()
}

fn two_commits() -> File {
    File::new()
        .commit(GENERATION, 1, &[(1, 10), (1, 10)])
        .commit(GENERATION, 2, &[(1, 10)])
}

#[test]
fn commits_are_found_in_the_order_of_the_file() {
    let file = two_commits().blocks(3, 0);
    assert_eq!(summary(&file.scan()), ["commit 1", "commit 2"]);
}

#[test]
fn a_pre_written_file_holds_nothing() {
    assert!(File::new().blocks(8, 0).scan().is_empty());
}

#[test]
fn a_file_shorter_than_its_header_holds_nothing() {
    assert!(Scanner::new(Some(FILE), None, BLOCK).poll_read().is_none());
}

#[test]
fn commits_of_a_former_life_are_passed_over() {
    let file = File::new()
        .commit(GENERATION, 8, &[(1, 10)])
        .commit(GENERATION - 1, 2, &[(1, 10)])
        .commit(GENERATION - 1, 3, &[(1, 10)]);
    assert_eq!(summary(&file.scan()), ["commit 8"]);
}

#[test]
fn what_was_meant_for_another_file_is_passed_over() {
    let file = File::new()
        .commit_of(FILE, 1)
        .commit_of(OTHER_FILE, 2)
        .commit_of(OTHER_FILE, 3)
        .commit_of(FILE, 4);
    // By its foot as well.
    let head = file.commits[2];
    assert_eq!(summary(&file.flip(head).scan()), ["commit 1", "commit 4"]);
}

#[test]
fn every_life_counts_when_the_header_of_the_file_is_lost() {
    let file = File::new()
        .commit(GENERATION, 8, &[(1, 10)])
        .commit(GENERATION - 1, 2, &[(1, 10)]);
    assert_eq!(
        summary(&file.scan_with(None, &[])),
        ["commit 8", "commit 2"]
    );
}

#[test]
fn a_damaged_head_is_found_by_its_foot() {
    let file = two_commits();
    let head = file.commits[0];
    assert_eq!(
        summary(&file.flip(head).scan()),
        ["damaged 1 2", "commit 2"]
    );
}

#[test]
fn a_foot_below_the_head_of_a_former_life_is_found() {
    // The file held a commit of a former life there, and the sector with the head was never written.
    let former = File::new().commit(GENERATION - 1, 2, &[(1, 10)]);
    for newer in [false, true] {
        let mut file = two_commits();
        let head = &mut file.bytes[START as usize..][..512];
        head.copy_from_slice(&former.bytes[START as usize..][..512]);
        if newer {
            set_version(head, 2);
        }
        assert_eq!(summary(&file.scan()), ["damaged 1 2", "commit 2"]);
    }
}

#[test]
fn the_entries_behind_a_damaged_head_are_whole() {
    let file = two_commits();
    let head = file.commits[0];
    let found = file.flip(head).scan();
    let Found::Damaged(damage) = &found[0] else {
        panic!("{found:?}");
    };
    assert_eq!(damage.fault, CommitFault::NoHead);
    let entries = damage.entries.as_ref().unwrap();
    assert!(
        entries
            .iter()
            .all(|entry| damage.head.entry_is_whole(&damage.bytes, entry))
    );
}

#[test]
fn a_damaged_foot_does_not_hide_the_entries() {
    let file = two_commits();
    let foot = file.commits[1] - HEAD_BYTES;
    let found = file.flip(foot).scan();
    assert_eq!(summary(&found), ["damaged 1 2", "commit 2"]);
}

#[test]
fn a_directory_that_is_damaged_at_the_head_is_read_at_the_foot() {
    let file = two_commits();
    let directory = file.commits[0] + HEAD_BYTES + 4;
    assert_eq!(
        summary(&file.flip(directory).scan()),
        ["damaged 1 2", "commit 2"]
    );
}

#[test]
fn with_both_directories_damaged_only_the_head_is_known() {
    let file = two_commits();
    let first = file.commits[0] + HEAD_BYTES + 4;
    let second = file.commits[1] - HEAD_BYTES - ENTRY_BYTES + 4;
    assert_eq!(
        summary(&file.flip(first).flip(second).scan()),
        ["damaged 1 0", "commit 2"]
    );
}

#[test]
fn with_head_and_foot_damaged_the_next_commit_is_still_found() {
    let file = two_commits();
    let (head, foot) = (file.commits[0], file.commits[1] - HEAD_BYTES);
    assert_eq!(summary(&file.flip(head).flip(foot).scan()), ["commit 2"]);
}

#[test]
fn a_torn_commit_at_the_end_is_damaged_and_not_whole() {
    let mut file = File::new()
        .commit(GENERATION, 1, &[(1, 10)])
        .commit(GENERATION, 2, &[(1, 10_000)])
        .blocks(2, 0);
    let second = file.commits[1];
    file.bytes[second + BLOCK_BYTES..second + 2 * BLOCK_BYTES].fill(0);
    assert_eq!(summary(&file.scan()), ["commit 1", "damaged 2 1"]);
}

#[test]
fn a_commit_longer_than_its_file_is_damaged() {
    let mut file = File::new().commit(GENERATION, 1, &[(1, 10_000)]);
    file.bytes.truncate(START as usize + BLOCK_BYTES);
    assert_eq!(summary(&file.scan()), ["damaged 1 1"]);
}

#[test]
fn a_commit_across_the_end_of_a_read_is_whole() {
    // The second one begins in the last block of the first read.
    let blocks = SCAN_READ_BYTES / BLOCK_BYTES - 1;
    let file = File::new()
        .blocks(blocks, 0)
        .commit(GENERATION, 1, &[(1, 10_000)])
        .commit(GENERATION, 2, &[(1, 10)]);
    assert_eq!(summary(&file.scan()), ["commit 1", "commit 2"]);
}

#[test]
fn a_damaged_head_across_the_end_of_a_read_is_found_by_its_foot() {
    let blocks = SCAN_READ_BYTES / BLOCK_BYTES - 1;
    let file = File::new()
        .blocks(blocks, 0)
        .commit(GENERATION, 1, &[(1, 10_000)]);
    let head = file.commits[0];
    assert_eq!(summary(&file.flip(head).scan()), ["damaged 1 1"]);
}

#[test]
fn a_whole_commit_in_the_wrong_place_is_passed_over() {
    let mut file = two_commits().blocks(2, 0);
    let first = file.bytes[file.commits[0]..file.commits[1]].to_vec();
    let end = file.bytes.len();
    file.bytes[end - first.len()..].copy_from_slice(&first);
    assert_eq!(summary(&file.scan()), ["commit 1", "commit 2"]);
}

#[test]
fn an_unreadable_block_is_given_up_and_what_follows_is_found() {
    let file = two_commits();
    assert_eq!(
        summary(&file.scan_with(Some(Generation(GENERATION)), &[START])),
        ["unreadable 0", "commit 2"]
    );
}

#[test]
fn a_bad_block_behind_a_commit_does_not_make_the_commit_short() {
    // A reader that narrows a failed read down may stop in the middle of the commit before the bad block.
    let file = File::new()
        .commit(GENERATION, 1, &[(1, 10_000)])
        .blocks(1, 0)
        .commit(GENERATION, 2, &[(1, 10)]);
    let mut scanner = Scanner::new(
        Some(FILE),
        Some(Generation(GENERATION)),
        file.bytes.len() as u64,
    );
    let (position, _) = scanner.poll_read().unwrap();
    let narrowed = &file.bytes[START as usize..][..BLOCK_BYTES];
    scanner.handle_read(position, &disk_buffer(narrowed));
    assert!(
        scanner
            .poll_read()
            .is_some_and(|(again, bytes)| again == START
                && bytes == file.commits[1] - START as usize - BLOCK_BYTES),
        "the commit's own bytes are asked for"
    );
}

/// Makes a head that of another format.
fn set_version(commit: &mut [u8], version: u8) {
    commit[4] = version;
    let checksum = crc32c::crc32c(&commit[4..HEAD_BYTES - 4]);
    commit[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_commit_of_a_newer_format_is_noticed() {
    let mut file = two_commits();
    set_version(&mut file.bytes[START as usize..], 2);
    let mut scanner = Scanner::new(
        Some(FILE),
        Some(Generation(GENERATION)),
        file.bytes.len() as u64,
    );
    while let Some((position, bytes)) = scanner.poll_read() {
        let end = (position as usize + bytes).min(file.bytes.len());
        scanner.handle_read(position, &disk_buffer(&file.bytes[position as usize..end]));
    }
    assert!(scanner.met_newer());
}
