//! What an executor has begun outside of its tasks: operations of its ring, and work on other threads. It is counted to its end, and the executor
//! does not end before: a broker that has stopped must not go on unlinking files, nor the kernel on reading into memory that was given back.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use compio::BufResult;
use compio::driver::OpCode;
use compio::runtime::{Runtime, Submit, submit};
use slab::Slab;

use super::local::{Semaphore, Signal};
use super::uring_exec::{BLOCKING_THREADS, PanicPolicy};

/// Submits an operation on a file, and waits for it.
pub(super) async fn operate<T: OpCode + 'static>(operation: T) -> BufResult<usize, T> {
    let in_flight = IN_FLIGHT.with(Rc::clone);
    if in_flight.ending.get() {
        // The executor is about to end, and whoever asked with it.
        return std::future::pending().await;
    }
    in_flight.begin();
    let submitted = Rc::new(Submitted(RefCell::new(Some(Box::pin(submit(operation))))));
    let place = in_flight.operations.borrow_mut().insert(submitted.clone());
    Operation {
        submitted,
        place,
        in_flight,
    }
    .await
}

/// An operation that is seen to its end, even if nobody waits for it any more.
struct Operation<T: OpCode + 'static> {
    submitted: Rc<Submitted<T>>,
    /// Among those in flight; nobody else's until this is dropped.
    place: usize,
    in_flight: Rc<InFlight>,
}

/// `None` once it has ended, or once the executor sees to its end.
struct Submitted<T: OpCode + 'static>(RefCell<Option<Pin<Box<Submit<T>>>>>);

impl<T: OpCode + 'static> Future for Operation<T> {
    type Output = BufResult<usize, T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut submitted = self.submitted.0.borrow_mut();
        let Some(running) = submitted.as_mut() else {
            // The executor is about to end, and whoever waits here with it.
            return Poll::Pending;
        };
        let result = std::task::ready!(running.as_mut().poll(context));
        *submitted = None;
        self.in_flight.end();
        Poll::Ready(result)
    }
}

impl<T: OpCode + 'static> Drop for Operation<T> {
    fn drop(&mut self) {
        // An executor that is gone has nothing to keep account of.
        self.in_flight
            .operations
            .borrow_mut()
            .try_remove(self.place);
        self.submitted.see_to_its_end(&self.in_flight);
    }
}

/// What can be waited for in the place of whoever began it.
trait SeenToItsEnd {
    fn see_to_its_end(&self, in_flight: &Rc<InFlight>);
}

impl<T: OpCode + 'static> SeenToItsEnd for Submitted<T> {
    fn see_to_its_end(&self, in_flight: &Rc<InFlight>) {
        let Some(submitted) = self.0.borrow_mut().take() else {
            return;
        };
        let in_flight = in_flight.clone();
        match Runtime::try_current() {
            Some(runtime) if !std::thread::panicking() => runtime
                .spawn(async move {
                    drop(submitted.await);
                    in_flight.end();
                })
                .detach(),
            // Without its executor nobody can tell when it ends: its memory is left to it.
            _ => std::mem::forget(submitted),
        }
    }
}

/// Runs what would block off the shard. What has begun is seen to its end, even if nobody waits for it any more.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let in_flight = IN_FLIGHT.with(Rc::clone);
    if in_flight.ending.get() {
        return std::future::pending().await;
    }
    in_flight.begin();
    let (done, result) = flume::bounded(1);
    let panics = PanicPolicy::of_this_thread();
    // A task of its own: whoever asks may stop waiting, and the work is to be counted to its end.
    compio::runtime::spawn(async move {
        // IMPORTANT: the runtime has the thread of the shard itself spin for a free one of its pool. Who is too many waits here instead.
        in_flight.threads.acquire(1).await;
        let result = compio::runtime::spawn_blocking(move || {
            panics.adopt();
            work()
        })
        .await;
        in_flight.threads.release(1);
        in_flight.end();
        let _ = done.send(result);
    })
    .detach();
    match result.recv_async().await {
        Ok(Ok(result)) => result,
        // A panic has ended the process, unless the executor was told otherwise.
        Ok(Err(_)) | Err(_) => Err(io::Error::other("the executor is ending")),
    }
}

/// Waits until nothing is under way on this executor, and lets nothing begin any more.
pub(super) async fn end_all() {
    let in_flight = IN_FLIGHT.with(Rc::clone);
    in_flight.ending.set(true);
    // IMPORTANT: not all of them are looked at by somebody who would notice that they have ended. What was read ahead waits in a cache for a reader that
    // may never come, and a task that waits for something else keeps the cache.
    let operations = std::mem::take(&mut *in_flight.operations.borrow_mut());
    for (_, operation) in operations {
        operation.see_to_its_end(&in_flight);
    }
    loop {
        let seen = in_flight.changed.version();
        if in_flight.count.get() == 0 {
            return;
        }
        in_flight.changed.changed_since(seen).await;
    }
}

/// What is under way on the executor of this thread.
struct InFlight {
    count: Cell<usize>,
    /// Those of the ring; empty from the moment the executor is ending.
    operations: RefCell<Slab<Rc<dyn SeenToItsEnd>>>,
    /// The threads of its pool.
    threads: Semaphore,
    ending: Cell<bool>,
    changed: Signal,
}

impl InFlight {
    fn begin(&self) {
        self.count.set(self.count.get() + 1);
    }

    fn end(&self) {
        self.count.set(self.count.get() - 1);
        if self.ending.get() {
            self.changed.notify_all();
        }
    }
}

thread_local! {
    static IN_FLIGHT: Rc<InFlight> = Rc::new(InFlight {
        count: Cell::new(0),
        operations: RefCell::default(),
        threads: Semaphore::new(BLOCKING_THREADS),
        ending: Cell::new(false),
        changed: Signal::new(),
    });
}
