//! The run's clock: monotonic nanoseconds since it began, the same for all threads.

use std::time::{Duration, Instant};

use crate::latency::nanoseconds;

/// Counts from the start of the run.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    origin: Instant,
}

impl RunClock {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Nanoseconds since the start.
    #[must_use]
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.at_ns(Instant::now())
    }

    /// Nanoseconds from the start to an instant; 0 for one before it.
    #[must_use]
    #[inline]
    pub fn at_ns(&self, instant: Instant) -> u64 {
        nanoseconds(instant.saturating_duration_since(self.origin))
    }

    /// Sleeps until that time, unless it has passed.
    pub fn sleep_until_ns(&self, time_ns: u64) {
        let left = time_ns.saturating_sub(self.now_ns());
        if left > 0 {
            std::thread::sleep(Duration::from_nanos(left));
        }
    }
}
