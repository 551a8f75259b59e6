//! The threads of a run: producers that keep a schedule, consumers that check, and what they share while a phase lasts.
//!
//! They know the client only by the two traits in [`port`], so that tests run them against a broker in memory that loses, doubles, swaps and changes records.

mod consume;
mod phase;
pub mod port;
mod publish;

pub use consume::{ConsumedPhase, ConsumerWorker};
pub use phase::{Pace, Progress, SharedPhase};
pub use publish::{ProducerWorker, PublishedPhase};

#[cfg(test)]
mod tests;
