//! Removes files that nothing refers to: what a crash left, and what belonged to deleted topics.
//!
//! It runs behind serving. What it may remove was settled before anything was served, so it meets nobody: files that this life of the broker
//! makes carry its incarnation and are never touched, and a file that others remove meanwhile is only gone already.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;

use gannet_wire::{ShardIndex, TopicId};

use super::log::ShardLog;
use crate::control::catalogue::{CatalogueState, TopicLife};
use crate::io::{Clock, DirEntry, Disk};
use crate::storage::layout::DataDir;
use crate::storage::segment::SegmentIds;
use crate::storage::{PartitionKey, SegmentId, StorageError};

/// What of its partitions' own segments a shard needs, as of its start.
#[derive(Clone, Debug, Default)]
pub struct OwnSegments {
    /// Segments that hold runs.
    pub live: HashSet<SegmentId>,
    /// Partitions that lost something. What their directories hold besides may be all that is left of it: it stays.
    pub fenced: HashSet<PartitionKey>,
}

/// What a shard found at its start: what the sweep goes by.
#[derive(Debug)]
pub struct Found {
    catalogue: CatalogueState,
    own: OwnSegments,
}

impl Found {
    /// To be asked right before anything is served; see [`ShardLog::own_segments`].
    #[must_use]
    pub fn at_start<D: Disk, C: Clock>(log: &ShardLog<D, C>, catalogue: &CatalogueState) -> Self {
        Self {
            catalogue: catalogue.clone(),
            own: log.own_segments(),
        }
    }

    /// Removes what a shard has to see to, and says how many files that were. `shared`: for the catalogue's owner, the shared segments that all shards
    /// need.
    pub async fn sweep<D: Disk>(
        self,
        disk: &D,
        data: &DataDir,
        shard: ShardIndex,
        shared: Option<HashSet<SegmentId>>,
    ) -> Result<u64, StorageError> {
        let Self { catalogue, own } = &self;
        let mut removed = 0;
        if let Some(shared) = shared {
            removed += sweep_shared(disk, data, &shared, catalogue.incarnation).await?;
            removed += sweep_deleted_topics(disk, data, catalogue).await?;
        }
        let owns = |key| catalogue.layout.owner(key) == shard;
        removed += sweep_own(disk, data, catalogue, owns, own).await?;
        Ok(removed)
    }
}

/// Removes shared segments that no partition has a run in, left by a crash or by partitions that moved between shards. `live`: of all shards.
pub async fn sweep_shared<D: Disk>(
    disk: &D,
    data: &DataDir,
    live: &HashSet<SegmentId>,
    incarnation: u32,
) -> Result<u64, StorageError> {
    sweep_segments(disk, &data.shared(), live, incarnation).await
}

/// Removes segments of single partitions that hold no run: written before a crash, but in no checkpoint and not in the journal. `owns` says which
/// partitions are the caller's.
pub async fn sweep_own<D: Disk>(
    disk: &D,
    data: &DataDir,
    catalogue: &CatalogueState,
    owns: impl Fn(PartitionKey) -> bool,
    segments: &OwnSegments,
) -> Result<u64, StorageError> {
    let mut removed = 0;
    for topic in topics_on_disk(disk, data).await? {
        if catalogue.life(topic) != TopicLife::Live {
            continue;
        }
        for entry in list(disk, &data.topic(topic)).await? {
            let Some(partition) = DataDir::partition_of_name(&entry.name) else {
                continue;
            };
            let key = PartitionKey { topic, partition };
            if owns(key) && !segments.fenced.contains(&key) {
                let dir = data.partition(key);
                removed +=
                    sweep_segments(disk, &dir, &segments.live, catalogue.incarnation).await?;
            }
        }
    }
    Ok(removed)
}

/// Removes what deleted topics left, when a crash came between a tombstone and the end of the removal. A directory whose id was never given out is
/// not the catalogue's to judge: it stays.
pub async fn sweep_deleted_topics<D: Disk>(
    disk: &D,
    data: &DataDir,
    catalogue: &CatalogueState,
) -> Result<u64, StorageError> {
    let mut removed = 0;
    for topic in topics_on_disk(disk, data).await? {
        match catalogue.life(topic) {
            TopicLife::Live => {}
            TopicLife::Deleted => removed += remove_topic(disk, data, topic).await?,
            TopicLife::NeverGivenOut => {
                tracing::warn!(path = %data.topic(topic).display(), "a directory bears the id of a topic that never was: it is left alone");
            }
        }
    }
    Ok(removed)
}

/// Removes the files of a deleted topic, whose tombstone is durable; returns how many there were.
pub async fn remove_topic<D: Disk>(
    disk: &D,
    data: &DataDir,
    topic: TopicId,
) -> Result<u64, StorageError> {
    let dir = data.topic(topic);
    let mut removed = 0;
    // One by one: large files take their time, and others wait for the disk too.
    for partition in list(disk, &dir).await? {
        if partition.is_dir {
            let dir = dir.join(&partition.name);
            for file in list(disk, &dir).await? {
                removed += remove(disk, &dir.join(&file.name)).await?;
            }
        }
    }
    disk.remove_dir_all(&dir)
        .await
        .map_err(StorageError::io("remove", &dir))?;
    Ok(removed)
}

async fn sweep_segments<D: Disk>(
    disk: &D,
    dir: &Path,
    live: &HashSet<SegmentId>,
    incarnation: u32,
) -> Result<u64, StorageError> {
    let mut removed = 0;
    for entry in list(disk, dir).await? {
        let Some(id) = DataDir::segment_of_name(&entry.name) else {
            continue;
        };
        // What this life makes is not for the sweep.
        if !live.contains(&id) && SegmentIds::incarnation_of(id) < incarnation {
            removed += remove(disk, &dir.join(&entry.name)).await?;
        }
    }
    Ok(removed)
}

async fn topics_on_disk<D: Disk>(disk: &D, data: &DataDir) -> Result<Vec<TopicId>, StorageError> {
    let entries = list(disk, &data.topics()).await?;
    Ok(entries
        .iter()
        .filter_map(|entry| DataDir::topic_of_name(&entry.name))
        .collect())
}

pub(super) async fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<DirEntry>, StorageError> {
    match disk.list(dir).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(StorageError::io("list", dir)),
    }
}

pub(super) async fn remove<D: Disk>(disk: &D, path: &Path) -> Result<u64, StorageError> {
    match disk.remove(path).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        other => other.map(|()| 1).map_err(StorageError::io("remove", path)),
    }
}
