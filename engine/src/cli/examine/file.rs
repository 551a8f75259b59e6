//! A stored file, read in pieces from a map of it.
//!
//! Touching a mapped page that the disk cannot give, or that the file has lost, would end the process by SIGBUS. So the kernel is asked for the
//! pages first (`MADV_POPULATE_READ`, Linux 5.14); where it has none, does not know the question, or the file is shorter by now, a plain read
//! gives the error or the rest. What is left is a file that somebody cuts within the microseconds between the question and the copy; the
//! broker itself never cuts one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::cli::exit::{ExitStatus, Failure};
use crate::io::{BLOCK_BYTES, DiskBuffer, DiskBufferMut};
use crate::limits::DISK_BLOCK_BYTES;

/// A file to examine.
pub(crate) struct StoredFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// `None` when it is empty or cannot be mapped.
    map: Option<MmapRaw>,
}

impl StoredFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let map = match bytes {
            0 => None,
            _ => MmapOptions::new().map_raw_read_only(&file).ok(),
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            bytes,
            map,
        })
    }

    /// The same for a file that has to be there.
    pub(crate) fn open_named(path: &Path) -> Result<Self, Failure> {
        Self::open(path).map_err(|error| {
            Failure::new(
                ExitStatus::Environment,
                format!("{} could not be opened: {error}", path.display()),
            )
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `into` from `position`; returns how much of it the file had.
    pub(crate) fn read_into(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        match self.copy_mapped(position, into) {
            Some(copied) => Ok(copied),
            None => self.read_unmapped(position, into),
        }
    }

    /// `None` when the map cannot give it.
    #[allow(
        unsafe_code,
        reason = "memory that a file may change is only safe as a raw pointer"
    )]
    fn copy_mapped(&self, position: u64, into: &mut [u8]) -> Option<usize> {
        let map = self.map.as_ref()?;
        let start = usize::try_from(position).ok()?;
        let bytes = into.len().min(map.len().checked_sub(start)?);
        if bytes == 0 {
            return None;
        }
        map.advise_range(Advice::PopulateRead, start, bytes).ok()?;
        if self.file.metadata().ok()?.len() < position + bytes as u64 {
            return None;
        }
        // SAFETY: the source lies within the map, which lives as long as `self`, and its pages are there; no reference to it is made, so that it
        // may change meanwhile. `into` has room for `bytes` and, being borrowed mutably, is no part of the map.
        unsafe { std::ptr::copy_nonoverlapping(map.as_ptr().add(start), into.as_mut_ptr(), bytes) };
        Some(bytes)
    }

    fn read_unmapped(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Up to `bytes` from `position`, in whole blocks: what the file lacks of its last block is zeros, as it would read on a disk.
    /// Empty behind the end.
    pub(crate) fn read_buffer(&self, position: u64, bytes: usize) -> io::Result<DiskBuffer> {
        let left = self.bytes.saturating_sub(position);
        let left = usize::try_from(left.next_multiple_of(DISK_BLOCK_BYTES)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left) / BLOCK_BYTES * BLOCK_BYTES;
        if bytes == 0 {
            return Ok(DiskBuffer::empty());
        }
        let mut buffer = DiskBufferMut::heap(bytes);
        self.read_into(position, &mut buffer)?;
        Ok(buffer.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of three blocks, each filled with its number from 1 on.
    fn stored() -> (tempfile::NamedTempFile, StoredFile) {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let contents: Vec<u8> = (1..=3).flat_map(|byte| [byte; BLOCK_BYTES]).collect();
        std::fs::write(file.path(), contents).expect("there is room");
        let stored = StoredFile::open(file.path()).expect("it is there");
        (file, stored)
    }

    #[test]
    fn a_piece_of_the_map_is_what_the_file_holds() {
        let (_file, stored) = stored();
        let mut piece = [0; 10];
        let at = BLOCK_BYTES as u64 - 5;
        assert_eq!(stored.read_into(at, &mut piece).expect("it reads"), 10);
        assert_eq!(piece, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
        assert_eq!(stored.copy_mapped(at, &mut piece), Some(10), "mapped");
    }

    #[test]
    fn at_the_end_there_is_as_much_as_the_file_has() {
        let (_file, stored) = stored();
        let mut piece = [0; 100];
        let end = 3 * BLOCK_BYTES as u64;
        assert_eq!(stored.read_into(end - 7, &mut piece).expect("it reads"), 7);
        assert_eq!(stored.read_into(end, &mut piece).expect("it reads"), 0);
        assert_eq!(stored.read_into(end + 9, &mut piece).expect("it reads"), 0);
    }

    #[test]
    fn a_file_that_was_cut_since_gives_what_is_left_and_ends_nobody() {
        let (file, stored) = stored();
        let left = BLOCK_BYTES as u64 + 10;
        file.as_file().set_len(left).expect("it is ours");
        let mut all = vec![9; 3 * BLOCK_BYTES];
        assert_eq!(
            stored.read_into(0, &mut all).expect("it reads"),
            BLOCK_BYTES + 10
        );
        assert_eq!(all[BLOCK_BYTES + 9], 2);
        let beyond = stored.read_into(2 * BLOCK_BYTES as u64, &mut all);
        assert_eq!(beyond.expect("it reads"), 0);
    }

    #[test]
    fn an_empty_file_reads_as_nothing() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let stored = StoredFile::open(file.path()).expect("it is there");
        assert_eq!(stored.read_into(0, &mut [0; 8]).expect("it reads"), 0);
    }
}
