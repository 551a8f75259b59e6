//! What is put on the brokers that are tried.

use gannet_loadgen::report::Durability;
use serde::Serialize;

/// Everything about a load but its rate and the client's settings.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// Producers, each with a thread and a connection of its own.
    pub producers: u32,
    /// Consumers, likewise.
    pub consumers: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// The bytes of each record's value.
    pub record_bytes: u64,
    /// What an acknowledgement must mean.
    pub durability: Durability,
}

impl Workload {
    /// The options that make the load generator put this on a broker.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        [
            ("--producers", self.producers.to_string()),
            ("--consumers", self.consumers.to_string()),
            ("--partitions", self.partitions.to_string()),
            ("--record-size", self.record_bytes.to_string()),
            ("--durability", self.durability.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} producer(s), {} consumer(s), {} partition(s), records of {} bytes, {}",
            self.producers, self.consumers, self.partitions, self.record_bytes, self.durability
        )
    }
}
