//! fio and iperf3 beside the program's own measurements: run when they are installed, and never needed.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::limits::{SYNCED_WRITE_BYTES, SYNCED_WRITES};

/// What a tool may take beyond its own measuring.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
/// How often a client tries a server that has just been started.
const ATTEMPTS: u32 = 50;

/// What became of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolRun<T> {
    /// It is not in PATH.
    Absent,
    /// It did not give what it should: a sentence.
    Failed(String),
    /// What it measured.
    Measured(T),
}

/// Transfers with O_DIRECT over blocks written before: in order, 1 MiB each, eight in flight; synced writes in order, 512 KiB each, four in flight; and synced ones of 4 KiB, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fio {
    /// MB/s (10^6).
    pub write_mb_per_s: f64,
    /// MB/s (10^6).
    pub read_mb_per_s: f64,
    /// Each synced before it counts, in MB/s (10^6). `None` in results of before it was measured.
    #[serde(default)]
    pub synced_write_mb_per_s: Option<f64>,
    /// One 4 KiB O_DSYNC write, in microseconds.
    pub sync_write_p50_us: f64,
}

/// One TCP stream over the loopback.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Iperf3 {
    /// MB/s (10^6).
    pub mb_per_s: f64,
}

/// The disk under `directory` by fio.
#[must_use]
pub(super) fn fio(directory: &Path, file_bytes: u64, duration: Duration) -> ToolRun<Fio> {
    run("fio", |program| {
        let job = |direction: &str, how: &[&str]| -> Result<String, String> {
            let seconds = duration.as_secs_f64().ceil() as u64;
            let mut command = Command::new(&program);
            command
                .args(["--name=gannet-numbers", "--direct=1", "--overwrite=1"])
                .args(["--time_based=1", "--output-format=json"])
                .args(how)
                .arg(format!("--rw={direction}"))
                .arg(format!("--size={file_bytes}"))
                .arg(format!("--runtime={seconds}"))
                .arg("--filename")
                .arg(directory.join("fio-blocks"));
            output_of(command, duration)
        };
        let large = ["--bs=1M", "--ioengine=libaio", "--iodepth=8"];
        let (bytes, depth) = (
            format!("--bs={SYNCED_WRITE_BYTES}"),
            format!("--iodepth={SYNCED_WRITES}"),
        );
        let large_synced = [
            bytes.as_str(),
            "--ioengine=libaio",
            depth.as_str(),
            "--sync=dsync",
        ];
        let synced = ["--bs=4k", "--ioengine=psync", "--sync=dsync"];
        Ok(Fio {
            write_mb_per_s: parse_fio(&job("write", &large)?, "write")?,
            read_mb_per_s: parse_fio(&job("read", &large)?, "read")?,
            synced_write_mb_per_s: Some(parse_fio(&job("write", &large_synced)?, "write")?),
            sync_write_p50_us: parse_fio_latency(&job("write", &synced)?)?,
        })
    })
}

/// The loopback by iperf3.
#[must_use]
pub(super) fn iperf3(duration: Duration) -> ToolRun<Iperf3> {
    run("iperf3", |program| {
        let port = free_port().map_err(|error| error.to_string())?;
        let mut command = Command::new(&program);
        command
            .args(["--server", "--one-off", "--bind", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _server = Killed(command.spawn().map_err(|error| error.to_string())?);
        let seconds = duration.as_secs_f64().ceil() as u64;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let mut command = Command::new(&program);
            command
                .args(["--client", "127.0.0.1", "--json"])
                .args(["--port", &port.to_string()])
                .args(["--time", &seconds.to_string()]);
            match output_of(command, duration).and_then(|text| parse_iperf3(&text)) {
                Ok(mb_per_s) => return Ok(Iperf3 { mb_per_s }),
                // The server may not listen yet.
                Err(sentence) => last = sentence,
            }
            std::thread::sleep(LOOK);
        }
        Err(last)
    })
}

fn run<T>(name: &str, measure: impl FnOnce(PathBuf) -> Result<T, String>) -> ToolRun<T> {
    match in_path(name) {
        None => ToolRun::Absent,
        Some(program) => match measure(program) {
            Ok(measured) => ToolRun::Measured(measured),
            Err(sentence) => ToolRun::Failed(sentence),
        },
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories)
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

fn free_port() -> std::io::Result<u16> {
    // Free now; that another program takes it before the tool does ends in a tool that failed.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// A child that ends with this value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails when it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program writes to its standard output; a sentence when it fails or takes too long.
fn output_of(mut command: Command, duration: Duration) -> Result<String, String> {
    let deadline = Instant::now() + duration * 2 + PATIENCE;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut child = Killed(child);
    let stdout = child.0.stdout.take();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        match stdout.map(|mut stdout| stdout.read_to_string(&mut text)) {
            Some(Ok(_)) => Ok(text),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("it has no output".to_owned()),
        }
    });
    let status = loop {
        match child.0.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            Ok(None) => return Err("it did not end".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    };
    if !status.success() {
        return Err(format!("it ended with {status}"));
    }
    reading
        .join()
        .unwrap_or_else(|_| Err("reading its output failed".to_owned()))
}

fn parse_fio(text: &str, direction: &str) -> Result<f64, String> {
    figure(text, &format!("/jobs/0/{direction}/bw_bytes")).map(|bytes_per_s| bytes_per_s / 1e6)
}

/// Half of the writes took so long or less, in microseconds.
fn parse_fio_latency(text: &str) -> Result<f64, String> {
    figure(text, "/jobs/0/write/clat_ns/percentile/50.000000").map(|ns| ns / 1e3)
}

fn parse_iperf3(text: &str) -> Result<f64, String> {
    figure(text, "/end/sum_received/bits_per_second").map(|bits_per_s| bits_per_s / 8e6)
}

fn figure(text: &str, pointer: &str) -> Result<f64, String> {
    let report: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .ok_or_else(|| format!("its report has no number at {pointer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fio_reports_in_bytes_a_second() {
        let text = r#"{"fio version": "fio-3.39", "jobs": [{"jobname": "gannet-numbers",
            "read": {"bw_bytes": 0}, "write": {"io_bytes": 9, "bw_bytes": 2000000000, "bw": 1953125}}]}"#;
        assert_eq!(parse_fio(text, "write"), Ok(2000.0));
    }

    #[test]
    fn fio_reports_latencies_in_nanoseconds() {
        let text = r#"{"jobs": [{"write": {"clat_ns": {"percentile": {"50.000000": 125440}}}}]}"#;
        assert_eq!(parse_fio_latency(text), Ok(125.44));
    }

    #[test]
    fn iperf3_reports_in_bits_a_second() {
        let text = r#"{"end": {"sum_sent": {"bits_per_second": 1.0}, "sum_received": {"bits_per_second": 2.0e10}}}"#;
        assert_eq!(parse_iperf3(text), Ok(2500.0));
    }

    #[test]
    fn a_report_of_another_form_is_a_sentence_and_no_figure() {
        assert!(
            parse_fio("{}", "write")
                .unwrap_err()
                .contains("/jobs/0/write")
        );
        assert!(parse_iperf3("error: unable to connect").is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_absent() {
        let run: ToolRun<Fio> = run("no-such-program-anywhere", |_| unreachable!());
        assert_eq!(run, ToolRun::Absent);
    }

    #[test]
    fn a_program_that_fails_is_a_sentence() {
        let failed = output_of(Command::new("false"), Duration::ZERO).unwrap_err();
        assert!(failed.contains("exit status: 1"), "{failed}");
    }
}
