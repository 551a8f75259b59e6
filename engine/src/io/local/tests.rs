#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn ready<F: Future>(future: Pin<&mut F>) -> bool {
    future
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

#[test]
fn a_notification_between_looking_and_waiting_is_not_lost() {
    let signal = Signal::new();
    let seen = signal.version();
    signal.notify_all();
    assert!(ready(pin!(signal.changed_since(seen))));
    assert!(!ready(pin!(signal.wait())));
}

#[test]
fn waiting_begins_at_the_call_and_not_at_the_first_poll() {
    let signal = Signal::new();
    let waiting = signal.wait();
    signal.notify_all();
    assert!(ready(pin!(waiting)));
}

#[test]
fn all_waiters_are_woken_once() {
    let signal = Signal::new();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut first = pin!(signal.wait());
    let mut second = pin!(signal.wait());
    for _ in 0..2 {
        let mut context = Context::from_waker(&waker);
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
    }
    signal.notify_all();
    signal.notify_all();
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert!(ready(first) && ready(second));
}

#[test]
fn a_dropped_waiter_of_a_signal_leaves_nothing_behind() {
    let signal = Signal::new();
    {
        let waiting = pin!(signal.wait());
        assert!(!ready(waiting));
        assert_eq!(signal.waiters.borrow().len(), 1);
    }
    assert_eq!(signal.waiters.borrow().len(), 0);
}

#[test]
fn a_small_request_does_not_overtake_a_large_one() {
    let semaphore = Semaphore::new(10);
    assert!(ready(pin!(semaphore.acquire(6))));
    let mut large = pin!(semaphore.acquire(8));
    let mut small = pin!(semaphore.acquire(1));
    assert!(!ready(large.as_mut()));
    assert!(!ready(small.as_mut()));
    assert!(!semaphore.try_acquire(1));
    semaphore.release(6);
    assert!(ready(small) && ready(large));
    assert_eq!(semaphore.available(), 1);
}

#[test]
fn a_request_above_the_capacity_takes_all_of_it() {
    let semaphore = Semaphore::new(10);
    assert!(ready(pin!(semaphore.acquire(1_000))));
    assert_eq!(semaphore.available(), 0);
    semaphore.release(1_000);
    assert_eq!(semaphore.available(), 10);
}

#[test]
fn a_cancelled_waiter_makes_way_for_those_behind_it() {
    let semaphore = Semaphore::new(10);
    assert!(semaphore.try_acquire(6));
    let mut large = Box::pin(semaphore.acquire(8));
    let mut small = pin!(semaphore.acquire(4));
    assert!(!ready(large.as_mut()));
    assert!(!ready(small.as_mut()));
    drop(large);
    assert!(ready(small));
}

#[test]
fn what_was_granted_to_a_cancelled_waiter_comes_back() {
    let semaphore = Semaphore::new(10);
    assert!(semaphore.try_acquire(10));
    let mut waiting = Box::pin(semaphore.acquire(8));
    assert!(!ready(waiting.as_mut()));
    semaphore.release(10);
    assert_eq!(semaphore.available(), 2);
    drop(waiting);
    assert_eq!(semaphore.available(), 10);
}

#[test]
#[should_panic(expected = "released more than was acquired")]
fn releasing_more_than_was_acquired_panics() {
    Semaphore::new(10).release(1);
}
