//! Reads batches back from segments: open files, indexes and chunks are kept in bounded caches of the shard.

mod cache;
mod chunks;
mod course;
mod indexes;
mod turns;
mod walk;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use gannet_wire::{Offset, Timestamp};

use self::cache::Cache;
use self::chunks::{Chunk, Chunks};
use self::course::Course;
use self::indexes::{Indexes, RunPoints};
use self::turns::Turns;
use self::walk::{Step, Walk};
use super::index::{IndexPoint, RunIndex};
use super::layout::DataDir;
use super::segment::{Run, SegmentFault, SegmentHeader, SegmentRef, header_at};
use super::slice::Slice;
use super::{PartitionKey, StorageError};
use crate::io::{BLOCK_BYTES, Disk, DiskFile, OpenMode};
use crate::partition::Fence;

/// Why a read from a segment gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// These offsets are lost: their bytes are not what was written, or the medium does not give them. What is behind them can be read.
    #[error("offsets {from} to {to} are damaged on disk", from = .0.from, to = .0.to)]
    Damaged(Fence),
    /// The system failed. The records may be there, and another try may find them.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A batch and where it stands in its segment.
#[derive(Debug)]
pub struct SegmentBatch {
    /// Its first byte in the file. The next batch need not follow at once: there may be filler between them.
    pub position: u64,
    /// The stamped batch.
    pub bytes: Slice,
}

/// Batches from a segment.
#[derive(Debug)]
pub struct SegmentRead {
    /// Whole batches with consecutive offsets. The first holds the offset that was asked for, or begins with it.
    pub batches: Vec<SegmentBatch>,
    /// Behind the last one.
    pub next: Place,
}

/// Where a batch of a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first record.
    pub offset: Offset,
    /// Its first byte in the file, or filler right before it.
    pub position: u64,
}

/// What is to be read of a run.
#[derive(Clone, Copy, Debug)]
pub struct ReadFrom<'a> {
    /// Where to begin: at the batch with the first record that is wanted, or before it.
    pub place: Place,
    /// The first record that is wanted.
    pub offset: Offset,
    /// Whether the reader came here by reading on, and so will probably go on.
    pub in_sequence: bool,
    /// The partition's next runs, in the order of offsets: what is read ahead when the end of this one is near. [`SegmentReader::ahead_bytes`] are enough.
    pub behind: &'a [Run],
}

/// See the module's text. Belongs to one shard.
pub struct SegmentReader<D: Disk> {
    disk: D,
    data: DataDir,
    files: RefCell<Cache<SegmentRef, OpenFile<D>>>,
    chunks: Chunks<D>,
    turns: Turns,
    indexes: Indexes,
    /// The shared segment that is still written to, and its end as far as that is durable.
    open_shared: Cell<Option<(SegmentRef, u64)>>,
}

struct OpenFile<D: Disk> {
    file: Rc<D::File>,
    /// Its length when it was opened. Where it is still written to this says nothing: room is made before anything is there.
    bytes: u64,
}

impl<D: Disk> SegmentReader<D> {
    /// A reader that keeps at most `files_max` descriptors and `cache_bytes` of chunks.
    #[must_use]
    pub fn new(
        disk: D,
        data: DataDir,
        chunk_bytes: usize,
        cache_bytes: usize,
        files_max: usize,
    ) -> Self {
        Self {
            chunks: Chunks::new(disk.clone(), chunk_bytes, cache_bytes),
            turns: Turns::default(),
            disk,
            data,
            files: RefCell::new(Cache::new(files_max)),
            indexes: Indexes::new(),
            open_shared: Cell::new(None),
        }
    }

    /// Whether somebody waits for writes of this shard: until nobody does, reads give way to them.
    pub fn set_writes_wait(&self, wait: bool) {
        self.turns.set_writes_wait(wait);
    }

    /// A shared segment is written to over several rounds: so far it is durable up to `end`.
    pub fn shared_grew(&self, segment: SegmentRef, end: u64) {
        self.open_shared.set(Some((segment, end)));
    }

    /// Nothing more will be written to it.
    pub fn shared_ended(&self) {
        self.open_shared.set(None);
    }

    /// How much behind a run a reader has to know of: all of the chunks that are read ahead, since one of which only the beginning is known is read twice.
    #[must_use]
    pub fn ahead_bytes(&self) -> u64 {
        (READ_AHEAD_CHUNKS as u64 + 2) * self.chunks.chunk_bytes() as u64
    }

    /// From where reading meets `offset` of `run`. `open`: what the index of a segment says that is still being written.
    pub async fn seek(
        &self,
        key: PartitionKey,
        run: &Run,
        offset: Offset,
        open: Option<Place>,
    ) -> Result<Place, ReadFault> {
        if offset == run.base_offset {
            return Ok(Place::start_of(run));
        }
        if let Some(place) = open {
            return Ok(place);
        }
        let points = self.points(key, run).await?;
        let point = points.seek_offset(offset);
        Ok(point.map_or_else(|| Place::start_of(run), Place::from))
    }

    /// From where reading meets the first record of `run` with a timestamp at or above `timestamp`. `open`: the index of a segment that is still
    /// being written.
    pub async fn seek_timestamp(
        &self,
        key: PartitionKey,
        run: &Run,
        timestamp: Timestamp,
        open: Option<RunIndex>,
    ) -> Result<Place, ReadFault> {
        let points = match open {
            Some(open) => RunPoints::of(open),
            None => self.points(key, run).await?,
        };
        let point = points.seek_timestamp(timestamp);
        Ok(point.map_or_else(|| Place::start_of(run), Place::from))
    }

    /// The same by the broker's append time, which rises with the offsets: a few batches tell where to look.
    pub async fn seek_append_time(
        &self,
        key: PartitionKey,
        run: &Run,
        timestamp: Timestamp,
        open: Option<RunIndex>,
    ) -> Result<Place, ReadFault> {
        let points = match open {
            Some(open) => RunPoints::of(open),
            None => self.points(key, run).await?,
        };
        let mut place = Place::start_of(run);
        let (mut low, mut high) = (0, points.points().len());
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(point) = points.points().get(middle).copied().map(Place::from) else {
                break;
            };
            let from = ReadFrom {
                place: point,
                offset: point.offset,
                in_sequence: false,
                behind: &[],
            };
            let is_older = match self.read(key, run, from, 1).await {
                Ok(read) => read
                    .batches
                    .first()
                    .and_then(|batch| header_at(&batch.bytes))
                    .is_some_and(|header| header.append_time() < timestamp),
                // It cannot say: reading begins before it.
                Err(ReadFault::Damaged(_)) => false,
                Err(ReadFault::Storage(error)) => return Err(error.into()),
            };
            if is_older {
                place = point;
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(place)
    }

    /// Reads batches of `run`, skipping those wholly before the offset that is wanted: at least one, then as many as `bytes_max` allows.
    ///
    /// # Errors
    /// [`ReadFault::Damaged`] when nothing before the damage is left to give: then exactly what is lost, from the wanted offset to the next batch
    /// that proves itself.
    pub async fn read(
        &self,
        key: PartitionKey,
        run: &Run,
        from: ReadFrom<'_>,
        bytes_max: usize,
    ) -> Result<SegmentRead, ReadFault> {
        let ReadFrom {
            place,
            offset,
            in_sequence,
            behind,
        } = from;
        let (mut position, mut reached) = (place.position, place.offset);
        let mut batches: Vec<SegmentBatch> = Vec::new();
        let mut bytes = 0;
        let mut walk = Walk::new(self, key, Course { run, behind }, in_sequence);
        while position < run.end {
            let batch = match walk.step(position, reached).await {
                Ok(Step::Filler(end)) => {
                    position = end;
                    continue;
                }
                Ok(Step::Batch(batch)) => batch,
                // What was read before it is given first, and the next read meets it again.
                Ok(Step::Damage) | Err(_) if !batches.is_empty() => break,
                Err(error) => return Err(error.into()),
                Ok(Step::Damage) => {
                    let points = self.points_on_disk(key, run).await;
                    let found = walk
                        .find_behind(position, reached, points.as_deref())
                        .await?;
                    match found {
                        Some(batch) if batch.offsets.start <= offset => batch,
                        found => {
                            return Err(ReadFault::Damaged(Fence {
                                from: offset,
                                to: found.map_or(run.next_offset, |batch| batch.offsets.start),
                            }));
                        }
                    }
                }
            };
            if batch.offsets.end > offset {
                if !batches.is_empty() && bytes + batch.bytes.len() > bytes_max {
                    break;
                }
                bytes += batch.bytes.len();
            }
            (position, reached) = (batch.end(), batch.offsets.end);
            if batch.offsets.end > offset {
                batches.push(SegmentBatch {
                    position: batch.position,
                    bytes: batch.bytes,
                });
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        if batches.is_empty() {
            return Err(ReadFault::Damaged(Fence {
                from: offset,
                to: run.next_offset,
            }));
        }
        if bytes < self.chunks.chunk_bytes() / PINNED_PARTS_MAX {
            self.copy_out(&mut batches, bytes);
        }
        Ok(SegmentRead {
            batches,
            next: Place {
                offset: reached,
                position,
            },
        })
    }

    /// Forgets what is cached of a segment that goes.
    pub fn forget(&self, segment: SegmentRef) {
        self.files.borrow_mut().remove(&segment);
        self.indexes.forget(segment);
        self.chunks.forget(segment);
    }

    /// Lets go of all cached chunks: memory for an idle shard.
    pub fn clear_chunks(&self) {
        self.chunks.clear();
    }

    /// A few small batches would keep a whole chunk in memory for as long as a slow connection holds them.
    fn copy_out(&self, batches: &mut [SegmentBatch], bytes: usize) {
        let mut copy = self.disk.buffer(bytes.next_multiple_of(BLOCK_BYTES));
        let mut ends = Vec::with_capacity(batches.len());
        let mut end = 0;
        for batch in batches.iter() {
            copy[end..end + batch.bytes.len()].copy_from_slice(&batch.bytes);
            end += batch.bytes.len();
            ends.push(end);
        }
        let copy = copy.freeze();
        let mut start = 0;
        for (batch, end) in batches.iter_mut().zip(ends) {
            batch.bytes = Slice::new(copy.clone(), start..end);
            start = end;
        }
    }

    /// The chunk of the run's segment that begins at `start`. `ahead`: the next ones are read too.
    async fn chunk(
        &self,
        key: PartitionKey,
        course: Course<'_>,
        start: u64,
        ahead: bool,
    ) -> Result<Rc<Chunk>, StorageError> {
        let segment = course.run.segment;
        // IMPORTANT: no more than this run has of it: what others have behind it grows, and a chunk would be read again for them each time.
        let needed = course.run.end.min(start + self.chunks.chunk_bytes() as u64);
        if let Some(reading) = self.chunks.known(segment, start, needed) {
            if ahead {
                self.read_ahead(course, start);
            }
            match reading.clone().await {
                Ok(chunk) => return Ok(chunk),
                // Perhaps long ago, when it was read ahead: it is tried again.
                Err(_) => self.chunks.fail(segment, &reading, start),
            }
        }
        let file = self.file(key, segment).await?;
        let _turn = self.turns.take().await;
        let until = self.until(course, start);
        let reading = self.chunks.begin(segment, file, start, needed..until);
        if ahead {
            self.read_ahead(course, start);
        }
        reading.clone().await.map_err(|error| {
            self.chunks.fail(segment, &reading, start);
            let path = segment.path(&self.data, key);
            StorageError::io("read", &path)(copy_of(&error))
        })
    }

    /// Begins to read the chunks that come behind the one at `start` of the first run.
    fn read_ahead(&self, course: Course<'_>, start: u64) {
        if !self.turns.may_read_ahead() {
            return;
        }
        let chunk_bytes = self.chunks.chunk_bytes() as u64;
        let chunks = course.chunks_behind(start, chunk_bytes);
        for (course, start) in chunks.take(READ_AHEAD_CHUNKS) {
            // What is not open yet is opened by who comes to it.
            let segment = course.run.segment;
            let Some(file) = self.files.borrow_mut().get(&segment) else {
                return;
            };
            let until = self.until(course, start);
            self.chunks.begin_ahead(segment, file.file, start, until);
        }
    }

    /// How much of the chunk at `start` is there to be read: what is known to be durable.
    fn until(&self, course: Course<'_>, start: u64) -> u64 {
        let run = course.run;
        // One read of a shared segment serves all its runs. IMPORTANT: behind what is durable there is room that was made for the next round, and
        // whoever takes the zeros there for good finds no batches later.
        let end = match self.open_shared.get() {
            _ if !run.segment.shared => course.joined_end(),
            Some((segment, end)) if segment == run.segment => end,
            _ => {
                let known = self.files.borrow_mut().get(&run.segment);
                known.map_or(run.end, |file| file.bytes)
            }
        };
        let end = end.max(run.end);
        end.min(start + self.chunks.chunk_bytes() as u64)
    }

    async fn file(
        &self,
        key: PartitionKey,
        segment: SegmentRef,
    ) -> Result<Rc<D::File>, StorageError> {
        if let Some(known) = self.files.borrow_mut().get(&segment) {
            return Ok(known.file);
        }
        let path = segment.path(&self.data, key);
        let file = self
            .disk
            .open(&path, OpenMode::Read)
            .await
            .map_err(StorageError::io("open", &path))?;
        let bytes = file
            .bytes()
            .await
            .map_err(StorageError::io("look at", &path))?;
        // The batches prove themselves; the header only says whose they are, and may be lost.
        match file
            .read_at(0, BLOCK_BYTES)
            .await
            .map(|block| SegmentHeader::read(&block))
        {
            // A file in the wrong place is as bad as a damaged one.
            Ok(Ok(header)) if header.id == segment.id => {}
            Ok(Err(SegmentFault::Newer(found))) => {
                return Err(StorageError::Newer {
                    path: path.display().to_string(),
                    found,
                    known: super::segment::SEGMENT_VERSION,
                });
            }
            Ok(Ok(_) | Err(SegmentFault::Header)) | Err(_) => {
                tracing::warn!(path = %path.display(), "the segment's header is damaged; its batches are still checked one by one");
            }
        }
        let file = Rc::new(file);
        let known = OpenFile {
            file: file.clone(),
            bytes,
        };
        self.files.borrow_mut().insert(segment, known, 1);
        Ok(file)
    }
}

impl<D: Disk> Clone for OpenFile<D> {
    fn clone(&self) -> Self {
        Self {
            file: self.file.clone(),
            bytes: self.bytes,
        }
    }
}

impl Place {
    /// Where a run begins.
    #[must_use]
    pub fn start_of(run: &Run) -> Self {
        Self {
            offset: run.base_offset,
            position: run.position,
        }
    }
}

impl From<IndexPoint> for Place {
    fn from(point: IndexPoint) -> Self {
        Self {
            offset: Offset(point.offset),
            position: point.position,
        }
    }
}

/// Several wait for the same read, and each is told.
fn copy_of(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(number) => std::io::Error::from_raw_os_error(number),
        None => std::io::Error::new(error.kind(), error.to_string()),
    }
}

/// Chunks that are read ahead of a reader that goes on and on: with the present one enough to keep a disk busy.
const READ_AHEAD_CHUNKS: usize = 3;
/// A read keeps memory of at most so many times what it returns, but for what little the parts of two chunks are.
const PINNED_PARTS_MAX: usize = 4;

#[cfg(test)]
mod tests;
