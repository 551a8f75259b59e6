//! The header of a journal file: two copies, in its first two blocks, so that a flip in one is survived.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout::FilePlace;
use super::{Generation, Lsn};
use crate::io::BLOCK_BYTES;

/// Where the first commit of a file begins.
pub const FIRST_COMMIT_POSITION: u64 = 2 * BLOCK_BYTES as u64;
/// The newest journal file format this program reads.
pub const JOURNAL_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"GANNETJ\n";

/// What the header of a journal file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    /// The file's present life.
    pub generation: Generation,
    /// The commit that comes first in it.
    pub first_lsn: Lsn,
    /// Bytes that were pre-written, header included.
    pub file_bytes: u64,
    /// The file it was written to.
    pub file: FilePlace,
}

/// What the two blocks at the start of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// At least one copy is whole (the one with the higher generation counts).
    Valid(JournalHeader),
    /// Both are zeros: the file was pre-written and never used.
    Blank,
    /// Neither is whole.
    Damaged,
    /// Written by a newer program, with this version.
    Newer(u32),
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    version: U32,
    checksum: U32,
    generation: U64,
    first_lsn: U64,
    file_bytes: U64,
    file: U32,
    reserved: U32,
}

/// What the checksum covered before a header said which file it was written to: where it does not, it covers no more today.
const UNPLACED_BYTES: usize = 40;

impl JournalHeader {
    /// Both blocks, ready to write at position 0.
    pub fn write(&self, blocks: &mut [u8]) {
        assert_eq!(blocks.len(), 2 * BLOCK_BYTES, "two copies, one a block");
        let mut raw = RawHeader {
            magic: MAGIC,
            version: U32::new(JOURNAL_VERSION),
            checksum: U32::new(0),
            generation: U64::new(self.generation.0),
            first_lsn: U64::new(self.first_lsn.0),
            file_bytes: U64::new(self.file_bytes),
            file: U32::new(self.file.0),
            reserved: U32::new(0),
        };
        raw.checksum = U32::new(raw.computed_checksum());
        blocks.fill(0);
        for block in blocks.chunks_exact_mut(BLOCK_BYTES) {
            block[..size_of::<RawHeader>()].copy_from_slice(raw.as_bytes());
        }
    }

    /// Reads what stands in the first two blocks of the file at `place`; of any file, where that is `None`.
    #[must_use]
    pub fn read(blocks: &[u8], place: Option<FilePlace>) -> HeaderState {
        let mut best: Option<Self> = None;
        let mut newer = None;
        for block in blocks.chunks_exact(BLOCK_BYTES).take(2) {
            let Ok((raw, _)) = RawHeader::ref_from_prefix(block) else {
                continue;
            };
            if raw.magic != MAGIC || raw.checksum.get() != raw.computed_checksum() {
                continue;
            }
            let file = FilePlace(raw.file.get());
            if place.is_some_and(|place| !file.may_be(place)) {
                continue;
            }
            if raw.version.get() > JOURNAL_VERSION {
                newer = Some(raw.version.get());
                continue;
            }
            let header = Self {
                generation: Generation(raw.generation.get()),
                first_lsn: Lsn(raw.first_lsn.get()),
                file_bytes: raw.file_bytes.get(),
                file,
            };
            if best.is_none_or(|best| best.generation < header.generation) {
                best = Some(header);
            }
        }
        match (best, newer) {
            (_, Some(version)) => HeaderState::Newer(version),
            (Some(header), None) => HeaderState::Valid(header),
            (None, None) if blocks.iter().all(|byte| *byte == 0) => HeaderState::Blank,
            (None, None) => HeaderState::Damaged,
        }
    }
}

impl RawHeader {
    fn computed_checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        let end = match self.file.get() {
            0 => UNPLACED_BYTES,
            _ => bytes.len(),
        };
        crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..end])
    }
}

#[cfg(test)]
mod tests;
