//! Reads give way to writes that somebody waits for: an acknowledgement that stands behind the reads of everybody who is catching up is late by all of them.
//!
//! While such writes are on their way one chunk is read at a time and none ahead, so that a write waits for one read at most. Those who read take turns, so nobody is kept from reading for good.
//! Without such writes nobody waits here.

use std::cell::Cell;

use crate::io::local::Signal;

/// See the module's text. Of one shard.
#[derive(Debug, Default)]
pub(super) struct Turns {
    writes_wait: Cell<bool>,
    reading: Cell<usize>,
    ended: Signal,
}

/// The right to read one chunk, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Whether somebody waits for writes from now on.
    pub(super) fn set_writes_wait(&self, wait: bool) {
        self.writes_wait.set(wait);
    }

    /// Whether what nobody asked for yet may be read.
    pub(super) fn may_read_ahead(&self) -> bool {
        !self.writes_wait.get()
    }

    /// Waits until a chunk may be read.
    pub(super) async fn take(&self) -> Turn<'_> {
        loop {
            let seen = self.ended.version();
            // While one is read its end comes, whether or not the writes end before.
            if self.reading.get() == 0 || !self.writes_wait.get() {
                self.reading.set(self.reading.get() + 1);
                return Turn(self);
            }
            self.ended.changed_since(seen).await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.reading.set(self.0.reading.get() - 1);
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn without_writes_all_read_at_once() {
        let turns = Turns::default();
        assert!(turns.may_read_ahead());
        let first = turns.take().now_or_never();
        assert!(first.is_some());
        assert!(turns.take().now_or_never().is_some());
    }

    #[test]
    fn while_writes_wait_one_reads_at_a_time() {
        let turns = Turns::default();
        turns.set_writes_wait(true);
        assert!(!turns.may_read_ahead());
        let first = turns.take().now_or_never();
        let mut second = pin!(turns.take());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        let second = second.now_or_never();
        assert!(second.is_some());
        assert!(turns.take().now_or_never().is_none());
    }

    #[test]
    fn who_read_when_the_writes_came_is_waited_for() {
        let turns = Turns::default();
        let before = [turns.take().now_or_never(), turns.take().now_or_never()];
        turns.set_writes_wait(true);
        let [first, second] = before;
        drop(first);
        assert!(turns.take().now_or_never().is_none());
        drop(second);
        assert!(turns.take().now_or_never().is_some());
    }

    #[test]
    fn who_leaves_while_waiting_keeps_nobody_waiting() {
        let turns = Turns::default();
        turns.set_writes_wait(true);
        let first = turns.take().now_or_never();
        {
            let mut leaves = pin!(turns.take());
            assert!(leaves.as_mut().now_or_never().is_none());
        }
        let mut stays = pin!(turns.take());
        assert!(stays.as_mut().now_or_never().is_none());
        drop(first);
        assert!(stays.now_or_never().is_some());
    }

    #[test]
    fn the_end_of_the_writes_lets_all_go_on_at_the_next_end_of_a_read() {
        let turns = Turns::default();
        turns.set_writes_wait(true);
        let first = turns.take().now_or_never();
        let mut second = pin!(turns.take());
        let mut third = pin!(turns.take());
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        turns.set_writes_wait(false);
        drop(first);
        let second = second.now_or_never();
        let third = third.now_or_never();
        assert!(second.is_some() && third.is_some());
    }
}
