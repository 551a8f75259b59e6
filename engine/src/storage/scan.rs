//! Finds the commits in a journal file, block by block. Pure: says what to read next, takes the bytes, keeps what it found.

use super::commit::{CommitFault, CommitHead, CommitIdentity, DirectoryCopy, Entry};
use super::journal_file::FIRST_COMMIT_POSITION;
use super::layout::FilePlace;
use super::slice::Slice;
use super::{Generation, Lsn};
use crate::io::{BLOCK_BYTES, DiskBuffer};

/// Bytes asked for at once: more than the largest commit, so that one that is cut by the end of a read stands whole in the next.
pub const SCAN_READ_BYTES: usize = 4 << 20;
const _: () = assert!(SCAN_READ_BYTES > crate::limits::COMMIT_BYTES_MAX);

/// Something in a journal file.
#[derive(Clone, Debug)]
pub enum Found {
    /// A whole commit.
    Commit(FoundCommit),
    /// What was a commit: its head or its foot is whole, the rest is not.
    Damaged(FoundDamage),
    /// Blocks that could not be read.
    Unreadable {
        /// The first byte.
        position: u64,
    },
}

/// A whole commit.
#[derive(Clone, Debug)]
pub struct FoundCommit {
    /// Its head.
    pub head: CommitHead,
    /// Its directory.
    pub entries: Vec<Entry>,
    /// All its bytes.
    pub bytes: Slice,
}

/// A commit that is not whole.
#[derive(Clone, Debug)]
pub struct FoundDamage {
    /// What its head or its foot says.
    pub head: CommitHead,
    /// Its directory, when one of the two is whole.
    pub entries: Option<Vec<Entry>>,
    /// The bytes that are there.
    pub bytes: Slice,
    /// What is wrong.
    pub fault: CommitFault,
}

/// Scans one file. Call [`Scanner::poll_read`], do what it says, call [`Scanner::handle_read`] or
/// [`Scanner::handle_unreadable`], until it says no more.
pub struct Scanner {
    /// The file it is; `None` when nobody knows.
    place: Option<FilePlace>,
    /// Commits of this life and later ones count: the header of a later one may be what was never written. `None` when the file's header is
    /// lost, then every life does.
    generation: Option<Generation>,
    file_bytes: u64,
    position: u64,
    /// A foot without a head was met: its commit's bytes are wanted.
    salvage: Option<CommitHead>,
    /// A head was met whose commit did not stand in the read that was cut short: so many bytes are wanted from here.
    whole_bytes: Option<usize>,
    newer: bool,
    found: Vec<Found>,
}

impl Scanner {
    /// Scans the file of `file_bytes` at `place` whose header says `generation`.
    #[must_use]
    pub fn new(place: Option<FilePlace>, generation: Option<Generation>, file_bytes: u64) -> Self {
        Self {
            place,
            generation,
            file_bytes,
            position: FIRST_COMMIT_POSITION,
            salvage: None,
            whole_bytes: None,
            newer: false,
            found: Vec::new(),
        }
    }

    /// Position and length of the next read; `None` when the scan is over.
    #[must_use]
    pub fn poll_read(&self) -> Option<(u64, usize)> {
        if let Some(head) = &self.salvage {
            return Some((head.identity.position, head.commit_bytes));
        }
        if let Some(bytes) = self.whole_bytes {
            return Some((self.position, bytes));
        }
        let left = self.file_bytes.saturating_sub(self.position);
        let left = usize::try_from(left).unwrap_or(usize::MAX) / BLOCK_BYTES * BLOCK_BYTES;
        if left == 0 {
            return None;
        }
        Some((self.position, left.min(SCAN_READ_BYTES)))
    }

    /// Whether [`Scanner::poll_read`] asks for one commit and nothing else. Where a part of it cannot be read, that part may be handed
    /// over as zeros: every entry proves itself.
    #[must_use]
    pub fn wants_commit(&self) -> bool {
        self.salvage.is_some() || self.whole_bytes.is_some()
    }

    /// Takes what was read where [`Scanner::poll_read`] asked. Fewer bytes than asked for end the scan.
    pub fn handle_read(&mut self, position: u64, buffer: &DiskBuffer) {
        if let Some(head) = self.salvage.take() {
            self.salvage_from_foot(&head, buffer);
            return;
        }
        assert_eq!(position, self.position, "the scan goes on where it stopped");
        let asked_whole = self.whole_bytes.take().is_some();
        let usable = buffer.len() / BLOCK_BYTES * BLOCK_BYTES;
        let mut at = 0;
        while at < usable {
            let here = position + at as u64;
            match CommitHead::read(&buffer[at..usable], here) {
                Ok(head) if self.counts(&head) => {
                    if at + head.commit_bytes > usable {
                        let reaches = here + head.commit_bytes as u64;
                        if at > 0 && reaches <= self.file_bytes {
                            // Read again from here, so that it stands in one buffer.
                            self.position = here;
                            return;
                        }
                        if !asked_whole
                            && reaches <= self.file_bytes
                            && head.commit_bytes <= SCAN_READ_BYTES
                        {
                            // The read was narrowed down because of something behind: that must not cost this commit.
                            self.position = here;
                            self.whole_bytes = Some(head.commit_bytes);
                            return;
                        }
                        // It can never be whole: it is longer than the file, or than what could be read.
                        self.found_damaged(
                            head,
                            Slice::new(buffer.clone(), at..usable),
                            CommitFault::Short,
                        );
                        at += BLOCK_BYTES;
                        continue;
                    }
                    let bytes = Slice::new(buffer.clone(), at..at + head.commit_bytes);
                    match head.check(&bytes) {
                        Ok(entries) => self.found.push(Found::Commit(FoundCommit {
                            head,
                            entries,
                            bytes,
                        })),
                        Err(fault) => self.found_damaged(head, bytes, fault),
                    }
                    // The head is whole, so its length is what was written.
                    at += head.commit_bytes;
                }
                other => {
                    self.newer |= other == Err(CommitFault::Newer);
                    let end = here + BLOCK_BYTES as u64;
                    at += BLOCK_BYTES;
                    // IMPORTANT: also below a head of a former life: where its sector was never overwritten, the foot of a commit of this one may
                    // stand in the same block.
                    if let Ok(head) = CommitHead::read_foot(&buffer[at - BLOCK_BYTES..at], end)
                        && self.counts(&head)
                    {
                        self.position = end;
                        self.salvage = Some(head);
                        return;
                    }
                }
            }
        }
        self.position = if usable == 0 {
            self.file_bytes
        } else {
            position + usable as u64
        };
    }

    /// The read that was asked for failed even for a single block: that block is given up.
    pub fn handle_unreadable(&mut self, position: u64) {
        self.whole_bytes = None;
        if self.salvage.take().is_none() {
            self.position = position + BLOCK_BYTES as u64;
        }
        self.found.push(Found::Unreadable { position });
    }

    /// Lets go of what was found up to and with `flushed`, and says how many commits that were.
    pub fn drop_flushed(&mut self, flushed: Lsn) -> u64 {
        let before = self.found.len();
        self.found.retain(|found| match found {
            Found::Commit(commit) => commit.head.identity.lsn > flushed,
            Found::Damaged(damage) => damage.head.identity.lsn > flushed,
            Found::Unreadable { .. } => true,
        });
        (before - self.found.len()) as u64
    }

    /// Whether a commit of a newer format was met.
    #[must_use]
    pub fn met_newer(&self) -> bool {
        self.newer
    }

    /// What was found, in the order of the file.
    #[must_use]
    pub fn into_found(self) -> Vec<Found> {
        self.found
    }

    /// Whether a commit is one of this file, and of its present life or a later one.
    fn counts(&self, head: &CommitHead) -> bool {
        let CommitIdentity {
            generation, file, ..
        } = head.identity;
        self.place.is_none_or(|place| file.may_be(place))
            && self.generation.is_none_or(|present| present <= generation)
    }

    fn found_damaged(&mut self, head: CommitHead, bytes: Slice, fault: CommitFault) {
        let entries = head
            .directory(&bytes, DirectoryCopy::Head)
            .or_else(|_| head.directory(&bytes, DirectoryCopy::Foot))
            .ok();
        self.found.push(Found::Damaged(FoundDamage {
            head,
            entries,
            bytes,
            fault,
        }));
    }

    fn salvage_from_foot(&mut self, head: &CommitHead, buffer: &DiskBuffer) {
        let bytes = Slice::new(buffer.clone(), 0..buffer.len().min(head.commit_bytes));
        let entries = head
            .directory(&bytes, DirectoryCopy::Foot)
            .or_else(|_| head.directory(&bytes, DirectoryCopy::Head))
            .ok();
        self.found.push(Found::Damaged(FoundDamage {
            head: *head,
            entries,
            bytes,
            fault: CommitFault::NoHead,
        }));
    }
}

#[cfg(test)]
mod tests;
