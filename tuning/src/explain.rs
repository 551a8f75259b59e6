//! What the keys of a configuration file mean.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use gannet_engine::control::config::{ConfigError, ConfigKey, Layers, keys};
use toml::{Table, Value};

/// Why a file cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The broker would not start with it.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Explains each key that the file sets: its value and default, what it trades, what it bounds. With `all`, also those it leaves at their default.
///
/// # Errors
/// When the file cannot be read, or the broker would refuse it.
pub fn explain(path: &Path, all: bool) -> Result<String, ExplainError> {
    let text = fs::read_to_string(path).map_err(|source| ExplainError::Read {
        path: path.to_owned(),
        source,
    })?;
    explain_text(path, &text, all)
}

pub(crate) fn explain_text(path: &Path, text: &str, all: bool) -> Result<String, ExplainError> {
    let mut layers = Layers::default();
    layers.file(path, text)?;
    let config = layers.build()?;
    let values = config.to_table();
    // Parsed above already: what is in it is what the file sets.
    let written: Table = text.parse().unwrap_or_default();
    let mut explained = String::new();
    for key in keys() {
        let is_set = value_of(&written, key).is_some();
        if is_set || all {
            write_key(&mut explained, key, value_of(&values, key), is_set)
                .expect("writing to a string does not fail");
        }
    }
    if explained.is_empty() {
        explained.push_str("The file sets nothing: every key has its default.\n");
    }
    Ok(explained)
}

fn write_key(
    text: &mut String,
    key: &ConfigKey,
    value: Option<&Value>,
    is_set: bool,
) -> std::fmt::Result {
    let value = value.map_or_else(String::new, Value::to_string);
    if is_set {
        writeln!(
            text,
            "{} = {value}  (default {}; {})",
            key.name, key.default, key.unit
        )?;
    } else {
        writeln!(
            text,
            "{} = {}  (the default; {})",
            key.name, key.default, key.unit
        )?;
    }
    writeln!(text, "    {}\n    {}\n", key.trades, key.bounds)
}

fn value_of<'a>(table: &'a Table, key: &ConfigKey) -> Option<&'a Value> {
    let (section, name) = key.section_and_name();
    if section.is_empty() {
        table.get(name)
    } else {
        table.get(section)?.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str, all: bool) -> Result<String, ExplainError> {
        explain_text(Path::new("gannet.toml"), text, all)
    }

    #[test]
    fn a_key_that_is_set_is_explained_beside_its_default() {
        let text = explained("[journal]\nfile_bytes = \"128 MiB\"\n", false).unwrap();
        assert!(
            text.starts_with("journal.file_bytes = 134217728  (default \"64 MiB\"; bytes)"),
            "{text}"
        );
        assert!(!text.contains("listen"), "{text}");
        let key = keys()
            .iter()
            .find(|key| key.name == "journal.file_bytes")
            .unwrap();
        assert!(text.contains(key.trades) && text.contains(key.bounds));
    }

    #[test]
    fn all_keys_are_explained_when_asked_for() {
        let text = explained("", true).unwrap();
        for key in keys() {
            assert!(text.contains(key.name), "{}", key.name);
        }
    }

    #[test]
    fn an_empty_file_says_that_it_sets_nothing() {
        assert!(
            explained("", false)
                .unwrap()
                .contains("every key has its default")
        );
    }

    #[test]
    fn a_key_that_the_broker_refuses_is_refused() {
        assert!(matches!(
            explained("[journal]\nfile_byte = 1\n", false),
            Err(ExplainError::Config(_))
        ));
    }
}
