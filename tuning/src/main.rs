//! The program `gannet-tune`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gannet_engine::control::machine::refuse_huge_pages;
use gannet_loadgen::broker;
use gannet_loadgen::options::HostOptions;
use gannet_loadgen::progress::ProgressLine;
use gannet_tuning::facts::Facts;
use gannet_tuning::search::{SearchOptions, search};
use gannet_tuning::{advice, explain, table};

/// A search ended, and something was wrong with records or brokers on the way.
const FAILED: u8 = 1;
/// There is no result.
const NOTHING: u8 = 2;

/// The brokers that this program hosts have the allocator that the broker has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what this machine gives to a Gannet broker, searches for a configuration that reaches a goal, and explains configurations. It never changes the system.
///
/// The exit status is 0 when there is a result, 1 when a search met lost or changed records or errors of a broker, 2 when there is no result.
#[derive(Debug, Parser)]
#[command(name = "gannet-tune", version, max_term_width = 110)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at cores, limits and io_uring, measures disk and loopback, and says what will limit a broker here. Needs no root.
    Probe {
        /// Where the broker's data would go; measured with a temporary file.
        #[arg(long, value_name = "DIR", default_value = ".")]
        data_dir: PathBuf,
        /// How long each latency is measured, in seconds.
        #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
    },
    /// Tries configurations of brokers of its own under load and writes the best as a gannet.toml. Ctrl-C ends it with the best so far.
    Search(SearchOptions),
    /// Prints what each key that a configuration file sets trades and bounds, beside its default.
    Explain {
        /// The configuration, such as gannet.toml.
        file: PathBuf,
        /// Also the keys that the file does not set.
        #[arg(long)]
        all: bool,
    },
    /// Hosts a broker until the parent ends it or dies; for itself only.
    #[command(hide = true, name = broker::HOST_COMMAND)]
    HostBroker(HostOptions),
}

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok((text, status)) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => status,
            Err(_) => ExitCode::from(NOTHING),
        },
        Err(error) => {
            // Without a stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "gannet-tune: {error}");
            ExitCode::from(NOTHING)
        }
    }
}

/// Gives what to print, and the exit status.
fn run(command: Command) -> Result<(String, ExitCode), Box<dyn std::error::Error>> {
    match command {
        Command::Probe { data_dir, seconds } => {
            let mut progress = ProgressLine::new();
            let each = Duration::from_secs(seconds);
            let facts = Facts::probe(&data_dir, each, &mut |step| progress.step(step));
            progress.finish();
            let facts = facts?;
            let mut text = table(&facts);
            for sentence in advice::limits(&facts) {
                text.push_str("\n- ");
                text.push_str(&sentence);
            }
            text.push('\n');
            Ok((text, ExitCode::SUCCESS))
        }
        Command::Search(options) => {
            // Loads are made in this process, and what holds a producer up is late.
            refuse_huge_pages();
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
            let found = search(&options, now.to_string())?;
            let status = if found.failures.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILED)
            };
            let written = format!("written to {}\n", options.output.display());
            Ok((found.to_summary() + &written, status))
        }
        Command::Explain { file, all } => Ok((explain(&file, all)?, ExitCode::SUCCESS)),
        Command::HostBroker(options) => {
            broker::host(&options)?;
            Ok((String::new(), ExitCode::SUCCESS))
        }
    }
}
