//! Who takes part: a broker, and what its acknowledgement means.

use std::fmt;

use clap::ValueEnum;
use gannet_loadgen::report::Durability;
use serde::{Deserialize, Serialize};

/// A broker. The order is that of the tables.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// This project's.
    Gannet,
    /// Apache Kafka in KRaft mode.
    Kafka,
    /// RabbitMQ.
    #[value(name = "rabbitmq")]
    RabbitMq,
    /// NATS with JetStream.
    Nats,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gannet, Self::Kafka, Self::RabbitMq, Self::Nats];

    /// Its folder in `bench/peers`, and its name in files.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Gannet => "gannet",
            Self::Kafka => "kafka",
            Self::RabbitMq => "rabbitmq",
            Self::Nats => "nats",
        }
    }

    /// The load generator's driver that speaks to it.
    #[must_use]
    pub fn driver(self) -> &'static str {
        match self {
            Self::Gannet => "native",
            Self::Kafka => "kafka",
            Self::RabbitMq => "amqp",
            Self::Nats => "nats",
        }
    }

    /// The load generator that its makers ship.
    #[must_use]
    pub fn tool(self) -> Option<&'static str> {
        match self {
            Self::Gannet => None,
            Self::Kafka => Some("kafka-producer-perf-test"),
            Self::RabbitMq => Some("PerfTest"),
            Self::Nats => Some("nats bench"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gannet => "Gannet",
            Self::Kafka => "Kafka",
            Self::RabbitMq => "RabbitMQ",
            Self::Nats => "NATS",
        })
    }
}

/// What an acknowledgement is to mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// On the disk.
    Synced,
    /// What the broker does unless told otherwise; for Gannet, which syncs by default, its `accepted`.
    Unsynced,
}

/// A broker in one of its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entrant {
    /// The broker.
    pub peer: Peer,
    /// What its acknowledgement means.
    pub mode: Mode,
}

/// Gannet as it is by default.
pub const GANNET_DURABLE: Entrant = Entrant {
    peer: Peer::Gannet,
    mode: Mode::Synced,
};
/// Kafka as it is by default.
pub const KAFKA_UNSYNCED: Entrant = Entrant {
    peer: Peer::Kafka,
    mode: Mode::Unsynced,
};

impl Entrant {
    /// Both modes of each broker.
    #[must_use]
    pub fn of(peers: &[Peer]) -> Vec<Self> {
        let modes = |&peer| [Mode::Synced, Mode::Unsynced].map(|mode| Self { peer, mode });
        peers.iter().flat_map(modes).collect()
    }

    /// The mode's name with this broker: for Gannet a durability, for the others what their scripts take.
    #[must_use]
    pub fn mode_name(self) -> &'static str {
        match (self.peer, self.mode) {
            (Peer::Gannet, Mode::Synced) => "durable",
            (Peer::Gannet, Mode::Unsynced) => "accepted",
            (_, Mode::Synced) => "fsync",
            (_, Mode::Unsynced) => "default",
        }
    }

    /// Its name in files.
    #[must_use]
    pub fn slug(self) -> String {
        format!("{}-{}", self.peer.slug(), self.mode_name())
    }

    /// What a topic of Gannet's is told; the others are configured as a whole.
    #[must_use]
    pub fn topic_durability(self) -> Option<Durability> {
        match (self.peer, self.mode) {
            (Peer::Gannet, Mode::Synced) => Some(Durability::Durable),
            (Peer::Gannet, Mode::Unsynced) => Some(Durability::Accepted),
            _ => None,
        }
    }

    /// What kind of queue RabbitMQ's is to be.
    #[must_use]
    pub fn queue_kind(self) -> Option<&'static str> {
        match (self.peer, self.mode) {
            (Peer::RabbitMq, Mode::Synced) => Some("quorum"),
            (Peer::RabbitMq, Mode::Unsynced) => Some("classic"),
            _ => None,
        }
    }

    /// Whether an acknowledgement comes before the record is on the disk.
    #[must_use]
    pub fn acknowledges_early(self) -> bool {
        // RabbitMQ's classic queues sync in groups, but before they confirm.
        self.mode == Mode::Unsynced && self.peer != Peer::RabbitMq
    }

    /// Where a record is when its acknowledgement comes: what stands beside every figure.
    #[must_use]
    pub fn acknowledged(self) -> &'static str {
        match (self.peer, self.mode) {
            (Peer::Gannet, Mode::Synced) => "on the disk",
            (Peer::Gannet, Mode::Unsynced) => "in memory; on the disk within two writes of it",
            (Peer::Kafka, Mode::Synced) => "on the disk: fsync of the log",
            (Peer::Kafka, Mode::Unsynced) => {
                "in the page cache; the kernel writes it when it likes"
            }
            (Peer::RabbitMq, Mode::Synced) => "on the disk: a quorum queue's log is synced",
            (Peer::RabbitMq, Mode::Unsynced) => {
                "on the disk: a classic queue, synced in groups a few times a second"
            }
            (Peer::Nats, Mode::Synced) => "on the disk: fsync of each message",
            (Peer::Nats, Mode::Unsynced) => "in the page cache; synced every two minutes",
        }
    }
}

impl fmt::Display for Entrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.peer, self.mode_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broker_takes_part_in_both_modes() {
        let names: Vec<_> = Entrant::of(&Peer::ALL)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            names,
            [
                "Gannet durable",
                "Gannet accepted",
                "Kafka fsync",
                "Kafka default",
                "RabbitMQ fsync",
                "RabbitMQ default",
                "NATS fsync",
                "NATS default"
            ]
        );
    }

    #[test]
    fn only_gannets_topics_are_told_a_durability() {
        let told: Vec<_> = Entrant::of(&Peer::ALL)
            .into_iter()
            .filter_map(Entrant::topic_durability)
            .collect();
        assert_eq!(told, [Durability::Durable, Durability::Accepted]);
    }
}
