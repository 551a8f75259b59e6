//! Executors: one thread, one ring, one shard.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::io::Write as _;
use std::sync::{Once, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use super::uring::{end_blocking, plain_error};

/// What the process exits with after a shard panicked (`EX_SOFTWARE` of sysexits).
pub const SHARD_PANIC_EXIT_STATUS: i32 = 70;

/// How to start an executor.
#[derive(Clone, Debug)]
pub struct ExecutorConfig {
    /// The thread's name.
    pub name: String,
    /// The core it is pinned to; `None` leaves it to the kernel.
    pub core: Option<usize>,
    /// Memory registered with the ring, from which small reads are served. It is locked three times over, and an ordinary
    /// user has 8 MiB of locked memory for all executors together; too much falls back in silence to memory that is not
    /// registered. At least 64 KiB.
    pub io_memory_bytes: usize,
    /// How long to look for work before the thread sleeps. Trades CPU for latency; `None` sleeps at once.
    pub spin_before_park: Option<Duration>,
    /// Whether a panic of any task ends the process with [`SHARD_PANIC_EXIT_STATUS`]: a shard whose state is suspect
    /// must not go on, nor may the others without it. When `false`, the panic ends the executor and comes out of
    /// [`ExecutorHandle::join`].
    pub panic_stops_process: bool,
}

impl ExecutorConfig {
    /// The defaults: not pinned, no spinning, 128 KiB of registered memory, a panic stops the process.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            core: None,
            io_memory_bytes: 128 * 1024,
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
/// Run the preflight first: where io_uring is blocked, glommio panics or exits.
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
            let output = executor.run(async move {
                for heartbeat in 0..HEARTBEATS {
                    glommio::spawn_local(beat(heartbeat)).detach();
                }
                let output = body().await;
                end_blocking().await;
                output
            });
            // Once more round the ring, so that files that were dropped are closed.
            executor.run(async {});
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

fn make(config: &ExecutorConfig) -> io::Result<LocalExecutor> {
    let placement = config.core.map_or(Placement::Unbound, Placement::Fixed);
    let mut builder = LocalExecutorBuilder::new(placement)
        .name(&config.name)
        .io_memory(config.io_memory_bytes)
        // Directory operations must not wait for the very core that waits for them.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS));
    if let Some(spin) = config.spin_before_park {
        builder = builder.spin_before_park(spin);
    }
    builder.make().map_err(plain_error)
}

/// Wakes the executor now and then.
///
/// glommio 0.9.0 may park while tasks are ready to run: when another thread's wake arrives between the moment it looked for
/// events and the moment it would run the first task, `run_task_queues` says that it ran nothing, which `run` takes for
/// "nothing to run" (mended upstream since, <https://github.com/glommio/glommio/pull/53>, and not released). Whatever wakes
/// it next runs those tasks as well; on a quiet shard that might be never. There are two of these, half a period apart,
/// because one of them may be among the tasks that wait.
async fn beat(heartbeat: u32) {
    glommio::timer::sleep(HEARTBEAT_PERIOD * heartbeat / HEARTBEATS).await;
    loop {
        glommio::timer::sleep(HEARTBEAT_PERIOD).await;
    }
}

thread_local! {
    static PANIC_STOPS_PROCESS: Cell<bool> = const { Cell::new(false) };
}

/// glommio lets a panic of any task unwind through its executor, which ends that thread alone: the others would go on
/// half alive. So the process ends while the message is being printed, before anything unwinds.
fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            earlier(info);
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

const BLOCKING_THREADS: usize = 1;
const HEARTBEATS: u32 = 2;
const HEARTBEAT_PERIOD: Duration = Duration::from_millis(50);
