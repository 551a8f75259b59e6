#![allow(clippy::unwrap_used, reason = "tests")]

use gannet_wire::batch::verify_stamped;

use super::*;
use crate::storage::sample::{
    KEY, OTHER_KEY, TIME, batch, batch_stamp, commit_of, identity, stamped,
};

const POSITION: u64 = 2 * BLOCK_BYTES as u64;

/// A commit with an entry of each kind, in one block.
fn mixed() -> (Vec<u8>, u32) {
    let batch = batch(3);
    let mut bytes = vec![0xAA; commit_bytes(3, batch.len() + 11)];
    let mut writer = CommitWriter::new(&mut bytes, full_identity(), 3);
    writer.batch(&batch, &batch_stamp(KEY, 40, 3));
    writer.entry(EntryKind::DirectRun, OTHER_KEY, Offset(9), 5, b"a run");
    writer.entry(EntryKind::CommittedOffset, KEY, Offset(0), 0, b"offset");
    let checksum = writer.finish();
    (bytes, checksum)
}

fn full_identity() -> CommitIdentity {
    CommitIdentity {
        durable_lsn: Lsn(9),
        previous_checksum: 0xDEAD_BEEF,
        ..identity(4, 12, POSITION)
    }
}

fn checked(bytes: &[u8]) -> Result<Vec<Entry>, CommitFault> {
    CommitHead::read(bytes, POSITION)?.check(bytes)
}

/// The bytes between payload and second directory, which say nothing.
fn filler(bytes: &[u8]) -> std::ops::Range<usize> {
    let entries = checked(bytes).unwrap();
    let payload_end = entries
        .iter()
        .map(|entry| entry.start + entry.length)
        .max()
        .unwrap();
    payload_end as usize..bytes.len() - HEAD_BYTES - entries.len() * ENTRY_BYTES
}

fn flipped(bytes: &[u8], at: usize, bit: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    bytes
}

/// Changes a head or foot and makes its checksum right again.
fn resealed(bytes: &[u8], at: usize, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let head = &mut bytes[at..at + HEAD_BYTES];
    change(head);
    let checksum = crc32c::crc32c(&head[4..HEAD_BYTES - 4]);
    head[HEAD_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn a_head_comes_back_as_it_was_written() {
    let (bytes, checksum) = mixed();
    let head = CommitHead::read(&bytes, POSITION).unwrap();
    assert_eq!(head.identity, full_identity());
    assert_eq!(head.commit_bytes, bytes.len());
    assert_eq!(head.entries, 3);
    assert_eq!(head.checksum, checksum);
}

#[test]
fn entries_come_back_in_order_with_their_bytes() {
    let (bytes, _) = mixed();
    let entries = checked(&bytes).unwrap();
    let kinds: Vec<_> = entries
        .iter()
        .map(|entry| (entry.kind, entry.key, entry.base_offset, entry.record_count))
        .collect();
    assert_eq!(
        kinds,
        [
            (EntryKind::Batch, KEY, Offset(40), 3),
            (EntryKind::DirectRun, OTHER_KEY, Offset(9), 5),
            (EntryKind::CommittedOffset, KEY, Offset(0), 0),
        ]
    );
    assert_eq!(entries[1].bytes_in(&bytes), Some(&b"a run"[..]));
    assert_eq!(entries[2].bytes_in(&bytes), Some(&b"offset"[..]));
}

#[test]
fn a_batch_is_stamped_where_it_lies_in_the_commit() {
    let (bytes, _) = mixed();
    let entries = checked(&bytes).unwrap();
    let batch = entries[0].bytes_in(&bytes).unwrap();
    let header = verify_stamped(batch, KEY.topic, KEY.partition).unwrap();
    assert_eq!(
        (header.base_offset(), header.append_time()),
        (Offset(40), TIME)
    );
}

#[test]
fn a_mark_is_a_commit_of_one_block_without_entries() {
    let bytes = commit_of(identity(1, 1, POSITION), 0, &[]);
    assert_eq!(bytes.len(), BLOCK_BYTES);
    assert_eq!(checked(&bytes), Ok(Vec::new()));
}

#[test]
fn what_the_buffer_held_before_does_not_reach_the_disk() {
    let (bytes, _) = mixed();
    assert!(bytes[filler(&bytes)].iter().all(|byte| *byte == 0));
}

#[test]
fn every_flipped_bit_outside_the_filler_is_found() {
    let (bytes, _) = mixed();
    let filler = filler(&bytes);
    for at in (0..bytes.len()).filter(|at| !filler.contains(at)) {
        for bit in 0..8 {
            assert!(
                checked(&flipped(&bytes, at, bit)).is_err(),
                "bit {bit} of byte {at}"
            );
        }
    }
}

#[test]
fn a_flip_in_the_filler_changes_nothing_that_is_read() {
    let (bytes, _) = mixed();
    let at = filler(&bytes).start;
    assert_eq!(checked(&flipped(&bytes, at, 0)), checked(&bytes));
}

#[test]
fn the_foot_says_what_a_lost_head_said() {
    let (bytes, _) = mixed();
    let head = CommitHead::read(&bytes, POSITION).unwrap();
    let end = POSITION + bytes.len() as u64;
    assert_eq!(CommitHead::read_foot(&bytes, end), Ok(head));
}

#[test]
fn the_directory_at_the_foot_is_whole_when_the_one_at_the_head_is_not() {
    let (bytes, _) = mixed();
    let head = CommitHead::read(&bytes, POSITION).unwrap();
    let damaged = flipped(&bytes, HEAD_BYTES + 5, 3);
    assert_eq!(
        head.directory(&damaged, DirectoryCopy::Head),
        Err(CommitFault::Directory)
    );
    assert_eq!(
        head.directory(&damaged, DirectoryCopy::Foot),
        checked(&bytes)
    );
}

#[test]
fn a_damaged_batch_leaves_the_others_of_its_commit_whole() {
    let bytes = commit_of(identity(1, 1, POSITION), 0, &[(1, 10), (1, 10), (1, 10)]);
    let head = CommitHead::read(&bytes, POSITION).unwrap();
    let entries = checked(&bytes).unwrap();
    let damaged = flipped(
        &bytes,
        (entries[1].start + entries[1].length - 1) as usize,
        0,
    );
    assert_eq!(head.check(&damaged), Err(CommitFault::Entry));
    let whole: Vec<_> = entries
        .iter()
        .map(|entry| head.entry_is_whole(&damaged, entry))
        .collect();
    assert_eq!(whole, [true, false, true]);
}

#[test]
fn a_head_that_stands_elsewhere_is_misplaced() {
    let (bytes, _) = mixed();
    assert_eq!(
        CommitHead::read(&bytes, POSITION + BLOCK_BYTES as u64),
        Err(CommitFault::Misplaced)
    );
}

#[test]
fn a_foot_that_stands_elsewhere_is_misplaced() {
    let (bytes, _) = mixed();
    assert_eq!(
        CommitHead::read_foot(&bytes, POSITION),
        Err(CommitFault::Misplaced)
    );
}

/// The head of one commit before the rest of another that holds the same entries.
fn head_before_rest_of(other: CommitIdentity) -> Result<Vec<Entry>, CommitFault> {
    let mut bytes = commit_of(other, 0, &[(1, 10)]);
    let own = commit_of(identity(2, 5, POSITION), 0, &[(1, 10)]);
    bytes[..HEAD_BYTES].copy_from_slice(&own[..HEAD_BYTES]);
    checked(&bytes)
}

#[test]
fn what_another_life_left_behind_a_head_is_not_its_directory() {
    assert_eq!(
        head_before_rest_of(identity(1, 5, POSITION)),
        Err(CommitFault::Directory)
    );
}

#[test]
fn what_another_commit_left_behind_a_head_is_not_its_directory() {
    assert_eq!(
        head_before_rest_of(identity(2, 4, POSITION)),
        Err(CommitFault::Directory)
    );
}

#[test]
fn the_same_batch_has_another_checksum_in_another_life() {
    let batch = stamped(1, 10, 0);
    assert_ne!(
        entry_checksum(&identity(1, 5, POSITION), EntryKind::Batch, &batch),
        entry_checksum(&identity(2, 5, POSITION), EntryKind::Batch, &batch)
    );
}

#[test]
fn a_commit_cut_at_any_block_is_short() {
    let bytes = commit_of(identity(1, 1, POSITION), 0, &[(1, 10_000)]);
    let head = CommitHead::read(&bytes, POSITION).unwrap();
    for blocks in 1..bytes.len() / BLOCK_BYTES {
        assert_eq!(
            head.check(&bytes[..blocks * BLOCK_BYTES]),
            Err(CommitFault::Short)
        );
    }
}

#[test]
fn every_block_that_was_not_written_is_found() {
    let bytes = commit_of(identity(1, 1, POSITION), 0, &[(1, 10_000)]);
    for block in 0..bytes.len() / BLOCK_BYTES {
        let mut torn = bytes.clone();
        torn[block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES].fill(0);
        assert!(checked(&torn).is_err(), "block {block}");
    }
}

#[test]
fn fewer_bytes_than_a_head_hold_no_commit() {
    let (bytes, _) = mixed();
    assert_eq!(
        CommitHead::read(&bytes[..HEAD_BYTES - 1], POSITION),
        Err(CommitFault::NoHead)
    );
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let (bytes, _) = mixed();
    let newer = resealed(&bytes, 0, |head| {
        head[4..6].copy_from_slice(&(COMMIT_VERSION + 1).to_le_bytes());
    });
    assert_eq!(CommitHead::read(&newer, POSITION), Err(CommitFault::Newer));
}

#[test]
fn a_head_whose_count_does_not_fit_its_bytes_is_none() {
    let (bytes, _) = mixed();
    let lying = resealed(&bytes, 0, |head| {
        head[52..56].copy_from_slice(&u32::MAX.to_le_bytes());
    });
    assert_eq!(CommitHead::read(&lying, POSITION), Err(CommitFault::NoHead));
}

#[test]
fn a_head_of_no_whole_blocks_is_none() {
    let (bytes, _) = mixed();
    for length in [0u32, 1, 4095, 4097] {
        let lying = resealed(&bytes, 0, |head| {
            head[48..52].copy_from_slice(&length.to_le_bytes());
        });
        assert_eq!(CommitHead::read(&lying, POSITION), Err(CommitFault::NoHead));
    }
}

#[test]
fn the_directory_of_the_largest_count_a_head_may_claim_lies_outside_its_commit() {
    let (bytes, _) = mixed();
    let most = (BLOCK_BYTES / (2 * ENTRY_BYTES)) as u32;
    let lying = resealed(&bytes, 0, |head| {
        head[52..56].copy_from_slice(&most.to_le_bytes());
    });
    let head = CommitHead::read(&lying, POSITION).unwrap();
    assert!(head.directory(&lying, DirectoryCopy::Head).is_err());
    assert!(head.directory(&lying, DirectoryCopy::Foot).is_err());
}
