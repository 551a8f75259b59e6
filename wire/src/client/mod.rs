//! The client to embed: producers, consumers and administration, as blocking calls on threads or as futures on tokio.
//!
//! Both flavours drive the same state machines, which do no I/O: the session of a connection, the lane of a producer to
//! a partition, the subscription of a consumer.
//!
//! - [`blocking::Client`] needs nothing but the standard library.
//! - `tokio::Client` (feature `tokio`) is the same for async programs.

pub mod blocking;
mod config;
mod damage;
mod error;
mod hub;
mod identity;
mod lane;
mod lane_config;
mod partitioner;
mod report;
mod request;
mod session;
mod subscription;
mod subscriptions;
#[cfg(feature = "tokio")]
pub mod tokio;
mod written;

pub use config::{ClientConfig, ConsumerConfig, Partitions, ProducerConfig, ReconnectConfig};
pub use error::ClientError;
pub use report::{Delivered, DeliveryReport};
pub use subscription::Delivery;
