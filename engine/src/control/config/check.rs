//! What values may be, alone and beside each other.

use toml::{Table, Value};

use super::{Auto, Config, ConfigError, keys};
use crate::limits::{
    COMMITS_PER_JOURNAL_FILE_MIN, CORE_INDEX_MAX, DISK_BLOCK_BYTES, FRAME_OVERHEAD_BYTES_MIN,
    PARTITION_DESCRIPTION_BYTES,
};

impl Config {
    /// Checks every value against its range, and the relations that hold on every machine.
    ///
    /// # Errors
    /// The first that does not hold, in a sentence that says where the values came from.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_ranges()?;
        self.check_blocks()?;
        self.check_relations()?;
        self.check_cores()
    }

    /// Every value as TOML, without where it came from.
    #[must_use]
    pub fn to_table(&self) -> Table {
        // IMPORTANT: the serializer can only fail for types that a configuration has none of (an integer beyond i64 is
        // refused on the way in); an empty table would make the range check pass, so it must not be returned.
        Table::try_from(self).expect("every value of a configuration has a form in TOML")
    }

    fn check_ranges(&self) -> Result<(), ConfigError> {
        let table = self.to_table();
        for key in keys() {
            let (section, name) = key.section_and_name();
            let value = if section.is_empty() {
                table.get(name)
            } else {
                table.get(section).and_then(|section| section.get(name))
            };
            if let (Some(range), Some(Value::Integer(value))) = (&key.range, value)
                && !range.contains(value)
            {
                let reason = if value < range.start() {
                    format!("the least is {} ({})", range.start(), key.unit)
                } else {
                    format!("the most is {} ({})", range.end(), key.unit)
                };
                return Err(ConfigError::Value {
                    key: key.name,
                    origin: self.sources.of(key.name).clone(),
                    value: value.to_string(),
                    reason,
                });
            }
        }
        for (key, value) in [
            ("topics.retention_ms", self.topics.retention_ms),
            ("topics.retention_bytes", self.topics.retention_bytes),
        ] {
            if value == 0 {
                return Err(ConfigError::Value {
                    key,
                    origin: self.sources.of(key).clone(),
                    value: value.to_string(),
                    reason: "that would keep nothing; -1 keeps everything".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn check_blocks(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("journal.file_bytes", self.journal.file_bytes),
            ("journal.commit_bytes_max", self.journal.commit_bytes_max),
            ("storage.segment_bytes_max", self.storage.segment_bytes_max),
            ("storage.flush_write_bytes", self.storage.flush_write_bytes),
            ("storage.read_chunk_bytes", self.storage.read_chunk_bytes),
        ] {
            if !value.is_multiple_of(DISK_BLOCK_BYTES) {
                return Err(ConfigError::Value {
                    key,
                    origin: self.sources.of(key).clone(),
                    value: value.to_string(),
                    reason: format!(
                        "it is a multiple of {DISK_BLOCK_BYTES} bytes; the next one is {}",
                        value.next_multiple_of(DISK_BLOCK_BYTES)
                    ),
                });
            }
        }
        Ok(())
    }

    fn check_relations(&self) -> Result<(), ConfigError> {
        let batch_bytes_max = u64::from(self.network.batch_bytes_max);
        let frame_bytes_max = u64::from(self.network.frame_bytes_max);
        let partitions_max = u64::from(self.topics.partitions_max);
        self.at_most(
            ("journal.commit_bytes_max", self.journal.commit_bytes_max),
            ("journal.file_bytes", self.journal.file_bytes),
            self.journal.file_bytes / COMMITS_PER_JOURNAL_FILE_MIN,
            "a quarter of",
        )?;
        self.at_most(
            ("network.batch_bytes_max", batch_bytes_max),
            ("storage.segment_bytes_max", self.storage.segment_bytes_max),
            self.storage.segment_bytes_max / 2,
            "half of",
        )?;
        self.at_most(
            ("network.batch_bytes_max", batch_bytes_max),
            ("network.frame_bytes_max", frame_bytes_max),
            frame_bytes_max.saturating_sub(FRAME_OVERHEAD_BYTES_MIN),
            "4 KiB less than",
        )?;
        // A body that is not compressed is as large as its batch.
        self.at_most(
            ("network.batch_bytes_max", batch_bytes_max),
            (
                "network.decompressed_bytes_max",
                u64::from(self.network.decompressed_bytes_max),
            ),
            u64::from(self.network.decompressed_bytes_max),
            "",
        )?;
        self.at_most(
            ("topics.partitions_max", partitions_max),
            ("network.frame_bytes_max", frame_bytes_max),
            frame_bytes_max / PARTITION_DESCRIPTION_BYTES,
            "one for each 64 bytes of",
        )?;
        self.at_most(
            ("network.frame_bytes_max", frame_bytes_max),
            (
                "network.connection_buffer_bytes_max",
                self.network.connection_buffer_bytes_max,
            ),
            self.network.connection_buffer_bytes_max,
            "",
        )?;
        self.at_most(
            (
                "topics.partitions_default",
                u64::from(self.topics.partitions_default),
            ),
            ("topics.partitions_max", partitions_max),
            partitions_max,
            "",
        )?;
        self.at_most(
            ("storage.direct_bytes_min", self.storage.direct_bytes_min),
            ("journal.commit_bytes_max", self.journal.commit_bytes_max),
            self.journal.commit_bytes_max,
            "",
        )?;
        self.at_most(
            (
                "storage.own_segment_bytes_min",
                self.storage.own_segment_bytes_min,
            ),
            ("storage.direct_bytes_min", self.storage.direct_bytes_min),
            self.storage.direct_bytes_min,
            "",
        )
    }

    fn check_cores(&self) -> Result<(), ConfigError> {
        let Auto::Fixed(cores) = &self.runtime.cores else {
            return Ok(());
        };
        let key = "runtime.cores";
        let wrong = |reason: String| ConfigError::Value {
            key,
            origin: self.sources.of(key).clone(),
            value: format!("{cores:?}"),
            reason,
        };
        if cores.is_empty() {
            return Err(wrong("it names no core".to_owned()));
        }
        let mut sorted = cores.clone();
        sorted.sort_unstable();
        if let Some(core) = sorted.iter().find(|core| **core > CORE_INDEX_MAX) {
            return Err(wrong(format!("core {core} is above {CORE_INDEX_MAX}")));
        }
        if let Some(core) = sorted
            .iter()
            .zip(sorted.iter().skip(1))
            .find_map(|(core, next)| (core == next).then_some(core))
        {
            return Err(wrong(format!("core {core} is named twice")));
        }
        if let Auto::Fixed(shards) = self.shards
            && usize::from(shards) > cores.len()
        {
            return Err(ConfigError::Relation(format!(
                "`shards` is {shards} ({}) but `runtime.cores` ({}) names only {} cores: name more or ask for fewer shards",
                self.sources.of("shards"),
                self.sources.of(key),
                cores.len()
            )));
        }
        Ok(())
    }

    /// `smaller` is at most `limit`, which is `share` of `larger`.
    fn at_most(
        &self,
        smaller: (&'static str, u64),
        larger: (&'static str, u64),
        limit: u64,
        share: &str,
    ) -> Result<(), ConfigError> {
        if smaller.1 <= limit {
            return Ok(());
        }
        let space = if share.is_empty() { "" } else { " " };
        Err(ConfigError::Relation(format!(
            "`{}` is {} ({}) but can be at most {share}{space}`{}`, which is {} ({}): lower the one to {limit} or raise the other",
            smaller.0,
            smaller.1,
            self.sources.of(smaller.0),
            larger.0,
            larger.1,
            self.sources.of(larger.0),
        )))
    }
}
