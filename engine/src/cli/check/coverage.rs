//! Whether every offset of a partition is somewhere.

use std::ops::Range;

use gannet_wire::Offset;

/// The stretches of offsets that are accounted for.
#[derive(Debug, Default)]
pub(super) struct Coverage(Vec<Range<Offset>>);

impl Coverage {
    pub(super) fn add(&mut self, offsets: Range<Offset>) {
        self.0.push(offsets);
    }

    /// What is missing between `start` and the end: `next_offset`, or behind the last stretch when that is further.
    pub(super) fn gaps(mut self, start: Offset, next_offset: Offset) -> Vec<Range<Offset>> {
        self.0.sort_unstable_by_key(|stretch| stretch.start);
        let mut gaps = Vec::new();
        let mut reached = start;
        for stretch in &self.0 {
            if stretch.start > reached {
                gaps.push(reached..stretch.start);
            }
            reached = reached.max(stretch.end);
        }
        if reached < next_offset {
            gaps.push(reached..next_offset);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(stretches: &[(u64, u64)], start: u64, next_offset: u64) -> Vec<Range<Offset>> {
        let mut coverage = Coverage::default();
        for (from, to) in stretches {
            coverage.add(Offset(*from)..Offset(*to));
        }
        coverage.gaps(Offset(start), Offset(next_offset))
    }

    #[test]
    fn stretches_in_any_order_that_touch_or_overlap_leave_no_gap() {
        assert_eq!(gaps(&[(5, 10), (0, 5), (8, 12)], 0, 12), []);
    }

    #[test]
    fn a_stretch_that_begins_before_the_log_does_is_no_gap() {
        assert_eq!(gaps(&[(0, 10)], 4, 10), []);
    }

    #[test]
    fn what_no_stretch_holds_is_missing() {
        assert_eq!(
            gaps(&[(2, 4), (6, 8)], 0, 10),
            [
                Offset(0)..Offset(2),
                Offset(4)..Offset(6),
                Offset(8)..Offset(10)
            ]
        );
    }

    #[test]
    fn an_emptied_partition_has_no_gap() {
        assert_eq!(gaps(&[], 7, 7), []);
    }
}
