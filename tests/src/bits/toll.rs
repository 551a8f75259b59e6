//! What a damage has to cost: what everything that is hit costs, together.

use std::collections::{BTreeMap, BTreeSet};

use gannet_engine::storage::PartitionKey;

use super::regions::{Cost, Region};

/// Exactly this must be gone, and everything else be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Toll {
    /// Records, which are fenced; sorted and joined.
    pub(super) records: BTreeMap<PartitionKey, Vec<(u64, u64)>>,
    /// What groups committed last.
    pub(super) groups: BTreeSet<(PartitionKey, String)>,
    /// Where partitions end because the log ends earlier.
    pub(super) ends: BTreeMap<PartitionKey, u64>,
    /// The log ends earlier.
    pub(super) is_tail: bool,
    /// An index is made again.
    pub(super) rebuilds: bool,
    /// A commit's entries are told by its other directory, and its file is kept.
    pub(super) salvages: bool,
    /// More than a bit is another one: a journal file may be kept although nothing in it is missed.
    pub(super) may_keep: bool,
    /// Nothing is left of a commit that something proves: nobody knows whose records were in it, so every partition goes on above what it may have
    /// given out.
    pub(super) vanishes: bool,
}

impl Toll {
    /// What these cost together.
    pub(super) fn of(hit: &[&Region]) -> Self {
        let mut toll = Self::default();
        for region in hit {
            toll.add(&region.cost);
        }
        for ranges in toll.records.values_mut() {
            join(ranges);
        }
        let ends = |what: &str| {
            hit.iter().any(|region| {
                region.what == format!("proven commit: {what}")
                    || region.what == format!("mark: {what}")
            })
        };
        toll.vanishes = ends("head") && ends("foot");
        toll
    }

    fn add(&mut self, cost: &Cost) {
        match cost {
            Cost::Nothing => {}
            Cost::Salvage => self.salvages = true,
            Cost::Rebuild => self.rebuilds = true,
            Cost::Records(key, range) => {
                self.records
                    .entry(*key)
                    .or_default()
                    .push((range.start, range.end));
            }
            Cost::Group(key, group) => {
                self.groups.insert((*key, group.clone()));
                self.salvages = true;
            }
            Cost::Tail { ends, groups } => {
                self.is_tail = true;
                for (key, end) in ends {
                    let known = self.ends.entry(*key).or_insert(*end);
                    *known = (*known).min(*end);
                }
                self.groups.extend(groups.iter().cloned());
            }
        }
    }
}

/// Sorts ranges and joins those that touch.
pub(super) fn join(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, known| {
        let touches = next.0 <= known.1;
        if touches {
            known.1 = known.1.max(next.1);
        }
        touches
    });
}
