//! The commit: one write to the journal with all that came together, and the proof that it is whole.
//!
//! ```text
//! head       80 bytes   who and where this commit is (CommitHead)
//! directory  40 bytes for each entry
//! payload    the entries' bytes, back to back
//! filler     zeros
//! directory  again
//! foot       80 bytes   the head again, with another magic
//! ```
//! A commit begins and ends on a block boundary. The head's checksum covers the directory's, the directory holds each
//! entry's, and every one of them mixes in generation and LSN: a block from a former life or from another place never passes.
//! Head and foot each lead to the whole: damage at one end leaves the other to salvage from.

use gannet_wire::batch::STAMP_BYTES;
use gannet_wire::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::layout::FilePlace;
use super::{Generation, Lsn, PartitionKey};
use crate::io::BLOCK_BYTES;

/// Bytes of the head, and of the foot.
pub const HEAD_BYTES: usize = 80;
/// Bytes of one directory entry.
pub const ENTRY_BYTES: usize = 40;
/// The newest commit format this program reads.
pub const COMMIT_VERSION: u16 = 1;

/// Where a commit stands and what it builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitIdentity {
    /// The file's life.
    pub generation: Generation,
    /// The commit's place in the journal.
    pub lsn: Lsn,
    /// The commit's first byte in its file.
    pub position: u64,
    /// Every commit up to and with this one was complete when this one was submitted.
    pub durable_lsn: Lsn,
    /// The append clock at submission.
    pub append_time: Timestamp,
    /// The checksum of the commit before; 0 before the first of a file.
    pub previous_checksum: u32,
    /// The file it was written to.
    pub file: FilePlace,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A batch, stamped.
    Batch,
    /// Batches that went straight to a segment, already durable there ([`super::segment::DirectRun`]).
    DirectRun,
    /// A group's committed offset ([`crate::cursor`]).
    CommittedOffset,
}

impl EntryKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::DirectRun => 2,
            Self::CommittedOffset => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Batch),
            2 => Some(Self::DirectRun),
            3 => Some(Self::CommittedOffset),
            _ => None,
        }
    }
}

/// One line of a commit's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Whose it is.
    pub key: PartitionKey,
    /// The first offset of a batch or run; 0 for others.
    pub base_offset: Offset,
    /// Records of a batch or run; 0 for others.
    pub record_count: u32,
    /// First byte in the commit.
    pub start: u32,
    /// Bytes.
    pub length: u32,
    /// See [`entry_checksum`].
    pub checksum: u32,
}

/// Why bytes are not a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitFault {
    /// No commit begins here.
    #[error("no commit begins here")]
    NoHead,
    /// Written by a newer program.
    #[error("the commit has a newer format version")]
    Newer,
    /// The head is whole but says it stands elsewhere.
    #[error("the commit was written for another place")]
    Misplaced,
    /// The head is whole, the rest is not all there.
    #[error("the commit is cut short")]
    Short,
    /// The directory does not match its checksum, or contradicts itself.
    #[error("the directory is damaged")]
    Directory,
    /// An entry does not match its checksum.
    #[error("an entry is damaged")]
    Entry,
    /// The foot does not match the head.
    #[error("the foot is damaged")]
    Foot,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHead {
    magic: [u8; 4],
    version: U16,
    flags: U16,
    generation: U64,
    lsn: U64,
    position: U64,
    durable_lsn: U64,
    append_time: I64,
    commit_bytes: U32,
    entries: U32,
    previous_checksum: U32,
    directory_checksum: U32,
    file: U32,
    reserved: [u8; 8],
    checksum: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawEntry {
    kind: u8,
    reserved: [u8; 3],
    partition: U32,
    topic: U64,
    base_offset: U64,
    record_count: U32,
    start: U32,
    length: U32,
    checksum: U32,
}

const _: () = assert!(size_of::<RawHead>() == HEAD_BYTES && size_of::<RawEntry>() == ENTRY_BYTES);

const HEAD_MAGIC: [u8; 4] = *b"GJCM";
const FOOT_MAGIC: [u8; 4] = *b"GJCF";

/// A commit's head, checked: magic, version, checksum and that it stands where it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitHead {
    /// Where it stands.
    pub identity: CommitIdentity,
    /// All bytes of the commit, a multiple of the block.
    pub commit_bytes: usize,
    /// Entries in the directory.
    pub entries: usize,
    /// The checksum of the commit: the next one carries it.
    pub checksum: u32,
    directory_checksum: u32,
}

/// The bytes a commit of `entries` with `payload_bytes` takes on disk.
#[must_use]
pub const fn commit_bytes(entries: usize, payload_bytes: usize) -> usize {
    (2 * HEAD_BYTES + 2 * entries * ENTRY_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES)
}

/// The largest entry that has its place in a commit of `commit_bytes` bytes, alone.
#[must_use]
pub const fn lone_entry_bytes_max(commit_bytes: usize) -> usize {
    (commit_bytes / BLOCK_BYTES * BLOCK_BYTES).saturating_sub(2 * HEAD_BYTES + 2 * ENTRY_BYTES)
}

/// The checksum of one entry. A batch carries a checksum of its body, itself covered by the stamped part: so that part alone
/// is enough here, and the body is not read a second time.
#[must_use]
pub fn entry_checksum(identity: &CommitIdentity, kind: EntryKind, bytes: &[u8]) -> u32 {
    let covered = match kind {
        EntryKind::Batch => bytes.get(..STAMP_BYTES).unwrap_or(bytes),
        EntryKind::DirectRun | EntryKind::CommittedOffset => bytes,
    };
    crc32c::crc32c_append(place_seed(identity.generation, identity.lsn), covered)
}

fn place_seed(generation: Generation, lsn: Lsn) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&generation.0.to_le_bytes());
    place[8..].copy_from_slice(&lsn.0.to_le_bytes());
    crc32c::crc32c(&place)
}

/// Writes one commit into a buffer of exactly [`commit_bytes`] bytes: the entries in order, then [`CommitWriter::finish`].
pub struct CommitWriter<'a> {
    buffer: &'a mut [u8],
    identity: CommitIdentity,
    entries: usize,
    entries_written: usize,
    cursor: usize,
}

/// What the broker adds to a batch when it is appended.
#[derive(Clone, Copy, Debug)]
pub struct BatchStamp {
    /// The partition it goes to.
    pub key: PartitionKey,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// How many records it has.
    pub record_count: u32,
    /// The append clock.
    pub append_time: Timestamp,
    /// The partition's term.
    pub leader_epoch: LeaderEpoch,
}

impl<'a> CommitWriter<'a> {
    /// Starts a commit of `entries` entries.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], identity: CommitIdentity, entries: usize) -> Self {
        assert!(
            buffer.len().is_multiple_of(BLOCK_BYTES) && buffer.len() >= commit_bytes(entries, 0),
            "the buffer does not fit the commit"
        );
        Self {
            buffer,
            identity,
            entries,
            entries_written: 0,
            cursor: HEAD_BYTES + entries * ENTRY_BYTES,
        }
    }

    /// Copies a batch in and stamps it; returns where it stands in the commit.
    pub fn batch(&mut self, batch: &[u8], stamp: &BatchStamp) -> std::ops::Range<usize> {
        let range = self.copy_in(batch);
        let bytes = &mut self.buffer[range.clone()];
        gannet_wire::batch::stamp(
            bytes,
            stamp.key.topic,
            stamp.key.partition,
            stamp.base_offset,
            stamp.append_time,
            stamp.leader_epoch,
        );
        let checksum = entry_checksum(&self.identity, EntryKind::Batch, bytes);
        self.directory_entry(
            EntryKind::Batch,
            stamp.key,
            stamp.base_offset,
            stamp.record_count,
            &range,
            checksum,
        );
        range
    }

    /// Copies any other entry in.
    pub fn entry(
        &mut self,
        kind: EntryKind,
        key: PartitionKey,
        base_offset: Offset,
        record_count: u32,
        bytes: &[u8],
    ) {
        let range = self.copy_in(bytes);
        let checksum = entry_checksum(&self.identity, kind, bytes);
        self.directory_entry(kind, key, base_offset, record_count, &range, checksum);
    }

    /// Writes head, filler, second directory and foot; returns the commit's checksum.
    #[must_use]
    pub fn finish(self) -> u32 {
        assert_eq!(
            self.entries, self.entries_written,
            "fewer entries than announced"
        );
        let directory_bytes = self.entries * ENTRY_BYTES;
        let commit_bytes = self.buffer.len();
        let foot = commit_bytes - HEAD_BYTES;
        let second = foot - directory_bytes;
        assert!(self.cursor <= second, "the payload runs into the foot");
        self.buffer[self.cursor..second].fill(0);
        self.buffer
            .copy_within(HEAD_BYTES..HEAD_BYTES + directory_bytes, second);
        let directory_checksum = crc32c::crc32c_append(
            place_seed(self.identity.generation, self.identity.lsn),
            &self.buffer[HEAD_BYTES..HEAD_BYTES + directory_bytes],
        );
        let mut raw = RawHead {
            magic: HEAD_MAGIC,
            version: U16::new(COMMIT_VERSION),
            flags: U16::new(0),
            generation: U64::new(self.identity.generation.0),
            lsn: U64::new(self.identity.lsn.0),
            position: U64::new(self.identity.position),
            durable_lsn: U64::new(self.identity.durable_lsn.0),
            append_time: I64::new(self.identity.append_time.0),
            commit_bytes: U32::new(
                u32::try_from(commit_bytes).expect("a commit is far below 4 GiB"),
            ),
            entries: U32::new(u32::try_from(self.entries).expect("bounded by the commit's bytes")),
            previous_checksum: U32::new(self.identity.previous_checksum),
            directory_checksum: U32::new(directory_checksum),
            file: U32::new(self.identity.file.0),
            reserved: [0; 8],
            checksum: U32::new(0),
        };
        let checksum = raw.computed_checksum();
        raw.checksum = U32::new(checksum);
        self.buffer[..HEAD_BYTES].copy_from_slice(raw.as_bytes());
        raw.magic = FOOT_MAGIC;
        self.buffer[foot..].copy_from_slice(raw.as_bytes());
        checksum
    }

    fn copy_in(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let range = self.cursor..self.cursor + bytes.len();
        self.buffer[range.clone()].copy_from_slice(bytes);
        self.cursor = range.end;
        range
    }

    fn directory_entry(
        &mut self,
        kind: EntryKind,
        key: PartitionKey,
        base_offset: Offset,
        record_count: u32,
        range: &std::ops::Range<usize>,
        checksum: u32,
    ) {
        assert!(
            self.entries_written < self.entries,
            "more entries than announced"
        );
        let raw = RawEntry {
            kind: kind.to_byte(),
            reserved: [0; 3],
            partition: U32::new(key.partition.0),
            topic: U64::new(key.topic.0),
            base_offset: U64::new(base_offset.0),
            record_count: U32::new(record_count),
            start: U32::new(u32::try_from(range.start).expect("a commit is far below 4 GiB")),
            length: U32::new(u32::try_from(range.len()).expect("a commit is far below 4 GiB")),
            checksum: U32::new(checksum),
        };
        let at = HEAD_BYTES + self.entries_written * ENTRY_BYTES;
        self.buffer[at..at + ENTRY_BYTES].copy_from_slice(raw.as_bytes());
        self.entries_written += 1;
    }
}

impl RawHead {
    /// Over everything but the magic, which differs at the foot, and the checksum itself.
    fn computed_checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32c::crc32c(&bytes[4..HEAD_BYTES - 4])
    }

    fn check(&self, magic: [u8; 4]) -> Result<CommitHead, CommitFault> {
        if self.magic != magic || self.checksum.get() != self.computed_checksum() {
            return Err(CommitFault::NoHead);
        }
        if self.version.get() > COMMIT_VERSION {
            return Err(CommitFault::Newer);
        }
        let commit_bytes = self.commit_bytes.get() as usize;
        let entries = self.entries.get() as usize;
        if commit_bytes == 0
            || !commit_bytes.is_multiple_of(BLOCK_BYTES)
            || entries > commit_bytes / (2 * ENTRY_BYTES)
        {
            return Err(CommitFault::NoHead);
        }
        Ok(CommitHead {
            identity: CommitIdentity {
                generation: Generation(self.generation.get()),
                lsn: Lsn(self.lsn.get()),
                position: self.position.get(),
                durable_lsn: Lsn(self.durable_lsn.get()),
                append_time: Timestamp(self.append_time.get()),
                previous_checksum: self.previous_checksum.get(),
                file: FilePlace(self.file.get()),
            },
            commit_bytes,
            entries,
            checksum: self.checksum.get(),
            directory_checksum: self.directory_checksum.get(),
        })
    }
}

impl CommitHead {
    /// Reads the head at the start of `block`, which stands at `position` in its file.
    pub fn read(block: &[u8], position: u64) -> Result<Self, CommitFault> {
        let (raw, _) = RawHead::ref_from_prefix(block).map_err(|_| CommitFault::NoHead)?;
        let head = raw.check(HEAD_MAGIC)?;
        if head.identity.position == position {
            Ok(head)
        } else {
            Err(CommitFault::Misplaced)
        }
    }

    /// Reads the foot at the end of `block`, whose end stands at `end` in its file: for salvage when the head is gone.
    pub fn read_foot(block: &[u8], end: u64) -> Result<Self, CommitFault> {
        let (_, raw) = RawHead::ref_from_suffix(block).map_err(|_| CommitFault::NoHead)?;
        let head = raw.check(FOOT_MAGIC)?;
        if head.identity.position.checked_add(head.commit_bytes as u64) == Some(end) {
            Ok(head)
        } else {
            Err(CommitFault::Misplaced)
        }
    }

    /// Checks all of the commit, whose bytes start with this head, and returns its directory.
    pub fn check(&self, bytes: &[u8]) -> Result<Vec<Entry>, CommitFault> {
        let bytes = bytes.get(..self.commit_bytes).ok_or(CommitFault::Short)?;
        let directory = self.directory(bytes, DirectoryCopy::Head)?;
        for entry in &directory {
            if !self.entry_is_whole(bytes, entry) {
                return Err(CommitFault::Entry);
            }
        }
        let foot = bytes
            .get(self.commit_bytes - HEAD_BYTES..)
            .ok_or(CommitFault::Short)?;
        let (raw, _) = RawHead::ref_from_prefix(foot).map_err(|_| CommitFault::Short)?;
        match raw.check(FOOT_MAGIC) {
            Ok(head) if head == *self => {}
            _ => return Err(CommitFault::Foot),
        }
        self.directory(bytes, DirectoryCopy::Foot)?;
        Ok(directory)
    }

    /// One copy of the directory, if it is whole and every entry lies inside the commit.
    pub fn directory(&self, bytes: &[u8], copy: DirectoryCopy) -> Result<Vec<Entry>, CommitFault> {
        let directory_bytes = self.entries * ENTRY_BYTES;
        let start = match copy {
            DirectoryCopy::Head => HEAD_BYTES,
            DirectoryCopy::Foot => self
                .commit_bytes
                .checked_sub(HEAD_BYTES + directory_bytes)
                .ok_or(CommitFault::Directory)?,
        };
        let raw = bytes
            .get(start..start + directory_bytes)
            .ok_or(CommitFault::Short)?;
        if crc32c::crc32c_append(place_seed(self.identity.generation, self.identity.lsn), raw)
            != self.directory_checksum
        {
            return Err(CommitFault::Directory);
        }
        let raw = <[RawEntry]>::ref_from_bytes(raw).map_err(|_| CommitFault::Directory)?;
        raw.iter().map(|entry| self.read_entry(entry)).collect()
    }

    /// Whether an entry's bytes are the ones that were written.
    #[must_use]
    pub fn entry_is_whole(&self, bytes: &[u8], entry: &Entry) -> bool {
        let Some(bytes) = entry.bytes_in(bytes) else {
            return false;
        };
        if entry_checksum(&self.identity, entry.kind, bytes) != entry.checksum {
            return false;
        }
        entry.kind != EntryKind::Batch
            || gannet_wire::batch::verify_stamped(bytes, entry.key.topic, entry.key.partition)
                .is_ok()
    }

    fn read_entry(&self, raw: &RawEntry) -> Result<Entry, CommitFault> {
        let kind = EntryKind::from_byte(raw.kind).ok_or(CommitFault::Directory)?;
        let end = raw.start.get() as usize + raw.length.get() as usize;
        if end > self.commit_bytes {
            return Err(CommitFault::Directory);
        }
        Ok(Entry {
            kind,
            key: PartitionKey {
                topic: TopicId(raw.topic.get()),
                partition: PartitionIndex(raw.partition.get()),
            },
            base_offset: Offset(raw.base_offset.get()),
            record_count: raw.record_count.get(),
            start: raw.start.get(),
            length: raw.length.get(),
            checksum: raw.checksum.get(),
        })
    }
}

/// Which of a commit's two directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryCopy {
    /// The one behind the head.
    Head,
    /// The one before the foot.
    Foot,
}

impl Entry {
    /// The entry's bytes in those of its commit.
    #[must_use]
    pub fn bytes_in<'a>(&self, commit: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.start as usize;
        commit.get(start..start + self.length as usize)
    }

    /// The offset behind the last record of a batch or run.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(u64::from(self.record_count)),
        )
    }
}

#[cfg(test)]
mod tests;
