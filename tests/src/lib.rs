//! End-to-end tests of Gannet: a harness that starts the real program, and takes it down in every way there is.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::time::Duration;

/// How long a server may take to serve, or a command to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program `gannet` of this build; made if it is missing.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn gannet() -> PathBuf {
    static BUILT: Once = Once::new();
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/<profile>/deps/<test>
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("tests lie in target/<profile>/deps");
    let program = profile.join("gannet");
    BUILT.call_once(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--locked",
            "-p",
            "gannet-engine",
            "--bin",
            "gannet",
        ]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        if let Some(target) = profile.parent() {
            build.env("CARGO_TARGET_DIR", target);
        }
        let built = build.status().expect("cargo can be run");
        assert!(built.success(), "gannet cannot be built");
    });
    program
}

/// A temporary directory on the disk that the build lies on, removed at its end.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn data_dir() -> tempfile::TempDir {
    let program = gannet();
    let target = program.parent().expect("a program lies in a directory");
    tempfile::Builder::new()
        .prefix("gannet-test-")
        .tempdir_in(target)
        .expect("the build's directory can be written to")
}

/// A running `gannet serve`. Dropping it kills it; an ERROR line in its log fails the test then.
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(data_dir: &Path, shards: u16) -> Self {
        let mut child = serve(data_dir, shards)
            .stderr(Stdio::piped())
            .spawn()
            .expect("gannet can be started");
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (serving, served) = mpsc::channel();
        std::thread::spawn({
            let log = log.clone();
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if line.contains("serving address=") {
                        let _ = serving.send(line.clone());
                    }
                    log.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(line);
                }
            }
        });
        let Ok(line) = served.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the server does not serve; its log: {log:#?}");
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
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("a running process can be signalled");
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let errors: Vec<String> = self
                .log()
                .into_iter()
                .filter(|line| line.contains(" ERROR ") || line.contains("panicked"))
                .collect();
            assert!(
                errors.is_empty(),
                "the server's log has errors: {errors:#?}"
            );
        }
    }
}

/// `gannet serve` on a free port of loopback.
#[must_use]
pub fn serve(data_dir: &Path, shards: u16) -> Command {
    let mut command = Command::new(gannet());
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--shards"])
        .arg(shards.to_string())
        // Small machines run the tests: shards may share a core.
        .args(["--set", "runtime.pin=false"])
        .arg("--data-dir")
        .arg(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Runs a client command with `input` on its standard input.
///
/// # Panics
/// When it cannot be run.
#[must_use]
pub fn client(server: SocketAddr, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(gannet())
        .args(arguments)
        .env("GANNET_SERVER", server.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gannet can be started");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that ends early says so by its status.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("a child can be waited for");
    let _ = writer.join();
    output
}

/// Runs a command that is expected to end by itself; returns its status and what it said.
///
/// # Panics
/// When it does not end.
#[must_use]
pub fn ends(mut command: Command) -> (ExitStatus, String) {
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command can be started");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        said
    });
    let status = wait(&mut child);
    (status, reader.join().unwrap_or_default())
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if std::time::Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the process did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
