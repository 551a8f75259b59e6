//! The segments that a shard writes to, and the end of those that nobody needs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::files::FileShares;
use super::flush::SharedSegment;
use super::log::ShardLog;
use super::slot::Slot;
use crate::io::{Clock, Disk};
use crate::storage::open_segment::{OpenSegment, SegmentDirs};
use crate::storage::segment::{SegmentIds, SegmentRef};
use crate::storage::{PartitionKey, StorageError};

/// Segments open for writing.
pub(super) struct OpenSegments<D: Disk> {
    /// Those that chunks go straight to.
    pub(super) direct: RefCell<BTreeMap<PartitionKey, OpenSegment<D>>>,
    /// Those that the flusher writes for one partition each.
    pub(super) flush: RefCell<BTreeMap<PartitionKey, OpenSegment<D>>>,
    /// The one that small backlogs go to, over several rounds.
    pub(super) shared: RefCell<Option<SharedSegment<D>>>,
    ids: RefCell<SegmentIds>,
    dirs: SegmentDirs,
    /// How many may be open.
    pub(super) shares: FileShares,
}

impl<D: Disk> OpenSegments<D> {
    /// None is open.
    pub(super) fn none(ids: SegmentIds, shares: FileShares) -> Self {
        Self {
            direct: RefCell::default(),
            flush: RefCell::default(),
            shared: RefCell::new(None),
            ids: RefCell::new(ids),
            dirs: SegmentDirs::default(),
            shares,
        }
    }

    /// The id of the next segment, which it will not be.
    #[cfg(test)]
    pub(super) fn skip_id(&self) -> crate::storage::SegmentId {
        self.ids.borrow_mut().allocate()
    }

    /// Nobody writes to a partition's segment any more, if one is open.
    fn close(&self, key: PartitionKey, segment: SegmentRef) {
        for open in [&self.direct, &self.flush] {
            let mut open = open.borrow_mut();
            if open.get(&key).is_some_and(|open| open.segment == segment) {
                open.remove(&key);
            }
        }
    }
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Unlinks the segments whose last run, or last claim, went; each is named once for each that did. The checkpoint that says so is durable.
    pub(super) async fn unlink(
        &self,
        gone: Vec<(PartitionKey, SegmentRef)>,
    ) -> Result<(), StorageError> {
        for (key, segment) in gone {
            if self.claims.release(segment) && self.owns_alone(segment) {
                self.unlink_segment(key, segment).await?;
            }
        }
        Ok(())
    }

    async fn unlink_segment(
        &self,
        key: PartitionKey,
        segment: SegmentRef,
    ) -> Result<(), StorageError> {
        self.reader.forget(segment);
        self.segments.close(key, segment);
        for path in [
            segment.path(&self.data, key),
            segment.index_path(&self.data, key),
        ] {
            match self.disk.remove(&path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether no other shard can have runs in a segment: its own do, and so do shared ones that this layout made.
    fn owns_alone(&self, segment: SegmentRef) -> bool {
        !segment.shared || SegmentIds::incarnation_of(segment.id) >= self.layout_incarnation
    }

    /// Writes the indexes of all open segments.
    pub(super) async fn seal_all(&self) -> Result<(), StorageError> {
        let mut open: Vec<OpenSegment<D>> = self.segments.direct.take().into_values().collect();
        open.extend(self.segments.flush.take().into_values());
        for segment in open {
            segment.seal().await?;
        }
        let shared = self.segments.shared.borrow_mut().take();
        match shared {
            Some(shared) => self.seal_shared(shared).await,
            None => Ok(()),
        }
    }

    /// Seals segments that no backlog of this round goes to, while there are too many.
    pub(super) async fn limit_flush_segments(
        &self,
        round: &BTreeSet<PartitionKey>,
    ) -> Result<(), StorageError> {
        loop {
            let sealed = {
                let mut open = self.segments.flush.borrow_mut();
                if open.len() < self.segments.shares.flush {
                    return Ok(());
                }
                let Some(key) = open.keys().find(|key| !round.contains(key)).copied() else {
                    return Ok(());
                };
                open.remove(&key)
            };
            if let Some(sealed) = sealed {
                sealed.sync().await?;
                sealed.seal().await?;
            }
        }
    }
    /// A new segment of a partition, or one for many. A full disk only delays it.
    pub(super) async fn create_segment(
        &self,
        owner: Option<PartitionKey>,
    ) -> Result<OpenSegment<D>, StorageError> {
        loop {
            match self.try_create_segment(owner).await {
                Err(error) => self.wait_for_space(error).await?,
                created => return created,
            }
        }
    }

    /// The same without patience.
    pub(super) async fn try_create_segment(
        &self,
        owner: Option<PartitionKey>,
    ) -> Result<OpenSegment<D>, StorageError> {
        let id = self.segments.ids.borrow_mut().allocate();
        OpenSegment::create(&self.disk, &self.data, &self.segments.dirs, id, owner).await
    }

    /// A full disk only delays what has its offsets already; new publishes are refused meanwhile.
    pub(super) async fn reserve_with_patience(
        &self,
        segment: &mut OpenSegment<D>,
        bytes: u64,
    ) -> Result<(), StorageError> {
        loop {
            match segment.reserve(bytes).await {
                Err(error) => self.wait_for_space(error).await?,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Seals open segments of partitions while there are too many.
    pub(super) async fn limit_direct_segments(&self) -> Result<(), StorageError> {
        loop {
            let (sealed, _in_use) = {
                let mut open = self.segments.direct.borrow_mut();
                if open.len() < self.segments.shares.direct {
                    return Ok(());
                }
                let Some(key) = open.keys().next().copied() else {
                    return Ok(());
                };
                (open.remove(&key), self.slot(key).map(|slot| slot.in_use()))
            };
            if let Some(sealed) = sealed {
                sealed.seal().await?;
            }
        }
    }

    /// When a segment of this partition is sealed: early enough for its topic's retention by size to have something to drop.
    pub(super) fn segment_bytes_max(&self, slot: &Slot) -> u64 {
        let by_retention = slot
            .topic()
            .settings
            .retention_bytes
            .map(|bytes| (bytes / 8).max(1 << 20));
        by_retention.map_or(self.config.segment_bytes_max, |bytes| {
            bytes.min(self.config.segment_bytes_max)
        })
    }
}
