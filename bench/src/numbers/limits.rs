//! What the machine can do without a broker.

use std::path::Path;
use std::time::Duration;

use gannet_loadgen::latency::LatencySummary;
use gannet_loadgen::measure::{ping_pong, sequential_bandwidth, sync_write_latency, sync_writes};
use serde::{Deserialize, Serialize};

use super::session::{NumbersError, io_error};
use super::tools::{Fio, Iperf3, ToolRun, fio, iperf3};

/// How a broker that acknowledges from the disk writes large batches: so many bytes at a time, each synced, so many under way.
pub(super) const SYNCED_WRITE_BYTES: u64 = 512 << 10;
/// See [`SYNCED_WRITE_BYTES`].
pub(super) const SYNCED_WRITES: u32 = 4;

/// The machine's limits. All measured by this program, and by the usual tools beside it where they are installed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineLimits {
    /// 64 bytes to and fro over a loopback TCP connection between two threads, in microseconds.
    pub ping_pong_us: LatencySummary,
    /// One 4 KiB O_DIRECT + O_DSYNC write over blocks written before, in microseconds.
    pub sync_write_us: LatencySummary,
    /// Sequential O_DIRECT writes of 1 MiB over blocks written before, eight in flight, in MB/s (10^6).
    pub write_mb_per_s: f64,
    /// Sequential O_DIRECT reads, likewise.
    pub read_mb_per_s: f64,
    /// Sequential O_DIRECT + O_DSYNC writes of 512 KiB over blocks written before, four in flight, in MB/s (10^6): what can be durable. `None` in results of before it was measured.
    #[serde(default)]
    pub synced_write_mb_per_s: Option<f64>,
    /// The disk by fio, to compare with.
    pub fio: ToolRun<Fio>,
    /// The loopback's bandwidth by iperf3.
    pub iperf3: ToolRun<Iperf3>,
}

impl MachineLimits {
    /// Measures all of them, one after the other, on a machine that does nothing else.
    ///
    /// # Errors
    /// [`NumbersError`]; a tool that is missing or fails is none.
    pub fn measure(
        directory: &Path,
        file_bytes: u64,
        duration: Duration,
    ) -> Result<Self, NumbersError> {
        let bandwidth = sequential_bandwidth(directory, file_bytes, duration)?;
        let synced = sync_writes(directory, &[SYNCED_WRITE_BYTES], &[SYNCED_WRITES], duration)?;
        Ok(Self {
            ping_pong_us: ping_pong(duration)
                .map_err(io_error("measuring loopback TCP"))?
                .summary(),
            sync_write_us: sync_write_latency(directory, duration)?.summary(),
            write_mb_per_s: bandwidth.write / 1e6,
            read_mb_per_s: bandwidth.read / 1e6,
            synced_write_mb_per_s: synced.first().map(|synced| synced.bytes_per_s() / 1e6),
            fio: fio(directory, file_bytes, duration),
            iperf3: iperf3(duration),
        })
    }

    /// What a durable publish takes at least: one round trip and one write.
    #[must_use]
    pub fn durable_round_trip_us(&self) -> f64 {
        self.ping_pong_us.p50 + self.sync_write_us.p50
    }
}
