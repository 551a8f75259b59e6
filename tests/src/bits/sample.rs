//! The small data directory whose bits are flipped: made by the product's own code, with every kind of file and of record in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gannet_engine::cursor::CommittedOffset;
use gannet_engine::io::Clock;
use gannet_engine::io::sim::{CrashPolicy, SimDisk, SimExecutor};
use gannet_engine::partition::ProducerLimits;
use gannet_engine::shard::log::LogConfig;
use gannet_engine::shard::read::ReadCursor;
use gannet_engine::shard::slot::{Completion, CompletionSink, Outcome};
use gannet_engine::storage::layout::DataDir;
use gannet_engine::storage::segment::Run;
use gannet_engine::storage::{PartitionKey, StorageError};
use gannet_wire::batch::{BatchHeader, ProducerStamp};
use gannet_wire::frame::{Durability, TopicSettings};
use gannet_wire::{Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId};

use super::Moment;
use crate::world::batches::{Shape, checked, make_batch};
use crate::world::broker::{Broker, Home};
use crate::world::disk::WorldDisk;

/// A data directory at rest, and what it holds.
pub(super) struct Sample {
    pub(super) disk: SimDisk,
    pub(super) truth: Truth,
    /// Keeps the disk's clock.
    _executor: SimExecutor,
}

/// What a directory holds, as readers were given it before the power went.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) topics: BTreeMap<String, TopicId>,
    pub(super) partitions: BTreeMap<PartitionKey, PartitionTruth>,
    /// Stretches of segments that were known when the power went.
    pub(super) runs: Vec<(PartitionKey, Run)>,
}

/// What a partition holds.
#[derive(Default)]
pub(super) struct PartitionTruth {
    /// Stamped batches by their first offset.
    pub(super) batches: BTreeMap<u64, Bytes>,
    /// The timestamp of all records of a batch, by its first offset.
    pub(super) timestamps: BTreeMap<u64, i64>,
    pub(super) end: u64,
    /// What each group committed, oldest first.
    pub(super) groups: BTreeMap<String, Vec<u64>>,
    /// The idempotent producer's newest batch as it was sent, and where it lies.
    pub(super) resend: Option<(Bytes, u64)>,
}

/// Remembers what became of requests.
#[derive(Default)]
pub(super) struct Answers(RefCell<BTreeMap<u64, Outcome>>);

impl CompletionSink for Answers {
    fn complete(&self, token: u64, outcome: Outcome) {
        self.0.borrow_mut().insert(token, outcome);
    }
}

/// Everything small; nothing moves to segments but by a stop.
fn config() -> LogConfig {
    LogConfig {
        journal_file_bytes: 64 << 10,
        commit_bytes_max: 16 << 10,
        commits_in_flight_max: 4,
        commit_gather_bytes: 1,
        commit_interval: Duration::ZERO,
        mark_interval: Duration::from_millis(10),
        unflushed_bytes_max: 16 << 20,
        flush_bytes: 16 << 20,
        flush_interval: Duration::from_secs(24 * 60 * 60),
        flush_round_bytes_max: 16 << 20,
        own_segment_bytes_min: 4 << 10,
        direct_bytes_min: 8 << 10,
        direct_chunk_bytes_max: 32 << 10,
        directs_in_flight_max: 2,
        segment_bytes_max: 1 << 20,
        merge_segments_min: 8,
        merge_interval: Duration::from_secs(60),
        checkpoint_bytes_min: 4 << 20,
        flush_write_bytes: 16 << 10,
        flush_writes_in_flight_max: 2,
        tail_cache_bytes: 0,
        read_chunk_bytes: 16 << 10,
        read_cache_bytes: 256 << 10,
        open_files_max: 16,
        disk_reserve_bytes: 0,
        trust_wall_clock: false,
        producers: ProducerLimits {
            inflight_max: 4,
            expiry_ms: 24 * 60 * 60 * 1000,
            producers_max: 1_000,
        },
    }
}

/// A broker's home on a disk.
pub(super) fn home(executor: &SimExecutor, disk: &SimDisk) -> Home {
    Home {
        disk: WorldDisk::new(disk.clone(), None),
        clock: executor.clock(),
        spawn: executor.spawner(),
        data: DataDir::new("/data"),
        config: config(),
        removed: Rc::default(),
    }
}

impl Sample {
    /// Makes the directory.
    ///
    /// # Panics
    /// When the broker does not do what it should without any damage.
    pub(super) fn make(moment: Moment) -> Self {
        let executor = SimExecutor::new(SEED);
        let disk = SimDisk::new(&executor);
        let home = home(&executor, &disk);
        let mut maker = Maker {
            home: home.clone(),
            answers: Rc::default(),
            next_number: 0,
            next_sequences: BTreeMap::new(),
            truth: Truth::default(),
        };
        executor.block_on(async {
            gannet_engine::io::Disk::create_dir_all(&disk, home.data.root())
                .await
                .expect("the simulated disk is empty");
            maker.first_life().await.expect("nothing is wrong");
        });
        end_life(&executor, &disk);
        executor.block_on(async {
            maker.second_life(moment).await.expect("nothing is wrong");
        });
        end_life(&executor, &disk);
        Self {
            disk,
            truth: maker.truth,
            _executor: executor,
        }
    }
}

/// Kills the process. What it wrote reaches the disk.
fn end_life(executor: &SimExecutor, disk: &SimDisk) {
    executor.crash();
    disk.crash(CrashPolicy::KeepAll);
    disk.sync_everything();
}

struct Maker {
    home: Home,
    answers: Rc<Answers>,
    next_number: u64,
    next_sequences: BTreeMap<PartitionKey, u32>,
    truth: Truth,
}

impl Maker {
    /// Ends with a clean stop: everything is in segments, of one partition and of many, written by the flusher and directly.
    async fn first_life(&mut self) -> Result<(), StorageError> {
        let broker = Broker::start(&self.home, SHARDS).await?;
        let gone = self.create(&broker, "gone", 1).await;
        let orders = self.create(&broker, "orders", 3).await;
        let events = self.create(&broker, "events", 1).await;
        self.publish(&broker, key(gone, 0), 3, 300, false).await;
        for _ in 0..DIRECT_BATCHES {
            self.publish(&broker, key(orders, 0), 2, DIRECT_BYTES, false)
                .await;
        }
        for _ in 0..3 {
            self.publish(&broker, key(orders, 1), 3, 400, true).await;
        }
        self.publish(&broker, key(orders, 2), 5, 700, false).await;
        self.publish(&broker, key(orders, 2), 1, 200, false).await;
        for _ in 0..2 {
            self.publish(&broker, key(events, 0), 7, 3_000, false).await;
        }
        self.commit_offset(&broker, key(orders, 1), "group", 2)
            .await;
        self.delete(&broker, "gone").await;
        self.note_contents(&broker).await;
        broker.stop();
        broker.stopped().await;
        Ok(())
    }

    /// Leaves commits of every kind in the journal, in one commit and one after the other.
    async fn second_life(&mut self, moment: Moment) -> Result<(), StorageError> {
        let broker = Broker::start(&self.home, SHARDS).await?;
        let orders = self.truth.topics["orders"];
        let events = self.truth.topics["events"];
        let brief = self.create(&broker, "brief", 1).await;
        let late = self.create(&broker, "late", 1).await;
        self.publish(&broker, key(brief, 0), 1, 200, false).await;
        self.publish(&broker, key(orders, 1), 1, 200, true).await;
        // Which moves what was published so far to a segment: the journal goes on in a file that is partly flushed.
        self.delete(&broker, "brief").await;
        self.home.clock.sleep(SETTLED).await;
        let together = [
            self.send(&broker, key(orders, 1), 2, 300, true),
            self.send(&broker, key(orders, 2), 1, 200, false),
            self.send(&broker, key(late, 0), 4, 500, false),
        ];
        for token in together {
            self.answered(token).await;
        }
        self.publish(&broker, key(orders, 0), 1, 200, false).await;
        self.publish(&broker, key(orders, 0), 2, DIRECT_BYTES, true)
            .await;
        self.commit_offset(&broker, key(orders, 1), "group", 4)
            .await;
        self.publish(&broker, key(orders, 2), 2, 6_000, false).await;
        self.publish(&broker, key(orders, 1), 2, 300, true).await;
        self.home.clock.sleep(SETTLED).await;
        if moment == Moment::Unmarked {
            // Several commits in flight: none of them says of another that it is durable.
            let mut last = vec![self.send(&broker, key(events, 0), 2, 300, false)];
            self.home.clock.sleep(NEXT_COMMIT).await;
            last.push(self.send(&broker, key(orders, 1), 1, 300, true));
            self.home.clock.sleep(NEXT_COMMIT).await;
            last.push(self.send_offset(&broker, key(orders, 1), "group", 5));
            self.home.clock.sleep(NEXT_COMMIT).await;
            last.push(self.send(&broker, key(orders, 2), 1, 200, false));
            for token in last {
                self.answered(token).await;
            }
        }
        self.note_contents(&broker).await;
        if moment == Moment::Stopped {
            broker.stop();
            broker.stopped().await;
        }
        assert_eq!(broker.failure(), None, "nothing is wrong with the disk");
        Ok(())
    }

    async fn create(&mut self, broker: &Broker, name: &str, partitions: u32) -> TopicId {
        let topic = broker
            .change_catalogue(async |catalogue| {
                let settings = TopicSettings::default();
                catalogue.create(name.into(), partitions, settings).await
            })
            .await
            .expect("nothing is wrong with the disk");
        let topic = Arc::new(topic);
        for (shard, log) in (0u16..).zip(&broker.logs) {
            log.add_topic(&topic, |key| broker.owner(key).0 == shard);
        }
        self.truth.topics.insert(name.into(), topic.id);
        topic.id
    }

    async fn delete(&mut self, broker: &Broker, name: &str) {
        let topic = broker
            .change_catalogue(async |catalogue| catalogue.delete(name).await)
            .await
            .flatten()
            .expect("it is there");
        for log in &broker.logs {
            log.drop_topic(topic.id);
        }
        self.truth.topics.remove(name);
        self.truth.partitions.retain(|key, _| key.topic != topic.id);
    }

    async fn publish(
        &mut self,
        broker: &Broker,
        key: PartitionKey,
        records: u32,
        bytes: usize,
        idempotent: bool,
    ) {
        let token = self.send(broker, key, records, bytes, idempotent);
        self.answered(token).await;
    }

    fn send(
        &mut self,
        broker: &Broker,
        key: PartitionKey,
        records: u32,
        bytes: usize,
        idempotent: bool,
    ) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let producer = idempotent.then(|| {
            let sequence = self.next_sequences.entry(key).or_default();
            let base_sequence = Sequence(*sequence);
            *sequence += records;
            ProducerStamp {
                id: ProducerId(9),
                epoch: ProducerEpoch(0),
                base_sequence,
            }
        });
        let timestamp = timestamp_of(number);
        let batch = make_batch(number, Shape { records, bytes }, (timestamp, 0), producer);
        let (log, slot) = broker.slot(key).expect("somebody owns it");
        let base = slot.state.borrow().next_offset().0;
        let partition = self.truth.partitions.entry(key).or_default();
        partition.timestamps.insert(base, timestamp);
        if producer.is_some() {
            partition.resend = Some((batch.clone(), base));
        }
        let completion = Completion::new(self.answers.clone(), number);
        log.publish(&slot, checked(&batch), Durability::Durable, completion);
        number
    }

    async fn commit_offset(&mut self, broker: &Broker, key: PartitionKey, group: &str, at: u64) {
        let token = self.send_offset(broker, key, group, at);
        self.answered(token).await;
    }

    fn send_offset(&mut self, broker: &Broker, key: PartitionKey, group: &str, at: u64) -> u64 {
        let token = self.next_number;
        self.next_number += 1;
        let (log, slot) = broker.slot(key).expect("somebody owns it");
        let offset = CommittedOffset {
            group: group.into(),
            offset: Offset(at),
            metadata: "a note".into(),
        };
        log.commit_offset(&slot, offset, Completion::new(self.answers.clone(), token));
        let partition = self.truth.partitions.entry(key).or_default();
        partition.groups.entry(group.into()).or_default().push(at);
        token
    }

    async fn answered(&self, token: u64) {
        let outcome = self.answers.wait(&self.home, token).await;
        assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }

    /// Reads everything, before anything is damaged.
    async fn note_contents(&mut self, broker: &Broker) {
        for topic in self.truth.topics.values() {
            for partition in 0.. {
                let key = key(*topic, partition);
                let Some((log, slot)) = broker.slot(key) else {
                    break;
                };
                let truth = self.truth.partitions.entry(key).or_default();
                {
                    let state = slot.state.borrow();
                    truth.end = state.durable_offset().0;
                    let runs = state.runs().iter().map(|run| (key, *run));
                    self.truth.runs.extend(runs);
                }
                let mut cursor = ReadCursor::at(Offset(0));
                while cursor.offset.0 < truth.end {
                    let batches = log.read(&slot, &mut cursor, READ_BYTES).await;
                    for batch in batches.expect("nothing is damaged yet") {
                        let header = BatchHeader::read_from_prefix_of(&batch).expect("a batch");
                        let base = header.base_offset().0;
                        truth.batches.insert(base, Bytes::copy_from_slice(&batch));
                    }
                }
            }
        }
    }
}

impl Answers {
    pub(super) async fn wait(&self, home: &Home, token: u64) -> Outcome {
        loop {
            if let Some(outcome) = self.0.borrow().get(&token) {
                return outcome.clone();
            }
            home.clock.sleep(Duration::from_micros(20)).await;
        }
    }
}

/// The timestamp of all records of a batch.
fn timestamp_of(number: u64) -> i64 {
    1_000 * (1 + i64::try_from(number).expect("a small number"))
}

pub(super) fn key(topic: TopicId, partition: u32) -> PartitionKey {
    PartitionKey {
        topic,
        partition: PartitionIndex(partition),
    }
}

pub(super) const READ_BYTES: usize = 100_000;
const SEED: u64 = 4;
/// Neighbours share everything.
pub(super) const SHARDS: u16 = 1;
/// So many that the segment's index has several points.
const DIRECT_BATCHES: usize = 12;
const DIRECT_BYTES: usize = 12_000;
/// Long enough for a commit to be submitted, and too short for it to be written.
const NEXT_COMMIT: Duration = Duration::from_micros(2);
/// Every commit has a mark above it.
const SETTLED: Duration = Duration::from_millis(100);
