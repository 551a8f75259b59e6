//! What a disk does, for whomever, as `/sys` counts it: beside latencies it says whether the disk had more to give.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// The kernel counts in these, whatever a disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// What a disk has done since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskCounters {
    read_bytes: u64,
    written_bytes: u64,
    busy: Duration,
}

/// What a disk did over some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiskActivity {
    /// Read from it.
    pub read_bytes_per_s: f64,
    /// Written to it.
    pub written_bytes_per_s: f64,
    /// The share of the time in which it had something to do, 0 to 1.
    pub busy: f64,
}

impl DiskCounters {
    /// Of the disk that `path` lies on. `None` where the kernel does not say: the filesystem has no disk of its own, or `/sys` is not there.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let device = std::fs::metadata(path).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Self::parse(&std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?)
    }

    /// Of a `stat` file's text, by the kernel's `Documentation/block/stat.rst`.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<u64> = text
            .split_ascii_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        Some(Self {
            read_bytes: fields.get(2)? * SECTOR_BYTES,
            written_bytes: fields.get(6)? * SECTOR_BYTES,
            busy: Duration::from_millis(*fields.get(9)?),
        })
    }

    /// What it did since `earlier`, which was that long ago.
    #[must_use]
    pub fn since(&self, earlier: &Self, time: Duration) -> DiskActivity {
        let per_s = |now: u64, then: u64| {
            now.saturating_sub(then) as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
        };
        DiskActivity {
            read_bytes_per_s: per_s(self.read_bytes, earlier.read_bytes),
            written_bytes_per_s: per_s(self.written_bytes, earlier.written_bytes),
            busy: self.busy.saturating_sub(earlier.busy).as_secs_f64()
                / time.as_secs_f64().max(f64::MIN_POSITIVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_as_busy_as_its_counters_went_on() {
        let of = |text| DiskCounters::parse(text).unwrap();
        let then = of("10 0 2000 5 20 0 4000 9 0 1000 14 0 0 0 0 3 1");
        let now = of("11 0 4000 6 21 0 12000 9 0 2500 14 0 0 0 0 3 1");
        let did = now.since(&then, Duration::from_secs(2));
        assert_eq!(
            did,
            DiskActivity {
                read_bytes_per_s: 512_000.0,
                written_bytes_per_s: 2_048_000.0,
                busy: 0.75
            }
        );
        assert_eq!(DiskCounters::parse("10 0 2000"), None);
    }
}
