//! The command line of `gannet`: the server, and a client for people and scripts.
//!
//! What a command yields goes to the standard output, everything else to the standard error. Errors are one sentence; the exit
//! status says what kind it was.

mod check;
mod connect;
mod consume;
mod examine;
mod exit;
mod inspect;
mod output;
mod publish;
mod serve;
mod signals;
mod table;
mod topic;
mod waiting;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use exit::ExitStatus;
use exit::Failure;

/// A message broker whose acknowledgement means: on the disk.
#[derive(Debug, Parser)]
#[command(name = "gannet", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Topic(topic::TopicArgs),
    Publish(publish::PublishArgs),
    Consume(consume::ConsumeArgs),
    Inspect(inspect::InspectArgs),
    Check(check::CheckArgs),
}

/// Does what the command line of this process asks for.
#[must_use]
pub fn run() -> ExitCode {
    let matches = Cli::command().after_help(ExitStatus::help()).get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let ended = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Topic(args) => topic::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Consume(args) => consume::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Check(args) => check::run(args),
    };
    match ended {
        Ok(status) => status.into(),
        Err(failure) => {
            complain(&failure.to_string());
            failure.status.into()
        }
    }
}

/// One line for a human. Nobody is left to tell when even that cannot be written.
fn complain(sentence: &str) {
    let _ = io::Write::write_fmt(
        &mut io::stderr().lock(),
        format_args!("gannet: {sentence}\n"),
    );
}

/// Whoever reads the output may stop when it has seen enough (`gannet consume orders | head`): that is no failure.
fn quiet_when_the_reader_left(written: io::Result<()>) -> Result<ExitStatus, Failure> {
    match written {
        Ok(()) => Ok(ExitStatus::Success),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitStatus::Success),
        Err(error) => Err(output_failure(&error)),
    }
}

fn output_failure(error: &io::Error) -> Failure {
    Failure::new(
        ExitStatus::Environment,
        format!("the output could not be written: {error}; where it goes may be full or closed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
