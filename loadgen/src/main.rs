//! The program `gannet-loadgen`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use gannet_loadgen::broker;
use gannet_loadgen::options::{Command, CommandLine};
use gannet_loadgen::report_file::ReportFile;
use gannet_loadgen::session::session;
use gannet_loadgen::table;

/// A run was made and something was wrong with what came out.
const FAILED: u8 = 1;
/// A run could not be made, or its report not be written.
const NO_RUN: u8 = 2;

/// Every commit takes and gives back a large aligned buffer: the system's allocator answers that by growing and trimming its heap
/// with a system call or two each time, this one does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    if let Some(Command::HostBroker(options)) = &line.command {
        return match broker::host(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        };
    }
    let report_path = line.options.report.as_deref();
    let report_file = match report_path.map(ReportFile::open).transpose() {
        Ok(report_file) => report_file,
        Err(error) => return complain(&error),
    };
    match session(&line.options) {
        Ok(report) => {
            // A reader that is gone does not change how the run went.
            let _ = io::stdout().write_all(table::render(&report).as_bytes());
            if let Some(Err(error)) = report_file.map(|file| file.write(&report)) {
                return complain(&error);
            }
            if report.passed {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILED)
            }
        }
        Err(error) => complain(&error),
    }
}

fn complain(error: &dyn std::error::Error) -> ExitCode {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "gannet-loadgen: {error}");
    ExitCode::from(NO_RUN)
}
