//! Goes through a run batch by batch, and finds the way on behind damage. Hands out nothing that has not proven itself.

use std::ops::Range;
use std::rc::Rc;

use gannet_wire::Offset;
use gannet_wire::batch::{BATCH_HEADER_BYTES, verify_stamp_only, verify_stamped};

use super::SegmentReader;
use super::chunks::Chunk;
use super::course::Course;
use crate::io::local::yield_once;
use crate::io::{BLOCK_BYTES, Disk};
use crate::storage::index::RunIndex;
use crate::storage::segment::{BATCH_ALIGNMENT, Framed, Run, aligned_bytes, frame_at, header_at};
use crate::storage::slice::Slice;
use crate::storage::{PartitionKey, StorageError};

/// A place in a run.
pub(super) struct Walk<'a, D: Disk> {
    reader: &'a SegmentReader<D>,
    key: PartitionKey,
    run: &'a Run,
    /// The runs behind it.
    behind: &'a [Run],
    /// Whether the chunks behind the present one will be wanted soon.
    ahead: bool,
    chunk: Option<Rc<Chunk>>,
}

/// What stands at a place.
pub(super) enum Step {
    /// A batch that has proven itself.
    Batch(Proven),
    /// Nothing up to here.
    Filler(u64),
    /// Not what was written.
    Damage,
}

/// A batch that has proven itself.
pub(super) struct Proven {
    pub(super) position: u64,
    pub(super) bytes: Slice,
    pub(super) offsets: Range<Offset>,
}

impl Proven {
    /// Behind it.
    pub(super) fn end(&self) -> u64 {
        self.position + aligned_bytes(self.bytes.len()) as u64
    }
}

impl<'a, D: Disk> Walk<'a, D> {
    pub(super) fn new(
        reader: &'a SegmentReader<D>,
        key: PartitionKey,
        course: Course<'a>,
        ahead: bool,
    ) -> Self {
        Self {
            reader,
            key,
            run: course.run,
            behind: course.behind,
            ahead,
            chunk: None,
        }
    }

    /// What stands at `position`. `reached`: the offset that must come next.
    pub(super) async fn step(
        &mut self,
        position: u64,
        reached: Offset,
    ) -> Result<Step, StorageError> {
        let Some(head) = self.bytes_at(position, LENGTH_BYTES).await? else {
            return Ok(Step::Damage);
        };
        // A write begins a block and fills its last one up: a block that begins with zeros was never written.
        if frame_at(&head) == Framed::Filler && !position.is_multiple_of(BLOCK) {
            let end = (position + 1).next_multiple_of(BLOCK);
            // What stands behind the run is not its own.
            let last = end.min(self.run.end);
            let rest = self.bytes_at(position, offset_in(position, last)).await?;
            // IMPORTANT: a single flipped bit can make a length 0, a sector that was never written many, and the batches behind it must not go with it.
            let is_empty = rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0));
            return Ok(match is_empty {
                true => Step::Filler(end),
                false => Step::Damage,
            });
        }
        Ok(match self.prove(position, &head).await? {
            Some(batch) if batch.offsets.start == reached => Step::Batch(batch),
            _ => Step::Damage,
        })
    }

    /// The first batch at or behind the damage at `position` that proves itself and begins at `reached` or above. `points`: what the index
    /// says, where there is one; no batch reaches over a point of it.
    pub(super) async fn find_behind(
        &mut self,
        position: u64,
        reached: Offset,
        points: Option<&RunIndex>,
    ) -> Result<Option<Proven>, StorageError> {
        // IMPORTANT: the length of the batch that is due here is what was written, so nothing can begin inside it: whoever sent it could have put in what
        // looks like a batch.
        let from = self.claim(position, reached).await?.unwrap_or(position);
        self.search(from, reached, points).await
    }

    /// Where the batch at `position` ends, by a header that proves itself, and to be the one that is due here, although the batch does not.
    async fn claim(&mut self, position: u64, reached: Offset) -> Result<Option<u64>, StorageError> {
        let Some(bytes) = self.bytes_at(position, BATCH_HEADER_BYTES).await? else {
            return Ok(None);
        };
        let is_stamped = verify_stamp_only(&bytes, self.key.topic, self.key.partition).is_ok();
        let belongs = header_at(&bytes).is_some_and(|header| header.base_offset() == reached);
        let (Framed::Batch(length) | Framed::Partial(length)) = frame_at(&bytes) else {
            return Ok(None);
        };
        Ok((is_stamped && belongs).then(|| position + aligned_bytes(length) as u64))
    }

    async fn search(
        &mut self,
        from: u64,
        reached: Offset,
        points: Option<&RunIndex>,
    ) -> Result<Option<Proven>, StorageError> {
        let Some(mut found) = self.candidate(from, reached, points).await? else {
            return Ok(None);
        };
        // A damaged batch may hold anything, bytes that look like a batch as well: whoever sent it could have seen some. And a whole write may have gone
        // astray, with batches that belong further behind. Offsets that go back behind it give either away, unless they keep to those of the damaged one. Where what was lost here lies further behind,
        // over batches that were whole, those before it are given up.
        // IMPORTANT: nothing tells the two apart that whoever sent a batch could not have put into it. What is due here and stands further behind is no sign of a
        // write that went astray, nor is a batch that begins inside a damaged one and reaches over its end.
        while let Some((end, next)) = self.end_of_chain(&found).await? {
            match self.candidate(end, reached, points).await? {
                Some(behind) if behind.offsets.start < next => found = behind,
                _ => break,
            }
        }
        Ok(Some(found))
    }

    /// Where what goes on from a batch without a gap ends, and at which offset; `None` when that is further than a write reaches.
    async fn end_of_chain(
        &mut self,
        first: &Proven,
    ) -> Result<Option<(u64, Offset)>, StorageError> {
        let (mut end, mut next) = (first.end(), first.offsets.end);
        while end < self.run.end {
            if end - first.position >= CHAIN_BYTES_MAX {
                return Ok(None);
            }
            let chunk = self.reader.chunks.start_of(end);
            match self.step(end, next).await? {
                Step::Batch(batch) => (end, next) = (batch.end(), batch.offsets.end),
                Step::Filler(behind) => end = behind,
                Step::Damage => break,
            }
            if self.reader.chunks.start_of(end) != chunk {
                // The others of this shard come first.
                yield_once().await;
            }
        }
        Ok(Some((end, next)))
    }

    /// The first place from `from` on where something proves itself to be a batch of this run.
    async fn candidate(
        &mut self,
        from: u64,
        reached: Offset,
        points: Option<&RunIndex>,
    ) -> Result<Option<Proven>, StorageError> {
        let mut position = from;
        let mut chunk_start = None;
        while position + LENGTH_BYTES as u64 <= self.run.end {
            let start = self.reader.chunks.start_of(position);
            if chunk_start.replace(start) != Some(start) {
                // The others of this shard come first.
                yield_once().await;
            }
            let Some(head) = self.bytes_at(position, LENGTH_BYTES).await? else {
                position = (position + 1).next_multiple_of(BLOCK);
                continue;
            };
            // Many lengths are met: a header is cheap to look at, and nearly all are refused by it.
            if self.has_stamp(position, &head).await? {
                if let Some(batch) = self.prove(position, &head).await?
                    && batch.offsets.start >= reached
                    && fits_between(points, &batch)
                {
                    return Ok(Some(batch));
                }
                // What was sent may be full of them, each as long as it likes.
                yield_once().await;
            }
            position += BATCH_ALIGNMENT as u64;
        }
        Ok(None)
    }

    /// Whether a header at `position` proves itself to be of this partition. `head`: its first bytes.
    async fn has_stamp(&mut self, position: u64, head: &[u8]) -> Result<bool, StorageError> {
        if !matches!(frame_at(head), Framed::Partial(bytes) if bytes >= BATCH_HEADER_BYTES) {
            return Ok(false);
        }
        let header = self.bytes_at(position, BATCH_HEADER_BYTES).await?;
        Ok(header.is_some_and(|header| {
            verify_stamp_only(&header, self.key.topic, self.key.partition).is_ok()
        }))
    }

    /// The batch at `position`, if it proves itself: both checksums, the partition, and its place in the run. `head`: its first bytes.
    async fn prove(&mut self, position: u64, head: &[u8]) -> Result<Option<Proven>, StorageError> {
        let (Framed::Batch(bytes) | Framed::Partial(bytes)) = frame_at(head) else {
            return Ok(None);
        };
        if bytes < BATCH_HEADER_BYTES || position + bytes as u64 > self.run.end {
            return Ok(None);
        }
        let Some(batch) = self.bytes_at(position, bytes).await? else {
            return Ok(None);
        };
        let Ok(header) = verify_stamped(&batch, self.key.topic, self.key.partition) else {
            return Ok(None);
        };
        let offsets = header.base_offset()..header.next_offset();
        let in_run = offsets.start >= self.run.base_offset && offsets.end <= self.run.next_offset;
        Ok(in_run.then_some(Proven {
            position,
            bytes: batch,
            offsets,
        }))
    }

    /// `bytes` of the run from `position` on; nothing where they are not all there. Copied only where they lie in several chunks.
    async fn bytes_at(
        &mut self,
        position: u64,
        bytes: usize,
    ) -> Result<Option<Slice>, StorageError> {
        // A damaged batch says what it likes of where the next one is.
        if position + bytes as u64 > self.run.end {
            return Ok(None);
        }
        let chunk_bytes = self.reader.chunks.chunk_bytes();
        let at = offset_in(self.reader.chunks.start_of(position), position);
        if at + bytes <= chunk_bytes {
            let chunk = self.chunk_of(position).await?;
            let slice = || Slice::new(chunk.buffer().clone(), at..at + bytes);
            return Ok(chunk.has(at, bytes).then(slice));
        }
        let mut copy = self.reader.disk.buffer(bytes.next_multiple_of(BLOCK_BYTES));
        let mut copied = 0;
        while copied < bytes {
            let position = position + copied as u64;
            let chunk = self.chunk_of(position).await?;
            let at = offset_in(chunk.start(), position);
            let part = (bytes - copied).min(chunk_bytes - at);
            if !chunk.has(at, part) {
                return Ok(None);
            }
            copy[copied..copied + part].copy_from_slice(&chunk.buffer()[at..at + part]);
            copied += part;
        }
        Ok(Some(Slice::new(copy.freeze(), 0..bytes)))
    }

    async fn chunk_of(&mut self, position: u64) -> Result<Rc<Chunk>, StorageError> {
        let start = self.reader.chunks.start_of(position);
        if let Some(chunk) = self.chunk.as_ref().filter(|chunk| chunk.start() == start) {
            return Ok(chunk.clone());
        }
        let course = Course {
            run: self.run,
            behind: self.behind,
        };
        let chunk = self
            .reader
            .chunk(self.key, course, start, self.ahead)
            .await?;
        self.chunk = Some(chunk.clone());
        Ok(chunk)
    }
}

/// Whether a batch lies between two neighbouring points of the index, or begins at one, by its place as well as by its offsets.
fn fits_between(points: Option<&RunIndex>, batch: &Proven) -> bool {
    points.is_none_or(|points| {
        let next = points.first_behind(batch.position);
        next.is_none_or(|next| batch.end() <= next.position && batch.offsets.end.0 <= next.offset)
    })
}

fn offset_in(start: u64, position: u64) -> usize {
    usize::try_from(position - start).expect("a place in a chunk")
}

const BLOCK: u64 = BLOCK_BYTES as u64;
/// As much as one write to a segment has at the most: four times `storage.flush_write_bytes` where the flusher is behind.
const CHAIN_BYTES_MAX: u64 = 32 << 20;
/// What says how long a batch is.
const LENGTH_BYTES: usize = 4;
