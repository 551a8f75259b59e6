//! The indexes of sealed segments: read from beside them, or made again from the batches.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;

use gannet_wire::Offset;

use super::cache::Cache;
use super::{Place, ReadFault, ReadFrom, SegmentReader};
use crate::io::{BLOCK_BYTES, Disk, DiskFile, OpenMode};
use crate::limits::INDEX_CACHE_BYTES;
use crate::storage::index::{RunIndex, SegmentIndex};
use crate::storage::layout::FilePlace;
use crate::storage::segment::{Run, SegmentRef, header_at};
use crate::storage::{PartitionKey, StorageError};

/// Those in memory.
pub(super) struct Indexes {
    cache: RefCell<Cache<Source, Rc<SegmentIndex>>>,
}

/// Where an index came from. One that was made again is of one run, and stands beside the file's: the others' may be whole there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    File(SegmentRef),
    Batches(SegmentRef, PartitionKey, Offset),
}

/// The points of one run.
pub(super) struct RunPoints {
    index: Rc<SegmentIndex>,
    at: usize,
}

impl RunPoints {
    pub(super) fn of(run: RunIndex) -> Self {
        Self {
            index: Rc::new(SegmentIndex { runs: vec![run] }),
            at: 0,
        }
    }
}

impl Deref for RunPoints {
    type Target = RunIndex;
    fn deref(&self) -> &RunIndex {
        &self.index.runs[self.at]
    }
}

impl Indexes {
    pub(super) fn new() -> Self {
        Self {
            cache: RefCell::new(Cache::new(INDEX_CACHE_BYTES)),
        }
    }

    pub(super) fn forget(&self, segment: SegmentRef) {
        self.cache.borrow_mut().remove_where(|source| match source {
            Source::File(of) | Source::Batches(of, ..) => *of == segment,
        });
    }

    fn known(&self, key: PartitionKey, run: &Run) -> Option<RunPoints> {
        let mut cache = self.cache.borrow_mut();
        let from_file = cache.get(&Source::File(run.segment)).and_then(|index| {
            let at = index.find(key, run.base_offset)?;
            Some(RunPoints { index, at })
        });
        from_file.or_else(|| {
            let index = cache.get(&Source::Batches(run.segment, key, run.base_offset))?;
            Some(RunPoints { index, at: 0 })
        })
    }

    fn insert(&self, source: Source, index: &Rc<SegmentIndex>) {
        let bytes = index.memory_bytes();
        self.cache.borrow_mut().insert(source, index.clone(), bytes);
    }
}

impl<D: Disk> SegmentReader<D> {
    /// The points of a run of a sealed segment; where the index is missing or damaged they are made from the batches.
    pub(super) async fn points(
        &self,
        key: PartitionKey,
        run: &Run,
    ) -> Result<RunPoints, ReadFault> {
        if let Some(points) = self.look_up(key, run).await? {
            return Ok(points);
        }
        let rebuilt = RunPoints::of(self.rebuild(key, run).await?);
        let source = Source::Batches(run.segment, key, run.base_offset);
        self.indexes.insert(source, &rebuilt.index);
        Ok(rebuilt)
    }

    /// The same, if they need not be made.
    pub(super) async fn points_on_disk(&self, key: PartitionKey, run: &Run) -> Option<RunPoints> {
        // Damage is passed without an index too, only more slowly.
        self.look_up(key, run).await.ok().flatten()
    }

    async fn look_up(
        &self,
        key: PartitionKey,
        run: &Run,
    ) -> Result<Option<RunPoints>, StorageError> {
        if let Some(points) = self.indexes.known(key, run) {
            return Ok(Some(points));
        }
        let Some(index) = self.load_index(key, run.segment).await? else {
            return Ok(None);
        };
        let index = Rc::new(index);
        self.indexes.insert(Source::File(run.segment), &index);
        let at = index.find(key, run.base_offset);
        Ok(at.map(|at| RunPoints { index, at }))
    }

    /// Nothing when there is none that can be trusted.
    async fn load_index(
        &self,
        key: PartitionKey,
        segment: SegmentRef,
    ) -> Result<Option<SegmentIndex>, StorageError> {
        let path = segment.index_path(&self.data, key);
        let file = match self.disk.open(&path, OpenMode::Read).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            // IMPORTANT: to make it again would read the whole run, because there was no descriptor left for a moment.
            Err(error) => return Err(StorageError::io("open", &path)(error)),
        };
        let bytes = file
            .bytes()
            .await
            .map_err(StorageError::io("look at", &path))?;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut index = Vec::new();
        while index.len() < bytes {
            let left = (bytes - index.len()).next_multiple_of(BLOCK_BYTES);
            let read = file.read_at(index.len() as u64, left.min(INDEX_READ_BYTES));
            match read.await {
                Ok(part) if !part.is_empty() => index.extend_from_slice(&part),
                // One that cannot be read is damaged.
                _ => break,
            }
        }
        let _ = file.close().await;
        Ok(SegmentIndex::decode(&index, FilePlace::of(&path)))
    }

    async fn rebuild(&self, key: PartitionKey, run: &Run) -> Result<RunIndex, ReadFault> {
        tracing::info!(partition = %key, segment = %run.segment.id, "making a segment's index again from its batches");
        let mut points = RunIndex::new(key);
        let mut place = Place::start_of(run);
        let mut offset = run.base_offset;
        while offset < run.next_offset {
            let from = ReadFrom {
                place,
                offset,
                in_sequence: true,
                behind: &[],
            };
            match self.read(key, run, from, self.chunks.chunk_bytes()).await {
                Ok(read) => {
                    for batch in &read.batches {
                        if let Some(header) = header_at(&batch.bytes) {
                            points.push(
                                header.base_offset()..header.next_offset(),
                                batch.position,
                                header.max_timestamp(),
                            );
                        }
                    }
                    (place, offset) = (read.next, read.next.offset);
                }
                // What is behind the damage is indexed as well; reading will tell of the damage itself.
                Err(ReadFault::Damaged(fence)) => offset = fence.to,
                Err(error) => return Err(error),
            }
        }
        Ok(points)
    }
}

/// An index is read in parts of this size.
const INDEX_READ_BYTES: usize = 4 << 20;
