//! Reads batches back from segments: open files, indexes and chunks are kept in bounded caches of the shard.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::rc::Rc;

use gannet_wire::batch::verify_stamped;
use gannet_wire::{Offset, Timestamp};

use super::index::{RunIndex, SegmentIndex};
use super::layout::DataDir;
use super::segment::{
    Framed, Run, SegmentFault, SegmentHeader, SegmentRef, aligned_bytes, frame_at,
};
use super::slice::Slice;
use super::{PartitionKey, StorageError};
use crate::io::{BLOCK_BYTES, Disk, DiskBuffer, DiskFile, OpenMode};
use crate::partition::Fence;

/// Indexes kept in memory.
const INDEXES_MAX: usize = 1_024;

/// Why a read from a segment gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// These offsets are lost: their bytes are not what was written, or cannot be read.
    #[error("offsets {from} to {to} are damaged on disk", from = .0.from, to = .0.to)]
    Damaged(Fence),
    /// Neither can these be read; whoever knows of no reason for that has to say so aloud.
    #[error("offsets {from} to {to} cannot be read: {1}", from = .0.from, to = .0.to)]
    Unreadable(Fence, StorageError),
    /// The system failed.
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
    pub next_offset: Offset,
    /// Where the next batch of the run begins: pass it to the next read.
    pub next_position: u64,
}

/// See the module's text. Belongs to one shard.
pub struct SegmentReader<D: Disk> {
    disk: D,
    data: DataDir,
    chunk_bytes: usize,
    files: RefCell<Cache<SegmentRef, Rc<D::File>>>,
    indexes: RefCell<Cache<SegmentRef, Rc<SegmentIndex>>>,
    chunks: RefCell<Cache<(SegmentRef, u64), DiskBuffer>>,
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
            disk,
            data,
            chunk_bytes,
            files: RefCell::new(Cache::new(files_max)),
            indexes: RefCell::new(Cache::new(INDEXES_MAX)),
            chunks: RefCell::new(Cache::new(cache_bytes)),
        }
    }

    /// The position from which reading meets `offset` of `run`. `open`: the index of a segment that is still being written.
    pub async fn seek(
        &self,
        key: PartitionKey,
        run: &Run,
        offset: Offset,
        open: Option<u64>,
    ) -> Result<u64, ReadFault> {
        if offset == run.base_offset {
            return Ok(run.position);
        }
        if let Some(position) = open {
            return Ok(position);
        }
        let index = self.index(key, run).await?;
        let point = index
            .run(key, run.base_offset)
            .and_then(|points| points.seek_offset(offset));
        Ok(point.map_or(run.position, |point| {
            point.position.clamp(run.position, run.end)
        }))
    }

    /// From where reading meets the first record of `run` with a timestamp at or above `timestamp`: a batch's first offset, and its
    /// position.
    pub async fn seek_timestamp(
        &self,
        key: PartitionKey,
        run: &Run,
        timestamp: Timestamp,
    ) -> Result<(Offset, u64), ReadFault> {
        let index = self.index(key, run).await?;
        let point = index
            .run(key, run.base_offset)
            .and_then(|points| points.seek_timestamp(timestamp));
        Ok(point.map_or((run.base_offset, run.position), |point| {
            (Offset(point.offset), point.position)
        }))
    }

    /// Reads batches of `run` from `position` on, skipping those wholly before `offset`: at least one, then as many as one chunk holds.
    pub async fn read(
        &self,
        key: PartitionKey,
        run: &Run,
        mut position: u64,
        offset: Offset,
    ) -> Result<SegmentRead, ReadFault> {
        let mut wanted = self.chunk_bytes;
        let mut read = SegmentRead {
            batches: Vec::new(),
            next_offset: offset,
            next_position: position,
        };
        while position < run.end {
            let start = position / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
            let skip = usize::try_from(position - start).expect("less than a block");
            let left = usize::try_from((run.end - start).next_multiple_of(BLOCK_BYTES as u64))
                .unwrap_or(usize::MAX);
            let chunk = match self.chunk(key, run.segment, start, wanted.min(left)).await {
                Ok(chunk) => chunk,
                // What was read before it is given first; the next read meets it again.
                Err(_) if !read.batches.is_empty() => return Ok(read),
                Err(error) => {
                    return Err(ReadFault::Unreadable(lost_from(offset, run), error));
                }
            };
            let mut at = skip;
            let mut needed = 0;
            while (start + at as u64) < run.end {
                let here = chunk.get(at..).unwrap_or_default();
                match frame_at(here) {
                    Framed::Filler => at = (at + 1).next_multiple_of(BLOCK_BYTES),
                    // IMPORTANT: a length that leaves the run is damaged. It could never be read whole, however often it is tried.
                    Framed::Partial(bytes) if (start + (at + bytes) as u64) > run.end => {
                        return self.finish(read, run, offset);
                    }
                    Framed::Partial(bytes) => {
                        needed = bytes;
                        break;
                    }
                    Framed::Bad => return self.finish(read, run, offset),
                    Framed::Batch(bytes) => {
                        // Everything that came from a disk proves itself before it goes on.
                        let Ok(header) = verify_stamped(here, key.topic, key.partition) else {
                            return self.finish(read, run, offset);
                        };
                        let (base, next) = (header.base_offset(), header.next_offset());
                        if next > offset {
                            if !read.batches.is_empty() && base != read.next_offset {
                                return Ok(read);
                            }
                            if base < run.base_offset
                                || next > run.next_offset
                                || (read.batches.is_empty() && base > offset)
                            {
                                return self.finish(read, run, offset);
                            }
                            read.batches.push(SegmentBatch {
                                position: start + at as u64,
                                bytes: Slice::new(chunk.clone(), at..at + bytes),
                            });
                            read.next_offset = next;
                            read.next_position = start + (at + aligned_bytes(bytes)) as u64;
                        }
                        at += aligned_bytes(bytes);
                    }
                }
            }
            if !read.batches.is_empty() {
                return Ok(read);
            }
            position = start + at as u64;
            if needed > 0 {
                // A batch larger than what was read: it is read whole, or the file ends before it does.
                let short = chunk.len() < wanted.min(left) || chunk.len() >= skip.max(at) + needed;
                if short {
                    return self.finish(read, run, offset);
                }
                wanted = self
                    .chunk_bytes
                    .max((needed + BLOCK_BYTES).next_multiple_of(BLOCK_BYTES));
            }
        }
        self.finish(read, run, offset)
    }

    /// Forgets what is cached of a segment that goes.
    pub fn forget(&self, segment: SegmentRef) {
        self.files.borrow_mut().remove(&segment);
        self.indexes.borrow_mut().remove(&segment);
        self.chunks
            .borrow_mut()
            .remove_where(|(of, _)| *of == segment);
    }

    /// Lets go of all cached chunks: memory for an idle shard.
    pub fn clear_chunks(&self) {
        self.chunks.borrow_mut().remove_where(|_| true);
    }

    /// What was read before the damage, or the damage itself: up to the end of the run nothing can be trusted to be found.
    fn finish(
        &self,
        read: SegmentRead,
        run: &Run,
        offset: Offset,
    ) -> Result<SegmentRead, ReadFault> {
        if read.batches.is_empty() {
            Err(ReadFault::Damaged(lost_from(offset, run)))
        } else {
            Ok(read)
        }
    }

    async fn chunk(
        &self,
        key: PartitionKey,
        segment: SegmentRef,
        start: u64,
        bytes: usize,
    ) -> Result<DiskBuffer, StorageError> {
        if let Some(chunk) = self.chunks.borrow_mut().get(&(segment, start))
            && chunk.len() >= bytes
        {
            return Ok(chunk);
        }
        let file = self.file(key, segment).await?;
        let path = segment.path(&self.data, key);
        let chunk = file
            .read_at(start, bytes)
            .await
            .map_err(StorageError::io("read", &path))?;
        self.chunks
            .borrow_mut()
            .insert((segment, start), chunk.clone(), chunk.len());
        Ok(chunk)
    }

    async fn file(
        &self,
        key: PartitionKey,
        segment: SegmentRef,
    ) -> Result<Rc<D::File>, StorageError> {
        if let Some(file) = self.files.borrow_mut().get(&segment) {
            return Ok(file);
        }
        let path = segment.path(&self.data, key);
        let file = self
            .disk
            .open(&path, OpenMode::Read)
            .await
            .map_err(StorageError::io("open", &path))?;
        let header = file
            .read_at(0, BLOCK_BYTES)
            .await
            .map_err(StorageError::io("read", &path))?;
        match SegmentHeader::read(&header) {
            // A file in the wrong place is as bad as a damaged one.
            Ok(header) if header.id == segment.id => {}
            Ok(_) | Err(SegmentFault::Header) => {
                // The batches prove themselves; the header only says whose they are.
                tracing::warn!(path = %path.display(), "the segment's header is damaged; its batches are still checked one by one");
            }
            Err(SegmentFault::Newer(found)) => {
                return Err(StorageError::Newer {
                    path: path.display().to_string(),
                    found,
                    known: super::segment::SEGMENT_VERSION,
                });
            }
        }
        let file = Rc::new(file);
        self.files.borrow_mut().insert(segment, file.clone(), 1);
        Ok(file)
    }

    /// The index of a sealed segment; one that is missing or damaged is made from the batches of the run.
    async fn index(&self, key: PartitionKey, run: &Run) -> Result<Rc<SegmentIndex>, ReadFault> {
        let known = self.indexes.borrow_mut().get(&run.segment);
        if let Some(index) = known
            && index.run(key, run.base_offset).is_some()
        {
            return Ok(index);
        }
        let mut index = match self.load_index(key, run.segment).await {
            Some(index) if index.run(key, run.base_offset).is_some() => index,
            _ => SegmentIndex {
                runs: vec![self.rebuild(key, run).await?],
            },
        };
        index
            .runs
            .sort_by_key(|points| (points.key(), points.base_offset()));
        let index = Rc::new(index);
        self.indexes
            .borrow_mut()
            .insert(run.segment, index.clone(), 1);
        Ok(index)
    }

    async fn load_index(&self, key: PartitionKey, segment: SegmentRef) -> Option<SegmentIndex> {
        let path = segment.index_path(&self.data, key);
        let file = self.disk.open(&path, OpenMode::Read).await.ok()?;
        let bytes = usize::try_from(file.bytes().await.ok()?).ok()?;
        let mut index = Vec::with_capacity(bytes);
        while index.len() < bytes {
            let part = file
                .read_at(
                    index.len() as u64,
                    (bytes - index.len())
                        .next_multiple_of(BLOCK_BYTES)
                        .min(4 << 20),
                )
                .await
                .ok()?;
            if part.is_empty() {
                break;
            }
            index.extend_from_slice(&part);
        }
        let _ = file.close().await;
        SegmentIndex::decode(&index)
    }

    async fn rebuild(&self, key: PartitionKey, run: &Run) -> Result<RunIndex, ReadFault> {
        tracing::info!(partition = %key, segment = %run.segment.id, "making a segment's index again from its batches");
        let mut points = SegmentIndex::default();
        let (mut position, mut offset) = (run.position, run.base_offset);
        while offset < run.next_offset {
            match self.read(key, run, position, offset).await {
                Ok(read) => {
                    for batch in &read.batches {
                        if let Ok(header) = verify_stamped(&batch.bytes, key.topic, key.partition) {
                            points.push(
                                key,
                                header.base_offset()..header.next_offset(),
                                batch.position,
                                header.max_timestamp(),
                            );
                        }
                    }
                    (position, offset) = (read.next_position, read.next_offset);
                }
                // What can be read before the damage is indexed; the read itself will report it.
                Err(_) => break,
            }
        }
        Ok(points
            .runs
            .into_iter()
            .next()
            .unwrap_or_else(|| RunIndex::new(key)))
    }
}

fn lost_from(offset: Offset, run: &Run) -> Fence {
    Fence {
        from: offset,
        to: run.next_offset,
    }
}

/// A cache that lets go of what was not used longest. Costs are in whatever unit the capacity is.
struct Cache<K, V> {
    capacity: usize,
    used: usize,
    entries: HashMap<K, (V, usize, u64)>,
    order: BTreeMap<u64, K>,
    clock: Cell<u64>,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            used: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            clock: Cell::new(0),
        }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        let now = self.tick();
        let (value, _, used_at) = self.entries.get_mut(key)?;
        self.order.remove(used_at);
        self.order.insert(now, *key);
        *used_at = now;
        Some(value.clone())
    }

    fn insert(&mut self, key: K, value: V, cost: usize) {
        self.remove(&key);
        if cost > self.capacity {
            // It would push out everything else and still be over the bound.
            return;
        }
        while self.used + cost > self.capacity {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            if let Some((_, cost, _)) = self.entries.remove(&oldest) {
                self.used -= cost;
            }
        }
        let now = self.tick();
        self.entries.insert(key, (value, cost, now));
        self.order.insert(now, key);
        self.used += cost;
    }

    fn remove(&mut self, key: &K) {
        if let Some((_, cost, used_at)) = self.entries.remove(key) {
            self.order.remove(&used_at);
            self.used -= cost;
        }
    }

    fn remove_where(&mut self, goes: impl Fn(&K) -> bool) {
        let going: Vec<K> = self
            .entries
            .keys()
            .filter(|key| goes(key))
            .copied()
            .collect();
        for key in going {
            self.remove(&key);
        }
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}

#[cfg(test)]
mod tests;
