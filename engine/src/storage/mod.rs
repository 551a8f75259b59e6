//! What a shard keeps on its disk: the journal, the segments, the checkpoint, and how they are put together again.
//!
//! Decisions are pure functions of bytes and state; the steps that await are thin and generic over [`crate::io::Disk`].
//! Data flows one way: arrivals → [`commit`] → [`journal`] → tail of a partition → [`segment`] → [`checkpoint`],
//! and only then is a journal file used again.

pub mod append_clock;
pub mod checkpoint;
pub mod commit;
pub mod index;
pub mod journal;
pub mod journal_file;
pub mod layout;
pub mod open_segment;
pub mod reader;
pub mod record_log;
pub mod recovery;
#[cfg(test)]
pub(crate) mod sample;
pub mod scan;
pub mod segment;
pub mod slice;

use std::fmt;

use gannet_wire::{PartitionIndex, TopicId};

/// A commit's place in its shard's journal: 1, 2, 3 … without gaps. 0 stands before the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The place right behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of one journal file. Rises with every file that is put to use, so that what an earlier life left in the same
/// blocks is never taken for the present one's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a segment for ever; see [`segment::SegmentIds`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionKey {
    /// The topic's id, never its name: a topic made again is another one.
    pub topic: TopicId,
    /// The partition in it.
    pub partition: PartitionIndex,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}", self.topic.0, self.partition.0)
    }
}

/// Why storage cannot go on. Always the environment's fault or a bug, never a caller's.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A read, write or sync failed. Final for the file: a second try could succeed without the data being there.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Bytes that were durable are not what was written, and going on would mean guessing.
    #[error(
        "{path} is damaged: {what}. Nothing was changed; restore the file from a copy, or move the data directory away to start empty"
    )]
    Damaged {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// Written by a newer version of the program.
    #[error(
        "{path} has format version {found}, and this program reads up to {known}: start a newer gannet"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
        /// The newest this program knows.
        known: u32,
    },
}

impl StorageError {
    /// Whether the disk has no room, or the user no more of it.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_no_room(source))
    }

    /// The same error of something that has begun already: it is final, and nobody may take it for one that came before anything was done.
    #[must_use]
    pub fn after_room_was_made(self) -> Self {
        match self {
            Self::Io {
                action,
                path,
                source,
            } if is_no_room(&source) => Self::Io {
                action,
                path,
                source: std::io::Error::other(format!(
                    "{source}, although room for it had been reserved"
                )),
            },
            other => other,
        }
    }

    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    /// Wraps what the system said with what was tried.
    pub fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

fn is_no_room(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
