//! `gannet-loadgen report`: the reports of runs and sweeps beside each other, on one page.

mod entries;
mod plots;
mod reading;
mod tables;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::page::{Page, PlotError};
use entries::Entries;
pub use reading::{Content, ReadError, Source, read};

/// What is to be compared, and where that goes.
#[derive(Clone, Debug, Args)]
pub struct CompareOptions {
    /// What runs and sweeps wrote with --report. Runs of one label, driver and durability that did the same count as rounds: throughput is shown with its spread.
    #[arg(required = true, value_name = "FILE.json")]
    pub files: Vec<PathBuf>,
    /// The page, one file that needs no other.
    #[arg(short, long, value_name = "FILE.html", default_value = "race.html")]
    pub output: PathBuf,
    /// The page's title.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Figures of the load generator"
    )]
    pub title: String,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A file that is no report.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A plot that cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// The page's file.
    #[error("the page cannot be written to {}: {source}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// The operating system's refusal.
        source: io::Error,
    },
}

/// Reads the reports and writes the page, whole or not at all.
///
/// # Errors
/// [`CompareError`].
pub fn compare(options: &CompareOptions) -> Result<(), CompareError> {
    let sources = options
        .files
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>, _>>()?;
    let page = page(&options.title, &sources)?;
    write_whole(&options.output, &page.html()).map_err(|source| CompareError::Write {
        path: options.output.clone(),
        source,
    })
}

/// The page of these reports.
///
/// # Errors
/// [`PlotError`].
pub fn page(title: &str, sources: &[Source]) -> Result<Page, PlotError> {
    let entries = Entries::of(sources);
    let mut page = Page::new(title);
    page.lead(
        "Latencies count from when a record should have been sent: at a fixed rate by the schedule, whatever held it up; as fast as it goes, when it was handed to the client. MB are \
         10^6 bytes of record values. Every record of every run was checked on its way out: nothing lost, doubled, reordered or changed, unless the last column says otherwise.",
    );
    if !entries.runs.is_empty() {
        page.section(tables::all_figures(&entries));
    }
    for section in plots::workloads(&entries)? {
        page.section(section);
    }
    for section in plots::sweeps(&entries)? {
        page.section(section);
    }
    if let Some(section) = tables::other_figures(&entries) {
        page.section(section);
    }
    page.section(tables::conditions(sources));
    Ok(page)
}

/// In place of what is there, or not at all: a reader never sees half a page.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    let mut file = tempfile::Builder::new()
        .prefix(".gannet-loadgen-")
        .permissions(permissions)
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests;
