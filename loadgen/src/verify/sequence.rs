//! Whether one producer's records come out of one partition once each, in the order sent.

use std::ops::Range;

/// How many separate holes are remembered. Beyond it the oldest is forgotten: still counted as lost, but a record that fills it late counts as doubled.
const HOLES_MAX: usize = 4096;

/// What one record says about the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// The one expected.
    Next,
    /// This many were skipped; they count as lost unless they still come.
    Skipped(u64),
    /// One skipped before: it comes out of order.
    Late,
    /// Seen before.
    Doubled,
}

/// Follows one producer's sequence in one partition.
#[derive(Clone, Debug, Default)]
pub struct SequenceChecker {
    next: u64,
    holes: Vec<Range<u64>>,
    missing: u64,
}

impl SequenceChecker {
    /// Takes the next record's sequence number.
    #[inline]
    pub fn observe(&mut self, sequence: u64) -> Sequenced {
        if sequence == self.next {
            self.next += 1;
            return Sequenced::Next;
        }
        self.observe_out_of_order(sequence)
    }

    /// One behind the highest sequence number seen.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many below [`SequenceChecker::next`] never came.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// How many of the first `acked` records never came.
    #[must_use]
    pub fn lost(&self, acked: u64) -> u64 {
        self.missing + acked.saturating_sub(self.next)
    }

    #[cold]
    fn observe_out_of_order(&mut self, sequence: u64) -> Sequenced {
        if sequence > self.next {
            let hole = self.next..sequence;
            let skipped = hole.end - hole.start;
            self.missing += skipped;
            self.next = sequence.saturating_add(1);
            if self.holes.len() == HOLES_MAX {
                self.holes.remove(0);
            }
            self.holes.push(hole);
            return Sequenced::Skipped(skipped);
        }
        let Some(index) = self.holes.iter().position(|hole| hole.contains(&sequence)) else {
            return Sequenced::Doubled;
        };
        let hole = self.holes.remove(index);
        // Put back what is left on either side, in order.
        for rest in [sequence + 1..hole.end, hole.start..sequence] {
            if !rest.is_empty() {
                self.holes.insert(index, rest);
            }
        }
        self.missing -= 1;
        Sequenced::Late
    }
}
