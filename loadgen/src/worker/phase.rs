//! What the workers of one phase share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::clock::RunClock;

const RUNNING: u64 = u64::MAX;

/// The times and the counts of a running phase.
#[derive(Debug)]
pub struct SharedPhase {
    /// The run's clock.
    pub clock: RunClock,
    /// When the first record is due.
    pub start_ns: u64,
    /// When the warm-up is over.
    pub measure_from_ns: u64,
    /// When sending ends at the latest.
    pub end_ns: u64,
    /// When not even what was due before the end is sent any more.
    pub send_until_ns: u64,
    /// How far the workers are.
    pub progress: Progress,
    /// What counts as slow in [`Progress`].
    slow_ns: u64,
    stopped_ns: AtomicU64,
    bytes_left: AtomicU64,
    aborted: AtomicBool,
}

/// Counted while the phase runs, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records handed to the client.
    pub sent: AtomicU64,
    /// Records acknowledged.
    pub acked: AtomicU64,
    /// Records delivered and sound.
    pub consumed: AtomicU64,
    /// Of those acknowledged, what is measured.
    pub published_pace: Pace,
    /// Of those delivered, what is measured.
    pub consumed_pace: Pace,
}

/// How many records came in so far that are measured, and how many of them slowly.
#[derive(Debug, Default)]
pub struct Pace {
    measured: AtomicU64,
    slow: AtomicU64,
}

impl Pace {
    /// How many were measured, and how many of them took longer than what counts as slow.
    #[must_use]
    pub fn measured_and_slow(&self) -> (u64, u64) {
        (self.measured.load(Relaxed), self.slow.load(Relaxed))
    }

    fn count(&self, records: u64, is_slow: bool) {
        self.measured.fetch_add(records, Relaxed);
        if is_slow {
            self.slow.fetch_add(records, Relaxed);
        }
    }
}

impl SharedPhase {
    /// A phase that begins at `start_ns`.
    #[must_use]
    pub fn new(
        clock: RunClock,
        start_ns: u64,
        warm_up_ns: u64,
        duration_ns: u64,
        bytes_max: Option<u64>,
    ) -> Self {
        Self {
            clock,
            start_ns,
            measure_from_ns: start_ns.saturating_add(warm_up_ns),
            end_ns: start_ns.saturating_add(duration_ns),
            send_until_ns: u64::MAX,
            progress: Progress::default(),
            slow_ns: u64::MAX,
            stopped_ns: AtomicU64::new(RUNNING),
            bytes_left: AtomicU64::new(bytes_max.unwrap_or(u64::MAX)),
            aborted: AtomicBool::new(false),
        }
    }

    /// The same phase, in which what is due is sent until so long after the end, and no longer.
    #[must_use]
    pub fn with_overrun_max(self, overrun_max_ns: Option<u64>) -> Self {
        let send_until_ns =
            overrun_max_ns.map_or(u64::MAX, |overrun| self.end_ns.saturating_add(overrun));
        Self {
            send_until_ns,
            ..self
        }
    }

    /// Counts what takes longer than this as slow.
    #[must_use]
    pub fn with_slow_ns(mut self, slow_ns: u64) -> Self {
        self.slow_ns = slow_ns;
        self
    }

    /// Counts measured records that were acknowledged so long after they were due.
    pub fn count_published(&self, latency_ns: u64, records: u64) {
        self.progress
            .published_pace
            .count(records, latency_ns > self.slow_ns);
    }

    /// Counts measured records that were delivered so long after they were due.
    pub fn count_consumed(&self, latency_ns: u64, records: u64) {
        self.progress
            .consumed_pace
            .count(records, latency_ns > self.slow_ns);
    }

    /// Ends the sending; the first call says when.
    pub fn stop(&self, now_ns: u64) {
        // Fails when it is stopped already, and that is what is wanted.
        let _ = self
            .stopped_ns
            .compare_exchange(RUNNING, now_ns, Relaxed, Relaxed);
    }

    /// When the sending ended. `None` while it goes on.
    #[must_use]
    pub fn stopped_ns(&self) -> Option<u64> {
        Some(self.stopped_ns.load(Relaxed)).filter(|&ns| ns != RUNNING)
    }

    /// When the sending ends or ended: what is due later is not sent.
    #[must_use]
    pub fn sends_until_ns(&self) -> u64 {
        self.end_ns.min(self.stopped_ns.load(Relaxed))
    }

    /// Whether a worker should go on sending; ends the phase for all when its time is over.
    #[must_use]
    pub fn may_send(&self, now_ns: u64) -> bool {
        if now_ns >= self.end_ns {
            self.stop(self.end_ns);
        }
        self.stopped_ns.load(Relaxed) == RUNNING && !self.aborted()
    }

    /// Takes bytes from the phase's budget; ends the phase for all when it is used up.
    #[must_use]
    pub fn take_bytes(&self, bytes: u64, now_ns: u64) -> bool {
        let taken = self
            .bytes_left
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes));
        if taken.is_err() {
            self.stop(now_ns);
        }
        taken.is_ok()
    }

    /// Ends everything, drains included: the run has failed.
    pub fn abort(&self) {
        self.aborted.store(true, Relaxed);
        self.stop(self.clock.now_ns());
    }

    /// Whether the run has failed.
    #[must_use]
    pub fn aborted(&self) -> bool {
        self.aborted.load(Relaxed)
    }

    /// Whether something that happened at that time counts.
    #[must_use]
    #[inline]
    pub fn is_measured(&self, time_ns: u64) -> bool {
        time_ns >= self.measure_from_ns && time_ns < self.stopped_ns.load(Relaxed)
    }

    /// For how long was measured, in seconds. 0 until the sending has ended.
    #[must_use]
    pub fn measured_s(&self) -> f64 {
        self.stopped_ns().map_or(0.0, |ns| {
            ns.saturating_sub(self.measure_from_ns) as f64 / 1e9
        })
    }
}
