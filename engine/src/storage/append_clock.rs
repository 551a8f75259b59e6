//! The clock that retention goes by. It advances with the monotonic clock, is kept in the checkpoint, never goes back, and
//! does not follow a wall clock that jumps: a machine that wakes up in the year 2100 expires nothing.

use std::time::Duration;

use gannet_wire::Timestamp;

/// A wall clock further off than this is not followed at once.
pub const FOLLOW_MS_MAX: i64 = 5 * 60 * 1000;
/// A wall clock that stays off this long is followed after all.
pub const FOLLOW_AFTER: Duration = Duration::from_secs(60 * 60);

/// See the module's text. Time comes in as arguments.
#[derive(Clone, Debug)]
pub struct AppendClock {
    value_ms: i64,
    at: Duration,
    off_since: Option<Duration>,
}

/// What an observation found about the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallClock {
    /// Near enough.
    Followed,
    /// More than five minutes off for the first time: worth a line in the log. Positive: the wall clock is ahead.
    FoundOff {
        /// By how much.
        by_ms: i64,
    },
    /// Still off.
    StillOff,
}

impl AppendClock {
    /// Starts from what the checkpoint kept, or from the wall clock where there is none.
    #[must_use]
    pub fn start(kept_ms: Option<i64>, monotonic: Duration, wall_ms: i64) -> Self {
        Self {
            value_ms: kept_ms.unwrap_or(wall_ms),
            at: monotonic,
            off_since: None,
        }
    }

    /// Advances to `monotonic` and compares with the wall clock.
    pub fn observe(&mut self, monotonic: Duration, wall_ms: i64) -> WallClock {
        let elapsed_ms =
            i64::try_from(monotonic.saturating_sub(self.at).as_millis()).unwrap_or(i64::MAX);
        if elapsed_ms > 0 {
            self.value_ms = self.value_ms.saturating_add(elapsed_ms);
            self.at += Duration::from_millis(elapsed_ms.unsigned_abs());
        }
        let by_ms = wall_ms.saturating_sub(self.value_ms);
        if by_ms.abs() <= FOLLOW_MS_MAX {
            self.off_since = None;
            self.value_ms = self.value_ms.max(wall_ms);
            return WallClock::Followed;
        }
        match self.off_since {
            None => {
                self.off_since = Some(monotonic);
                WallClock::FoundOff { by_ms }
            }
            Some(since) if monotonic.saturating_sub(since) >= FOLLOW_AFTER => {
                // Ahead: go there. Behind: time that was stamped cannot be taken back, so the clock only waits.
                self.value_ms = self.value_ms.max(wall_ms);
                self.off_since = None;
                WallClock::Followed
            }
            Some(_) => WallClock::StillOff,
        }
    }

    /// The time as of the last observation.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.value_ms)
    }

    /// Makes sure the clock is not behind what is already stamped, as a replay finds it.
    pub fn raise_to(&mut self, stamped: Timestamp) {
        self.value_ms = self.value_ms.max(stamped.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn a_wall_clock_in_the_year_2100_is_reported_and_not_followed_for_an_hour() {
        let mut clock = AppendClock::start(Some(1_000), Duration::ZERO, 1_000);
        let far = 4_102_444_800_000;
        assert!(matches!(
            clock.observe(Duration::from_secs(1), far),
            WallClock::FoundOff { .. }
        ));
        assert_eq!(clock.now(), Timestamp(2_000));
        assert_eq!(
            clock.observe(Duration::from_secs(3_000), far),
            WallClock::StillOff
        );
        assert_eq!(clock.now(), Timestamp(3_001_000));
        assert_eq!(
            clock.observe(Duration::from_secs(3_602), far),
            WallClock::Followed
        );
        assert_eq!(clock.now(), Timestamp(far));
    }

    #[test]
    fn a_wall_clock_hours_back_never_turns_the_append_clock_back() {
        let mut clock = AppendClock::start(None, Duration::ZERO, 100 * MINUTE);
        assert!(matches!(
            clock.observe(Duration::from_secs(60), MINUTE),
            WallClock::FoundOff { .. }
        ));
        assert_eq!(clock.now(), Timestamp(101 * MINUTE));
        clock.observe(Duration::from_secs(60 + 3_600), 61 * MINUTE);
        assert!(clock.now() >= Timestamp(101 * MINUTE));
    }

    #[test]
    fn small_steps_forward_are_followed_at_once() {
        let mut clock = AppendClock::start(None, Duration::ZERO, 0);
        assert_eq!(
            clock.observe(Duration::from_secs(1), 4 * MINUTE),
            WallClock::Followed
        );
        assert_eq!(clock.now(), Timestamp(4 * MINUTE));
    }

    #[test]
    fn it_advances_with_the_monotonic_clock_while_the_wall_clock_stands() {
        let mut clock = AppendClock::start(None, Duration::ZERO, 0);
        clock.observe(Duration::from_millis(1), 0);
        clock.observe(Duration::from_millis(1_500), 0);
        assert_eq!(clock.now(), Timestamp(1_500));
    }
}
