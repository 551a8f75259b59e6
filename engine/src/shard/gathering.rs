//! Whether a commit begins at once or waits for company.

use std::cell::Cell;
use std::time::Duration;

/// While publishes keep coming, a commit for each would cost more writes, system calls and wake-ups, here and at the clients, than the records themselves.
/// So in a crowd commits begin at a distance; a publish that finds nobody waiting is committed at once.
pub(super) struct Gathering {
    /// The largest distance between the beginnings of two commits.
    interval: Duration,
    /// When the newest commit began.
    began_at: Cell<Duration>,
    /// Whether something was waiting already when the last write ended: more is likely to come.
    crowded: Cell<bool>,
    /// Whether a sender of what waits does not wait for its acknowledgements.
    more_expected: Cell<bool>,
    arrivals_seen: Cell<u64>,
    arrived_at: Cell<Duration>,
}

impl Gathering {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            began_at: Cell::new(Duration::ZERO),
            crowded: Cell::new(false),
            more_expected: Cell::new(false),
            arrivals_seen: Cell::new(0),
            arrived_at: Cell::new(Duration::ZERO),
        }
    }

    /// A sender of what waits has others on their way: it does not wait for this commit's acknowledgements before it sends more.
    pub(super) fn expect_more(&self) {
        self.more_expected.set(true);
    }

    /// `arrivals`: a number that grows with each.
    pub(super) fn look(&self, arrivals: u64, now: Duration) {
        if self.arrivals_seen.replace(arrivals) != arrivals {
            self.arrived_at.set(now);
        }
    }

    /// A commit begins. `all_taken`: nothing waits any more.
    pub(super) fn begins(&self, now: Duration, all_taken: bool) {
        self.began_at.set(now);
        if all_taken {
            self.more_expected.set(false);
        }
    }

    /// A commit was written. `waiting`: something else waits already.
    pub(super) fn ended(&self, waiting: bool) {
        self.crowded.set(waiting);
    }

    /// How long the next small commit waits still; `None`: it begins.
    pub(super) fn hold(&self, now: Duration) -> Option<Duration> {
        if !self.crowded.get() {
            return None;
        }
        let began_at = self.began_at.get();
        // By then those have sent who wait for their acknowledgements first.
        let short = began_at + self.interval / SHORT_HOLDS_PER_INTERVAL;
        let until = if self.more_expected.get() {
            let pause = self.arrived_at.get() + self.interval / PAUSES_PER_INTERVAL;
            pause.clamp(short, began_at + self.interval)
        } else {
            short
        };
        let left = until.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }
}

/// The part of the interval that a commit waits when everybody waits for it.
const SHORT_HOLDS_PER_INTERVAL: u32 = 4;
/// A pause of this part says that those who send on have stopped, such as at the end of a client's window. A quarter cost clients with
/// small windows twice as much throughput, and gained nothing for those that send at a steady rate.
const PAUSES_PER_INTERVAL: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// At 10 ms a commit begins, and while it is written something arrives.
    fn crowd() -> Gathering {
        let gathering = Gathering::new(1000 * US);
        gathering.begins(10_000 * US, true);
        gathering.look(1, 10_050 * US);
        gathering.ended(true);
        gathering
    }

    #[test]
    fn what_finds_nobody_waiting_is_committed_at_once() {
        let gathering = crowd();
        gathering.expect_more();
        gathering.ended(false);
        assert_eq!(gathering.hold(10_100 * US), None);
    }

    #[test]
    fn where_everybody_waits_for_the_commit_it_begins_after_a_quarter() {
        let gathering = crowd();
        assert_eq!(gathering.hold(10_100 * US), Some(150 * US));
        gathering.look(2, 10_200 * US);
        assert_eq!(gathering.hold(10_249 * US), Some(1 * US));
        assert_eq!(gathering.hold(10_250 * US), None);
    }

    #[test]
    fn a_steady_stream_is_committed_once_in_an_interval() {
        let gathering = crowd();
        gathering.expect_more();
        for number in 2..=10 {
            let now = (10_000 + 100 * u32::try_from(number).unwrap()) * US;
            if number < 10 {
                gathering.look(number, now);
                assert!(gathering.hold(now).is_some(), "{number}");
            } else {
                assert_eq!(gathering.hold(now), None);
            }
        }
    }

    #[test]
    fn a_stream_that_pauses_is_not_waited_for() {
        let gathering = crowd();
        gathering.expect_more();
        gathering.look(2, 10_400 * US);
        let left = gathering.hold(10_400 * US).unwrap();
        assert!(left < 200 * US, "{left:?}");
        assert_eq!(gathering.hold(10_400 * US + left), None);
        // What came early does not shorten what everybody is given.
        let early = crowd();
        early.expect_more();
        assert_eq!(early.hold(10_050 * US), Some(200 * US));
    }

    #[test]
    fn a_stream_is_forgotten_with_the_commit_that_takes_all_of_it() {
        let gathering = crowd();
        gathering.expect_more();
        gathering.begins(10_500 * US, false);
        gathering.look(2, 10_700 * US);
        assert!(gathering.hold(10_760 * US).is_some());
        gathering.begins(11_000 * US, true);
        gathering.look(3, 11_200 * US);
        assert_eq!(gathering.hold(11_260 * US), None);
    }

    #[test]
    fn without_an_interval_nothing_waits() {
        let gathering = Gathering::new(Duration::ZERO);
        gathering.begins(10_000 * US, true);
        gathering.look(1, 10_000 * US);
        gathering.ended(true);
        gathering.expect_more();
        assert_eq!(gathering.hold(10_000 * US), None);
    }
}
