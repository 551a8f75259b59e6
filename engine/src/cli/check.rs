//! `gannet check`: whether a data directory holds everything that a start will need, and what it would find missing.

mod coverage;
mod kept;
mod report;
mod runs;
mod shard;
mod unnamed;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use gannet_wire::ShardIndex;
use rustix::fs::{FlockOperation, flock};

use self::report::Report;
use super::examine::disk::{ReadOnlyDisk, now};
use super::exit::{ExitStatus, Failure};
use crate::control::catalogue::{Catalogue, CatalogueState};
use crate::storage::layout::DataDir;

/// Checks everything stored in a data directory, without changing anything, while no broker runs on it.
///
/// Judges as a start would: catalogue, checkpoints, journals, and every batch of every segment that they name.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The data directory
    data_dir: PathBuf,
}

pub(super) fn run(args: CheckArgs) -> Result<ExitStatus, Failure> {
    let _lock = lock(&args.data_dir)?;
    let data = DataDir::new(&args.data_dir);
    let mut report = Report::new(BufWriter::new(io::stdout().lock()));
    let Some((catalogue, _)) = now(Catalogue::load(&ReadOnlyDisk, &data.catalogue()))? else {
        return Err(no_catalogue(&data));
    };
    let checked = check(&data, &catalogue, &mut report);
    match checked {
        Ok(()) => report.finish(),
        Err(Stop::Failed(failure)) => Err(failure),
        Err(Stop::Output(error)) => super::quiet_when_the_reader_left(Err(error)),
    }
}

/// Why the check ended early.
#[derive(Debug)]
enum Stop {
    Failed(Failure),
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn check<W: Write>(
    data: &DataDir,
    catalogue: &CatalogueState,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    let mut named = HashSet::new();
    for shard in 0..catalogue.layout.shards {
        shard::check(data, catalogue, ShardIndex(shard), &mut named, report)?;
    }
    kept::report(data, catalogue.layout.number, report)?;
    unnamed::note(data, &named, report)
}

/// Keeps a broker from starting while the check runs, and the check from judging files that a broker is writing.
fn lock(data_dir: &Path) -> Result<Option<File>, Failure> {
    let environment = |what: String| Failure::new(ExitStatus::Environment, what);
    let path = data_dir.join("LOCK");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(environment(format!(
                "{} could not be opened: {error}",
                path.display()
            )));
        }
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(Some(file)),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Err(environment(format!(
            "a broker runs on {}: stop it first, since what it is writing cannot be judged",
            data_dir.display()
        ))),
        Err(error) => Err(environment(format!(
            "{} could not be locked: {error}",
            path.display()
        ))),
    }
}

/// No catalogue: an empty or a wrong directory, unless something else of a broker is there.
fn no_catalogue(data: &DataDir) -> Failure {
    let root = data.root().display();
    if data.topics().exists() || data.shared().exists() {
        Failure::new(
            ExitStatus::Damaged,
            format!(
                "{root} holds segments but no catalogue, which says whose they are: restore its catalogue directory from a copy"
            ),
        )
    } else {
        Failure::new(
            ExitStatus::Environment,
            format!("{root} is not a data directory: it has no catalogue; is the path right?"),
        )
    }
}

#[cfg(test)]
mod tests;
