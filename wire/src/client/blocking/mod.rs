//! The client for programs with threads: nothing but the standard library's sockets.
//!
//! ```no_run
//! use std::time::Duration;
//! use gannet_wire::client::{ClientConfig, ConsumerConfig, Partitions, ProducerConfig, blocking::Client};
//! use gannet_wire::frame::Start;
//!
//! # fn main() -> Result<(), gannet_wire::client::ClientError> {
//! let client = Client::connect("127.0.0.1:7470", ClientConfig::default())?;
//! let producer = client.producer("orders", ProducerConfig::default())?;
//! producer.send(None, Some(b"key"), Some(b"value"), &[], None)?;
//! producer.flush()?;
//!
//! let mut consumer =
//!     client.consumer("orders", Partitions::All, Start::Earliest, ConsumerConfig::default())?;
//! while let Some(delivery) = consumer.next(Duration::from_secs(1))? {
//!     for (offset, record) in delivery.iter() {
//!         println!("{} {offset} {:?}", delivery.partition, record.value);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod connection;
mod consumer;
mod desk;
mod link;
mod producer;

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use consumer::Consumer;
pub use producer::Producer;

use self::connection::Connections;
use self::link::Link;
use super::config::{ClientConfig, ConsumerConfig, Partitions, ProducerConfig};
use super::error::ClientError;
use super::hub::locked;
use super::request::{Reply, Request};
use crate::frame::{
    CommittedOffset, HelloReply, OffsetLookupReply, Start, TopicDescription, TopicEntry,
    TopicOptions,
};
use crate::ids::{CorrelationId, Offset, PartitionIndex, TopicId};
use crate::limits::OFFSETS_MAX;

/// A broker's client. Clones share its connections; requests of several threads go one after another.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    addresses: Vec<SocketAddr>,
    config: ClientConfig,
    hello: HelloReply,
    control: Mutex<Control>,
    connections: Connections,
}

/// The connection for requests: read and written by the thread that asks.
struct Control {
    link: Option<Link>,
    used_at: Instant,
    next_correlation: u64,
}

impl Client {
    /// Connects to a broker and greets it.
    ///
    /// # Errors
    /// No address answers within `connect_timeout`, or the broker refuses.
    pub fn connect(address: impl ToSocketAddrs, config: ClientConfig) -> Result<Self, ClientError> {
        config.check()?;
        let addresses: Vec<SocketAddr> = address
            .to_socket_addrs()
            .map_err(|error| ClientError::io("resolve the address", &error))?
            .collect();
        let link = Link::open(&addresses, &config, None)?;
        let hello = link.hello.clone();
        let control = Control {
            link: Some(link),
            used_at: Instant::now(),
            next_correlation: 1,
        };
        let control = Mutex::new(control);
        let connections = Connections::default();
        let inner = Inner {
            addresses,
            config,
            hello,
            control,
            connections,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// How the broker introduced itself: its limits, its shards, its name.
    #[must_use]
    pub fn hello(&self) -> &HelloReply {
        &self.inner.hello
    }

    /// Creates a topic. What the [`TopicOptions`] do not say, and the number of partitions if it is [`PARTITIONS_DEFAULT`], is as the broker is
    /// configured; the description has what that came to. `&TopicSettings` leaves nothing to the broker.
    ///
    /// [`PARTITIONS_DEFAULT`]: crate::frame::PARTITIONS_DEFAULT
    ///
    /// # Errors
    /// The broker refuses, or the connection is lost with the request under way: then it may have taken effect.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        options: impl Into<TopicOptions>,
    ) -> Result<TopicDescription, ClientError> {
        self.request(&Request::topic_create(name, partitions, options.into())?)?
            .topic()
    }

    /// Describes a topic.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub fn describe_topic(&self, name: &str) -> Result<TopicDescription, ClientError> {
        self.request(&Request::topic_describe(name)?)?.topic()
    }

    /// All topics, in the order of their names.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub fn list_topics(&self) -> Result<Vec<TopicEntry>, ClientError> {
        let mut topics: Vec<TopicEntry> = Vec::new();
        loop {
            let after = topics
                .last()
                .map_or(String::new(), |topic| topic.name.clone());
            let page = self.request(&Request::topic_list(after))?.topics()?;
            topics.extend(page.topics);
            if !page.more {
                return Ok(topics);
            }
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The broker refuses, or the connection is lost with the request under way: then it may have taken effect.
    pub fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        self.request(&Request::topic_delete(name)?)?.ok()
    }

    /// Stores the offsets a group is to read next, durably.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub fn commit_offsets(
        &self,
        group: &str,
        topic: &TopicDescription,
        offsets: &[(PartitionIndex, Offset)],
    ) -> Result<(), ClientError> {
        for offsets in offsets.chunks(OFFSETS_MAX as usize) {
            self.request(&Request::offsets_commit(group, topic.topic, offsets)?)?
                .ok()?;
        }
        Ok(())
    }

    /// The offsets a group is to read next, in the order asked for.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub fn fetch_offsets(
        &self,
        group: &str,
        topic: &TopicDescription,
        partitions: &[PartitionIndex],
    ) -> Result<Vec<CommittedOffset>, ClientError> {
        let mut fetched = Vec::with_capacity(partitions.len());
        for partitions in partitions.chunks(OFFSETS_MAX as usize) {
            let request = Request::offsets_fetch(group, topic.topic, partitions)?;
            fetched.extend(self.request(&request)?.offsets()?);
        }
        Ok(fetched)
    }

    /// Where a start position is now.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub fn lookup_offset(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
        start: Start,
    ) -> Result<OffsetLookupReply, ClientError> {
        self.request(&Request::offset_lookup(topic, partition, start))?
            .lookup()
    }

    /// How long a Ping and its Pong take.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub fn ping(&self) -> Result<Duration, ClientError> {
        let asked_at = Instant::now();
        self.request(&Request::ping())?.pong()?;
        Ok(asked_at.elapsed())
    }

    /// A producer to a topic, with a connection to each shard that owns a partition of it.
    ///
    /// # Errors
    /// The configuration is out of bounds, the broker refuses or cannot be reached.
    pub fn producer(&self, topic: &str, config: ProducerConfig) -> Result<Producer, ClientError> {
        config.check()?;
        let topic = self.describe_topic(topic)?;
        let identity = match config.idempotent {
            true => Some(self.request(&Request::producer_init())?.producer()?),
            false => None,
        };
        Producer::open(self.clone(), &topic, identity, &config)
    }

    /// A consumer of a topic's partitions, with a connection to each shard that owns one of them. Once this returns, it is settled where each
    /// partition begins: with [`Start::Latest`], whatever is published from now on comes.
    ///
    /// # Errors
    /// A partition does not exist, the broker refuses or cannot be reached.
    pub fn consumer(
        &self,
        topic: &str,
        partitions: Partitions,
        start: Start,
        config: ConsumerConfig,
    ) -> Result<Consumer, ClientError> {
        let topic = self.describe_topic(topic)?;
        Consumer::open(self, &topic, &partitions.starts(&topic, start), config)
    }

    /// A consumer whose partitions start each at its own place, as after fetching a group's offsets.
    ///
    /// # Errors
    /// As [`consumer`](Self::consumer).
    pub fn consumer_at(
        &self,
        topic: &TopicDescription,
        starts: &[(PartitionIndex, Start)],
        config: ConsumerConfig,
    ) -> Result<Consumer, ClientError> {
        Consumer::open(self, topic, starts, config)
    }

    fn request(&self, request: &Request) -> Result<Reply, ClientError> {
        let mut control = locked(&self.inner.control);
        let deadline = Instant::now() + self.inner.config.request_timeout;
        match control.ask(&self.inner, request, deadline) {
            // The connection may have been dead for long, unnoticed; the second one is fresh.
            Err(error) if error.is_of_connection() && request.repeatable => {
                control.ask(&self.inner, request, deadline)
            }
            answer => answer,
        }
    }
}

impl Control {
    fn ask(
        &mut self,
        inner: &Inner,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply, ClientError> {
        // Nobody answers heartbeats between requests, so an idle connection is soon closed by the server.
        let heartbeat = Duration::from_millis(u64::from(inner.hello.heartbeat_ms));
        let mut link = match self.link.take() {
            Some(link) if self.used_at.elapsed() < heartbeat => link,
            _ => Link::open(&inner.addresses, &inner.config, None)?,
        };
        let correlation = CorrelationId(self.next_correlation);
        // Below every lane's correlations, which have a number in the upper half.
        self.next_correlation = self.next_correlation % u64::from(u32::MAX) + 1;
        link.send(correlation, &request.message)?;
        loop {
            let Some(frame) = link.poll(deadline)? else {
                return Err(ClientError::TimedOut("the request was not answered"));
            };
            if frame.correlation == correlation {
                self.used_at = Instant::now();
                // Kept only after a success: whatever else comes on a failed one would be misread.
                self.link = Some(link);
                return Ok(Reply(frame.message));
            }
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("addresses", &self.inner.addresses)
            .finish_non_exhaustive()
    }
}
