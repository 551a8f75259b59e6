//! Waiting and rationing among the tasks of one thread, whatever executor runs them.
//!
//! Nothing here is `Send`. A waiter that is dropped before its turn leaves the queue and gives back what it was granted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

#[cfg(test)]
mod tests;

/// Wakes every waiter, and remembers by a version that it did, so that no wake-up is lost.
///
/// The pattern for a condition that other tasks change:
/// ```ignore
/// loop {
///     let seen = signal.version();
///     if condition() { break; }
///     signal.changed_since(seen).await;
/// }
/// ```
#[derive(Default)]
pub struct Signal {
    version: Cell<u64>,
    next_waiter: Cell<u64>,
    waiters: RefCell<BTreeMap<u64, Waker>>,
}

impl Signal {
    /// A signal that was never notified.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the version and wakes all who wait now.
    pub fn notify_all(&self) {
        self.version.set(self.version.get() + 1);
        // Taken out first: a waker may run code that waits or notifies again.
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waker in waiters.into_values() {
            waker.wake();
        }
    }

    /// How often [`Signal::notify_all`] was called.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.get()
    }

    /// Ready as soon as the version differs from `seen`, at once if it already does.
    pub fn changed_since(&self, seen: u64) -> Changed<'_> {
        Changed {
            signal: self,
            seen,
            waiter: None,
        }
    }

    /// Ready at the first notification after this call (not after its first poll).
    pub fn wait(&self) -> Changed<'_> {
        self.changed_since(self.version())
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal")
            .field("version", &self.version.get())
            .field("waiters", &self.waiters.borrow().len())
            .finish()
    }
}

/// The future of [`Signal::changed_since`].
#[must_use = "does nothing unless awaited"]
#[derive(Debug)]
pub struct Changed<'a> {
    signal: &'a Signal,
    seen: u64,
    waiter: Option<u64>,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.signal.version() != self.seen {
            return Poll::Ready(());
        }
        let waiter = self.waiter.unwrap_or_else(|| {
            let waiter = self.signal.next_waiter.get();
            self.signal.next_waiter.set(waiter + 1);
            waiter
        });
        self.waiter = Some(waiter);
        self.signal
            .waiters
            .borrow_mut()
            .insert(waiter, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.signal.waiters.borrow_mut().remove(&waiter);
        }
    }
}

/// A budget of bytes (or of anything that is counted), granted strictly first come, first served.
///
/// A request above the capacity is clamped to it, and so is its release: it waits until everything is free.
pub struct Semaphore {
    capacity: usize,
    available: Cell<usize>,
    next_waiter: Cell<u64>,
    /// By their numbers, which rise: in the order in which they came.
    queue: RefCell<BTreeMap<u64, Waiter>>,
}

struct Waiter {
    wanted: usize,
    granted: bool,
    waker: Waker,
}

impl Semaphore {
    /// A semaphore with all of `capacity` free.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            available: Cell::new(capacity),
            next_waiter: Cell::new(0),
            queue: RefCell::default(),
        }
    }

    /// All there is.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// What nobody holds now.
    #[must_use]
    pub fn available(&self) -> usize {
        self.available.get()
    }

    /// Takes `wanted`, waiting behind all who came earlier. Give it back by [`Semaphore::release`] with the same number.
    pub fn acquire(&self, wanted: usize) -> Acquire<'_> {
        Acquire {
            semaphore: self,
            wanted: wanted.min(self.capacity),
            state: AcquireState::New,
        }
    }

    /// Takes `wanted` if that needs no waiting.
    #[must_use]
    pub fn try_acquire(&self, wanted: usize) -> bool {
        let wanted = wanted.min(self.capacity);
        let may = self.available.get() >= wanted && self.queue.borrow().is_empty();
        if may {
            self.available.set(self.available.get() - wanted);
        }
        may
    }

    /// Gives back what [`Semaphore::acquire`] took.
    ///
    /// # Panics
    /// When more is given back than was taken.
    pub fn release(&self, held: usize) {
        let available = self.available.get() + held.min(self.capacity);
        assert!(
            available <= self.capacity,
            "released more than was acquired"
        );
        self.available.set(available);
        self.grant();
    }

    fn grant(&self) {
        let mut woken = Vec::new();
        for waiter in self
            .queue
            .borrow_mut()
            .values_mut()
            .skip_while(|waiter| waiter.granted)
        {
            if waiter.wanted > self.available.get() {
                break;
            }
            self.available.set(self.available.get() - waiter.wanted);
            waiter.granted = true;
            woken.push(waiter.waker.clone());
        }
        for waker in woken {
            waker.wake();
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("capacity", &self.capacity)
            .field("available", &self.available.get())
            .field("waiters", &self.queue.borrow().len())
            .finish()
    }
}

/// The future of [`Semaphore::acquire`].
#[must_use = "does nothing unless awaited"]
#[derive(Debug)]
pub struct Acquire<'a> {
    semaphore: &'a Semaphore,
    wanted: usize,
    state: AcquireState,
}

#[derive(Debug)]
enum AcquireState {
    New,
    Queued(u64),
    /// Handed to the caller, who releases it.
    Taken,
}

impl Future for Acquire<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.state {
            AcquireState::New => {
                if self.semaphore.try_acquire(self.wanted) {
                    self.state = AcquireState::Taken;
                    return Poll::Ready(());
                }
                let id = self.semaphore.next_waiter.get();
                self.semaphore.next_waiter.set(id + 1);
                let waiter = Waiter {
                    wanted: self.wanted,
                    granted: false,
                    waker: context.waker().clone(),
                };
                self.semaphore.queue.borrow_mut().insert(id, waiter);
                self.state = AcquireState::Queued(id);
                Poll::Pending
            }
            AcquireState::Queued(id) => {
                let mut queue = self.semaphore.queue.borrow_mut();
                let Some(waiter) = queue.get_mut(&id) else {
                    unreachable!("only its own future takes a waiter out of the queue")
                };
                if waiter.granted {
                    queue.remove(&id);
                    drop(queue);
                    self.state = AcquireState::Taken;
                    Poll::Ready(())
                } else {
                    waiter.waker.clone_from(context.waker());
                    Poll::Pending
                }
            }
            AcquireState::Taken => Poll::Ready(()),
        }
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let AcquireState::Queued(id) = self.state else {
            return;
        };
        let waiter = self.semaphore.queue.borrow_mut().remove(&id);
        if waiter.is_some_and(|waiter| waiter.granted) {
            self.semaphore.release(self.wanted);
        } else {
            // It may have been the large one at the head that smaller ones waited behind.
            self.semaphore.grant();
        }
    }
}

/// Lets the other tasks of this thread run once.
pub async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
