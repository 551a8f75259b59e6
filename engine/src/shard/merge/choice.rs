//! Which shared segments to merge. Pure.

use std::collections::{BTreeMap, HashSet};

use crate::storage::segment::SegmentRef;

/// A sealed segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) segment: SegmentRef,
    /// What it takes on the disk.
    pub(super) bytes: u64,
    /// What of it is still anybody's.
    pub(super) live_bytes: u64,
}

/// Those to merge next. `segments_min`: so many of about the same size come together, so that a record is copied once for each factor that its
/// segment grows by, and not whenever there is a new one.
///
/// Segments of which most is nobody's come first, the emptiest before the others: they give room back.
pub(super) fn choose(candidates: &[Candidate], segments_min: usize) -> HashSet<SegmentRef> {
    let mut sparse: Vec<&Candidate> = candidates.iter().filter(|one| one.is_sparse()).collect();
    sparse.sort_by_key(|one| (one.live_bytes, one.segment));
    if !sparse.is_empty() {
        return up_to(MERGE_BYTES_MAX, sparse);
    }
    let mut tiers: BTreeMap<u32, Vec<&Candidate>> = BTreeMap::new();
    for one in candidates
        .iter()
        .filter(|one| one.live_bytes < MERGED_BYTES_MAX)
    {
        tiers.entry(one.tier()).or_default().push(one);
    }
    let full = tiers.into_values().find(|tier| tier.len() >= segments_min);
    full.map_or_else(HashSet::new, |mut tier| {
        // The oldest ones: their runs follow one another.
        tier.sort_by_key(|one| one.segment);
        tier.truncate(segments_min);
        up_to(MERGE_BYTES_MAX, tier)
    })
}

fn up_to(bytes_max: u64, candidates: Vec<&Candidate>) -> HashSet<SegmentRef> {
    let mut bytes = 0;
    candidates
        .into_iter()
        .take_while(|one| {
            let first = bytes == 0;
            bytes += one.live_bytes.max(1);
            first || bytes <= bytes_max
        })
        .map(|one| one.segment)
        .collect()
}

impl Candidate {
    /// Whether to copy what is left of it gives back more than it takes.
    fn is_sparse(&self) -> bool {
        self.bytes >= SPARSE_BYTES_MIN && self.live_bytes <= self.bytes / 2
    }

    /// Rises by one with each factor of eight.
    fn tier(&self) -> u32 {
        (self.live_bytes / TIER_BYTES_MIN).max(1).ilog2() / 3
    }
}

/// Below this nothing is gained by giving back what nobody needs.
const SPARSE_BYTES_MIN: u64 = 64 << 10;
/// Smaller ones are all alike.
const TIER_BYTES_MIN: u64 = 256 << 10;
/// What has grown to this is not merged again before most of it is gone.
const MERGED_BYTES_MAX: u64 = 512 << 20;
/// What one merge copies, at most.
const MERGE_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::SegmentId;

    const MIB: u64 = 1 << 20;

    fn segment(id: u64) -> SegmentRef {
        SegmentRef {
            id: SegmentId(id),
            shared: true,
        }
    }

    fn candidate(id: u64, bytes: u64, live_bytes: u64) -> Candidate {
        Candidate {
            segment: segment(id),
            bytes,
            live_bytes,
        }
    }

    fn chosen(candidates: &[Candidate]) -> Vec<u64> {
        let chosen = choose(candidates, 3);
        let mut ids: Vec<u64> = chosen.iter().map(|segment| segment.id.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn the_oldest_of_about_the_same_size_come_together_once_there_are_enough() {
        let mut candidates: Vec<Candidate> = (0..2).map(|id| candidate(id, MIB, MIB)).collect();
        candidates.push(candidate(2, 60 * MIB, 60 * MIB));
        assert_eq!(chosen(&candidates), [0; 0]);
        candidates.extend((3..6).map(|id| candidate(id, MIB, MIB)));
        assert_eq!(chosen(&candidates), [0, 1, 3]);
    }

    #[test]
    fn a_segment_of_which_most_is_nobodys_goes_first_and_alone() {
        let mut candidates: Vec<Candidate> = (0..3).map(|id| candidate(id, MIB, MIB)).collect();
        candidates.push(candidate(3, 10 * MIB, 4 * MIB));
        assert_eq!(chosen(&candidates), [3]);
    }

    #[test]
    fn what_is_large_is_left_alone_until_most_of_it_is_gone() {
        let large: Vec<Candidate> = (0..5)
            .map(|id| candidate(id, 600 * MIB, 600 * MIB))
            .collect();
        assert_eq!(chosen(&large), [0; 0]);
    }

    #[test]
    fn one_merge_copies_no_more_than_its_bound() {
        let sparse: Vec<Candidate> = (0..5)
            .map(|id| candidate(id, 1_000 * MIB, 400 * MIB))
            .collect();
        assert_eq!(chosen(&sparse), [0, 1]);
    }
}
