//! A disk that takes everything at once and keeps nothing: what is left is the engine's own cost.

use std::io;
use std::path::Path;

use gannet_engine::io::{DirEntry, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode};

/// Every operation succeeds when it is first polled, and no memory outlives it. A log can be started on it and written to; nothing can be read back.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullDisk;

/// A file of a [`NullDisk`].
#[derive(Debug)]
pub struct NullFile;

impl Disk for NullDisk {
    type File = NullFile;

    fn buffer(&self, bytes: usize) -> DiskBufferMut {
        DiskBufferMut::heap(bytes)
    }

    async fn open(&self, _path: &Path, _mode: OpenMode) -> io::Result<NullFile> {
        Ok(NullFile)
    }

    async fn list(&self, _dir: &Path) -> io::Result<Vec<DirEntry>> {
        Err(io::ErrorKind::NotFound.into())
    }

    async fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn remove_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for NullFile {
    async fn write_at(&self, _position: u64, _buffer: &DiskBuffer) -> io::Result<()> {
        Ok(())
    }

    async fn read_at(&self, _position: u64, _bytes: usize) -> io::Result<DiskBuffer> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a disk that keeps nothing was read",
        ))
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    async fn truncate(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    async fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    async fn bytes(&self) -> io::Result<u64> {
        Ok(0)
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}
