//! Gannet by its own protocol: the blocking flavour of `gannet-wire`, behind the workers' traits.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use gannet_engine::limits::SUBSCRIPTIONS_MAX;
use gannet_wire::client::blocking::{self, Client};
use gannet_wire::client::{
    ClientConfig, ClientError, ConsumerConfig, DeliveryReport, Partitions, ProducerConfig,
    ReconnectConfig,
};
use gannet_wire::frame::{self, Start, TopicSettings};
use gannet_wire::{ErrorCode, PartitionIndex};

use super::{Driver, Target};
use crate::latency::{LatencyHistogram, nanoseconds};
use crate::plan::{Batching, Plan};
use crate::report::Durability;
use crate::worker::port::{Answer, Connect, Delivered, Delivery, From, Inlet, Outlet, PortError};

/// A broker that is started again must be found soon, not after the client's usual patience.
const RECONNECT: ReconnectConfig = ReconnectConfig {
    backoff_min: Duration::from_millis(5),
    backoff_max: Duration::from_millis(100),
    give_up_after: Duration::from_secs(60),
};
/// A consumer of a hundred thousand partitions has begun with all of them only after a while: the first ones are delivered meanwhile.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// A record not acknowledged by then fails the run.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How few consumers can consume all of so many partitions: each has one connection to a shard, and a broker bounds the subscriptions of one. A broker as it is by default takes
/// fewer of them (`network.subscriptions_max`), and says so.
#[must_use]
pub fn consumers_min(partitions: u32) -> u32 {
    let of_one = u32::try_from(SUBSCRIPTIONS_MAX).unwrap_or(u32::MAX);
    partitions.div_ceil(of_one).max(1)
}

/// A topic to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewTopic {
    /// Its partitions.
    pub partitions: u32,
    /// What its acknowledgements mean.
    pub durability: Durability,
    /// About how much of each partition it keeps; everything without.
    pub retention_bytes: Option<NonZeroU64>,
}

impl NewTopic {
    /// The one that a run needs.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self {
            partitions: plan.partitions,
            durability: plan.durability,
            retention_bytes: plan.retention_bytes,
        }
    }

    /// One that keeps everything, from the disk.
    #[must_use]
    pub fn durable(partitions: u32) -> Self {
        Self {
            partitions,
            durability: Durability::Durable,
            retention_bytes: None,
        }
    }

    fn settings(&self) -> TopicSettings {
        TopicSettings {
            durability: wire_durability(self.durability),
            // But for what the run says, nothing may expire while it is being checked.
            retention_ms: None,
            retention_bytes: self.retention_bytes.map(NonZeroU64::get),
            ..TopicSettings::default()
        }
    }
}

/// One topic of one broker.
#[derive(Debug)]
pub struct WireConnect {
    address: String,
    topic: String,
    alone_topic: String,
    partitions: u32,
    durability: Durability,
    client: Client,
}

impl WireConnect {
    /// Connects, and creates the topic unless there is one of that name, as it is then.
    ///
    /// # Errors
    /// The client's.
    pub fn open(address: &str, topic: &str, new: &NewTopic) -> Result<Self, ClientError> {
        let client = Client::connect(address, config())?;
        let description = match client.create_topic(topic, new.partitions, &new.settings()) {
            Err(ClientError::Server(body)) if body.code == ErrorCode::TopicExists => {
                client.describe_topic(topic)?
            }
            created => created?,
        };
        Ok(Self {
            address: address.to_owned(),
            topic: topic.to_owned(),
            alone_topic: format!("{topic}-alone"),
            partitions: u32::try_from(description.partitions.len()).unwrap_or(u32::MAX),
            durability: new.durability,
            client,
        })
    }

    fn producer(
        &self,
        topic: &str,
        config: ProducerConfig,
    ) -> Result<blocking::Producer, ClientError> {
        // A client of its own: a producer of a run has its own connections and threads, as another process would.
        Client::connect(self.address.as_str(), self::config())?.producer(topic, config)
    }
}

impl Driver for WireConnect {
    const DELETE_HINT: &'static str = "gannet topic delete TOPIC";

    fn connect(target: &Target<'_>) -> Result<Self, PortError> {
        let plan = target.plan;
        let client =
            Client::connect(target.server, config()).map_err(|error| port_error(&error))?;
        plan.check_records(client.hello().batch_bytes_max)
            .map_err(|error| PortError(error.to_string()))?;
        Self::open(target.server, target.topic, &NewTopic::of(plan))
            .map_err(|error| port_error(&error))
    }

    fn delete_topic(&self) -> Result<(), PortError> {
        // Over a new connection: the broker may have been started again during the run, and a request that changes something is not
        // repeated on its own.
        Client::connect(self.address.as_str(), config())
            .and_then(|client| client.delete_topic(&self.topic))
            .map_err(|error| port_error(&error))
    }
}

impl Connect for WireConnect {
    type Outlet = WireOutlet;
    type Inlet = WireInlet;

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn consumers_min(&self) -> u32 {
        consumers_min(self.partitions)
    }

    fn outlet(&self, batching: &Batching, buffer_bytes: u64) -> Result<WireOutlet, PortError> {
        let mut config = ProducerConfig {
            batch_bytes: batching.batch_bytes,
            linger: batching.linger,
            durability: Some(wire_durability(self.durability)),
            buffer_bytes_max: usize::try_from(buffer_bytes).unwrap_or(usize::MAX),
            delivery_timeout: DELIVERY_TIMEOUT,
            ..ProducerConfig::default()
        };
        if let Some(records) = batching.batch_records {
            config.batch_records_max = records;
        }
        if let Some(inflight) = batching.inflight {
            config.inflight_max = inflight;
        }
        let producer = self
            .producer(&self.topic, config)
            .map_err(|error| port_error(&error))?;
        Ok(WireOutlet {
            producer,
            reports: Vec::new(),
        })
    }

    fn inlet(
        &self,
        // A subscription gets everything, whatever others get.
        _group: u32,
        partitions: Vec<u32>,
        from: From,
    ) -> Result<WireInlet, PortError> {
        if partitions.is_empty() {
            return Ok(WireInlet { consumer: None });
        }
        let start = match from {
            From::Start => Start::Earliest,
            From::Now => self
                .start_now(&partitions)
                .map_err(|error| port_error(&error))?,
        };
        let consumer = Client::connect(self.address.as_str(), config())
            .and_then(|client| {
                client.consumer(
                    &self.topic,
                    Partitions::Only(partitions),
                    start,
                    ConsumerConfig::default(),
                )
            })
            .map_err(|error| port_error(&error))?;
        Ok(WireInlet {
            consumer: Some(consumer),
        })
    }

    fn probe(&self) -> Result<(), PortError> {
        Client::connect(self.address.as_str(), config())
            .and_then(|client| client.describe_topic(&self.topic))
            .map(|_| ())
            .map_err(|error| port_error(&error))
    }

    fn publish_alone(
        &self,
        value: &[u8],
        duration: Duration,
    ) -> Result<LatencyHistogram, PortError> {
        self.measure_alone(value, duration)
            .map_err(|error| port_error(&error))
    }
}

impl WireConnect {
    /// A start that misses nothing published from now on, in any of these partitions.
    ///
    /// Not the latest offset: what that is, the broker decides when the subscription reaches it, which may be after the first publish. One offset has to do for all
    /// partitions, so some may give older records first; they are another run's, and known by it.
    fn start_now(&self, partitions: &[u32]) -> Result<Start, ClientError> {
        let description = self.client.describe_topic(&self.topic)?;
        let asked_for: HashSet<u32> = partitions.iter().copied().collect();
        let wanted = || {
            description
                .partitions
                .iter()
                .filter(|described| asked_for.contains(&described.partition.0))
        };
        let ends = wanted().map(|described| described.next_offset).min();
        let starts = wanted().map(|described| described.log_start).max();
        Ok(match (starts, ends) {
            (Some(start), Some(end)) if start <= end => Start::Offset(end),
            _ => Start::Earliest,
        })
    }

    fn measure_alone(
        &self,
        value: &[u8],
        duration: Duration,
    ) -> Result<LatencyHistogram, ClientError> {
        self.client.create_topic(
            &self.alone_topic,
            1,
            &NewTopic {
                partitions: 1,
                durability: self.durability,
                retention_bytes: None,
            }
            .settings(),
        )?;
        let config = ProducerConfig {
            delivery_timeout: DELIVERY_TIMEOUT,
            ..ProducerConfig::default()
        };
        let producer = self.producer(&self.alone_topic, config)?;
        let mut histogram = LatencyHistogram::default();
        let began = Instant::now();
        while began.elapsed() < duration {
            let started = Instant::now();
            producer.send(Some(PartitionIndex(0)), None, Some(value), &[], None)?;
            producer.flush()?;
            // The first quarter warms up.
            if began.elapsed() > duration / 4 {
                histogram.record(nanoseconds(started.elapsed()));
            }
        }
        drop(producer);
        self.client.delete_topic(&self.alone_topic)?;
        Ok(histogram)
    }
}

/// A producer.
#[derive(Debug)]
pub struct WireOutlet {
    producer: blocking::Producer,
    reports: Vec<DeliveryReport>,
}

impl Outlet for WireOutlet {
    fn send(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
        token: u64,
    ) -> Result<(), PortError> {
        self.producer
            .send_with(
                Some(PartitionIndex(partition)),
                key,
                Some(value),
                &[],
                None,
                token,
            )
            .map_err(|error| port_error(&error))
    }

    fn answers(&mut self, into: &mut Vec<Answer>) {
        self.producer.acks(&mut self.reports);
        into.extend(self.reports.drain(..).map(answer));
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.producer.flush().map_err(|error| port_error(&error))
    }
}

fn answer(report: DeliveryReport) -> Answer {
    Answer {
        partition: report.partition.0,
        // Every record has a token, so the first does.
        first_token: report.first_token.unwrap_or(u64::MAX),
        records: u64::from(report.records),
        answered_at: report.settled_at,
        result: match report.result {
            Ok(delivered) => Ok(Some(match delivered.durability {
                frame::Durability::Accepted => Durability::Accepted,
                frame::Durability::Durable => Durability::Durable,
            })),
            Err(error) => Err(error.to_string()),
        },
    }
}

/// A consumer; none for one without partitions.
#[derive(Debug)]
pub struct WireInlet {
    consumer: Option<blocking::Consumer>,
}

impl Inlet for WireInlet {
    type Delivery = WireDelivery;

    fn next(&mut self, timeout: Duration) -> Result<Option<WireDelivery>, PortError> {
        let Some(consumer) = &mut self.consumer else {
            std::thread::sleep(timeout);
            return Ok(None);
        };
        let delivery = consumer.next(timeout).map_err(|error| port_error(&error))?;
        Ok(delivery.map(WireDelivery))
    }
}

/// A delivery.
#[derive(Debug)]
pub struct WireDelivery(gannet_wire::client::Delivery);

impl Delivery for WireDelivery {
    fn partition(&self) -> u32 {
        self.0.partition.0
    }

    fn for_each(&self, mut take: impl FnMut(Delivered<'_>)) -> Result<(), PortError> {
        for (offset, record) in self.0.iter() {
            take(Delivered {
                offset: offset.0,
                key: record.key,
                value: record.value,
            });
        }
        Ok(())
    }
}

fn config() -> ClientConfig {
    ClientConfig {
        client_name: "gannet-loadgen".to_owned(),
        reconnect: RECONNECT,
        request_timeout: REQUEST_TIMEOUT,
        ..ClientConfig::default()
    }
}

fn wire_durability(durability: Durability) -> frame::Durability {
    match durability {
        Durability::Accepted => frame::Durability::Accepted,
        Durability::Durable => frame::Durability::Durable,
    }
}

fn port_error(error: &ClientError) -> PortError {
    PortError(error.to_string())
}
