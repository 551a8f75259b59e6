//! Publishes between shards: those of this shard's connections for partitions of others, and those that came from other shards, appended in the
//! order they came, as far as this shard's memory allows.
//!
//! What waits at an owner is bounded by the senders: each holds a budget for a publish until that is answered, whether or not the connection that
//! it came from still stands.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use gannet_wire::ShardIndex;
use gannet_wire::frame::Durability;

use super::log::CheckedBatch;
use super::mail::{Outgoing, ShardMessage};
use super::requests::{Shard, unknown_here};
use super::slot::{Completion, CompletionSink, Outcome};
use crate::io::local::Semaphore;
use crate::io::{Clock, Disk, Spawn};
use crate::storage::PartitionKey;

/// A publish for a partition of another shard than the one that has the connection it came from.
pub struct ForwardedPublish {
    /// Where it goes.
    pub key: PartitionKey,
    /// What it brings.
    pub batch: CheckedBatch,
    /// What was asked for.
    pub durability: Option<Durability>,
    /// Who is to be told.
    pub completion: Completion,
}

/// What is at other shards and not answered yet.
pub(super) struct Forwards {
    /// One for each owner: when one has no memory, publishes to the others go on.
    budgets: Vec<Semaphore>,
    unanswered: RefCell<HashMap<u64, Unanswered>>,
    next: Cell<u64>,
}

struct Unanswered {
    owner: ShardIndex,
    bytes: usize,
    completion: Completion,
}

impl Forwards {
    /// `bytes_max` for each of the shards.
    pub(super) fn new(shards: u16, bytes_max: usize) -> Self {
        Self {
            budgets: (0..shards).map(|_| Semaphore::new(bytes_max)).collect(),
            unanswered: RefCell::default(),
            next: Cell::new(0),
        }
    }

    /// Waits until so many bytes more may be on their way to a shard.
    async fn admitted(&self, owner: ShardIndex, bytes: usize) {
        if let Some(budget) = self.budgets.get(usize::from(owner.0)) {
            budget.acquire(bytes).await;
        }
    }

    /// The number by which a publish is answered.
    fn begin(&self, unanswered: Unanswered) -> u64 {
        let number = self.next.get();
        self.next.set(number + 1);
        self.unanswered.borrow_mut().insert(number, unanswered);
        number
    }

    /// The owner has said what became of a publish.
    pub(super) fn answered(&self, number: u64, outcome: Outcome) {
        let Some(answered) = self.unanswered.borrow_mut().remove(&number) else {
            return;
        };
        if let Some(budget) = self.budgets.get(usize::from(answered.owner.0)) {
            budget.release(answered.bytes);
        }
        answered.completion.complete(outcome);
    }
}

/// Tells another shard what became of its publishes.
pub(super) struct ForwardedAnswers {
    pub(super) to: Rc<Outgoing>,
    /// Whether the publish's sender has others on their way.
    pub(super) others_in_flight: bool,
}

impl CompletionSink for ForwardedAnswers {
    fn complete(&self, number: u64, outcome: Outcome) {
        self.to.push(ShardMessage::Published { number, outcome });
    }

    fn has_others_in_flight(&self) -> bool {
        self.others_in_flight
    }
}

impl<D: Disk, C: Clock, S: Spawn> Shard<D, C, S> {
    /// Sends a publish of a connection of this shard to the owner of its partition, as soon as that may have more.
    pub async fn forward(&self, owner: ShardIndex, publish: ForwardedPublish) {
        let bytes = publish.batch.bytes.len();
        self.forwards.admitted(owner, bytes).await;
        let others_in_flight = publish.completion.has_others_in_flight();
        let number = self.forwards.begin(Unanswered {
            owner,
            bytes,
            completion: publish.completion,
        });
        self.send(
            owner,
            ShardMessage::Publish {
                from: self.index(),
                number,
                key: publish.key,
                durability: publish.durability,
                batch: publish.batch.bytes,
                header: publish.batch.header,
                others_in_flight,
            },
        );
    }

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
