//! The program `gannet-loadgen`.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use gannet_engine::control::machine::{raise_descriptor_limit, refuse_huge_pages};
use gannet_loadgen::broker;
use gannet_loadgen::comparison::compare;
use gannet_loadgen::options::{Command, CommandLine};
use gannet_loadgen::report_file::ReportFile;
use gannet_loadgen::session::session;
use gannet_loadgen::sweep::{self, sweep};
use gannet_loadgen::table;
use serde::Serialize;

/// A run was made and something was wrong with what came out.
const FAILED: u8 = 1;
/// A run could not be made, or its report not be written.
const NO_RUN: u8 = 2;

/// Every commit takes and gives back a large aligned buffer: the system's allocator answers that by growing and trimming its heap
/// with a system call or two each time, this one does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is to be shown of a run.
struct Shown<R> {
    report: R,
    table: String,
    passed: bool,
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    // Each producer and each consumer takes some.
    raise_descriptor_limit();
    // What holds a producer up is late.
    refuse_huge_pages();
    let done = match &line.command {
        Some(Command::HostBroker(options)) => broker::host(options)
            .map(|()| true)
            .map_err(Box::<dyn Error>::from),
        Some(Command::Sweep(options)) => shown(options.run.report.as_deref(), || {
            let report = sweep(options)?;
            Ok(Shown {
                table: sweep::render(&report),
                passed: report.passed,
                report,
            })
        }),
        Some(Command::Report(options)) => compare(options).map(|()| true).map_err(Into::into),
        None => shown(line.options.report.as_deref(), || {
            let report = session(&line.options)?;
            Ok(Shown {
                table: table::render(&report),
                passed: report.passed,
                report,
            })
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => complain(error.as_ref()),
    }
}

/// Makes a run, prints its table and writes its report. Gives whether it passed.
fn shown<R: Serialize>(
    report_path: Option<&Path>,
    run: impl FnOnce() -> Result<Shown<R>, Box<dyn Error>>,
) -> Result<bool, Box<dyn Error>> {
    let report_file = report_path.map(ReportFile::open).transpose()?;
    let shown = run()?;
    // A reader that is gone does not change how the run went.
    let _ = io::stdout().write_all(shown.table.as_bytes());
    if let Some(report_file) = report_file {
        report_file.write(&shown.report)?;
    }
    Ok(shown.passed)
}

fn complain(error: &dyn Error) -> ExitCode {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "gannet-loadgen: {error}");
    ExitCode::from(NO_RUN)
}
