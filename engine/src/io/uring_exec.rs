//! Executors: one thread, one ring, one shard.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::io::Write as _;
use std::pin::pin;
use std::sync::{Once, mpsc};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use compio::driver::ProactorBuilder;
use compio::runtime::{JoinError, Runtime, RuntimeBuilder};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::uring_work::end_all;

/// What the process exits with after a shard panicked (`EX_SOFTWARE` of sysexits).
pub const SHARD_PANIC_EXIT_STATUS: i32 = 70;

/// How to start an executor.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// The thread's name.
    pub name: String,
    /// The core it is pinned to; `None` leaves it to the kernel.
    pub core: Option<usize>,
    /// How long to look for work before the thread sleeps. Trades CPU for latency; `None` sleeps at once.
    pub spin_before_park: Option<Duration>,
    /// Whether a panic of any task ends the process with [`SHARD_PANIC_EXIT_STATUS`]: a shard whose state is suspect
    /// must not go on, nor may the others without it. When `false`, the panic ends the executor and comes out of
    /// [`ExecutorHandle::join`].
    pub panic_stops_process: bool,
}

impl ExecutorConfig {
    /// The defaults: not pinned, no spinning, a panic stops the process.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            core: None,
            spin_before_park: None,
            panic_stops_process: true,
        }
    }
}

/// A running executor.
#[derive(Debug)]
pub struct ExecutorHandle<T> {
    /// `None` when the executor could not be made; then there is no handle either.
    thread: JoinHandle<Option<T>>,
}

impl<T> ExecutorHandle<T> {
    /// Waits until its main future has ended.
    ///
    /// # Errors
    /// The payload of a panic.
    pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
        match self.thread.join()? {
            Some(output) => Ok(output),
            None => unreachable!("a handle is given out only once the executor was made"),
        }
    }

    /// Whether its main future has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts a thread with an executor that runs the future of `body` to its end; tasks it leaves behind are dropped then.
/// Run the preflight first: it says in a sentence why io_uring cannot be used.
///
/// # Errors
/// When the thread or its rings cannot be made.
pub fn start_executor<B, F, T>(config: ExecutorConfig, body: B) -> io::Result<ExecutorHandle<T>>
where
    B: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    install_panic_hook();
    let (made, started) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(config.name.clone())
        .spawn(move || {
            PANIC_STOPS_PROCESS.set(config.panic_stops_process);
            let executor = match make(&config) {
                Ok(executor) => {
                    // The starter waits for nothing else; it cannot be gone.
                    let _ = made.send(Ok(()));
                    executor
                }
                Err(error) => {
                    let _ = made.send(Err(error));
                    return None;
                }
            };
            let output = run(
                &executor,
                async move {
                    let output = body().await;
                    end_all().await;
                    output
                },
                config.spin_before_park,
            );
            Some(output)
        })?;
    match started.recv() {
        Ok(Ok(())) => Ok(ExecutorHandle { thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other(
            "the executor's thread ended before it had started",
        )),
    }
}

/// Runs `body` to its end. One turn: the tasks that are ready, then one system call that submits what they asked for and waits for what comes.
fn run<F>(runtime: &Runtime, body: F, spin_before_park: Option<Duration>) -> F::Output
where
    F: Future + 'static,
    F::Output: 'static,
{
    runtime.enter(|| {
        let mut body = pin!(compio::runtime::spawn(body));
        let waker = runtime.waker();
        let mut context = Context::from_waker(&waker);
        let mut idle_since: Option<Instant> = None;
        loop {
            let tasks_left = runtime.run();
            match body.as_mut().poll(&mut context) {
                Poll::Ready(Ok(output)) => return output,
                Poll::Ready(Err(JoinError::Panicked(panic))) => std::panic::resume_unwind(panic),
                Poll::Ready(Err(JoinError::Cancelled)) => unreachable!("nothing cancels it"),
                Poll::Pending => {}
            }
            assert!(
                !TASK_PANICKED.get(),
                "a task of this executor panicked; its own message was printed before"
            );
            let spins = match (spin_before_park, tasks_left) {
                (None, _) | (_, true) => {
                    idle_since = None;
                    tasks_left
                }
                (Some(spin), false) => idle_since.get_or_insert_with(Instant::now).elapsed() < spin,
            };
            if spins {
                runtime.poll_with(Some(Duration::ZERO));
            } else {
                runtime.poll();
                idle_since = None;
            }
        }
    })
}

/// Pins the calling thread.
fn pin_to(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

fn make(config: &ExecutorConfig) -> io::Result<Runtime> {
    let mut builder = RuntimeBuilder::new();
    if let Some(core) = config.core {
        pin_to(core)?;
    }
    let mut proactor = ProactorBuilder::new();
    proactor
        .capacity(RING_ENTRIES)
        .thread_pool_limit(BLOCKING_THREADS);
    // What the kernel completes is handed over when the thread asks for it, instead of by interrupting it: since Linux 6.1.
    let mut fitting = proactor.clone();
    fitting
        .single_issuer(true)
        .defer_taskrun(true)
        .taskrun_flag(true);
    builder.sync_queue_size(FOREIGN_WAKES_MAX);
    builder
        .with_proactor(fitting)
        .build()
        .or_else(|_| builder.with_proactor(proactor).build())
}

thread_local! {
    static PANIC_STOPS_PROCESS: Cell<bool> = const { Cell::new(false) };
    static TASK_PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// What a panic leads to, handed on to the threads that work for an executor.
#[derive(Clone, Copy)]
pub(super) struct PanicPolicy {
    stops_process: bool,
}

impl PanicPolicy {
    /// The calling thread's.
    pub(super) fn of_this_thread() -> Self {
        Self {
            stops_process: PANIC_STOPS_PROCESS.get(),
        }
    }

    /// Makes it the calling thread's.
    pub(super) fn adopt(self) {
        PANIC_STOPS_PROCESS.set(self.stops_process);
    }
}

/// compio catches the panic of a task, and everything else would go on half alive. So the process ends while the message is being
/// printed, before anything unwinds.
fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            earlier(info);
            let _ = TASK_PANICKED.try_with(|panicked| panicked.set(true));
            if PANIC_STOPS_PROCESS.try_with(Cell::get).unwrap_or(false) {
                let thread = std::thread::current();
                let name = thread.name().unwrap_or("without a name");
                // Not eprintln: it panics where the standard error is closed, and this is a panic already.
                let _ = writeln!(
                    std::io::stderr(),
                    "gannet: shard {name} panicked; stopping, since what it holds in memory can no longer be trusted. \
                     What was acknowledged is on the disk."
                );
                std::process::exit(SHARD_PANIC_EXIT_STATUS);
            }
        }));
    });
}

const RING_ENTRIES: u32 = 1024;
/// Directory operations must not wait for the very core that waits for them, nor for each other for long.
pub(super) const BLOCKING_THREADS: usize = 4;
/// Wakes from other threads that wait for a turn; beyond it a waking thread waits.
const FOREIGN_WAKES_MAX: usize = 1024;
