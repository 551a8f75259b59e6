//! What a worker needs of a client.

use std::time::{Duration, Instant};

use crate::latency::LatencyHistogram;
use crate::plan::Batching;
use crate::report::Durability;

/// What the client says when something cannot be done any more: a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PortError(pub String);

/// The answer to consecutive records of one partition, that is to a batch.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The partition.
    pub partition: u32,
    /// The token of the first record.
    pub first_token: u64,
    /// How many records.
    pub records: u64,
    /// When the answer was there.
    pub answered_at: Instant,
    /// What was reached, or why nothing was.
    pub result: Result<Durability, String>,
}

/// Takes records to publish.
pub trait Outlet {
    /// Hands one record over; waits while the client has enough. Answers come by [`Outlet::answers`], for each partition in the order of sending.
    ///
    /// # Errors
    /// When the record was not taken.
    fn send(&mut self, partition: u32, value: &[u8], token: u64) -> Result<(), PortError>;

    /// Moves the answers that have come into `into`. Never waits.
    fn answers(&mut self, into: &mut Vec<Answer>);

    /// Waits until all records are answered.
    ///
    /// # Errors
    /// When some were refused, or the client gave up.
    fn flush(&mut self) -> Result<(), PortError>;
}

/// Gives what is consumed.
pub trait Inlet {
    /// Records delivered together.
    type Delivery: Delivery;

    /// The next delivery, or `None` when there is none within `timeout`.
    ///
    /// # Errors
    /// When no more will come.
    fn next(&mut self, timeout: Duration) -> Result<Option<Self::Delivery>, PortError>;
}

/// Consecutive records of one partition.
pub trait Delivery {
    /// The partition.
    fn partition(&self) -> u32;

    /// Calls `take` with each record's offset and value.
    ///
    /// # Errors
    /// When the client cannot read them.
    fn for_each(&self, take: impl FnMut(u64, Option<&[u8]>)) -> Result<(), PortError>;
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the oldest record.
    Start,
    /// At what comes next.
    Now,
}

/// A client of one broker and one topic.
pub trait Connect: Sync {
    /// A producer's side.
    type Outlet: Outlet + Send;
    /// A consumer's side.
    type Inlet: Inlet + Send;

    /// How many partitions the topic has.
    fn partitions(&self) -> u32;

    /// Connects a producer.
    ///
    /// # Errors
    /// The client's.
    fn outlet(&self, batching: &Batching, buffer_bytes: u64) -> Result<Self::Outlet, PortError>;

    /// Connects a consumer of these partitions. When this returns, nothing published from now on is missed.
    ///
    /// # Errors
    /// The client's.
    fn inlet(&self, partitions: Vec<u32>, from: From) -> Result<Self::Inlet, PortError>;

    /// Asks the broker about the topic on a connection of its own: whether it serves.
    ///
    /// # Errors
    /// When it does not.
    fn probe(&self) -> Result<(), PortError>;

    /// Publishes one record, each when the one before is acknowledged, to a topic of its own. Gives the times from call to acknowledgement.
    ///
    /// # Errors
    /// The client's.
    fn publish_alone(
        &self,
        value: &[u8],
        duration: Duration,
    ) -> Result<LatencyHistogram, PortError>;
}
