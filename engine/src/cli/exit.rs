//! How the program ends: one status for each kind of ending, and the sentence that goes with it.

use std::fmt::{self, Write as _};
use std::process::ExitCode;

use crate::control::ConfigError;
use crate::{EngineError, StartError};

/// The exit statuses of `gannet`. A number is never used for another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Everything that was asked for was done; what was examined is clean.
    Success = 0,
    /// A bug in this program or in the server.
    Bug = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The machine did not let it: a file, a permission, an address in use, memory.
    Environment = 3,
    /// The server answered with a refusal.
    Server = 4,
    /// No server answered, or it went away.
    Unreachable = 5,
    /// At least one record was not acknowledged.
    NotAcked = 6,
    /// The configuration is wrong.
    Configuration = 7,
    /// What was examined ends in a torn tail, which a start would cut: nothing acknowledged is missing.
    TornTail = 10,
    /// What was examined is damaged.
    Damaged = 20,
    /// A write or a sync failed while serving. What was not acknowledged may or may not be stored.
    StorageFailed = 30,
    /// A shard panicked, and the server with it: a bug. The rim ends the process itself, since nothing of a shard's state can be
    /// trusted then.
    ShardPanicked = 70,
    /// A signal ended the program before it was done. The server takes the first one as the order to stop: a second one ends it before it has
    /// stopped cleanly, and the next start replays its journal.
    Interrupted = 130,
}

impl ExitStatus {
    /// Every status, ascending.
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::Bug,
        Self::Usage,
        Self::Environment,
        Self::Server,
        Self::Unreachable,
        Self::NotAcked,
        Self::Configuration,
        Self::TornTail,
        Self::Damaged,
        Self::StorageFailed,
        Self::ShardPanicked,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for the help.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done; what was examined is clean",
            Self::Bug => "a bug in this program or in the server",
            Self::Usage => "the command line is wrong",
            Self::Environment => {
                "the machine did not let it: a file, a permission, an address in use"
            }
            Self::Server => "the server refused",
            Self::Unreachable => "no server answered, or it went away",
            Self::NotAcked => "at least one record was not acknowledged",
            Self::Configuration => "the configuration is wrong",
            Self::TornTail => {
                "what was examined ends in a torn tail; nothing acknowledged is missing"
            }
            Self::Damaged => "what was examined is damaged",
            Self::StorageFailed => "a write or a sync failed while serving",
            Self::ShardPanicked => "a shard panicked",
            Self::Interrupted => {
                "ended by a signal; the server by a second one, before a clean stop"
            }
        }
    }

    /// All of them as a table for the help.
    #[must_use]
    pub fn help() -> String {
        let mut text = String::from("Exit status:\n");
        for status in Self::ALL {
            let _ = writeln!(text, "  {:>3}  {}", status.code(), status.meaning());
        }
        text
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// Why a command did not do what was asked: its status, and one sentence that says what happened, whose fault it is and what
/// to do about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: ExitStatus,
    pub(super) sentence: String,
}

impl Failure {
    pub(super) fn new(status: ExitStatus, sentence: impl Into<String>) -> Self {
        Self {
            status,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.sentence)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let status = match &error {
            ConfigError::Unreadable { .. } => ExitStatus::Environment,
            _ => ExitStatus::Configuration,
        };
        Self::new(status, error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let status = match error {
            StartError::Config(error) => return error.into(),
            StartError::Storage(error) => return error.into(),
            StartError::Preflight(_) | StartError::Thread(_) => ExitStatus::Environment,
            StartError::ShardLost => ExitStatus::Bug,
        };
        Self::new(status, error.to_string())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let status = match &error {
            EngineError::Storage(_) => ExitStatus::StorageFailed,
            EngineError::Accept(_) => ExitStatus::Environment,
            EngineError::ThreadLost => ExitStatus::Bug,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_listed_once_and_ascending() {
        let codes: Vec<u8> = ExitStatus::ALL.iter().map(|status| status.code()).collect();
        assert!(
            codes
                .iter()
                .zip(codes.iter().skip(1))
                .all(|(one, next)| one < next)
        );
    }

    #[test]
    fn the_help_has_a_line_for_each_status() {
        assert_eq!(
            ExitStatus::help().lines().count(),
            1 + ExitStatus::ALL.len()
        );
    }

    #[test]
    fn a_wrong_value_is_the_configurations_fault_and_a_missing_file_the_machines() {
        let wrong =
            crate::control::Config::from_toml("f".as_ref(), "shards = 0").expect_err("0 shards");
        assert_eq!(Failure::from(wrong).status, ExitStatus::Configuration);
        let missing = crate::control::Config::load(Some("/nonexistent/gannet.toml".as_ref()), [])
            .expect_err("no file");
        assert_eq!(Failure::from(missing).status, ExitStatus::Environment);
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::io::Write::write_all(&mut file, b"shards = 1 # \xff").expect("memory");
        let no_text = crate::control::Config::load(Some(file.path()), []).expect_err("no text");
        assert_eq!(Failure::from(no_text).status, ExitStatus::Configuration);
    }
}
