//! What a start finds in a journal's directory.
//!
//! Headers are read first. A file is not read when a later life began at or below what segments have: all it holds was flushed or cut. Of what is
//! read, only what segments do not have is kept, so memory is bounded by what publishers may leave unflushed
//! (`storage.unflushed_bytes_max`, a shard's part), rounded up to the reads it came in ([`SCAN_READ_BYTES`](super::super::scan::SCAN_READ_BYTES)): at
//! most two more of them a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::commit::{COMMIT_VERSION, CommitHead};
use super::super::journal_file::{
    FIRST_COMMIT_POSITION, HeaderState, JOURNAL_VERSION, JournalHeader,
};
use super::super::layout::{FilePlace, JOURNAL_KEPT_SUFFIX, JOURNAL_SUFFIX};
use super::super::recovery::{Lives, Step};
use super::super::scan::{Found, Scanner};
use super::super::{Generation, Lsn, StorageError};
use super::path_of;
use crate::io::{BLOCK_BYTES, Disk, DiskFile, OpenMode};

/// What a start finds in a journal directory.
pub struct JournalContents {
    /// What is known of the files beside what they hold.
    pub lives: Lives,
    /// What the scans found and segments do not have.
    pub found: Vec<Found>,
    /// Commits that were met and that segments have.
    pub flushed_commits: u64,
    files: Vec<FoundFile>,
    dir: PathBuf,
}

/// A journal file as a start finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundFile {
    pub(super) slot: u64,
    pub(super) file_bytes: u64,
    header: Option<JournalHeader>,
    /// The highest LSN in it that segments do not have; 0 when there is none.
    pub(super) last_lsn: Lsn,
    /// It is never used again.
    pub(super) is_damaged: bool,
}

impl JournalContents {
    /// Reads the files in `dir`, which may not exist yet, as far as they can hold more than segments have: everything up to `flushed`.
    /// Nothing is changed.
    pub async fn scan<D: Disk>(disk: &D, dir: &Path, flushed: Lsn) -> Result<Self, StorageError> {
        let entries = match disk.list(dir).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StorageError::io("list", dir)(error)),
        };
        let kept: BTreeSet<u64> = entries
            .iter()
            .filter_map(|entry| slot_of_name(&entry.name, JOURNAL_KEPT_SUFFIX))
            .collect();
        let mut contents = Self {
            lives: Lives::default(),
            found: Vec::new(),
            flushed_commits: 0,
            files: Vec::new(),
            dir: dir.to_path_buf(),
        };
        let mut opened = Vec::new();
        for entry in entries {
            let Some(slot) = slot_of_name(&entry.name, JOURNAL_SUFFIX) else {
                continue;
            };
            let file = OpenFile::open(disk, dir.join(&entry.name)).await?;
            contents.lives.generations.extend(file.generation());
            contents.lives.any_unknown |= file.header.is_none() && !file.is_blank;
            contents.files.push(FoundFile {
                slot,
                file_bytes: entry.bytes,
                header: file.header,
                last_lsn: Lsn::default(),
                is_damaged: kept.contains(&slot) || file.missing_bytes().is_some(),
            });
            opened.push(file);
        }
        let headers: Vec<JournalHeader> = opened.iter().filter_map(|file| file.header).collect();
        for (file, entry) in opened.iter().zip(&mut contents.files) {
            if file.is_blank || file.is_superseded(&headers, flushed) {
                continue;
            }
            if let Some((life, missing)) = file.missing_bytes() {
                tracing::error!(path = %file.path.display(), missing, "the journal file is shorter than it was made: what stood behind its end is lost");
                let blocks = missing.div_ceil(BLOCK_BYTES as u64);
                contents.lives.shortened.push((life, blocks));
            }
            let (found, flushed_commits) = file.scan(disk, flushed).await?;
            entry.last_lsn = found.iter().filter_map(found_lsn).max().unwrap_or_default();
            entry.is_damaged |= found
                .iter()
                .any(|found| matches!(found, Found::Unreadable { .. }))
                || (file.header.is_none() && entry.last_lsn > flushed);
            contents.found.extend(found);
            contents.flushed_commits += flushed_commits;
        }
        let as_made = headers.iter().map(|header| header.file_bytes).max();
        contents.lives.file_blocks = as_made.unwrap_or(FILE_BYTES_UNKNOWN) / BLOCK_BYTES as u64;
        for file in opened {
            let _ = file.file.close().await;
        }
        contents
            .files
            .sort_unstable_by_key(|file| (file.last_lsn, file.slot));
        Ok(contents)
    }

    /// Notes the files that the decision found rot in: they are never used again.
    pub fn keep_damaged(&mut self, steps: &[Step]) {
        let rot: Vec<(Lsn, Lsn)> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Replay(_) => None,
                Step::Salvage { lsn, .. } => Some((*lsn, *lsn)),
                Step::Lost { first, last } => Some((*first, *last)),
            })
            .collect();
        let headers: Vec<JournalHeader> =
            self.files.iter().filter_map(|file| file.header).collect();
        for file in &mut self.files {
            let Some(header) = file.header else { continue };
            // A life ends where a later one begins.
            let end = headers
                .iter()
                .filter(|later| later.generation > header.generation)
                .map(|later| later.first_lsn)
                .min();
            file.is_damaged |= rot.iter().any(|(first, last)| {
                *last >= header.first_lsn && end.is_none_or(|end| *first < end)
            });
        }
    }

    /// The files that are damaged and kept, in the order of names.
    #[must_use]
    pub fn damaged_files(&self) -> Vec<PathBuf> {
        let damaged = self.files.iter().filter(|file| file.is_damaged);
        let mut paths: Vec<PathBuf> = damaged.map(|file| path_of(&self.dir, file.slot)).collect();
        paths.sort_unstable();
        paths
    }

    /// How many journal files there are.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    pub(super) fn files(&self) -> &[FoundFile] {
        &self.files
    }
}

/// A file whose header was read.
struct OpenFile<D: Disk> {
    file: D::File,
    path: PathBuf,
    file_bytes: u64,
    header: Option<JournalHeader>,
    is_blank: bool,
}

impl<D: Disk> OpenFile<D> {
    async fn open(disk: &D, path: PathBuf) -> Result<Self, StorageError> {
        let file = disk
            .open(&path, OpenMode::Read)
            .await
            .map_err(StorageError::io("open", &path))?;
        // Before what is read is believed: a crash may have left it in a cache only.
        file.sync().await.map_err(StorageError::io("sync", &path))?;
        let file_bytes = file
            .bytes()
            .await
            .map_err(StorageError::io("measure", &path))?;
        let (mut header, mut is_blank) = (None, false);
        let place = FilePlace::of(&path);
        let blocks = read_narrowed(&file, 0, 2 * BLOCK_BYTES).await;
        match JournalHeader::read(&blocks, Some(place)) {
            HeaderState::Valid(valid) => {
                // IMPORTANT: a disk that claimed to write the header of a life and did not left that of a former one, which says nothing of
                // the commits that are here.
                header = (!begins_with_later_life(&file, &valid, place).await).then_some(valid);
            }
            HeaderState::Blank => {
                // IMPORTANT: where the first commits would be decides. Two zeroed blocks must not make a full file a spare.
                let probe = read_narrowed(&file, FIRST_COMMIT_POSITION, PROBE_BYTES).await;
                is_blank = probe.iter().all(|byte| *byte == 0);
            }
            HeaderState::Damaged => {}
            HeaderState::Newer(found) => {
                return Err(StorageError::Newer {
                    path: path.display().to_string(),
                    found,
                    known: JOURNAL_VERSION,
                });
            }
        }
        if header.is_none() && !is_blank {
            tracing::warn!(path = %path.display(), "the journal file's header is damaged, or was never written; its commits are searched for block by block");
        }
        Ok(Self {
            file,
            path,
            file_bytes,
            header,
            is_blank,
        })
    }

    fn generation(&self) -> Option<Generation> {
        self.header.map(|header| header.generation)
    }

    /// How much of it is gone, and of which life: it had its whole length before it was used.
    fn missing_bytes(&self) -> Option<(Generation, u64)> {
        let header = self.header?;
        let missing = header.file_bytes.checked_sub(self.file_bytes)?;
        (missing > 0).then_some((header.generation, missing))
    }

    /// Whether a later life began at or below what segments have: then everything here was flushed, or cut before that life began.
    fn is_superseded(&self, headers: &[JournalHeader], flushed: Lsn) -> bool {
        self.header.is_some_and(|header| {
            headers.iter().any(|later| {
                later.generation > header.generation && later.first_lsn <= flushed.next()
            })
        })
    }

    /// What the file holds that segments do not have, and how many commits they do have. A read that fails is narrowed down to single blocks.
    async fn scan(&self, disk: &D, flushed: Lsn) -> Result<(Vec<Found>, u64), StorageError> {
        let mut scanner = Scanner::new(
            Some(FilePlace::of(&self.path)),
            self.generation(),
            self.file_bytes,
        );
        let mut flushed_commits = 0;
        while let Some((position, bytes)) = scanner.poll_read() {
            match self.file.read_at(position, bytes).await {
                Ok(buffer) => scanner.handle_read(position, &buffer),
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), position, %error, "reading the journal failed; reading it block by block");
                    scan_narrowed(disk, &self.file, &mut scanner).await;
                }
            }
            // At once, so that the memory of what is not needed goes with it.
            flushed_commits += scanner.drop_flushed(flushed);
        }
        if scanner.met_newer() {
            return Err(StorageError::Newer {
                path: self.path.display().to_string(),
                found: u32::from(COMMIT_VERSION) + 1,
                known: u32::from(COMMIT_VERSION),
            });
        }
        Ok((scanner.into_found(), flushed_commits))
    }
}

async fn begins_with_later_life<F: DiskFile>(
    file: &F,
    header: &JournalHeader,
    place: FilePlace,
) -> bool {
    let block = read_narrowed(file, FIRST_COMMIT_POSITION, BLOCK_BYTES).await;
    CommitHead::read(&block, FIRST_COMMIT_POSITION).is_ok_and(|head| {
        head.identity.generation > header.generation && head.identity.file.may_be(place)
    })
}

fn slot_of_name(name: &str, suffix: &str) -> Option<u64> {
    name.strip_suffix(suffix)?.parse().ok()
}

fn found_lsn(found: &Found) -> Option<Lsn> {
    match found {
        Found::Commit(commit) => Some(commit.head.identity.lsn),
        Found::Damaged(damage) => Some(damage.head.identity.lsn),
        Found::Unreadable { .. } => None,
    }
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
async fn read_narrowed<F: DiskFile>(file: &F, position: u64, bytes: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes);
    for at in (0..bytes).step_by(BLOCK_BYTES) {
        match file.read_at(position + at as u64, BLOCK_BYTES).await {
            Ok(block) if block.len() == BLOCK_BYTES => all.extend_from_slice(&block),
            // Shorter than its header: it was never finished.
            Ok(_) => all.resize(all.len() + BLOCK_BYTES, 0),
            Err(_) => all.resize(all.len() + BLOCK_BYTES, 0xFF),
        }
    }
    all
}

/// Taken for the length of a journal file where none is left to tell.
const FILE_BYTES_UNKNOWN: u64 = 64 << 20;
/// How much is read of a file without a header to see whether it was ever used.
const PROBE_BYTES: usize = 16 * BLOCK_BYTES;
