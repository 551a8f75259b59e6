//! Whether a commit begins at once or waits for company.

use std::cell::Cell;
use std::time::Duration;

/// While publishes keep coming, a commit for each would cost more writes, system calls and wake-ups, here and at the clients, than the records themselves.
/// So in a crowd commits begin at a distance; a publish that finds nobody waiting is committed at once.
pub(super) struct Gathering {
    /// The largest distance between the beginnings of two commits that follow each other.
    interval: Duration,
    /// When the newest commit began.
    began_at: Cell<Duration>,
    /// Whether something was waiting already when the last write ended: more is likely to come.
    crowded: Cell<bool>,
    /// Whether something waits whose sender sends nothing else before it has its answer.
    awaited: Cell<bool>,
    /// When a sender that does not wait for answers last sent.
    streamed_at: Cell<Duration>,
}

impl Gathering {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            began_at: Cell::new(Duration::ZERO),
            crowded: Cell::new(false),
            awaited: Cell::new(false),
            streamed_at: Cell::new(Duration::ZERO),
        }
    }

    /// Something waits whose sender waits as well.
    pub(super) fn awaited(&self) {
        self.awaited.set(true);
    }

    /// A batch waits whose sender has others on their way: it sends more before it hears of this one.
    pub(super) fn streamed(&self, now: Duration) {
        self.streamed_at.set(now);
    }

    /// A commit begins. `all_taken`: nothing waits any more.
    pub(super) fn begins(&self, now: Duration, all_taken: bool) {
        self.began_at.set(now);
        if all_taken {
            self.awaited.set(false);
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
        // By then those have sent who wait for their answers first.
        let short = began_at + self.interval / SHORT_HOLDS_PER_INTERVAL;
        let until = if self.awaited.get() {
            short
        } else {
            let pause = self.streamed_at.get() + self.interval / PAUSES_PER_INTERVAL;
            pause.clamp(short, began_at + self.interval)
        };
        let left = until.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }
}

/// The part of the interval that a commit waits when somebody waits for it.
const SHORT_HOLDS_PER_INTERVAL: u32 = 4;
/// A pause of this part says that those who send on have stopped, such as at the end of a client's window. With a quarter, clients with
/// small windows lost about twice as much throughput, and those that send at a steady rate gained nothing.
const PAUSES_PER_INTERVAL: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// At 10 ms a commit begins, and while it is written something arrives.
    fn crowd() -> Gathering {
        let gathering = Gathering::new(1000 * US);
        gathering.begins(10_000 * US, true);
        gathering.ended(true);
        gathering
    }

    #[test]
    fn what_finds_nobody_waiting_is_committed_at_once() {
        let gathering = crowd();
        gathering.streamed(10_050 * US);
        gathering.ended(false);
        assert_eq!(gathering.hold(10_100 * US), None);
    }

    #[test]
    fn where_somebody_waits_the_commit_begins_after_a_quarter() {
        let gathering = crowd();
        gathering.awaited();
        assert_eq!(gathering.hold(10_100 * US), Some(150 * US));
        gathering.streamed(10_200 * US);
        assert_eq!(gathering.hold(10_249 * US), Some(US));
        assert_eq!(gathering.hold(10_250 * US), None);
    }

    #[test]
    fn a_steady_stream_is_committed_once_in_an_interval() {
        let gathering = crowd();
        for now_us in (10_100..11_000).step_by(100) {
            gathering.streamed(now_us * US);
            assert!(gathering.hold(now_us * US).is_some(), "{now_us}");
        }
        gathering.streamed(11_000 * US);
        assert_eq!(gathering.hold(11_000 * US), None);
    }

    #[test]
    fn a_stream_that_pauses_is_not_waited_for() {
        let gathering = crowd();
        gathering.streamed(10_400 * US);
        let left = gathering.hold(10_400 * US).unwrap();
        assert!(left < 200 * US, "{left:?}");
        assert_eq!(gathering.hold(10_400 * US + left), None);
        // What came early does not shorten what everybody is given.
        let early = crowd();
        early.streamed(10_050 * US);
        assert_eq!(early.hold(10_050 * US), Some(200 * US));
    }

    #[test]
    fn who_waits_is_forgotten_with_the_commit_that_takes_everything() {
        let gathering = crowd();
        gathering.awaited();
        gathering.begins(10_500 * US, false);
        gathering.streamed(10_760 * US);
        assert_eq!(gathering.hold(10_760 * US), None);
        gathering.begins(11_000 * US, true);
        gathering.streamed(11_260 * US);
        assert!(gathering.hold(11_260 * US).is_some());
    }

    #[test]
    fn without_an_interval_nothing_waits() {
        let gathering = Gathering::new(Duration::ZERO);
        gathering.begins(10_000 * US, true);
        gathering.ended(true);
        gathering.streamed(10_000 * US);
        assert_eq!(gathering.hold(10_000 * US), None);
    }
}
