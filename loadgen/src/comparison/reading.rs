//! Reports as files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::report::Report;
use crate::sweep::report::SweepReport;

/// A sweep of a hundred steps has a few megabytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A report and the file it came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name, without its directory.
    pub file: String,
    /// What it holds.
    pub content: Content,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// A run.
    Run(Box<Report>),
    /// A sweep.
    Sweep(Box<SweepReport>),
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system's refusal.
    #[error("{} cannot be read: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is no report of gannet-loadgen: {what}", .path.display())]
    NoReport {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads a report of a run or of a sweep, of this version or an older one.
///
/// # Errors
/// [`ReadError`].
pub fn read(path: &Path) -> Result<Source, ReadError> {
    let io_error = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(io_error)?;
    let content = content(&text).map_err(|what| ReadError::NoReport {
        path: path.to_owned(),
        what,
    })?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(Source {
        file: name.to_string_lossy().into_owned(),
        content,
    })
}

fn content(text: &[u8]) -> Result<Content, String> {
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "it has more than {}",
            crate::units::bytes(FILE_BYTES_MAX)
        ));
    }
    let value: Value =
        serde_json::from_slice(text).map_err(|error| format!("it is no JSON ({error})"))?;
    let list = |key| value.get(key).and_then(Value::as_array).map(Vec::len);
    match (list("sweep"), list("phases")) {
        (Some(0), _) => Err("its sweep has no step".to_owned()),
        (Some(_), _) => fields(value).map(|report| Content::Sweep(Box::new(report))),
        (None, Some(0)) => Err("it has no phase".to_owned()),
        (None, Some(_)) => fields(value).map(|report| Content::Run(Box::new(report))),
        (None, None) => Err("it has neither phases, as a run has, nor a sweep".to_owned()),
    }
}

fn fields<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value)
        .map_err(|error| format!("a field is not as it should be ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_report_is_said() {
        for (text, words) in [
            ("", "no JSON"),
            ("[1, 2]", "neither phases"),
            (r#"{"phases": []}"#, "no phase"),
            (r#"{"sweep": []}"#, "no step"),
            (
                r#"{"phases": [{"name": 5}]}"#,
                "a field is not as it should be",
            ),
            (
                r#"{"phases": [{}], "passed": "yes"}"#,
                "a field is not as it should be",
            ),
        ] {
            let what = content(text.as_bytes()).unwrap_err();
            assert!(what.contains(words), "{text}: {what}");
        }
    }

    #[test]
    fn a_file_is_named_with_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other.json");
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("other.json cannot be read"), "{error}");
        std::fs::write(&path, "{}").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("other.json is no report"), "{error}");
    }

    #[test]
    fn a_report_of_a_version_with_other_fields_opens() {
        let text = r#"{"version": "0.0.1", "future": {"a": 1}, "publish": {"records_per_s": 5.0, "latency_us": {"count": 1, "p50": 2.0}},
            "phases": [{"name": "paced", "publish": {"records_per_s": 5.0, "latency_us": {"count": 1, "p50": 2.0, "p77": 3.0}}}]}"#;
        let Ok(Content::Run(report)) = content(text.as_bytes()) else {
            panic!("it does not open")
        };
        assert_eq!(report.last.publish.flow.records_per_s, 5.0);
        assert_eq!(report.phases[0].publish.latency_us.p50, 2.0);
        assert_eq!(report.phases[0].limited_by_generator, None);
    }
}
