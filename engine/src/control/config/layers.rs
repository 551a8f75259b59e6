//! The layers of a configuration, laid over each other key by key, so that an error can say where a value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, keys};

/// The prefix of every environment variable that is ours.
const ENVIRONMENT_PREFIX: &str = "GANNET_";
/// Variables with our prefix that are not configuration keys: those of the command line, and those that Kubernetes sets in
/// every pod beside a service that is called `gannet`.
const ENVIRONMENT_OTHERS: [&str; 3] = ["GANNET_SERVER", "GANNET_CONFIG", "GANNET_LOG"];
const ENVIRONMENT_OTHERS_PREFIXES: [&str; 2] = ["GANNET_SERVICE_", "GANNET_PORT"];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said otherwise.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A flag, as it was spelled.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(formatter, "the default"),
            Self::File(path) => write!(formatter, "the file {}", path.display()),
            Self::Environment(name) => write!(formatter, "the environment variable {name}"),
            Self::Flag(flag) => write!(formatter, "the flag {flag}"),
        }
    }
}

/// Where each value came from; what is not listed is a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(BTreeMap<&'static str, Source>);

impl Sources {
    /// The source of the value of `key`, such as `journal.file_bytes`.
    #[must_use]
    pub fn of(&self, key: &str) -> &Source {
        self.0.get(key).unwrap_or(&Source::Default)
    }
}

/// Why a configuration was refused. Its text is one sentence that names the key, the source and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("the configuration file {path} could not be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file, or the value of a flag, is not TOML.
    #[error("{place} is not valid TOML: {reason}")]
    Syntax {
        /// The file and the line.
        place: String,
        /// What the parser expected.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{origin} sets `{key}`, which is not a configuration key{}", did_you_mean(.closest))]
    UnknownKey {
        /// The key, as written.
        key: String,
        /// Where it was written.
        origin: Source,
        /// The known key that looks most like it, when one does.
        closest: Option<String>,
    },
    /// A value that its key cannot take.
    #[error("`{key}`, set by {origin}, cannot be {value}: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Where the value was written.
        origin: Source,
        /// The value, as TOML.
        value: String,
        /// What the key takes.
        reason: String,
    },
    /// Values that do not go together, or not with this machine.
    #[error("{0}")]
    Relation(String),
}

/// Gathers layers; call them in any order of sources from the weakest to the strongest, then [`Layers::build`].
#[derive(Debug, Default)]
pub struct Layers {
    /// What was set, in the order of setting: a later one wins.
    settings: Vec<Setting>,
}

#[derive(Debug)]
struct Setting {
    key: &'static str,
    value: Value,
    source: Source,
}

impl Config {
    /// Defaults, below the file (if there is one), below the environment of this process, below `flags`: pairs of a key and its value.
    ///
    /// # Errors
    /// When the file cannot be read, or any value cannot be taken.
    pub fn load(
        file: Option<&Path>,
        flags: impl IntoIterator<Item = FlagSetting>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        if let Some(path) = file {
            layers.read(path)?;
        }
        layers.environment(std::env::vars_os().filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        }))?;
        for flag in flags {
            layers.flag(&flag.flag, &flag.key, &flag.value)?;
        }
        layers.build()
    }

    /// A configuration from the text of a file alone. `path` is for sentences only.
    ///
    /// # Errors
    /// When any value cannot be taken.
    pub fn from_toml(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        layers.file(path, text)?;
        layers.build()
    }
}

/// A value set on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagSetting {
    /// The flag as the operator knows it, such as `--data-dir`.
    pub flag: String,
    /// The key it sets, such as `data_dir`.
    pub key: String,
    /// The value, as text.
    pub value: String,
}

impl Layers {
    /// Lays a file over what is there.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, or sets an unknown key.
    pub fn read(&mut self, path: &Path) -> Result<(), ConfigError> {
        let bytes = std::fs::read(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let text = String::from_utf8(bytes).map_err(|error| ConfigError::Syntax {
            place: path.display().to_string(),
            reason: format!("{}", error.utf8_error()),
        })?;
        self.file(path, &text)
    }

    /// Lays the text of a file over what is there. `path` is for sentences only.
    ///
    /// # Errors
    /// When it is not TOML, or sets an unknown key.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| {
                1 + text
                    .bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count()
            });
            ConfigError::Syntax {
                place: format!("{} at line {line}", path.display()),
                reason: error.message().lines().collect::<Vec<_>>().join(", "),
            }
        })?;
        self.table("", table, &Source::File(path.to_owned()))
    }

    /// Lays environment variables over what is there; those without our prefix are passed over.
    ///
    /// # Errors
    /// When one has our prefix and names no key.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(suffix) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            let others = ENVIRONMENT_OTHERS.contains(&name.as_str())
                || ENVIRONMENT_OTHERS_PREFIXES
                    .iter()
                    .any(|prefix| name.starts_with(prefix));
            if others {
                continue;
            }
            let Some(key) = keys()
                .iter()
                .find(|key| environment_suffix(key.name) == suffix)
            else {
                let closest = closest_by(suffix, environment_suffix)
                    .map(|key| format!("{ENVIRONMENT_PREFIX}{}", environment_suffix(key)));
                return Err(ConfigError::UnknownKey {
                    key: name.clone(),
                    origin: Source::Environment(name),
                    closest,
                });
            };
            self.settings.push(Setting {
                key: key.name,
                value: value_of_text(key.name, &value),
                source: Source::Environment(name),
            });
        }
        Ok(())
    }

    /// Lays the value of one flag over what is there.
    ///
    /// # Errors
    /// When it names no key.
    pub fn flag(&mut self, flag: &str, key: &str, value: &str) -> Result<(), ConfigError> {
        self.set(
            key.to_owned(),
            value_of_text(key, value),
            Source::Flag(flag.to_owned()),
        )
    }

    /// Checks every value and the relations between them.
    ///
    /// # Errors
    /// When a value cannot be taken, or two do not go together.
    pub fn build(self) -> Result<Config, ConfigError> {
        let mut merged = Table::new();
        let mut sources = Sources::default();
        for Setting { key, value, source } in self.settings {
            // Each value is tried alone, so that the one at fault is known whatever the decoder says about it.
            if let Err(error) = Config::deserialize(with_leaf(Table::new(), key, value.clone())) {
                let reason = error.message().lines().collect::<Vec<_>>().join(", ");
                let known = keys().iter().find(|known| known.name == key);
                return Err(ConfigError::Value {
                    key,
                    origin: source,
                    value: value.to_string(),
                    reason: match known {
                        Some(known) => format!("{reason}; its default is {}", known.default),
                        None => reason,
                    },
                });
            }
            merged = with_leaf(merged, key, value);
            sources.0.insert(key, source);
        }
        let mut config = Config::deserialize(merged)
            .map_err(|error| ConfigError::Relation(error.message().to_owned()))?;
        config.sources = sources;
        config.check()?;
        Ok(config)
    }

    fn table(&mut self, prefix: &str, table: Table, source: &Source) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}.{name}")
            };
            match value {
                Value::Table(inner) => self.table(&key, inner, source)?,
                value => self.set(key, value, source.clone())?,
            }
        }
        Ok(())
    }

    fn set(&mut self, key: String, value: Value, source: Source) -> Result<(), ConfigError> {
        match keys().iter().find(|known| known.name == key) {
            Some(known) => {
                self.settings.push(Setting {
                    key: known.name,
                    value,
                    source,
                });
                Ok(())
            }
            None => Err(ConfigError::UnknownKey {
                closest: closest_by(&key, str::to_owned).map(str::to_owned),
                key,
                origin: source,
            }),
        }
    }
}

/// `journal.file_bytes` becomes `JOURNAL_FILE_BYTES`.
fn environment_suffix(key: &str) -> String {
    key.replace('.', "_").to_ascii_uppercase()
}

/// What a text from the environment or the command line means to `key`: a number, a truth value or a list where the key takes
/// one, else the text as it is (a directory may be called `7`).
fn value_of_text(key: &str, text: &str) -> Value {
    let trimmed = text.trim();
    let typed = if let Ok(number) = trimmed.parse::<i64>() {
        Some(Value::Integer(number))
    } else if let Ok(truth) = trimmed.parse::<bool>() {
        Some(Value::Boolean(truth))
    } else if trimmed.starts_with('[') {
        trimmed.parse::<Value>().ok()
    } else {
        None
    };
    typed
        .filter(|value| Config::deserialize(with_leaf(Table::new(), key, value.clone())).is_ok())
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// `table` with `value` at the dotted `key`. Keys have at most one dot.
fn with_leaf(mut table: Table, key: &str, value: Value) -> Table {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, name)) => {
            let inner = table
                .entry(section.to_owned())
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                inner.insert(name.to_owned(), value);
            }
        }
    }
    table
}

fn did_you_mean(closest: &Option<String>) -> String {
    match closest {
        Some(key) => format!("; the closest one is `{key}`"),
        None => "; `gannet serve --help-config` lists them all".to_owned(),
    }
}

/// The known key whose `spelling` is nearest to `written`, unless even that one shares little with it. The right name under a
/// wrong section counts as near.
fn closest_by(written: &str, spelling: impl Fn(&str) -> String) -> Option<&'static str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    keys()
        .iter()
        .map(|key| {
            let whole = edit_distance(written, &spelling(key.name));
            let name = 1 + edit_distance(&last(written), &last(&spelling(key.name)));
            (whole.min(name), key.name)
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 2 + last(written).len() / 3)
        .map(|(_, name)| name)
}

/// Levenshtein's distance, one row at a time.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(&to) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            *cell = replaced.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}
