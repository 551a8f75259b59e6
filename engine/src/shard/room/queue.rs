//! Who of those that wait for a connection's room has it next.
//!
//! First come, first served, but for those whose next bytes lie in a segment that many partitions share. These go through it side by side, whoever is furthest behind first: what one reads of a chunk
//! is there for its neighbours too, and for none of them if each is somewhere else. Nobody is passed by more than a few of them before its turn comes, and who reads
//! from memory or from a segment of its own has every second turn.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use crate::storage::SegmentId;

/// Where a delivery is read, in a segment that partitions share. Their order is the one in which they are gone through: segments are written one after the other.
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
    next: u64,
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
    /// How many came after it, or stood behind it, and had a turn while it was the first.
    passed: u32,
    waker: Waker,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.alone.is_empty() && self.sharing.is_empty()
    }

    /// Joins the queue.
    pub(super) fn enter(&mut self, place: Option<SharedPlace>, waker: Waker) -> Arrival {
        let arrival = Arrival(self.next);
        self.next += 1;
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

    /// Leaves it, with or without a turn.
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

    /// Whose turn it is, and whom that wakes. It stays in the queue until it leaves.
    pub(super) fn choose(&mut self) -> Option<(Arrival, Waker)> {
        let alone = self.alone.first_key_value();
        let alone = alone.map(|(arrival, waker)| (*arrival, waker.clone()));
        let has_turn = self.shared_last || self.sharing.is_empty();
        let chosen = match alone {
            Some(alone) if has_turn => {
                self.shared_last = false;
                return Some(alone);
            }
            _ => self.choose_sharing(),
        };
        self.shared_last = chosen.is_some();
        chosen
    }

    fn choose_sharing(&mut self) -> Option<(Arrival, Waker)> {
        let &(_, lowest) = self.by_place.first()?;
        let mut first = self.sharing.first_entry()?;
        let arrival = *first.key();
        let is_passed = lowest != arrival && first.get().passed < PASSED_MAX;
        if !is_passed {
            return Some((arrival, first.get().waker.clone()));
        }
        first.get_mut().passed += 1;
        let lowest = self
            .sharing
            .get(&lowest)
            .map(|it| (lowest, it.waker.clone()));
        debug_assert!(lowest.is_some(), "both list the same");
        lowest
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
        while let Some((arrival, _)) = queue.choose() {
            queue.leave(arrival);
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
            let (arrival, _) = queue.choose().unwrap();
            queue.leave(arrival);
            if arrival == Arrival(0) {
                break;
            }
            passed += 1;
        }
        assert_eq!(passed, u64::from(PASSED_MAX));
    }

    #[test]
    fn who_leaves_without_a_turn_is_not_chosen() {
        let mut queue = queue(&[place(1, 0), None, place(1, 1)]);
        queue.leave(Arrival(0));
        queue.leave(Arrival(1));
        assert_eq!(turns(&mut queue), [2]);
    }
}
