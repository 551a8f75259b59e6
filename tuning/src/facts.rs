//! What a machine gives to this process: looked up, and measured.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use gannet_engine::control::Machine;
use gannet_loadgen::filesystem::Filesystem;
use gannet_loadgen::latency::LatencySummary;
use gannet_loadgen::measure::{DiskError, ping_pong, sync_write_latency, write_bandwidth};
use rustix::process::{Resource, getrlimit};

use crate::ring::Ring;

/// A file of this size is written twice to measure the bandwidth; less when the disk has less room.
const BANDWIDTH_FILE_BYTES: u64 = 1 << 30;

/// All that a probe finds out.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// What the broker would see of the machine.
    pub machine: Machine,
    /// Of each core, those that share its execution units, itself included; as the kernel writes it. Equal texts are one physical core.
    pub siblings: Vec<String>,
    /// The frequency governor of the first core, where there is one.
    pub governor: Option<String>,
    /// Bytes this process may lock in memory. `None`: any number.
    pub memlock_bytes: Option<u64>,
    /// Whether io_uring may be used.
    pub ring: Ring,
    /// Where the data would go.
    pub data_dir: PathBuf,
    /// The filesystem there.
    pub filesystem: Filesystem,
    /// The disk there. `None` when what is written there stays in memory.
    pub disk: Option<Disk>,
    /// 64 bytes to and fro over loopback TCP.
    pub ping_pong_us: LatencySummary,
}

/// What was measured of the disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// One 4 KiB O_DIRECT + O_DSYNC write over blocks written before.
    pub sync_write_us: LatencySummary,
    /// Sequential O_DIRECT writes of 1 MiB, in bytes a second.
    pub write_bytes_per_s: f64,
}

/// Why a probe could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The directory cannot be used.
    #[error("{directory}: {source}")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk cannot be measured.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Loopback cannot be measured.
    #[error("measuring loopback TCP: {0}")]
    Loopback(io::Error),
}

impl Facts {
    /// Looks and measures; each measurement takes about `each`. Needs no rights but to write in `data_dir`, in which it leaves nothing.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn probe(data_dir: &Path, each: Duration) -> Result<Self, ProbeError> {
        let machine = Machine::detect();
        let filesystem = Filesystem::of(data_dir).map_err(|source| ProbeError::Directory {
            directory: data_dir.to_owned(),
            source,
        })?;
        let disk = if filesystem.is_memory() {
            None
        } else {
            Some(Disk::measure(data_dir, filesystem.free_bytes, each)?)
        };
        Ok(Self {
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            siblings: machine
                .cores
                .iter()
                .map(|core| siblings_of(*core))
                .collect(),
            governor: read_line(Path::new(
                "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            )),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            ring: Ring::probe(),
            data_dir: data_dir.to_owned(),
            filesystem,
            disk,
            ping_pong_us: ping_pong(each).map_err(ProbeError::Loopback)?.summary(),
            machine,
        })
    }

    /// How many cores there are when those that share execution units count once.
    #[must_use]
    pub fn physical_cores(&self) -> usize {
        let mut siblings: Vec<_> = self.siblings.iter().collect();
        siblings.sort_unstable();
        siblings.dedup();
        siblings.len()
    }
}

impl Disk {
    fn measure(directory: &Path, free_bytes: u64, each: Duration) -> Result<Self, DiskError> {
        Ok(Self {
            sync_write_us: sync_write_latency(directory, each)?.summary(),
            write_bytes_per_s: write_bandwidth(
                directory,
                BANDWIDTH_FILE_BYTES.min(free_bytes / 4),
            )?,
        })
    }
}

fn siblings_of(core: u16) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    // Where the kernel does not say, a core counts as its own.
    read_line(Path::new(&path)).unwrap_or_else(|| core.to_string())
}

fn read_line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
