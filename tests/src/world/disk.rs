//! The disk of the simulated world: a [`SimDisk`], and in front of it, for the canaries, one that forgets a step it was asked for.

use std::io;
use std::path::Path;

use gannet_engine::io::sim::{SimDisk, SimFile};
use gannet_engine::io::{DirEntry, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode};

/// A bug that a broker could have, made by a disk that leaves out what the broker asks for. The world must find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The journal's writes are not durable when they return: as if acknowledgements left before the write was on the disk.
    AckBeforeDurable,
    /// Segments are not synced before a checkpoint names what is in them.
    CheckpointBeforeSegmentSync,
    /// The names of new files are not made durable.
    NoDirectorySync,
    /// A sync of a segment that failed is tried again and believed: the file system may call it a success although what it lost is not there.
    SegmentSyncRetried,
}

/// See the module's text.
#[derive(Clone)]
pub(crate) struct WorldDisk {
    pub(crate) sim: SimDisk,
    canary: Option<Canary>,
}

pub(crate) struct WorldFile {
    sim: SimFile,
    skips_sync: bool,
    retries_sync: bool,
}

impl WorldDisk {
    pub(crate) fn new(sim: SimDisk, canary: Option<Canary>) -> Self {
        Self { sim, canary }
    }
}

impl Disk for WorldDisk {
    type File = WorldFile;

    fn buffer(&self, bytes: usize) -> DiskBufferMut {
        self.sim.buffer(bytes)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<WorldFile> {
        let mode = match (self.canary, mode) {
            (Some(Canary::AckBeforeDurable), OpenMode::WriteDurable) => OpenMode::Write,
            _ => mode,
        };
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        Ok(WorldFile {
            sim: self.sim.open(path, mode).await?,
            skips_sync: is_segment && self.canary == Some(Canary::CheckpointBeforeSegmentSync),
            retries_sync: is_segment && self.canary == Some(Canary::SegmentSyncRetried),
        })
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.sim.list(dir).await
    }

    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir_all(dir).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.sim.remove(path).await
    }

    async fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.sim.remove_dir_all(dir).await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.canary == Some(Canary::NoDirectorySync) {
            return Ok(());
        }
        self.sim.sync_dir(dir).await
    }

    async fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.sim.available_bytes(dir).await
    }
}

impl DiskFile for WorldFile {
    async fn write_at(&self, position: u64, buffer: &DiskBuffer) -> io::Result<()> {
        self.sim.write_at(position, buffer).await
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<DiskBuffer> {
        self.sim.read_at(position, bytes).await
    }

    async fn sync(&self) -> io::Result<()> {
        if self.skips_sync {
            return Ok(());
        }
        match self.sim.sync().await {
            Err(_) if self.retries_sync => self.sim.sync().await,
            synced => synced,
        }
    }

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.sim.allocate(bytes).await
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.sim.truncate(bytes).await
    }

    async fn bytes(&self) -> io::Result<u64> {
        self.sim.bytes().await
    }

    async fn close(self) -> io::Result<()> {
        self.sim.close().await
    }
}
