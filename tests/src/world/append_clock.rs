//! What the brokers' append clocks can show, by what was done to the wall clock: between the two bounds lies how old retention may take a batch to be.
//!
//! An append clock advances with the monotonic one and never goes back while its broker lives. It follows a wall clock that is a little ahead at once,
//! and one that is far off not at all, as long as that is not so for an hour. At a start it goes on from what a checkpoint kept, of the start before at the
//! least, and then follows. So nothing brings it above the highest wall clock that it followed; and only while the wall clock is far off it falls behind, by
//! the time since that start.

use gannet_engine::storage::append_clock::FOLLOW_MS_MAX;

/// See the module's text. Times are those of the simulated monotonic clock; the wall clock began together with it.
pub(super) struct AppendClockBounds {
    wall_ahead_ms: i64,
    /// The furthest that an append clock can be ahead of the monotonic one.
    ahead_ms_max: i64,
    /// How far it is ahead at least, from when on, the first from the beginning.
    ahead_ms_mins: Vec<(u64, i64)>,
    /// When the newest broker's start began, and how far ahead its clock was then at least.
    start: (u64, i64),
}

impl Default for AppendClockBounds {
    fn default() -> Self {
        Self {
            wall_ahead_ms: 0,
            ahead_ms_max: 0,
            ahead_ms_mins: vec![(0, 0)],
            start: (0, 0),
        }
    }
}

impl AppendClockBounds {
    /// The wall clock jumped.
    pub(super) fn wall_jumped(&mut self, by_ms: i64, now_ms: u64) {
        self.wall_ahead_ms += by_ms;
        let ahead_ms = self.ahead_ms_min();
        self.follow(ahead_ms, now_ms);
    }

    /// A broker has started.
    pub(super) fn started(&mut self, began_ms: u64, now_ms: u64) {
        let (before_ms, ahead_ms) = self.start;
        let kept_ms = signed(before_ms) + ahead_ms;
        self.follow(kept_ms - signed(now_ms), now_ms);
        self.start = (began_ms, self.ahead_ms_min());
    }

    /// The earliest stamp that a batch can have that is appended now: that of the first one of its commit, which a write in flight may hold up.
    pub(super) fn stamp_ms_min(&self, now_ms: u64) -> i64 {
        let stamped_ms = now_ms.saturating_sub(COMMIT_MS_MAX);
        let known_before = self
            .ahead_ms_mins
            .partition_point(|(from_ms, _)| *from_ms <= stamped_ms);
        let in_force = self.ahead_ms_mins.get(known_before.saturating_sub(1)..);
        let ahead_ms = in_force.and_then(|mins| mins.iter().map(|(_, min)| *min).min());
        signed(stamped_ms) + ahead_ms.unwrap_or(0)
    }

    /// The latest that an append clock can show now.
    pub(super) fn now_ms_max(&self, now_ms: u64) -> i64 {
        signed(now_ms) + self.ahead_ms_max
    }

    /// The clock is `ahead_ms` ahead at least, or more where it follows the wall clock.
    fn follow(&mut self, mut ahead_ms: i64, now_ms: u64) {
        if (self.wall_ahead_ms - ahead_ms).abs() <= FOLLOW_MS_MAX {
            ahead_ms = ahead_ms.max(self.wall_ahead_ms);
            self.ahead_ms_max = self.ahead_ms_max.max(self.wall_ahead_ms);
        }
        if ahead_ms != self.ahead_ms_min() {
            self.ahead_ms_mins.push((now_ms, ahead_ms));
        }
    }

    fn ahead_ms_min(&self) -> i64 {
        self.ahead_ms_mins.last().map_or(0, |(_, min)| *min)
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// The longest that a batch waits for its commit while the disk is slow.
const COMMIT_MS_MAX: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// How old a batch of `at_ms` can be taken to be at `now_ms`, beside what it waited for its commit.
    fn overstated_ms(clock: &AppendClockBounds, stamp_ms: i64, at_ms: u64, now_ms: u64) -> i64 {
        let age_ms = clock.now_ms_max(now_ms) - stamp_ms;
        age_ms - signed(now_ms - at_ms) - signed(COMMIT_MS_MAX)
    }

    #[test]
    fn a_batch_is_as_old_as_it_is_while_nobody_sets_the_clock() {
        let mut clock = AppendClockBounds::default();
        clock.started(0, 10);
        let stamp = clock.stamp_ms_min(1_000);
        clock.started(5_000, 5_010);
        assert_eq!(overstated_ms(&clock, stamp, 1_000, 9_000), 0);
    }

    #[test]
    fn a_small_jump_ages_what_was_stamped_before_it_and_nothing_else() {
        let mut clock = AppendClockBounds::default();
        clock.started(0, 10);
        let before = clock.stamp_ms_min(1_000);
        clock.wall_jumped(700, 1_001);
        let held_up = clock.stamp_ms_min(1_010);
        let after = clock.stamp_ms_min(2_000);
        assert_eq!(overstated_ms(&clock, before, 1_000, 9_000), 700);
        assert_eq!(overstated_ms(&clock, held_up, 1_010, 9_000), 700);
        assert_eq!(overstated_ms(&clock, after, 2_000, 9_000), 0);
    }

    #[test]
    fn a_jump_of_an_hour_alone_ages_nothing() {
        let mut clock = AppendClockBounds::default();
        clock.started(0, 10);
        for by_ms in [3_600_000, -3_600_000, -3_600_000, 3_600_000] {
            clock.wall_jumped(by_ms, 1_000);
            let stamp = clock.stamp_ms_min(2_000);
            assert_eq!(overstated_ms(&clock, stamp, 2_000, 9_000), 0);
        }
    }

    #[test]
    fn a_start_while_the_wall_clock_is_far_off_falls_behind_by_the_time_since_the_start_before() {
        let mut clock = AppendClockBounds::default();
        clock.started(100, 110);
        clock.wall_jumped(3_600_000, 1_000);
        clock.started(4_000, 4_010);
        let stamp = clock.stamp_ms_min(6_000);
        clock.wall_jumped(-3_600_000, 7_000);
        assert_eq!(overstated_ms(&clock, stamp, 6_000, 9_000), 4_010 - 100);
        let stamp = clock.stamp_ms_min(8_000);
        assert_eq!(overstated_ms(&clock, stamp, 8_000, 9_000), 0);
    }
}
