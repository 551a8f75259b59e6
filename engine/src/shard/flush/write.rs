//! Where a round's batches go: a partition with much has a segment of its own, the others share one.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::try_join_all;
use gannet_wire::{PartitionIndex, TopicId};

use super::super::log::ShardLog;
use super::super::segments::seal_age;
use super::super::slot::Slot;
use super::pace::Pace;
use super::{Backlog, RoundEnd};
use crate::io::{Clock, Disk};
use crate::storage::open_segment::{OpenSegment, SegmentWriter};
use crate::storage::segment::{BATCH_ALIGNMENT, FIRST_BATCH_POSITION, Run, aligned_bytes};
use crate::storage::{PartitionKey, StorageError};

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Opens the segments that a round needs, with room for all of it and for its checkpoint. Nothing of the round has happened yet.
    pub(super) async fn make_room(
        &self,
        large: &[Backlog],
        small: &[Backlog],
    ) -> Result<RoundEnd, StorageError> {
        let made = async {
            let keys = large.iter().map(|backlog| backlog.slot.key()).collect();
            for backlog in large {
                self.open_own(backlog, &keys).await?;
            }
            if !small.is_empty() {
                self.open_shared(small).await?;
            }
            Ok(())
        };
        match made.await {
            Err(error) if StorageError::is_disk_full(&error) => Ok(RoundEnd::NoRoom(error)),
            Err(error) => Err(error),
            Ok(()) => self.reserve_checkpoint().await,
        }
    }

    /// Opens a partition's own segment with room for its backlog. `round`: whose segments must stay open.
    async fn open_own(
        &self,
        backlog: &Backlog,
        round: &BTreeSet<PartitionKey>,
    ) -> Result<(), StorageError> {
        let key = backlog.slot.key();
        let known = self.segments.flush.borrow_mut().remove(&key);
        let mut segment = match known {
            Some(segment) if !self.is_full(&segment, &backlog.slot) => segment,
            sealed => {
                if let Some(sealed) = sealed {
                    sealed.seal().await?;
                }
                self.limit_flush_segments(round).await?;
                self.try_create_segment(Some(key)).await?
            }
        };
        let reserved = segment.reserve(backlog.bytes).await;
        self.segments.flush.borrow_mut().insert(key, segment);
        reserved
    }

    /// Opens the shared segment with room for what goes there.
    async fn open_shared(&self, backlogs: &[Backlog]) -> Result<(), StorageError> {
        let bytes: u64 = backlogs.iter().map(|backlog| backlog.bytes).sum();
        let now = self.clock.monotonic();
        let known = self.segments.shared.borrow_mut().take();
        let max = self.config.segment_bytes_max.min(SHARED_SEGMENT_BYTES_MAX);
        let fits = |open: &OpenSegment<D>| {
            !open.is_seal_due(now)
                && (open.position() + bytes <= max || open.position() == FIRST_BATCH_POSITION)
        };
        let mut open = match known {
            Some(open) if fits(&open) => open,
            other => {
                if let Some(full) = other {
                    self.seal_shared(full).await?;
                }
                let segment = self.try_create_segment(None).await?;
                // As long as it is open, it is not for retention to unlink.
                self.claims.claim(segment.segment);
                self.segments.shared_ref.set(Some(segment.segment));
                segment
            }
        };
        // A run only expires when its newest record does: what goes on for long keeps what should be gone.
        let shortest = backlogs
            .iter()
            .filter_map(|backlog| backlog.slot.topic().settings.retention_ms)
            .min();
        let seal_at = now.saturating_add(seal_age(shortest).min(SHARED_SEGMENT_AGE_MAX));
        open.seal_at = Some(open.seal_at.map_or(seal_at, |at| at.min(seal_at)));
        let reserved = open.reserve(bytes).await;
        *self.segments.shared.borrow_mut() = Some(open);
        reserved
    }

    /// Writes a large backlog to its partition's own segment; not synced yet.
    pub(super) async fn flush_to_own(
        self: &Rc<Self>,
        backlog: &Backlog,
    ) -> Result<Vec<Run>, StorageError> {
        let key = backlog.slot.key();
        let mut segment = self
            .segments
            .flush
            .borrow_mut()
            .remove(&key)
            .expect("the round has opened its segments");
        let mut pace = self.flush_pace();
        let mut writer = self.segment_writer(&segment, &pace);
        let runs = self
            .write_runs(&mut writer, &mut segment, backlog, &mut pace)
            .await?;
        segment.advance(writer.finish().await?);
        self.segments.flush.borrow_mut().insert(key, segment);
        Ok(runs)
    }

    /// Makes the own segments of a round durable, several at once.
    pub(super) async fn sync_own(&self, keys: &[PartitionKey]) -> Result<(), StorageError> {
        for group in keys.chunks(SYNCS_IN_FLIGHT) {
            // Taken out while they are synced: nothing else writes to them, the flusher being one task.
            let segments: Vec<_> = {
                let mut open = self.segments.flush.borrow_mut();
                group
                    .iter()
                    .filter_map(|key| open.remove(key).map(|segment| (*key, segment)))
                    .collect()
            };
            try_join_all(segments.iter().map(|(_, segment)| segment.sync())).await?;
            self.segments.flush.borrow_mut().extend(segments);
        }
        Ok(())
    }

    /// Writes small backlogs, in the order of keys, to one segment.
    pub(super) async fn flush_to_shared(
        self: &Rc<Self>,
        backlogs: &[Backlog],
    ) -> Result<Vec<(Rc<Slot>, Run)>, StorageError> {
        let mut open = self
            .segments
            .shared
            .borrow_mut()
            .take()
            .expect("the round has opened its segments");
        let segment = &mut open;
        let mut pace = self.flush_pace();
        let mut writer = self.segment_writer(segment, &pace);
        let mut runs = Vec::with_capacity(backlogs.len());
        for backlog in backlogs {
            let own = self
                .write_runs(&mut writer, segment, backlog, &mut pace)
                .await?;
            runs.extend(own.into_iter().map(|run| (backlog.slot.clone(), run)));
        }
        segment.advance(writer.finish().await?);
        if let Some((_, last)) = runs.last_mut() {
            // Nobody else's batches share its last block: the next round may go on with it.
            last.end = segment.position();
        }
        segment.sync().await?;
        self.reader.shared_grew(segment.segment, segment.position());
        *self.segments.shared.borrow_mut() = Some(open);
        Ok(runs)
    }

    pub(in crate::shard) async fn seal_shared(
        &self,
        open: OpenSegment<D>,
    ) -> Result<(), StorageError> {
        open.seal().await?;
        self.reader.shared_ended();
        self.segments.shared_ref.set(None);
        self.merge_wanted.notify_all();
        // Whose run it was last does not matter: it lies where all shared ones do.
        let anyone = PartitionKey {
            topic: TopicId(0),
            partition: PartitionIndex(0),
        };
        self.unlink(vec![(anyone, open.segment)]).await
    }

    /// The shared segment that is still written to goes at once when deletion or retention has left nothing in it.
    pub(super) async fn give_up_empty_shared(&self) -> Result<(), StorageError> {
        let empty = self.segments.shared.borrow_mut().take_if(|open| {
            // What is open has a claim of its own.
            open.position() > FIRST_BATCH_POSITION && self.claims.is_last(open.segment)
        });
        match empty {
            Some(empty) => self.seal_shared(empty).await,
            None => Ok(()),
        }
    }

    /// Streams a backlog's batches into a segment and notes them in its index. Batches that went straight to another segment leave
    /// gaps between offsets: each stretch is a run of its own.
    async fn write_runs(
        &self,
        writer: &mut SegmentWriter<D>,
        segment: &mut OpenSegment<D>,
        backlog: &Backlog,
        pace: &mut Pace,
    ) -> Result<Vec<Run>, StorageError> {
        let key = backlog.slot.key();
        let mut runs: Vec<Run> = Vec::new();
        for batch in &backlog.batches {
            let position = writer.end();
            let header = crate::storage::segment::header_at(&batch.bytes)
                .expect("a batch in the tail has a header");
            segment.index.borrow_mut().push(
                key,
                batch.base_offset..batch.next_offset,
                position,
                header.max_timestamp(),
            );
            writer.push(&batch.bytes).await?;
            let filler = aligned_bytes(batch.bytes.len()) - batch.bytes.len();
            writer.push(&[0; BATCH_ALIGNMENT][..filler]).await?;
            self.keep_pace(pace, writer.end()).await;
            match runs.last_mut() {
                Some(run) if run.next_offset == batch.base_offset => {
                    run.next_offset = batch.next_offset;
                    run.end = writer.end();
                    run.max_timestamp = run.max_timestamp.max(header.max_timestamp());
                    run.append_time = run.append_time.max(header.append_time());
                }
                _ => runs.push(Run {
                    segment: segment.segment,
                    base_offset: batch.base_offset,
                    next_offset: batch.next_offset,
                    position,
                    end: writer.end(),
                    max_timestamp: header.max_timestamp(),
                    append_time: header.append_time(),
                }),
            }
        }
        Ok(runs)
    }
}

/// Syncs of the flusher at once.
const SYNCS_IN_FLIGHT: usize = 16;
/// A shared segment is sealed at this size ...
const SHARED_SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// ... after this time,
const SHARED_SEGMENT_AGE_MAX: Duration = Duration::from_secs(10 * 60);
