//! The clock that retention goes by. It advances with the monotonic clock, is kept in the checkpoint, never goes back, and
//! does not follow a wall clock that jumps: a machine that wakes up in the year 2100 expires nothing.
//!
//! A broker that was down over a weekend finds the wall clock days ahead, stamps for an hour as if it were still Friday, and then
//! follows. What it stamped in that hour is as old as the hour, not as old as the weekend: the clock remembers which stamps were
//! given while it was behind and by how much, and [`AppendClock::stamped_before`] ages them by the time that really passed.

use std::time::Duration;

use gannet_wire::Timestamp;

/// A wall clock further off than this is not followed at once.
pub const FOLLOW_MS_MAX: i64 = 5 * 60 * 1000;
/// A wall clock that stays off this long is followed after all.
pub const FOLLOW_AFTER: Duration = Duration::from_secs(60 * 60);
/// Jumps that are remembered; older ones are taken together, so that what was stamped between them expires later, never earlier.
pub const JUMPS_MAX: usize = 16;

/// See the module's text. Time comes in as arguments.
#[derive(Clone, Debug)]
pub struct AppendClock {
    value_ms: i64,
    at: Duration,
    off_since: Option<Duration>,
    behind: Behind,
}

/// Which stamps were given while the clock was behind. Kept in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// The first stamp given since the wall clock was found ahead; `None` while it is not.
    pub from_ms: Option<i64>,
    /// What the clock has followed since, oldest first.
    pub jumps: Vec<Jump>,
}

/// One time that the clock followed the wall clock ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Stamps from here ...
    pub from_ms: i64,
    /// ... up to and with this one
    pub to_ms: i64,
    /// are so much older than the time at which they were given.
    pub by_ms: i64,
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
    pub fn start(
        kept_ms: Option<i64>,
        mut behind: Behind,
        monotonic: Duration,
        wall_ms: i64,
    ) -> Self {
        // What was stamped since that checkpoint may have been stamped while the clock was behind: the first observation will say.
        behind.from_ms = behind.from_ms.or(kept_ms);
        Self {
            value_ms: kept_ms.unwrap_or(wall_ms),
            at: monotonic,
            off_since: None,
            behind,
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
            // The two agree: what was stamped meanwhile was stamped right.
            self.behind.from_ms = None;
            self.value_ms = self.value_ms.max(wall_ms);
            return WallClock::Followed;
        }
        if by_ms > 0 {
            self.behind.from_ms.get_or_insert(self.value_ms);
        } else {
            self.behind.from_ms = None;
        }
        match self.off_since {
            None => {
                self.off_since = Some(monotonic);
                WallClock::FoundOff { by_ms }
            }
            Some(since) if monotonic.saturating_sub(since) >= FOLLOW_AFTER => {
                self.follow(wall_ms);
                WallClock::Followed
            }
            Some(_) => WallClock::StillOff,
        }
    }

    /// Goes where the wall clock is: it stayed there for an hour, or the operator says that it is right. Behind: time that was stamped
    /// cannot be taken back, so the clock only waits.
    pub fn follow(&mut self, wall_ms: i64) {
        let by_ms = wall_ms.saturating_sub(self.value_ms);
        if let Some(from_ms) = self.behind.from_ms.take()
            && by_ms > 0
        {
            self.behind.push(Jump {
                from_ms,
                to_ms: self.value_ms,
                by_ms,
            });
        }
        self.value_ms = self.value_ms.max(wall_ms);
        self.off_since = None;
    }

    /// The time as of the last observation.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.value_ms)
    }

    /// What was stamped before this is older than `age_ms`.
    #[must_use]
    pub fn stamped_before(&self, age_ms: i64) -> Timestamp {
        let before = self.value_ms.saturating_sub(age_ms);
        let cutoff = self.behind.jumps.iter().fold(before, |cutoff, jump| {
            if before <= jump.to_ms.saturating_add(jump.by_ms) {
                cutoff.min(jump.from_ms.max(before.saturating_sub(jump.by_ms)))
            } else {
                cutoff
            }
        });
        Timestamp(cutoff)
    }

    /// How far behind the present stamp one is that is `age_ms` old: more than that, where the clock jumped meanwhile.
    #[must_use]
    pub fn stamps_of_age(&self, age_ms: i64) -> i64 {
        self.value_ms.saturating_sub(self.stamped_before(age_ms).0)
    }

    /// When this clock shows it, what carries `stamp` is older than `age_ms`.
    #[must_use]
    pub fn expires_at(&self, stamp: Timestamp, age_ms: i64) -> Timestamp {
        let later = self
            .behind
            .jumps
            .iter()
            .filter(|jump| (jump.from_ms..=jump.to_ms).contains(&stamp.0))
            .map(|jump| jump.by_ms)
            .max()
            .unwrap_or(0);
        let at = stamp.0.saturating_add(later).saturating_add(age_ms);
        Timestamp(at.saturating_add(1))
    }

    /// What the checkpoint keeps beside the time.
    #[must_use]
    pub fn behind(&self) -> &Behind {
        &self.behind
    }

    /// Makes sure the clock is not behind what is already stamped, as a replay finds it.
    pub fn raise_to(&mut self, stamped: Timestamp) {
        self.value_ms = self.value_ms.max(stamped.0);
    }
}

impl Behind {
    /// What the clocks of several shards remember, as one of them that takes over their partitions.
    #[must_use]
    pub fn joined(clocks: impl IntoIterator<Item = Self>) -> Self {
        let mut joined = Self::default();
        let mut jumps = Vec::new();
        for clock in clocks {
            joined.from_ms = joined.from_ms.into_iter().chain(clock.from_ms).min();
            jumps.extend(clock.jumps);
        }
        jumps.sort_unstable_by_key(|jump| jump.from_ms);
        jumps.into_iter().for_each(|jump| joined.push(jump));
        joined
    }

    fn push(&mut self, jump: Jump) {
        self.jumps.push(jump);
        while self.jumps.len() > JUMPS_MAX {
            let oldest = self.jumps.remove(0);
            let Some(next) = self.jumps.first_mut() else {
                break;
            };
            *next = Jump {
                from_ms: oldest.from_ms.min(next.from_ms),
                to_ms: oldest.to_ms.max(next.to_ms),
                by_ms: oldest.by_ms.max(next.by_ms),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn a_wall_clock_in_the_year_2100_is_reported_and_not_followed_for_an_hour() {
        let mut clock = AppendClock::start(Some(1_000), Behind::default(), Duration::ZERO, 1_000);
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
        let mut clock = AppendClock::start(None, Behind::default(), Duration::ZERO, 100 * MINUTE);
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
        let mut clock = AppendClock::start(None, Behind::default(), Duration::ZERO, 0);
        assert_eq!(
            clock.observe(Duration::from_secs(1), 4 * MINUTE),
            WallClock::Followed
        );
        assert_eq!(clock.now(), Timestamp(4 * MINUTE));
    }

    #[test]
    fn it_advances_with_the_monotonic_clock_while_the_wall_clock_stands() {
        let mut clock = AppendClock::start(None, Behind::default(), Duration::ZERO, 0);
        clock.observe(Duration::from_millis(1), 0);
        clock.observe(Duration::from_millis(1_500), 0);
        assert_eq!(clock.now(), Timestamp(1_500));
    }

    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    /// When the broker was stopped.
    const FRIDAY: i64 = 1_000 * DAY;
    const MONDAY: i64 = FRIDAY + 60 * HOUR;

    fn time(ms: i64) -> Duration {
        Duration::from_millis(ms.unsigned_abs())
    }

    /// A broker that was stopped on Friday and started on Monday has followed the wall clock after an hour.
    fn after_the_weekend() -> AppendClock {
        let mut clock = AppendClock::start(Some(FRIDAY), Behind::default(), Duration::ZERO, MONDAY);
        for minute in 0..=60 {
            clock.observe(time(minute * MINUTE), MONDAY + minute * MINUTE);
        }
        assert_eq!(clock.now(), Timestamp(MONDAY + HOUR));
        clock
    }

    #[test]
    fn what_was_stamped_while_the_clock_was_behind_is_aged_by_the_time_that_really_passed() {
        let mut clock = after_the_weekend();
        // Stamped half an hour after the start.
        let fresh = Timestamp(FRIDAY + HOUR / 2);
        assert!(clock.stamped_before(DAY) <= fresh);
        assert_eq!(
            clock.expires_at(fresh, DAY),
            Timestamp(MONDAY + HOUR / 2 + DAY + 1)
        );
        clock.observe(time(DAY + HOUR / 2), MONDAY + DAY + HOUR / 2);
        assert!(clock.stamped_before(DAY) <= fresh);
        clock.observe(time(DAY + HOUR / 2 + 1), MONDAY + DAY + HOUR / 2 + 1);
        assert!(clock.stamped_before(DAY) > fresh);
    }

    #[test]
    fn what_was_stamped_before_the_weekend_is_as_old_as_it_looks() {
        let clock = after_the_weekend();
        assert_eq!(clock.stamped_before(DAY), Timestamp(FRIDAY));
        let friday_noon = Timestamp(FRIDAY - HOUR);
        assert_eq!(
            clock.expires_at(friday_noon, DAY),
            Timestamp(FRIDAY - HOUR + DAY + 1)
        );
    }

    #[test]
    fn a_restart_while_the_clock_is_behind_forgets_nothing_of_it() {
        let mut clock = AppendClock::start(Some(FRIDAY), Behind::default(), Duration::ZERO, MONDAY);
        clock.observe(Duration::ZERO, MONDAY);
        clock.observe(time(HOUR / 2), MONDAY + HOUR / 2);
        let (kept, behind) = (clock.now(), clock.behind().clone());
        let mut clock = AppendClock::start(Some(kept.0), behind, Duration::ZERO, MONDAY + HOUR / 2);
        for minute in 0..=60 {
            clock.observe(time(minute * MINUTE), MONDAY + HOUR / 2 + minute * MINUTE);
        }
        assert_eq!(clock.now(), Timestamp(MONDAY + HOUR + HOUR / 2));
        assert!(clock.stamped_before(DAY) <= Timestamp(FRIDAY));
    }

    #[test]
    fn a_wall_clock_that_comes_back_leaves_no_trace() {
        let mut clock = AppendClock::start(None, Behind::default(), Duration::ZERO, FRIDAY);
        clock.observe(time(MINUTE), FRIDAY + 100 * DAY);
        clock.observe(time(2 * MINUTE), FRIDAY + 2 * MINUTE);
        assert_eq!(clock.behind(), &Behind::default());
    }

    #[test]
    fn an_operator_who_trusts_the_wall_clock_need_not_wait_for_the_hour() {
        let mut clock = AppendClock::start(Some(FRIDAY), Behind::default(), Duration::ZERO, MONDAY);
        clock.follow(MONDAY);
        assert_eq!(clock.now(), Timestamp(MONDAY));
        assert_eq!(clock.observe(time(1), MONDAY + 1), WallClock::Followed);
        assert_eq!(clock.stamped_before(DAY), Timestamp(FRIDAY));
    }

    #[test]
    fn what_a_crash_kept_from_the_checkpoint_counts_as_stamped_while_the_clock_was_behind() {
        let mut clock = AppendClock::start(Some(FRIDAY), Behind::default(), Duration::ZERO, MONDAY);
        clock.raise_to(Timestamp(FRIDAY + HOUR));
        clock.observe(Duration::ZERO, MONDAY);
        clock.follow(MONDAY);
        assert!(clock.stamped_before(HOUR) <= Timestamp(FRIDAY));
    }

    #[test]
    fn jumps_beyond_the_bound_make_nothing_expire_earlier() {
        let jump = |number: i64| Jump {
            from_ms: number * 10 * DAY,
            to_ms: number * 10 * DAY + HOUR,
            by_ms: (number % 3 + 1) * DAY,
        };
        let mut behind = Behind::default();
        (0..40).for_each(|number| behind.push(jump(number)));
        assert_eq!(behind.jumps.len(), JUMPS_MAX);
        let clock = AppendClock::start(Some(1_000 * DAY), behind, Duration::ZERO, 0);
        for number in 0..40 {
            let Jump { from_ms, by_ms, .. } = jump(number);
            let due = clock.expires_at(Timestamp(from_ms), DAY).0;
            assert!(due > from_ms + by_ms + DAY, "jump {number}");
        }
    }

    #[test]
    fn the_cutoff_and_the_time_of_expiry_agree_on_every_stamp() {
        let behind = Behind {
            from_ms: None,
            jumps: vec![
                Jump {
                    from_ms: 100,
                    to_ms: 110,
                    by_ms: 50,
                },
                Jump {
                    from_ms: 200,
                    to_ms: 205,
                    by_ms: 30,
                },
            ],
        };
        // Those that the clock could give: none lies inside of a jump.
        let stamps = (0..=110).chain(161..=205).chain(236..300);
        for now in 0..400 {
            let clock = AppendClock::start(Some(now), behind.clone(), Duration::ZERO, now);
            let before = clock.stamped_before(20).0;
            for stamp in stamps.clone() {
                let due = clock.expires_at(Timestamp(stamp), 20).0;
                assert_eq!(stamp < before, now >= due, "stamp {stamp} at {now}");
            }
        }
    }
}
