//! How steadily a thread gets its core: what one that never sleeps misses, what the host takes, and what the control group allows.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use gannet_loadgen::usage::thread_ran_and_waited;

/// Between two looks at the clock that are further apart than this, something else had the core.
const GAP_MIN: Duration = Duration::from_micros(50);

/// All that is known of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steadiness {
    /// What a thread that does nothing but look at the clock missed.
    pub spin: Spin,
    /// The share of all cores' time that the host gave to others meanwhile, 0 to 1. `None`: unknown.
    pub stolen: Option<f64>,
    /// What the control groups of this process allow at most. `None`: everything, or it is unknown.
    pub quota: Option<Quota>,
}

/// How a thread was run that never sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spin {
    /// How long it was watched.
    pub watched: Duration,
    /// How much of that it was not run.
    pub missed: Duration,
    /// The longest stretch in which it was not.
    pub longest: Duration,
    /// How long it waited for its core by the kernel's count, so because of others on this machine or of its control group. `None`: unknown.
    pub waited: Option<Duration>,
}

/// CPU time that a control group may use in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// So much of all cores together.
    pub allowed: Duration,
    /// In each of these.
    pub period: Duration,
}

impl Steadiness {
    /// Keeps one core busy for that long.
    #[must_use]
    pub fn measure(duration: Duration) -> Self {
        let before = Ticks::now();
        let spin = Spin::watch(duration);
        let stolen = before
            .zip(Ticks::now())
            .and_then(|(before, after)| after.stolen_since(&before));
        Self {
            spin,
            stolen,
            quota: Quota::of_this_process(),
        }
    }
}

impl Spin {
    fn watch(duration: Duration) -> Self {
        let before = thread_ran_and_waited();
        let start = Instant::now();
        let mut is_over = false;
        let looks = std::iter::from_fn(|| {
            if is_over {
                return None;
            }
            let look = start.elapsed();
            // The look behind the end counts too: a stretch that crosses it is one.
            is_over = look >= duration;
            Some(look)
        });
        let spin = Self::of(looks);
        let waited = before
            .zip(thread_ran_and_waited())
            .map(|((_, before), (_, after))| after.saturating_sub(before));
        Self { waited, ..spin }
    }

    /// Of the times of its looks at the clock.
    fn of(looks: impl IntoIterator<Item = Duration>) -> Self {
        let mut spin = Self::default();
        for look in looks {
            let gap = look.saturating_sub(spin.watched);
            spin.watched = look;
            if gap >= GAP_MIN {
                spin.missed += gap;
                spin.longest = spin.longest.max(gap);
            }
        }
        spin
    }

    /// The share of the time in which it was not run, 0 to 1.
    #[must_use]
    pub fn missed_share(&self) -> f64 {
        self.missed.as_secs_f64() / self.watched.as_secs_f64().max(1e-9)
    }
}

impl Quota {
    /// How many cores it is worth.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.allowed.as_secs_f64() / self.period.as_secs_f64().max(1e-9)
    }

    /// The lowest on the way up from this process's control group (version 2 only).
    fn of_this_process() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::below(Path::new("/sys/fs/cgroup"), &groups)
    }

    fn below(root: &Path, groups: &str) -> Option<Self> {
        let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        root.join(path)
            .ancestors()
            .take_while(|group| group.starts_with(root))
            .filter_map(|group| Self::parse(&fs::read_to_string(group.join("cpu.max")).ok()?))
            .min_by(|left, right| left.cores().total_cmp(&right.cores()))
    }

    /// `QUOTA PERIOD` in microseconds, or `max PERIOD` for none.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let mut microseconds = || fields.next()?.parse().ok().map(Duration::from_micros);
        Some(Self {
            allowed: microseconds()?,
            period: microseconds()?,
        })
    }
}

/// The time of all cores since the machine started, in the kernel's ticks.
struct Ticks {
    stolen: u64,
    all: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // What guests of this machine used, further behind, is in the first two already.
        let ticks: Vec<u64> = line
            .split_ascii_whitespace()
            .take(STOLEN_AT + 1)
            .map_while(|field| field.parse().ok())
            .collect();
        Some(Self {
            stolen: *ticks.get(STOLEN_AT)?,
            all: ticks.iter().sum(),
        })
    }

    fn stolen_since(&self, earlier: &Self) -> Option<f64> {
        let all = self.all.checked_sub(earlier.all).filter(|all| *all > 0)?;
        Some(self.stolen.saturating_sub(earlier.stolen) as f64 / all as f64)
    }
}

/// user, nice, system, idle, iowait, irq, softirq, steal.
const STOLEN_AT: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn only_looks_that_are_far_apart_were_interrupted() {
        let spin = Spin::of([0, 1, 40, 41, 341, 342, 442].map(us));
        assert_eq!(
            spin,
            Spin {
                watched: us(442),
                missed: us(400),
                longest: us(300),
                waited: None,
            }
        );
    }

    #[test]
    fn a_thread_is_watched_until_its_time_is_over_and_not_longer_missed_than_watched() {
        let spin = Spin::watch(Duration::from_millis(2));
        assert!(spin.watched >= Duration::from_millis(2));
        assert!(spin.longest <= spin.missed && spin.missed <= spin.watched);
    }

    #[test]
    fn the_lowest_quota_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("system.slice/gannet");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(leaf.join("cpu.max"), "max 100000\n").unwrap();
        let parent = root.path().join("system.slice/cpu.max");
        fs::write(parent, "150000 100000\n").unwrap();
        fs::write(root.path().join("cpu.max"), "400000 100000\n").unwrap();
        let quota = Quota::below(root.path(), "1:cpu:/\n0::/system.slice/gannet\n").unwrap();
        assert_eq!((quota.allowed, quota.period), (us(150_000), us(100_000)));
        assert!((quota.cores() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn no_quota_is_none() {
        assert_eq!(Quota::parse("max 100000\n"), None);
        assert_eq!(Quota::below(Path::new("/does/not/exist"), "0::/\n"), None);
    }

    #[test]
    fn stolen_time_is_a_share_of_all() {
        let before = Ticks::parse("cpu  1 0 1 5 0 0 0 3 9 9\n").unwrap();
        let after = Ticks::parse("cpu  11 0 11 65 0 0 0 23 99 99\ncpu0 1\n").unwrap();
        assert_eq!(after.stolen_since(&before), Some(0.2));
        assert_eq!(before.stolen_since(&before), None);
        assert!(Ticks::parse("cpu  1 0 1 5\n").is_none());
    }
}
