#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const PLACE: FilePlace = FilePlace(9);
const HEADER: JournalHeader = JournalHeader {
    generation: Generation(5),
    first_lsn: Lsn(17),
    file_bytes: 1 << 20,
    file: PLACE,
};

fn written(header: JournalHeader) -> Vec<u8> {
    let mut blocks = vec![0xAA; 2 * BLOCK_BYTES];
    header.write(&mut blocks);
    blocks
}

/// Sets the version of one copy and makes its checksum right again.
fn set_version(blocks: &mut [u8], copy: usize, version: u32) {
    let raw = &mut blocks[copy * BLOCK_BYTES..][..size_of::<RawHeader>()];
    raw[8..12].copy_from_slice(&version.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&raw[..12]), &raw[16..]);
    raw[12..16].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_header_comes_back_as_it_was_written() {
    assert_eq!(
        JournalHeader::read(&written(HEADER), Some(PLACE)),
        HeaderState::Valid(HEADER)
    );
}

#[test]
fn every_flipped_bit_of_one_copy_is_survived() {
    for copy in 0..2 {
        for at in 0..size_of::<RawHeader>() {
            for bit in 0..8 {
                let mut blocks = written(HEADER);
                blocks[copy * BLOCK_BYTES + at] ^= 1 << bit;
                assert_eq!(
                    JournalHeader::read(&blocks, Some(PLACE)),
                    HeaderState::Valid(HEADER)
                );
            }
        }
    }
}

#[test]
fn the_same_flip_in_both_copies_is_damage() {
    for at in 0..size_of::<RawHeader>() {
        let mut blocks = written(HEADER);
        blocks[at] ^= 1;
        blocks[BLOCK_BYTES + at] ^= 1;
        assert_eq!(
            JournalHeader::read(&blocks, Some(PLACE)),
            HeaderState::Damaged
        );
    }
}

#[test]
fn blocks_of_zeros_are_a_file_that_was_never_used() {
    assert_eq!(
        JournalHeader::read(&[0; 2 * BLOCK_BYTES], Some(PLACE)),
        HeaderState::Blank
    );
}

#[test]
fn a_single_bit_among_zeros_is_damage() {
    let mut blocks = vec![0; 2 * BLOCK_BYTES];
    blocks[BLOCK_BYTES - 1] = 1;
    assert_eq!(
        JournalHeader::read(&blocks, Some(PLACE)),
        HeaderState::Damaged
    );
}

#[test]
fn the_newer_life_counts_when_a_torn_write_left_one_copy_of_each() {
    for newer_copy in 0..2 {
        let newer = JournalHeader {
            generation: Generation(6),
            ..HEADER
        };
        let mut blocks = written(HEADER);
        let copy = newer_copy * BLOCK_BYTES..(newer_copy + 1) * BLOCK_BYTES;
        blocks[copy.clone()].copy_from_slice(&written(newer)[copy]);
        assert_eq!(
            JournalHeader::read(&blocks, Some(PLACE)),
            HeaderState::Valid(newer)
        );
    }
}

#[test]
fn a_newer_version_in_either_copy_is_refused() {
    for copy in 0..2 {
        let mut blocks = written(HEADER);
        set_version(&mut blocks, copy, JOURNAL_VERSION + 1);
        assert_eq!(
            JournalHeader::read(&blocks, Some(PLACE)),
            HeaderState::Newer(JOURNAL_VERSION + 1)
        );
    }
}

#[test]
fn one_copy_alone_is_enough_in_a_file_cut_behind_it() {
    let blocks = written(HEADER);
    assert_eq!(
        JournalHeader::read(&blocks[..BLOCK_BYTES], Some(PLACE)),
        HeaderState::Valid(HEADER)
    );
}

#[test]
fn the_header_of_another_file_is_none_here() {
    let other = JournalHeader {
        generation: Generation(HEADER.generation.0 + 1),
        file: FilePlace(10),
        ..HEADER
    };
    let mut blocks = written(HEADER);
    blocks[..BLOCK_BYTES].copy_from_slice(&written(other)[..BLOCK_BYTES]);
    assert_eq!(
        JournalHeader::read(&blocks, Some(PLACE)),
        HeaderState::Valid(HEADER)
    );
    assert_eq!(
        JournalHeader::read(&written(other), Some(PLACE)),
        HeaderState::Damaged
    );
    // Who does not know which file it is takes what it says.
    assert_eq!(
        JournalHeader::read(&written(other), None),
        HeaderState::Valid(other)
    );
}

#[test]
fn a_header_of_before_they_named_their_file_counts_in_any() {
    let unplaced = JournalHeader {
        file: FilePlace::NONE,
        ..HEADER
    };
    let blocks = written(unplaced);
    assert_eq!(
        JournalHeader::read(&blocks, Some(PLACE)),
        HeaderState::Valid(unplaced)
    );
}
