//! When retention has to look at which partition.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gannet_wire::Timestamp;

use crate::storage::PartitionKey;

/// By the append clock, earliest first. A partition is in here once at most; its slot knows whether.
#[derive(Default)]
pub(super) struct Expiries {
    queue: RefCell<BinaryHeap<Reverse<(i64, PartitionKey)>>>,
}

impl Expiries {
    /// Looks at a partition again at `at`.
    pub(super) fn push(&self, at: Timestamp, key: PartitionKey) {
        self.queue.borrow_mut().push(Reverse((at.0, key)));
    }

    /// Whether one is due.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let queue = self.queue.borrow();
        queue.peek().is_some_and(|Reverse((at, _))| *at <= now.0)
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&self, now: Timestamp) -> Option<PartitionKey> {
        if !self.is_due(now) {
            return None;
        }
        self.queue.borrow_mut().pop().map(|Reverse((_, key))| key)
    }

    /// How many partitions wait for a look.
    pub(super) fn len(&self) -> usize {
        self.queue.borrow().len()
    }
}
