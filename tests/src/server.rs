//! A running `gannet serve`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::program::{PATIENCE, gannet, wait};

/// A running `gannet serve`. Dropping it kills it; an ERROR line in its log that was not expected fails the test then.
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    expected_errors: Vec<&'static str>,
}

impl Server {
    /// Starts a server on a free port and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(data_dir: &Path, shards: u16) -> Self {
        Self::run(serve(data_dir, shards))
    }

    /// The same with configuration of its own, as `key=value`.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn start_with(data_dir: &Path, shards: u16, settings: &[&str]) -> Self {
        let mut command = serve(data_dir, shards);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Self::run(command)
    }

    /// Starts a server where one listened before, so that its clients find it again.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn start_at(data_dir: &Path, shards: u16, address: SocketAddr) -> Self {
        let mut command = serve(data_dir, shards);
        command.env("GANNET_LISTEN", address.to_string());
        Self::run(command)
    }

    /// Runs what [`serve`] made, perhaps with changes.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn run(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gannet can be started");
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (serving, served) = mpsc::channel();
        let reader = std::thread::spawn({
            let log = log.clone();
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let starts = line.contains("serving address=").then(|| line.clone());
                    locked(&log).push(line);
                    if let Some(line) = starts {
                        let _ = serving.send(line);
                    }
                }
            }
        });
        let Ok(line) = served.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            let _ = child.wait();
            let _ = reader.join();
            panic!("the server does not serve; its log: {:#?}", locked(&log));
        };
        let address = line
            .split("address=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|address| address.parse().ok())
            .expect("the line names an address");
        Self {
            child,
            address,
            log,
            reader: Some(reader),
            expected_errors: Vec::new(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        locked(&self.log).clone()
    }

    /// Lines of its log so far that contain `text`.
    #[must_use]
    pub fn log_with(&self, text: &str) -> Vec<String> {
        self.log()
            .into_iter()
            .filter(|line| line.contains(text))
            .collect()
    }

    /// ERROR lines that contain `text` do not fail the test.
    pub fn expect_error(&mut self, text: &'static str) {
        self.expected_errors.push(text);
    }

    /// The most memory it ever held, in bytes.
    ///
    /// # Panics
    /// When it runs no more.
    #[must_use]
    pub fn memory_peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("a running process has a status");
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .expect("the status of a process tells its memory")
    }

    /// Descriptors it holds open.
    ///
    /// # Panics
    /// When it runs no more.
    #[must_use]
    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("a running process has descriptors")
            .count()
    }

    /// The sockets among them, by what the kernel calls each.
    ///
    /// # Panics
    /// When it runs no more.
    #[must_use]
    pub fn open_sockets(&self) -> BTreeSet<String> {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("a running process has descriptors")
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .filter(|target| target.starts_with("socket:"))
            .collect()
    }

    /// Lowers or raises how many descriptors it may have.
    ///
    /// # Panics
    /// When it runs no more.
    pub fn limit_descriptors(&self, descriptors_max: u64) {
        let limit = rustix::process::Rlimit {
            current: Some(descriptors_max),
            maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
        };
        rustix::process::prlimit(
            Some(Pid::from_child(&self.child)),
            rustix::process::Resource::Nofile,
            limit,
        )
        .expect("a running process can be limited");
    }

    /// One more than its highest open descriptor.
    ///
    /// # Panics
    /// When it runs no more.
    #[must_use]
    pub fn descriptors_end(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .expect("a running process has descriptors")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
            .max()
            .map_or(0, |highest| highest + 1)
    }

    /// SIGSTOP: it stands still.
    ///
    /// # Panics
    /// When it runs no more.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    ///
    /// # Panics
    /// When it runs no more.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9`: no warning.
    pub fn kill(mut self) {
        self.child.kill().expect("a running process can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait(&mut self.child)
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn ended(&mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        // What it said last counts too.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .expect("a running process can be signalled");
    }
}

impl Drop for Server {
    #[allow(
        clippy::disallowed_macros,
        reason = "only this way the test framework keeps it with its test"
    )]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What it said last counts too.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if !std::thread::panicking() {
            let errors: Vec<String> = self
                .log()
                .into_iter()
                .filter(|line| line.contains(" ERROR ") || line.contains("panicked"))
                .filter(|line| !self.expected_errors.iter().any(|text| line.contains(text)))
                .collect();
            assert!(
                errors.is_empty(),
                "the server's log has errors: {errors:#?}"
            );
        } else {
            eprintln!("the server's log: {:#?}", self.log());
        }
    }
}

/// `gannet serve` on a free port of loopback, or on the one that `GANNET_LISTEN` is set to.
#[must_use]
pub fn serve(data_dir: &Path, shards: u16) -> Command {
    let mut command = Command::new(gannet());
    command
        .args(["serve", "--shards"])
        .arg(shards.to_string())
        // Small machines run the tests: shards may share a core.
        .args(["--set", "runtime.pin=false"])
        .arg("--data-dir")
        .arg(data_dir)
        .env("GANNET_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn locked(log: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
