//! Retention goes by the append clock, whatever the clocks of producers and of the machine say.

use gannet_wire::Timestamp;
use gannet_wire::batch::{BatchBuilder, Compression};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
/// 2100-01-01.
const YEAR_2100: Timestamp = Timestamp(4_102_444_800_000);
const USUAL: Timestamp = Timestamp(1_000);
const CENTURY_MS: i64 = 100 * 365 * 24 * 60 * 60 * 1000;

impl World {
    /// Appends a record to the topic that keeps an hour, with that time of its producer's.
    fn append(&self, producers: Timestamp) {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        builder.push(producers, None, Some(b"value"), &[]).unwrap();
        self.send_batch(EXPIRES, 0, builder.build(Compression::None, None));
        self.run(Duration::from_millis(50));
    }

    /// Goes on until so many minutes have passed since the beginning.
    fn until_minute(&self, minute: u32) {
        self.run(minute * MINUTE - self.executor.clock().monotonic());
    }

    /// What the log begins with in each of these minutes.
    fn assert_log_starts(&self, expected: &[(u32, u64)]) {
        for (minute, offset) in expected {
            self.until_minute(*minute);
            let log_start = self.slot(EXPIRES, 0).state.borrow().log_start();
            assert_eq!(log_start, Offset(*offset), "after {minute} minutes");
        }
    }
}

#[test]
fn a_record_of_the_year_2100_goes_when_its_hour_is_over_and_its_neighbours_when_theirs_is() {
    let world = World::new();
    // So far apart that each lies in a segment of its own.
    world.append(USUAL);
    world.until_minute(20);
    world.append(YEAR_2100);
    world.until_minute(40);
    world.append(USUAL);
    assert_eq!(world.acknowledged(), 3);
    world.assert_log_starts(&[(59, 0), (62, 1), (79, 1), (82, 2), (99, 2), (102, 3)]);
    world.assert_sound();
}

#[test]
fn a_record_of_the_year_2100_takes_nobody_with_it_that_lies_in_its_segment() {
    let world = World::new();
    world.append(USUAL);
    world.append(YEAR_2100);
    world.append(USUAL);
    world.flushed();
    world.assert_log_starts(&[(59, 0), (62, 3)]);
    world.assert_sound();
}

#[test]
fn a_wall_clock_that_goes_a_century_ahead_and_comes_back_makes_nothing_expire_early() {
    let world = World::new();
    world.append(USUAL);
    world.until_minute(10);
    world.executor.clock().jump_wall_ms(CENTURY_MS);
    world.until_minute(20);
    world.append(USUAL);
    world.assert_log_starts(&[(55, 0)]);
    world.executor.clock().jump_wall_ms(-CENTURY_MS);
    world.assert_log_starts(&[(59, 0), (62, 1), (79, 1), (82, 2)]);
    world.assert_sound();
}

#[test]
fn a_wall_clock_that_goes_back_keeps_nothing_longer() {
    let world = World::new();
    world.append(USUAL);
    world.until_minute(10);
    let hours = i64::try_from(5 * HOUR.as_millis()).unwrap();
    world.executor.clock().jump_wall_ms(-hours);
    world.until_minute(20);
    world.append(USUAL);
    world.assert_log_starts(&[(59, 0), (62, 1), (79, 1), (82, 2)]);
    world.assert_sound();
}

#[test]
fn records_keep_their_hour_when_the_clock_follows_a_wall_clock_that_stays_a_century_ahead() {
    let world = World::new();
    world.append(USUAL);
    world.until_minute(10);
    world.executor.clock().jump_wall_ms(CENTURY_MS);
    world.until_minute(20);
    world.append(USUAL);
    let now = || world.log.append_clock.borrow().now().0;
    let before = now();
    // It follows when the wall clock has been there for an hour: in minute 70.
    world.assert_log_starts(&[(59, 0), (62, 1), (75, 1)]);
    assert!(now() - before > CENTURY_MS / 2, "it has not followed");
    world.append(USUAL);
    world.assert_log_starts(&[(79, 1), (82, 2), (134, 2), (137, 3)]);
    world.assert_sound();
}

#[test]
fn a_start_on_a_machine_that_woke_up_a_century_later_makes_nothing_expire_early() {
    let world = World::new();
    world.append(USUAL);
    world.flushed();
    world.executor.clock().jump_wall_ms(CENTURY_MS);
    let world = world.killed();
    world.assert_log_starts(&[(59, 0), (62, 1)]);
    world.assert_sound();
}
