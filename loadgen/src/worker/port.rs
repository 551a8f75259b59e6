//! What a worker needs of a client.

use std::time::{Duration, Instant};

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
