//! Runs seeds of the simulated world for as long as one likes, or flips the bits of a data directory one by one.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gannet_tests::bits::{Moment, Strides, sweep, sweep_sectors, sweep_twins};
use gannet_tests::commit;
use gannet_tests::world::{Canary, Faults, Run, Summary};

const USAGE: &str = "gannet-sim [--from SEED] [--seeds N | --minutes M] [--faults none|errors|full|rot|lies] [--canary ack|segment|names|retry|start] [--keep-going]

Runs one seed after the other. The first that shows a bug ends it, with the steps that lead there; the same seed and commit show it again.
Without --faults each kind has its turn; --canary switches a bug on that has to be found. In the end it tells how often each kind of fault struck.

gannet-sim bits [--vital N] [--last N] [--body N] [--filler N] [--sectors N] [--shards N] [--threads N]

Flips bits of a small data directory, each on its own, starts the broker on it, and tells what each kind of place came to. Every Nth bit is flipped: of
headers, directories, indexes, checkpoints, the catalogue and the last commits before their mark each one by default, of records every 11th, of what
nothing says anything about every 997th. Then every Nth damage to a sector or block, each of them by default: zeros, noise, what stands elsewhere,
unreadable.
With --shards 2 each start moves the data to other shards as well.";

struct Options {
    from: u64,
    seeds: u64,
    until: Option<Instant>,
    faults: Option<Faults>,
    canary: Option<Canary>,
    keep_going: bool,
}

struct BitOptions {
    strides: Strides,
    sectors: u64,
    shards: u16,
    threads: u64,
}

fn main() -> ExitCode {
    // A panic is a finding, told with its steps; the hook would only tell it twice.
    std::panic::set_hook(Box::new(|_| {}));
    let mut out = std::io::stdout().lock();
    let mut arguments = std::env::args().skip(1).peekable();
    let ran = match arguments.next_if(|argument| argument == "bits") {
        Some(_) => bit_options(arguments).map(|options| flip_bits(&options, &mut out)),
        None => options(arguments).map(|options| run(&options, &mut out)),
    };
    match ran {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        // The reader has left.
        Ok(Err(_)) => ExitCode::from(3),
        Err(why) => {
            let _ = writeln!(out, "{why}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn flip_bits(options: &BitOptions, out: &mut impl Write) -> std::io::Result<bool> {
    let mut findings = 0;
    writeln!(out, "{}", made_from())?;
    for moment in Moment::ALL {
        let began = Instant::now();
        let mut report = sweep(moment, options.strides, options.shards, options.threads);
        report.join(sweep_twins(moment, options.strides.vital));
        writeln!(out, "{moment:?}, bits\n{report} in {:?}\n", began.elapsed())?;
        findings += report.findings.len();
        let began = Instant::now();
        let report = sweep_sectors(moment, options.sectors, options.shards, options.threads);
        writeln!(
            out,
            "{moment:?}, sectors\n{report} in {:?}\n",
            began.elapsed()
        )?;
        findings += report.findings.len();
    }
    Ok(findings == 0)
}

fn bit_options(mut arguments: impl Iterator<Item = String>) -> Result<BitOptions, String> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let mut options = BitOptions {
        strides: Strides {
            vital: 1,
            last: 1,
            body: 11,
            filler: 997,
        },
        sectors: 1,
        shards: 1,
        threads,
    };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        let number: u64 = value
            .filter(|number| *number > 0)
            .ok_or_else(|| format!("{argument} takes a number above 0, or is not known"))?;
        match &*argument {
            "--vital" => options.strides.vital = number,
            "--last" => options.strides.last = number,
            "--body" => options.strides.body = number,
            "--filler" => options.strides.filler = number,
            "--sectors" => options.sectors = number,
            "--shards" => {
                options.shards = u16::try_from(number).map_err(|_| "too many shards".to_owned())?;
            }
            "--threads" => options.threads = number,
            _ => return Err(format!("{argument} is not known")),
        }
    }
    Ok(options)
}

fn run(options: &Options, out: &mut impl Write) -> std::io::Result<bool> {
    let began = Instant::now();
    let (mut seeds, mut findings) = (0u64, 0u64);
    let mut all = Summary::default();
    let made_from = made_from();
    writeln!(out, "{made_from}, from seed {}", options.from)?;
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
            Ok(summary) => all += summary,
            Err(finding) if options.keep_going => {
                findings += 1;
                let Run { faults, .. } = run;
                writeln!(
                    out,
                    "{made_from}, seed {seed} ({faults:?}): {}",
                    finding.what
                )?;
            }
            Err(finding) => {
                writeln!(out, "{finding}\n{made_from}")?;
                return Ok(false);
            }
        }
        if seeds % 1_000 == 0 {
            writeln!(
                out,
                "{seeds} seeds, {} acknowledgements, {} steps in {:?}",
                all.acked_batches,
                all.steps,
                began.elapsed()
            )?;
        }
    }
    writeln!(
        out,
        "{made_from}: {seeds} seeds, {findings} findings in {:?}\n{all}",
        began.elapsed()
    )?;
    Ok(findings == 0)
}

/// The version and the commit.
fn made_from() -> String {
    format!("Gannet {}, {}", env!("CARGO_PKG_VERSION"), commit())
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
                    "retry" => Canary::SegmentSyncRetried,
                    "start" => Canary::JournalNotSyncedAtStart,
                    _ => return Err(format!("there is no canary called {value}")),
                });
            }
            _ => return Err(format!("{argument} is not known")),
        }
    }
    Ok(options)
}
