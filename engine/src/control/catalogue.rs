//! The catalogue: which topics there are, under which ids, and into how many shards the data directory is laid out.
//!
//! One owner keeps it (shard 0). Every change is durable in a [`RecordLog`] before anyone hears of it. A topic's id is never used
//! again: ids count up, and one below the next that is not a topic's is a deleted topic's, its tombstone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gannet_wire::frame::{Durability, TimestampSource, TopicCheck, TopicSettings};
use gannet_wire::{PartitionIndex, ShardIndex, TopicId};

use crate::io::Disk;
use crate::storage::layout::CATALOGUE_NAME;
use crate::storage::record_log::{ROTATE_BYTES_MIN, RecordLog};
use crate::storage::{PartitionKey, StorageError};

/// The newest catalogue format this program reads.
pub const CATALOGUE_VERSION: u32 = 1;

/// Bytes of an entry of the catalogue, at most: a topic's name is short.
const CHANGE_BYTES_MAX: usize = 2 << 10;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id, never used again.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// What it was created with.
    pub settings: TopicSettings,
}

impl Topic {
    /// Its partitions.
    pub fn keys(&self) -> impl Iterator<Item = PartitionKey> + use<> {
        let topic = self.id;
        (0..self.partitions).map(move |partition| PartitionKey {
            topic,
            partition: PartitionIndex(partition),
        })
    }
}

/// One assignment of partitions to shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Layout {
    /// Its number; 0 before the first start.
    pub number: u64,
    /// Its shards.
    pub shards: u16,
    /// The broker's life in which it began.
    pub incarnation: u32,
}

impl Layout {
    /// The shard that owns a partition: neighbours lie on different shards, and so do the first partitions of different topics.
    #[must_use]
    pub fn owner(&self, key: PartitionKey) -> ShardIndex {
        let spread =
            key.topic.0.wrapping_add(u64::from(key.partition.0)) % u64::from(self.shards.max(1));
        ShardIndex(u16::try_from(spread).expect("less than the number of shards"))
    }
}

/// What an id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicLife {
    /// A topic.
    Live,
    /// A topic that was deleted.
    Deleted,
    /// Nothing: it was never given out, so what bears it is damaged.
    NeverGivenOut,
}

/// What the catalogue knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueState {
    /// The topics.
    pub topics: BTreeMap<TopicId, Arc<Topic>>,
    /// Their ids by name.
    pub names: BTreeMap<String, TopicId>,
    /// Every id below it was given out.
    pub next_topic: TopicId,
    /// Rises with every start.
    pub incarnation: u32,
    /// The present layout.
    pub layout: Layout,
    /// Names this broker's data for clients, drawn once.
    pub broker_id: u64,
}

impl CatalogueState {
    /// What an id stands for.
    #[must_use]
    pub fn life(&self, topic: TopicId) -> TopicLife {
        if self.topics.contains_key(&topic) {
            TopicLife::Live
        } else if topic < self.next_topic {
            TopicLife::Deleted
        } else {
            TopicLife::NeverGivenOut
        }
    }

    /// The topic of a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    fn insert(&mut self, topic: Topic) {
        self.names.insert(topic.name.clone(), topic.id);
        self.topics.insert(topic.id, Arc::new(topic));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Snapshot {
    version: u32,
    topics: Vec<TopicRecord>,
    next_topic: u64,
    incarnation: u32,
    layout: Layout,
    broker_id: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Event {
    /// Everything: the first record of a log.
    Snapshot(Snapshot),
    Created(TopicRecord),
    /// The tombstone, with the topic's id.
    Deleted(u64),
    LaidOut(Layout),
}

#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct TopicRecord {
    id: u64,
    name: String,
    partitions: u32,
    durability: u8,
    check: u8,
    timestamps: u8,
    retention_ms: Option<u64>,
    retention_bytes: Option<u64>,
}

/// The catalogue, open for changes.
pub struct Catalogue<D: Disk> {
    disk: D,
    dir: PathBuf,
    log: RecordLog<D>,
    state: CatalogueState,
}

impl<D: Disk> Catalogue<D> {
    /// What the catalogue in `dir` says, and its log's sequence; `None` when there never was one. Nothing is changed.
    pub async fn load(disk: &D, dir: &Path) -> Result<Option<(CatalogueState, u64)>, StorageError> {
        let Some(loaded) = RecordLog::load(disk, dir, CATALOGUE_NAME).await? else {
            return Ok(None);
        };
        let damaged = |what: &str| StorageError::Damaged {
            path: dir.display().to_string(),
            what: what.to_owned(),
        };
        let mut state: Option<CatalogueState> = None;
        for bytes in &loaded.records {
            let event = rkyv::from_bytes::<Event, rkyv::rancor::Error>(bytes)
                .map_err(|_| damaged("a catalogue entry cannot be read"))?;
            if let Event::Snapshot(snapshot) = &event
                && snapshot.version > CATALOGUE_VERSION
            {
                return Err(StorageError::Newer {
                    path: dir.display().to_string(),
                    found: snapshot.version,
                    known: CATALOGUE_VERSION,
                });
            }
            state = Some(
                apply(state, event)
                    .ok_or_else(|| damaged("a catalogue entry contradicts those before it"))?,
            );
        }
        Ok(state.map(|state| (state, loaded.sequence)))
    }

    /// Opens the catalogue for a new life of the broker: the incarnation has risen durably when this returns. `broker_id` is taken
    /// when there is none yet.
    pub async fn open(disk: &D, dir: &Path, broker_id: u64) -> Result<Self, StorageError> {
        let (mut state, sequence) = Self::load(disk, dir).await?.unwrap_or_else(|| {
            let layout = Layout {
                number: 0,
                shards: 0,
                incarnation: 0,
            };
            let (topics, names) = (BTreeMap::new(), BTreeMap::new());
            (
                CatalogueState {
                    topics,
                    names,
                    next_topic: TopicId(1),
                    incarnation: 0,
                    layout,
                    broker_id,
                },
                0,
            )
        });
        state.incarnation += 1;
        let log = RecordLog::start(
            disk,
            dir,
            CATALOGUE_NAME,
            sequence + 1,
            &snapshot(&state).encode(),
        )
        .await?;
        Ok(Self {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            log,
            state,
        })
    }

    /// What it says now.
    #[must_use]
    pub fn state(&self) -> &CatalogueState {
        &self.state
    }

    /// Makes a topic; durable when this returns. The caller has checked name and settings, and that the name is free.
    pub async fn create(
        &mut self,
        name: String,
        partitions: u32,
        settings: TopicSettings,
    ) -> Result<Topic, StorageError> {
        assert!(
            !self.state.names.contains_key(&name),
            "the caller checks that the name is free"
        );
        let topic = Topic {
            id: self.state.next_topic,
            name,
            partitions,
            settings,
        };
        self.append(Event::Created(TopicRecord::from(&topic)))
            .await?;
        Ok(topic)
    }

    /// Deletes a topic: its tombstone is durable when this returns. `None` when there is no such topic.
    pub async fn delete(&mut self, name: &str) -> Result<Option<Arc<Topic>>, StorageError> {
        let Some(topic) = self.state.named(name).cloned() else {
            return Ok(None);
        };
        self.append(Event::Deleted(topic.id.0)).await?;
        Ok(Some(topic))
    }

    /// Makes sure that the disk has room for a change. Nothing is written: after an error it can be tried again.
    pub async fn reserve(&mut self) -> Result<(), StorageError> {
        self.log.reserve(CHANGE_BYTES_MAX).await
    }

    /// Another incarnation, as a new life of the broker would have; durable when this returns. After an error for a full disk it can be tried again.
    pub async fn renew_incarnation(&mut self) -> Result<u32, StorageError> {
        let mut state = self.state.clone();
        state.incarnation += 1;
        self.log = self.start_log(&state).await?;
        self.state = state;
        Ok(self.state.incarnation)
    }

    /// The next pair of files, beginning with all that the state says.
    async fn start_log(&self, state: &CatalogueState) -> Result<RecordLog<D>, StorageError> {
        RecordLog::start(
            &self.disk,
            &self.dir,
            CATALOGUE_NAME,
            self.log.sequence() + 1,
            &snapshot(state).encode(),
        )
        .await
    }

    /// Switches to another layout; durable when this returns.
    pub async fn lay_out(&mut self, layout: Layout) -> Result<(), StorageError> {
        self.append(Event::LaidOut(layout)).await
    }

    async fn append(&mut self, event: Event) -> Result<(), StorageError> {
        self.log.append(&event.encode()).await?;
        let state = apply(Some(self.state.clone()), event);
        self.state = state.expect("an event that was just made fits the state it was made for");
        if self.log.wants_snapshot(ROTATE_BYTES_MIN) {
            match self.start_log(&self.state).await {
                Ok(log) => self.log = log,
                // The one there is goes on.
                Err(error) if error.is_disk_full() => {
                    tracing::warn!(%error, "the disk is full: the catalogue goes on without a new snapshot");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Event {
    fn encode(&self) -> Vec<u8> {
        rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .expect("memory is the only thing that can be missing")
            .into_vec()
    }
}

fn snapshot(state: &CatalogueState) -> Event {
    Event::Snapshot(Snapshot {
        version: CATALOGUE_VERSION,
        topics: state
            .topics
            .values()
            .map(|topic| TopicRecord::from(&**topic))
            .collect(),
        next_topic: state.next_topic.0,
        incarnation: state.incarnation,
        layout: state.layout,
        broker_id: state.broker_id,
    })
}

/// The state after an event; `None` when the event cannot follow it.
fn apply(state: Option<CatalogueState>, event: Event) -> Option<CatalogueState> {
    match (state, event) {
        (None, Event::Snapshot(snapshot)) => {
            let mut state = CatalogueState {
                topics: BTreeMap::new(),
                names: BTreeMap::new(),
                next_topic: TopicId(snapshot.next_topic),
                incarnation: snapshot.incarnation,
                layout: snapshot.layout,
                broker_id: snapshot.broker_id,
            };
            for record in &snapshot.topics {
                let topic = record.to_topic()?;
                // An id that is still to be given out would be given out again.
                if topic.id >= state.next_topic
                    || state.topics.contains_key(&topic.id)
                    || state.names.contains_key(&topic.name)
                {
                    return None;
                }
                state.insert(topic);
            }
            Some(state)
        }
        (Some(mut state), Event::Created(record)) => {
            let topic = record.to_topic()?;
            if topic.id != state.next_topic || state.names.contains_key(&topic.name) {
                return None;
            }
            state.next_topic = TopicId(topic.id.0.checked_add(1)?);
            state.insert(topic);
            Some(state)
        }
        (Some(mut state), Event::Deleted(topic)) => {
            let topic = state.topics.remove(&TopicId(topic))?;
            state.names.remove(&topic.name);
            Some(state)
        }
        (Some(mut state), Event::LaidOut(layout)) => {
            state.layout = layout;
            Some(state)
        }
        (None, _) | (Some(_), Event::Snapshot(_)) => None,
    }
}

impl TopicRecord {
    fn to_topic(&self) -> Option<Topic> {
        Some(Topic {
            id: TopicId(self.id),
            name: self.name.clone(),
            partitions: self.partitions,
            settings: TopicSettings {
                durability: Durability::from_u8(self.durability)?,
                check: TopicCheck::from_u8(self.check)?,
                timestamps: TimestampSource::from_u8(self.timestamps)?,
                retention_ms: self.retention_ms,
                retention_bytes: self.retention_bytes,
            },
        })
    }
}

impl From<&Topic> for TopicRecord {
    fn from(topic: &Topic) -> Self {
        Self {
            id: topic.id.0,
            name: topic.name.clone(),
            partitions: topic.partitions,
            durability: topic.settings.durability as u8,
            check: topic.settings.check as u8,
            timestamps: topic.settings.timestamps as u8,
            retention_ms: topic.settings.retention_ms,
            retention_bytes: topic.settings.retention_bytes,
        }
    }
}

#[cfg(test)]
mod tests;
