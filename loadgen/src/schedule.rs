//! When each record of an open-loop run should leave, whatever the broker does.

/// The times at which one of several producers should send, so that together they send at a steady rate.
///
/// The producers take turns: record `g` of the whole run is due `g / rate` seconds after the start and belongs to producer `g % producers`. A time follows from the record's number
/// alone, so a stall neither moves nor drops a later one: latency counted from it shows the stall.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start_ns: u64,
    records_per_s: u64,
    producers: u32,
    producer: u32,
}

impl Schedule {
    /// The schedule of producer `producer` of `producers`.
    ///
    /// # Panics
    /// When the rate is zero or there is no such producer: the plan of a run has neither.
    #[must_use]
    pub fn new(start_ns: u64, records_per_s: u64, producers: u32, producer: u32) -> Self {
        assert!(records_per_s > 0, "a rate of nothing has no schedule");
        assert!(producer < producers, "producer {producer} of {producers}");
        Self {
            start_ns,
            records_per_s,
            producers,
            producer,
        }
    }

    /// When this producer's record number `index` (from 0) should leave, in nanoseconds of the run's clock.
    #[must_use]
    #[inline]
    pub fn intended_ns(&self, index: u64) -> u64 {
        let global = u128::from(index) * u128::from(self.producers) + u128::from(self.producer);
        let after = global * 1_000_000_000 / u128::from(self.records_per_s);
        self.start_ns
            .saturating_add(u64::try_from(after).unwrap_or(u64::MAX))
    }
}

/// How much of a record's lateness is the sender's own.
///
/// A sender is behind its schedule because it woke up late, or because the client or the broker held it back. What was due before it woke is late by its own doing, up to the time at
/// which it woke; whatever comes on top is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnLateness {
    woke_ns: u64,
}

impl OwnLateness {
    /// The sender slept, having nothing to do, and is awake again.
    pub fn woke(&mut self, now_ns: u64) {
        self.woke_ns = now_ns;
    }

    /// The sender's own part of the lateness of a record, in nanoseconds.
    #[must_use]
    #[inline]
    pub fn of(&self, intended_ns: u64) -> u64 {
        self.woke_ns.saturating_sub(intended_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_producer_sends_at_even_distances() {
        let schedule = Schedule::new(500, 10_000, 1, 0);
        assert_eq!(
            [0, 1, 2].map(|index| schedule.intended_ns(index)),
            [500, 100_500, 200_500]
        );
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let schedule = Schedule::new(0, 3, 1, 0);
        assert_eq!(
            schedule.intended_ns(3_000_000_000),
            1_000_000_000_000_000_000
        );
    }

    #[test]
    fn what_was_due_while_the_sender_slept_too_long_is_late_by_its_own_doing() {
        let mut lateness = OwnLateness::default();
        lateness.woke(1_500);
        assert_eq!(
            [1_000, 1_400, 1_500, 1_600].map(|due| lateness.of(due)),
            [500, 100, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn producers_together_keep_the_rate(rate in 1..10_000_000_u64, producers in 1..20_u32, seconds in 1..5_u64) {
            // Of all producers together, exactly `rate` records are due in each second.
            let end_ns = seconds * 1_000_000_000;
            let due: u64 = (0..producers)
                .map(|producer| {
                    let schedule = Schedule::new(0, rate, producers, producer);
                    // How many of its records are due before the end, by bisection.
                    let (mut low, mut high) = (0, rate * seconds + 1);
                    while low < high {
                        let middle = low + (high - low) / 2;
                        if schedule.intended_ns(middle) < end_ns { low = middle + 1 } else { high = middle }
                    }
                    low
                })
                .sum();
            prop_assert_eq!(due, rate * seconds);
        }

        #[test]
        fn times_never_go_back(rate in 1..u64::MAX, producers in 1..20_u32, index in 0..u64::MAX - 1) {
            let schedule = Schedule::new(0, rate, producers, producers - 1);
            prop_assert!(schedule.intended_ns(index) <= schedule.intended_ns(index + 1));
        }
    }
}
