//! The machine's own limits, measured plainly: what a broker on it could at best be.

mod disk;
mod network;

pub use disk::{
    DiskError, SequentialBandwidth, SyncWrites, sequential_bandwidth, sync_write_latency,
    sync_writes, write_bandwidth,
};
pub use network::ping_pong;
