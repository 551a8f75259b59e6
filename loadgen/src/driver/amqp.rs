//! AMQP 0.9.1 as RabbitMQ speaks it, by lapin.
//!
//! A partition is a durable queue, quorum or classic as the run says, and a record a persistent message to it, with its key in the header `key`. A producer publishes
//! over a channel of its own with confirmations, which are awaited pipelined. Consumers acknowledge by hand, many at a time. A queue gives each message once, so with
//! several groups each group has a queue for each partition, bound to one exchange, and nothing is read twice. Queues do not number messages: offsets are counted as
//! they come, and what shows loss and order is the numbers in the records.

mod inlet;
mod outlet;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{
    ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::runtime::Runtime;

use super::confirms::Confirms;
use super::forwarded::ForwardedInlet;
use super::{AmqpQueue, Driver, Target, alone, runtime};
use crate::latency::LatencyHistogram;
use crate::plan::Batching;
use crate::worker::port::{Connect, From, PortError};
pub use outlet::AmqpOutlet;

/// The queues of one topic on a RabbitMQ server.
pub struct AmqpConnect {
    runtime: Arc<Runtime>,
    server: String,
    queues: Queues,
    record_bytes: usize,
    _connection: Connection,
    channel: Channel,
}

/// How partitions, groups and queues belong together.
#[derive(Clone, Debug)]
struct Queues {
    topic: String,
    partitions: u32,
    groups: u32,
    kind: AmqpQueue,
}

impl fmt::Debug for AmqpConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpConnect")
            .field("server", &self.server)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

impl Driver for AmqpConnect {
    const DELETE_HINT: &'static str =
        "rabbitmqctl delete_queue, for each queue whose name begins with TOPIC";

    fn connect(target: &Target<'_>) -> Result<Self, PortError> {
        let plan = target.plan;
        let queues = Queues {
            topic: target.topic.to_owned(),
            partitions: plan.partitions,
            groups: plan.fan_out,
            kind: target.amqp_queue,
        };
        Self::open(
            runtime::start()?,
            target.server,
            queues,
            plan.record_bytes(),
        )
    }

    fn delete_topic(&self) -> Result<(), PortError> {
        self.runtime
            .block_on(self.queues.delete(&self.channel))
            .map_err(|error| failed("deleting the queues", &error))
    }
}

impl AmqpConnect {
    fn open(
        runtime: Arc<Runtime>,
        server: &str,
        queues: Queues,
        record_bytes: usize,
    ) -> Result<Self, PortError> {
        let (connection, channel) = runtime.block_on(async {
            let connection = connect(server).await?;
            let channel = connection
                .create_channel()
                .await
                .map_err(|error| failed("opening a channel", &error))?;
            queues
                .declare(&channel)
                .await
                .map_err(|error| failed("declaring the queues", &error))?;
            Ok::<_, PortError>((connection, channel))
        })?;
        Ok(Self {
            runtime,
            server: server.to_owned(),
            queues,
            record_bytes,
            _connection: connection,
            channel,
        })
    }
}

impl Connect for AmqpConnect {
    type Outlet = AmqpOutlet;
    type Inlet = ForwardedInlet<Connection>;

    fn partitions(&self) -> u32 {
        self.queues.partitions
    }

    fn outlet(&self, batching: &Batching, _buffer_bytes: u64) -> Result<AmqpOutlet, PortError> {
        let partitions = self.queues.partitions;
        let window = batching.records_in_flight(self.record_bytes, partitions);
        let (connection, channel) = self.runtime.block_on(async {
            let connection = connect(&self.server).await?;
            let what = "opening a producer's channel";
            let channel = connection
                .create_channel()
                .await
                .map_err(|error| failed(what, &error))?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .map_err(|error| failed(what, &error))?;
            Ok::<_, PortError>((connection, channel))
        })?;
        let confirms = Confirms::new(self.runtime.handle().clone(), partitions, window);
        let routes = (0..partitions)
            .map(|partition| self.queues.route(partition))
            .collect();
        Ok(AmqpOutlet::new(connection, channel, routes, confirms))
    }

    fn inlet(
        &self,
        group: u32,
        partitions: Vec<u32>,
        // A queue gives what it holds, whenever that came.
        _from: From,
    ) -> Result<Self::Inlet, PortError> {
        let connection = self.runtime.block_on(connect(&self.server))?;
        let mut consumers = Vec::new();
        for partition in partitions {
            let queue = self.queues.name(partition, group);
            let consumer = self
                .runtime
                .block_on(inlet::consume(&connection, &queue))
                .map_err(|error| failed("consuming", &error))?;
            consumers.push((partition, consumer));
        }
        let mut forwarded = ForwardedInlet::new(connection);
        for (partition, consumer) in consumers {
            inlet::forward(&mut forwarded, self.runtime.handle(), partition, consumer);
        }
        Ok(forwarded)
    }

    fn probe(&self) -> Result<(), PortError> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = short(&self.queues.name(0, 0));
        self.runtime
            .block_on(
                self.channel
                    .queue_declare(queue, passive, FieldTable::default()),
            )
            .map(|_| ())
            .map_err(|error| failed("asking about a queue", &error))
    }

    fn publish_alone(
        &self,
        value: &[u8],
        duration: Duration,
    ) -> Result<LatencyHistogram, PortError> {
        let queues = Queues {
            topic: format!("{}-alone", self.queues.topic),
            partitions: 1,
            groups: 1,
            kind: self.queues.kind,
        };
        let connect = Self::open(self.runtime.clone(), &self.server, queues, value.len())?;
        let outlet = connect.outlet(&alone::BATCHING, alone::BUFFER_BYTES)?;
        let latency = alone::measure(outlet, value, duration)?;
        connect.delete_topic()?;
        Ok(latency)
    }
}

/// An exchange and a routing key.
#[derive(Clone, Debug)]
struct Route {
    exchange: ShortString,
    key: ShortString,
}

impl Queues {
    fn name(&self, partition: u32, group: u32) -> String {
        format!("{}.{partition}.{group}", self.topic)
    }

    /// Where records of a partition are published to. With one group that is the queue itself, by the default exchange.
    fn route(&self, partition: u32) -> Route {
        match self.groups {
            1 => Route {
                exchange: short(""),
                key: short(&self.name(partition, 0)),
            },
            _ => Route {
                exchange: short(&self.topic),
                key: short(&partition.to_string()),
            },
        }
    }

    async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        if self.groups > 1 {
            let durable = ExchangeDeclareOptions {
                durable: true,
                ..ExchangeDeclareOptions::default()
            };
            let (topic, none) = (short(&self.topic), FieldTable::default());
            channel
                .exchange_declare(topic, ExchangeKind::Direct, durable, none)
                .await?;
        }
        let kind = match self.kind {
            AmqpQueue::Quorum => "quorum",
            AmqpQueue::Classic => "classic",
        };
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type"), AMQPValue::LongString(kind.into()));
        for (partition, group) in self.all() {
            let durable = QueueDeclareOptions {
                durable: true,
                ..QueueDeclareOptions::default()
            };
            let queue = short(&self.name(partition, group));
            channel
                .queue_declare(queue.clone(), durable, arguments.clone())
                .await?;
            if self.groups > 1 {
                let Route { exchange, key } = self.route(partition);
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(queue, exchange, key, options, FieldTable::default())
                    .await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, channel: &Channel) -> lapin::Result<()> {
        for (partition, group) in self.all() {
            let queue = short(&self.name(partition, group));
            channel
                .queue_delete(queue, QueueDeleteOptions::default())
                .await?;
        }
        if self.groups > 1 {
            channel
                .exchange_delete(short(&self.topic), ExchangeDeleteOptions::default())
                .await?;
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = (u32, u32)> {
        let groups = self.groups;
        (0..self.partitions)
            .flat_map(move |partition| (0..groups).map(move |group| (partition, group)))
    }
}

/// As the guest, whom RabbitMQ lets in from the machine itself; or with another user, when the address is a whole `amqp://` one.
async fn connect(server: &str) -> Result<Connection, PortError> {
    let uri = if server.contains("://") {
        server.to_owned()
    } else {
        format!("amqp://guest:guest@{server}/%2f")
    };
    let properties = ConnectionProperties::default().with_connection_name("gannet-loadgen".into());
    // It takes the runtime that it is called in.
    Connection::connect(&uri, properties)
        .await
        .map_err(|error| failed("connecting", &error))
}

fn short(text: &str) -> ShortString {
    text.into()
}

fn failed(what: &str, error: &lapin::Error) -> PortError {
    PortError(format!("{what}: {error}"))
}
