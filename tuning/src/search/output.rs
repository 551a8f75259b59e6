//! The file that a search writes: reserved before anything is measured, since a name that cannot be written is better known before than after.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A place for the result. Nothing is there, or what was there stays, until all of it is written.
#[derive(Debug)]
pub struct Output {
    file: NamedTempFile,
    path: PathBuf,
    force: bool,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is one already.
    #[error("{} exists already: give another name, or --force to replace it", .0.display())]
    Exists(PathBuf),
    /// The operating system's refusal.
    #[error("{} cannot be written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Output {
    /// Takes the name.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn reserve(path: &Path, force: bool) -> Result<Self, OutputError> {
        if path.exists() && !force {
            return Err(OutputError::Exists(path.to_owned()));
        }
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let permissions =
            <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        let file = tempfile::Builder::new()
            .prefix(".gannet-tune-")
            .permissions(permissions)
            .tempfile_in(directory)
            .map_err(io_error(path))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            force,
        })
    }

    /// Where it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`OutputError`]; without force also when somebody made a file of that name meanwhile.
    pub fn write(mut self, text: &str) -> Result<(), OutputError> {
        self.file
            .write_all(text.as_bytes())
            .map_err(io_error(&self.path))?;
        if self.force {
            self.file
                .persist(&self.path)
                .map_err(|error| io_error(&self.path)(error.error))?;
            return Ok(());
        }
        match self.file.persist_noclobber(&self.path) {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(OutputError::Exists(self.path))
            }
            Err(error) => Err(io_error(&self.path)(error.error)),
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    let path = path.to_owned();
    move |source| OutputError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_not_replaced_unless_forced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gannet.toml");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(
            Output::reserve(&path, false),
            Err(OutputError::Exists(_))
        ));
        let output = Output::reserve(&path, true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        output.write("yours").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "yours");
    }

    #[test]
    fn a_file_made_meanwhile_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gannet.toml");
        let output = Output::reserve(&path, false).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(output.write("yours"), Err(OutputError::Exists(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_name_that_cannot_be_written_is_known_at_once_and_nothing_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/gannet.toml");
        let error = Output::reserve(&path, false).unwrap_err().to_string();
        assert!(error.contains("missing/gannet.toml"), "{error}");
        drop(Output::reserve(&directory.path().join("gannet.toml"), false).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
