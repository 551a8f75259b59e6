//! The disk of the simulated world: a [`SimDisk`], and in front of it, for the canaries, one that forgets a step it was asked for.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

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
    /// A start believes what it reads of the journal without syncing it first: a process that was killed may have left it in a cache.
    JournalNotSyncedAtStart,
}

/// See the module's text.
#[derive(Clone)]
pub(crate) struct WorldDisk {
    pub(crate) sim: SimDisk,
    canary: Option<Canary>,
    journal_files: Rc<JournalFiles>,
}

/// Which journal files were put to use, and how often one was again.
#[derive(Default)]
struct JournalFiles {
    used: RefCell<HashSet<PathBuf>>,
    reused: Cell<u64>,
}

pub(crate) struct WorldFile {
    sim: SimFile,
    skips_sync: bool,
    retries_sync: bool,
}

impl WorldDisk {
    pub(crate) fn new(sim: SimDisk, canary: Option<Canary>) -> Self {
        Self {
            sim,
            canary,
            journal_files: Rc::default(),
        }
    }

    /// Times that a journal file was opened for commits which had been before.
    pub(crate) fn reused_journal_files(&self) -> u64 {
        self.journal_files.reused.get()
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
        let is = |suffix| {
            path.extension()
                .is_some_and(|extension| extension == suffix)
        };
        let (is_segment, is_journal) = (is("seg"), is("gnj"));
        if is_journal && mode == OpenMode::CreateNew {
            self.journal_files.used.borrow_mut().remove(path);
        }
        if is_journal && mode == OpenMode::WriteDurable {
            let is_new = self.journal_files.used.borrow_mut().insert(path.to_owned());
            let reused = &self.journal_files.reused;
            reused.set(reused.get() + u64::from(!is_new));
        }
        let skips_sync = match self.canary {
            Some(Canary::CheckpointBeforeSegmentSync) => is_segment,
            Some(Canary::JournalNotSyncedAtStart) => is_journal && mode == OpenMode::Read,
            _ => false,
        };
        Ok(WorldFile {
            sim: self.sim.open(path, mode).await?,
            skips_sync,
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
