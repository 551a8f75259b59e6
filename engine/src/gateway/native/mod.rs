//! The native protocol, as `wire/PROTOCOL.md` specifies it.

mod connection;
pub mod outbox;

use std::time::Duration;

pub use connection::{GatewayContext, serve};
use gannet_wire::batch::BatchLimits;

/// What a connection is allowed.
#[derive(Clone, Debug)]
pub struct NativeConfig {
    /// Bytes of a frame.
    pub frame_bytes_max: u32,
    /// What a batch may be.
    pub batch: BatchLimits,
    /// Bytes read in one turn, before the other connections have theirs.
    pub read_quantum_bytes: usize,
    /// Bytes that wait to be sent; above it nothing more is read.
    pub connection_buffer_bytes_max: usize,
    /// Batches not acknowledged yet; above it nothing more is read.
    pub publishes_in_flight_max: usize,
    /// Requests other than publishes under way.
    pub requests_in_flight_max: usize,
    /// Subscriptions of one connection.
    pub subscriptions_max: usize,
    /// After so much silence a Ping is sent; after three times as much the connection is given up.
    pub heartbeat: Duration,
    /// Batches of one producer and partition that may be in flight.
    pub producer_inflight_max: u32,
}
