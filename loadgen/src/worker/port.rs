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
    /// The durability that the answer states, if it states one: another broker's is its configuration. Or why there is none.
    pub result: Result<Option<Durability>, String>,
}

/// Takes records to publish.
pub trait Outlet {
    /// Hands one record over; waits while the client has enough. Answers come by [`Outlet::answers`], for each partition in the order of sending.
    ///
    /// # Errors
    /// When the record was not taken.
    fn send(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
        token: u64,
    ) -> Result<(), PortError>;

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

    /// Calls `take` with each record.
    ///
    /// # Errors
    /// When the client cannot read them.
    fn for_each(&self, take: impl FnMut(Delivered<'_>)) -> Result<(), PortError>;
}

/// One record as it was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// Its place in its partition: consecutive records have consecutive ones.
    pub offset: u64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
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

    /// How many consumers it takes at least to consume all partitions.
    fn consumers_min(&self) -> u32 {
        1
    }

    /// Connects a producer.
    ///
    /// # Errors
    /// The client's.
    fn outlet(&self, batching: &Batching, buffer_bytes: u64) -> Result<Self::Outlet, PortError>;

    /// Connects a consumer of these partitions. When this returns, nothing published from now on is missed. Each group, numbered from 0, gets every record,
    /// whatever the others get.
    ///
    /// # Errors
    /// The client's.
    fn inlet(&self, group: u32, partitions: Vec<u32>, from: From)
    -> Result<Self::Inlet, PortError>;

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
