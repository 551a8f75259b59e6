//! The client for programs on tokio. The calls are the blocking flavour's, as futures.
//!
//! ```no_run
//! use gannet_wire::client::{ClientConfig, ConsumerConfig, Partitions, ProducerConfig, tokio::Client};
//! use gannet_wire::frame::Start;
//!
//! # async fn example() -> Result<(), gannet_wire::client::ClientError> {
//! let client = Client::connect("127.0.0.1:7470", ClientConfig::default()).await?;
//! let producer = client.producer("orders", ProducerConfig::default()).await?;
//! producer.send(None, Some(b"key"), Some(b"value"), &[], None).await?;
//! producer.flush().await?;
//!
//! let config = ConsumerConfig::default();
//! let mut consumer = client.consumer("orders", Partitions::All, Start::Earliest, config).await?;
//! let delivery = consumer.next().await?;
//! for (offset, record) in delivery.iter() {
//!     println!("{} {offset} {:?}", delivery.partition, record.value);
//! }
//! # Ok(())
//! # }
//! ```

mod connection;
mod consumer;
mod producer;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::tokio::net::ToSocketAddrs;
use ::tokio::sync::Mutex;
use bytes::BytesMut;

pub use consumer::Consumer;
pub use producer::Producer;

use self::connection::Connections;
use self::wire::Link;
use super::config::{ClientConfig, ConsumerConfig, Partitions, ProducerConfig};
use super::error::ClientError;
use super::request::{Reply, Request};
use crate::frame::{
    CommittedOffset, HelloReply, OffsetLookupReply, Start, TopicDescription, TopicEntry,
    TopicOptions,
};
use crate::ids::{CorrelationId, Offset, PartitionIndex, TopicId};
use crate::limits::OFFSETS_MAX;

/// A broker's client. Clones share its connections; requests of several tasks go one after another.
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

/// The connection for requests: read and written by the task that asks.
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
    pub async fn connect(
        address: impl ToSocketAddrs,
        config: ClientConfig,
    ) -> Result<Self, ClientError> {
        config.check()?;
        let addresses: Vec<SocketAddr> = ::tokio::net::lookup_host(address)
            .await
            .map_err(|error| ClientError::io("resolve the address", &error))?
            .collect();
        let link = Link::open(&addresses, &config, None).await?;
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
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        options: impl Into<TopicOptions>,
    ) -> Result<TopicDescription, ClientError> {
        self.request(&Request::topic_create(name, partitions, options.into())?)
            .await?
            .topic()
    }

    /// Describes a topic.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, ClientError> {
        self.request(&Request::topic_describe(name)?).await?.topic()
    }

    /// All topics, in the order of their names.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub async fn list_topics(&self) -> Result<Vec<TopicEntry>, ClientError> {
        let mut topics: Vec<TopicEntry> = Vec::new();
        loop {
            let after = topics
                .last()
                .map_or(String::new(), |topic| topic.name.clone());
            let page = self.request(&Request::topic_list(after)).await?.topics()?;
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
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        self.request(&Request::topic_delete(name)?).await?.ok()
    }

    /// Stores the offsets a group is to read next, durably.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub async fn commit_offsets(
        &self,
        group: &str,
        topic: &TopicDescription,
        offsets: &[(PartitionIndex, Offset)],
    ) -> Result<(), ClientError> {
        for offsets in offsets.chunks(OFFSETS_MAX as usize) {
            self.request(&Request::offsets_commit(group, topic.topic, offsets)?)
                .await?
                .ok()?;
        }
        Ok(())
    }

    /// The offsets a group is to read next, in the order asked for.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub async fn fetch_offsets(
        &self,
        group: &str,
        topic: &TopicDescription,
        partitions: &[PartitionIndex],
    ) -> Result<Vec<CommittedOffset>, ClientError> {
        let mut fetched = Vec::with_capacity(partitions.len());
        for partitions in partitions.chunks(OFFSETS_MAX as usize) {
            let request = Request::offsets_fetch(group, topic.topic, partitions)?;
            fetched.extend(self.request(&request).await?.offsets()?);
        }
        Ok(fetched)
    }

    /// Where a start position is now.
    ///
    /// # Errors
    /// The broker refuses or cannot be reached.
    pub async fn lookup_offset(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
        start: Start,
    ) -> Result<OffsetLookupReply, ClientError> {
        self.request(&Request::offset_lookup(topic, partition, start))
            .await?
            .lookup()
    }

    /// How long a Ping and its Pong take.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn ping(&self) -> Result<Duration, ClientError> {
        let asked_at = Instant::now();
        self.request(&Request::ping()).await?.pong()?;
        Ok(asked_at.elapsed())
    }

    /// A producer to a topic, with a connection to each shard that owns a partition of it.
    ///
    /// # Errors
    /// The configuration is out of bounds, the broker refuses or cannot be reached.
    pub async fn producer(
        &self,
        topic: &str,
        config: ProducerConfig,
    ) -> Result<Producer, ClientError> {
        config.check()?;
        let topic = self.describe_topic(topic).await?;
        let identity = match config.idempotent {
            true => Some(self.request(&Request::producer_init()).await?.producer()?),
            false => None,
        };
        Producer::open(self.clone(), &topic, identity, &config).await
    }

    /// A consumer of a topic's partitions, with a connection to each shard that owns one of them. Once this returns, it is settled where each
    /// partition begins: with [`Start::Latest`], whatever is published from now on comes.
    ///
    /// # Errors
    /// A partition does not exist, the broker refuses or cannot be reached.
    pub async fn consumer(
        &self,
        topic: &str,
        partitions: Partitions,
        start: Start,
        config: ConsumerConfig,
    ) -> Result<Consumer, ClientError> {
        let topic = self.describe_topic(topic).await?;
        Consumer::open(self, &topic, &partitions.starts(&topic, start), config).await
    }

    /// A consumer whose partitions start each at its own place, as after fetching a group's offsets.
    ///
    /// # Errors
    /// As [`consumer`](Self::consumer).
    pub async fn consumer_at(
        &self,
        topic: &TopicDescription,
        starts: &[(PartitionIndex, Start)],
        config: ConsumerConfig,
    ) -> Result<Consumer, ClientError> {
        Consumer::open(self, topic, starts, config).await
    }

    async fn request(&self, request: &Request) -> Result<Reply, ClientError> {
        let mut control = self.inner.control.lock().await;
        let deadline = Instant::now() + self.inner.config.request_timeout;
        match control.ask(&self.inner, request, deadline).await {
            // The connection may have been dead for long, unnoticed; the second one is fresh.
            Err(error) if error.is_of_connection() && request.repeatable => {
                control.ask(&self.inner, request, deadline).await
            }
            answer => answer,
        }
    }
}

impl Control {
    async fn ask(
        &mut self,
        inner: &Inner,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply, ClientError> {
        // Nobody answers heartbeats between requests, so an idle connection is soon closed by the server.
        let heartbeat = Duration::from_millis(u64::from(inner.hello.heartbeat_ms));
        let mut link = match self.link.take() {
            Some(link) if self.used_at.elapsed() < heartbeat => link,
            _ => Link::open(&inner.addresses, &inner.config, None).await?,
        };
        let correlation = CorrelationId(self.next_correlation);
        // Below every lane's correlations, which have a number in the upper half.
        self.next_correlation = self.next_correlation % u64::from(u32::MAX) + 1;
        link.send(correlation, &request.message).await?;
        let mut out = BytesMut::new();
        loop {
            while let Some(frame) = link.poll(&mut out)? {
                if frame.correlation == correlation {
                    self.used_at = Instant::now();
                    // Kept only after a success: whatever else comes on a failed one would be misread.
                    self.link = Some(link);
                    return Ok(Reply(frame.message));
                }
            }
            link.write(&out.split()).await?;
            if Instant::now() >= deadline {
                return Err(ClientError::TimedOut("the request was not answered"));
            }
            link.read(Some(deadline)).await?;
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
