//! Who still needs a segment: it is unlinked when its last run, or the last claim on it, goes.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::partition::Partition;
use crate::storage::segment::{Run, SegmentRef};

/// How many runs each segment holds for this shard, and who claims it besides.
#[derive(Default)]
pub(super) struct SegmentClaims {
    counts: RefCell<HashMap<SegmentRef, u32>>,
}

impl SegmentClaims {
    /// Keeps a segment from being unlinked, until [`SegmentClaims::release`].
    pub(super) fn claim(&self, segment: SegmentRef) {
        *self.counts.borrow_mut().entry(segment).or_insert(0) += 1;
    }

    /// A run or a claim is gone. Whether it was the last one.
    #[must_use]
    pub(super) fn release(&self, segment: SegmentRef) -> bool {
        let mut counts = self.counts.borrow_mut();
        match counts.get_mut(&segment) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => {
                counts.remove(&segment);
                true
            }
        }
    }

    /// A run became known to its partition: one that only made another longer does not count. Returns those that it took the place of, which
    /// are to be released once a checkpoint has it.
    #[must_use]
    pub(super) fn add_run(&self, state: &mut Partition, run: Run) -> Vec<Run> {
        let inserted = state.add_run(run);
        if !inserted.joined {
            self.claim(run.segment);
        }
        inserted.replaced
    }

    /// The same for a run whose segment was claimed for it: one of its own takes the claim over, one that only made another longer gives it back. It
    /// takes nobody's place.
    pub(super) fn add_claimed_run(&self, state: &mut Partition, run: Run) {
        let inserted = state.add_run(run);
        assert!(
            inserted.replaced.is_empty(),
            "what went straight to a segment is nowhere else"
        );
        if inserted.joined
            && let Some(count) = self.counts.borrow_mut().get_mut(&run.segment)
        {
            *count -= 1;
        }
    }

    /// Whether anybody needs it.
    pub(super) fn is_needed(&self, segment: SegmentRef) -> bool {
        self.counts.borrow().contains_key(&segment)
    }

    /// Whether one run or claim is all that is left.
    pub(super) fn is_last(&self, segment: SegmentRef) -> bool {
        self.counts.borrow().get(&segment) == Some(&1)
    }

    /// The segment goes with its topic, whoever counted on it.
    pub(super) fn forget(&self, segment: SegmentRef) {
        self.counts.borrow_mut().remove(&segment);
    }

    /// All that are needed: shared ones, or those of single partitions.
    pub(super) fn segments(&self, shared: bool) -> Vec<SegmentRef> {
        let counts = self.counts.borrow();
        let of_kind = counts.keys().filter(|segment| segment.shared == shared);
        of_kind.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use gannet_wire::{Offset, PartitionIndex, Timestamp, TopicId};

    use super::*;
    use crate::storage::{PartitionKey, SegmentId};

    const SEGMENT: SegmentRef = SegmentRef {
        id: SegmentId(7),
        shared: false,
    };

    fn run(offsets: std::ops::Range<u64>, position: u64) -> Run {
        Run {
            segment: SEGMENT,
            base_offset: Offset(offsets.start),
            next_offset: Offset(offsets.end),
            position,
            end: position + 4096,
            max_timestamp: Timestamp(0),
            append_time: Timestamp(0),
        }
    }

    fn partition() -> Partition {
        Partition::new(PartitionKey {
            topic: TopicId(1),
            partition: PartitionIndex(0),
        })
    }

    #[test]
    fn a_segment_is_needed_until_its_last_run_and_its_last_claim_are_gone() {
        let claims = SegmentClaims::default();
        let mut state = partition();
        claims.claim(SEGMENT);
        assert_eq!(claims.add_run(&mut state, run(0..10, 4096)), []);
        assert!(!claims.release(SEGMENT));
        assert!(claims.is_last(SEGMENT));
        assert!(claims.release(SEGMENT));
        assert!(claims.segments(false).is_empty());
    }

    #[test]
    fn a_run_that_only_makes_another_longer_gives_its_claim_back() {
        let claims = SegmentClaims::default();
        let mut state = partition();
        for at in 0..3 {
            claims.claim(SEGMENT);
            claims.add_claimed_run(&mut state, run(at * 10..at * 10 + 10, 4096 * (at + 1)));
        }
        assert_eq!(state.runs().len(), 1);
        assert!(claims.release(SEGMENT));
    }
}
