//! A stored file, read in pieces.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::cli::exit::{ExitStatus, Failure};
use crate::io::{BLOCK_BYTES, DiskBuffer, DiskBufferMut};
use crate::limits::DISK_BLOCK_BYTES;

/// A file to examine.
pub(crate) struct StoredFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl StoredFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            file,
            path: path.to_owned(),
            bytes,
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
