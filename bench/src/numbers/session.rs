//! A run from its options to its report.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use gannet_loadgen::broker::{BrokerError, RemovedWhenInterrupted, end_when_interrupted};
use gannet_loadgen::filesystem::{Filesystem, NoRealDisk, choose_directory};
use gannet_loadgen::measure::DiskError;
use gannet_loadgen::report::Machine;
use gannet_loadgen::run::RunError;
use gannet_loadgen::usage::MachineUsage;
use gannet_loadgen::worker::port::PortError;
use gannet_wire::client::ClientError;

use super::limits::MachineLimits;
use super::options::{Options, Scale};
use super::report::Report;
use super::row::{NoFigure, Row};
use super::workbench::Workbench;
use super::{consume, idle, publish, start};

/// The file the disk's bandwidth is measured with is so large, or as large as a row may be.
const BANDWIDTH_FILE_BYTES: u64 = 1 << 30;

/// From this share on a machine is not idle.
const BUSY: f64 = 0.1;

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum NumbersError {
    /// There is nowhere to put the data.
    #[error(transparent)]
    Directory(#[from] NoRealDisk),
    /// A broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A load.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The client, before a load.
    #[error("{what}: {source}")]
    Client {
        /// What it should do.
        what: &'static str,
        /// What it said.
        source: ClientError,
    },
    /// The client, as the load generator sees it.
    #[error("{what}: {source}")]
    Port {
        /// What it should do.
        what: &'static str,
        /// What it said.
        source: PortError,
    },
    /// The operating system's refusal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
    /// Nothing came of a measurement.
    #[error(transparent)]
    NoFigure(#[from] NoFigure),
}

impl NumbersError {
    pub(super) fn client(what: &'static str) -> impl FnOnce(ClientError) -> Self {
        move |source| Self::Client { what, source }
    }

    pub(super) fn port(what: &'static str) -> impl FnOnce(PortError) -> Self {
        move |source| Self::Port { what, source }
    }
}

pub(super) fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> NumbersError {
    move |source| NumbersError::Io { what, source }
}

/// Measures everything and writes the report to `--report`.
///
/// # Errors
/// [`NumbersError`] when a row cannot be measured.
pub fn session(options: &Options) -> Result<Report, NumbersError> {
    let removed = RemovedWhenInterrupted::default();
    end_when_interrupted(removed.clone()).map_err(io_error("watching for Ctrl-C"))?;
    let (base, filesystem) = choose_directory(options.data_dir.as_deref())?;
    let directory = tempfile::Builder::new()
        .prefix("gannet-numbers-")
        .tempdir_in(base)
        .map_err(io_error("making a directory for the brokers"))?;
    removed.set_directory(Some(directory.path().to_owned()));

    let scale = Scale::new(options, filesystem.free_bytes);
    let bench = Workbench::new(options, scale, directory.path(), removed.clone());
    let report = measure(bench, directory.path(), filesystem)?;

    directory
        .close()
        .map_err(io_error("removing the brokers' directory"))?;
    removed.set_directory(None);
    if let Some(path) = &options.report {
        write(&report, path)?;
    }
    Ok(report)
}

fn measure(
    mut bench: Workbench<'_>,
    directory: &Path,
    filesystem: Filesystem,
) -> Result<Report, NumbersError> {
    let scale = bench.scale;
    bench.progress.step("loopback and disk");
    bench.notes.extend(busy_machine(scale.row() / 4)?);
    let file_bytes = BANDWIDTH_FILE_BYTES.min(scale.bytes_max);
    let limits = MachineLimits::measure(directory, file_bytes, scale.row())?;
    let mut rows: Vec<Row> = vec![publish::one_in_flight(&mut bench, &limits)?];
    let mut saturated = publish::saturated(&mut bench, &limits)?;
    rows.append(&mut saturated.rows);
    rows.push(publish::one_record_a_batch(&mut bench, &saturated)?);
    rows.push(publish::many_partitions(&mut bench)?);
    rows.push(consume::at_the_tail(&mut bench, &saturated)?);
    let stored = start::after_kill(&mut bench)?;
    rows.push(consume::from_disk(&mut bench, &limits, stored.bytes)?);
    rows.extend(stored.rows);
    rows.extend(idle::memory(&mut bench)?);
    bench.progress.finish();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here(Some((directory, &filesystem))),
        scale,
        limits,
        rows,
        failures: bench.failures,
        notes: bench.notes,
    })
}

/// What else runs takes its share of every figure.
fn busy_machine(look: Duration) -> Result<Option<String>, NumbersError> {
    let usage = || MachineUsage::now().map_err(io_error("reading how busy the machine is"));
    let before = usage()?;
    std::thread::sleep(look);
    let busy = usage()?.busy_since(&before);
    Ok((busy > BUSY).then(|| {
        format!(
            "the machine was {:.0} % busy before anything was measured: the figures are not those of an idle one",
            busy * 100.0
        )
    }))
}

fn write(report: &Report, path: &Path) -> Result<(), NumbersError> {
    let file = File::create(path).map_err(io_error("making the report's file"))?;
    serde_json::to_writer_pretty(file, report)
        .map_err(|error| io_error("writing the report")(error.into()))
}
