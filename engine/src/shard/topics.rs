//! Topics that come and go while a shard runs.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use gannet_wire::{ErrorBody, ErrorCode, TopicId};

use super::log::ShardLog;
use super::slot::{Outcome, Slot};
use super::sweep::{OwnSegments, remove_topic};
use crate::control::catalogue::Topic;
use crate::io::{Clock, Disk};
use crate::partition::Partition;
use crate::storage::segment::Run;
use crate::storage::{PartitionKey, SegmentId, StorageError};

/// A topic whose files are still there.
pub(super) struct DroppedTopic {
    topic: TopicId,
    /// Its partitions of this shard.
    slots: Vec<Rc<Slot>>,
    /// Whether no checkpoint names it any more.
    checkpointed: Cell<bool>,
}

impl DroppedTopic {
    /// Its id.
    pub(super) fn id(&self) -> TopicId {
        self.topic
    }
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// A topic was created: the partitions that `owns` says are this shard's begin, empty.
    pub fn add_topic(&self, topic: &Arc<Topic>, owns: impl Fn(PartitionKey) -> bool) {
        let mut slots = self.slots.borrow_mut();
        for key in topic.keys().filter(|key| owns(*key)) {
            slots
                .entry(key)
                .or_insert_with(|| Slot::new(topic.clone(), Partition::new(key)));
        }
    }

    /// A topic was deleted, durably: nothing more is taken or read, and whoever waits hears so. Its place on the disk is given back later; see
    /// [`ShardLog::topic_released`].
    pub fn drop_topic(self: &Rc<Self>, topic: TopicId) {
        let mut slots = Vec::new();
        self.slots.borrow_mut().retain(|key, slot| {
            let goes = key.topic == topic;
            if goes {
                slots.push(slot.clone());
            }
            !goes
        });
        // In the order of partitions, so that a simulated run is the same each time.
        slots.sort_unstable_by_key(|slot| slot.key());
        for slot in &slots {
            slot.mark_deleted();
            // The flusher drops those that it writes to itself.
            self.segments.direct.borrow_mut().remove(&slot.key());
            let (waiting, bytes) = slot.pending.borrow_mut().abandon();
            self.arrivals.take_bytes(bytes);
            for completion in waiting {
                completion.complete(Outcome::Failed(topic_deleted(slot)));
            }
        }
        let dropped = DroppedTopic {
            topic,
            slots,
            checkpointed: Cell::new(false),
        };
        self.topics_dropped.borrow_mut().push(Rc::new(dropped));
        self.room.notify_all();
        self.want_flush();
    }

    /// Waits until nothing here needs the files of a deleted topic any more: no checkpoint names it, nothing is on its way to its segments,
    /// nobody reads them.
    pub async fn topic_released(&self, topic: TopicId) {
        let dropped = self
            .topics_dropped
            .borrow()
            .iter()
            .find(|dropped| dropped.topic == topic)
            .cloned();
        let Some(dropped) = dropped else { return };
        loop {
            let seen = self.flush_done.version();
            if dropped.checkpointed.get() {
                break;
            }
            self.flush_done.changed_since(seen).await;
        }
        for slot in &dropped.slots {
            slot.unused().await;
            for run in slot
                .state
                .borrow()
                .runs()
                .iter()
                .filter(|run| !run.segment.shared)
            {
                self.claims.forget(run.segment);
                // A descriptor would keep the file's blocks from the file system.
                self.reader.forget(run.segment);
            }
        }
        self.topics_dropped
            .borrow_mut()
            .retain(|dropped| dropped.topic != topic);
    }

    /// Removes the files of a deleted topic that every shard has let go of.
    pub async fn remove_topic(&self, topic: TopicId) -> Result<u64, StorageError> {
        remove_topic(&self.disk, &self.data, topic).await
    }

    /// Topics that no checkpoint drops yet.
    pub(super) fn topics_to_drop(&self) -> Vec<Rc<DroppedTopic>> {
        let dropped = self.topics_dropped.borrow();
        dropped
            .iter()
            .filter(|dropped| !dropped.checkpointed.get())
            .cloned()
            .collect()
    }

    /// A durable checkpoint drops these topics: returns their runs in shared segments, which go.
    pub(super) fn topics_checkpointed(
        &self,
        topics: &[Rc<DroppedTopic>],
    ) -> Vec<(PartitionKey, Run)> {
        let mut shared = Vec::new();
        for topic in topics {
            topic.checkpointed.set(true);
            for slot in &topic.slots {
                self.segments.flush.borrow_mut().remove(&slot.key());
                let state = slot.state.borrow();
                let runs = state.runs().iter().filter(|run| run.segment.shared);
                shared.extend(runs.map(|run| (slot.key(), *run)));
            }
        }
        shared
    }

    /// Nothing more can be made durable, and nothing more is taken: whoever waits hears so. What is in a commit or a chunk ends with
    /// [`ShardLog::run_commits`], which this ends.
    pub fn fail(&self, error: &StorageError) {
        let body = ErrorBody::new(ErrorCode::StorageFailed, error.to_string());
        self.failure
            .borrow_mut()
            .get_or_insert_with(|| body.clone());
        let mut slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        slots.sort_unstable_by_key(|slot| slot.key());
        for slot in slots {
            let (waiting, bytes) = slot.pending.borrow_mut().abandon();
            self.arrivals.take_bytes(bytes);
            for completion in waiting {
                completion.complete(Outcome::Failed(body.clone()));
            }
        }
        self.failed.notify_all();
        self.room.notify_all();
    }

    /// The shared segments that this shard has runs in.
    #[must_use]
    pub fn shared_segments(&self) -> Vec<SegmentId> {
        let shared = self.claims.segments(true);
        shared.into_iter().map(|segment| segment.id).collect()
    }

    /// What a sweep must leave of the partitions' own segments. Only right before anything is served: later on a run may be gone from memory while a
    /// checkpoint still names its segment.
    #[must_use]
    pub fn own_segments(&self) -> OwnSegments {
        let own = self.claims.segments(false);
        let slots = self.slots.borrow();
        let fenced = slots
            .values()
            .filter(|slot| !slot.state.borrow().fences().is_empty());
        OwnSegments {
            live: own.into_iter().map(|segment| segment.id).collect(),
            fenced: fenced.map(|slot| slot.key()).collect(),
        }
    }
}

/// What the wire says of whatever comes too late.
pub(super) fn topic_deleted(slot: &Slot) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::TopicDeleted,
        format!("topic {} was deleted", slot.topic().name),
    )
}
