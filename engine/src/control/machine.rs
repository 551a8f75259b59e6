//! What this machine gives to the broker, and the budgets that follow from it and the configuration.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::control::config::{Auto, Config, ConfigError};
use crate::io::spare_descriptors::SPARES;
use crate::limits::{
    CORE_INDEX_MAX, DESCRIPTORS_PER_SHARD, DISK_BLOCK_BYTES, FLUSH_BYTES_AUTO_MAX,
    FLUSH_UNFLUSHED_SHARE, SHARDS_MAX, UNFLUSHED_BYTES_AUTO_MAX, UNFLUSHED_BYTES_MIN,
    UNFLUSHED_MEMORY_SHARE,
};

/// What this process may use of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processors this process may run on, ascending.
    pub cores: Vec<u16>,
    /// Memory: the machine's, or the control group's limit when that is lower.
    pub memory_bytes: u64,
    /// Descriptors this process may have open.
    pub descriptors_max: u64,
}

/// What the values that the broker chooses by itself have become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Shards.
    pub shards: u16,
    /// The core of each shard; longer than `shards` when cores are left over, shorter never when shards are pinned.
    pub cores: Vec<u16>,
    /// Unflushed data of the whole broker.
    pub unflushed_bytes_max: u64,
    /// Unflushed data of each shard: an even part of the above.
    pub shard_unflushed_bytes_max: u64,
    /// Unflushed data of one shard at which it starts a flush.
    pub flush_bytes: u64,
    /// Segments each shard keeps open.
    pub shard_open_files_max: u32,
    /// Connections of the broker.
    pub connections_max: u32,
    /// What had to be cut, in sentences for the log.
    pub notes: Vec<String>,
}

impl Machine {
    /// Looks at this process and its machine.
    #[must_use]
    pub fn detect() -> Self {
        let affinity = sched_getaffinity(None).ok();
        let mut cores: Vec<u16> = (0..=CORE_INDEX_MAX)
            .take(CpuSet::MAX_CPU)
            .filter(|core| {
                affinity
                    .as_ref()
                    .is_some_and(|set| set.is_set(usize::from(*core)))
            })
            .collect();
        if cores.is_empty() {
            // More processors than a CpuSet can hold, or a kernel that does not say: those that the standard library counts.
            let count = std::thread::available_parallelism().map_or(1, |count| count.get());
            cores = (0..=CORE_INDEX_MAX).take(count).collect();
        }
        Self {
            cores,
            memory_bytes: memory_bytes(),
            descriptors_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        }
    }
}

/// Has the kernel give this process memory in small pages only, for as long as it lives. A shard that meets a huge page that is not there yet stands still while two MiB are
/// zeroed, milliseconds on a virtual machine whose host makes them up as well, and all its clients with it. It concerns the whole process: programs call it, a library does not.
/// A kernel that knows nothing of it leaves everything as it is.
pub fn refuse_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages are left as they are");
    }
}

/// Raises this process's limit of open descriptors to what it may have without anybody's permission. The usual 1,024 exist for
/// programs that use `select`; this one does not.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Should it be refused, the budgets go by the limit that stays.
    let _ = setrlimit(Resource::Nofile, raised);
}

impl Config {
    /// Decides what is left open by the configuration, on this machine.
    ///
    /// # Errors
    /// When the configuration asks for what this machine does not have, or for budgets too small for their shards.
    pub fn budgets(&self, machine: &Machine) -> Result<Budgets, ConfigError> {
        let cores = self.cores_on(machine)?;
        let shards = match self.shards {
            Auto::Auto => auto_shards(cores.len()),
            Auto::Fixed(shards) => shards,
        };
        if self.runtime.pin && usize::from(shards) > cores.len() {
            return Err(ConfigError::Relation(format!(
                "`shards` is {shards} ({}) but this process may use only {} cores: ask for fewer, or set `runtime.pin` to false",
                self.sources.of("shards"),
                cores.len()
            )));
        }
        let (unflushed_bytes_max, shard_unflushed_bytes_max) =
            self.unflushed_on(machine, shards)?;
        let flush_bytes = self.flush_bytes_of(shard_unflushed_bytes_max)?;
        let mut budgets = Budgets {
            shards,
            cores,
            unflushed_bytes_max,
            shard_unflushed_bytes_max,
            flush_bytes,
            shard_open_files_max: (self.storage.open_files_max / u32::from(shards)).max(1),
            connections_max: self.network.connections_max,
            notes: Vec::new(),
        };
        budgets.cut_to_descriptors(machine.descriptors_max);
        Ok(budgets)
    }

    fn cores_on(&self, machine: &Machine) -> Result<Vec<u16>, ConfigError> {
        let Auto::Fixed(cores) = &self.runtime.cores else {
            return Ok(machine.cores.clone());
        };
        match cores.iter().find(|core| !machine.cores.contains(core)) {
            Some(core) => Err(ConfigError::Relation(format!(
                "`runtime.cores` ({}) names core {core}, which this process may not use: it may use {:?}",
                self.sources.of("runtime.cores"),
                machine.cores
            ))),
            None => Ok(cores.clone()),
        }
    }

    fn unflushed_on(&self, machine: &Machine, shards: u16) -> Result<(u64, u64), ConfigError> {
        // A shard that cannot hold two of the largest commits and batches would push back on every publish.
        let largest = self
            .journal
            .commit_bytes_max
            .max(u64::from(self.network.batch_bytes_max));
        let least = (2 * largest * u64::from(shards)).max(UNFLUSHED_BYTES_MIN);
        let total = match self.storage.unflushed_bytes_max {
            Auto::Auto => (machine.memory_bytes / UNFLUSHED_MEMORY_SHARE)
                .min(UNFLUSHED_BYTES_AUTO_MAX)
                .max(least),
            Auto::Fixed(total) if total < least => {
                return Err(ConfigError::Relation(format!(
                    "`storage.unflushed_bytes_max` is {total} ({}) but {shards} shards need at least {least}: raise it, or lower \
                     `shards`, `journal.commit_bytes_max` or `network.batch_bytes_max`",
                    self.sources.of("storage.unflushed_bytes_max"),
                )));
            }
            Auto::Fixed(total) => total,
        };
        Ok((total, total / u64::from(shards)))
    }

    fn flush_bytes_of(&self, shard_unflushed_bytes_max: u64) -> Result<u64, ConfigError> {
        match self.storage.flush_bytes {
            Auto::Auto => Ok((shard_unflushed_bytes_max / FLUSH_UNFLUSHED_SHARE)
                .clamp(DISK_BLOCK_BYTES, FLUSH_BYTES_AUTO_MAX)),
            Auto::Fixed(bytes) if bytes > shard_unflushed_bytes_max / 2 => {
                Err(ConfigError::Relation(format!(
                    "`storage.flush_bytes` is {bytes} ({}) but can be at most half of a shard's part of `storage.unflushed_bytes_max`, \
                 which is {shard_unflushed_bytes_max} ({}): lower the one to {} or raise the other",
                    self.sources.of("storage.flush_bytes"),
                    self.sources.of("storage.unflushed_bytes_max"),
                    shard_unflushed_bytes_max / 2,
                )))
            }
            Auto::Fixed(bytes) => Ok(bytes),
        }
    }
}

/// One shard a core; on two or three cores one of them is left to the clients, the kernel's network and disk work and the control thread, which would
/// otherwise take turns with the shards. ARCHITECTURE.md says on what evidence.
fn auto_shards(cores: usize) -> u16 {
    let shards = match cores {
        2 | 3 => cores - 1,
        _ => cores.min(SHARDS_MAX),
    };
    u16::try_from(shards).unwrap_or(u16::MAX)
}

impl Budgets {
    /// A low limit of descriptors narrows the broker, with a note, and does not stop it: the log's own opens come first, then
    /// connections and cached segments, half and half of what is left.
    fn cut_to_descriptors(&mut self, descriptors_max: u64) {
        let shards = u64::from(self.shards);
        let spares = u64::try_from(SPARES).unwrap_or(u64::MAX);
        let left = descriptors_max.saturating_sub(DESCRIPTORS_PER_SHARD * (shards + 1) + spares);
        let open_files_max = u64::from(self.shard_open_files_max) * shards;
        let connections_max = u64::from(self.connections_max);
        if open_files_max + connections_max <= left {
            return;
        }
        let open_files = open_files_max.min((left / 2).max(left.saturating_sub(connections_max)));
        let connections = connections_max.min(left.saturating_sub(open_files));
        self.shard_open_files_max = u32::try_from(open_files / shards)
            .unwrap_or(u32::MAX)
            .max(1);
        self.connections_max = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        self.notes.push(format!(
            "this process may have {descriptors_max} descriptors open: connections are cut from {connections_max} to {} and cached \
             open segments from {open_files_max} to {}; raise the limit (ulimit -n) to have them all",
            self.connections_max,
            u64::from(self.shard_open_files_max) * shards,
        ));
    }
}

/// The lower of the machine's memory and the limits of the control groups this process is in.
fn memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| meminfo_total_bytes(&text))
        .unwrap_or(UNFLUSHED_BYTES_AUTO_MAX);
    control_group_limits().fold(machine, u64::min)
}

fn meminfo_total_bytes(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Every `memory.max` on the way up from this process's control group, where there is one (version 2 only).
fn control_group_limits() -> impl Iterator<Item = u64> {
    let path = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("0::/").map(str::to_owned))
        })
        .unwrap_or_default();
    let leaf = std::path::Path::new("/sys/fs/cgroup").join(path);
    let groups: Vec<_> = leaf
        .ancestors()
        .take_while(|group| group.starts_with("/sys/fs/cgroup"))
        .map(|group| group.join("memory.max"))
        .collect();
    groups
        .into_iter()
        .filter_map(|limit| fs::read_to_string(limit).ok()?.trim().parse().ok())
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
