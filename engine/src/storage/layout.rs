//! Where files lie in a data directory.
//!
//! ```text
//! LOCK                                     held while a broker runs
//! catalogue/topics-<n>.a .b                topics, ids, the number of shards (RecordLog)
//! layout-<n>/shard-<i>/journal/<slot>.gnj  a shard's journal files
//! layout-<n>/shard-<i>/journal/<slot>.gnj.damaged  says that this file is damaged and is kept
//! layout-<n>/shard-<i>/checkpoint-<n>.a .b a shard's checkpoint (RecordLog)
//! topics/<topic id>/<partition>/<id>.seg   segments of one partition
//! shared/<id>.seg                          segments of many
//! ```
//! A layout is one assignment of partitions to shards: another number of shards makes another layout. Segments never lie under a
//! shard, so they stay where they are.

use std::path::{Path, PathBuf};

use gannet_wire::{PartitionIndex, ShardIndex, TopicId};

use super::{PartitionKey, SegmentId};

/// Ends a segment's name.
pub const SEGMENT_SUFFIX: &str = ".seg";
/// Ends the name of a segment's index.
pub const INDEX_SUFFIX: &str = ".idx";
/// The name of a shard's directory of journal files.
pub const JOURNAL_DIR: &str = "journal";
/// Ends a journal file's name.
pub const JOURNAL_SUFFIX: &str = ".gnj";
/// Ends the name of the note that a journal file is damaged and is kept.
pub const JOURNAL_KEPT_SUFFIX: &str = ".gnj.damaged";
/// The name of a shard's checkpoint log.
pub const CHECKPOINT_NAME: &str = "checkpoint";
/// The name of the catalogue's log.
pub const CATALOGUE_NAME: &str = "topics";

/// The paths of one data directory.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// The data directory at `root`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The catalogue's directory.
    #[must_use]
    pub fn catalogue(&self) -> PathBuf {
        self.root.join("catalogue")
    }

    /// All of a layout.
    #[must_use]
    pub fn layout(&self, layout: u64) -> PathBuf {
        self.root.join(format!("layout-{layout}"))
    }

    /// The number in the name of a layout's directory.
    #[must_use]
    pub fn layout_of_name(name: &str) -> Option<u64> {
        name.strip_prefix("layout-")?.parse().ok()
    }

    /// What one shard keeps for itself.
    #[must_use]
    pub fn shard(&self, layout: u64, shard: ShardIndex) -> PathBuf {
        self.layout(layout).join(format!("shard-{shard}"))
    }

    /// A shard's journal files.
    #[must_use]
    pub fn journal(&self, layout: u64, shard: ShardIndex) -> PathBuf {
        self.shard(layout, shard).join(JOURNAL_DIR)
    }

    /// Segments of many partitions.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// All topics' directories.
    #[must_use]
    pub fn topics(&self) -> PathBuf {
        self.root.join("topics")
    }

    /// A topic's directory.
    #[must_use]
    pub fn topic(&self, topic: TopicId) -> PathBuf {
        self.topics().join(format!("{:016x}", topic.0))
    }

    /// The id in the name of a topic's directory.
    #[must_use]
    pub fn topic_of_name(name: &str) -> Option<TopicId> {
        let id = u64::from_str_radix(name, 16).ok().map(TopicId);
        id.filter(|id| format!("{:016x}", id.0) == name)
    }

    /// The number in the name of a partition's directory.
    #[must_use]
    pub fn partition_of_name(name: &str) -> Option<PartitionIndex> {
        let partition = name.parse().ok().map(PartitionIndex);
        partition.filter(|partition| partition.to_string() == name)
    }

    /// A partition's directory.
    #[must_use]
    pub fn partition(&self, key: PartitionKey) -> PathBuf {
        self.topic(key.topic).join(key.partition.to_string())
    }

    /// The directory a segment lies in: its partition's, or the shared one.
    #[must_use]
    pub fn segment_dir(&self, owner: Option<PartitionKey>) -> PathBuf {
        owner.map_or_else(|| self.shared(), |key| self.partition(key))
    }

    /// A segment.
    #[must_use]
    pub fn segment(&self, owner: Option<PartitionKey>, id: SegmentId) -> PathBuf {
        self.segment_dir(owner)
            .join(format!("{id}{SEGMENT_SUFFIX}"))
    }

    /// A segment's index.
    #[must_use]
    pub fn index(&self, owner: Option<PartitionKey>, id: SegmentId) -> PathBuf {
        self.segment_dir(owner).join(format!("{id}{INDEX_SUFFIX}"))
    }

    /// The id in the name of a segment or index.
    #[must_use]
    pub fn segment_of_name(name: &str) -> Option<SegmentId> {
        let stem = name
            .strip_suffix(SEGMENT_SUFFIX)
            .or_else(|| name.strip_suffix(INDEX_SUFFIX))?;
        u64::from_str_radix(stem, 16).ok().map(SegmentId)
    }
}
