//! Where the race ran, for who reads its figures.

use std::fs;
use std::path::Path;

use gannet_loadgen::filesystem::Filesystem;
use serde::{Deserialize, Serialize};

/// The machine and the disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Cores that this process may use.
    pub cores: u32,
    /// The processor's name.
    pub processor: String,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The filesystem's type.
    pub filesystem: String,
    /// What it is mounted from, and how.
    pub mounted: String,
}

impl MachineInfo {
    /// This machine, with its data in that directory. What the kernel does not tell is empty.
    #[must_use]
    pub fn of(directory: &Path, filesystem: Filesystem) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let directory = directory.canonicalize().unwrap_or(directory.to_owned());
        Self {
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            processor: value_of(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_bytes: memory_bytes(&read("/proc/meminfo")).unwrap_or_default(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            filesystem: filesystem.to_string(),
            mounted: mount_of(&read("/proc/mounts"), &directory).unwrap_or_default(),
        }
    }
}

fn value_of(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == key)
        .map(|(_, value)| value.trim().to_owned())
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let kib = value_of(meminfo, "MemTotal")?;
    kib.strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib << 10)
}

/// The device and the options of the mount that a directory lies in: the longest one above it, and of several there the last, which hides the others.
fn mount_of(mounts: &str, directory: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, point) = (fields.next()?, fields.next()?);
            let options = fields.nth(1)?;
            directory
                .starts_with(point)
                .then(|| (point.len(), format!("{device} ({options})")))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, mounted)| mounted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_lies_in_the_nearest_mount_above_it() {
        let mounts = "/dev/vda / ext4 rw,relatime 0 0\n/dev/vdb /data xfs rw,noatime 0 0\ntmpfs /database tmpfs rw 0 0\n";
        let of = |directory: &str| mount_of(mounts, Path::new(directory));
        assert_eq!(of("/data/race"), Some("/dev/vdb (rw,noatime)".to_owned()));
        assert_eq!(of("/var/tmp"), Some("/dev/vda (rw,relatime)".to_owned()));
    }

    #[test]
    fn memory_is_in_bytes() {
        let meminfo = "MemTotal:       24576 kB\nMemFree:        1 kB\n";
        assert_eq!(memory_bytes(meminfo), Some(24 << 20));
    }
}
