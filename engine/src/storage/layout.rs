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

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gannet_wire::{PartitionIndex, ShardIndex, TopicId};

use super::{PartitionKey, SegmentId};

const CATALOGUE_DIR: &str = "catalogue";
const SHARED_DIR: &str = "shared";
const TOPICS_DIR: &str = "topics";
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

/// Where a file belongs in its data directory, as a number that what stands in it carries, or that its checksums begin with: a block that was meant for
/// another file is whole, and proves nothing here.
///
/// Zero names no file: that is what stands in files which were written before there were such numbers, and counts in any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilePlace(pub u32);

impl FilePlace {
    /// No file in particular.
    pub const NONE: Self = Self(0);

    /// Of a file, or of a pair of copies by what is common to their names. The data directory itself may be moved and renamed.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let components: Vec<_> = path.iter().collect();
        let is_top = |name: &OsStr| {
            [CATALOGUE_DIR, SHARED_DIR, TOPICS_DIR]
                .iter()
                .any(|known| name == *known)
                || name
                    .to_str()
                    .is_some_and(|name| DataDir::layout_of_name(name).is_some())
        };
        // The last one is the file's own name, and the catalogue's is that of a directory.
        let dirs = components.len().saturating_sub(1);
        let top = components[..dirs].iter().rposition(|name| is_top(name));
        let top = top.unwrap_or(0);
        let place = components[top..].iter().fold(0, |crc, name| {
            crc32c::crc32c_append(crc32c::crc32c_append(crc, name.as_bytes()), b"/")
        });
        // Zero has its meaning.
        Self(place.max(1))
    }

    /// Whether what says that it is of this file can be of `place`.
    #[must_use]
    pub fn may_be(self, place: Self) -> bool {
        self == place || self == Self::NONE
    }

    /// Whether a checksum is that of something in this file, or of what names no file.
    #[must_use]
    pub fn accepts(self, checksum: u32, of: impl Fn(Self) -> u32) -> bool {
        checksum == of(self) || checksum == of(Self::NONE)
    }
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
        self.root.join(CATALOGUE_DIR)
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
        self.root.join(SHARED_DIR)
    }

    /// All topics' directories.
    #[must_use]
    pub fn topics(&self) -> PathBuf {
        self.root.join(TOPICS_DIR)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> FilePlace {
        FilePlace::of(Path::new(path))
    }

    #[test]
    fn a_file_keeps_its_place_when_its_data_directory_moves() {
        for path in [
            "catalogue/topics",
            "layout-2/shard-0/checkpoint",
            "layout-2/shard-0/journal/00000001.gnj",
            "topics/0000000000000001/3/0000020000000000.idx",
            "shared/0000020000000000.idx",
        ] {
            let home = place(&format!("/data/{path}"));
            for root in ["", "./", "data/", "/srv/topics/layout-1/"] {
                assert_eq!(place(&format!("{root}{path}")), home, "{root}{path}");
            }
        }
    }

    #[test]
    fn places_are_what_is_on_disks_already() {
        let places = [
            ("/data/catalogue/topics", CATALOGUE),
            ("/data/layout-1/shard-0/checkpoint", CHECKPOINT),
            ("/data/layout-1/shard-0/journal/00000000.gnj", JOURNAL),
            ("/data/shared/0000020000000000.idx", INDEX),
        ];
        for (path, number) in places {
            assert_eq!(
                place(path),
                FilePlace(number),
                "{path}: {:#010x}",
                place(path).0
            );
        }
    }

    const CATALOGUE: u32 = 0xd997_c314;
    const CHECKPOINT: u32 = 0x1481_67d7;
    const JOURNAL: u32 = 0xcc76_8e6a;
    const INDEX: u32 = 0xd882_be0a;

    #[test]
    fn every_file_has_a_place_of_its_own() {
        let places = [
            "/data/catalogue/topics",
            "/data/layout-1/shard-0/checkpoint",
            "/data/layout-2/shard-0/checkpoint",
            "/data/layout-1/shard-1/checkpoint",
            "/data/layout-1/shard-0/journal/00000000.gnj",
            "/data/layout-1/shard-0/journal/00000001.gnj",
            "/data/layout-1/shard-1/journal/00000000.gnj",
            "/data/shared/0000020000000000.idx",
            "/data/topics/0000000000000001/0/0000020000000000.idx",
            "/data/topics/0000000000000001/1/0000020000000000.idx",
        ]
        .map(place);
        for (index, this) in places.iter().enumerate() {
            assert!(*this != FilePlace::NONE && !places[..index].contains(this));
        }
    }

    #[test]
    fn what_names_no_file_counts_in_any() {
        let (here, there) = (FilePlace(1), FilePlace(2));
        assert!(here.may_be(here) && FilePlace::NONE.may_be(here) && !there.may_be(here));
        let sealed = |place: FilePlace| 100 + place.0;
        assert!(here.accepts(101, sealed) && here.accepts(100, sealed));
        assert!(!here.accepts(102, sealed));
    }
}
