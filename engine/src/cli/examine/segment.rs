//! The batches of a segment, each checked, and what lies between them that is none.

#![warn(clippy::indexing_slicing)]

use std::ops::Range;

use gannet_wire::batch::{
    BATCH_HEADER_BYTES, BatchError, BatchHeader, STAMP_BYTES, verify_stamp_only, verify_stamped,
};

use super::file::StoredFile;
use crate::io::BLOCK_BYTES;
use crate::limits::{DISK_BLOCK_BYTES, MIB};
use crate::storage::PartitionKey;
use crate::storage::segment::{BATCH_ALIGNMENT, Framed, aligned_bytes, frame_at, header_at};

/// Something in a segment.
#[derive(Debug)]
pub(crate) enum Seen {
    /// A batch that is what was written. Whose it is was checked only where that is known.
    Batch { position: u64, header: BatchHeader },
    /// A batch whose place, length and offsets are proven and whose records are not.
    BadBatch {
        position: u64,
        header: BatchHeader,
        error: BatchError,
    },
    /// Bytes in which no batch can be proven.
    Lost { bytes: Range<u64> },
    /// Bytes that the disk does not give.
    Unreadable { bytes: Range<u64> },
}

/// Reads the batches in a range of a file. With `key`, stamps are checked too.
pub(crate) struct Walk<'a> {
    file: &'a StoredFile,
    key: Option<PartitionKey>,
    position: u64,
    end: u64,
    window: Window,
}

/// Bytes of the file that are in memory.
struct Window {
    position: u64,
    bytes: Vec<u8>,
}

const WINDOW_BYTES: usize = 4 * MIB as usize;

impl<'a> Walk<'a> {
    /// `range` begins with a batch, or on a block boundary.
    pub(crate) fn new(file: &'a StoredFile, range: Range<u64>, key: Option<PartitionKey>) -> Self {
        Self {
            file,
            key,
            position: range.start,
            end: range.end.min(file.bytes()),
            window: Window {
                position: 0,
                bytes: Vec::new(),
            },
        }
    }

    /// Up to `bytes` at `position`, fewer at the end of the range; `None` when they cannot be read.
    fn bytes_at(&mut self, position: u64, bytes: usize) -> Option<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        let held = self
            .window
            .held_at(position)
            .is_some_and(|held| held.len() >= bytes);
        if !held {
            let mut window = std::mem::take(&mut self.window.bytes);
            window.resize(WINDOW_BYTES.max(bytes).min(left), 0);
            let mut read = self.file.read_into(position, &mut window);
            if read.is_err() && window.len() > bytes {
                // The fault may lie behind what is asked for.
                window.truncate(bytes);
                read = self.file.read_into(position, &mut window);
            }
            window.truncate(*read.as_ref().unwrap_or(&0));
            self.window = Window {
                position,
                bytes: window,
            };
            read.ok()?;
        }
        self.window.held_at(position)
    }

    /// The batch at `position`, proven as far as can be; `Ok(None)` when there is filler.
    fn batch_at(&mut self, position: u64) -> Result<Option<Seen>, Gap> {
        let key = self.key;
        let mut framed = frame_at(
            self.bytes_at(position, BATCH_HEADER_BYTES)
                .ok_or(Gap::Unreadable)?,
        );
        if let Framed::Partial(bytes) = framed {
            framed = frame_at(self.bytes_at(position, bytes).ok_or(Gap::Unreadable)?);
        }
        let length = match framed {
            Framed::Filler if self.is_filler(position) => return Ok(None),
            Framed::Batch(length) => length,
            Framed::Filler | Framed::Partial(_) | Framed::Bad => return Err(Gap::NoBatch),
        };
        let bytes = self
            .bytes_at(position, length)
            .and_then(|bytes| bytes.get(..length));
        let bytes = bytes.ok_or(Gap::Unreadable)?;
        let header = *header_at(bytes).ok_or(Gap::NoBatch)?;
        let proven = match key {
            Some(key) => {
                // Only a whole stamp proves length and offsets.
                verify_stamp_only(bytes, key.topic, key.partition).map_err(|_| Gap::NoBatch)?;
                verify_stamped(bytes, key.topic, key.partition).map(|_| ())
            }
            None => verify_records(&header, bytes)
                .map_err(|_| Gap::NoBatch)
                .map(Ok)?,
        };
        Ok(Some(match proven {
            Ok(()) => Seen::Batch { position, header },
            Err(error) => Seen::BadBatch {
                position,
                header,
                error,
            },
        }))
    }

    /// Whether the zeros at `position` are what a write fills its last block up with: a block that begins with them was never written.
    fn is_filler(&mut self, position: u64) -> bool {
        !position.is_multiple_of(DISK_BLOCK_BYTES) && self.is_empty(position)
    }

    /// The next place behind `position` where a batch is proven: a damaged length is never followed. Where nobody says whose batches they are, a block
    /// at a time: their stamps prove nothing there.
    fn resume_behind(&mut self, position: u64) -> u64 {
        let whose = self.key.is_some();
        let behind = |at: u64| match whose {
            true => at + BATCH_ALIGNMENT as u64,
            false => block_behind(at),
        };
        let mut next = behind(position);
        while next < self.end && !matches!(self.batch_at(next), Ok(Some(_))) {
            let is_void = self.bytes_at(next, BATCH_ALIGNMENT).is_none() || self.is_empty(next);
            next = match is_void {
                true => block_behind(next),
                false => behind(next),
            };
        }
        next.min(self.end)
    }

    /// Whether there are only zeros from `position` to the end of its block.
    fn is_empty(&mut self, position: u64) -> bool {
        let end = block_behind(position).min(self.end);
        let bytes = usize::try_from(end - position).expect("within a block");
        let rest = self
            .bytes_at(position, bytes)
            .and_then(|rest| rest.get(..bytes));
        rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
    }

    /// Whether nothing was written from `position` on: room that was reserved and not used yet.
    fn is_unused(&mut self, mut position: u64) -> bool {
        while position < self.end && self.is_empty(position) {
            position = block_behind(position);
        }
        position >= self.end
    }
}

#[derive(Clone, Copy)]
enum Gap {
    NoBatch,
    Unreadable,
}

impl Iterator for Walk<'_> {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        while self.position < self.end {
            let position = self.position;
            match self.batch_at(position) {
                Ok(None) => self.position = block_behind(position),
                Ok(Some(seen)) => {
                    if let Seen::Batch { header, .. } | Seen::BadBatch { header, .. } = &seen {
                        self.position = position + aligned_bytes(header.batch_bytes()) as u64;
                    }
                    return Some(seen);
                }
                Err(Gap::NoBatch) if self.is_unused(position) => self.position = self.end,
                Err(gap) => {
                    self.position = self.resume_behind(position);
                    let bytes = position..self.position;
                    return Some(match gap {
                        Gap::NoBatch => Seen::Lost { bytes },
                        Gap::Unreadable => Seen::Unreadable { bytes },
                    });
                }
            }
        }
        None
    }
}

impl Window {
    fn held_at(&self, position: u64) -> Option<&[u8]> {
        let start = usize::try_from(position.checked_sub(self.position)?).ok()?;
        self.bytes.get(start..)
    }
}

/// The checksum that the producer gave, for where nobody says whose batch it is.
fn verify_records(header: &BatchHeader, bytes: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c::crc32c(bytes.get(STAMP_BYTES..).unwrap_or_default());
    if computed == header.crc() {
        Ok(())
    } else {
        Err(BatchError::Checksum {
            found: header.crc(),
            computed,
        })
    }
}

fn block_behind(position: u64) -> u64 {
    (position / DISK_BLOCK_BYTES + 1) * DISK_BLOCK_BYTES
}

const _: () = assert!(WINDOW_BYTES.is_multiple_of(BLOCK_BYTES));
