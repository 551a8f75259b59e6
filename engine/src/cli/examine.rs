//! What `gannet inspect` and `gannet check` share: reading stored files while no broker runs, and judging them.
//!
//! The decisions are the broker's own: the scan and the plan of its recovery, the checks of its batches. Nothing is changed. Files
//! are mapped, but no page is touched before the kernel has said that it is there: a sector that cannot be read is an answer, and not the end of the
//! process.

pub(super) mod disk;
pub(super) mod file;
#[cfg(test)]
pub(super) mod fixture;
pub(super) mod journal;
pub(super) mod segment;

use super::exit::{ExitStatus, Failure};
use crate::storage::StorageError;

/// What is to be said of something stored; the worst of several counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// All of it is what was written.
    #[default]
    Clean,
    /// The end was being written when the broker stopped; nothing acknowledged is missing.
    TornTail,
    /// Something that was durable is not what was written.
    Damaged,
}

impl Verdict {
    /// Takes another one into account.
    pub(super) fn add(&mut self, other: Self) {
        *self = (*self).max(other);
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::TornTail => "torn tail",
            Self::Damaged => "damaged",
        }
    }
}

impl From<Verdict> for ExitStatus {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Clean => Self::Success,
            Verdict::TornTail => Self::TornTail,
            Verdict::Damaged => Self::Damaged,
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let status = match &error {
            StorageError::Damaged { .. } => ExitStatus::Damaged,
            _ => ExitStatus::Environment,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_counts() {
        let mut verdict = Verdict::default();
        verdict.add(Verdict::Damaged);
        verdict.add(Verdict::TornTail);
        assert_eq!(ExitStatus::from(verdict), ExitStatus::Damaged);
        assert_eq!(ExitStatus::from(Verdict::TornTail).code(), 10);
        assert_eq!(ExitStatus::from(Verdict::Clean), ExitStatus::Success);
    }
}
