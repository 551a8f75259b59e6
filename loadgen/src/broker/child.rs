//! The parent's side: starts the child, kills it, stops it, reads what it used.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::interrupt::RemovedWhenInterrupted;
use super::{BrokerSettings, HOST_COMMAND, LISTENING};
use crate::usage::{ProcessUsage, disk_read_bytes};

/// How long a broker may take to end after it was asked to.
const STOP_MAX: Duration = Duration::from_secs(30);
const STOP_POLL: Duration = Duration::from_millis(10);
/// The last lines of the broker's log that an error repeats.
const LOG_LINES: usize = 12;

/// What went wrong with the broker of this run.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The operating system's refusal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
    /// It ended before it served.
    #[error("the broker did not start ({status}):\n{log}")]
    NotStarted {
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// It ended while in use.
    #[error("the broker ended during the run ({status}):\n{log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// It did not stop cleanly.
    #[error("the broker did not stop cleanly ({status}):\n{log}")]
    NotStopped {
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> BrokerError {
    move |source| BrokerError::Io { what, source }
}

/// A broker in a child process. It ends with this value, and with the thread that started it.
#[derive(Debug)]
pub struct OwnBroker {
    child: Arc<Mutex<Child>>,
    pid: u32,
    address: SocketAddr,
    data_dir: PathBuf,
    log_path: PathBuf,
    settings: BrokerSettings,
    removed: RemovedWhenInterrupted,
}

impl OwnBroker {
    /// Starts a broker with its data and its log in `directory`.
    ///
    /// The kernel kills the child when the *thread* that called this ends, so call it from one that lasts.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub fn start(
        directory: &Path,
        settings: BrokerSettings,
        removed: RemovedWhenInterrupted,
    ) -> Result<Self, BrokerError> {
        let data_dir = directory.join("data");
        fs::create_dir_all(&data_dir).map_err(io_error("making the data directory"))?;
        let log_path = directory.join("broker.log");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (child, address) = spawn(&data_dir, &log_path, listen, &settings)?;
        let pid = child.id();
        let child = Arc::new(Mutex::new(child));
        removed.set_child(Some(child.clone()));
        Ok(Self {
            child,
            pid,
            address,
            data_dir,
            log_path,
            settings,
            removed,
        })
    }

    /// Where it serves; the same after [`OwnBroker::start_again`].
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> io::Result<ProcessUsage> {
        ProcessUsage::of(self.pid)
    }

    /// What this process of it has made the disk read so far.
    ///
    /// # Errors
    /// When it is gone, or the kernel does not count it.
    pub fn disk_read_bytes(&self) -> io::Result<u64> {
        disk_read_bytes(self.pid)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// [`BrokerError::Ended`] when it does not.
    pub fn check(&self) -> Result<(), BrokerError> {
        match self
            .lock()
            .try_wait()
            .map_err(io_error("asking for the broker's state"))?
        {
            None => Ok(()),
            Some(status) => Err(BrokerError::Ended {
                status,
                log: self.log_end(),
            }),
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it had ended already.
    pub fn kill(&self) -> Result<(), BrokerError> {
        self.check()?;
        let mut child = self.lock();
        child.kill().map_err(io_error("killing the broker"))?;
        child
            .wait()
            .map_err(io_error("waiting for the killed broker"))?;
        Ok(())
    }

    /// Starts it again on the same directory and address, after [`OwnBroker::kill`].
    ///
    /// # Errors
    /// [`BrokerError`].
    pub fn start_again(&mut self) -> Result<(), BrokerError> {
        let (child, address) = spawn(&self.data_dir, &self.log_path, self.address, &self.settings)?;
        self.pid = child.id();
        self.address = address;
        *self.lock() = child;
        Ok(())
    }

    /// Asks it to stop and waits for it.
    ///
    /// # Errors
    /// [`BrokerError::NotStopped`] when it does not end in time or not with success.
    pub fn stop(self) -> Result<(), BrokerError> {
        self.check()?;
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)
                .map_err(|errno| io_error("asking the broker to stop")(errno.into()))?;
        }
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if let Some(status) = self
                .lock()
                .try_wait()
                .map_err(io_error("waiting for the broker"))?
            {
                if status.success() {
                    return Ok(());
                }
                return Err(BrokerError::NotStopped {
                    status: status.to_string(),
                    log: self.log_end(),
                });
            }
            std::thread::sleep(STOP_POLL);
        }
        Err(BrokerError::NotStopped {
            status: format!("not within {STOP_MAX:?}"),
            log: self.log_end(),
        })
    }

    /// Lines of the broker's log at level ERROR: there should be none.
    #[must_use]
    pub fn logged_errors(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log_path).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains("ERROR") || line.contains("panicked at"))
            .map(str::to_owned)
            .collect()
    }

    fn log_end(&self) -> String {
        log_end(&self.log_path)
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        let mut child = self.lock();
        // Fails when it has ended, as it has after a clean stop.
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        self.removed.set_child(None);
    }
}

fn spawn(
    data_dir: &Path,
    log_path: &Path,
    listen: SocketAddr,
    settings: &BrokerSettings,
) -> Result<(Child, SocketAddr), BrokerError> {
    let program = std::env::current_exe()
        .map_err(io_error("finding this program, to run it as the broker"))?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_path)
        .map_err(io_error("opening the broker's log"))?;
    let mut command = Command::new(program);
    command
        .arg(HOST_COMMAND)
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--listen", &listen.to_string()])
        .args(["--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C on the terminal goes to the parent alone, which ends the child.
        .process_group(0);
    if let Some(shards) = settings.shards {
        command.args(["--shards", &shards.to_string()]);
    }
    if let Some(config) = &settings.config {
        command.arg("--config").arg(config);
    }
    let mut child = command.spawn().map_err(io_error("starting the broker"))?;
    match read_address(&mut child) {
        Some(address) => Ok((child, address)),
        None => {
            let _ = child.kill();
            let status = child
                .wait()
                .map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(BrokerError::NotStarted {
                status,
                log: log_end(log_path),
            })
        }
    }
}

/// The address the child prints once it serves. `None` when it ends instead.
fn read_address(child: &mut Child) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?)
        .read_line(&mut line)
        .ok()?;
    parse_listening(&line)
}

fn parse_listening(line: &str) -> Option<SocketAddr> {
    line.strip_prefix(LISTENING)?.trim_end().parse().ok()
}

fn log_end(log_path: &Path) -> String {
    let log = fs::read_to_string(log_path).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_childs_line_gives_its_address() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7470));
        assert_eq!(
            parse_listening(&format!("{LISTENING}{address}\n")),
            Some(address)
        );
        assert_eq!(parse_listening("thread main panicked\n"), None);
    }
}
