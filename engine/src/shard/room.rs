//! How much of what is to be sent on a connection may wait, so that a peer that does not read holds a bounded piece of memory whatever
//! credit it gave.

use std::cell::Cell;

use crate::io::local::{Semaphore, Signal};

/// Bytes that wait for one connection.
#[derive(Debug)]
pub struct Room {
    held_bytes: Cell<usize>,
    held_bytes_max: usize,
    drained: Signal,
    /// Held by the delivery that is the next to have room.
    turn: Semaphore,
}

/// Lets the next one have its turn when dropped.
struct Turn<'a>(&'a Semaphore);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.release(1);
    }
}

impl Room {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(held_bytes_max: usize) -> Self {
        Self {
            held_bytes: Cell::new(0),
            held_bytes_max,
            drained: Signal::new(),
            turn: Semaphore::new(1),
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

    /// The same, waiting behind all who came earlier.
    ///
    /// IMPORTANT: first come, first served. The subscriptions of a connection to thousands of partitions read chunks that lie side by side then, each shared by neighbours; in any other order
    /// nearly every one reads a chunk of its own for a few kilobytes. And only one of them is woken when there is room.
    /// `bytes` is asked when it is its turn; the answer is what is claimed.
    pub async fn claimed(&self, bytes: impl Fn() -> usize) -> usize {
        self.turn.acquire(1).await;
        let _turn = Turn(&self.turn);
        loop {
            let seen = self.drained.version();
            let bytes = bytes();
            if self.claim(bytes) {
                return bytes;
            }
            self.drained.changed_since(seen).await;
        }
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
    use futures_util::FutureExt as _;

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

    #[test]
    fn who_came_first_has_room_first() {
        let room = Room::new(100);
        room.hold(200);
        let claimed = || Box::pin(room.claimed(|| 100));
        let (mut first, mut second, mut third) = (claimed(), claimed(), claimed());
        for waiting in [&mut first, &mut second, &mut third] {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        room.free(150);
        // In whatever order they look.
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(first.as_mut().now_or_never(), Some(100));
        assert_eq!(room.held_bytes(), 150);
        // One that leaves keeps nobody waiting, and holds nothing.
        drop(second);
        room.free(150);
        assert!(third.as_mut().now_or_never().is_some());
        assert_eq!(room.held_bytes(), 100);
    }

    #[test]
    fn who_leaves_when_it_is_its_turn_lets_the_next_one_have_it() {
        let room = Room::new(100);
        room.hold(100);
        let claimed = || Box::pin(room.claimed(|| 1));
        let (mut first, mut second) = (claimed(), claimed());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        room.free(50);
        assert!(second.now_or_never().is_some());
    }
}
