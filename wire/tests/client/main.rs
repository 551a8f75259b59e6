//! The client against a broker in this process, which can be told to fail.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "../batch_by_hand/mod.rs"]
mod batch_by_hand;
mod broker;
mod connection;
mod consumer;
#[path = "../full_batch/mod.rs"]
mod full_batch;
mod poisoned;
mod producer;
#[cfg(feature = "tokio")]
mod tokio_flavour;
