//! Topics that come and go while a shard runs.

use std::rc::Rc;
use std::sync::Arc;

use gannet_wire::{ErrorBody, ErrorCode, TopicId};

use super::log::ShardLog;
use super::slot::{Outcome, Slot};
use crate::control::catalogue::Topic;
use crate::io::{Clock, Disk};
use crate::partition::Partition;
use crate::storage::{PartitionKey, SegmentId, StorageError};

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

    /// A topic was deleted, durably.
    pub fn drop_topic(self: &Rc<Self>, topic: TopicId) {
        // In the order of partitions, so that a simulated run is the same each time.
        let mut gone: Vec<PartitionKey> = {
            let slots = self.slots.borrow();
            slots
                .keys()
                .filter(|key| key.topic == topic)
                .copied()
                .collect()
        };
        gone.sort_unstable();
        for key in gone {
            let slot = self.slots.borrow_mut().remove(&key);
            if let Some(slot) = slot {
                slot.mark_deleted();
            }
        }
        self.topics_dropped.borrow_mut().push(topic.0);
    }

    /// Nothing more can be made durable: whoever waits hears so.
    pub fn fail(&self, error: &StorageError) {
        let body = ErrorBody::new(ErrorCode::StorageFailed, error.to_string());
        for slot in self.slots.borrow().values() {
            let mut pending = slot.pending.borrow_mut();
            for batch in std::mem::take(&mut pending.batches) {
                if let Some(completion) = batch.completion {
                    completion.complete(Outcome::Failed(body.clone()));
                }
            }
        }
    }

    /// The shared segments that this shard has runs in.
    #[must_use]
    pub fn shared_segments(&self) -> Vec<SegmentId> {
        self.segment_runs
            .borrow()
            .keys()
            .filter(|segment| segment.shared)
            .map(|segment| segment.id)
            .collect()
    }
}
