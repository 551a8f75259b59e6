//! A small durable log in two copies: a snapshot and what came after it. The catalogue and the checkpoints live in one each.
//!
//! A log is a pair of files with the same records, written side by side and both synced before an append returns. Records stand on
//! block boundaries, carry their file's sequence and their own index, and are checksummed over all of it and the log's place ([`FilePlace`]). What is too large for one
//! record goes in parts: each but the last says that the next one belongs to it, and a load has all of them or none. A start never
//! appends behind what it found: it writes a new pair, makes it durable, and removes the old one.
//!
//! Reading takes each record from whichever copy has it whole. A record that is whole in neither ends the log, unless one with a
//! higher index is whole: that one was written only after this one was durable, so this is damage, and is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::StorageError;
use super::layout::FilePlace;
use crate::io::{BLOCK_BYTES, Disk, DiskFile, OpenMode};

/// The newest format this program reads.
pub const RECORD_LOG_VERSION: u32 = 1;
/// One record, head included, is smaller than this.
pub const RECORD_BYTES_MAX: usize = 1 << 30;

const COPIES: [&str; 2] = ["a", "b"];
const WRITE_BYTES_MAX: usize = 4 << 20;
const READ_BYTES: usize = 4 << 20;
/// What is appended before a new snapshot is worth its writing, at least.
pub const ROTATE_BYTES_MIN: u64 = 4 << 20;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHead {
    magic: [u8; 4],
    version: U32,
    sequence: U64,
    index: U64,
    /// With [`GOES_ON`] when the next record belongs to this one.
    record_bytes: U32,
    checksum: U32,
}

const HEAD_BYTES: usize = size_of::<RawHead>();
const MAGIC: [u8; 4] = *b"GRLG";
const GOES_ON: u32 = 1 << 31;
const _: () = assert!(RECORD_BYTES_MAX <= GOES_ON as usize);

/// An open log: appends go to both copies.
pub struct RecordLog<D: Disk> {
    disk: D,
    stem: PathBuf,
    sequence: u64,
    copies: [D::File; 2],
    index: u64,
    position: u64,
    reserved_bytes: u64,
    snapshot_bytes: u64,
}

/// What a log held.
#[derive(Debug, PartialEq, Eq)]
pub struct LoadedLog {
    /// The pair's number; the next pair has a higher one.
    pub sequence: u64,
    /// The snapshot, then what was appended, in order; the parts of what was written in parts one by one.
    pub records: Vec<Vec<u8>>,
}

impl<D: Disk> RecordLog<D> {
    /// Reads the newest log called `name` in `dir`; `None` when there never was one.
    pub async fn load(disk: &D, dir: &Path, name: &str) -> Result<Option<LoadedLog>, StorageError> {
        let mut sequences = sequences(disk, dir, name).await?;
        sequences.sort_unstable();
        let stem = dir.join(name);
        for sequence in sequences.iter().rev() {
            let mut copies = Vec::new();
            for copy in COPIES {
                copies.push(read_copy(disk, &copy_path(&stem, *sequence, copy)).await?);
            }
            let records = join_copies(&copies, *sequence, &stem)?;
            if !records.is_empty() {
                return Ok(Some(LoadedLog {
                    sequence: *sequence,
                    records,
                }));
            }
            // A pair without its snapshot was never finished: then the one before is still there.
        }
        if sequences.is_empty() || sequences == [1] {
            // Sequence 1 is the very first pair; without its snapshot the first start was cut short before anything was
            // promised. Whether something was promised after all, the callers see by what else is there.
            return Ok(None);
        }
        Err(StorageError::Damaged {
            path: stem.display().to_string(),
            what: "no copy of its snapshot is whole".into(),
        })
    }

    /// Begins the pair `sequence` with a snapshot; when this returns, it is durable and the older pairs are gone.
    pub async fn start(
        disk: &D,
        dir: &Path,
        name: &str,
        sequence: u64,
        snapshot: &[u8],
    ) -> Result<Self, StorageError> {
        Self::start_in_parts(disk, dir, name, sequence, &[snapshot]).await
    }

    /// As [`RecordLog::start`], with a snapshot in parts, each smaller than [`RECORD_BYTES_MAX`].
    ///
    /// # Errors
    /// Where [`StorageError::is_disk_full`], nothing has begun, and the log there is can go on. All else is final: the new pair may be what the next
    /// start finds.
    pub async fn start_in_parts<R: AsRef<[u8]>>(
        disk: &D,
        dir: &Path,
        name: &str,
        sequence: u64,
        snapshot: &[R],
    ) -> Result<Self, StorageError> {
        let stem = dir.join(name);
        disk.create_dir_all(dir)
            .await
            .map_err(StorageError::io("create", dir))?;
        let older = sequences(disk, dir, name).await?;
        let mut files = Vec::with_capacity(2);
        for copy in COPIES {
            let path = copy_path(&stem, sequence, copy);
            if older.contains(&sequence) {
                // What an unfinished start left.
                match disk.remove(&path).await {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StorageError::io("remove", &path)(error));
                    }
                    _ => {}
                }
            }
            files.push(
                disk.open(&path, OpenMode::CreateNew)
                    .await
                    .map_err(StorageError::io("create", &path))?,
            );
        }
        let [second, first] =
            [files.pop(), files.pop()].map(|file| file.expect("two copies were opened"));
        let mut log = Self {
            disk: disk.clone(),
            stem,
            sequence,
            copies: [first, second],
            index: 0,
            position: 0,
            reserved_bytes: 0,
            snapshot_bytes: 0,
        };
        if let Err(error) = log.reserve_parts(snapshot).await {
            // Without a record it says nothing, and would only take room.
            for copy in COPIES {
                let _ = log.disk.remove(&copy_path(&log.stem, sequence, copy)).await;
            }
            return Err(error);
        }
        log.append_in_parts(snapshot).await?;
        log.snapshot_bytes = log.position;
        log.disk
            .sync_dir(dir)
            .await
            .map_err(StorageError::io("sync", dir))
            .map_err(StorageError::after_room_was_made)?;
        for old in older.into_iter().filter(|old| *old < sequence) {
            for copy in COPIES {
                let path = copy_path(&log.stem, old, copy);
                match log.disk.remove(&path).await {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StorageError::io("remove", &path)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(log)
    }

    /// Room that is left for records before more has to be reserved.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.reserved_bytes.saturating_sub(self.position)
    }

    /// Makes sure that the disk has room for a record of so many bytes. Nothing is written: after an error it can be tried again.
    pub async fn reserve(&mut self, record_bytes: usize) -> Result<(), StorageError> {
        self.reserve_blocks(blocks_of(record_bytes)).await
    }

    /// As [`RecordLog::reserve`], for a record in parts.
    pub async fn reserve_parts<R: AsRef<[u8]>>(&mut self, parts: &[R]) -> Result<(), StorageError> {
        let parts = parts.iter().map(|part| blocks_of(part.as_ref().len()));
        self.reserve_blocks(parts.sum()).await
    }

    async fn reserve_blocks(&mut self, bytes: u64) -> Result<(), StorageError> {
        let end = self.position + bytes;
        if end > self.reserved_bytes {
            for copy in &self.copies {
                copy.allocate(end)
                    .await
                    .map_err(StorageError::io("allocate", &self.stem))?;
            }
            self.reserved_bytes = end;
        }
        Ok(())
    }

    /// Appends a record; when this returns, both copies are durable. After an error the log must not be used again.
    pub async fn append(&mut self, record: &[u8]) -> Result<(), StorageError> {
        self.append_in_parts(&[record]).await
    }

    /// As [`RecordLog::append`], with parts, each smaller than [`RECORD_BYTES_MAX`]: all of them or none are there after a crash.
    pub async fn append_in_parts<R: AsRef<[u8]>>(
        &mut self,
        parts: &[R],
    ) -> Result<(), StorageError> {
        let (last, others) = parts.split_last().expect("a record has a part");
        for part in others {
            self.write(part.as_ref(), GOES_ON).await?;
        }
        self.write(last.as_ref(), 0).await
    }

    /// Writes one record behind the others. IMPORTANT: it is durable before the next one is written, or a crash could leave a later one whole
    /// where an earlier is not, which is what damage looks like.
    async fn write(&mut self, record: &[u8], goes_on: u32) -> Result<(), StorageError> {
        let total = HEAD_BYTES + record.len();
        assert!(
            total < RECORD_BYTES_MAX,
            "a record of {total} bytes is over the limit"
        );
        let mut raw = RawHead {
            magic: MAGIC,
            version: U32::new(RECORD_LOG_VERSION),
            sequence: U64::new(self.sequence),
            index: U64::new(self.index),
            record_bytes: U32::new(u32::try_from(record.len()).expect("below the limit") | goes_on),
            checksum: U32::new(0),
        };
        raw.checksum = U32::new(raw.computed_checksum(record, FilePlace::of(&self.stem)));
        let mut position = self.position;
        let mut written = 0;
        while written < total {
            let chunk = (total - written).min(WRITE_BYTES_MAX);
            let mut buffer = self.disk.buffer(chunk.next_multiple_of(BLOCK_BYTES));
            buffer.fill(0);
            let head = raw.as_bytes();
            let head_part = &head[written.min(HEAD_BYTES)..HEAD_BYTES.min(written + chunk)];
            buffer[..head_part.len()].copy_from_slice(head_part);
            let from = written.saturating_sub(HEAD_BYTES);
            let body_part = &record[from..written + chunk - HEAD_BYTES];
            buffer[head_part.len()..head_part.len() + body_part.len()].copy_from_slice(body_part);
            let buffer = buffer.freeze();
            let (a, b) = futures_util::future::join(
                self.copies[0].write_at(position, &buffer),
                self.copies[1].write_at(position, &buffer),
            )
            .await;
            a.and(b)
                .map_err(StorageError::io("write", &self.stem))
                .map_err(StorageError::after_room_was_made)?;
            position += buffer.len() as u64;
            written += chunk;
        }
        let (a, b) = futures_util::future::join(self.copies[0].sync(), self.copies[1].sync()).await;
        a.and(b)
            .map_err(StorageError::io("sync", &self.stem))
            .map_err(StorageError::after_room_was_made)?;
        self.position = position;
        self.index += 1;
        Ok(())
    }

    /// Whether what was appended has outgrown `bytes_min` and the snapshot, so that a new one pays.
    #[must_use]
    pub fn wants_snapshot(&self, bytes_min: u64) -> bool {
        self.position - self.snapshot_bytes > (2 * self.snapshot_bytes).max(bytes_min)
    }

    /// The pair's number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl RawHead {
    fn computed_checksum(&self, record: &[u8], place: FilePlace) -> u32 {
        let head = self.as_bytes();
        let head = crc32c::crc32c_append(place.0, &head[..HEAD_BYTES - 4]);
        crc32c::crc32c_append(head, record)
    }
}

/// What a record takes in its file.
fn blocks_of(record_bytes: usize) -> u64 {
    (HEAD_BYTES + record_bytes).next_multiple_of(BLOCK_BYTES) as u64
}

fn copy_path(stem: &Path, sequence: u64, copy: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(format!("-{sequence}.{copy}"));
    PathBuf::from(name)
}

async fn sequences<D: Disk>(disk: &D, dir: &Path, name: &str) -> Result<Vec<u64>, StorageError> {
    let entries = match disk.list(dir).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io("list", dir)(error)),
    };
    let mut found: Vec<u64> = entries
        .iter()
        .filter_map(|entry| {
            entry
                .name
                .strip_prefix(name)?
                .strip_prefix('-')?
                .split_once('.')?
                .0
                .parse()
                .ok()
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

async fn read_copy<D: Disk>(disk: &D, path: &Path) -> Result<Vec<u8>, StorageError> {
    let file = match disk.open(path, OpenMode::Read).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io("open", path)(error)),
    };
    // Before what is read is believed: a crash may have left it in a cache only.
    file.sync().await.map_err(StorageError::io("sync", path))?;
    let mut bytes = Vec::new();
    let mut read_bytes = READ_BYTES;
    loop {
        match file.read_at(bytes.len() as u64, read_bytes).await {
            Ok(buffer) => {
                bytes.extend_from_slice(&buffer);
                // A file ends on a block's boundary, unless somebody has cut it; behind such an end nothing can be read.
                if buffer.is_empty() || !buffer.len().is_multiple_of(BLOCK_BYTES) {
                    break;
                }
            }
            Err(_) if read_bytes > BLOCK_BYTES => {
                // Only what cannot be read is given up: what stands behind it may be what the other copy lacks.
                read_bytes = BLOCK_BYTES;
            }
            Err(error) => {
                let file_bytes = file
                    .bytes()
                    .await
                    .map_err(StorageError::io("measure", path))?;
                if bytes.len() as u64 >= file_bytes {
                    break;
                }
                tracing::warn!(path = %path.display(), position = bytes.len(), %error, "a block of one copy cannot be read; the other copy serves");
                bytes.resize(bytes.len() + BLOCK_BYTES, 0);
            }
        }
    }
    let _ = file.close().await;
    Ok(bytes)
}

/// The records that both copies hold together; pure.
fn join_copies(
    copies: &[Vec<u8>],
    sequence: u64,
    stem: &Path,
) -> Result<Vec<Vec<u8>>, StorageError> {
    let path = copy_path(stem, sequence, COPIES[0]);
    let place = FilePlace::of(stem);
    let mut found: BTreeMap<u64, (Vec<u8>, bool)> = BTreeMap::new();
    for bytes in copies {
        let mut position = 0;
        while let Some(rest) = bytes
            .get(position..)
            .filter(|rest| rest.len() >= HEAD_BYTES)
        {
            let step = match read_record(rest, sequence, place) {
                Ok((index, record, goes_on)) => {
                    found
                        .entry(index)
                        .or_insert_with(|| (record.to_vec(), goes_on));
                    (HEAD_BYTES + record.len()).next_multiple_of(BLOCK_BYTES)
                }
                Err(Some(version)) => {
                    return Err(StorageError::Newer {
                        path: path.display().to_string(),
                        found: version,
                        known: RECORD_LOG_VERSION,
                    });
                }
                // Block by block: a damaged length is never followed.
                Err(None) => BLOCK_BYTES,
            };
            position += step;
        }
    }
    let mut records = Vec::with_capacity(found.len());
    let mut complete = 0;
    for (expected, (index, (record, goes_on))) in found.into_iter().enumerate() {
        if index != expected as u64 {
            return Err(StorageError::Damaged {
                path: path.display().to_string(),
                what: format!(
                    "record {expected} is whole in neither copy, though record {index} was written after it"
                ),
            });
        }
        records.push(record);
        if !goes_on {
            complete = records.len();
        }
    }
    // Parts without their last one were never durable as a whole.
    records.truncate(complete);
    Ok(records)
}

/// The record at the start of `bytes`. `Err(Some(version))`: a newer program wrote it.
fn read_record(
    bytes: &[u8],
    sequence: u64,
    place: FilePlace,
) -> Result<(u64, &[u8], bool), Option<u32>> {
    let (raw, rest) = RawHead::ref_from_prefix(bytes).map_err(|_| None)?;
    if raw.magic != MAGIC || raw.sequence.get() != sequence {
        return Err(None);
    }
    let record_bytes = raw.record_bytes.get() & !GOES_ON;
    let record = rest.get(..record_bytes as usize).ok_or(None)?;
    let sealed = |place| raw.computed_checksum(record, place);
    if !place.accepts(raw.checksum.get(), sealed) {
        return Err(None);
    }
    if raw.version.get() > RECORD_LOG_VERSION {
        return Err(Some(raw.version.get()));
    }
    let goes_on = raw.record_bytes.get() & GOES_ON != 0;
    Ok((raw.index.get(), record, goes_on))
}

#[cfg(test)]
mod tests;
