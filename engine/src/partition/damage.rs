//! What reading found damaged in segments, in this life of the broker.
//!
//! It stands in no checkpoint: the next start reads the segments as they are then, and an operator may have put a whole file in place of a damaged
//! one. Nor does it withhold anything by itself, since a medium may give later what it did not give once.

use gannet_wire::Offset;

use super::Fence;

/// Ranges that reading found damaged, in the order of offsets. None meets another: they are joined.
#[derive(Debug, Default)]
pub struct FoundDamage(Vec<Fence>);

/// Ranges that are remembered; of what is found beyond that only readers are told.
const RANGES_MAX: usize = gannet_wire::limits::FENCES_MAX;

impl FoundDamage {
    /// The ranges.
    #[must_use]
    pub fn ranges(&self) -> &[Fence] {
        &self.0
    }

    /// Notes a range; `false` when it was known.
    pub fn note(&mut self, found: Fence) -> bool {
        let is_known = self
            .0
            .iter()
            .any(|known| known.from <= found.from && found.to <= known.to);
        if is_known {
            return false;
        }
        join(&mut self.0, found);
        self.0.truncate(RANGES_MAX);
        true
    }

    /// These offsets could be read.
    pub fn forget(&mut self, read: Fence) {
        if self.0.is_empty() {
            return;
        }
        let known = std::mem::take(&mut self.0);
        for damage in known {
            let before = Fence {
                from: damage.from,
                to: damage.to.min(read.from),
            };
            let behind = Fence {
                from: damage.from.max(read.to),
                to: damage.to,
            };
            self.0.extend(
                [before, behind]
                    .into_iter()
                    .filter(|left| left.from < left.to),
            );
        }
    }

    /// Nothing before `log_start` is there any more.
    pub fn forget_before(&mut self, log_start: Offset) {
        self.0.retain(|damage| damage.to > log_start);
    }
}

/// Puts a range among others that are in order and apart, joined with those that it meets.
pub(super) fn join(ranges: &mut Vec<Fence>, mut range: Fence) {
    let first = ranges.partition_point(|other| other.to < range.from);
    let end = ranges.partition_point(|other| other.from <= range.to);
    if let Some(met) = ranges.get(first..end)
        && let (Some(lowest), Some(highest)) = (met.first(), met.last())
    {
        range.from = range.from.min(lowest.from);
        range.to = range.to.max(highest.to);
    }
    ranges.splice(first..end, [range]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(from: u64, to: u64) -> Fence {
        Fence {
            from: Offset(from),
            to: Offset(to),
        }
    }

    fn noted(ranges: &[(u64, u64)]) -> FoundDamage {
        let mut found = FoundDamage::default();
        for (from, to) in ranges {
            found.note(fence(*from, *to));
        }
        found
    }

    #[test]
    fn ranges_that_meet_are_one() {
        let found = noted(&[(10, 20), (40, 50), (20, 30), (5, 6), (29, 41)]);
        assert_eq!(found.ranges(), [fence(5, 6), fence(10, 50)]);
    }

    #[test]
    fn what_is_known_is_not_news() {
        let mut found = noted(&[(10, 20)]);
        assert!(!found.note(fence(12, 20)));
        assert!(found.note(fence(9, 20)));
        assert_eq!(found.ranges(), [fence(9, 20)]);
    }

    #[test]
    fn what_could_be_read_after_all_is_damaged_no_more() {
        let mut found = noted(&[(10, 20), (30, 40)]);
        found.forget(fence(14, 33));
        assert_eq!(found.ranges(), [fence(10, 14), fence(33, 40)]);
        found.forget(fence(0, 100));
        assert_eq!(found.ranges(), []);
    }

    #[test]
    fn what_retention_takes_is_forgotten() {
        let mut found = noted(&[(10, 20), (30, 40)]);
        found.forget_before(Offset(20));
        assert_eq!(found.ranges(), [fence(30, 40)]);
    }

    #[test]
    fn no_more_ranges_are_remembered_than_a_description_states() {
        let ranges: Vec<(u64, u64)> = (0..3_000).map(|at| (2 * at, 2 * at + 1)).collect();
        assert_eq!(noted(&ranges).ranges().len(), RANGES_MAX);
    }
}
