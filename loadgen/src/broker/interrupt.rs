//! Ctrl-C and termination: what must be undone is undone before the process ends.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::Child;
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
    let (watching, watched) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let ended = wait_for_signal(|| {
                let _ = watching.send(());
            });
            if ended.is_ok() {
                removed.remove();
                std::process::exit(INTERRUPTED_STATUS);
            }
        })?;
    // Closed without a message: the thread could not watch.
    watched
        .recv()
        .map_err(|_| io::Error::other("signals cannot be watched"))
}

/// Waits for SIGTERM or SIGINT; calls `ready` once they no longer end the process.
pub(super) fn wait_for_signal(ready: impl FnOnce()) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        ready();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
