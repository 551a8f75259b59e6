//! The disk as the logs of catalogue and checkpoints want it, read-only and without io_uring: what is examined may lie on any
//! machine. Every call ends at once, so its future can be taken in one poll: [`now`].

use std::fs;
use std::io;
use std::path::Path;

use futures_util::FutureExt;

use super::file::StoredFile;
use crate::io::{DirEntry, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode};

/// The result of something that only waits on a [`ReadOnlyDisk`].
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future
        .now_or_never()
        .expect("a read-only disk answers every call at once")
}

/// Files as they are. Everything that would change one is refused.
#[derive(Clone, Debug)]
pub(crate) struct ReadOnlyDisk;

pub(crate) struct ReadOnlyFile(StoredFile);

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::ReadOnlyFilesystem,
        "what is examined is not changed",
    ))
}

impl Disk for ReadOnlyDisk {
    type File = ReadOnlyFile;

    fn buffer(&self, bytes: usize) -> DiskBufferMut {
        DiskBufferMut::heap(bytes)
    }
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<ReadOnlyFile> {
        match mode {
            OpenMode::Read => StoredFile::open(path).map(ReadOnlyFile),
            _ => read_only(),
        }
    }
    async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // No name that the broker gives is anything but ASCII: another one is not a file of its own.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry {
                    name,
                    is_dir: metadata.is_dir(),
                    bytes: if metadata.is_dir() { 0 } else { metadata.len() },
                });
            }
        }
        Ok(entries)
    }
    async fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        read_only()
    }
    async fn remove(&self, _: &Path) -> io::Result<()> {
        read_only()
    }
    async fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        read_only()
    }
    async fn sync_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }
    async fn available_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

impl DiskFile for ReadOnlyFile {
    async fn write_at(&self, _: u64, _: &DiskBuffer) -> io::Result<()> {
        read_only()
    }
    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<DiskBuffer> {
        self.0.read_buffer(position, bytes)
    }
    /// Nothing was written, so there is nothing to make durable.
    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    async fn allocate(&self, _: u64) -> io::Result<()> {
        read_only()
    }
    async fn truncate(&self, _: u64) -> io::Result<()> {
        read_only()
    }
    async fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.bytes())
    }
    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}
