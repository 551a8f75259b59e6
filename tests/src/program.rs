//! The programs of this build, and running them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to serve, or a command to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long one that did not end may take when it is asked to.
const GRACE: Duration = Duration::from_secs(10);

/// The program `gannet` of this build; made if it is missing or older than its sources.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn gannet() -> PathBuf {
    static BUILT: Once = Once::new();
    built(&BUILT, "gannet-engine", "gannet", &["wire", "engine"])
}

/// The program `gannet-loadgen` of this build, as [`gannet`].
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn load_generator() -> PathBuf {
    static BUILT: Once = Once::new();
    let sources = ["wire", "engine", "loadgen"];
    built(&BUILT, "gannet-loadgen", "gannet-loadgen", &sources)
}

/// Whether the driver of Kafka can be built here: it is made with a library in C and C++.
#[must_use]
pub fn builds_kafka_driver() -> bool {
    ["c++", "make"].iter().all(|tool| {
        let asked = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    })
}

/// The program `gannet-loadgen` with the other brokers' drivers, Kafka's if it can be built, which `tests/run` has left in `with-peers`; made there if it is missing or older than its sources.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn load_generator_for_peers() -> PathBuf {
    static BUILT: Once = Once::new();
    let profile = profile_dir();
    let target = profile.parent().unwrap_or(&profile).join("with-peers");
    // Each has a name of its own: nothing else tells with which drivers one was built.
    let drivers = if builds_kafka_driver() {
        "peers"
    } else {
        "amqp,nats"
    };
    let program = target.join(format!("gannet-loadgen-{drivers}"));
    BUILT.call_once(|| {
        if is_fresh(&program, &["wire", "engine", "loadgen"]) {
            return;
        }
        // In a directory of its own: beside it the program without them lies under the same name.
        let status = Command::new(env!("CARGO"))
            .args(["build", "--locked", "-p", "gannet-loadgen"])
            .args(["--features", drivers, "--bin", "gannet-loadgen"])
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .expect("cargo can be run");
        assert!(status.success(), "gannet-loadgen cannot be built");
        std::fs::copy(target.join("debug/gannet-loadgen"), &program)
            .expect("the program that was built is there");
    });
    program
}

/// The script of another broker.
#[must_use]
pub fn peer_script(name: &str) -> PathBuf {
    let peers = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/peers"));
    peers.join(name).join("peer.sh")
}

/// The program `gannet-numbers` of this build, as [`gannet`].
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn numbers_program() -> PathBuf {
    static BUILT: Once = Once::new();
    let sources = ["wire", "engine", "loadgen", "bench/src"];
    built(&BUILT, "gannet-bench", "gannet-numbers", &sources)
}

/// The program `gannet-tune` of this build, as [`gannet`].
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn tuner() -> PathBuf {
    static BUILT: Once = Once::new();
    let sources = ["wire", "engine", "loadgen", "tuning"];
    built(&BUILT, "gannet-tuning", "gannet-tune", &sources)
}

/// The program `gannet-race` of this build, as [`gannet`].
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn race_program() -> PathBuf {
    static BUILT: Once = Once::new();
    let sources = ["wire", "engine", "loadgen", "bench/src"];
    built(&BUILT, "gannet-bench", "gannet-race", &sources)
}

/// Cargo is asked only when it is needed: for one package it chooses other features of the dependencies than for the whole
/// workspace, and would make them all again.
fn built(once: &Once, package: &str, name: &str, sources: &[&str]) -> PathBuf {
    let profile = profile_dir();
    let program = profile.join(name);
    once.call_once(|| {
        if is_fresh(&program, sources) {
            return;
        }
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "-p", package, "--bin", name]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        if let Some(target) = profile.parent() {
            build.env("CARGO_TARGET_DIR", target);
        }
        let status = build.status().expect("cargo can be run");
        assert!(status.success(), "{name} cannot be built");
    });
    program
}

/// `target/<profile>`, where cargo puts programs.
fn profile_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows its own path");
    let dir = program.parent().expect("a program lies somewhere");
    // target/<profile>/deps/<test>, target/<profile>/<program>
    if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir).to_owned()
    } else {
        dir.to_owned()
    }
}

/// Whether a program is newer than every source it is made from; they lie in these folders.
fn is_fresh(program: &Path, sources: &[&str]) -> bool {
    let Ok(made) = program.metadata().and_then(|metadata| metadata.modified()) else {
        return false;
    };
    let workspace = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    sources
        .iter()
        .all(|folder| newest_source(&workspace.join(folder)).is_some_and(|newest| newest <= made))
}

fn newest_source(dir: &Path) -> Option<SystemTime> {
    let mut newest = None;
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        let changed = if path.is_dir() {
            newest_source(&path)
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        } else {
            None
        };
        newest = newest.max(changed);
    }
    newest
}

/// A temporary directory on the disk that the build lies on, removed at its end.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn data_dir() -> tempfile::TempDir {
    let profile = profile_dir();
    let parent = profile.parent().unwrap_or(&profile).join("tmp");
    std::fs::create_dir_all(&parent).expect("the build's directory can be written to");
    tempfile::Builder::new()
        .prefix("gannet-test-")
        .tempdir_in(parent)
        .expect("the build's directory can be written to")
}

/// Runs a client command with `input` on its standard input.
///
/// # Panics
/// When it cannot be run, or does not end.
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
    let output = outcome(child, PATIENCE);
    let _ = writer.join();
    output
}

/// Runs a command that is expected to end by itself; returns its status and what it said on the standard error.
///
/// # Panics
/// When it does not end.
#[must_use]
pub fn ends(command: Command) -> (ExitStatus, String) {
    ends_within(command, PATIENCE)
}

/// The same of one that may take this long.
///
/// # Panics
/// When it does not end.
#[must_use]
pub fn ends_within(command: Command, patience: Duration) -> (ExitStatus, String) {
    let output = prints_within(command, patience);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status, said)
}

/// Like [`ends`], with what it printed.
///
/// # Panics
/// When it does not end.
#[must_use]
pub fn prints(command: Command) -> Output {
    prints_within(command, PATIENCE)
}

fn prints_within(mut command: Command, patience: Duration) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command can be started");
    outcome(child, patience)
}

/// Reads what a child says until it ends.
fn outcome(mut child: Child, patience: Duration) -> Output {
    let out = child.stdout.take().map(read_aside);
    let error = child.stderr.take().map(read_aside);
    let status = wait_within(&mut child, patience);
    let said = |reader: Option<std::thread::JoinHandle<Vec<u8>>>| {
        reader
            .map(|reader| reader.join().unwrap_or_default())
            .unwrap_or_default()
    };
    Output {
        status,
        stdout: said(out),
        stderr: said(error),
    }
}

fn read_aside(mut stream: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        said
    })
}

/// Waits for a child, and ends it when it takes too long.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    wait_within(child, PATIENCE)
}

fn wait_within(child: &mut Child, patience: Duration) -> ExitStatus {
    if let Some(status) = ended_within(child, patience) {
        return status;
    }
    // Asked first: what it started goes with it then, and would stay behind otherwise.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    if ended_within(child, GRACE).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    panic!("the process did not end within {} s", patience.as_secs());
}

fn ended_within(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        let status = child.try_wait().expect("a child can be waited for");
        if status.is_some() || Instant::now() > deadline {
            return status;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
