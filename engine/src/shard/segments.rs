//! The segments that a shard writes to, and the end of those that nobody needs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::files::FileShares;
use super::log::ShardLog;
use super::slot::Slot;
use crate::io::{Clock, Disk};
use crate::storage::index::OpenIndex;
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
    pub(super) shared: RefCell<Option<OpenSegment<D>>>,
    /// The indexes of all of them, also while one is taken out to be written to.
    indexes: RefCell<HashMap<SegmentRef, Weak<RefCell<OpenIndex>>>>,
    /// Which one that is, also while the flusher has it in its hands.
    pub(super) shared_ref: Cell<Option<SegmentRef>>,
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
            indexes: RefCell::default(),
            shared_ref: Cell::new(None),
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

    /// The index of a segment, as long as it is open.
    pub(super) fn index(&self, segment: SegmentRef) -> Option<Rc<RefCell<OpenIndex>>> {
        self.indexes.borrow().get(&segment).and_then(Weak::upgrade)
    }

    /// Readers find a new segment's index from now on.
    fn publish_index(&self, segment: &OpenSegment<D>) {
        let mut indexes = self.indexes.borrow_mut();
        // As many as are open, and a few that were.
        if indexes.len() >= INDEXES_MAX.max(2 * self.shares.writing()) {
            indexes.retain(|_, index| index.strong_count() > 0);
        }
        indexes.insert(segment.segment, Rc::downgrade(&segment.index));
    }

    /// The partitions' open segments whose time has come; they are nobody's from now on.
    fn take_due(&self, now: Duration) -> Vec<(PartitionKey, OpenSegment<D>)> {
        let mut due = Vec::new();
        for open in [&self.direct, &self.flush] {
            let mut open = open.borrow_mut();
            let keys: Vec<PartitionKey> = open
                .iter()
                .filter(|(_, segment)| segment.is_seal_due(now))
                .map(|(key, _)| *key)
                .collect();
            due.extend(keys.iter().filter_map(|key| open.remove_entry(key)));
        }
        due
    }

    /// The same of the shared one.
    fn take_shared_if_due(&self, now: Duration) -> Option<OpenSegment<D>> {
        self.shared
            .borrow_mut()
            .take_if(|shared| shared.is_seal_due(now))
    }

    /// Whether one is due.
    fn any_due(&self, now: Duration) -> bool {
        let due = |segment: &OpenSegment<D>| segment.is_seal_due(now);
        self.direct.borrow().values().any(due)
            || self.flush.borrow().values().any(due)
            || self.shared.borrow().as_ref().is_some_and(due)
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
    pub(super) fn owns_alone(&self, segment: SegmentRef) -> bool {
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

    /// Whether a segment of this partition takes nothing more.
    pub(super) fn is_full(&self, segment: &OpenSegment<D>, slot: &Slot) -> bool {
        segment.position() >= self.segment_bytes_max(slot)
            || segment.is_seal_due(self.clock.monotonic())
    }

    /// Whether a segment has been open for long enough.
    pub(super) fn seal_due(&self) -> bool {
        self.segments.any_due(self.clock.monotonic())
    }

    /// Seals the segments that have been open for long enough, so that retention finds their runs at an end.
    pub(super) async fn seal_due_segments(&self) -> Result<(), StorageError> {
        let now = self.clock.monotonic();
        for (key, segment) in self.segments.take_due(now) {
            let _in_use = self.slot(key).map(|slot| slot.in_use());
            segment.sync().await?;
            segment.seal().await?;
        }
        match self.segments.take_shared_if_due(now) {
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
        let mut segment =
            OpenSegment::create(&self.disk, &self.data, &self.segments.dirs, id, owner).await?;
        self.segments.publish_index(&segment);
        let retention_ms = owner
            .and_then(|key| self.slot(key))
            .and_then(|slot| slot.topic().settings.retention_ms);
        if retention_ms.is_some() {
            let now = self.clock.monotonic();
            segment.seal_at = Some(now.saturating_add(seal_age(retention_ms)));
        }
        Ok(segment)
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

/// How long a segment is written to, so that what retention drops at once is a part of what it keeps.
pub(super) fn seal_age(retention_ms: Option<u64>) -> Duration {
    retention_ms.map_or(Duration::MAX, |ms| {
        Duration::from_millis(ms / SEGMENTS_PER_RETENTION)
    })
}

/// A segment covers this part of its retention at most.
const SEGMENTS_PER_RETENTION: u64 = 8;
/// Indexes of segments, open or not any more, that are known at least before the latter are let go of.
const INDEXES_MAX: usize = 64;
