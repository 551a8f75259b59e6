//! The file of `--report`: opened before the run, since a name that cannot be written is better known before than after it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A file that waits for its report. Unless one is written, a file that was there stays as it was and one that was not is removed.
#[derive(Debug)]
pub struct ReportFile {
    file: File,
    path: PathBuf,
    /// Made by this run, and nothing is in it yet.
    is_new: bool,
}

/// Why there is no report in the file.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be written to {}: {source}", .path.display())]
pub struct ReportFileError {
    path: PathBuf,
    source: io::Error,
}

impl ReportFile {
    /// Makes the file, or takes the one there is.
    ///
    /// # Errors
    /// [`ReportFileError`].
    pub fn open(path: &Path) -> Result<Self, ReportFileError> {
        let mut options = OpenOptions::new();
        options.write(true);
        let is_new = !path.exists();
        let file = options
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(error_at(path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            is_new,
        })
    }

    /// Writes the report as JSON, in place of whatever is there.
    ///
    /// # Errors
    /// [`ReportFileError`].
    pub fn write(mut self, report: &impl Serialize) -> Result<(), ReportFileError> {
        self.is_new = false;
        // Pipes and terminals have no length.
        if self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file())
        {
            self.file.set_len(0).map_err(error_at(&self.path))?;
        }
        serde_json::to_writer_pretty(&self.file, report)
            .map_err(|source| error_at(&self.path)(source.into()))
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if self.is_new {
            // It is empty: nobody misses it, and nobody is harmed if it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn error_at(path: &Path) -> impl FnOnce(io::Error) -> ReportFileError {
    let path = path.to_owned();
    move |source| ReportFileError { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_known_before_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let error = ReportFile::open(&directory.path().join("missing/report.json")).unwrap_err();
        assert!(error.to_string().contains("missing/report.json"), "{error}");
    }

    #[test]
    fn without_a_report_the_file_is_as_it_was_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        drop(ReportFile::open(&path).unwrap());
        assert!(!path.exists());
        std::fs::write(&path, "of another run").unwrap();
        drop(ReportFile::open(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "of another run");
    }
}
