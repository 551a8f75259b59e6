//! What a client, a producer and a consumer can be told.

use std::time::Duration;

use crate::batch::Compression;
use crate::frame::{Durability, Start, TopicDescription};
use crate::ids::PartitionIndex;
use crate::limits::{BATCH_RECORDS_MAX, PEER_NAME_BYTES_MAX};

use super::error::ClientError;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// By what name the client introduces itself in the server's logs. Default: `gannet-wire`.
    pub client_name: String,
    /// How long a connection may take to be made and greeted. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long a request may wait for its answer. Default: 30 s.
    pub request_timeout: Duration,
    /// What to do when a connection is lost.
    pub reconnect: ReconnectConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            client_name: "gannet-wire".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            reconnect: ReconnectConfig::default(),
        }
    }
}

impl ClientConfig {
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        if self.client_name.len() > PEER_NAME_BYTES_MAX {
            return Err(ClientError::InvalidArgument(
                "client_name is longer than 255 bytes",
            ));
        }
        if self.connect_timeout.is_zero() || self.request_timeout.is_zero() {
            return Err(ClientError::InvalidArgument("a timeout is zero"));
        }
        Ok(())
    }
}

/// How producers and consumers come back after a lost connection.
#[derive(Clone, Copy, Debug)]
pub struct ReconnectConfig {
    /// The pause after the first failed attempt; each further one is twice as long. Default: 50 ms.
    pub backoff_min: Duration,
    /// The longest pause. Default: 2 s.
    pub backoff_max: Duration,
    /// After so long without a connection a producer fails what it holds, and a consumer's call fails; both go on
    /// trying when used again. Default: 60 s.
    pub give_up_after: Duration,
}

impl Default for ReconnectConfig {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            give_up_after: Duration::from_secs(60),
        }
    }
}

/// The growing pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(config: &ReconnectConfig) -> Self {
        let min = config.backoff_min.max(Duration::from_millis(1));
        Self {
            next: min,
            max: config.backoff_max.max(min),
        }
    }

    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        pause
    }
}

/// How a producer gathers, sends and gives up.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// A batch is sent when the next record would take it over this many bytes; a record that is larger by itself goes
    /// alone. Larger batches cost less for each record, smaller ones wait less. Default: 64 KiB.
    pub batch_bytes: u32,
    /// A batch is sent when it has this many records. 1 sends every record by itself. Default: no limit but the
    /// server's.
    pub batch_records_max: u32,
    /// How long a batch may wait for more records. Zero: a record leaves at once while nothing is under way to its
    /// partition and sends come more than 50 microseconds apart; in a tight loop, records gather for a fraction of a
    /// millisecond at most. Default: zero.
    pub linger: Duration,
    /// How bodies are compressed: costs the producer's time, saves network and disk. Default: none.
    pub compression: Compression,
    /// When a batch is acknowledged. `None`: as the topic is set. Default: `None`.
    pub durability: Option<Durability>,
    /// Batches of a partition that may be unacknowledged at once; the server's own limit, within which it recognises
    /// duplicates, holds too when `idempotent`. Default: no limit but the server's.
    pub inflight_max: u32,
    /// Bytes of encoded batches the producer holds at most, over all partitions; beyond it `send` waits. In addition
    /// each partition may hold one batch that is being filled. Default: 64 MiB.
    pub buffer_bytes_max: usize,
    /// Whether a resent batch is recognised and stored once, and order kept within a partition whatever fails.
    /// Default: true.
    pub idempotent: bool,
    /// A record not acknowledged within this time fails. Default: 120 s.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            batch_bytes: 64 * 1024,
            batch_records_max: BATCH_RECORDS_MAX,
            linger: Duration::ZERO,
            compression: Compression::None,
            durability: None,
            inflight_max: u32::MAX,
            buffer_bytes_max: 64 * 1024 * 1024,
            idempotent: true,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl ProducerConfig {
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let invalid = |what| Err(ClientError::InvalidArgument(what));
        if self.batch_bytes == 0 || self.batch_records_max == 0 {
            return invalid("a batch must have room for something");
        }
        if self.inflight_max == 0 {
            return invalid("inflight_max is zero");
        }
        if self.buffer_bytes_max == 0 {
            return invalid("buffer_bytes_max is zero");
        }
        if self.delivery_timeout.is_zero() {
            return invalid("delivery_timeout is zero");
        }
        Ok(())
    }
}

/// How a consumer reads.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerConfig {
    /// Bytes of batches the server may send ahead, over all partitions: divided among them, but at least 64 KiB each.
    /// Held until the deliveries are dropped. Default: 16 MiB.
    pub credit_bytes: u64,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            credit_bytes: 16 * 1024 * 1024,
        }
    }
}

impl ConsumerConfig {
    pub(crate) fn credit_bytes_each(&self, partitions: usize) -> u64 {
        (self.credit_bytes / partitions.max(1) as u64).max(CREDIT_BYTES_MIN)
    }
}

/// Which partitions of a topic to consume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Partitions {
    /// All it has now.
    All,
    /// These indexes.
    Only(Vec<u32>),
}

impl Partitions {
    pub(crate) fn starts(
        &self,
        topic: &TopicDescription,
        start: Start,
    ) -> Vec<(PartitionIndex, Start)> {
        match self {
            Self::All => topic
                .partitions
                .iter()
                .map(|one| (one.partition, start))
                .collect(),
            Self::Only(indexes) => indexes
                .iter()
                .map(|index| (PartitionIndex(*index), start))
                .collect(),
        }
    }
}

const CREDIT_BYTES_MIN: u64 = 64 * 1024;
