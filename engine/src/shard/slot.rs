//! A partition in its shard: the pure state, what waits to be committed, and who waits for what.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

pub use super::completion::{Completion, CompletionSink, Outcome};
use super::pending::Pending;
use crate::control::catalogue::Topic;
use crate::io::local::Signal;
use crate::partition::Partition;
use crate::storage::segment::Run;
use crate::storage::{Lsn, PartitionKey};

/// A partition in its shard. Shared by the tasks of one thread.
pub struct Slot {
    key: PartitionKey,
    topic: Arc<Topic>,
    /// The pure state. Never borrowed over an await.
    pub state: RefCell<Partition>,
    pub(super) pending: RefCell<Pending>,
    /// Durable runs that no checkpoint has yet, with the commit that named them.
    pub(super) unrecorded: RefCell<VecDeque<(Lsn, Run)>>,
    /// Rises when the durable end moves, and when the partition goes.
    pub changed: Signal,
    deleted: Cell<bool>,
    /// Who is at work in its segments: readers, and what writes their indexes.
    users: Cell<usize>,
    pub(super) flush_round: Cell<u64>,
    pub(super) expiry_queued: Cell<bool>,
}

impl Slot {
    /// A partition of `topic`.
    #[must_use]
    pub fn new(topic: Arc<Topic>, state: Partition) -> Rc<Self> {
        Rc::new(Self {
            key: state.key(),
            topic,
            state: RefCell::new(state),
            pending: RefCell::default(),
            unrecorded: RefCell::default(),
            changed: Signal::new(),
            deleted: Cell::new(false),
            users: Cell::new(0),
            flush_round: Cell::new(0),
            expiry_queued: Cell::new(false),
        })
    }

    /// Which partition this is.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// Its topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// Whether its topic was deleted: readers end, nothing more is appended.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    pub(super) fn mark_deleted(&self) {
        self.deleted.set(true);
        self.changed.notify_all();
    }

    /// Says that somebody is at work in its segments, until the guard is dropped.
    pub(super) fn in_use(self: &Rc<Self>) -> InUse {
        self.users.set(self.users.get() + 1);
        InUse(self.clone())
    }

    /// Waits until nobody is at work in its segments and no chunk is on its way there.
    pub(super) async fn unused(&self) {
        loop {
            let seen = self.changed.version();
            if self.users.get() == 0 && self.pending.borrow().directs.is_empty() {
                return;
            }
            self.changed.changed_since(seen).await;
        }
    }
}

/// Keeps a deleted partition's segments from being let go of.
pub(super) struct InUse(Rc<Slot>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.users.set(self.0.users.get() - 1);
        if self.0.is_deleted() {
            self.0.changed.notify_all();
        }
    }
}
