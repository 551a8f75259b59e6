//! A shard on the simulated disk for the tests of its log: one life after the other, with damage in between.
#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use gannet_wire::batch::{
    BatchLimits, CheckDepth, CheckScratch, Compression, ProducerStamp, check_batch,
};
use gannet_wire::frame::{Durability, TopicSettings};
use gannet_wire::{Offset, PartitionIndex, ShardIndex, TopicId};

use super::log::{CheckedBatch, LogConfig, ShardLog};
use super::recover::{RecoveryReport, ShardIdentity};
use super::slot::{Completion, CompletionSink, Outcome, Slot};
use super::start::{LogTasks, open_catalogue, start_log};
use crate::cursor::CommittedOffset;
use crate::io::sim::{CrashPolicy, SimClock, SimDisk, SimExecutor};
use crate::partition::ProducerLimits;
use crate::storage::layout::{DataDir, JOURNAL_SUFFIX};
use crate::storage::{Lsn, PartitionKey, StorageError};

pub(crate) type SimLog = ShardLog<SimDisk, SimClock>;

/// The disk, and how the shard is tuned.
pub(crate) struct World {
    pub(crate) executor: SimExecutor,
    pub(crate) disk: SimDisk,
    pub(crate) data: DataDir,
    pub(crate) config: LogConfig,
    pub(crate) partitions: u32,
}

/// One life of the shard.
pub(crate) struct Life {
    pub(crate) log: Rc<SimLog>,
    pub(crate) report: RecoveryReport,
    pub(crate) outcomes: Rc<Outcomes>,
    tasks: Rc<LogTasks>,
    failures: Rc<RefCell<Vec<String>>>,
}

/// What became of requests, in the order of their answers.
#[derive(Default)]
pub(crate) struct Outcomes {
    answered: RefCell<Vec<(u64, Outcome)>>,
    /// Whether whoever publishes sends on without waiting.
    pub(crate) streams: Cell<bool>,
}

impl CompletionSink for Outcomes {
    fn complete(&self, token: u64, outcome: Outcome) {
        self.answered.borrow_mut().push((token, outcome));
    }

    fn has_others_in_flight(&self) -> bool {
        self.streams.get()
    }
}

impl Outcomes {
    pub(crate) fn of(&self, token: u64) -> Option<Outcome> {
        let outcomes = self.answered.borrow();
        let found = outcomes.iter().find(|(known, _)| *known == token);
        found.map(|(_, outcome)| outcome.clone())
    }

    /// How many answers came before this one.
    pub(crate) fn place(&self, token: u64) -> Option<usize> {
        let outcomes = self.answered.borrow();
        outcomes.iter().position(|(known, _)| *known == token)
    }

    pub(crate) fn len(&self) -> usize {
        self.answered.borrow().len()
    }
}

/// A configuration of which nothing is flushed but by a stop.
pub(crate) fn config() -> LogConfig {
    LogConfig {
        journal_file_bytes: 256 << 10,
        commit_bytes_max: 64 << 10,
        commits_in_flight_max: 4,
        commit_gather_bytes: 1,
        commit_interval: Duration::ZERO,
        trust_wall_clock: false,
        mark_interval: Duration::from_millis(10),
        unflushed_bytes_max: 16 << 20,
        flush_bytes: 16 << 20,
        flush_interval: Duration::from_secs(24 * 60 * 60),
        flush_round_bytes_max: 16 << 20,
        own_segment_bytes_min: 16 << 10,
        direct_bytes_min: 32 << 10,
        direct_chunk_bytes_max: 128 << 10,
        directs_in_flight_max: 4,
        segment_bytes_max: 1 << 20,
        merge_segments_min: 8,
        merge_interval: Duration::from_secs(60),
        checkpoint_bytes_min: 4 << 20,
        flush_write_bytes: 64 << 10,
        flush_writes_in_flight_max: 2,
        tail_cache_bytes: 1 << 20,
        read_chunk_bytes: 16 << 10,
        read_cache_bytes: 128 << 10,
        open_files_max: 8,
        disk_reserve_bytes: 0,
        producers: ProducerLimits {
            inflight_max: 4,
            expiry_ms: 24 * 60 * 60 * 1000,
            producers_max: 1_000,
        },
    }
}

impl World {
    pub(crate) fn new(partitions: u32) -> Self {
        let executor = SimExecutor::new(1);
        let disk = SimDisk::new(&executor);
        let data = DataDir::new("/data");
        executor
            .block_on(crate::io::Disk::create_dir_all(&disk, data.root()))
            .unwrap();
        Self {
            executor,
            disk,
            data,
            config: config(),
            partitions,
        }
    }

    /// The same disk a second time, as it is now.
    pub(crate) fn fork(&self) -> Self {
        let executor = SimExecutor::new(1);
        Self {
            disk: self.disk.snapshot(&executor),
            executor,
            data: self.data.clone(),
            config: self.config.clone(),
            partitions: self.partitions,
        }
    }

    /// Starts the shard, alone in its broker.
    pub(crate) fn try_start(&self) -> Result<Life, StorageError> {
        let (disk, clock) = (self.disk.clone(), self.executor.clock());
        let (log, report) = self.executor.block_on(async {
            let mut catalogue =
                open_catalogue(&disk, &clock, &self.data, 1, &self.config, 7).await?;
            if catalogue.state().topics.is_empty() {
                catalogue
                    .create("t".into(), self.partitions, TopicSettings::default())
                    .await?;
            }
            let state = catalogue.state();
            let identity = ShardIdentity {
                shard: ShardIndex(0),
                layout: state.layout,
                incarnation: state.incarnation,
            };
            SimLog::recover(
                disk.clone(),
                clock.clone(),
                self.data.clone(),
                self.config.clone(),
                &identity,
                state,
            )
            .await
        })?;
        let failures: Rc<RefCell<Vec<String>>> = Rc::default();
        let tasks = start_log(&log, &self.executor.spawner(), {
            let failures = failures.clone();
            move |error: StorageError| failures.borrow_mut().push(error.to_string())
        });
        Ok(Life {
            log,
            report,
            outcomes: Rc::default(),
            tasks,
            failures,
        })
    }

    pub(crate) fn start(&self) -> Life {
        self.try_start().unwrap()
    }

    /// Long enough for everything that was asked for and for the mark above it.
    pub(crate) fn settle(&self) {
        self.executor.run_for(Duration::from_millis(200));
    }

    /// Kills the process once everything it was asked for is durable and marked.
    pub(crate) fn kill(&self, life: Life) {
        self.settle();
        life.expect_healthy();
        self.kill_now(life);
    }

    pub(crate) fn kill_now(&self, life: Life) {
        drop(life);
        self.executor.crash();
        self.disk.crash(CrashPolicy::ProcessKilled);
    }

    /// A clean stop: everything is in segments.
    pub(crate) fn stop(&self, life: Life) {
        life.log.stop();
        self.executor.block_on(life.tasks.ended());
        life.expect_healthy();
        self.kill_now(life);
    }

    /// Batches of `records` records, one after the other, each in a commit of its own; returns their LSNs.
    pub(crate) fn publish_each(&self, life: &Life, partition: u32, batches: &[u32]) -> Vec<Lsn> {
        batches
            .iter()
            .map(|records| {
                life.publish(partition, *records, 10, None);
                self.settle();
                life.newest_data_lsn()
            })
            .collect()
    }

    pub(crate) fn journal_dir(&self) -> PathBuf {
        self.data.journal(1, ShardIndex(0))
    }

    /// The journal's files, in the order of names.
    pub(crate) fn journal_files(&self) -> Vec<PathBuf> {
        let files = self.disk.list_tree().into_iter().map(|(path, _)| path);
        files
            .filter(|path| path.starts_with(self.journal_dir()))
            .filter(|path| path.to_string_lossy().ends_with(JOURNAL_SUFFIX))
            .collect()
    }

    /// Where a commit stands, and its bytes.
    pub(crate) fn commit(&self, lsn: Lsn) -> (PathBuf, std::ops::Range<usize>) {
        use crate::storage::commit::CommitHead;
        let mut newest = None;
        for path in self.journal_files() {
            let bytes = self.disk.read_file(&path).unwrap();
            for at in (0..bytes.len()).step_by(4096) {
                if let Ok(head) = CommitHead::read(&bytes[at..], at as u64)
                    && head.identity.lsn == lsn
                {
                    let life = head.identity.generation;
                    newest = newest.max(Some((life, path.clone(), at, head.commit_bytes)));
                }
            }
        }
        let (_, path, at, bytes) = newest.expect("the commit is in the journal");
        (path, at..at + bytes)
    }

    /// Destroys one entry of a commit; its directories stay whole.
    pub(crate) fn rot_entry(&self, lsn: Lsn, entry: usize) {
        use crate::storage::commit::CommitHead;
        let (path, range) = self.commit(lsn);
        let bytes = self.disk.read_file(&path).unwrap();
        let head = CommitHead::read(&bytes[range.clone()], range.start as u64).unwrap();
        let entries = head.check(&bytes[range.clone()]).unwrap();
        let at = range.start + entries[entry].start as usize + entries[entry].length as usize - 1;
        self.disk.flip_bit(&path, at as u64, 3);
    }

    /// Destroys a commit beyond knowing what it held.
    pub(crate) fn rot_commit(&self, lsn: Lsn) {
        let (path, range) = self.commit(lsn);
        self.disk
            .overwrite(&path, range.start as u64, &vec![0xA5; range.len()]);
    }
}

impl Life {
    pub(crate) fn slot(&self, partition: u32) -> Rc<Slot> {
        self.log.slot(key(partition)).unwrap()
    }

    /// Publishes a batch and returns its token.
    pub(crate) fn publish(
        &self,
        partition: u32,
        records: u32,
        value_bytes: usize,
        producer: Option<ProducerStamp>,
    ) -> u64 {
        let token = TOKEN.with(|token| token.replace(token.get() + 1));
        let bytes = batch(records, value_bytes, producer);
        let header = check_batch(
            &bytes,
            &BatchLimits::FORMAT,
            CheckDepth::Full,
            &mut CheckScratch::new(),
        )
        .unwrap();
        self.log.publish(
            &self.slot(partition),
            CheckedBatch { bytes, header },
            Durability::Durable,
            self.completion(token),
        );
        token
    }

    pub(crate) fn commit_offset(&self, partition: u32, group: &str, offset: u64) -> u64 {
        let token = TOKEN.with(|token| token.replace(token.get() + 1));
        let commit = CommittedOffset {
            group: group.into(),
            offset: Offset(offset),
            metadata: String::new(),
        };
        self.log
            .commit_offset(&self.slot(partition), commit, self.completion(token));
        token
    }

    pub(crate) fn next_offset(&self, partition: u32) -> u64 {
        self.slot(partition).state.borrow().next_offset().0
    }

    pub(crate) fn term(&self, partition: u32) -> u32 {
        self.slot(partition).state.borrow().leader_epoch().0
    }

    pub(crate) fn fences(&self, partition: u32) -> Vec<(u64, u64)> {
        let slot = self.slot(partition);
        let state = slot.state.borrow();
        let fences = state.fences().iter();
        fences.map(|fence| (fence.from.0, fence.to.0)).collect()
    }

    pub(crate) fn newest_data_lsn(&self) -> Lsn {
        self.log.recent.newest_unflushed_lsn()
    }

    pub(crate) fn expect_healthy(&self) {
        assert_eq!(*self.failures.borrow(), Vec::<String>::new());
    }

    fn completion(&self, token: u64) -> Completion {
        Completion::new(self.outcomes.clone(), token)
    }
}

fn batch(records: u32, value_bytes: usize, producer: Option<ProducerStamp>) -> Bytes {
    let mut builder = gannet_wire::batch::BatchBuilder::new(BatchLimits::FORMAT);
    for index in 0..records {
        let value = vec![1 + index as u8 % 200; value_bytes];
        builder
            .push(gannet_wire::Timestamp(1_000), None, Some(&value), &[])
            .unwrap();
    }
    builder.build(Compression::None, producer)
}

pub(crate) fn key(partition: u32) -> PartitionKey {
    PartitionKey {
        topic: TopicId(1),
        partition: PartitionIndex(partition),
    }
}

thread_local! {
    static TOKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
