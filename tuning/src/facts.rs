//! What a machine gives to this process: looked up, and measured.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use gannet_engine::control::Machine;
use gannet_loadgen::filesystem::Filesystem;
use gannet_loadgen::latency::LatencySummary;
use gannet_loadgen::measure::{
    DiskError, SyncWrites, ping_pong, sequential_bandwidth, sync_write_latency, sync_writes,
};
use rustix::process::{Resource, getpriority_process, getrlimit};

use crate::interrupts::Interrupts;
use crate::loopback::stream_bandwidth;
use crate::ring::{Ring, RingFeatures};
use crate::steadiness::Steadiness;
use crate::storage::{Mount, Queue};

/// A file of this size is written and read, over and over, to measure the bandwidth; less when the disk has less room.
const BANDWIDTH_FILE_BYTES: u64 = 1 << 30;
/// The table of synced writes: these lengths, so many under way, each for this part of the time a latency is measured.
pub const GRID_BLOCKS_BYTES: [u64; 3] = [4 << 10, 64 << 10, 1 << 20];
/// See [`GRID_BLOCKS_BYTES`].
pub const GRID_DEPTHS: [u32; 3] = [1, 4, 16];
const GRID_PART: u32 = 4;
/// Large synced writes are so long, and so many are under way.
const SYNCED_BLOCK_BYTES: u64 = 512 << 10;
const SYNCED_DEPTH: u32 = 4;
/// What tells a core's steadiness, and what the disk takes synced, each show in this time.
const STEADY: Duration = Duration::from_secs(1);

/// All that a probe finds out.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// What the broker would see of the machine.
    pub machine: Machine,
    /// Of each core, those that share its execution units, itself included; as the kernel writes it. Equal texts are one physical core.
    pub siblings: Vec<String>,
    /// The cores of each NUMA node, as the kernel writes them. `None`: unknown.
    pub nodes: Option<Vec<String>>,
    /// How steadily a thread gets its core.
    pub steadiness: Steadiness,
    /// Where the devices' interrupts go. `None`: unknown.
    pub interrupts: Option<Interrupts>,
    /// The frequency governor of the first core, where there is one.
    pub governor: Option<String>,
    /// Bytes this process may lock in memory. `None`: any number.
    pub memlock_bytes: Option<u64>,
    /// The scheduling priority of this process: -20 goes first, 19 last. `None`: unknown.
    pub nice: Option<i32>,
    /// Descriptors that this process could have open if it asked. `None`: any number.
    pub descriptors_hard: Option<u64>,
    /// Whether io_uring may be used.
    pub ring: Ring,
    /// What it can do.
    pub ring_features: RingFeatures,
    /// Where the data would go.
    pub data_dir: PathBuf,
    /// The filesystem there.
    pub filesystem: Filesystem,
    /// Its mount. `None`: unknown.
    pub mount: Option<Mount>,
    /// Its device's queue. `None`: there is none, or it is unknown.
    pub queue: Option<Queue>,
    /// The disk there. `None` when what is written there stays in memory.
    pub disk: Option<Disk>,
    /// 64 bytes to and fro over loopback TCP.
    pub ping_pong_us: LatencySummary,
    /// What one loopback TCP connection carries in one direction, in bytes a second.
    pub loopback_bytes_per_s: f64,
}

/// What was measured of the disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// One 4 KiB O_DIRECT + O_DSYNC write over blocks written before.
    pub sync_write_us: LatencySummary,
    /// Sequential O_DIRECT writes of 1 MiB, several at once, in bytes a second.
    pub write_bytes_per_s: f64,
    /// Sequential O_DIRECT reads of the same, in bytes a second.
    pub read_bytes_per_s: f64,
    /// Sequential O_DIRECT + O_DSYNC writes of 512 KiB, four at once, in bytes a second.
    pub synced_bytes_per_s: f64,
    /// O_DIRECT + O_DSYNC writes of [`GRID_BLOCKS_BYTES`], [`GRID_DEPTHS`] at once.
    pub sync_writes: Vec<SyncWrites>,
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
    /// Looks and measures; each measurement takes about `each`, and `progress` hears which one begins. Needs no rights but to write in `data_dir`, in which it leaves nothing.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn probe(
        data_dir: &Path,
        each: Duration,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, ProbeError> {
        let machine = Machine::detect();
        let filesystem = Filesystem::of(data_dir).map_err(|source| ProbeError::Directory {
            directory: data_dir.to_owned(),
            source,
        })?;
        let disk = if filesystem.is_memory() {
            None
        } else {
            Some(Disk::measure(
                data_dir,
                filesystem.free_bytes,
                each,
                progress,
            )?)
        };
        progress("measuring how steadily a thread gets its core");
        let steadiness = Steadiness::measure(each.min(STEADY));
        progress("measuring loopback TCP, to and fro");
        let ping_pong_us = ping_pong(each).map_err(ProbeError::Loopback)?.summary();
        progress("measuring loopback TCP, one way");
        let loopback_bytes_per_s =
            stream_bandwidth(each.min(STEADY)).map_err(ProbeError::Loopback)?;
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
            nodes: nodes_below(Path::new("/sys/devices/system/node")),
            steadiness,
            interrupts: Interrupts::read(),
            governor: read_line(Path::new(
                "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            )),
            memlock_bytes: getrlimit(Resource::Memlock).current,
            nice: getpriority_process(None).ok(),
            descriptors_hard: getrlimit(Resource::Nofile).maximum,
            ring: Ring::probe(),
            ring_features: RingFeatures::probe(),
            mount: Mount::of(data_dir),
            queue: Queue::of(data_dir),
            data_dir: data_dir.to_owned(),
            filesystem,
            disk,
            ping_pong_us,
            loopback_bytes_per_s,
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
    fn measure(
        directory: &Path,
        free_bytes: u64,
        each: Duration,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Self, DiskError> {
        progress("measuring large synced writes");
        let synced = sync_writes(
            directory,
            &[SYNCED_BLOCK_BYTES],
            &[SYNCED_DEPTH],
            each.min(STEADY),
        )?;
        progress("measuring one small synced write after the other");
        let sync_write_us = sync_write_latency(directory, each)?.summary();
        progress("measuring sequential writes and reads");
        let file_bytes = BANDWIDTH_FILE_BYTES.min(free_bytes / 4);
        let sequential = sequential_bandwidth(directory, file_bytes, each)?;
        progress("measuring synced writes by their length, several at once");
        let each = each / GRID_PART;
        Ok(Self {
            synced_bytes_per_s: synced.iter().map(SyncWrites::bytes_per_s).sum(),
            sync_write_us,
            write_bytes_per_s: sequential.write,
            read_bytes_per_s: sequential.read,
            sync_writes: sync_writes(directory, &GRID_BLOCKS_BYTES, &GRID_DEPTHS, each)?,
        })
    }
}

/// The cores of each node, by its number.
fn nodes_below(directory: &Path) -> Option<Vec<String>> {
    let mut nodes: Vec<(u32, String)> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let number = name.strip_prefix("node")?.parse().ok()?;
            Some((number, read_line(&directory.join(name).join("cpulist"))?))
        })
        // A node may be memory alone.
        .filter(|(_, cores)| !cores.is_empty())
        .collect();
    nodes.sort_unstable();
    (!nodes.is_empty()).then(|| nodes.into_iter().map(|(_, cores)| cores).collect())
}

fn siblings_of(core: u16) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    // Where the kernel does not say, a core counts as its own.
    read_line(Path::new(&path)).unwrap_or_else(|| core.to_string())
}

fn read_line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stand_in_the_order_of_their_numbers_and_those_without_cores_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        for (node, cores) in [("node10", "8-9\n"), ("node2", "0-7\n"), ("node3", "\n")] {
            fs::create_dir(directory.path().join(node)).unwrap();
            fs::write(directory.path().join(node).join("cpulist"), cores).unwrap();
        }
        fs::create_dir(directory.path().join("power")).unwrap();
        assert_eq!(
            nodes_below(directory.path()),
            Some(vec!["0-7".to_owned(), "8-9".to_owned()])
        );
        assert_eq!(nodes_below(Path::new("/does/not/exist")), None);
    }
}
