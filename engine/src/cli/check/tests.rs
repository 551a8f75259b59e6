use super::*;
use crate::cli::examine::Verdict;
use crate::cli::examine::fixture::{Stored, flip};

fn checked(stored: &Stored) -> (Verdict, String) {
    let data = DataDir::new(stored.dir.path());
    let (catalogue, _) = now(Catalogue::load(&ReadOnlyDisk, &data.catalogue()))
        .expect("readable")
        .expect("there");
    let mut out = Vec::new();
    let mut report = Report::new(&mut out);
    check(&data, &catalogue, &mut report).expect("checked");
    let verdict = report.verdict();
    report.finish().expect("written");
    (verdict, String::from_utf8(out).expect("text"))
}

#[test]
fn what_a_broker_left_is_clean() {
    let (verdict, text) = checked(&Stored::new());
    assert_eq!(verdict, Verdict::Clean, "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.starts_with("1 partitions, 2 batches in segments"),
        "{text}"
    );
    assert!(text.contains("2 commits to replay: clean"), "{text}");
}

#[test]
fn every_flipped_bit_of_a_batch_in_a_segment_names_offsets_that_are_lost() {
    let stored = Stored::new();
    let bytes = std::fs::read(&stored.segment).expect("readable");
    for start in &stored.batches[..2] {
        // The filler behind a batch belongs to none.
        let length = &bytes[*start as usize..][..4];
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        for position in *start..*start + u64::from(length) {
            flip(&stored.segment, position);
            let (verdict, text) = checked(&stored);
            assert_eq!(verdict, Verdict::Damaged, "byte {position}: {text}");
            assert!(
                text.contains("orders/0: offsets "),
                "byte {position}: {text}"
            );
            flip(&stored.segment, position);
        }
    }
}

#[test]
fn records_that_are_damaged_under_a_whole_stamp_are_lost_alone() {
    let stored = Stored::new();
    flip(&stored.segment, stored.batches[0] + 90);
    let (_, text) = checked(&stored);
    assert!(text.contains("offsets 0..2 are lost"), "{text}");
    assert!(!text.contains("offsets 2..5"), "{text}");
}

#[test]
fn a_missing_segment_is_damage() {
    let stored = Stored::new();
    std::fs::remove_file(&stored.segment).expect("removed");
    let (verdict, text) = checked(&stored);
    assert_eq!(verdict, Verdict::Damaged);
    assert!(text.contains("orders/0: offsets 0..5 are gone"), "{text}");
}

#[test]
fn a_broken_last_commit_is_a_torn_tail() {
    let stored = Stored::new();
    flip(&stored.journal, stored.commits[1] + 200);
    let (verdict, text) = checked(&stored);
    assert_eq!(verdict, Verdict::TornTail, "{text}");
    assert!(text.contains("the journal ends with commit 11"), "{text}");
}

#[test]
fn a_broken_commit_that_was_durable_names_the_offsets_it_held() {
    let stored = Stored::new();
    flip(&stored.journal, stored.commits[0] + 200);
    let (verdict, text) = checked(&stored);
    assert_eq!(verdict, Verdict::Damaged, "{text}");
    assert!(text.contains("offsets 5..6"), "{text}");
}

#[test]
fn a_segment_that_nothing_names_is_noted_and_no_fault() {
    let stored = Stored::new();
    std::fs::copy(
        &stored.segment,
        stored.segment.with_file_name("0000000000000099.seg"),
    )
    .expect("copied");
    let (verdict, text) = checked(&stored);
    assert_eq!(verdict, Verdict::Clean, "{text}");
    assert!(text.contains("note: 1 segments"), "{text}");
}

#[test]
fn a_directory_without_a_catalogue_is_no_data_directory_or_a_damaged_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = DataDir::new(dir.path());
    assert_eq!(no_catalogue(&data).status, ExitStatus::Environment);
    std::fs::create_dir(data.topics()).expect("created");
    assert_eq!(no_catalogue(&data).status, ExitStatus::Damaged);
}

#[test]
fn a_directory_that_a_broker_holds_is_not_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = File::create(dir.path().join("LOCK")).expect("created");
    flock(&held, FlockOperation::NonBlockingLockExclusive).expect("locked");
    let failure = lock(dir.path()).expect_err("held");
    assert!(failure.sentence.contains("a broker runs"), "{failure}");
    drop(held);
    assert!(lock(dir.path()).expect("free").is_some());
}

#[test]
fn a_damaged_journal_file_of_a_former_number_of_shards_is_named() {
    let stored = Stored::new();
    let journal = DataDir::new(stored.dir.path()).journal(0, ShardIndex(3));
    std::fs::create_dir_all(&journal).expect("created");
    for name in ["00000002.gnj", "00000002.gnj.damaged"] {
        std::fs::write(journal.join(name), b"").expect("written");
    }
    let (verdict, text) = checked(&stored);
    assert_eq!(verdict, Verdict::Damaged, "{text}");
    assert!(
        text.contains("shard-3/journal/00000002.gnj of a former"),
        "{text}"
    );
}
