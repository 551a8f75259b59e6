//! Publishes that came from other shards, appended in the order they came, as far as this shard's memory allows.
//!
//! What waits here is bounded by the senders: each holds a budget for a publish until that is answered.

use std::rc::Rc;

use gannet_wire::frame::Durability;

use super::log::CheckedBatch;
use super::requests::{Shard, unknown_here};
use super::slot::{Completion, Outcome};
use crate::io::{Clock, Disk, Spawn};
use crate::storage::PartitionKey;

/// A publish for a partition of this shard, from a connection of another one.
pub(super) struct ForwardedPublish {
    pub(super) key: PartitionKey,
    pub(super) batch: CheckedBatch,
    pub(super) durability: Option<Durability>,
    pub(super) completion: Completion,
}

impl<D: Disk, C: Clock, S: Spawn> Shard<D, C, S> {
    /// Appends it, or lets it wait for memory behind those that came before: a connection's batches for a partition keep their order.
    pub(super) fn publish_forwarded(self: &Rc<Self>, publish: ForwardedPublish) {
        let waiting = self.forwarded.borrow().len();
        if waiting == 0 && self.log.admits() {
            self.append_forwarded(publish);
            return;
        }
        self.forwarded.borrow_mut().push_back(publish);
        if waiting == 0 {
            let shard = self.clone();
            self.spawn()
                .spawn(async move { shard.admit_forwarded().await });
        }
    }

    /// Runs until nothing waits; one task at most, since only the one who comes first starts it.
    async fn admit_forwarded(&self) {
        loop {
            self.log.admitted().await;
            let next = self.forwarded.borrow_mut().pop_front();
            if let Some(publish) = next {
                self.append_forwarded(publish);
            }
            if self.forwarded.borrow().is_empty() {
                return;
            }
        }
    }

    fn append_forwarded(&self, publish: ForwardedPublish) {
        match self.local_slot(publish.key) {
            Some(slot) => {
                self.publish(&slot, publish.batch, publish.durability, publish.completion)
            }
            // Deleted, perhaps while it waited.
            None => publish
                .completion
                .complete(Outcome::Failed(unknown_here(publish.key))),
        }
    }
}
