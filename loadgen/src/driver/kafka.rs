//! Kafka's protocol, by librdkafka: an idempotent producer with `acks=all`, and consumers that have their partitions assigned and commit nothing.
//!
//! librdkafka has its own threads: some for each producer and each consumer, and one more a producer that calls back with delivery reports. All are the generator's.

mod inlet;
mod outlet;
mod trouble;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::{Driver, KAFKA_REQUESTS_MAX, Target, alone};
use crate::latency::LatencyHistogram;
use crate::plan::Batching;
use crate::worker::port::{Connect, From, PortError};
pub use inlet::KafkaInlet;
pub use outlet::KafkaOutlet;
use trouble::{Trouble, Watch};

/// One request of any kind that is not on the record path.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Between two looks whether a new topic has its leaders.
const LOOK: Duration = Duration::from_millis(20);
/// Beyond this a topic must be told how large its batches are.
const TOPIC_BATCH_BYTES: usize = 1_000_000;
/// A batch's head, and what else a request holds beside the values.
const BATCH_SLACK_BYTES: usize = 4096;

/// One topic of a Kafka cluster.
pub struct KafkaConnect {
    server: String,
    topic: String,
    partitions: u32,
    /// The largest batch or record, whichever is more.
    batch_bytes_max: usize,
    admin: AdminClient<DefaultClientContext>,
}

impl fmt::Debug for KafkaConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConnect")
            .field("server", &self.server)
            .field("topic", &self.topic)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Driver for KafkaConnect {
    const DELETE_HINT: &'static str = "kafka-topics --delete --topic TOPIC";

    fn connect(target: &Target<'_>) -> Result<Self, PortError> {
        let plan = target.plan;
        let batches = plan
            .phases
            .iter()
            .map(|phase| phase.batching.batch_bytes as usize);
        let batch_bytes_max = batches.fold(plan.record_sizes.max(), usize::max) + BATCH_SLACK_BYTES;
        Self::open(
            target.server,
            target.topic,
            plan.partitions,
            batch_bytes_max,
            plan.retention_bytes,
        )
    }

    fn delete_topic(&self) -> Result<(), PortError> {
        let deleted = wait_for(
            self.admin
                .delete_topics(&[&self.topic], &AdminOptions::new()),
        )?;
        match deleted.map_err(port_error)?.pop() {
            Some(Err((topic, code))) => Err(refused("deleting", &topic, code)),
            _ => Ok(()),
        }
    }
}

impl KafkaConnect {
    fn open(
        server: &str,
        topic: &str,
        partitions: u32,
        batch_bytes_max: usize,
        retention_bytes: Option<NonZeroU64>,
    ) -> Result<Self, PortError> {
        let mut connect = Self {
            server: server.to_owned(),
            topic: topic.to_owned(),
            partitions,
            batch_bytes_max,
            admin: config(server).create().map_err(port_error)?,
        };
        match connect.led_partitions()? {
            0 => connect.create_topic(retention_bytes)?,
            existing => connect.partitions = existing,
        }
        Ok(connect)
    }

    fn create_topic(&self, retention_bytes: Option<NonZeroU64>) -> Result<(), PortError> {
        let partitions = i32::try_from(self.partitions)
            .map_err(|_| PortError(format!("{} partitions are too many", self.partitions)))?;
        let batch_bytes = self.batch_bytes_max.to_string();
        let mut topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
        if self.batch_bytes_max > TOPIC_BATCH_BYTES {
            topic = topic.set("max.message.bytes", &batch_bytes);
        }
        let retention_bytes = retention_bytes.map(|bytes| bytes.to_string());
        if let Some(bytes) = &retention_bytes {
            topic = topic.set("retention.bytes", bytes);
        }
        let created = wait_for(self.admin.create_topics(&[topic], &AdminOptions::new()))?;
        if let Some(Err((topic, code))) = created.map_err(port_error)?.pop() {
            return Err(refused("creating", &topic, code));
        }
        let began = Instant::now();
        while self.led_partitions()? < self.partitions {
            if began.elapsed() > REQUEST_MAX {
                return Err(PortError(format!(
                    "the topic {} was created, but not all of its partitions have a leader",
                    self.topic
                )));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// How many partitions of the topic have a leader; 0 when there is no such topic.
    fn led_partitions(&self) -> Result<u32, PortError> {
        let metadata = self
            .admin
            .inner()
            .fetch_metadata(Some(&self.topic), REQUEST_MAX)
            .map_err(port_error)?;
        let described = metadata
            .topics()
            .iter()
            .find(|described| described.name() == self.topic && described.error().is_none());
        let led = described.map_or(0, |described| {
            let partitions = described.partitions().iter();
            partitions.filter(|one| one.leader() >= 0).count()
        });
        Ok(u32::try_from(led).unwrap_or(u32::MAX))
    }

    /// The end of a partition. One whose leader is known may take a moment to be led by it.
    fn end_of<C: Consumer<Watch>>(&self, consumer: &C, partition: i32) -> Result<i64, KafkaError> {
        let began = Instant::now();
        loop {
            match consumer.fetch_watermarks(&self.topic, partition, REQUEST_MAX) {
                Err(error) if is_settling(&error) && began.elapsed() < REQUEST_MAX => {
                    std::thread::sleep(LOOK);
                }
                watermarks => return watermarks.map(|(_, end)| end),
            }
        }
    }

    /// What a consumer begins with.
    fn assignment<C: Consumer<Watch>>(
        &self,
        consumer: &C,
        partitions: &[u32],
        from: From,
    ) -> Result<TopicPartitionList, KafkaError> {
        let mut assignment = TopicPartitionList::new();
        for partition in partitions.iter().map(|partition| partition.cast_signed()) {
            let offset = match from {
                From::Start => Offset::Beginning,
                // The end as it is now, not as it will be when the first fetch is made.
                From::Now => Offset::Offset(self.end_of(consumer, partition)?),
            };
            assignment.add_partition_offset(&self.topic, partition, offset)?;
        }
        Ok(assignment)
    }
}

/// Whether a partition was made so lately that its broker does not serve it yet, as Kafka's protocol says to try again.
fn is_settling(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

impl Connect for KafkaConnect {
    type Outlet = KafkaOutlet;
    type Inlet = KafkaInlet;

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn outlet(&self, batching: &Batching, buffer_bytes: u64) -> Result<KafkaOutlet, PortError> {
        let linger_ms = batching.linger.as_secs_f64() * 1e3;
        let requests = batching.inflight().min(KAFKA_REQUESTS_MAX);
        let message_bytes_max = (self.batch_bytes_max + BATCH_SLACK_BYTES).max(TOPIC_BATCH_BYTES);
        let mut config = config(&self.server);
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.codec", "none")
            .set("message.max.bytes", message_bytes_max.to_string())
            .set("batch.size", batching.batch_bytes.to_string())
            // Without a number of records, bytes alone make a batch full.
            .set(
                "batch.num.messages",
                batching.batch_records.unwrap_or(1_000_000).to_string(),
            )
            .set("linger.ms", linger_ms.to_string())
            .set(
                "max.in.flight.requests.per.connection",
                requests.to_string(),
            )
            // Bytes bound the queue, as with other clients; not the number of messages.
            .set("queue.buffering.max.messages", "0")
            .set(
                "queue.buffering.max.kbytes",
                buffer_bytes.div_ceil(1024).to_string(),
            );
        KafkaOutlet::new(&mut config, &self.topic).map_err(port_error)
    }

    fn inlet(&self, group: u32, partitions: Vec<u32>, from: From) -> Result<KafkaInlet, PortError> {
        let trouble = Arc::new(Trouble::default());
        let consumer: BaseConsumer<Watch> = config(&self.server)
            .set("group.id", format!("{}-{group}", self.topic))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "false")
            .set(
                "fetch.message.max.bytes",
                self.batch_bytes_max.max(1 << 20).to_string(),
            )
            // A consumer that holds enough would wait a second before it fetches again, and that would look like a stall of the broker's.
            .set("fetch.queue.backoff.ms", "1")
            .create_with_context(Watch(trouble.clone()))
            .map_err(port_error)?;
        let assignment = self
            .assignment(&consumer, &partitions, from)
            .map_err(port_error)?;
        consumer.assign(&assignment).map_err(port_error)?;
        Ok(KafkaInlet::new(consumer, partitions.is_empty(), trouble))
    }

    fn probe(&self) -> Result<(), PortError> {
        match self.led_partitions()? {
            0 => Err(PortError(format!("there is no topic {}", self.topic))),
            _ => Ok(()),
        }
    }

    fn publish_alone(
        &self,
        value: &[u8],
        duration: Duration,
    ) -> Result<LatencyHistogram, PortError> {
        let topic = format!("{}-alone", self.topic);
        let connect = Self::open(&self.server, &topic, 1, self.batch_bytes_max, None)?;
        let outlet = connect.outlet(&alone::BATCHING, alone::BUFFER_BYTES)?;
        let latency = alone::measure(outlet, value, duration)?;
        connect.delete_topic()?;
        Ok(latency)
    }
}

fn config(server: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", server)
        .set("client.id", "gannet-loadgen")
        .set("allow.auto.create.topics", "false")
        .set("socket.nagle.disable", "true");
    config
}

/// Administration is asynchronous in this library, and nothing else is.
fn wait_for<F: Future>(request: F) -> Result<F::Output, PortError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| PortError(format!("starting a runtime: {error}")))?;
    Ok(runtime.block_on(request))
}

fn refused(what: &str, topic: &str, code: RDKafkaErrorCode) -> PortError {
    PortError(format!("{what} the topic {topic}: {code}"))
}

fn port_error(error: KafkaError) -> PortError {
    PortError(error.to_string())
}

#[cfg(test)]
mod tests;
