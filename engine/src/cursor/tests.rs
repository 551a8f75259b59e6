#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn commit(group: &str, offset: u64) -> CommittedOffset {
    CommittedOffset {
        group: group.into(),
        offset: Offset(offset),
        metadata: format!("note {offset}"),
    }
}

fn fetched(committed: &CommittedOffsets, group: &str) -> Option<u64> {
    committed.fetch(group).map(|committed| committed.offset.0)
}

#[test]
fn each_group_has_an_offset_of_its_own() {
    let mut committed = CommittedOffsets::default();
    committed.apply(commit("a", 5), Lsn(1));
    committed.apply(commit("b", 9), Lsn(1));
    assert_eq!(fetched(&committed, "a"), Some(5));
    assert_eq!(fetched(&committed, "b"), Some(9));
    assert_eq!(fetched(&committed, "c"), None);
}

#[test]
fn an_older_commit_never_overwrites_a_newer() {
    let mut committed = CommittedOffsets::default();
    committed.apply(commit("a", 9), Lsn(7));
    committed.apply(commit("a", 5), Lsn(6));
    assert_eq!(fetched(&committed, "a"), Some(9));
}

#[test]
fn a_newer_commit_may_go_back() {
    let mut committed = CommittedOffsets::default();
    committed.apply(commit("a", 9), Lsn(7));
    committed.apply(commit("a", 5), Lsn(8));
    assert_eq!(fetched(&committed, "a"), Some(5));
}

#[test]
fn of_two_in_one_commit_the_later_counts() {
    let mut committed = CommittedOffsets::default();
    committed.apply(commit("a", 9), Lsn(7));
    committed.apply(commit("a", 5), Lsn(7));
    assert_eq!(fetched(&committed, "a"), Some(5));
}

#[test]
fn an_older_commit_replayed_after_a_checkpoint_never_overwrites_it() {
    let mut committed = CommittedOffsets::default();
    committed.apply(commit("a", 9), Lsn(7));
    let mut restored = CommittedOffsets::restore(&committed.records());
    restored.apply(commit("a", 5), Lsn(6));
    assert_eq!(restored.fetch("a"), committed.fetch("a"));
}

#[test]
fn groups_are_bounded_and_those_that_are_known_go_on() {
    let mut committed = CommittedOffsets::default();
    for group in 0..GROUPS_MAX {
        assert!(committed.accepts(&group.to_string()));
        committed.apply(commit(&group.to_string(), 1), Lsn(1));
    }
    assert!(!committed.accepts("one more"));
    assert!(committed.accepts("0"));
}

#[test]
fn an_entry_comes_back_as_it_was_written() {
    for commit in [commit("group", 5), commit("", 0), commit("ä", u64::MAX)] {
        assert_eq!(CommittedOffset::decode(&commit.encode()), Some(commit));
    }
}

#[test]
fn an_entry_cut_before_its_note_is_none() {
    let bytes = commit("group", 5).encode();
    for length in 0..12 + "group".len() {
        assert_eq!(CommittedOffset::decode(&bytes[..length]), None);
    }
}

#[test]
fn a_group_longer_than_its_entry_is_none() {
    let mut bytes = commit("group", 5).encode();
    bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(CommittedOffset::decode(&bytes), None);
}

#[test]
fn a_group_that_is_not_utf_8_is_none() {
    let mut bytes = commit("group", 5).encode();
    bytes[12] = 0xFF;
    assert_eq!(CommittedOffset::decode(&bytes), None);
}
