//! The program `gannet-race`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use gannet_bench::race::entrant::Peer;
use gannet_bench::race::outcome::TurnResult;
use gannet_bench::race::{Command, CommandLine, Place, ScaleOptions, render, scale, session};
use gannet_loadgen::broker;

/// A turn of Gannet's, or a point, gave no figures.
const FAILED: u8 = 1;
/// There was no race.
const NO_RACE: u8 = 2;
/// Only turns of other brokers gave no figures.
const PEERS_MISSING: u8 = 3;

/// The broker that this program hosts has the allocator that the broker has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    match &line.command {
        Some(Command::HostBroker(options)) => match broker::host(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error),
        },
        Some(Command::Render(place)) => match render(place) {
            Ok(()) => written(place, ExitCode::SUCCESS),
            Err(error) => complain(&error),
        },
        Some(Command::Scale(options)) => measure_scale(options),
        None => match session(&line.options) {
            Ok(turns) => written(&line.options.place, ExitCode::from(status(&turns))),
            Err(error) => complain(&error),
        },
    }
}

fn status(turns: &[TurnResult]) -> u8 {
    let without_figures: Vec<_> = turns
        .iter()
        .filter(|turn| turn.measured().is_none())
        .collect();
    for turn in &without_figures {
        say(&format!(
            "{} under {}, round {}: {}",
            turn.turn.entrant,
            turn.turn.scenario,
            turn.turn.round,
            turn.failure().unwrap_or_default()
        ));
    }
    let is_ours = |turn: &&TurnResult| turn.turn.entrant.peer == Peer::Gannet;
    match without_figures.as_slice() {
        [] => 0,
        missing if missing.iter().any(is_ours) => FAILED,
        _ => PEERS_MISSING,
    }
}

fn measure_scale(options: &ScaleOptions) -> ExitCode {
    let report = match scale::session(options) {
        Ok(report) => report,
        Err(error) => return complain(&error),
    };
    let failed = report
        .points
        .iter()
        .filter_map(|point| point.outcome.as_ref().err())
        .chain(&report.failures);
    let mut status = ExitCode::SUCCESS;
    for reason in failed {
        say(reason);
        status = ExitCode::from(FAILED);
    }
    match render(&options.place) {
        Ok(()) => written(&options.place, status),
        Err(error) => complain(&error),
    }
}

fn written(place: &Place, status: ExitCode) -> ExitCode {
    // A reader that is gone does not change what was measured.
    let _ = writeln!(io::stdout(), "{}", place.texts().join("RACE.md").display());
    status
}

fn say(sentence: &str) {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "gannet-race: {sentence}");
}

fn complain(error: &dyn std::error::Error) -> ExitCode {
    say(&error.to_string());
    ExitCode::from(NO_RACE)
}
