//! NATS JetStream, by async-nats.
//!
//! A partition is a stream of its own: a stream is what JetStream orders, numbers and writes by itself, so records of one partition keep their order and their
//! numbers are offsets, and several partitions are worked on side by side as with other brokers. A record is a message to the stream's subject, with its key as the
//! subject's last token, which is how NATS addresses by key. Publishing awaits JetStream's acknowledgements, pipelined. Consumers pull, as NATS recommends, and
//! acknowledge nothing: they read a log.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::stream::{self, StorageType};
use async_nats::jetstream::{self, Message};
use async_nats::{Client, ConnectOptions, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::Runtime;

use super::confirms::{ANSWER_MAX, Confirms};
use super::forwarded::{ForwardedInlet, Record};
use super::{Driver, Target, alone, runtime};
use crate::latency::LatencyHistogram;
use crate::plan::Batching;
use crate::worker::port::{Answer, Connect, From, Outlet, PortError};

/// Messages that a consumer asks for at a time. The library's default, 200, keeps a consumer as fast as it goes waiting for the next answer.
const PULLED_MAX: usize = 1_000;
/// The library counts what is in flight too; a window beyond this waits for it.
const PERMITS_MAX: usize = 1 << 24;
/// A consumer that nobody reads from for so long is removed by the server.
const UNUSED_MAX: Duration = Duration::from_secs(3600);

/// One topic on a NATS server: a stream for each partition.
pub struct NatsConnect {
    runtime: Arc<Runtime>,
    server: String,
    topic: String,
    partitions: u32,
    record_bytes: usize,
    context: Context,
}

impl fmt::Debug for NatsConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConnect")
            .field("server", &self.server)
            .field("topic", &self.topic)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl Driver for NatsConnect {
    const DELETE_HINT: &'static str = "nats stream rm, for each stream TOPIC-NUMBER";

    fn connect(target: &Target<'_>) -> Result<Self, PortError> {
        let plan = target.plan;
        let runtime = runtime::start()?;
        let (client, context) = runtime.block_on(connected(target.server, 1))?;
        let payload_max = client.server_info().max_payload;
        if plan.record_sizes.max() > payload_max {
            return Err(PortError(format!(
                "--record-size {} is too large for the server, whose max_payload is {payload_max}: raise that in its configuration",
                plan.record_sizes.max()
            )));
        }
        let connect = Self {
            runtime,
            server: target.server.to_owned(),
            topic: target.topic.to_owned(),
            partitions: plan.partitions,
            record_bytes: plan.record_bytes(),
            context,
        };
        connect.create_streams(plan.retention_bytes)?;
        Ok(connect)
    }

    fn delete_topic(&self) -> Result<(), PortError> {
        self.runtime.block_on(async {
            for partition in 0..self.partitions {
                let stream = stream_name(&self.topic, partition);
                let deleted = self.context.delete_stream(&stream).await;
                deleted.map_err(|error| failed("deleting a stream", &error))?;
            }
            Ok(())
        })
    }
}

impl NatsConnect {
    /// Makes the streams that there are not.
    fn create_streams(&self, retention_bytes: Option<NonZeroU64>) -> Result<(), PortError> {
        // It knows no bound by -1, and discards the oldest messages at one.
        let max_bytes =
            retention_bytes.map_or(-1, |bytes| i64::try_from(bytes.get()).unwrap_or(-1));
        self.runtime.block_on(async {
            for partition in 0..self.partitions {
                let subject = subject(&self.topic, partition);
                let config = stream::Config {
                    name: stream_name(&self.topic, partition),
                    // With a key and without.
                    subjects: vec![format!("{subject}.*"), subject],
                    storage: StorageType::File,
                    num_replicas: 1,
                    max_bytes,
                    ..stream::Config::default()
                };
                let created = self.context.get_or_create_stream(config).await;
                created.map_err(|error| failed("making a stream", &error))?;
            }
            Ok(())
        })
    }

    async fn consume(
        context: &Context,
        topic: &str,
        partition: u32,
        from: From,
    ) -> Result<pull::Stream, PortError> {
        let what = "making a consumer";
        let stream = context
            .get_stream(stream_name(topic, partition))
            .await
            .map_err(|error| failed(what, &error))?;
        let deliver_policy = match from {
            From::Start => DeliverPolicy::All,
            // By number, so that it is the end as it is now.
            From::Now => DeliverPolicy::ByStartSequence {
                start_sequence: stream.cached_info().state.last_sequence + 1,
            },
        };
        let config = pull::Config {
            deliver_policy,
            ack_policy: AckPolicy::None,
            inactive_threshold: UNUSED_MAX,
            ..pull::Config::default()
        };
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(|error| failed(what, &error))?;
        consumer
            .stream()
            .max_messages_per_batch(PULLED_MAX)
            .messages()
            .await
            .map_err(|error| failed(what, &error))
    }
}

impl Connect for NatsConnect {
    type Outlet = NatsOutlet;
    type Inlet = ForwardedInlet<Client>;

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn outlet(&self, batching: &Batching, _buffer_bytes: u64) -> Result<NatsOutlet, PortError> {
        let window = batching.records_in_flight(self.record_bytes, self.partitions);
        let (_, context) = self.runtime.block_on(connected(&self.server, window))?;
        let subjects = (0..self.partitions)
            .map(|partition| Subject::from(subject(&self.topic, partition)))
            .collect();
        Ok(NatsOutlet {
            context,
            subjects,
            confirms: Confirms::new(self.runtime.handle().clone(), self.partitions, window),
            runtime: self.runtime.clone(),
        })
    }

    fn inlet(
        &self,
        // Each consumer reads the whole stream, whatever others read.
        _group: u32,
        partitions: Vec<u32>,
        from: From,
    ) -> Result<Self::Inlet, PortError> {
        let (client, context) = self.runtime.block_on(connected(&self.server, 1))?;
        let mut inlet = ForwardedInlet::new(client);
        for partition in partitions {
            let messages =
                self.runtime
                    .block_on(Self::consume(&context, &self.topic, partition, from))?;
            let subject_bytes = subject(&self.topic, partition).len();
            let records = messages.map(move |message| {
                let message = message.map_err(|error| failed("pulling", &error))?;
                Ok((record(message, subject_bytes)?, ()))
            });
            let nothing_to_do = |()| std::future::ready(Ok(()));
            inlet.forward(self.runtime.handle(), partition, records, nothing_to_do);
        }
        Ok(inlet)
    }

    fn probe(&self) -> Result<(), PortError> {
        let stream = stream_name(&self.topic, 0);
        self.runtime
            .block_on(self.context.get_stream(stream))
            .map(|_| ())
            .map_err(|error| failed("asking about a stream", &error))
    }

    fn publish_alone(
        &self,
        value: &[u8],
        duration: Duration,
    ) -> Result<LatencyHistogram, PortError> {
        let connect = Self {
            runtime: self.runtime.clone(),
            server: self.server.clone(),
            topic: format!("{}-alone", self.topic),
            partitions: 1,
            record_bytes: value.len(),
            context: self.context.clone(),
        };
        connect.create_streams(None)?;
        let outlet = connect.outlet(&alone::BATCHING, alone::BUFFER_BYTES)?;
        let latency = alone::measure(outlet, value, duration)?;
        connect.delete_topic()?;
        Ok(latency)
    }
}

/// A producer.
pub struct NatsOutlet {
    runtime: Arc<Runtime>,
    context: Context,
    subjects: Vec<Subject>,
    confirms: Confirms,
}

impl Outlet for NatsOutlet {
    fn send(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
        token: u64,
    ) -> Result<(), PortError> {
        self.confirms.wait_for_room()?;
        let subject = self
            .subjects
            .get(partition as usize)
            .ok_or_else(|| PortError(format!("there is no partition {partition}")))?;
        let subject = match key {
            None => subject.clone(),
            Some(key) => {
                let key = std::str::from_utf8(key)
                    .map_err(|_| PortError("a key is no token of a subject".to_owned()))?;
                Subject::from(format!("{subject}.{key}"))
            }
        };
        // Hands it to the connection's task, and waits only while that has enough.
        let acknowledgement = self
            .runtime
            .block_on(self.context.publish(subject, Bytes::copy_from_slice(value)))
            .map_err(|error| failed("publishing", &error))?;
        let confirmation = async move {
            match acknowledgement.await {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        };
        self.confirms.add(partition, token, Box::pin(confirmation))
    }

    fn answers(&mut self, into: &mut Vec<Answer>) {
        self.confirms.take(into);
    }

    fn flush(&mut self) -> Result<(), PortError> {
        self.confirms.flush()
    }
}

/// A connection of its own, with room for the acknowledgements of a window. Both begin tasks, so this is awaited on the runtime.
async fn connected(server: &str, window: u64) -> Result<(Client, Context), PortError> {
    let client = ConnectOptions::new()
        .name("gannet-loadgen")
        .connect(server)
        .await
        .map_err(|error| failed("connecting", &error))?;
    let window = usize::try_from(window)
        .unwrap_or(PERMITS_MAX)
        .min(PERMITS_MAX);
    let context = ContextBuilder::new()
        .timeout(ANSWER_MAX)
        .ack_timeout(ANSWER_MAX)
        .max_ack_inflight(window.saturating_add(1))
        .backpressure_on_inflight(true)
        .build(client.clone());
    Ok((client, context))
}

fn record(message: Message, subject_bytes: usize) -> Result<Record, PortError> {
    let offset = message
        .info()
        .map_err(|error| PortError(format!("a message is not of a stream: {error}")))?
        .stream_sequence
        // The first message is number 1.
        .saturating_sub(1);
    let jetstream::Message { message, .. } = message;
    let key = message
        .subject
        .get(subject_bytes + 1..)
        .map(|key| Bytes::copy_from_slice(key.as_bytes()));
    Ok(Record {
        offset,
        key,
        value: message.payload,
    })
}

fn subject(topic: &str, partition: u32) -> String {
    format!("{topic}.{partition}")
}

/// Names of streams have no dots and no spaces in them.
fn stream_name(topic: &str, partition: u32) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let topic = topic.replace(|letter| !plain(letter), "_");
    format!("{topic}-{partition}")
}

fn failed(what: &str, error: &impl fmt::Display) -> PortError {
    PortError(format!("{what}: {error}"))
}
