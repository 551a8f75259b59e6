//! How much of what is to be sent on a connection may wait, so that a peer that does not read holds a bounded piece of memory whatever
//! credit it gave.

use std::cell::Cell;

use crate::io::local::Signal;

/// Bytes that wait for one connection.
#[derive(Debug)]
pub struct Room {
    held_bytes: Cell<usize>,
    held_bytes_max: usize,
    drained: Signal,
}

impl Room {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(held_bytes_max: usize) -> Self {
        Self {
            held_bytes: Cell::new(0),
            held_bytes_max,
            drained: Signal::new(),
        }
    }

    /// Takes room for a delivery that is about to be read, while there is any: one delivery at most goes over the limit.
    pub fn claim(&self, bytes: usize) -> bool {
        let free = self.held_bytes.get() < self.held_bytes_max;
        if free {
            self.hold(bytes);
        }
        free
    }

    /// So many bytes wait.
    pub fn hold(&self, bytes: usize) {
        self.held_bytes.set(self.held_bytes.get() + bytes);
    }

    /// So many bytes wait no more.
    pub fn free(&self, bytes: usize) {
        let held = self.held_bytes.get();
        assert!(bytes <= held, "only what was held is freed");
        self.held_bytes.set(held - bytes);
        self.drained.notify_all();
    }

    /// Bytes that wait.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }

    /// Whether more than the limit waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.held_bytes.get() > self.held_bytes_max
    }

    /// Notified when less waits.
    #[must_use]
    pub fn drained(&self) -> &Signal {
        &self.drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_delivery_at_most_goes_over_the_limit() {
        let room = Room::new(100);
        assert!(room.claim(60));
        assert!(room.claim(60));
        assert!(room.is_over());
        assert!(!room.claim(1));
        room.free(60);
        assert!(!room.is_over());
        assert!(room.claim(1));
    }
}
