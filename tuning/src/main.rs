//! The program `gannet-tune`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gannet_tuning::facts::Facts;
use gannet_tuning::{advice, explain, table};

/// Measures what this machine gives to a Gannet broker, and explains a configuration.
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
    /// Prints what each key that a configuration file sets trades and bounds, beside its default.
    Explain {
        /// The configuration, such as gannet.toml.
        file: PathBuf,
        /// Also the keys that the file does not set.
        #[arg(long)]
        all: bool,
    },
}

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            // Without a stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "gannet-tune: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<String, Box<dyn std::error::Error>> {
    match command {
        Command::Probe { data_dir, seconds } => {
            let facts = Facts::probe(&data_dir, Duration::from_secs(seconds))?;
            let mut text = table(&facts);
            for sentence in advice::limits(&facts) {
                text.push_str("\n- ");
                text.push_str(&sentence);
            }
            text.push('\n');
            Ok(text)
        }
        Command::Explain { file, all } => Ok(explain(&file, all)?),
    }
}
