//! The clients of a simulated broker: publishers, readers, groups, an administrator and someone who sets the clock. Each is a task that draws
//! what it does from a seed of its own, and ends with the broker's life.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use gannet_engine::cursor::CommittedOffset;
use gannet_engine::io::sim::Random;
use gannet_engine::io::{Clock, Spawn};
use gannet_engine::shard::read::{ReadCursor, ReadError};
use gannet_engine::storage::PartitionKey;
use gannet_wire::batch::BatchHeader;
use gannet_wire::frame::{Durability, Start, TopicSettings};
use gannet_wire::{Offset, Timestamp};

use super::batches::{Shape, checked, draw_shape, make_batch};
use super::broker::{Broker, Home};
use super::limits::{INFLIGHT_MAX, pick};
use super::model::{Phase, TopicModel};
use super::shared::{Producer, Shared};

/// What a client needs.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) broker: Rc<Broker>,
    pub(super) shared: Rc<Shared>,
    pub(super) home: Home,
    pub(super) random: Random,
}

/// How busy the clients are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) publishers: u64,
    pub(super) readers: u64,
    /// The longest pause between two steps of a client.
    pub(super) pause_us_max: u64,
}

impl Load {
    pub(super) fn draw(random: &mut Random) -> Self {
        Self {
            publishers: random.between(1, 4),
            readers: random.between(0, 3),
            pause_us_max: pick(random, &[50, 500, 5_000]),
        }
    }
}

impl Client {
    /// Another client, with dice of its own.
    fn another(&mut self) -> Self {
        Self {
            random: self.random.fork(),
            ..self.clone()
        }
    }

    /// Starts all clients of a life.
    pub(super) fn start_all(mut self, load: Load) {
        let spawn = self.home.spawn.clone();
        for _ in 0..load.publishers {
            spawn.spawn(self.another().publish(load.pause_us_max));
        }
        for _ in 0..load.readers {
            spawn.spawn(self.another().read(load.pause_us_max));
        }
        spawn.spawn(self.another().commit_offsets(load.pause_us_max));
        spawn.spawn(self.another().administer());
        spawn.spawn(self.another().set_clock());
    }

    /// Whether the disk failed to read something in this life: then reads may say so, until the next start.
    fn reads_failed(&self) -> bool {
        self.broker.struck(&self.home, |faults| faults.reads) > 0
    }

    /// How often the disk failed to open something in this life: as often reads may fail for it.
    pub(super) fn opens_failed(&self) -> u64 {
        self.broker.struck(&self.home, |faults| faults.opens)
    }

    fn ends(&self) -> bool {
        self.broker.is_stopping() || self.shared.quiet.get() || self.broker.failure().is_some()
    }

    async fn pause(&mut self, us_max: u64) {
        let us = self.random.below(us_max + 1);
        if us > 0 {
            self.home.clock.sleep(Duration::from_micros(us)).await;
        } else {
            yield_once().await;
        }
    }

    fn draw_key(&mut self) -> Option<PartitionKey> {
        let keys = self.shared.model.borrow().live_keys();
        (!keys.is_empty()).then(|| pick(&mut self.random, &keys))
    }

    // Publishers

    async fn publish(mut self, pause_us_max: u64) {
        while !self.ends() {
            let bursts = pick(&mut self.random, &[1, 1, 3, 12]);
            let Some(key) = self.draw_key() else {
                self.pause(pause_us_max.max(100)).await;
                continue;
            };
            let refused = self.shared.refused_full.get();
            for _ in 0..bursts {
                if self.random.chance(1, 2) {
                    self.publish_plain(key).await;
                } else {
                    self.publish_idempotent(key).await;
                }
            }
            self.pause(pause_us_max).await;
            if self.shared.refused_full.get() > refused {
                // As a client does that is told to come again later.
                self.pause(REFUSED_PAUSE_US_MAX).await;
            }
        }
    }

    /// Waits as a connection does before it hands a batch on.
    pub(super) async fn admitted(&self, key: PartitionKey) {
        if let Some((log, _)) = self.broker.slot(key) {
            log.admitted().await;
        }
    }

    pub(super) async fn publish_plain(&mut self, key: PartitionKey) {
        self.admitted(key).await;
        if self.shared.quiet.get() {
            // It was told to be while it waited: a mark is to prove what was sent before.
            return;
        }
        let durability = match self.random.below(3) {
            0 => Durability::Accepted,
            _ => Durability::Durable,
        };
        let shape = draw_shape(&mut self.random, &self.home.config);
        let attempt = self.new_attempt(key, shape, None);
        self.send(key, attempt, durability, None);
    }

    async fn publish_idempotent(&mut self, key: PartitionKey) {
        self.admitted(key).await;
        if self.shared.quiet.get() {
            return;
        }
        let index = self.producer_of(key);
        enum Step {
            New,
            Again(Vec<u64>),
            Wait,
        }
        let step = {
            let mut producers = self.shared.producers.borrow_mut();
            let producer = &mut producers[index];
            if producer.broken {
                if producer.in_flight > 0 {
                    Step::Wait
                } else {
                    producer.broken = false;
                    Step::Again(producer.unacked.iter().copied().collect())
                }
            } else if self.random.chance(1, 8) && !producer.acked.is_empty() {
                // The answer was lost on the way: it is sent again.
                let known: Vec<u64> = producer.acked.iter().copied().collect();
                Step::Again(vec![pick(&mut self.random, &known)])
            } else if self.random.chance(1, 10) && !producer.unacked.is_empty() {
                // A new connection sends what the one before had in flight.
                Step::Again(producer.unacked.iter().copied().collect())
            } else if producer.unacked.len() < INFLIGHT_MAX {
                Step::New
            } else {
                Step::Wait
            }
        };
        match step {
            Step::New => {
                let shape = draw_shape(&mut self.random, &self.home.config);
                let attempt = self.new_attempt(key, shape, Some(index));
                self.shared.producers.borrow_mut()[index]
                    .unacked
                    .push_back(attempt);
                self.send(key, attempt, Durability::Durable, Some(index));
            }
            Step::Again(attempts) => {
                for attempt in attempts {
                    self.send(key, attempt, Durability::Durable, Some(index));
                }
            }
            Step::Wait => {}
        }
    }

    /// One of a few idempotent producers of a partition.
    fn producer_of(&mut self, key: PartitionKey) -> usize {
        let mut producers = self.shared.producers.borrow_mut();
        let own: Vec<usize> = producers
            .iter()
            .enumerate()
            .filter(|(_, producer)| producer.key == key)
            .map(|(index, _)| index)
            .collect();
        if own.len() < PRODUCERS_MAX && (own.is_empty() || self.random.chance(1, 20)) {
            let number = producers.len() as u64 + 1;
            producers.push(Producer::new(key, number));
            return producers.len() - 1;
        }
        pick(&mut self.random, &own)
    }

    fn new_attempt(&mut self, key: PartitionKey, shape: Shape, producer: Option<usize>) -> u64 {
        let now = i64::try_from(self.shared.now_ms()).unwrap_or(0);
        let timestamps = match self.random.below(4) {
            0 => (now, 1),
            // A producer with a clock of its own.
            1 => (i64::try_from(self.random.below(1_000_000)).unwrap_or(0), 0),
            _ => (now, 0),
        };
        let stamp =
            producer.map(|index| self.shared.producers.borrow_mut()[index].stamp(shape.records));
        self.shared
            .model
            .borrow_mut()
            .attempt(key, timestamps, |number| {
                (make_batch(number, shape, timestamps, stamp), shape.records)
            })
    }

    /// Hands a batch to the log, and notes where it says that it goes.
    pub(super) fn send(
        &self,
        key: PartitionKey,
        attempt: u64,
        durability: Durability,
        producer: Option<usize>,
    ) {
        let Some((log, slot)) = self.broker.slot(key) else {
            return;
        };
        let Some(bytes) = self
            .shared
            .model
            .borrow()
            .attempts
            .get(&attempt)
            .map(|attempt| attempt.bytes.clone())
        else {
            return;
        };
        let (token, completion) = self.shared.publish_completion(attempt, producer);
        let before = slot.state.borrow().next_offset();
        log.publish(&slot, checked(&bytes), durability, completion);
        let after = slot.state.borrow().next_offset();
        self.shared.note(|| {
            format!(
                "publish {token}: batch {attempt} of {} bytes to {key}, {durability:?}, producer {producer:?}: offsets {before} to {after}",
                bytes.len()
            )
        });
        if after > before {
            let now_ms = self.shared.now_ms();
            self.shared
                .model
                .borrow_mut()
                .appended(attempt, before.0, now_ms);
        }
    }

    // Readers

    async fn read(mut self, pause_us_max: u64) {
        while !self.ends() {
            if let Some(key) = self.draw_key() {
                self.read_some(key).await;
            }
            self.pause(pause_us_max.max(100)).await;
        }
    }

    async fn read_some(&mut self, key: PartitionKey) {
        let Some((log, slot)) = self.broker.slot(key) else {
            return;
        };
        let (log_start, end) = {
            let state = slot.state.borrow();
            (state.log_start().0, state.durable_offset().0)
        };
        let now_ms = self.shared.now_ms();
        self.shared
            .model
            .borrow_mut()
            .saw_log_start(key, log_start, now_ms);
        let start = match self.random.below(6) {
            0 => Start::Latest,
            1 | 2 => Start::Offset(Offset(self.random.between(log_start, end))),
            3 | 4 => Start::Earliest,
            _ => Start::Timestamp(Timestamp(
                i64::try_from(self.random.below(self.shared.now_ms() + 2)).unwrap_or(0),
            )),
        };
        let known_end = self.shared.model.borrow().durable_end(key);
        let at = match log.start_offset(&slot, start).await {
            Ok(at) => at,
            Err(error) => {
                self.check_read_error(key, &error, None);
                return;
            }
        };
        if slot.is_deleted() {
            return;
        }
        self.check_start(key, start, at.0, known_end);
        let mut cursor = ReadCursor::at(at);
        for _ in 0..self.random.between(1, 30) {
            let bytes_max = pick(&mut self.random, &[1, 1_000, 20_000, 1 << 20]);
            let wanted = cursor.offset;
            let seen = slot.changed.version();
            match log.read(&slot, &mut cursor, bytes_max).await {
                Ok(batches) if batches.is_empty() => {
                    let timeout = self.home.clock.sleep(Duration::from_millis(20));
                    let appended = slot.changed.changed_since(seen);
                    if let Either::Right(_) = select(pin!(appended), pin!(timeout)).await {
                        return;
                    }
                }
                Ok(batches) => {
                    self.check_batches(key, wanted, batches.iter().map(|batch| &**batch));
                    yield_once().await;
                }
                Err(error) => {
                    self.check_read_error(key, &error, Some(wanted));
                    if let ReadError::Fenced(fence) = error {
                        cursor = ReadCursor::at(fence.to);
                        continue;
                    }
                    return;
                }
            }
        }
    }

    fn check_start(&self, key: PartitionKey, start: Start, at: u64, known_end: u64) {
        let Start::Timestamp(timestamp) = start else {
            return;
        };
        if self.reads_failed() {
            // What a read that failed held is passed over.
            return;
        }
        let log_start = self
            .broker
            .slot(key)
            .map_or(0, |(_, slot)| slot.state.borrow().log_start().0);
        let mut model = self.shared.model.borrow_mut();
        if model.rot {
            // What is damaged is passed over.
            return;
        }
        let first = model.first_at_time(key, log_start, timestamp.0);
        if at >= log_start && at < first.unwrap_or(known_end) {
            model.violate(format!(
                "looking for {timestamp} in {key} gave offset {at}, although nothing before {first:?} is as late"
            ));
        }
        if let Some(first) = first
            && first < known_end
            && at > first
        {
            model.violate(format!(
                "looking for {timestamp} in {key} gave offset {at}, although the record at {first} is as late"
            ));
        }
    }

    /// Batches that were read from `wanted` on: consecutive, and each the one that was sent.
    pub(super) fn check_batches<'a>(
        &self,
        key: PartitionKey,
        wanted: Offset,
        batches: impl Iterator<Item = &'a [u8]>,
    ) -> u64 {
        let mut model = self.shared.model.borrow_mut();
        let mut next = wanted.0;
        for (index, bytes) in batches.enumerate() {
            let found = model.delivered(key, bytes);
            let Some((base, end)) = found else {
                if !model.partitions.contains_key(&key) {
                    return next;
                }
                let header = BatchHeader::read_from_prefix_of(bytes).map(BatchHeader::base_offset);
                model.violate(format!("reading {key} from {wanted} gave {header:?}"));
                return next;
            };
            let follows = base == next || (index == 0 && base < next && next < end);
            if !follows {
                model.violate(format!(
                    "reading {key} from {wanted} gave {base}..{end} where {next} comes next"
                ));
            }
            next = end;
        }
        next
    }

    pub(super) fn check_read_error(
        &self,
        key: PartitionKey,
        error: &ReadError,
        wanted: Option<Offset>,
    ) {
        self.shared
            .note(|| format!("reading {key} at {wanted:?}: {error}"));
        let mut model = self.shared.model.borrow_mut();
        match error {
            ReadError::OutOfRange { log_start, .. } => {
                let overtaken = wanted.is_none_or(|wanted| wanted < *log_start);
                if !overtaken {
                    model.violate(format!("reading {key}: {error}"));
                }
            }
            ReadError::Fenced(fence) => {
                if !self.reads_failed() {
                    model.fenced(key, fence.from.0, fence.to.0);
                }
            }
            ReadError::Deleted => {
                if model.live_keys().contains(&key) {
                    model.violate(format!("{key} is said to be deleted"));
                }
            }
            ReadError::Storage(_) => {
                if self.opens_failed() == 0 && self.broker.failure().is_none() {
                    model.violate(format!("reading {key}: {error}"));
                }
            }
        }
    }

    // Groups

    async fn commit_offsets(mut self, pause_us_max: u64) {
        while !self.ends() {
            self.pause(pause_us_max * 4 + 100).await;
            if let Some(key) = self.draw_key() {
                self.commit_offset(key);
            }
        }
    }

    /// A group commits how far it has come, wherever that is.
    pub(super) fn commit_offset(&mut self, key: PartitionKey) {
        let Some((log, slot)) = self.broker.slot(key) else {
            return;
        };
        let group = pick(&mut self.random, &["g", "another group"]);
        self.check_group(key, group);
        let offset = self
            .random
            .below(slot.state.borrow().durable_offset().0 + 1);
        let number = self
            .shared
            .model
            .borrow_mut()
            .commit_sent(key, group, offset);
        let completion = self.shared.commit_completion(key, group, number);
        let commit = CommittedOffset {
            group: group.to_owned(),
            offset: Offset(offset),
            metadata: number.to_string(),
        };
        log.commit_offset(&slot, commit, completion);
    }

    /// What a group finds committed is what it committed last, or later.
    pub(super) fn check_group(&self, key: PartitionKey, group: &str) {
        let Some((_, slot)) = self.broker.slot(key) else {
            return;
        };
        let found = slot
            .state
            .borrow()
            .committed
            .fetch(group)
            .map(|found| (found.metadata.parse().unwrap_or(usize::MAX), found.offset));
        let mut model = self.shared.model.borrow_mut();
        model.commit_found(key, group, found);
    }

    // The administrator

    async fn administer(mut self) {
        while !self.ends() {
            let live = self
                .shared
                .model
                .borrow()
                .topics
                .iter()
                .filter(|topic| topic.phase == Phase::Live)
                .count();
            if live < TOPICS_MIN || (live < TOPICS_MAX && self.random.chance(1, 2)) {
                self.create_topic().await;
            } else {
                self.delete_topic().await;
            }
            let us_max = if live < TOPICS_MIN { 10 } else { 300_000 };
            self.pause(us_max).await;
        }
    }

    pub(super) async fn create_topic(&mut self) {
        let (index, name, partitions, settings) = {
            let mut model = self.shared.model.borrow_mut();
            let taken: Vec<&str> = model
                .topics
                .iter()
                .filter(|topic| topic.phase != Phase::Deleted)
                .map(|topic| &*topic.name)
                .collect();
            // Names come back, ids do not.
            let Some(name) = NAMES.iter().find(|name| !taken.contains(name)) else {
                return;
            };
            let partitions = u32::try_from(self.random.between(1, 4)).unwrap_or(1);
            let settings = TopicSettings {
                retention_bytes: (self.random.chance(1, 3))
                    .then(|| pick(&mut self.random, &[1, 20_000, 200_000])),
                retention_ms: (self.random.chance(1, 3))
                    .then(|| pick(&mut self.random, &[1, 300, 3_000])),
                ..TopicSettings::default()
            };
            model.topics.push(TopicModel {
                name: (*name).to_owned(),
                id: None,
                partitions,
                settings,
                phase: Phase::Creating,
            });
            (model.topics.len() - 1, *name, partitions, settings)
        };
        self.shared
            .note(|| format!("create topic {name} with {partitions} partitions, {settings:?}"));
        let created = self
            .broker
            .change_catalogue(async |catalogue| {
                catalogue
                    .create(name.to_owned(), partitions, settings)
                    .await
            })
            .await;
        let Some(topic) = created else { return };
        let topic = std::sync::Arc::new(topic);
        for (shard, log) in (0u16..).zip(&self.broker.logs) {
            log.add_topic(&topic, |key| self.broker.owner(key).0 == shard);
        }
        self.shared
            .note(|| format!("topic {name} has id {}", topic.id));
        self.shared
            .model
            .borrow_mut()
            .topic_created(index, topic.id);
    }

    async fn delete_topic(&mut self) {
        let (index, name) = {
            let mut model = self.shared.model.borrow_mut();
            let live: Vec<usize> = (0..model.topics.len())
                .filter(|index| model.topics[*index].phase == Phase::Live)
                .collect();
            if live.is_empty() {
                return;
            }
            let index = pick(&mut self.random, &live);
            model.topics[index].phase = Phase::Deleting;
            (index, model.topics[index].name.clone())
        };
        self.shared.note(|| format!("delete topic {name}"));
        let deleted = self
            .broker
            .change_catalogue(async |catalogue| catalogue.delete(&name).await)
            .await;
        match deleted {
            Some(Some(topic)) => {
                self.broker.drop_topic(&self.home, topic.id);
                self.shared.model.borrow_mut().topic_deleted(index);
            }
            Some(None) => self
                .shared
                .model
                .borrow_mut()
                .violate(format!("topic {name} was there and cannot be deleted")),
            None => {}
        }
    }

    // The one who sets the wall clock

    async fn set_clock(mut self) {
        while !self.ends() {
            self.pause(2_000_000).await;
            let by_ms: i64 = match self.random.below(4) {
                0 => 700,
                1 => -700,
                // Far off, and back: never followed within the hour.
                2 => 3_600_000,
                _ => -3_600_000,
            };
            self.shared
                .note(|| format!("the wall clock jumps by {by_ms} ms"));
            let now_ms = self.shared.now_ms();
            self.shared
                .model
                .borrow_mut()
                .append_clock
                .wall_jumped(by_ms, now_ms);
            self.home.clock.jump_wall_ms(by_ms);
        }
    }
}

/// Lets the others go first.
pub(super) async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

const NAMES: [&str; 5] = ["orders", "events", "logs", "mail", "trades"];
const REFUSED_PAUSE_US_MAX: u64 = 200_000;
const TOPICS_MIN: usize = 2;
const TOPICS_MAX: usize = 4;
const PRODUCERS_MAX: usize = 2;
