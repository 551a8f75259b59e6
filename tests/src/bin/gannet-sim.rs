//! Runs seeds of the simulated world for as long as one likes.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gannet_tests::world::{Canary, Faults, Run};

const USAGE: &str = "gannet-sim [--from SEED] [--seeds N | --minutes M] [--faults none|errors|full|rot|lies] [--canary ack|segment|names] [--keep-going]

Runs one seed after the other. The first that shows a bug ends it, with the steps that lead there; the same seed and program show it again.
Without --faults each kind has its turn; --canary switches a bug on that has to be found.";

struct Options {
    from: u64,
    seeds: u64,
    until: Option<Instant>,
    faults: Option<Faults>,
    canary: Option<Canary>,
    keep_going: bool,
}

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    match options(std::env::args().skip(1)) {
        Ok(options) => match run(&options, &mut out) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            // The reader has left.
            Err(_) => ExitCode::from(3),
        },
        Err(why) => {
            let _ = writeln!(out, "{why}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options, out: &mut impl Write) -> std::io::Result<bool> {
    // A panic is a finding, told with its steps; the hook would only tell it twice.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let (mut seeds, mut steps, mut acked, mut findings) = (0u64, 0u64, 0u64, 0u64);
    writeln!(out, "from seed {}", options.from)?;
    for seed in options.from..options.from.saturating_add(options.seeds) {
        if options.until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let run = Run {
            faults: options.faults.unwrap_or(Faults::of_seed(seed)),
            canary: options.canary,
            ..Run::of_seed(seed)
        };
        seeds += 1;
        match run.go() {
            Ok(summary) => {
                steps += summary.steps;
                acked += summary.acked_batches;
            }
            Err(finding) if options.keep_going => {
                findings += 1;
                writeln!(out, "seed {seed} ({:?}): {}", run.faults, finding.what)?;
            }
            Err(finding) => {
                writeln!(out, "{finding}")?;
                return Ok(false);
            }
        }
        if seeds % 1_000 == 0 {
            writeln!(
                out,
                "{seeds} seeds, {acked} acknowledgements, {steps} steps in {:?}",
                began.elapsed()
            )?;
        }
    }
    writeln!(
        out,
        "{seeds} seeds, {findings} findings, {acked} acknowledgements, {steps} steps in {:?}",
        began.elapsed()
    )?;
    Ok(findings == 0)
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        from: 0,
        seeds: u64::MAX,
        until: None,
        faults: None,
        canary: None,
        keep_going: false,
    };
    while let Some(argument) = arguments.next() {
        if argument == "--keep-going" {
            options.keep_going = true;
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{argument} needs a value, or is not known"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{argument} takes a number, not {value}"))
        };
        match &*argument {
            "--from" => options.from = number()?,
            "--seeds" => options.seeds = number()?,
            "--minutes" => {
                options.until = Some(Instant::now() + Duration::from_secs(60 * number()?));
            }
            "--faults" => {
                options.faults = Some(match &*value {
                    "none" => Faults::None,
                    "errors" => Faults::Errors,
                    "full" => Faults::Full,
                    "rot" => Faults::Rot,
                    "lies" => Faults::Lies,
                    _ => return Err(format!("there are no faults called {value}")),
                });
            }
            "--canary" => {
                options.canary = Some(match &*value {
                    "ack" => Canary::AckBeforeDurable,
                    "segment" => Canary::CheckpointBeforeSegmentSync,
                    "names" => Canary::NoDirectorySync,
                    _ => return Err(format!("there is no canary called {value}")),
                });
            }
            _ => return Err(format!("{argument} is not known")),
        }
    }
    Ok(options)
}
