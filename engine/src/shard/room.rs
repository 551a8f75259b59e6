//! How much of what is to be sent on a connection may wait, so that a peer that does not read holds a bounded piece of memory whatever
//! credit it gave.

mod queue;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll};

pub use self::queue::SharedPlace;
use self::queue::{Arrival, Queue};
use crate::io::local::Signal;

/// Bytes that wait for one connection.
#[derive(Debug)]
pub struct Room {
    held_bytes: Cell<usize>,
    held_bytes_max: usize,
    drained: Signal,
    queue: RefCell<Queue>,
    /// Whose turn it is: it has been woken, and claims what it wants.
    chosen: Cell<Option<Arrival>>,
}

impl Room {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(held_bytes_max: usize) -> Self {
        Self {
            held_bytes: Cell::new(0),
            held_bytes_max,
            drained: Signal::new(),
            queue: RefCell::default(),
            chosen: Cell::new(None),
        }
    }

    /// Takes room for what is about to be made, while there is any: one at most goes over the limit.
    pub fn claim(&self, bytes: usize) -> bool {
        let free = self.is_free();
        if free {
            self.hold(bytes);
        }
        free
    }

    /// The same for a delivery that is about to be read, in turn with the connection's others. `place` is asked when it has to wait: where it is read, if that is a
    /// segment that partitions share. `bytes` is asked when it is its turn; the answer is what is claimed.
    pub fn claimed<P, B>(&self, place: P, bytes: B) -> Claimed<'_, P, B>
    where
        P: Fn() -> Option<SharedPlace> + Unpin,
        B: Fn() -> usize + Unpin,
    {
        Claimed {
            room: self,
            place,
            bytes,
            arrival: None,
        }
    }

    fn is_free(&self) -> bool {
        self.held_bytes.get() < self.held_bytes_max
    }

    /// Wakes whose turn it is, if there is room. Only one of them: thousands may wait.
    fn choose(&self) {
        if self.chosen.get().is_some() || !self.is_free() {
            return;
        }
        let next = self
            .queue
            .borrow()
            .next()
            .map(|(arrival, waker)| (arrival, waker.clone()));
        if let Some((arrival, waker)) = next {
            self.chosen.set(Some(arrival));
            waker.wake();
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
        self.choose();
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

/// The future of [`Room::claimed`].
#[must_use = "does nothing unless awaited"]
#[derive(Debug)]
pub struct Claimed<'a, P, B> {
    room: &'a Room,
    place: P,
    bytes: B,
    /// Its place in the queue.
    arrival: Option<Arrival>,
}

impl<P, B> Future for Claimed<'_, P, B>
where
    P: Fn() -> Option<SharedPlace> + Unpin,
    B: Fn() -> usize + Unpin,
{
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        let room = self.room;
        let waker = context.waker();
        match self.arrival {
            None if room.queue.borrow().is_empty() && room.is_free() => {
                let bytes = (self.bytes)();
                room.hold(bytes);
                return Poll::Ready(bytes);
            }
            None => {
                let place = (self.place)();
                let arrival = room.queue.borrow_mut().enter(place, waker.clone());
                self.arrival = Some(arrival);
                room.choose();
            }
            Some(arrival) => room.queue.borrow_mut().set_waker(arrival, waker),
        }
        if room.chosen.get() != self.arrival {
            return Poll::Pending;
        }
        room.chosen.set(None);
        let bytes = (self.bytes)();
        if !room.claim(bytes) {
            // Another one's delivery, or an answer, has come before it. It is looked at again when there is room.
            return Poll::Pending;
        }
        if let Some(arrival) = self.arrival.take() {
            room.queue.borrow_mut().took(arrival);
        }
        room.choose();
        Poll::Ready(bytes)
    }
}

impl<P, B> Drop for Claimed<'_, P, B> {
    fn drop(&mut self) {
        let Some(arrival) = self.arrival else {
            return;
        };
        self.room.queue.borrow_mut().leave(arrival);
        if self.room.chosen.get() == Some(arrival) {
            self.room.chosen.set(None);
            self.room.choose();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::{Wake, Waker};

    use futures_util::FutureExt as _;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }

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
        let claimed = || Box::pin(room.claimed(|| None, || 100));
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
    fn an_answer_that_takes_the_room_first_costs_nobody_its_place() {
        let room = Room::new(100);
        room.hold(100);
        let mut first = Box::pin(room.claimed(|| None, || 1));
        let mut second = Box::pin(room.claimed(|| None, || 1));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        room.free(50);
        assert!(room.claim(50));
        assert!(first.as_mut().now_or_never().is_none());
        room.free(1);
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(first.now_or_never(), Some(1));
    }

    #[test]
    fn who_is_behind_in_a_shared_segment_has_room_before_who_came_earlier() {
        let room = Room::new(100);
        room.hold(100);
        let claimed = |position| {
            let place = SharedPlace {
                segment: crate::storage::SegmentId(1),
                position,
            };
            Box::pin(room.claimed(move || Some(place), || 100))
        };
        let (mut ahead, mut behind) = (claimed(9), claimed(3));
        assert!(ahead.as_mut().now_or_never().is_none());
        assert!(behind.as_mut().now_or_never().is_none());
        room.free(100);
        assert!(ahead.as_mut().now_or_never().is_none());
        assert_eq!(behind.as_mut().now_or_never(), Some(100));
        room.free(100);
        assert_eq!(ahead.now_or_never(), Some(100));
    }

    #[test]
    fn a_delivery_that_takes_up_what_was_freed_for_it_takes_nobodys_turn() {
        let room = Room::new(100);
        room.hold(100);
        let place = SharedPlace {
            segment: crate::storage::SegmentId(1),
            position: 0,
        };
        let wait = |place| Box::pin(room.claimed(move || place, || 100));
        let mut waiting = [wait(None), wait(Some(place))];
        let mut turns = [0; 2];
        for _ in 0..20 {
            // What was claimed to be read is what is sent then, in the same moment.
            room.free(100);
            room.hold(100);
            for one in &mut waiting {
                assert!(one.as_mut().now_or_never().is_none());
            }
            room.free(100);
            for (at, place) in [None, Some(place)].into_iter().enumerate() {
                if waiting[at].as_mut().now_or_never().is_some() {
                    turns[at] += 1;
                    waiting[at] = wait(place);
                    assert!(waiting[at].as_mut().now_or_never().is_none());
                }
            }
        }
        assert_eq!(turns, [10, 10]);
    }

    #[test]
    fn who_leaves_when_it_is_its_turn_lets_the_next_one_have_it() {
        let room = Room::new(100);
        room.hold(100);
        let claimed = || Box::pin(room.claimed(|| None, || 1));
        let (mut first, mut second) = (claimed(), claimed());
        assert!(first.as_mut().now_or_never().is_none());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert!(
            second
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        room.free(50);
        assert!(!woken.0.load(Relaxed), "it is the turn of the first");
        drop(first);
        assert!(woken.0.load(Relaxed));
        assert!(second.now_or_never().is_some());
    }
}
