//! The client libraries that a run can use: one file each, behind the workers' traits.
//!
//! Schedule, ledger, verification and latency are the same code whatever the driver. A driver hands records to its library as that library's users do, says when
//! each was acknowledged, and gives what comes out. `native` is Gannet's own and always there; `kafka`, `amqp` and `nats` bring heavy libraries and are features.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::worker::port::{Connect, PortError};

#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
mod alone;
#[cfg(feature = "amqp")]
pub mod amqp;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
mod answers;
#[cfg(feature = "asynchronous")]
mod confirms;
#[cfg(feature = "asynchronous")]
mod forwarded;
#[cfg(feature = "kafka")]
mod gathered;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod native;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "asynchronous")]
mod runtime;

/// An idempotent producer of Kafka has at most so many requests in flight on a connection.
pub const KAFKA_REQUESTS_MAX: u32 = 5;

/// Which client library a run uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Gannet's own protocol, by gannet-wire.
    #[default]
    Native,
    /// Kafka's protocol, by librdkafka.
    Kafka,
    /// AMQP 0.9.1, as RabbitMQ speaks it, by lapin.
    Amqp,
    /// NATS JetStream, by async-nats.
    Nats,
}

/// A kind of queue of RabbitMQ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AmqpQueue {
    /// Replicated by Raft, synced before the confirmation.
    #[default]
    Quorum,
    /// On one node.
    Classic,
}

/// What a driver connects to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The broker's `HOST:PORT`.
    pub server: &'a str,
    /// The topic, made when there is none of that name.
    pub topic: &'a str,
    /// The run.
    pub plan: &'a Plan,
    /// The kind of queues, with AMQP.
    pub amqp_queue: AmqpQueue,
}

/// A client library's way to a broker, and to a topic there.
pub trait Driver: Connect + Sized {
    /// How a topic of this broker is deleted by hand: what to do, with `TOPIC` for its name.
    const DELETE_HINT: &'static str;

    /// Connects, and makes the topic with the plan's partitions unless there is one of that name.
    ///
    /// # Errors
    /// The client's, or that the broker cannot do what the plan asks.
    fn connect(target: &Target<'_>) -> Result<Self, PortError>;

    /// Deletes the topic.
    ///
    /// # Errors
    /// The client's.
    fn delete_topic(&self) -> Result<(), PortError>;
}

/// Why a driver cannot make a run, before anything is connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// It was not compiled.
    #[error(
        "this program was built without the driver {0}: build it with `--features {0}`, or with `--features peers` for all drivers"
    )]
    NotBuilt(DriverKind),
    /// Only Gannet can be started by a run.
    #[error(
        "--driver {0} needs --server HOST:PORT: only Gannet is started by the run, and by the native driver"
    )]
    NeedsServer(DriverKind),
    /// A flag that only means something with Gannet.
    #[error(
        "--durability asks Gannet; what an acknowledgement means with --driver {0} is the broker's configuration: say it with --durability-label TEXT"
    )]
    Durability(DriverKind),
    /// What a queue is not.
    #[error(
        "--reread is not possible with --driver amqp: a queue gives each message once. Give no --reread, or --consumers 0 to read everything afterwards"
    )]
    ReadOnce,
}

impl DriverKind {
    /// Whether this program has it.
    #[must_use]
    pub fn is_built(self) -> bool {
        match self {
            Self::Native => true,
            Self::Kafka => cfg!(feature = "kafka"),
            Self::Amqp => cfg!(feature = "amqp"),
            Self::Nats => cfg!(feature = "nats"),
        }
    }

    /// What a reader of figures made with this driver must know of how it did what the plan asks: a sentence each.
    #[must_use]
    pub fn notes(self, plan: &Plan, amqp_queue: AmqpQueue) -> Vec<String> {
        let Some(batching) = plan.phases.first().map(|phase| phase.batching) else {
            return Vec::new();
        };
        let in_flight = batching.records_in_flight(plan.record_bytes(), plan.partitions);
        let mut notes = match self {
            Self::Native => return Vec::new(),
            Self::Kafka if batching.inflight() > KAFKA_REQUESTS_MAX => vec![format!(
                "kafka: an idempotent producer has at most {KAFKA_REQUESTS_MAX} requests in flight on a connection, where {} for each partition were asked for",
                batching.inflight()
            )],
            Self::Kafka => Vec::new(),
            Self::Amqp => vec![
                format!(
                    "amqp: {amqp_queue} queues; their messages have no offsets, so order is checked by the records' own numbers alone"
                ),
                record_by_record(self, in_flight),
            ],
            Self::Nats => vec![record_by_record(self, in_flight)],
        };
        notes.push(format!(
            "{self}: what an acknowledgement means is the broker's configuration; the scenario's durability ({}) was not asked of it",
            plan.durability
        ));
        notes
    }
}

fn record_by_record(driver: DriverKind, in_flight: u64) -> String {
    format!(
        "{driver}: every record is a message of its own, as this protocol has it; batches and linger only say that {in_flight} may be in flight for each producer"
    )
}

impl fmt::Display for AmqpQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        })
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Kafka => "kafka",
            Self::Amqp => "amqp",
            Self::Nats => "nats",
        })
    }
}
