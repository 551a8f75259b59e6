use std::path::Path;

use super::*;
use crate::cli::examine::fixture::{self, Stored, flip};

fn inspected(path: &Path, entries: bool) -> (Verdict, String) {
    let file = StoredFile::open_named(path).expect("there");
    let mut out = Vec::new();
    let verdict = match Kind::of(&file).expect("known") {
        Kind::Journal => write_journal(
            JournalScan::read(&file).expect("readable"),
            entries,
            &mut out,
        ),
        Kind::Segment(header) => write_segment(&file, header, &mut out),
    };
    (
        verdict.expect("memory"),
        String::from_utf8(out).expect("text"),
    )
}

#[test]
fn a_journal_file_is_listed_commit_by_commit() {
    let stored = Stored::new();
    let (verdict, text) = inspected(&stored.journal, true);
    assert_eq!(verdict, Verdict::Clean, "{text}");
    assert!(
        text.starts_with("journal file of 256.0 KiB, generation 3, first commit 11\n"),
        "{text}"
    );
    assert!(text.contains("commit 12  durable 11"), "{text}");
    assert!(text.contains("offsets 6..9"), "{text}");
}

#[test]
fn a_broken_last_commit_is_a_torn_tail_and_one_before_it_is_damage() {
    for (commit, expected) in [(1, Verdict::TornTail), (0, Verdict::Damaged)] {
        let stored = Stored::new();
        flip(&stored.journal, stored.commits[commit] + 200);
        let (verdict, text) = inspected(&stored.journal, false);
        assert_eq!(verdict, expected, "{text}");
        assert!(text.contains("not whole"), "{text}");
    }
}

#[test]
fn a_segment_is_listed_batch_by_batch() {
    let stored = Stored::new();
    let (verdict, text) = inspected(&stored.segment, false);
    assert_eq!(verdict, Verdict::Clean, "{text}");
    assert!(text.contains("of partition 0000000000000001/0"), "{text}");
    assert!(
        text.contains("offsets 0..2") && text.contains("offsets 2..5"),
        "{text}"
    );
}

#[test]
fn a_broken_batch_before_a_whole_one_is_damage_and_the_last_one_may_be_torn() {
    for (batch, expected) in [(0, Verdict::Damaged), (1, Verdict::TornTail)] {
        let stored = Stored::new();
        flip(&stored.segment, stored.batches[batch] + 100);
        let (verdict, text) = inspected(&stored.segment, false);
        assert_eq!(verdict, expected, "{text}");
    }
}

#[test]
fn a_sector_of_zeros_is_no_filler_and_what_stands_behind_it_is_listed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("00.seg");
    // Several batches in a sector, and in the block.
    let batches = fixture::write_segment(&path, &[1; 12]);
    let mut bytes = std::fs::read(&path).expect("there");
    let zeroed = 4096 + 512..4096 + 1024;
    bytes[zeroed.clone()].fill(0);
    std::fs::write(&path, &bytes).expect("written");
    let (verdict, text) = inspected(&path, false);
    assert_eq!(verdict, Verdict::Damaged, "{text}");
    for (offset, batch) in batches.windows(2).enumerate() {
        let is_whole = batch[1] <= zeroed.start as u64 || batch[0] >= zeroed.end as u64;
        let listed = text.contains(&format!("offsets {offset}..{}", offset + 1));
        // Of one that is only torn the head may stand yet.
        assert!(listed || !is_whole, "offset {offset}: {text}");
    }
}

#[test]
fn room_that_was_reserved_and_not_used_is_no_damage() {
    let stored = Stored::new();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&stored.segment);
    file.and_then(|file| file.set_len(1 << 20))
        .expect("writable");
    assert_eq!(inspected(&stored.segment, false).0, Verdict::Clean);
}

#[test]
fn a_file_of_another_kind_is_a_wrong_argument_unless_its_name_says_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    let other = dir.path().join("notes.txt");
    std::fs::write(&other, "hello").expect("written");
    let failure = Kind::of(&StoredFile::open_named(&other).expect("there"))
        .err()
        .expect("refused");
    assert_eq!(failure.status, ExitStatus::Usage);
    let wiped = dir.path().join("00.seg");
    std::fs::write(&wiped, vec![0xFF; 8192]).expect("written");
    assert_eq!(inspected(&wiped, false).0, Verdict::Damaged);
}
