//! A shard's log with one partition, on whatever disk and clock.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gannet_engine::control::catalogue::{CatalogueState, Topic};
use gannet_engine::io::local::Signal;
use gannet_engine::io::{Clock, Disk};
use gannet_engine::partition::ProducerLimits;
use gannet_engine::shard::log::{CheckedBatch, LogConfig, ShardLog};
use gannet_engine::shard::recover::ShardIdentity;
use gannet_engine::shard::slot::{Completion, CompletionSink, Outcome, Slot};
use gannet_engine::shard::start::open_catalogue;
use gannet_engine::storage::StorageError;
use gannet_engine::storage::layout::DataDir;
use gannet_wire::ShardIndex;
use gannet_wire::frame::{Durability, TopicSettings};

use super::PARTITION;

/// A journal file. What is published to one log must fit into it beside its header, so that nothing but commits is measured.
const JOURNAL_FILE_BYTES: u64 = 16 << 20;

/// The log, its one partition, and who hears of what became durable.
pub struct OneLog<D: Disk, C: Clock> {
    /// The log; its loops are the caller's to run.
    pub log: Rc<ShardLog<D, C>>,
    /// The partition.
    pub slot: Rc<Slot>,
    /// Counts the acknowledgements.
    pub acks: Rc<AckCounter>,
}

/// Counts acknowledgements and notifies of each.
#[derive(Debug, Default)]
pub struct AckCounter {
    acked: Cell<u64>,
    changed: Signal,
}

impl AckCounter {
    /// Batches acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.get()
    }

    /// Waits until that many batches are acknowledged.
    pub async fn reached(&self, acked: u64) {
        while self.acked() < acked {
            self.changed.wait().await;
        }
    }
}

impl CompletionSink for AckCounter {
    fn complete(&self, token: u64, outcome: Outcome) {
        assert!(
            matches!(
                outcome,
                Outcome::Published {
                    durability: Durability::Durable,
                    ..
                }
            ),
            "publish {token} came to {outcome:?}"
        );
        self.acked.set(self.acked.get() + 1);
        self.changed.notify_all();
    }
}

impl<D: Disk, C: Clock> OneLog<D, C> {
    /// The log of an empty data directory, set as [`quiet`] is.
    ///
    /// # Errors
    /// The disk's.
    ///
    /// # Panics
    /// As [`OneLog::start_as`].
    pub async fn start(disk: D, clock: C) -> Result<Self, StorageError> {
        Self::start_as(disk, clock, quiet()).await
    }

    /// The log of an empty data directory.
    ///
    /// # Errors
    /// The disk's.
    ///
    /// # Panics
    /// When the log has no slot for the one partition of its catalogue.
    pub async fn start_as(disk: D, clock: C, config: LogConfig) -> Result<Self, StorageError> {
        let data = DataDir::new("/data");
        let made = disk.create_dir_all(data.root()).await;
        made.map_err(StorageError::io("create", data.root()))?;
        // Lays out the shard's directory as a broker's first start does.
        let catalogue = open_catalogue(&disk, &clock, &data, 1, &config, 1).await?;
        let state = catalogue.state();
        let topic = Topic {
            id: PARTITION.topic,
            name: "bench".to_owned(),
            partitions: 1,
            settings: TopicSettings::default(),
        };
        let catalogue = CatalogueState {
            names: BTreeMap::from([(topic.name.clone(), topic.id)]),
            topics: BTreeMap::from([(topic.id, Arc::new(topic))]),
            next_topic: gannet_wire::TopicId(PARTITION.topic.0 + 1),
            ..state.clone()
        };
        let identity = ShardIdentity {
            shard: ShardIndex(0),
            layout: catalogue.layout,
            incarnation: catalogue.incarnation,
        };
        let (log, _) = ShardLog::recover(disk, clock, data, config, &identity, &catalogue).await?;
        let slot = log
            .slot(PARTITION)
            .expect("the catalogue has the partition, and its owner is this shard");
        Ok(Self {
            log,
            slot,
            acks: Rc::default(),
        })
    }

    /// Publishes a batch; [`OneLog::acks`] hears when it is durable.
    pub fn publish(&self, batch: CheckedBatch, token: u64) {
        let completion = Completion::new(self.acks.clone(), token);
        self.log
            .publish(&self.slot, batch, Durability::Durable, completion);
    }
}

/// As a broker's, but for what would flush or mark while something else is measured.
#[must_use]
pub fn quiet() -> LogConfig {
    const NEVER: u64 = 1 << 40;
    LogConfig {
        journal_file_bytes: JOURNAL_FILE_BYTES,
        commit_bytes_max: 1 << 20,
        commits_in_flight_max: 2,
        commit_gather_bytes: 256 << 10,
        commit_interval: Duration::ZERO,
        trust_wall_clock: false,
        mark_interval: Duration::from_secs(3600),
        unflushed_bytes_max: NEVER,
        flush_bytes: NEVER,
        checkpoint_bytes_min: NEVER,
        flush_interval: Duration::from_secs(3600),
        flush_round_bytes_max: NEVER,
        own_segment_bytes_min: 256 << 10,
        direct_bytes_min: 16 << 20,
        direct_chunk_bytes_max: 64 << 20,
        directs_in_flight_max: 4,
        segment_bytes_max: 256 << 20,
        merge_segments_min: 8,
        merge_interval: Duration::from_secs(60),
        flush_write_bytes: 512 << 10,
        flush_writes_in_flight_max: 2,
        tail_cache_bytes: NEVER,
        read_chunk_bytes: 1 << 20,
        read_cache_bytes: 8 << 20,
        open_files_max: 64,
        disk_reserve_bytes: 0,
        producers: ProducerLimits {
            inflight_max: 64,
            expiry_ms: i64::MAX,
            producers_max: 1024,
        },
    }
}
