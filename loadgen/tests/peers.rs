//! The drivers against the brokers that they are for, as far as this machine has them: `bench/peers/NAME/peer.sh install` brings one.

#![cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps fails where it should"
)]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// One broker, started by its script, stopped when it is dropped.
struct Peer {
    script: PathBuf,
    port_variable: &'static str,
    port: u16,
    directory: tempfile::TempDir,
    address: String,
}

impl Peer {
    /// Starts it, or says that the test is skipped.
    fn start(name: &str, port_variable: &'static str, test: &str) -> Option<Self> {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/peers");
        let script = peers.join(name).join("peer.sh");
        let installed = Command::new(&script)
            .arg("version")
            .stderr(Stdio::null())
            .output();
        if !installed.is_ok_and(|installed| installed.status.success()) {
            say(&format!("SKIPPED {test}: {name} is not installed"));
            return None;
        }
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let port = free_ports();
        let started = Command::new(&script)
            .arg("start")
            .arg(directory.path().join("peer"))
            .arg("default")
            .env(port_variable, port.to_string())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(started.status.success(), "{name} does not start");
        let address = String::from_utf8(started.stdout).unwrap().trim().to_owned();
        Some(Self {
            script,
            port_variable,
            port,
            directory,
            address,
        })
    }

    /// Runs the load generator against it and gives the report.
    fn run(&self, driver: &str, arguments: &[&str]) -> Value {
        let file = self.directory.path().join("report.json");
        let ran = Command::new(env!("CARGO_BIN_EXE_gannet-loadgen"))
            .args(["--driver", driver, "--server", &self.address])
            .args(["--durability-label", "as configured", "--report"])
            .arg(&file)
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        let table = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{said}\n{table}");
        assert!(table.contains("as configured") && !table.contains("durable asked"));
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let stopped = Command::new(&self.script)
            .arg("stop")
            .arg(self.directory.path().join("peer"))
            .env(self.port_variable, self.port.to_string())
            .status();
        if !stopped.is_ok_and(|stopped| stopped.success()) {
            say(&format!("{} could not be stopped", self.script.display()));
        }
    }
}

fn say(sentence: &str) {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{sentence}");
}

/// The first of three ports in a row that nobody has: some brokers listen on more than one.
fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others: Vec<_> = (1..3)
            .filter_map(|next| TcpListener::bind(("127.0.0.1", port.checked_add(next)?)).ok())
            .collect();
        if others.len() == 2 {
            return port;
        }
    }
}

fn number(report: &Value, pointer: &str) -> u64 {
    let number = report.pointer(pointer).and_then(Value::as_u64);
    number.unwrap_or_else(|| panic!("no number at {pointer}: {report:#}"))
}

fn assert_sound(report: &Value, driver: &str) {
    for what in ["/lost", "/duplicated", "/reordered", "/corrupt", "/unacked"] {
        assert_eq!(number(report, what), 0, "{what}");
    }
    assert!(number(report, "/acked") > 0);
    assert_eq!(report["passed"], true);
    assert_eq!(report["driver"], driver);
    // The broker's acknowledgements do not say what they mean, so the report does not either.
    assert_eq!(report["publish"]["durability"], Value::Null);
    assert_eq!(report["settings"]["durability"], Value::Null);
    assert_eq!(report["settings"]["durability_label"], "as configured");
}

/// What every driver must do: sizes, keys, groups, several producers and consumers, at a rate and as fast as it goes.
fn assert_runs_whole(peer: &Peer, driver: &str, more: &[&str]) {
    let scenario = peer.directory.path().join("all.toml");
    let text = r#"
        producers = 2
        consumers = 2
        partitions = 3
        record_size = { choices = [{ size = 100, weight = 9 }, { size = "200KiB", weight = 1 }] }
        keys = 10
        rate = 200
        fan_out = 2
        duration = "2s"
        warm_up = "0s"
    "#;
    std::fs::write(&scenario, text).unwrap();
    let scenario = ["--scenario", scenario.to_str().unwrap()];
    let report = peer.run(driver, &[&scenario, more].concat());
    assert_sound(&report, driver);
    assert_eq!(number(&report, "/sent"), 400);
    for group in ["/groups/0", "/groups/1"] {
        let counted = format!("{group}/end_to_end/latency_us/count");
        assert_eq!(number(&report, &counted), 400, "{counted}");
    }

    let saturated = ["--rate", "max", "--duration", "60s", "--bytes-max", "5MB"];
    let report = peer.run(driver, &[&saturated, more].concat());
    assert_sound(&report, driver);
    let one_by_one = ["--rate", "500", "--duration", "1s", "--batch-records", "1"];
    let report = peer.run(driver, &[&one_by_one, more].concat());
    assert_sound(&report, driver);
    assert_eq!(number(&report, "/sent"), 500);
}

#[test]
#[cfg(feature = "kafka")]
fn kafka_runs_whole() {
    if let Some(peer) = Peer::start("kafka", "GANNET_KAFKA_PORT", "kafka_runs_whole") {
        assert_runs_whole(&peer, "kafka", &["--limits"]);
        assert_runs_whole(&peer, "kafka", &["--reread"]);
    }
}

#[test]
#[cfg(feature = "nats")]
fn nats_runs_whole() {
    if let Some(peer) = Peer::start("nats", "GANNET_NATS_PORT", "nats_runs_whole") {
        assert_runs_whole(&peer, "nats", &["--limits"]);
        assert_runs_whole(&peer, "nats", &["--reread"]);
    }
}

#[test]
#[cfg(feature = "amqp")]
fn rabbitmq_runs_whole_with_either_kind_of_queue() {
    let test = "rabbitmq_runs_whole_with_either_kind_of_queue";
    if let Some(peer) = Peer::start("rabbitmq", "GANNET_RABBITMQ_PORT", test) {
        assert_runs_whole(&peer, "amqp", &["--amqp-queue", "classic"]);
        assert_runs_whole(&peer, "amqp", &["--amqp-queue", "quorum"]);
        let unread = ["--rate", "500", "--duration", "1s", "--consumers", "0"];
        let report = peer.run("amqp", &unread);
        assert_sound(&report, "amqp");
        assert_eq!(number(&report, "/reread/records"), 500);
    }
}
