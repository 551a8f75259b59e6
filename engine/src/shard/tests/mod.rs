//! A shard's log on the simulated disk.

#![allow(clippy::unwrap_used, reason = "tests")]

mod deletion;
mod failure;
mod forwarding;
mod producer_ids;
mod subscriptions;
mod sweep;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gannet_wire::batch::{BatchLimits, CheckDepth, CheckScratch, ProducerStamp, check_batch};
use gannet_wire::frame::{Durability, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex, ShardIndex, TopicId};

use super::log::{CheckedBatch, LogConfig, ShardLog};
use super::read::{ReadCursor, ReadError};
use super::recover::{ShardIdentity, lay_out};
use super::slot::{Completion, CompletionSink, Outcome, Slot};
use crate::control::catalogue::{CatalogueState, Layout, Topic};
use crate::cursor::CommittedOffset;
use crate::io::Spawn as _;
use crate::io::sim::{CrashPolicy, SimClock, SimDisk, SimExecutor};
use crate::partition::ProducerLimits;
use crate::storage::layout::DataDir;
use crate::storage::sample::batch_of;
use crate::storage::{PartitionKey, StorageError};

type SimLog = ShardLog<SimDisk, SimClock>;

/// Every answer by its token: a request that is answered twice shows.
#[derive(Default)]
struct Answers(RefCell<BTreeMap<u64, Vec<Outcome>>>);

impl CompletionSink for Answers {
    fn complete(&self, token: u64, outcome: Outcome) {
        self.0.borrow_mut().entry(token).or_default().push(outcome);
    }
}

impl Answers {
    /// The one answer to each of the requests, which are numbered from 0.
    fn each(&self, requests: u64) -> Vec<Outcome> {
        let answers = self.0.borrow();
        (0..requests)
            .map(|token| match answers.get(&token).map(Vec::as_slice) {
                Some([answer]) => answer.clone(),
                other => panic!("request {token} was answered by {other:?}"),
            })
            .collect()
    }
}

/// How an answer counts.
fn failed_with(outcome: &Outcome, code: ErrorCode) -> bool {
    matches!(outcome, Outcome::Failed(error) if error.code == code)
}

/// A shard's log in a simulated world, with whatever its tasks end with.
struct World {
    executor: SimExecutor,
    disk: SimDisk,
    data: DataDir,
    catalogue: CatalogueState,
    log: Rc<SimLog>,
    answers: Rc<Answers>,
    requests: u64,
    ended: Rc<RefCell<Vec<Result<(), StorageError>>>>,
}

fn config() -> LogConfig {
    LogConfig {
        journal_file_bytes: 4 << 20,
        commit_bytes_max: 256 << 10,
        commits_in_flight_max: 2,
        commit_gather_bytes: 64 << 10,
        commit_interval: std::time::Duration::ZERO,
        trust_wall_clock: false,
        mark_interval: Duration::from_millis(10),
        unflushed_bytes_max: 8 << 20,
        flush_bytes: 2 << 20,
        checkpoint_bytes_min: 1 << 20,
        flush_interval: Duration::from_secs(1),
        flush_round_bytes_max: 4 << 20,
        own_segment_bytes_min: 32 << 10,
        direct_bytes_min: 128 << 10,
        direct_chunk_bytes_max: 256 << 10,
        directs_in_flight_max: 4,
        segment_bytes_max: 16 << 20,
        merge_segments_min: 8,
        merge_interval: Duration::from_secs(60),
        flush_write_bytes: 64 << 10,
        flush_writes_in_flight_max: 2,
        tail_cache_bytes: 0,
        read_chunk_bytes: 64 << 10,
        read_cache_bytes: 1 << 20,
        open_files_max: 16,
        disk_reserve_bytes: 1 << 20,
        producers: ProducerLimits {
            inflight_max: 5,
            expiry_ms: 1_000_000,
            producers_max: 100,
        },
    }
}

fn key(topic: u64, partition: u32) -> PartitionKey {
    PartitionKey {
        topic: TopicId(topic),
        partition: PartitionIndex(partition),
    }
}

impl World {
    /// A log with topics 1 and 2, of two partitions each.
    fn new(seed: u64) -> Self {
        Self::with_config(seed, config())
    }

    fn with_config(seed: u64, config: LogConfig) -> Self {
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(&executor);
        let mut catalogue = CatalogueState {
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            next_topic: TopicId(3),
            incarnation: 1,
            layout: Layout {
                number: 1,
                shards: 1,
                incarnation: 1,
            },
            broker_id: 1,
        };
        for id in [1, 2].map(TopicId) {
            let topic = Topic {
                id,
                name: format!("topic-{id}"),
                partitions: 2,
                settings: TopicSettings::default(),
            };
            catalogue.names.insert(topic.name.clone(), id);
            catalogue.topics.insert(id, Arc::new(topic));
        }
        let data = DataDir::new("/data");
        let laid_out = lay_out(&disk, &data, Vec::new(), catalogue.layout);
        executor.block_on(laid_out).unwrap();
        Self::started(executor, disk, catalogue, config)
    }

    fn started(
        executor: SimExecutor,
        disk: SimDisk,
        catalogue: CatalogueState,
        config: LogConfig,
    ) -> Self {
        let data = DataDir::new("/data");
        let identity = ShardIdentity {
            shard: ShardIndex(0),
            layout: catalogue.layout,
            incarnation: catalogue.incarnation,
        };
        let recovered = SimLog::recover(
            disk.clone(),
            executor.clock(),
            data.clone(),
            config,
            &identity,
            &catalogue,
        );
        let (log, _) = executor.block_on(recovered).unwrap();
        let ended = Rc::new(RefCell::new(Vec::new()));
        let spawner = executor.spawner();
        let watched = |log: &Rc<SimLog>, result: Result<(), StorageError>| {
            if let Err(error) = &result {
                log.fail(error);
            }
            result
        };
        spawner.spawn({
            let (log, ended) = (log.clone(), ended.clone());
            async move {
                let result = log.run_commits().await;
                ended.borrow_mut().push(watched(&log, result));
            }
        });
        spawner.spawn({
            let (log, ended) = (log.clone(), ended.clone());
            async move {
                let result = log.run_flushes().await;
                ended.borrow_mut().push(watched(&log, result));
            }
        });
        let marks = log.clone();
        spawner.spawn(async move { marks.run_marks().await });
        Self {
            executor,
            disk,
            data,
            catalogue,
            log,
            answers: Rc::default(),
            requests: 0,
            ended,
        }
    }

    /// The next life on the same disk, with what the catalogue says now.
    fn crashed(self, policy: CrashPolicy) -> Self {
        let Self {
            executor,
            disk,
            mut catalogue,
            log,
            ..
        } = self;
        executor.crash();
        drop(log);
        disk.crash(policy);
        catalogue.incarnation += 1;
        Self::started(executor, disk, catalogue, config())
    }

    fn slot(&self, key: PartitionKey) -> Rc<Slot> {
        self.log.slot(key).unwrap()
    }

    fn completion(&mut self) -> Completion {
        let token = self.requests;
        self.requests += 1;
        Completion::new(self.answers.clone(), token)
    }

    fn publish_bytes(&mut self, slot: &Rc<Slot>, bytes: Bytes) {
        let header = check_batch(
            &bytes,
            &BatchLimits::default(),
            CheckDepth::Full,
            &mut CheckScratch::new(),
        )
        .unwrap();
        let completion = self.completion();
        let batch = CheckedBatch { bytes, header };
        self.log
            .publish(slot, batch, Durability::Durable, completion);
    }

    /// Publishes a batch of one record of so many bytes.
    fn publish(&mut self, key: PartitionKey, value_bytes: usize) {
        let slot = self.slot(key);
        self.publish_bytes(&slot, batch_of(1, value_bytes, None));
    }

    fn publish_as(&mut self, key: PartitionKey, producer: ProducerStamp) {
        let slot = self.slot(key);
        self.publish_bytes(&slot, batch_of(1, 10, Some(producer)));
    }

    fn commit_offset(&mut self, key: PartitionKey) {
        let (slot, completion) = (self.slot(key), self.completion());
        let offset = CommittedOffset {
            group: "group".into(),
            offset: Offset(0),
            metadata: String::new(),
        };
        self.log.commit_offset(&slot, offset, completion);
    }

    /// Moves everything to segments.
    fn flush(&self) {
        self.executor.run_for(Duration::from_millis(100));
        self.log.want_flush();
        self.executor.run_for(Duration::from_secs(1));
    }

    /// Deletes a topic as the catalogue's owner does, up to the tombstone and the shard's hearing of it.
    fn delete(&mut self, topic: TopicId) {
        self.tombstone(topic);
        self.log.drop_topic(topic);
    }

    fn tombstone(&mut self, topic: TopicId) {
        let topic = self.catalogue.topics.remove(&topic).unwrap();
        self.catalogue.names.remove(&topic.name);
    }

    /// ... and the rest.
    fn remove(&self, topic: TopicId) {
        let removal = async {
            self.log.topic_released(topic).await;
            self.log.remove_topic(topic).await
        };
        self.executor.block_on(removal).unwrap();
        // The flusher unlinks shared segments in its own time.
        self.executor.run_for(Duration::from_secs(1));
    }

    /// Segments and indexes below a directory of the data.
    fn files(&self, dir: &str) -> Vec<PathBuf> {
        let dir = self.data.root().join(dir);
        let files = self.disk.list_tree().into_iter().map(|(path, _)| path);
        files.filter(|path| path.starts_with(&dir)).collect()
    }

    fn files_of(&self, topic: TopicId) -> Vec<PathBuf> {
        let dir = self.data.topic(topic);
        self.files(
            dir.strip_prefix(self.data.root())
                .unwrap()
                .to_str()
                .unwrap(),
        )
    }

    /// How many records there are from the start on.
    fn count(&self, key: PartitionKey) -> u64 {
        let slot = self.slot(key);
        let mut cursor = ReadCursor::at(Offset(0));
        loop {
            let read = self.log.read(&slot, &mut cursor, 1 << 20);
            match self.executor.block_on(read) {
                Ok(batches) if batches.is_empty() => return cursor.offset.0,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}
