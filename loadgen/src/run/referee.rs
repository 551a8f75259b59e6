//! Ending a phase early, by whoever watches it.

use std::time::Duration;

use crate::latency::nanoseconds;
use crate::worker::SharedPhase;

/// Watches the phases of a run, and may end the sending of one.
pub struct Referee<'a> {
    /// What takes longer counts as slow.
    pub slow: Duration,
    /// Asked every few milliseconds while a phase sends: whether that should end now.
    pub ends: &'a mut dyn FnMut(&Seen) -> bool,
}

/// What can be seen of a phase while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How long has been measured; zero during the warm-up.
    pub measured: Duration,
    /// Records acknowledged that are measured, and how many of them slowly.
    pub published: (u64, u64),
    /// Records delivered that are measured, and how many of them slowly.
    pub consumed: (u64, u64),
}

impl Referee<'_> {
    pub(super) fn slow_ns(&self) -> u64 {
        nanoseconds(self.slow)
    }

    /// Ends the phase if it should be.
    pub(super) fn look(&mut self, phase: &SharedPhase) {
        let now_ns = phase.clock.now_ns();
        let seen = Seen {
            measured: Duration::from_nanos(now_ns.saturating_sub(phase.measure_from_ns)),
            published: phase.progress.published_pace.measured_and_slow(),
            consumed: phase.progress.consumed_pace.measured_and_slow(),
        };
        if phase.stopped_ns().is_none() && (self.ends)(&seen) {
            phase.stop(now_ns);
        }
    }
}
