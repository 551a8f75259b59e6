//! Sends records, batched, pipelined and, unless told otherwise, exactly once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::tokio::sync::Notify;
use ::tokio::time::timeout_at;

use super::Client;
use super::connection::Connection;
use crate::client::config::ProducerConfig;
use crate::client::error::ClientError;
use crate::client::hub::{Bell, LaneSlot, ProducerBooks, Sent, next_lane_id};
use crate::client::lane::{Identity, Lane, LaneConfig, Record};
use crate::client::partitioner::Partitioner;
use crate::client::report::DeliveryReport;
use crate::frame::{ProducerReply, TopicDescription};
use crate::ids::{PartitionIndex, Sequence, ShardIndex, Timestamp, TopicId};

/// Sends records to one topic, as [`blocking::Producer`](crate::client::blocking::Producer) does, whose documentation
/// holds here too. Futures may be dropped: a record was then either taken or not.
pub struct Producer {
    topic: TopicId,
    partitions: Vec<Partition>,
    partitioner: Partitioner,
    books: Arc<ProducerBooks>,
    changed: Arc<Notify>,
    delivery_timeout: Duration,
    /// Keeps the client's connections in use.
    _client: Client,
}

struct Partition {
    slot: Arc<LaneSlot>,
    connection: Arc<Connection>,
}

impl Producer {
    pub(super) async fn open(
        client: Client,
        topic: &TopicDescription,
        identity: Option<ProducerReply>,
        config: &ProducerConfig,
    ) -> Result<Self, ClientError> {
        let changed = Arc::new(Notify::new());
        let bell = Box::new(ChangeBell(Arc::clone(&changed)));
        let books = Arc::new(ProducerBooks::new(config.buffer_bytes_max, bell));
        let mut connections: HashMap<ShardIndex, Arc<Connection>> = HashMap::new();
        for partition in &topic.partitions {
            let Entry::Vacant(vacant) = connections.entry(partition.shard) else {
                continue;
            };
            let inner = &client.inner;
            let connections = &inner.connections;
            let shard = partition.shard;
            vacant.insert(
                connections
                    .of_shard(shard, &inner.addresses, &inner.config)
                    .await?,
            );
        }
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let Some(connection) = connections.get(&partition.shard) else {
                continue;
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
            partitions.push(Partition {
                slot,
                connection: Arc::clone(connection),
            });
        }
        Ok(Self {
            topic: topic.topic,
            partitioner: Partitioner::new(partitions.len() as u32),
            partitions,
            books,
            changed,
            delivery_timeout: config.delivery_timeout,
            _client: client,
        })
    }

    /// The topic's id.
    #[must_use]
    pub fn topic(&self) -> TopicId {
        self.topic
    }

    /// Sends a record; waits while the producer holds as many bytes as it may.
    ///
    /// # Errors
    /// As the blocking flavour's.
    pub async fn send(
        &self,
        partition: Option<PartitionIndex>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<Timestamp>,
    ) -> Result<(), ClientError> {
        let timestamp = timestamp.unwrap_or_else(now_timestamp);
        let record = Record {
            timestamp,
            key,
            value,
            headers,
            token: None,
        };
        self.send_record(partition, &record).await
    }

    /// As [`send`](Self::send), and has the batch reported to [`acks`](Self::acks), under the token of its first record.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_with(
        &self,
        partition: Option<PartitionIndex>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<Timestamp>,
        token: u64,
    ) -> Result<(), ClientError> {
        let timestamp = timestamp.unwrap_or_else(now_timestamp);
        let record = Record {
            timestamp,
            key,
            value,
            headers,
            token: Some(token),
        };
        self.send_record(partition, &record).await
    }

    /// Moves the reports that have come into `into`; does not wait.
    pub fn acks(&self, into: &mut Vec<DeliveryReport>) {
        self.books.books().drain_reports(into);
    }

    /// Waits until there are reports, at most for `timeout`; whether there are.
    pub async fn wait_for_acks(&self, timeout: Duration) -> bool {
        self.wait_until(Instant::now() + timeout, || {
            self.books.books().has_reports()
        })
        .await
    }

    /// What keeps records from being acknowledged at this moment: why there is no connection, or what the server last refused for now, such as a full
    /// disk. `None` while nothing is in the way. Meanwhile the producer tries again by itself; who waits can tell why.
    #[must_use]
    pub fn obstacle(&self) -> Option<ClientError> {
        self.partitions
            .iter()
            .find_map(|partition| partition.connection.hub.obstacle(&partition.slot))
    }

    /// Reports that were dropped because nobody fetched them.
    #[must_use]
    pub fn reports_lost(&self) -> u64 {
        self.books.books().reports_lost()
    }

    /// Sends what is gathered and waits until everything sent before this call is acknowledged or has failed.
    ///
    /// # Errors
    /// As the blocking flavour's.
    pub async fn flush(&self) -> Result<(), ClientError> {
        let now = Instant::now();
        let mut last = Vec::with_capacity(self.partitions.len());
        for partition in &self.partitions {
            last.push(partition.connection.hub.seal(&partition.slot, now));
            partition.connection.ring();
        }
        // Every batch settles within delivery_timeout of its first record, or a look later.
        let deadline = now + self.delivery_timeout + FLUSH_GRACE;
        for (partition, ordinal) in self.partitions.iter().zip(last) {
            if !self
                .wait_until(deadline, || partition.slot.is_settled(ordinal))
                .await
            {
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
    pub async fn close(self) -> Result<(), ClientError> {
        self.flush().await
    }

    async fn send_record(
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
        let mut sent = hub.send(&target.slot, record, Instant::now())?;
        if sent == Sent::Wait {
            // What is in the way may be waiting to be written.
            target.connection.ring();
            let mut outcome = Ok(Sent::Wait);
            let deadline = Instant::now() + self.delivery_timeout;
            let done = self
                .wait_until(deadline, || {
                    outcome = hub.send(&target.slot, record, Instant::now());
                    !matches!(outcome, Ok(Sent::Wait))
                })
                .await;
            if !done {
                return Err(ClientError::timed_out(
                    "there was no room for the record",
                    hub.obstacle(&target.slot),
                ));
            }
            sent = outcome?;
        }
        if sent == Sent::Queued {
            if partition.is_none() && record.key.is_none() {
                self.partitioner.handle_sealed(index);
            }
            target.connection.ring();
        }
        Ok(())
    }

    /// Waits until `done` says so; whether it did before the deadline.
    async fn wait_until(&self, deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
        let _waiter = self.books.announce_waiter();
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before looking: a change in between is not missed.
            changed.as_mut().enable();
            if done() {
                return true;
            }
            if timeout_at(deadline.into(), changed).await.is_err() {
                return false;
            }
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

struct ChangeBell(Arc<Notify>);

impl Bell for ChangeBell {
    fn ring_by(&self, _at: Instant) {
        self.0.notify_waiters();
    }

    fn ring(&self) {
        self.0.notify_waiters();
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
