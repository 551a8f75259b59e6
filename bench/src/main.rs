//! The program `gannet-numbers`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use gannet_bench::numbers::{Command, CommandLine, render, session};
use gannet_engine::control::machine::refuse_huge_pages;
use gannet_loadgen::broker;

/// Everything was measured, and something was wrong with what came out.
const FAILED: u8 = 1;
/// Something could not be measured.
const NO_FIGURES: u8 = 2;

/// The broker that this program hosts has the allocator that the broker has.
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
    // Loads are made in this process, and what holds a producer up is late.
    refuse_huge_pages();
    match session(&line.options) {
        Ok(report) => {
            // A reader that is gone does not change what was measured.
            let _ = io::stdout().write_all(render(&report).as_bytes());
            if report.failures.is_empty() {
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
    let _ = writeln!(io::stderr(), "gannet-numbers: {error}");
    ExitCode::from(NO_FIGURES)
}
