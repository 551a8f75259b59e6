//! Ctrl-C and termination: what must be undone is undone before the process ends.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell expects of a program that was interrupted.
const INTERRUPTED_STATUS: i32 = 130;

/// The child and the groups of processes to kill and the directory to remove when the run is interrupted. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct RemovedWhenInterrupted(Arc<Mutex<Removed>>);

#[derive(Debug, Default)]
struct Removed {
    child: Option<Arc<Mutex<Child>>>,
    groups: BTreeSet<u32>,
    directory: Option<PathBuf>,
}

impl RemovedWhenInterrupted {
    pub(super) fn set_child(&self, child: Option<Arc<Mutex<Child>>>) {
        self.lock().child = child;
    }

    /// The group of processes that this one leads is killed too: programs that start others.
    pub fn add_group(&self, leader: u32) {
        self.lock().groups.insert(leader);
    }

    /// All of that group have ended.
    pub fn remove_group(&self, leader: u32) {
        self.lock().groups.remove(&leader);
    }

    /// The directory to remove; `None` once it is gone.
    pub fn set_directory(&self, directory: Option<PathBuf>) {
        self.lock().directory = directory;
    }

    /// Kills the child, if there is one: whoever waits for it hears of it.
    pub fn kill_child(&self) {
        if let Some(child) = &self.lock().child {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            // Fails when it has ended, and that is what is wanted.
            let _ = child.kill();
        }
    }

    fn remove(&self) {
        let removed = self.lock();
        if let Some(child) = &removed.child {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            // The process is about to end: what fails now cannot be helped, and the kernel kills the child with its parent.
            let _ = child.kill();
            let _ = child.wait();
        }
        for &leader in &removed.groups {
            kill_group(leader);
        }
        if let Some(directory) = &removed.directory {
            let _ = std::fs::remove_dir_all(directory);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Removed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the program was asked to end. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// Whether it was.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// As if a signal had come.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }
}

/// Kills all processes of a group, which may have ended already.
pub fn kill_group(leader: u32) {
    if let Some(leader) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // Fails when there is none left.
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

/// From now on, SIGINT and SIGTERM end this process with status 130, after `removed` is.
///
/// # Errors
/// When signals cannot be watched.
pub fn end_when_interrupted(removed: RemovedWhenInterrupted) -> io::Result<()> {
    on_signals(move || end(&removed))
}

/// From now on, the first SIGINT or SIGTERM is told by the value that this gives, so that a result can still be made; the second ends this process as
/// [`end_when_interrupted`] does.
///
/// # Errors
/// When signals cannot be watched.
pub fn told_when_interrupted(removed: RemovedWhenInterrupted) -> io::Result<Interrupted> {
    let interrupted = Interrupted::default();
    let told = interrupted.clone();
    on_signals(move || {
        if told.is_set() {
            end(&removed);
        }
        told.set();
    })?;
    Ok(interrupted)
}

fn end(removed: &RemovedWhenInterrupted) -> ! {
    removed.remove();
    std::process::exit(INTERRUPTED_STATUS)
}

fn on_signals(mut act: impl FnMut() + Send + 'static) -> io::Result<()> {
    let (watching, watched) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let ready = || {
                let _ = watching.send(());
            };
            // An error drops `watching` before anything was said, which is the answer.
            let _ = wait_for_signals(ready, || {
                act();
                ControlFlow::Continue(())
            });
        })?;
    // Closed without a message: the thread could not watch.
    watched
        .recv()
        .map_err(|_| io::Error::other("signals cannot be watched"))
}

/// Waits for SIGTERM or SIGINT; calls `ready` once they no longer end the process.
pub(super) fn wait_for_signal(ready: impl FnOnce()) -> io::Result<()> {
    wait_for_signals(ready, || ControlFlow::Break(()))
}

/// The same for as many of them as `act` wants.
fn wait_for_signals(
    ready: impl FnOnce(),
    mut act: impl FnMut() -> ControlFlow<()>,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        ready();
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if act().is_break() {
                return Ok(());
            }
        }
    })
}
