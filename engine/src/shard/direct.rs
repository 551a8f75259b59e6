//! The straight way: a partition with much to write goes to its segment at once, and the journal only notes where.
//!
//! A chunk is written and synced first and noted in the journal afterwards, so a replay never has to ask whether the segment holds
//! what the journal says. Chunks of a partition land in any order and are noted in the order of their offsets; batches that
//! arrive meanwhile wait behind them.

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use gannet_wire::{Offset, Timestamp};

use super::completion::Outcome;
use super::log::ShardLog;
use super::pending::{BatchArrival, DirectBatch, DirectChunk, chunk_batches_max};
use super::slot::Slot;
use super::topics::topic_deleted;
use crate::io::{BLOCK_BYTES, Clock, Disk, DiskFile};
use crate::storage::StorageError;
use crate::storage::index::OpenIndex;
use crate::storage::open_segment::OpenSegment;
use crate::storage::segment::{DirectProducer, Run, SegmentRef, aligned_bytes};
use crate::storage::slice::Slice;

/// A chunk that is durable in its segment.
pub(super) struct DirectDone<D: Disk> {
    slot: Rc<Slot>,
    number: u64,
    chunk: DirectChunk,
    /// The segment, when it was made or enlarged for this chunk.
    segment: Option<OpenSegment<D>>,
}

pub(super) type DirectFuture<D> = LocalBoxFuture<'static, Result<DirectDone<D>, StorageError>>;

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Starts chunks for the slots that have enough waiting.
    pub(super) fn start_directs(self: &Rc<Self>, directs: &mut FuturesUnordered<DirectFuture<D>>) {
        let mut left = self.arrivals.large_slots();
        while left > 0 && directs.len() < self.config.directs_in_flight_max {
            left -= 1;
            let Some(slot) = self.arrivals.pop_large() else {
                return;
            };
            let (number, batches, more) = {
                let mut pending = slot.pending.borrow_mut();
                if pending.batch_bytes < self.config.direct_bytes_min {
                    pending.large_queued = false;
                    continue;
                }
                if pending.opening_segment {
                    // Once it is there, this slot is looked at again.
                    drop(pending);
                    self.arrivals.push_large(slot);
                    continue;
                }
                let mut batches = Vec::new();
                let mut bytes = 0;
                let mut records = 0u32;
                while let Some(batch) = pending.batches.front() {
                    // What the journal notes of the chunk fits into a commit, and its records can be counted there.
                    let counted = records.checked_add(batch.record_count);
                    if !batches.is_empty()
                        && (bytes + batch.bytes.len() > self.config.direct_chunk_bytes_max
                            || batches.len() >= chunk_batches_max(self.config.commit_bytes_max)
                            || counted.is_none())
                    {
                        break;
                    }
                    bytes += batch.bytes.len();
                    records = counted.unwrap_or(records);
                    batches.extend(pending.batches.pop_front());
                }
                pending.batch_bytes -= bytes;
                self.arrivals.take_bytes(bytes);
                pending.directs.push_back(None);
                let more = pending.batch_bytes >= self.config.direct_bytes_min;
                pending.large_queued = more;
                (
                    pending.first_direct + pending.directs.len() as u64 - 1,
                    batches,
                    more,
                )
            };
            directs.push(self.start_chunk(&slot, number, batches));
            if more {
                self.arrivals.push_large(slot);
            }
        }
    }

    /// A chunk is durable: what is contiguous with it may be noted in the journal.
    pub(super) fn direct_landed(&self, done: DirectDone<D>) {
        let DirectDone {
            slot,
            number,
            chunk,
            segment,
        } = done;
        let mut pending = slot.pending.borrow_mut();
        if slot.is_deleted() {
            // All that is left of the others is how many are on their way.
            pending.directs.pop_front();
            drop((pending, segment));
            // Its file goes with the topic.
            self.claims.forget(chunk.run.segment);
            for completion in chunk.into_completions() {
                completion.complete(Outcome::Failed(topic_deleted(&slot)));
            }
            slot.changed.notify_all();
            self.room.notify_all();
            return;
        }
        if let Some(segment) = segment {
            pending.opening_segment = false;
            self.segments
                .direct
                .borrow_mut()
                .insert(slot.key(), segment);
        }
        let at =
            usize::try_from(number - pending.first_direct).expect("few chunks are on their way");
        let place = pending
            .directs
            .get_mut(at)
            .expect("a chunk that landed was on its way");
        *place = Some(chunk);
        while pending.directs.front().is_some_and(Option::is_some) {
            pending.first_direct += 1;
            if let Some(Some(chunk)) = pending.directs.pop_front() {
                pending.landed.push_back(chunk);
            }
        }
        drop(pending);
        // Its batches have waited for the disk once already.
        self.gathering.awaited();
        self.queue(&slot);
    }

    /// Fills the chunk's buffer, finds its place, and returns the future that makes it durable.
    fn start_chunk(
        self: &Rc<Self>,
        slot: &Rc<Slot>,
        number: u64,
        batches: Vec<BatchArrival>,
    ) -> DirectFuture<D> {
        let key = slot.key();
        let bytes: usize = batches
            .iter()
            .map(|batch| aligned_bytes(batch.bytes.len()))
            .sum();
        let mut buffer = self.disk.buffer(bytes.next_multiple_of(BLOCK_BYTES));
        let mut placed = Vec::with_capacity(batches.len());
        let mut at = 0;
        for batch in &batches {
            let range = at..at + batch.bytes.len();
            buffer[range.clone()].copy_from_slice(&batch.bytes);
            gannet_wire::batch::stamp(
                &mut buffer[range.clone()],
                key.topic,
                key.partition,
                batch.base_offset,
                batch.append_time,
                batch.leader_epoch,
            );
            at += aligned_bytes(batch.bytes.len());
            buffer[range.end..at].fill(0);
            placed.push(range);
        }
        buffer[at..].fill(0);
        let buffer = buffer.freeze();
        let producers = batches.iter().filter_map(direct_producer).collect();
        let base_offset = batches.first().map_or(Offset(0), |batch| batch.base_offset);
        let next_offset = batches.last().map_or(Offset(0), BatchArrival::next_offset);
        let max_timestamp = batches
            .iter()
            .map(|batch| batch.max_timestamp)
            .max()
            .unwrap_or(Timestamp(0));
        let append_time = batches
            .iter()
            .map(|batch| batch.append_time)
            .max()
            .unwrap_or(Timestamp(0));
        let points: Vec<ChunkPoint> = batches
            .iter()
            .zip(&placed)
            .map(|(batch, range)| ChunkPoint {
                offsets: batch.base_offset..batch.next_offset(),
                start: range.start,
                max_timestamp: batch.max_timestamp,
            })
            .collect();
        let allocated_bytes = buffer.len();
        let on_its_way = self.on_their_way.hold(allocated_bytes as u64);
        let batches = batches
            .into_iter()
            .zip(placed)
            .map(|(batch, range)| DirectBatch {
                base_offset: batch.base_offset,
                next_offset: batch.next_offset(),
                append_time: batch.append_time,
                bytes: Slice::new(buffer.clone(), range),
                completion: batch.completion,
            })
            .collect();
        let chunk = move |segment: SegmentRef, position: u64| DirectChunk {
            run: Run {
                segment,
                base_offset,
                next_offset,
                position,
                end: position + bytes as u64,
                max_timestamp,
                append_time,
            },
            batches,
            producers,
            allocated_bytes,
            _on_its_way: on_its_way,
        };

        let slot = slot.clone();
        let present = self.segments.direct.borrow_mut().remove(&key);
        if let Some(mut segment) = present {
            // Retention may drop the last run of this segment while the chunk is on its way to it.
            self.claims.claim(segment.segment);
            if !self.is_full(&segment, &slot)
                && let Some(position) = segment.take(bytes as u64)
            {
                index_points(&segment.index, &slot, &points, position);
                let (file, segment_ref) = (segment.file.clone(), segment.segment);
                let path = segment_ref.path(&self.data, key);
                self.segments.direct.borrow_mut().insert(key, segment);
                return Box::pin(async move {
                    file.write_at(position, &buffer)
                        .await
                        .map_err(StorageError::io("write", &path))?;
                    file.sync().await.map_err(StorageError::io("sync", &path))?;
                    Ok(DirectDone {
                        slot,
                        number,
                        chunk: chunk(segment_ref, position),
                        segment: None,
                    })
                });
            }
            slot.pending.borrow_mut().opening_segment = true;
            let log = self.clone();
            return Box::pin(async move {
                if log.is_full(&segment, &slot) {
                    segment.seal().await?;
                    log.unlink(vec![(slot.key(), segment.segment)]).await?;
                    segment = log.create_segment(Some(slot.key())).await?;
                    log.claims.claim(segment.segment);
                }
                log.reserve_with_patience(&mut segment, bytes as u64)
                    .await?;
                let position = segment.take(bytes as u64).expect("room was reserved");
                index_points(&segment.index, &slot, &points, position);
                log.write_chunk(&segment, position, &buffer).await?;
                Ok(DirectDone {
                    chunk: chunk(segment.segment, position),
                    slot,
                    number,
                    segment: Some(segment),
                })
            });
        }
        slot.pending.borrow_mut().opening_segment = true;
        let log = self.clone();
        Box::pin(async move {
            log.limit_direct_segments().await?;
            let mut segment = log.create_segment(Some(slot.key())).await?;
            log.claims.claim(segment.segment);
            log.reserve_with_patience(&mut segment, bytes as u64)
                .await?;
            let position = segment.take(bytes as u64).expect("room was reserved");
            index_points(&segment.index, &slot, &points, position);
            log.write_chunk(&segment, position, &buffer).await?;
            Ok(DirectDone {
                chunk: chunk(segment.segment, position),
                slot,
                number,
                segment: Some(segment),
            })
        })
    }

    async fn write_chunk(
        &self,
        segment: &OpenSegment<D>,
        position: u64,
        buffer: &crate::io::DiskBuffer,
    ) -> Result<(), StorageError> {
        segment
            .file
            .write_at(position, buffer)
            .await
            .map_err(StorageError::io("write a segment in", self.data.root()))?;
        segment.sync().await
    }
}

/// Notes a chunk's batches in its segment's index.
fn index_points(index: &RefCell<OpenIndex>, slot: &Slot, points: &[ChunkPoint], position: u64) {
    let mut index = index.borrow_mut();
    for point in points {
        index.push(
            slot.key(),
            point.offsets.clone(),
            position + point.start as u64,
            point.max_timestamp,
        );
    }
}

/// A batch's place in its chunk.
struct ChunkPoint {
    offsets: std::ops::Range<Offset>,
    start: usize,
    max_timestamp: Timestamp,
}

fn direct_producer(batch: &BatchArrival) -> Option<DirectProducer> {
    batch.producer.map(|stamp| DirectProducer {
        id: stamp.id.0,
        epoch: stamp.epoch.0,
        base_sequence: stamp.base_sequence.0,
        base_offset: batch.base_offset.0,
        record_count: batch.record_count,
        append_time: batch.append_time.0,
    })
}
