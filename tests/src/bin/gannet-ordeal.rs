//! What a broker has to come through, for as long as one likes: the long forms of the tests with real processes, and what is measured rather than asserted.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use gannet_tests::ordeal::{Cuts, Pauses};
use gannet_wire::frame;

/// The machine did not let it.
const SKIPPED: u8 = 3;

/// Takes real brokers down under load, again and again, and checks every record that their clients sent, were told of, and were given. Ends with the first thing that
/// is wrong: by a panic that says what, and with which seed.
#[derive(Parser)]
#[command(name = "gannet-ordeal", version)]
struct CommandLine {
    #[command(subcommand)]
    ordeal: Ordeal,
}

#[derive(Subcommand)]
enum Ordeal {
    /// Takes the power away from an ext4 of its own, as root: every write behind that fails, and what was not synced is gone. The broker must say so and end with status
    /// 30; the next one must have everything durable, once, in order.
    Cuts {
        /// Power cuts under load; further ones come while the broker starts.
        #[arg(long, default_value_t = 20)]
        cuts: u32,
        /// What acknowledgements mean. `accepted` must lose records, or the run says nothing about `durable`.
        #[arg(long, value_enum, default_value_t = Durability::Durable)]
        durability: Durability,
        /// Decides sizes and moments, as far as a real machine lets it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// `kill -9`, SIGSTOP, and a kill of a broker that stands still, in turn.
    Pauses {
        /// How often.
        #[arg(long, default_value_t = 30)]
        rounds: u32,
        /// Seconds that it stands still.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Decides sizes and moments, as far as a real machine lets it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Durability {
    Durable,
    Accepted,
}

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let done = match CommandLine::parse().ordeal {
        Ordeal::Cuts {
            cuts,
            durability,
            seed,
        } => cut_power(cuts, durability, seed, &mut out),
        Ordeal::Pauses {
            rounds,
            seconds,
            seed,
        } => kill_and_pause(rounds, Duration::from_secs(seconds), seed, &mut out),
    };
    // The reader has left: nobody asks how it went.
    done.unwrap_or(ExitCode::FAILURE)
}

fn cut_power(
    cuts: u32,
    durability: Durability,
    seed: u64,
    out: &mut impl Write,
) -> std::io::Result<ExitCode> {
    let run = Cuts {
        cuts,
        durability: match durability {
            Durability::Durable => frame::Durability::Durable,
            Durability::Accepted => frame::Durability::Accepted,
        },
        seed,
    };
    writeln!(out, "seed {seed}")?;
    let report = run.run(|report| {
        let _ = writeln!(
            out,
            "cut {}, {} more while starting: {} acknowledged records are gone",
            report.cuts, report.cuts_at_start, report.lost
        );
    });
    let Some(report) = report else {
        return Ok(ExitCode::from(SKIPPED));
    };
    writeln!(
        out,
        "{} cuts under load and {} while starting: {} records acknowledged, {} delivered; {} lost, by {} of the cuts",
        report.cuts,
        report.cuts_at_start,
        report.acked,
        report.delivered,
        report.lost,
        report.cuts_with_loss
    )?;
    if durability == Durability::Accepted && report.lost == 0 {
        writeln!(
            out,
            "nothing was lost that was only accepted: the cuts cut nothing"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn kill_and_pause(
    rounds: u32,
    pause: Duration,
    seed: u64,
    out: &mut impl Write,
) -> std::io::Result<ExitCode> {
    let run = Pauses {
        rounds,
        pause,
        seed,
    };
    writeln!(out, "seed {seed}")?;
    let report = run.run(|report| {
        let _ = writeln!(out, "{} kills, {} pauses", report.kills, report.pauses);
    });
    writeln!(
        out,
        "{} kills and {} pauses: {} records acknowledged, {} delivered, none lost, doubled, reordered or changed",
        report.kills, report.pauses, report.acked, report.delivered
    )?;
    Ok(ExitCode::SUCCESS)
}
