//! What an executor has begun outside of its tasks: operations of its ring, and work on other threads. It is counted to its end, and the executor
//! does not end before: a broker that has stopped must not go on unlinking files, nor the kernel on reading into memory that was given back.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use compio::BufResult;
use compio::driver::OpCode;
use compio::runtime::{Runtime, Submit, submit};

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
    Operation {
        submitted: Some(Box::pin(submit(operation))),
        in_flight,
    }
    .await
}

/// An operation that is seen to its end, even if nobody waits for it any more.
struct Operation<T: OpCode + 'static> {
    /// `None` once it has ended.
    submitted: Option<Pin<Box<Submit<T>>>>,
    in_flight: Rc<InFlight>,
}

impl<T: OpCode + 'static> Future for Operation<T> {
    type Output = BufResult<usize, T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(submitted) = &mut self.submitted else {
            unreachable!("a future is not polled after its end")
        };
        let result = std::task::ready!(submitted.as_mut().poll(context));
        self.submitted = None;
        self.in_flight.end();
        Poll::Ready(result)
    }
}

impl<T: OpCode + 'static> Drop for Operation<T> {
    fn drop(&mut self) {
        let Some(submitted) = self.submitted.take() else {
            return;
        };
        let in_flight = self.in_flight.clone();
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
        threads: Semaphore::new(BLOCKING_THREADS),
        ending: Cell::new(false),
        changed: Signal::new(),
    });
}
