//! What waits to be committed, and whose turn it is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::pending::{Arrival, BatchArrival};
use super::slot::Slot;
use crate::storage::commit::commit_bytes;

/// The slots of a shard that have something waiting, in the order of their turns.
#[derive(Default)]
pub(super) struct Arrivals {
    ready: RefCell<VecDeque<Rc<Slot>>>,
    /// Slots with enough for a chunk that goes straight to a segment.
    large: RefCell<VecDeque<Rc<Slot>>>,
    bytes: Cell<usize>,
}

/// What bounds a commit.
pub(super) struct CommitBounds {
    /// Its bytes, head and filler included.
    pub(super) bytes_max: usize,
    /// A slot with so much waiting is left to a chunk ...
    pub(super) direct_bytes_min: usize,
    /// ... if one may start.
    pub(super) direct_room: bool,
}

/// One entry of a commit that is being made.
pub(super) struct Item {
    pub(super) slot: Rc<Slot>,
    pub(super) arrival: Arrival,
    /// Where its bytes stand in the commit.
    pub(super) range: std::ops::Range<usize>,
}

impl Arrivals {
    /// Whether no slot waits for a commit.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.borrow().is_empty()
    }

    /// Bytes of all batches that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// So much waits no more.
    pub(super) fn take_bytes(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
    }

    /// Puts a slot in the queue for the next commit, once.
    pub(super) fn queue(&self, slot: &Rc<Slot>) {
        let mut pending = slot.pending.borrow_mut();
        if !pending.queued {
            pending.queued = true;
            self.ready.borrow_mut().push_back(slot.clone());
        }
    }

    /// A batch that has its offsets waits in its slot.
    pub(super) fn push_batch(&self, slot: &Rc<Slot>, batch: BatchArrival, direct_bytes_min: usize) {
        let mut pending = slot.pending.borrow_mut();
        let bytes = batch.bytes.len();
        pending.batch_bytes += bytes;
        self.bytes.set(self.bytes.get() + bytes);
        pending.batches.push_back(batch);
        if pending.batch_bytes >= direct_bytes_min && !pending.large_queued {
            pending.large_queued = true;
            self.large.borrow_mut().push_back(slot.clone());
        }
        drop(pending);
        self.queue(slot);
    }

    /// How many slots have enough for a chunk.
    pub(super) fn large_slots(&self) -> usize {
        self.large.borrow().len()
    }

    /// The next slot with enough for a chunk.
    pub(super) fn pop_large(&self) -> Option<Rc<Slot>> {
        self.large.borrow_mut().pop_front()
    }

    /// A slot still has enough for a chunk: it comes again after the others.
    pub(super) fn push_large(&self, slot: Rc<Slot>) {
        self.large.borrow_mut().push_back(slot);
    }

    /// Takes from the slots in turn what one commit holds.
    pub(super) fn take_commit(&self, bounds: &CommitBounds) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut payload = 0;
        let max = bounds.bytes_max;
        let mut ready = self.ready.borrow_mut();
        while let Some(slot) = ready.pop_front() {
            let mut pending = slot.pending.borrow_mut();
            let mut full = false;
            let mut turn_ended = false;
            let turn_ends = payload + max / TURNS_PER_COMMIT;
            while let Some(bytes) = pending.front_bytes(bounds.direct_bytes_min, bounds.direct_room)
            {
                turn_ended = payload >= turn_ends;
                if turn_ended {
                    break;
                }
                full = !items.is_empty() && commit_bytes(items.len() + 1, payload + bytes) > max;
                if full {
                    break;
                }
                payload += bytes;
                let Some(arrival) = pending.pop_front() else {
                    break;
                };
                if let Arrival::Batch(batch) = &arrival {
                    self.take_bytes(batch.bytes.len());
                }
                items.push(Item {
                    slot: slot.clone(),
                    arrival,
                    range: 0..0,
                });
            }
            if full {
                // It was in the middle of its turn: it goes on first.
                drop(pending);
                ready.push_front(slot);
                break;
            }
            if turn_ended {
                drop(pending);
                ready.push_back(slot);
                continue;
            }
            // What waits for a chunk comes back when the chunk has landed.
            pending.queued = false;
        }
        items
    }
}

/// A slot's turn ends after this part of a commit, while others wait.
const TURNS_PER_COMMIT: usize = 4;
