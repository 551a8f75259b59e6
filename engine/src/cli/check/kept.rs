//! Damaged journal files that a move to another number of shards left where they were.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Stop;
use super::report::Report;
use crate::storage::layout::{DataDir, JOURNAL_DIR, JOURNAL_KEPT_SUFFIX, JOURNAL_SUFFIX};

/// Names them. `present`: the layout whose journals are checked by themselves.
pub(super) fn report<W: Write>(
    data: &DataDir,
    present: u64,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    let found = match of_former_layouts(data, present) {
        Ok(found) => found,
        Err(error) => {
            report.note(format_args!(
                "{} could not be listed: {error}",
                data.root().display()
            ))?;
            return Ok(());
        }
    };
    for path in found {
        report.damaged(format_args!(
            "journal file {} of a former number of shards is damaged; it is kept until an operator removes it and the note beside it",
            path.display()
        ))?;
    }
    Ok(())
}

fn of_former_layouts(data: &DataDir, present: u64) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for (name, layout) in entries(data.root())? {
        if DataDir::layout_of_name(&name).is_none_or(|number| number == present) {
            continue;
        }
        for (_, shard) in entries(&layout)? {
            let journal = shard.join(JOURNAL_DIR);
            for (note, _) in entries(&journal)? {
                if let Some(slot) = note.strip_suffix(JOURNAL_KEPT_SUFFIX) {
                    found.push(journal.join(format!("{slot}{JOURNAL_SUFFIX}")));
                }
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Names and paths of what is in a directory; nothing where there is none.
fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(dir) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    entries
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.path()))
        })
        .collect()
}
