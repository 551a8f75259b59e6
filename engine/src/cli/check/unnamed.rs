//! Segments that no checkpoint and no journal names: what a crash left before anything relied on it, or what was deleted.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::Stop;
use super::report::Report;
use crate::cli::table::bytes_text;
use crate::storage::SegmentId;
use crate::storage::layout::{DataDir, SEGMENT_SUFFIX};

#[derive(Default)]
struct Unnamed {
    segments: u64,
    bytes: u64,
}

/// Says how many there are.
pub(super) fn note<W: Write>(
    data: &DataDir,
    named: &HashSet<SegmentId>,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    let mut unnamed = Unnamed::default();
    for dir in [data.topics(), data.shared()] {
        if let Err(error) = unnamed.count_below(&dir, named) {
            report.note(format_args!(
                "{} could not be listed: {error}",
                dir.display()
            ))?;
        }
    }
    if unnamed.segments > 0 {
        report.note(format_args!(
            "{} segments ({}) are named by nothing: a crash left them before anything relied on them, or their topic is deleted",
            unnamed.segments,
            bytes_text(unnamed.bytes)
        ))?;
    }
    Ok(())
}

impl Unnamed {
    fn count_below(&mut self, dir: &Path, named: &HashSet<SegmentId>) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.count_below(&entry.path(), named)?;
                continue;
            }
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let id = DataDir::segment_of_name(&name).filter(|_| name.ends_with(SEGMENT_SUFFIX));
            if id.is_some_and(|id| !named.contains(&id)) {
                self.segments += 1;
                self.bytes += entry.metadata()?.len();
            }
        }
        Ok(())
    }
}
