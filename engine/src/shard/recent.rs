//! Commits whose batches are in memory: those that are in no segment yet, and then, as long as there is room, for readers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::slot::Slot;
use crate::storage::Lsn;

/// A released commit whose batches are in memory.
pub(super) struct Recent {
    pub(super) lsn: Lsn,
    /// What it holds of memory.
    pub(super) bytes: u64,
    pub(super) slots: Vec<Rc<Slot>>,
    pub(super) released_at: Duration,
}

/// Oldest first; what is not in segments is never let go of.
pub(super) struct RecentCommits {
    unflushed: RefCell<VecDeque<Recent>>,
    cached: RefCell<VecDeque<Recent>>,
    unflushed_bytes: Cell<u64>,
    cached_bytes: Cell<u64>,
}

impl RecentCommits {
    /// What a replay has put into memory.
    pub(super) fn replayed(unflushed: VecDeque<Recent>) -> Self {
        let unflushed_bytes = unflushed.iter().map(|recent| recent.bytes).sum();
        Self {
            unflushed: RefCell::new(unflushed),
            cached: RefCell::default(),
            unflushed_bytes: Cell::new(unflushed_bytes),
            cached_bytes: Cell::new(0),
        }
    }

    /// Memory of what is in no segment yet.
    pub(super) fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes.get()
    }

    /// Whether everything is in segments.
    pub(super) fn all_flushed(&self) -> bool {
        self.unflushed.borrow().is_empty()
    }

    /// When the oldest commit that is in no segment was released.
    pub(super) fn oldest_unflushed_at(&self) -> Option<Duration> {
        self.unflushed
            .borrow()
            .front()
            .map(|oldest| oldest.released_at)
    }

    /// The newest commit that is in no segment.
    #[cfg(test)]
    pub(super) fn newest_unflushed_lsn(&self) -> Lsn {
        let unflushed = self.unflushed.borrow();
        unflushed
            .back()
            .map_or_else(Lsn::default, |newest| newest.lsn)
    }

    /// When the newest of those that are kept for readers alone was released.
    pub(super) fn newest_cached_at(&self) -> Option<Duration> {
        self.cached.borrow().back().map(|newest| newest.released_at)
    }

    /// A commit was released.
    pub(super) fn push(&self, recent: Recent) {
        self.unflushed_bytes
            .set(self.unflushed_bytes.get() + recent.bytes);
        self.unflushed.borrow_mut().push_back(recent);
    }

    /// The commits that a flush of about `bytes_max` takes: calls `touch` for their slots; returns the newest one's LSN, and whether nothing is left above it.
    pub(super) fn extent(
        &self,
        bytes_max: u64,
        mut touch: impl FnMut(&Rc<Slot>),
    ) -> (Option<Lsn>, bool) {
        let unflushed = self.unflushed.borrow();
        let mut target = None;
        let mut bytes = 0;
        for recent in unflushed.iter() {
            if bytes > 0 && bytes + recent.bytes > bytes_max {
                return (target, false);
            }
            bytes += recent.bytes;
            target = Some(recent.lsn);
            recent.slots.iter().for_each(&mut touch);
        }
        (target, true)
    }

    /// Everything up to `target` is in segments: from now on memory has it for readers alone.
    pub(super) fn flushed(&self, target: Lsn) {
        let mut unflushed = self.unflushed.borrow_mut();
        while unflushed.front().is_some_and(|first| first.lsn <= target) {
            let Some(recent) = unflushed.pop_front() else {
                break;
            };
            self.unflushed_bytes
                .set(self.unflushed_bytes.get() - recent.bytes);
            self.cached_bytes
                .set(self.cached_bytes.get() + recent.bytes);
            self.cached.borrow_mut().push_back(recent);
        }
    }

    /// Lets go of flushed batches, oldest first, until at most `keep_bytes` are in memory.
    pub(super) fn evict(&self, keep_bytes: u64) {
        while self.cached_bytes.get() > keep_bytes {
            let Some(recent) = self.cached.borrow_mut().pop_front() else {
                break;
            };
            for slot in &recent.slots {
                slot.state.borrow_mut().tail.evict(recent.lsn);
            }
            self.cached_bytes
                .set(self.cached_bytes.get() - recent.bytes);
        }
    }
}
