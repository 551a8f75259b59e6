//! Who of those that wait for a connection's room has it next.
//!
//! First come, first served, but for those whose next bytes lie in a segment that many partitions share. These go through it side by side, whoever is furthest behind first: what one reads of a chunk
//! is there for its neighbours too, and for none of them if each is somewhere else. The first of them is passed by a few at most, so each has its turn in the end, and who reads
//! from memory or from a segment of its own has every second turn. Where one reads is what it was when it came.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use crate::storage::SegmentId;

/// Where a delivery is read, in a segment that partitions share. Their order is the one in which they are gone through: segments are written one after the other,
/// but for what a merge has put behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedPlace {
    /// The segment.
    pub segment: SegmentId,
    /// A byte of it.
    pub position: u64,
}

/// When one came: it names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrival(u64);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Queue {
    arrived: u64,
    /// Who reads from memory or from a segment of its own.
    alone: BTreeMap<Arrival, Waker>,
    sharing: BTreeMap<Arrival, Sharing>,
    by_place: BTreeSet<(SharedPlace, Arrival)>,
    /// Whether the last turn was one of those who share.
    shared_last: bool,
}

#[derive(Debug)]
struct Sharing {
    place: SharedPlace,
    /// How many that are further behind had a turn while it was the first.
    passed: u32,
    waker: Waker,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.alone.is_empty() && self.sharing.is_empty()
    }

    /// Joins the queue.
    pub(super) fn enter(&mut self, place: Option<SharedPlace>, waker: Waker) -> Arrival {
        let arrival = Arrival(self.arrived);
        self.arrived += 1;
        match place {
            None => {
                self.alone.insert(arrival, waker);
            }
            Some(place) => {
                self.by_place.insert((place, arrival));
                let sharing = Sharing {
                    place,
                    passed: 0,
                    waker,
                };
                self.sharing.insert(arrival, sharing);
            }
        }
        arrival
    }

    /// Leaves it without a turn, or behind it.
    pub(super) fn leave(&mut self, arrival: Arrival) {
        self.alone.remove(&arrival);
        if let Some(sharing) = self.sharing.remove(&arrival) {
            self.by_place.remove(&(sharing.place, arrival));
        }
    }

    /// Whom to wake when its turn comes.
    pub(super) fn set_waker(&mut self, arrival: Arrival, waker: &Waker) {
        let known = match self.sharing.get_mut(&arrival) {
            Some(sharing) => Some(&mut sharing.waker),
            None => self.alone.get_mut(&arrival),
        };
        if let Some(known) = known {
            known.clone_from(waker);
        }
    }

    /// Whose turn it is, and whom that wakes. It stays in the queue until it leaves, and the turn counts when it was taken: there may be no room by then.
    pub(super) fn next(&self) -> Option<(Arrival, &Waker)> {
        let alone = self.alone.first_key_value();
        let alone = alone.map(|(arrival, waker)| (*arrival, waker));
        if self.shared_last {
            alone.or_else(|| self.next_sharing())
        } else {
            self.next_sharing().or(alone)
        }
    }

    fn next_sharing(&self) -> Option<(Arrival, &Waker)> {
        let (&first, sharing) = self.sharing.first_key_value()?;
        let &(_, lowest) = self.by_place.first()?;
        let next = if sharing.passed < PASSED_MAX {
            lowest
        } else {
            first
        };
        Some((next, &self.sharing.get(&next)?.waker))
    }

    /// It has had its turn, and leaves.
    pub(super) fn took(&mut self, arrival: Arrival) {
        self.shared_last = self.sharing.contains_key(&arrival);
        if self.shared_last
            && let Some(mut first) = self.sharing.first_entry()
            && *first.key() != arrival
        {
            first.get_mut().passed += 1;
        }
        self.leave(arrival);
    }
}

/// So many that are further behind have their turn before the one that came first: it goes on at a seventeenth of their pace at least.
const PASSED_MAX: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u64, position: u64) -> Option<SharedPlace> {
        Some(SharedPlace {
            segment: SegmentId(segment),
            position,
        })
    }

    /// The order in which all have their turns, each leaving with it.
    fn turns(queue: &mut Queue) -> Vec<u64> {
        let mut turns = Vec::new();
        while let Some((arrival, _)) = queue.next() {
            queue.took(arrival);
            turns.push(arrival.0);
        }
        assert!(queue.is_empty());
        turns
    }

    fn queue(places: &[Option<SharedPlace>]) -> Queue {
        let mut queue = Queue::default();
        for place in places {
            queue.enter(*place, Waker::noop().clone());
        }
        queue
    }

    #[test]
    fn who_shares_nothing_comes_in_order() {
        assert_eq!(turns(&mut queue(&[None, None, None])), [0, 1, 2]);
    }

    #[test]
    fn who_is_furthest_behind_in_shared_segments_comes_first() {
        let places = [place(2, 0), place(1, 9), place(1, 4), place(2, 0)];
        assert_eq!(turns(&mut queue(&places)), [2, 1, 0, 3]);
    }

    #[test]
    fn who_shares_nothing_has_every_second_turn() {
        let places = [place(1, 1), place(1, 2), place(1, 3), None, None];
        assert_eq!(turns(&mut queue(&places)), [0, 3, 1, 4, 2]);
    }

    #[test]
    fn the_first_is_passed_a_bounded_number_of_times_by_one_that_comes_again_and_again() {
        let mut queue = queue(&[place(7, 0)]);
        let mut passed = 0;
        loop {
            queue.enter(place(1, passed), Waker::noop().clone());
            let (arrival, _) = queue.next().unwrap();
            queue.took(arrival);
            if arrival == Arrival(0) {
                break;
            }
            passed += 1;
        }
        assert_eq!(passed, u64::from(PASSED_MAX));
    }

    #[test]
    fn a_turn_that_was_not_taken_does_not_count() {
        let queue = queue(&[place(1, 0), None]);
        for _ in 0..100 {
            let (arrival, _) = queue.next().unwrap();
            assert_eq!(arrival, Arrival(0));
        }
    }

    #[test]
    fn who_leaves_without_a_turn_is_not_chosen() {
        let mut queue = queue(&[place(1, 0), None, place(1, 1)]);
        queue.leave(Arrival(0));
        queue.leave(Arrival(1));
        assert_eq!(turns(&mut queue), [2]);
    }
}
