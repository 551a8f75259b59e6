//! What a check found, line by line, and the verdict.

use std::fmt::Display;
use std::io::{self, Write};

use crate::cli::examine::Verdict;
use crate::cli::exit::{ExitStatus, Failure};
use crate::cli::quiet_when_the_reader_left;
use crate::cli::table::bytes_text;

/// Writes findings as they come and remembers the worst.
pub(super) struct Report<W> {
    out: W,
    verdict: Verdict,
    pub(super) batches: u64,
    pub(super) bytes: u64,
    pub(super) partitions: u64,
    pub(super) commits: u64,
}

impl<W: Write> Report<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            verdict: Verdict::default(),
            batches: 0,
            bytes: 0,
            partitions: 0,
            commits: 0,
        }
    }

    /// Something that was durable is not there, or not what was written.
    pub(super) fn damaged(&mut self, what: impl Display) -> io::Result<()> {
        self.verdict.add(Verdict::Damaged);
        writeln!(self.out, "damaged: {what}")
    }

    /// Something that was being written when the broker stopped.
    pub(super) fn torn_tail(&mut self, what: impl Display) -> io::Result<()> {
        self.verdict.add(Verdict::TornTail);
        writeln!(self.out, "torn tail: {what}")
    }

    /// Something worth knowing that is no fault.
    pub(super) fn note(&mut self, what: impl Display) -> io::Result<()> {
        writeln!(self.out, "note: {what}")
    }

    #[cfg(test)]
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub(super) fn finish(mut self) -> Result<ExitStatus, Failure> {
        let written = writeln!(
            self.out,
            "{} partitions, {} batches in segments ({}), {} commits to replay: {}",
            self.partitions,
            self.batches,
            bytes_text(self.bytes),
            self.commits,
            self.verdict.name()
        )
        .and_then(|()| self.out.flush());
        quiet_when_the_reader_left(written)?;
        Ok(self.verdict.into())
    }
}
