//! What a process and the machine used, as `/proc` tells it.

use std::time::Duration;
use std::{fs, io};

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// CPU time of all its threads, user and system.
    pub cpu: Duration,
    /// Resident memory now.
    pub rss_bytes: u64,
    /// The most resident memory it ever had.
    pub rss_peak_bytes: u64,
}

impl ProcessUsage {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When it is gone, or `/proc` is not readable.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let cpu = cpu_of_stat(&stat, rustix::param::clock_ticks_per_second()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("/proc/{pid}/stat has an unknown form"),
            )
        })?;
        // A process that is exiting has no memory left and no such lines.
        Ok(Self {
            cpu,
            rss_bytes: bytes_of_status(&status, "VmRSS:").unwrap_or(0),
            rss_peak_bytes: bytes_of_status(&status, "VmHWM:").unwrap_or(0),
        })
    }

    /// Of this process.
    ///
    /// # Errors
    /// When `/proc` is not readable.
    pub fn of_this_process() -> io::Result<Self> {
        Self::of(std::process::id())
    }
}

/// What the process with this id has made the disks read so far; what the page cache answers is not in it.
///
/// # Errors
/// When it is gone, `/proc` is not readable, or the kernel does not count it.
pub fn disk_read_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
    read_bytes_of_io(&text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}/io has no read_bytes"),
        )
    })
}

/// How long the machine's cores were busy and idle, summed over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineUsage {
    busy_ticks: u64,
    idle_ticks: u64,
}

impl MachineUsage {
    /// Since the machine started.
    ///
    /// # Errors
    /// When `/proc` is not readable.
    pub fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        machine_of_stat(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "/proc/stat has an unknown form")
        })
    }

    /// The busy share of all cores' time since `earlier`, 0 to 1.
    #[must_use]
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        let busy = self.busy_ticks.saturating_sub(earlier.busy_ticks) as f64;
        let idle = self.idle_ticks.saturating_sub(earlier.idle_ticks) as f64;
        if busy + idle == 0.0 {
            0.0
        } else {
            busy / (busy + idle)
        }
    }
}

/// How long the calling thread ran and how long it waited for a core. `None` where the kernel does not count it.
#[must_use]
pub fn thread_ran_and_waited() -> Option<(Duration, Duration)> {
    let tid = rustix::thread::gettid().as_raw_nonzero();
    schedstat(&fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).ok()?)
}

fn schedstat(text: &str) -> Option<(Duration, Duration)> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    Some((
        Duration::from_nanos(fields.next()?.ok()?),
        Duration::from_nanos(fields.next()?.ok()?),
    ))
}

fn cpu_of_stat(stat: &str, ticks_per_s: u64) -> Option<Duration> {
    // The name stands in parentheses and may hold anything, parentheses and spaces too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs_f64(
        (user + system) as f64 / ticks_per_s.max(1) as f64,
    ))
}

fn bytes_of_status(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn read_bytes_of_io(text: &str) -> Option<u64> {
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes:"))?;
    number.trim().parse().ok()
}

fn machine_of_stat(stat: &str) -> Option<MachineUsage> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else {
        return None;
    };
    Some(MachineUsage {
        busy_ticks: user + nice + system + irq + softirq + steal,
        idle_ticks: idle + iowait,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_parentheses_and_spaces() {
        let stat =
            "4242 (a) (b c) S 1 4242 4242 0 -1 4194304 1 2 3 4 150 50 7 8 20 0 3 0 100 1000 200";
        assert_eq!(cpu_of_stat(stat, 100), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_cut_stat_line_is_no_time() {
        assert_eq!(cpu_of_stat("4242 (a) S 1 4242", 100), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(bytes_of_status(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(bytes_of_status(status, "VmHWM:"), Some(2 << 20));
        assert_eq!(bytes_of_status(status, "VmSwap:"), None);
    }

    #[test]
    fn what_the_disks_read_is_not_what_was_read_from_the_cache() {
        let io = "rchar: 9000\nwchar: 10\nsyscr: 5\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 0\n";
        assert_eq!(read_bytes_of_io(io), Some(4096));
        assert_eq!(read_bytes_of_io("rchar: 9000\n"), None);
    }

    #[test]
    fn waiting_for_the_disk_is_idle() {
        let earlier = machine_of_stat("cpu  0 0 0 0 0 0 0 0 0 0\n").unwrap();
        let later = machine_of_stat("cpu  10 0 10 50 10 5 5 10 0 0\n").unwrap();
        assert!((later.busy_since(&earlier) - 0.4).abs() < 1e-9);
    }

    #[test]
    fn the_running_process_has_memory() {
        let usage = ProcessUsage::of_this_process().unwrap();
        assert!(usage.rss_bytes > 0 && usage.rss_peak_bytes >= usage.rss_bytes);
    }

    #[test]
    fn a_threads_times_are_read_in_nanoseconds() {
        assert_eq!(
            schedstat("1500 250 3\n"),
            Some((Duration::from_nanos(1500), Duration::from_nanos(250)))
        );
    }
}
