//! Topics that come and go while a shard runs.

use std::rc::Rc;
use std::sync::Arc;

use gannet_wire::{ErrorBody, ErrorCode, TopicId};

use super::log::ShardLog;
use super::slot::{Arrival, Outcome, Slot};
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
        self.failed.set(true);
        let body = ErrorBody::new(ErrorCode::StorageFailed, error.to_string());
        let mut slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        slots.sort_unstable_by_key(|slot| slot.key());
        for slot in slots {
            let mut pending = slot.pending.borrow_mut();
            self.take_gathered(std::mem::take(&mut pending.batch_bytes));
            let batches = std::mem::take(&mut pending.batches);
            let commits = std::mem::take(&mut pending.commits);
            let chunks = std::mem::take(&mut pending.landed);
            let duplicates = std::mem::take(&mut pending.duplicates);
            drop(pending);
            let arrivals = batches
                .into_iter()
                .map(Arrival::Batch)
                .chain(commits.into_iter().map(Arrival::Committed))
                .chain(chunks.into_iter().map(Arrival::Direct));
            for arrival in arrivals {
                arrival.fail(&body);
            }
            for duplicate in duplicates {
                duplicate.completion.complete(Outcome::Failed(body.clone()));
            }
        }
        self.work.notify_all();
        self.room.notify_all();
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
