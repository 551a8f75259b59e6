//! How a child broker is to be configured.

use std::path::PathBuf;

use gannet_engine::control::Config;
use gannet_engine::control::config::{ConfigError, Layers};

/// What a child broker is told besides its address and directory, which are its parent's to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerSettings {
    /// Its shards, above what the file says.
    pub shards: Option<u16>,
    /// A configuration file.
    pub config: Option<PathBuf>,
}

impl BrokerSettings {
    /// The configuration that they make: defaults, the file, then the shards. No variables of the environment: a run that was measured must be what its options say.
    ///
    /// # Errors
    /// As `gannet serve`: when the file cannot be read, or any value cannot be taken.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers.read(path)?;
        }
        if let Some(shards) = self.shards {
            // As a flag, so that a refusal names it.
            layers.flag("--shards", "shards", &shards.to_string())?;
        }
        layers.build()
    }
}

#[cfg(test)]
mod tests {
    use gannet_engine::control::config::Auto;

    use super::*;

    fn settings(text: &str, shards: Option<u16>) -> (tempfile::TempDir, BrokerSettings) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gannet.toml");
        std::fs::write(&path, text).unwrap();
        let config = Some(path);
        (directory, BrokerSettings { shards, config })
    }

    #[test]
    fn the_shards_that_are_asked_for_go_above_the_file() {
        let (_directory, settings) =
            settings("shards = 2\njournal.commit_interval_us = 7\n", Some(1));
        let config = settings.load().unwrap();
        assert_eq!(config.shards, Auto::Fixed(1));
        assert_eq!(config.journal.commit_interval_us, 7);
    }

    #[test]
    fn a_key_that_the_broker_does_not_know_is_refused_with_its_file() {
        let (directory, settings) = settings("[journal]\ncommit_interval = 7\n", None);
        let sentence = settings.load().unwrap_err().to_string();
        assert!(
            sentence.contains("journal.commit_interval")
                && sentence.contains(&directory.path().display().to_string()),
            "{sentence}"
        );
    }
}
