//! The files of one shard's journal: pre-written, filled, sealed, used again.
//!
//! A file is pre-written with zeros (writes over written blocks are durable in one operation, without metadata), then waits as
//! a spare. Put to use it gets a header with a new generation, durable before the first commit in it. Full, it is sealed; once everything
//! in it is in segments and a checkpoint says so, it is a spare again. Only a file in which a start found rot never is: it stays as it is, beside
//! an empty file whose name says so, until an operator removes both.

mod contents;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

pub use contents::JournalContents;

use super::journal_file::{FIRST_COMMIT_POSITION, JournalHeader};
use super::layout::{FilePlace, JOURNAL_KEPT_SUFFIX, JOURNAL_SUFFIX};
use super::{Generation, Lsn, StorageError};
use crate::io::local::Signal;
use crate::io::{BLOCK_BYTES, Disk, DiskBuffer, DiskFile, OpenMode};

const PREWRITE_BYTES: usize = 1 << 20;
const PREWRITES_IN_FLIGHT: usize = 4;
/// One write behind the commits: a commit that comes meanwhile waits for no more than this.
const PREWRITE_AHEAD_BYTES: usize = 128 << 10;
/// A commit's durable write waits for the device's cache to be emptied: no more than this gathers in it.
const PREWRITE_SYNC_BYTES: u64 = 1 << 20;
/// A spare is begun when so much of the current file is full, as its part of the whole.
const SPARE_BEGINS_AT: u64 = 8;

/// A journal whose commits go to one file at a time. Owned by its shard's commit loop; spares are made by another task.
pub struct Journal<D: Disk> {
    disk: D,
    dir: PathBuf,
    file_bytes: u64,
    spares_max: usize,
    current: RefCell<Option<Current<D>>>,
    sealed: RefCell<VecDeque<Sealed>>,
    spares: RefCell<VecDeque<Spare>>,
    next_slot: Cell<u64>,
    generation: Cell<Generation>,
    /// Whether a spare is being made behind the commits.
    making_spare: Cell<bool>,
    /// Whether commits wait for it.
    spare_urgent: Cell<bool>,
    /// A commit was placed, or a spare is there, or one is waited for.
    progress: Signal,
}

/// Where a commit is to be written.
pub struct Placement<D: Disk> {
    /// The file, open for durable writes.
    pub file: Rc<D::File>,
    /// Which one it is.
    pub file_place: FilePlace,
    /// The file's life.
    pub generation: Generation,
    /// Where the commit begins.
    pub position: u64,
    /// The checksum of the commit before; 0 for the first one.
    pub previous_checksum: u32,
}

struct Current<D: Disk> {
    slot: u64,
    file: Rc<D::File>,
    file_place: FilePlace,
    file_bytes: u64,
    position: u64,
    last_lsn: Lsn,
    previous_checksum: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sealed {
    slot: u64,
    file_bytes: u64,
    last_lsn: Lsn,
}

#[derive(Clone, Copy, Debug)]
struct Spare {
    slot: u64,
    file_bytes: u64,
}

/// How a file is pre-written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Behind the commits, which go on meanwhile.
    Ahead,
    /// Commits wait for it.
    Urgent,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal behind what [`JournalContents::scan`] found: nothing is appended to any of those files in their present life.
    /// `generation` is the newest one ever used, `end_lsn` where the log ends.
    pub async fn open(
        disk: &D,
        dir: &Path,
        file_bytes: u64,
        spares_max: usize,
        contents: &JournalContents,
        generation: Generation,
        end_lsn: Lsn,
    ) -> Result<Self, StorageError> {
        assert!(
            file_bytes.is_multiple_of(BLOCK_BYTES as u64) && file_bytes > FIRST_COMMIT_POSITION,
            "a journal file holds whole blocks"
        );
        disk.create_dir_all(dir)
            .await
            .map_err(StorageError::io("create", dir))?;
        for file in contents.files().iter().filter(|file| file.is_damaged) {
            note_kept(disk, dir, file.slot).await?;
        }
        // IMPORTANT: a spare that a killed life had just made may have a name that no sync has seen yet, and a commit in it would be
        // gone with the name.
        disk.sync_dir(dir)
            .await
            .map_err(StorageError::io("sync", dir))?;
        // What lies behind the end was cut; such a file is free once everything up to the end is flushed.
        let sealed = contents
            .files()
            .iter()
            .filter(|file| !file.is_damaged)
            .map(|file| Sealed {
                slot: file.slot,
                file_bytes: file.file_bytes,
                last_lsn: file.last_lsn.min(end_lsn),
            })
            .collect();
        let next_slot = contents
            .files()
            .iter()
            .map(|file| file.slot + 1)
            .max()
            .unwrap_or(0);
        Ok(Self {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            file_bytes,
            spares_max,
            current: RefCell::new(None),
            sealed: RefCell::new(sealed),
            spares: RefCell::new(VecDeque::new()),
            next_slot: Cell::new(next_slot),
            generation: Cell::new(generation),
            making_spare: Cell::new(false),
            spare_urgent: Cell::new(false),
            progress: Signal::new(),
        })
    }

    /// Where a commit of `bytes` goes, if the current file has room for it.
    #[must_use]
    pub fn place(&self, bytes: usize) -> Option<Placement<D>> {
        let current = self.current.borrow();
        let current = current.as_ref()?;
        if current.position + bytes as u64 > current.file_bytes {
            return None;
        }
        Some(Placement {
            file: current.file.clone(),
            file_place: current.file_place,
            generation: self.generation.get(),
            position: current.position,
            previous_checksum: current.previous_checksum,
        })
    }

    /// Takes the place that [`Journal::place`] named: the next commit goes behind it.
    pub fn advance(&self, bytes: usize, lsn: Lsn, checksum: u32) {
        let mut current = self.current.borrow_mut();
        let current = current
            .as_mut()
            .expect("a commit was placed in the current file");
        current.position += bytes as u64;
        current.last_lsn = lsn;
        current.previous_checksum = checksum;
        if self.making_spare.get() {
            self.progress.notify_all();
        }
    }

    /// Seals the current file and puts another to use, whose first commit will be `first_lsn`. Its header is durable when this returns.
    pub async fn rotate(&self, first_lsn: Lsn) -> Result<(), StorageError> {
        let spare = self.spare().await?;
        let path = self.path(spare.slot);
        let file = self
            .disk
            .open(&path, OpenMode::WriteDurable)
            .await
            .map_err(StorageError::io("open", &path))?;
        let generation = Generation(self.generation.get().0 + 1);
        let file_place = FilePlace::of(&path);
        let mut blocks = self.disk.buffer(2 * BLOCK_BYTES);
        JournalHeader {
            generation,
            first_lsn,
            file_bytes: spare.file_bytes,
            file: file_place,
        }
        .write(&mut blocks);
        file.write_at(0, &blocks.freeze())
            .await
            .map_err(StorageError::io("write", &path))?;
        self.generation.set(generation);
        let sealed = self.current.borrow_mut().replace(Current {
            slot: spare.slot,
            file: Rc::new(file),
            file_place,
            file_bytes: spare.file_bytes,
            position: FIRST_COMMIT_POSITION,
            last_lsn: Lsn(first_lsn.0 - 1),
            previous_checksum: 0,
        });
        if let Some(old) = sealed {
            self.sealed.borrow_mut().push_back(Sealed {
                slot: old.slot,
                file_bytes: old.file_bytes,
                last_lsn: old.last_lsn,
            });
        }
        Ok(())
    }

    /// Whether a spare should be made now, so that [`Journal::rotate`] need not wait for one.
    #[must_use]
    pub fn wants_spare(&self) -> bool {
        let current = self.current.borrow();
        self.spares.borrow().is_empty()
            && current
                .as_ref()
                .is_some_and(|current| current.position > current.file_bytes / SPARE_BEGINS_AT)
    }

    /// Makes a spare ahead of time: twice as fast as the current file fills up, so that it is done in time and takes no more of the device than
    /// it must, and as fast as it goes once [`Journal::rotate`] waits for it.
    pub async fn make_spare(&self) -> Result<(), StorageError> {
        self.making_spare.set(true);
        let made = self.prewrite(Pace::Ahead).await;
        self.making_spare.set(false);
        self.spare_urgent.set(false);
        let made = made.map(|spare| self.spares.borrow_mut().push_back(spare));
        self.progress.notify_all();
        made
    }

    /// The next file to be used: one that is there, or that is being made, or a new one.
    async fn spare(&self) -> Result<Spare, StorageError> {
        loop {
            let known = self.spares.borrow_mut().pop_front();
            if let Some(spare) = known {
                return Ok(spare);
            }
            if !self.making_spare.get() {
                return self.prewrite(Pace::Urgent).await;
            }
            self.spare_urgent.set(true);
            self.progress.notify_all();
            self.progress.wait().await;
        }
    }

    /// How much of a spare may be written by now.
    fn spare_bytes_due(&self) -> u64 {
        if self.spare_urgent.get() {
            return u64::MAX;
        }
        self.current.borrow().as_ref().map_or(u64::MAX, |current| {
            let begin = current.file_bytes / SPARE_BEGINS_AT;
            2 * current.position.saturating_sub(begin)
        })
    }

    /// Frees the sealed files that end at or below `flushed`: call it only when the checkpoint that says so is durable.
    ///
    /// IMPORTANT: before there is a current file nothing is removed. One of these shows that the newest life is not gone, whichever it is, and the
    /// next file takes its time to be made.
    pub async fn recycle(&self, flushed: Lsn) -> Result<(), StorageError> {
        let in_use = self.current.borrow().is_some();
        let superfluous = self.free_sealed(flushed, in_use);
        for slot in &superfluous {
            let path = self.path(*slot);
            self.disk
                .remove(&path)
                .await
                .map_err(StorageError::io("remove", &path))?;
        }
        if !superfluous.is_empty() {
            self.disk
                .sync_dir(&self.dir)
                .await
                .map_err(StorageError::io("sync", &self.dir))?;
        }
        Ok(())
    }

    /// Makes spares of the sealed files that end at or below `flushed`; returns those that are nobody's any more, if any may be.
    fn free_sealed(&self, flushed: Lsn, may_remove: bool) -> Vec<u64> {
        let (mut sealed, mut spares) = (self.sealed.borrow_mut(), self.spares.borrow_mut());
        let mut superfluous = Vec::new();
        let mut later = Vec::new();
        while sealed.front().is_some_and(|file| file.last_lsn <= flushed) {
            let Some(file) = sealed.pop_front() else {
                break;
            };
            if file.file_bytes == self.file_bytes {
                spares.push_back(Spare {
                    slot: file.slot,
                    file_bytes: file.file_bytes,
                });
            } else if may_remove {
                superfluous.push(file.slot);
            } else {
                later.push(file);
            }
        }
        // In their order, for the next time.
        later
            .into_iter()
            .rev()
            .for_each(|file| sealed.push_front(file));
        while may_remove && spares.len() > self.spares_max {
            superfluous.extend(spares.pop_front().map(|spare| spare.slot));
        }
        superfluous
    }

    /// Bytes of all files on disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let current = self
            .current
            .borrow()
            .as_ref()
            .map_or(0, |current| current.file_bytes);
        let sealed: u64 = self
            .sealed
            .borrow()
            .iter()
            .map(|file| file.file_bytes)
            .sum();
        let spares: u64 = self
            .spares
            .borrow()
            .iter()
            .map(|file| file.file_bytes)
            .sum();
        current + sealed + spares
    }

    /// The newest life in use.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation.get()
    }

    /// Writes a file full of zeros and makes it and its name durable.
    async fn prewrite(&self, pace: Pace) -> Result<Spare, StorageError> {
        let slot = self.next_slot.get();
        self.next_slot.set(slot + 1);
        let path = self.path(slot);
        let result = self.prewrite_file(&path, pace).await;
        if result.is_err() {
            // A half-made file would only take room; when even this fails, the next start finds it blank and uses it.
            let _ = self.disk.remove(&path).await;
        }
        result?;
        self.disk
            .sync_dir(&self.dir)
            .await
            .map_err(StorageError::io("sync", &self.dir))?;
        Ok(Spare {
            slot,
            file_bytes: self.file_bytes,
        })
    }

    async fn prewrite_file(&self, path: &Path, pace: Pace) -> Result<(), StorageError> {
        // Without O_DSYNC: over blocks that were never written it would cost a change of metadata a write.
        let file = self
            .disk
            .open(path, OpenMode::CreateNew)
            .await
            .map_err(StorageError::io("create", path))?;
        file.allocate(self.file_bytes)
            .await
            .map_err(StorageError::io("allocate", path))?;
        let mut position = 0;
        let mut synced = 0;
        while position < self.file_bytes {
            let (bytes, in_flight) = match pace {
                Pace::Ahead if !self.spare_urgent.get() => {
                    self.spare_due(position).await;
                    (PREWRITE_AHEAD_BYTES, 1)
                }
                Pace::Ahead | Pace::Urgent => (PREWRITE_BYTES, PREWRITES_IN_FLIGHT),
            };
            position = self
                .prewrite_part(&file, path, position, bytes, in_flight)
                .await?;
            if pace == Pace::Ahead && position - synced >= PREWRITE_SYNC_BYTES {
                synced = position;
                file.sync().await.map_err(StorageError::io("sync", path))?;
            }
        }
        file.sync().await.map_err(StorageError::io("sync", path))?;
        file.close().await.map_err(StorageError::io("close", path))
    }

    /// Writes a few pieces of zeros at once; returns where the next one goes.
    async fn prewrite_part(
        &self,
        file: &D::File,
        path: &Path,
        mut position: u64,
        bytes: usize,
        in_flight: usize,
    ) -> Result<u64, StorageError> {
        let whole = zeros(&self.disk, bytes);
        let mut writes = Vec::with_capacity(in_flight);
        while writes.len() < in_flight && position < self.file_bytes {
            let left = usize::try_from(self.file_bytes - position).unwrap_or(usize::MAX);
            let buffer = if left < bytes {
                zeros(&self.disk, left)
            } else {
                whole.clone()
            };
            let end = position + buffer.len() as u64;
            writes.push((position, buffer));
            position = end;
        }
        let writes = writes
            .iter()
            .map(|(position, zeros)| file.write_at(*position, zeros));
        futures_util::future::try_join_all(writes)
            .await
            .map_err(StorageError::io("write", path))?;
        Ok(position)
    }

    /// Waits until the file that is in use is so full that the spare should be behind `position`.
    async fn spare_due(&self, position: u64) {
        loop {
            let seen = self.progress.version();
            if position < self.spare_bytes_due() {
                return;
            }
            self.progress.changed_since(seen).await;
        }
    }

    fn path(&self, slot: u64) -> PathBuf {
        path_of(&self.dir, slot)
    }
}

fn path_of(dir: &Path, slot: u64) -> PathBuf {
    dir.join(format!("{slot:08}{JOURNAL_SUFFIX}"))
}

/// Makes the empty file that says that a journal file is kept; durable with the next sync of the directory.
async fn note_kept<D: Disk>(disk: &D, dir: &Path, slot: u64) -> Result<(), StorageError> {
    let path = dir.join(format!("{slot:08}{JOURNAL_KEPT_SUFFIX}"));
    match disk.open(&path, OpenMode::CreateNew).await {
        Ok(note) => {
            tracing::error!(file = %path_of(dir, slot).display(), note = %path.display(), "a journal file is damaged: it is kept as it is and not used again. Remove it and the note beside it once nobody wants to look into it");
            note.close().await.map_err(StorageError::io("close", &path))
        }
        // An earlier start made it.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StorageError::io("create", &path)(error)),
    }
}

fn zeros<D: Disk>(disk: &D, bytes: usize) -> DiskBuffer {
    let mut buffer = disk.buffer(bytes);
    buffer.fill(0);
    buffer.freeze()
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
