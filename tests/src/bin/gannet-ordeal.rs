//! What a broker has to come through, for as long as one likes: the long forms of the tests with real processes, and what is measured rather than asserted.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use gannet_tests::ordeal::{Cuts, Neighbours, Pauses, Soak, SoakPart};
use gannet_wire::frame;

/// The machine did not let it.
const SKIPPED: u8 = 3;
/// Long enough for a disk to have spent what it gives at once and no longer.
const SATURATED: Duration = Duration::from_secs(120);

/// Takes real brokers down under load, again and again, and checks every record that their clients sent, were told of, and were given, and after power cuts groups' offsets and topics too. Ends with the first thing that
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
    /// What clients that never read, that send a byte a second, that are gone without a word, or that are too many cost the others. Reports p99s and judges none: let
    /// nothing else run meanwhile.
    Neighbours {
        /// Seconds of each of the three measurements of a kind.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Half of what saturates a broker, with retention at work and consumers coming and going.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
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
        Ordeal::Neighbours { seconds } => {
            measure_neighbours(Duration::from_secs(seconds), &mut out)
        }
        Ordeal::Soak { minutes } => soak(Duration::from_secs(60 * minutes), &mut out),
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
        "{} cuts under load and {} while starting: {} records acknowledged, {} delivered; {} lost, by {} of the cuts; {} offsets committed, {} topics created and {} deleted, none of it lost",
        report.cuts,
        report.cuts_at_start,
        report.acked,
        report.delivered,
        report.lost,
        report.cuts_with_loss,
        report.clerk.offsets,
        report.clerk.created,
        report.clerk.deleted
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

fn measure_neighbours(duration: Duration, out: &mut impl Write) -> std::io::Result<ExitCode> {
    Neighbours { duration }.run(|disturbed| {
        let (publish, end_to_end) = disturbed.ratios();
        let ms = |us: [f64; 3]| us.map(|us| format!("{:.2}", us / 1e3)).join(" / ");
        let _ = writeln!(
            out,
            "{}: p99 before / with / after, ms: publish {} (x {publish:.2}), end to end {} (x {end_to_end:.2})",
            disturbed.who,
            ms(disturbed.publish_p99_us),
            ms(disturbed.end_to_end_p99_us),
        );
    });
    writeln!(out, "the bar is twice the undisturbed p99")?;
    Ok(ExitCode::SUCCESS)
}

fn soak(duration: Duration, out: &mut impl Write) -> std::io::Result<ExitCode> {
    const MIB: f64 = (1 << 20) as f64;
    let soak = Soak {
        saturated: SATURATED,
        duration,
    };
    let report = soak.run();
    writeln!(
        out,
        "half of {:.0} records/s, {} consumers came and went, nothing lost, doubled, reordered or changed",
        report.saturated_records_per_s, report.visits
    )?;
    for (part, number) in report.parts.iter().zip(1..) {
        writeln!(
            out,
            "part {number}: publish p50 {:.2} ms, p99 {:.2}; end to end {:.2}, {:.2}{}",
            part.publish_us.p50 / 1e3,
            part.publish_us.p99 / 1e3,
            part.end_to_end_us.p50 / 1e3,
            part.end_to_end_us.p99 / 1e3,
            part.disk.map_or(String::new(), |disk| format!(
                "; the disk wrote {:.0} and read {:.0} MB/s, {:.0} % busy",
                disk.written_bytes_per_s / 1e6,
                disk.read_bytes_per_s / 1e6,
                disk.busy * 1e2
            ))
        )?;
    }
    type Figure = fn(&SoakPart) -> f64;
    let figures: [(&str, Figure); 4] = [
        ("publish p50", |part| part.publish_us.p50),
        ("publish p99", |part| part.publish_us.p99),
        ("end to end p50", |part| part.end_to_end_us.p50),
        ("end to end p99", |part| part.end_to_end_us.p99),
    ];
    for (what, figure) in figures {
        let [first, last] = report.first_and_last_third(figure);
        writeln!(
            out,
            "{what}, median of the parts: {:.2} ms in the first third, {:.2} in the last: {:.2} times",
            first / 1e3,
            last / 1e3,
            last / first
        )?;
    }
    writeln!(
        out,
        "memory: at most {:.1} MiB, over the second half {:+.2} MiB a minute; journals at most {:.0} MiB, segments {:.0} MiB",
        report.memory_bytes_max as f64 / MIB,
        report.memory_bytes_per_minute / MIB,
        report.journal_bytes_max as f64 / MIB,
        report.segment_bytes_max as f64 / MIB
    )?;
    let beyond = report.beyond();
    for sentence in &beyond {
        writeln!(out, "{sentence}")?;
    }
    Ok(if beyond.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
