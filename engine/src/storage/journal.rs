//! The files of one shard's journal: pre-written, filled, sealed, used again.
//!
//! A file is pre-written with zeros (writes over written blocks are durable in one operation, without metadata), then waits as
//! a spare. Put to use it gets a header with a new generation, durable before the first commit in it. Full, it is sealed; once everything
//! in it is in segments and a checkpoint says so, it is a spare again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::commit::{CommitFault, CommitHead};
use super::journal_file::{FIRST_COMMIT_POSITION, HeaderState, JournalHeader};
use super::layout::JOURNAL_SUFFIX;
use super::scan::{Found, Scanner};
use super::{Generation, Lsn, StorageError};
use crate::io::{BLOCK_BYTES, Disk, DiskBuffer, DiskFile, OpenMode};

const PREWRITE_BYTES: usize = 1 << 20;
const PREWRITES_IN_FLIGHT: usize = 4;

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
}

/// Where a commit is to be written.
pub struct Placement<D: Disk> {
    /// The file, open for durable writes.
    pub file: Rc<D::File>,
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

/// What a start finds in a journal directory.
pub struct JournalContents {
    /// The lives that the files' headers claim.
    pub generations: Vec<Generation>,
    /// What the scans found.
    pub found: Vec<Found>,
    /// Every file, with the highest LSN in it (0: none).
    files: Vec<Sealed>,
}

impl JournalContents {
    /// How many journal files there are.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }
}

impl<D: Disk> Journal<D> {
    /// Reads all files in `dir`, which may not exist yet. Nothing is changed.
    pub async fn scan(disk: &D, dir: &Path) -> Result<JournalContents, StorageError> {
        let entries = match disk.list(dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StorageError::io("list", dir)(error)),
        };
        let mut contents = JournalContents {
            generations: Vec::new(),
            found: Vec::new(),
            files: Vec::new(),
        };
        for entry in entries {
            let Some(slot) = slot_of_name(&entry.name) else {
                continue;
            };
            let path = dir.join(&entry.name);
            let (generation, found) = scan_file(disk, &path).await?;
            contents.generations.extend(generation);
            let last_lsn = found.iter().filter_map(found_lsn).max().unwrap_or_default();
            contents.found.extend(found);
            contents.files.push(Sealed {
                slot,
                file_bytes: entry.bytes,
                last_lsn,
            });
        }
        contents
            .files
            .sort_unstable_by_key(|file| (file.last_lsn, file.slot));
        Ok(contents)
    }

    /// Opens the journal behind what [`Journal::scan`] found: nothing is appended to any of those files in their present life.
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
        // IMPORTANT: a life that was killed may have made files whose names it never synced. They are spares now, and a power cut must not
        // take them with what is acknowledged in them.
        disk.sync_dir(dir)
            .await
            .map_err(StorageError::io("sync", dir))?;
        // What lies behind the end was cut; such a file is free once everything up to the end is flushed.
        let sealed = contents
            .files
            .iter()
            .map(|file| Sealed {
                last_lsn: file.last_lsn.min(end_lsn),
                ..*file
            })
            .collect();
        let next_slot = contents
            .files
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
    }

    /// Seals the current file and puts another to use, whose first commit will be `first_lsn`. Its header is durable when this returns.
    pub async fn rotate(&self, first_lsn: Lsn) -> Result<(), StorageError> {
        let spare = self.spares.borrow_mut().pop_front();
        let spare = match spare {
            Some(spare) => spare,
            None => self.prewrite(Pace::Urgent).await?,
        };
        let path = self.path(spare.slot);
        let file = self
            .disk
            .open(&path, OpenMode::WriteDurable)
            .await
            .map_err(StorageError::io("open", &path))?;
        let generation = Generation(self.generation.get().0 + 1);
        let mut blocks = self.disk.buffer(2 * BLOCK_BYTES);
        JournalHeader {
            generation,
            first_lsn,
            file_bytes: spare.file_bytes,
        }
        .write(&mut blocks);
        file.write_at(0, &blocks.freeze())
            .await
            .map_err(StorageError::io("write", &path))?;
        self.generation.set(generation);
        let sealed = self.current.borrow_mut().replace(Current {
            slot: spare.slot,
            file: Rc::new(file),
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
                .is_some_and(|current| current.position > current.file_bytes / 8)
    }

    /// Makes a spare ahead of time.
    pub async fn make_spare(&self) -> Result<(), StorageError> {
        let spare = self.prewrite(Pace::Ahead).await?;
        self.spares.borrow_mut().push_back(spare);
        Ok(())
    }

    /// Frees the sealed files that end at or below `flushed`: call it only when the checkpoint that says so is durable.
    pub async fn recycle(&self, flushed: Lsn) -> Result<(), StorageError> {
        let mut removed = false;
        loop {
            let file = {
                let mut sealed = self.sealed.borrow_mut();
                match sealed.front() {
                    Some(file) if file.last_lsn <= flushed => {
                        sealed.pop_front().expect("it was just seen")
                    }
                    _ => break,
                }
            };
            if self.spares.borrow().len() < self.spares_max && file.file_bytes == self.file_bytes {
                self.spares.borrow_mut().push_back(Spare {
                    slot: file.slot,
                    file_bytes: file.file_bytes,
                });
            } else {
                let path = self.path(file.slot);
                self.disk
                    .remove(&path)
                    .await
                    .map_err(StorageError::io("remove", &path))?;
                removed = true;
            }
        }
        if removed {
            self.disk
                .sync_dir(&self.dir)
                .await
                .map_err(StorageError::io("sync", &self.dir))?;
        }
        Ok(())
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
        let zeros = zeros(&self.disk, PREWRITE_BYTES);
        let in_flight = match pace {
            Pace::Ahead => 1,
            Pace::Urgent => PREWRITES_IN_FLIGHT,
        };
        let mut position = 0;
        while position < self.file_bytes {
            let mut writes = Vec::with_capacity(in_flight);
            while writes.len() < in_flight && position < self.file_bytes {
                let left = self.file_bytes - position;
                let buffer = match usize::try_from(left) {
                    Ok(left) if left < PREWRITE_BYTES => self::zeros(&self.disk, left),
                    _ => zeros.clone(),
                };
                let bytes = buffer.len() as u64;
                writes.push((position, buffer));
                position += bytes;
            }
            let writes = writes
                .iter()
                .map(|(position, zeros)| file.write_at(*position, zeros));
            futures_util::future::try_join_all(writes)
                .await
                .map_err(StorageError::io("write", path))?;
            if pace == Pace::Ahead {
                // A commit's durable write waits for the device's cache to be emptied: never let much gather in it.
                file.sync().await.map_err(StorageError::io("sync", path))?;
            }
        }
        file.sync().await.map_err(StorageError::io("sync", path))?;
        file.close().await.map_err(StorageError::io("close", path))
    }

    fn path(&self, slot: u64) -> PathBuf {
        self.dir.join(format!("{slot:08}{JOURNAL_SUFFIX}"))
    }
}

fn zeros<D: Disk>(disk: &D, bytes: usize) -> DiskBuffer {
    let mut buffer = disk.buffer(bytes);
    buffer.fill(0);
    buffer.freeze()
}

fn slot_of_name(name: &str) -> Option<u64> {
    name.strip_suffix(JOURNAL_SUFFIX)?.parse().ok()
}

fn found_lsn(found: &Found) -> Option<Lsn> {
    match found {
        Found::Commit(commit) => Some(commit.head.identity.lsn),
        Found::Damaged(damage) => Some(damage.head.identity.lsn),
        Found::Unreadable { .. } => None,
    }
}

/// Scans one file; a read that fails is narrowed down to single blocks.
async fn scan_file<D: Disk>(
    disk: &D,
    path: &Path,
) -> Result<(Option<Generation>, Vec<Found>), StorageError> {
    let file = disk
        .open(path, OpenMode::Read)
        .await
        .map_err(StorageError::io("open", path))?;
    // Before what is read is believed: a crash may have left it in a cache only.
    file.sync().await.map_err(StorageError::io("sync", path))?;
    let file_bytes = file
        .bytes()
        .await
        .map_err(StorageError::io("measure", path))?;
    let header = match read_narrowed(&file, 0, 2 * BLOCK_BYTES).await {
        Some(blocks) => JournalHeader::read(&blocks),
        None => HeaderState::Damaged,
    };
    let generation = match header {
        HeaderState::Valid(header) => Some(header.generation),
        // A file with commits had a header once: then its write was lost, although the disk said otherwise.
        HeaderState::Blank if !begins_with_commit(&file).await => return Ok((None, Vec::new())),
        HeaderState::Blank => {
            tracing::warn!(path = %path.display(), "the journal file has commits but no header; they are searched for block by block");
            None
        }
        HeaderState::Damaged => {
            tracing::warn!(path = %path.display(), "both copies of the journal file's header are damaged; its commits are searched for block by block");
            None
        }
        HeaderState::Newer(found) => {
            return Err(StorageError::Newer {
                path: path.display().to_string(),
                found,
                known: super::journal_file::JOURNAL_VERSION,
            });
        }
    };
    let mut scanner = Scanner::new(generation, file_bytes);
    while let Some((position, bytes)) = scanner.poll_read() {
        match file.read_at(position, bytes).await {
            Ok(buffer) => scanner.handle_read(position, &buffer),
            Err(error) => {
                tracing::warn!(path = %path.display(), position, %error, "reading the journal failed; reading it block by block");
                scan_narrowed(disk, &file, &mut scanner).await;
            }
        }
    }
    if scanner.met_newer() {
        return Err(StorageError::Newer {
            path: path.display().to_string(),
            found: u32::from(super::commit::COMMIT_VERSION) + 1,
            known: u32::from(super::commit::COMMIT_VERSION),
        });
    }
    let _ = file.close().await;
    Ok((generation, scanner.into_found()))
}

async fn begins_with_commit<F: DiskFile>(file: &F) -> bool {
    read_narrowed(file, FIRST_COMMIT_POSITION, BLOCK_BYTES)
        .await
        .is_some_and(|block| {
            !matches!(
                CommitHead::read(&block, FIRST_COMMIT_POSITION),
                Err(CommitFault::NoHead)
            )
        })
}

/// Reads on with ever smaller reads until one succeeds or a single block is given up. Of a commit that is known to be there only the
/// blocks that cannot be read are given up.
async fn scan_narrowed<D: Disk>(disk: &D, file: &D::File, scanner: &mut Scanner) {
    let Some((position, mut bytes)) = scanner.poll_read() else {
        return;
    };
    if scanner.wants_commit() {
        let mut commit = disk.buffer(bytes);
        for (at, into) in (position..)
            .step_by(BLOCK_BYTES)
            .zip(commit.chunks_exact_mut(BLOCK_BYTES))
        {
            match file.read_at(at, BLOCK_BYTES).await {
                Ok(block) if block.len() == BLOCK_BYTES => into.copy_from_slice(&block),
                _ => into.fill(0),
            }
        }
        scanner.handle_read(position, &commit.freeze());
        return;
    }
    while bytes > BLOCK_BYTES {
        bytes = (bytes / 2).next_multiple_of(BLOCK_BYTES);
        if let Ok(buffer) = file.read_at(position, bytes).await {
            scanner.handle_read(position, &buffer);
            return;
        }
    }
    scanner.handle_unreadable(position);
}

/// Reads a few blocks one by one; a block that cannot be read counts as damaged, not as zeros.
async fn read_narrowed<F: DiskFile>(file: &F, position: u64, bytes: usize) -> Option<Vec<u8>> {
    let mut all = Vec::with_capacity(bytes);
    for at in (0..bytes).step_by(BLOCK_BYTES) {
        match file.read_at(position + at as u64, BLOCK_BYTES).await {
            Ok(block) if block.len() == BLOCK_BYTES => all.extend_from_slice(&block),
            // Shorter than its header: it was never finished.
            Ok(_) => all.resize(all.len() + BLOCK_BYTES, 0),
            Err(_) => all.resize(all.len() + BLOCK_BYTES, 0xFF),
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests;
