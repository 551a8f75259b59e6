//! A segment that is being written, and the stream of bytes into it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;

use super::index::OpenIndex;
use super::layout::{DataDir, FilePlace};
use super::segment::{FIRST_BATCH_POSITION, SegmentHeader, SegmentRef};
use super::{PartitionKey, SegmentId, StorageError};
use crate::io::{BLOCK_BYTES, Disk, DiskBufferMut, DiskFile, OpenMode};

const ALLOCATION_BYTES_MIN: u64 = 1 << 20;
const ALLOCATION_BYTES_MAX: u64 = 64 << 20;

/// A segment open for writing. Nothing in it counts before [`OpenSegment::sync`] and the checkpoint (or the journal) that names it.
pub struct OpenSegment<D: Disk> {
    disk: D,
    /// Which one.
    pub segment: SegmentRef,
    /// Its file.
    pub file: Rc<D::File>,
    path: PathBuf,
    index_path: PathBuf,
    position: u64,
    allocated: u64,
    /// What was written so far; readers ask it too.
    pub index: Rc<RefCell<OpenIndex>>,
    /// When it is sealed at the latest, by the monotonic clock.
    pub seal_at: Option<Duration>,
}

/// The directories of segments whose names are durable, as this life knows.
///
/// That a directory exists says nothing: a life that was killed may have made it, or a task of this one that has not synced it yet. A power
/// cut takes such a directory away, and with it every segment in it.
#[derive(Debug, Default)]
pub struct SegmentDirs {
    durable: RefCell<HashSet<PathBuf>>,
}

impl SegmentDirs {
    /// Makes a directory and its parents up to the data directory, and all their names durable.
    async fn make<D: Disk>(
        &self,
        disk: &D,
        data: &DataDir,
        dir: &Path,
    ) -> Result<(), StorageError> {
        if self.durable.borrow().contains(dir) {
            return Ok(());
        }
        disk.create_dir_all(dir)
            .await
            .map_err(StorageError::io("create", dir))?;
        let below_root = |dir: &&Path| *dir != data.root() && dir.starts_with(data.root());
        for named in dir.ancestors().take_while(below_root) {
            if self.durable.borrow().contains(named) {
                break;
            }
            let parent = named.parent().unwrap_or(data.root());
            disk.sync_dir(parent)
                .await
                .map_err(StorageError::io("sync", parent))?;
        }
        let made = dir.ancestors().take_while(below_root).map(Path::to_owned);
        self.durable.borrow_mut().extend(made);
        Ok(())
    }
}

impl<D: Disk> OpenSegment<D> {
    /// Creates the file with its header; the name is durable when this returns.
    pub async fn create(
        disk: &D,
        data: &DataDir,
        dirs: &SegmentDirs,
        id: SegmentId,
        owner: Option<PartitionKey>,
    ) -> Result<Self, StorageError> {
        let dir = data.segment_dir(owner);
        dirs.make(disk, data, &dir).await?;
        let path = data.segment(owner, id);
        let created = create_file(disk, &path, SegmentHeader { id, owner }).await;
        if created.is_err() {
            // Nobody will ever write to it: it would only take room.
            let _ = disk.remove(&path).await;
        }
        let file = created?;
        disk.sync_dir(&dir)
            .await
            .map_err(StorageError::io("sync", &dir))?;
        Ok(Self {
            disk: disk.clone(),
            segment: SegmentRef {
                id,
                shared: owner.is_none(),
            },
            file: Rc::new(file),
            path,
            index_path: data.index(owner, id),
            position: FIRST_BATCH_POSITION,
            allocated: FIRST_BATCH_POSITION,
            index: Rc::default(),
            seal_at: None,
        })
    }

    /// Whether it has been open for long enough.
    #[must_use]
    pub fn is_seal_due(&self, now: Duration) -> bool {
        self.seal_at.is_some_and(|at| now >= at)
    }

    /// The next free block.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes `bytes`, rounded up to blocks, at the end; `None` when that would need [`OpenSegment::reserve`] first.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        let end = self.position + bytes.next_multiple_of(BLOCK_BYTES as u64);
        if end > self.allocated {
            return None;
        }
        Some(std::mem::replace(&mut self.position, end))
    }

    /// Allocates room for `bytes` more, and some ahead, so that few writes change the file's metadata. Nothing is written: after an error it
    /// can be tried again.
    ///
    /// A segment of many partitions gets no more than is asked for: there is one for a trickle as well. Neither does one on a disk that has
    /// no more.
    pub async fn reserve(&mut self, bytes: u64) -> Result<(), StorageError> {
        let end = self.position + bytes.next_multiple_of(BLOCK_BYTES as u64);
        if end <= self.allocated {
            return Ok(());
        }
        if !self.segment.shared {
            let ahead = self
                .position
                .clamp(ALLOCATION_BYTES_MIN, ALLOCATION_BYTES_MAX);
            let allocated = (end + ahead).next_multiple_of(ALLOCATION_BYTES_MIN);
            match self.allocate(allocated).await {
                Err(error) if error.is_disk_full() => {}
                other => return other,
            }
        }
        self.allocate(end).await
    }

    async fn allocate(&mut self, bytes: u64) -> Result<(), StorageError> {
        self.file
            .allocate(bytes)
            .await
            .map_err(StorageError::io("allocate", &self.path))?;
        self.allocated = bytes;
        Ok(())
    }

    /// Nothing more will be taken: gives back what was allocated ahead, and writes the index. Chunks may still be on their way to places that
    /// were taken.
    pub async fn seal(&self) -> Result<(), StorageError> {
        if self.allocated > self.position {
            self.file
                .truncate(self.position)
                .await
                .map_err(StorageError::io("truncate", &self.path))?;
        }
        self.write_index().await
    }

    /// A stream that writes at the end; give its end to [`OpenSegment::advance`].
    ///
    /// With `sync_bytes` it syncs as it goes: a durable write elsewhere waits for the device's cache to be emptied, so what
    /// is written behind the commits must not gather there.
    pub fn writer(
        &self,
        write_bytes: usize,
        in_flight_max: usize,
        sync_bytes: Option<u64>,
    ) -> SegmentWriter<D> {
        SegmentWriter {
            disk: self.disk.clone(),
            file: self.file.clone(),
            path: self.path.clone(),
            write_bytes,
            in_flight_max,
            sync_bytes,
            unsynced_bytes: 0,
            position: self.position,
            buffer: None,
            filled: 0,
            writes: FuturesUnordered::new(),
        }
    }

    /// A writer finished at `end`.
    pub fn advance(&mut self, end: u64) {
        self.position = end.next_multiple_of(BLOCK_BYTES as u64);
        self.allocated = self.allocated.max(self.position);
    }

    /// Makes what was written durable.
    pub async fn sync(&self) -> Result<(), StorageError> {
        self.file
            .sync()
            .await
            .map_err(StorageError::io("sync", &self.path))
    }

    /// Writes the index beside it. Not synced: an index that is lost is made again. So is one that a full disk has no room for.
    pub async fn write_index(&self) -> Result<(), StorageError> {
        match self.write_index_file().await {
            Err(error) if error.is_disk_full() => {
                tracing::warn!(%error, "the disk is full: a segment stays without its index, which is made again when it is needed");
                let _ = self.disk.remove(&self.index_path).await;
                Ok(())
            }
            other => other,
        }
    }

    async fn write_index_file(&self) -> Result<(), StorageError> {
        let bytes = self
            .index
            .borrow()
            .index()
            .encode(FilePlace::of(&self.index_path));
        let mut buffer = self.disk.buffer(bytes.len().next_multiple_of(BLOCK_BYTES));
        let (body, filler) = buffer.split_at_mut(bytes.len());
        body.copy_from_slice(&bytes);
        filler.fill(0);
        match self.disk.remove(&self.index_path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StorageError::io("remove", &self.index_path)(error));
            }
            _ => {}
        }
        let file = self
            .disk
            .open(&self.index_path, OpenMode::CreateNew)
            .await
            .map_err(StorageError::io("create", &self.index_path))?;
        file.write_at(0, &buffer.freeze())
            .await
            .map_err(StorageError::io("write", &self.index_path))?;
        file.close()
            .await
            .map_err(StorageError::io("close", &self.index_path))
    }
}

async fn create_file<D: Disk>(
    disk: &D,
    path: &Path,
    header: SegmentHeader,
) -> Result<D::File, StorageError> {
    let file = disk
        .open(path, OpenMode::CreateNew)
        .await
        .map_err(StorageError::io("create", path))?;
    let mut block = disk.buffer(BLOCK_BYTES);
    header.write(&mut block);
    file.write_at(0, &block.freeze())
        .await
        .map_err(StorageError::io("write", path))?;
    Ok(file)
}

/// Gathers bytes into large writes, a few in flight.
pub struct SegmentWriter<D: Disk> {
    disk: D,
    file: Rc<D::File>,
    path: PathBuf,
    write_bytes: usize,
    in_flight_max: usize,
    /// A sync after so many bytes; `None` leaves it to the end.
    sync_bytes: Option<u64>,
    unsynced_bytes: u64,
    /// Where the buffer will be written.
    position: u64,
    buffer: Option<DiskBufferMut>,
    filled: usize,
    writes: FuturesUnordered<LocalBoxFuture<'static, std::io::Result<()>>>,
}

impl<D: Disk> SegmentWriter<D> {
    /// Where the next byte goes.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + self.filled as u64
    }

    /// Adds bytes; waits only while too many writes are in flight.
    pub async fn push(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let write_bytes = self.write_bytes;
            let disk = &self.disk;
            let buffer = self.buffer.get_or_insert_with(|| disk.buffer(write_bytes));
            let part = bytes.len().min(buffer.len() - self.filled);
            let (now, later) = bytes.split_at(part);
            buffer[self.filled..self.filled + part].copy_from_slice(now);
            self.filled += part;
            bytes = later;
            if self.filled == write_bytes {
                self.write_buffer().await?;
            }
        }
        Ok(())
    }

    /// Writes what is left, filled up with zeros to a block, and waits for all writes; returns the end of the last byte pushed.
    pub async fn finish(mut self) -> Result<u64, StorageError> {
        let end = self.end();
        if self.filled > 0 {
            let tail = self.filled.next_multiple_of(BLOCK_BYTES);
            let full = self.buffer.take().expect("bytes are in a buffer");
            // A right-sized copy: writing the rest of a large buffer would cost more than copying the little that is in it.
            let mut last = self.disk.buffer(tail);
            last[..self.filled].copy_from_slice(&full[..self.filled]);
            last[self.filled..].fill(0);
            self.buffer = Some(last);
            self.write_buffer().await?;
        }
        while let Some(result) = self.writes.next().await {
            result.map_err(StorageError::io("write", &self.path))?;
        }
        Ok(end)
    }

    async fn write_buffer(&mut self) -> Result<(), StorageError> {
        while self.writes.len() >= self.in_flight_max {
            if let Some(result) = self.writes.next().await {
                result.map_err(StorageError::io("write", &self.path))?;
            }
        }
        let Some(buffer) = self.buffer.take() else {
            return Ok(());
        };
        let (file, position) = (self.file.clone(), self.position);
        self.position += buffer.len() as u64;
        self.filled = 0;
        let buffer = buffer.freeze();
        self.unsynced_bytes += buffer.len() as u64;
        let written = self.file.clone();
        self.writes.push(Box::pin(
            async move { file.write_at(position, &buffer).await },
        ));
        if self
            .sync_bytes
            .is_some_and(|bytes| self.unsynced_bytes >= bytes)
        {
            self.unsynced_bytes = 0;
            while let Some(result) = self.writes.next().await {
                result.map_err(StorageError::io("write", &self.path))?;
            }
            written
                .sync()
                .await
                .map_err(StorageError::io("sync", &self.path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
