//! Sends records, batched, pipelined and, unless told otherwise, exactly once.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Client;
use super::connection::Connection;
use crate::client::config::ProducerConfig;
use crate::client::error::ClientError;
use crate::client::hub::{Bell, LaneSlot, ProducerBooks, Sent, locked, next_lane_id};
use crate::client::lane::{Identity, Lane, LaneConfig, Record};
use crate::client::partitioner::Partitioner;
use crate::client::report::DeliveryReport;
use crate::frame::{ProducerReply, TopicDescription};
use crate::ids::{PartitionIndex, Sequence, ShardIndex, Timestamp, TopicId};

/// Sends records to one topic. May be used by several threads at once; order holds for each thread and partition.
///
/// A batch that is lost with its connection is sent again on the next one, in the original order and, when idempotent,
/// with the same sequences, so that the broker stores it once. When the broker refuses a batch for good, everything
/// accepted behind it in its partition fails too; what is sent afterwards goes under a new producer id.
///
/// Dropping a producer abandons what was not flushed; [`close`](Self::close) does not.
pub struct Producer {
    topic: TopicId,
    partitions: Vec<Partition>,
    partitioner: Partitioner,
    books: Arc<ProducerBooks>,
    gate: Arc<Gate>,
    delivery_timeout: Duration,
    /// Keeps the client's connections in use.
    _client: Client,
}

struct Partition {
    slot: Arc<LaneSlot>,
    connection: Arc<Connection>,
}

impl Producer {
    pub(super) fn open(
        client: Client,
        topic: &TopicDescription,
        identity: Option<ProducerReply>,
        config: &ProducerConfig,
    ) -> Result<Self, ClientError> {
        let gate = Arc::new(Gate::default());
        let books = Arc::new(ProducerBooks::new(
            config.buffer_bytes_max,
            Box::new(GateBell(gate.clone())),
        ));
        let mut connections: HashMap<ShardIndex, Arc<Connection>> = HashMap::new();
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let connection = match connections.get(&partition.shard) {
                Some(connection) => Arc::clone(connection),
                None => {
                    let inner = &client.inner;
                    let connection = inner.connections.of_shard(
                        partition.shard,
                        &inner.addresses,
                        &inner.config,
                    )?;
                    connections.insert(partition.shard, Arc::clone(&connection));
                    connection
                }
            };
            let id = next_lane_id();
            let lane_config = LaneConfig {
                lane: id,
                topic: topic.topic,
                partition: partition.partition,
                retry_pause: client.inner.config.reconnect.backoff_min,
                keeps_builder: topic.partitions.len() <= BUILDERS_KEPT_MAX,
                ..LaneConfig::of(config, &connection.hello)
            };
            let identity = identity.map_or(Identity::Anonymous, |producer| Identity::Producer {
                id: producer.producer,
                epoch: producer.epoch,
                next: Sequence(0),
            });
            let lane = Lane::new(lane_config, identity);
            let slot = Arc::new(LaneSlot::new(id, lane, Arc::clone(&books)));
            connection.hub.add(Arc::clone(&slot));
            partitions.push(Partition { slot, connection });
        }
        Ok(Self {
            topic: topic.topic,
            partitioner: Partitioner::new(partitions.len() as u32),
            partitions,
            books,
            gate,
            delivery_timeout: config.delivery_timeout,
            _client: client,
        })
    }

    /// The topic's id.
    #[must_use]
    pub fn topic(&self) -> TopicId {
        self.topic
    }

    /// How many partitions the topic had when the producer was made.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// Sends a record; waits while the producer holds as many bytes as it may. `partition`: `None` goes by the key's
    /// hash (Kafka's), or without a key to one partition until its batch is full and then to the next. `timestamp`:
    /// `None` is now.
    ///
    /// That a record was not delivered is told by [`flush`](Self::flush) and [`close`](Self::close).
    ///
    /// # Errors
    /// The record can never be sent, the producer gave up on its connection, or there was no room for as long as
    /// `delivery_timeout`. The record was not taken then.
    pub fn send(
        &self,
        partition: Option<PartitionIndex>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<Timestamp>,
    ) -> Result<(), ClientError> {
        let timestamp = timestamp.unwrap_or_else(now_timestamp);
        self.send_record(
            partition,
            &Record {
                timestamp,
                key,
                value,
                headers,
                token: None,
            },
        )
    }

    /// As [`send`](Self::send), and has the batch reported to [`acks`](Self::acks), under the token of its first record.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_with(
        &self,
        partition: Option<PartitionIndex>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<Timestamp>,
        token: u64,
    ) -> Result<(), ClientError> {
        let timestamp = timestamp.unwrap_or_else(now_timestamp);
        self.send_record(
            partition,
            &Record {
                timestamp,
                key,
                value,
                headers,
                token: Some(token),
            },
        )
    }

    /// Moves the reports that have come into `into`; does not wait. The caller is expected to fetch them: about a
    /// million are kept, further ones are counted by [`reports_lost`](Self::reports_lost).
    pub fn acks(&self, into: &mut Vec<DeliveryReport>) {
        self.books.books().drain_reports(into);
    }

    /// Waits until there are reports, at most for `timeout`; whether there are.
    pub fn wait_for_acks(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        self.wait_until(deadline, || self.books.books().has_reports())
    }

    /// Reports that were dropped because nobody fetched them.
    #[must_use]
    pub fn reports_lost(&self) -> u64 {
        self.books.books().reports_lost()
    }

    /// What keeps records from being acknowledged at this moment: why there is no connection, or what the server last refused for now, such as a full
    /// disk. `None` while nothing is in the way. Meanwhile the producer tries again by itself; who waits can tell why.
    #[must_use]
    pub fn obstacle(&self) -> Option<ClientError> {
        self.partitions
            .iter()
            .find_map(|partition| partition.connection.hub.obstacle(&partition.slot))
    }

    /// Bytes of batches that were not acknowledged yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.books.buffered_bytes()
    }

    /// Sends what is gathered and waits until everything sent before this call is acknowledged or has failed.
    ///
    /// # Errors
    /// [`ClientError::Undelivered`] when records failed since the last call, with how many and why the first did.
    pub fn flush(&self) -> Result<(), ClientError> {
        let now = Instant::now();
        let mut last = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            last.push(partition.connection.hub.seal(&partition.slot, now));
        }
        for partition in &self.partitions {
            partition.connection.write_now();
        }
        // Every batch settles within delivery_timeout of its first record, or a look later.
        let deadline = now + self.delivery_timeout + FLUSH_GRACE;
        for (partition, ordinal) in self.partitions.iter().zip(last) {
            if !self.wait_until(deadline, || partition.slot.is_settled(ordinal)) {
                return Err(ClientError::timed_out(
                    "not everything was acknowledged",
                    self.obstacle(),
                ));
            }
        }
        self.books.books().take_failure()
    }

    /// Flushes, then takes no more.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn close(self) -> Result<(), ClientError> {
        self.flush()
    }

    #[inline]
    fn send_record(
        &self,
        partition: Option<PartitionIndex>,
        record: &Record<'_>,
    ) -> Result<(), ClientError> {
        let index = partition.unwrap_or_else(|| self.partitioner.partition(record.key));
        let Some(target) = self.partitions.get(index.0 as usize) else {
            return Err(ClientError::InvalidArgument(
                "the topic has no such partition",
            ));
        };
        let hub = &target.connection.hub;
        let now = Instant::now();
        let mut sent = hub.send(&target.slot, record, now)?;
        if sent == Sent::Wait {
            sent = self.send_when_there_is_room(target, record)?;
        }
        if sent == Sent::Queued {
            if partition.is_none() && record.key.is_none() {
                self.partitioner.handle_sealed(index);
            }
            target.connection.write_after_send(now);
        }
        Ok(())
    }

    #[cold]
    fn send_when_there_is_room(
        &self,
        target: &Partition,
        record: &Record<'_>,
    ) -> Result<Sent, ClientError> {
        // What is in the way may be waiting to be written.
        target.connection.write_now();
        let mut outcome = Ok(Sent::Wait);
        let deadline = Instant::now() + self.delivery_timeout;
        let sent = self.wait_until(deadline, || {
            outcome = target
                .connection
                .hub
                .send(&target.slot, record, Instant::now());
            !matches!(outcome, Ok(Sent::Wait))
        });
        if sent {
            outcome
        } else {
            Err(ClientError::timed_out(
                "there was no room for the record",
                target.connection.hub.obstacle(&target.slot),
            ))
        }
    }

    /// Waits until `done` says so; whether it did before the deadline.
    fn wait_until(&self, deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
        let _waiter = self.books.announce_waiter();
        loop {
            let rung = self.gate.count();
            if done() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.gate.wait(rung, deadline);
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.books.close();
        for partition in &self.partitions {
            partition.connection.hub.remove(partition.slot.id);
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("topic", &self.topic)
            .field("partitions", &self.partitions.len())
            .finish_non_exhaustive()
    }
}

/// Where threads wait for a producer's state to change.
#[derive(Default)]
struct Gate {
    rung: Mutex<u64>,
    condvar: Condvar,
}

impl Gate {
    fn count(&self) -> u64 {
        *locked(&self.rung)
    }

    fn wait(&self, seen: u64, deadline: Instant) {
        let rung = locked(&self.rung);
        let left = deadline.saturating_duration_since(Instant::now());
        // Whether it was rung or the time is up, the caller looks for himself.
        let _ = self
            .condvar
            .wait_timeout_while(rung, left, |rung| *rung == seen);
    }
}

struct GateBell(Arc<Gate>);

impl Bell for GateBell {
    fn ring_by(&self, _at: Instant) {
        self.ring();
    }

    fn ring(&self) {
        *locked(&self.0.rung) += 1;
        self.0.condvar.notify_all();
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a record that is sent without a timestamp gets the wall clock's"
)]
fn now_timestamp() -> Timestamp {
    // Before 1970 the clock is wrong in any case.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// With more partitions than this, each gives back the memory it fills batches in.
const BUILDERS_KEPT_MAX: usize = 64;
/// The timeouts of batches are looked for about twice a second.
const FLUSH_GRACE: Duration = Duration::from_secs(2);
