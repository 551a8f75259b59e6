//! The configuration: every knob of the broker, its default, and where its value came from.
//!
//! Layers, later ones win: defaults, the file, the environment (`GANNET_JOURNAL_FILE_BYTES` is `journal.file_bytes`), flags.
//! An unknown key refuses to start. What a key trades and bounds is data, in [`keys`].

mod check;
mod keys;
mod layers;
#[cfg(test)]
mod tests;
mod values;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use gannet_wire::frame::Durability;
use serde::{Deserialize, Serialize};

use crate::limits::{KIB, MIB};

pub use keys::{ConfigKey, example_toml, help_text, keys};
pub use layers::{ConfigError, FlagSetting, Layers, Source, Sources};
pub use values::{Auto, parse_bytes, parse_cores, parse_milliseconds};

/// The port of the native protocol.
pub const PORT_DEFAULT: u16 = 7470;

/// How one broker is to run. [`keys`] documents each value; [`Config::load`] builds one from its layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the native protocol.
    #[serde(with = "values::address")]
    pub listen: SocketAddr,
    /// Everything the broker stores is below it.
    pub data_dir: PathBuf,
    /// Shards, one core each.
    #[serde(with = "values::auto_count")]
    pub shards: Auto<u16>,
    /// The write-ahead log of a shard.
    pub journal: JournalConfig,
    /// Flushing, segments and reading.
    pub storage: StorageConfig,
    /// Connections and frames.
    pub network: NetworkConfig,
    /// What topics get when nobody says otherwise.
    pub topics: TopicsConfig,
    /// Executors.
    pub runtime: RuntimeConfig,
    /// Where each value that is not a default came from.
    #[serde(skip)]
    pub sources: Sources,
}

/// `[journal]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Length of one pre-written journal file.
    #[serde(with = "values::bytes")]
    pub file_bytes: u64,
    /// What one commit gathers at most; a batch that does not fit goes straight to its segment.
    #[serde(with = "values::bytes")]
    pub commit_bytes_max: u64,
    /// Commits of one shard being written at once.
    pub commits_in_flight_max: u32,
    /// While commits follow each other, a small one waits until so many microseconds after the last one began; a quarter of that where somebody waits for it.
    pub commit_interval_us: u64,
    /// Age of the last unmarked ack at which a mark is written.
    #[serde(with = "values::milliseconds")]
    pub mark_interval_ms: u64,
}

/// `[storage]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    /// Data that is not in a segment yet, of the whole broker.
    #[serde(with = "values::auto_bytes")]
    pub unflushed_bytes_max: Auto<u64>,
    /// Unflushed data of one shard at which a flush starts.
    #[serde(with = "values::auto_bytes")]
    pub flush_bytes: Auto<u64>,
    /// Age of unflushed data at which a flush starts.
    #[serde(with = "values::milliseconds")]
    pub flush_interval_ms: u64,
    /// Length at which a segment is sealed.
    #[serde(with = "values::bytes")]
    pub segment_bytes_max: u64,
    /// Backlog of one partition that goes to its segment directly.
    #[serde(with = "values::bytes")]
    pub direct_bytes_min: u64,
    /// Unflushed data of one partition that gets a segment of its own.
    #[serde(with = "values::bytes")]
    pub own_segment_bytes_min: u64,
    /// Length of one write of a flush.
    #[serde(with = "values::bytes")]
    pub flush_write_bytes: u64,
    /// Flush writes of one shard at once, while it keeps up.
    pub flush_writes_in_flight_max: u32,
    /// Length of one read of a segment.
    #[serde(with = "values::bytes")]
    pub read_chunk_bytes: u64,
    /// Segment data one shard keeps for several readers of the same stretch.
    #[serde(with = "values::bytes")]
    pub read_cache_bytes: u64,
    /// Segments the broker keeps open.
    pub open_files_max: u32,
    /// Free space on the disk below which publishes are refused.
    #[serde(with = "values::bytes")]
    pub disk_reserve_bytes: u64,
    /// Whether the append clock follows the wall clock at once at the start.
    pub trust_wall_clock: bool,
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Largest frame accepted.
    #[serde(with = "values::bytes")]
    pub frame_bytes_max: u32,
    /// Largest batch accepted, as encoded.
    #[serde(with = "values::bytes")]
    pub batch_bytes_max: u32,
    /// Most records in one batch.
    pub batch_records_max: u32,
    /// Largest body of a batch, decompressed.
    #[serde(with = "values::bytes")]
    pub decompressed_bytes_max: u32,
    /// Connections of the broker.
    pub connections_max: u32,
    /// Bytes read from one connection before the next has its turn.
    #[serde(with = "values::bytes")]
    pub read_quantum_bytes: u64,
    /// Bytes waiting to be sent on one connection.
    #[serde(with = "values::bytes")]
    pub connection_buffer_bytes_max: u64,
    /// Silence after which a ping is sent; three times of it ends a connection.
    #[serde(with = "values::milliseconds")]
    pub heartbeat_ms: u32,
    /// How long a peer may take nothing before its connection is closed.
    #[serde(with = "values::milliseconds")]
    pub write_deadline_ms: u64,
    /// Batches of one producer and partition in flight.
    pub producer_inflight_max: u32,
    /// Subscriptions of one connection.
    pub subscriptions_max: u32,
}

/// `[topics]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// Partitions of a topic created without a number.
    pub partitions_default: u32,
    /// Most partitions of one topic.
    pub partitions_max: u32,
    /// Age at which a topic's data expires; -1 never.
    #[serde(with = "values::milliseconds_or_none")]
    pub retention_ms: i64,
    /// Stored bytes of one partition above which the oldest go; -1 no limit.
    #[serde(with = "values::bytes_or_none")]
    pub retention_bytes: i64,
    /// What an ack means in a topic that does not say.
    #[serde(with = "values::durability")]
    pub durability: Durability,
    /// Silence after which a producer is forgotten.
    #[serde(with = "values::milliseconds")]
    pub producer_expiry_ms: u64,
}

/// `[runtime]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConfig {
    /// How long a core polls before it parks, in microseconds.
    pub busy_poll_us: u64,
    /// Whether a shard is bound to its core.
    pub pin: bool,
    /// Which cores the shards run on.
    #[serde(with = "values::auto_cores")]
    pub cores: Auto<Vec<u16>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT)),
            data_dir: PathBuf::from("./gannet-data"),
            shards: Auto::Auto,
            journal: JournalConfig::default(),
            storage: StorageConfig::default(),
            network: NetworkConfig::default(),
            topics: TopicsConfig::default(),
            runtime: RuntimeConfig::default(),
            sources: Sources::default(),
        }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            file_bytes: 64 * MIB,
            commit_bytes_max: MIB,
            commits_in_flight_max: 4,
            commit_interval_us: 500,
            mark_interval_ms: 10,
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            unflushed_bytes_max: Auto::Auto,
            flush_bytes: Auto::Auto,
            flush_interval_ms: 10_000,
            segment_bytes_max: 256 * MIB,
            direct_bytes_min: 512 * KIB,
            own_segment_bytes_min: 256 * KIB,
            flush_write_bytes: 512 * KIB,
            flush_writes_in_flight_max: 2,
            read_chunk_bytes: MIB,
            read_cache_bytes: 32 * MIB,
            open_files_max: 1024,
            disk_reserve_bytes: 256 * MIB,
            trust_wall_clock: false,
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: (MIB + 64 * KIB) as u32,
            batch_bytes_max: MIB as u32,
            batch_records_max: 65_536,
            decompressed_bytes_max: (4 * MIB) as u32,
            connections_max: 10_000,
            read_quantum_bytes: 256 * KIB,
            connection_buffer_bytes_max: 4 * MIB,
            heartbeat_ms: 10_000,
            write_deadline_ms: 30_000,
            producer_inflight_max: 64,
            subscriptions_max: 1024,
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            partitions_default: 1,
            partitions_max: 16_384,
            retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_bytes: -1,
            durability: Durability::Durable,
            producer_expiry_ms: 24 * 60 * 60 * 1000,
        }
    }
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            busy_poll_us: 0,
            pin: true,
            cores: Auto::Auto,
        }
    }
}
