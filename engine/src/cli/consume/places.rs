//! Where reading stands in each partition.

use std::collections::BTreeMap;

use gannet_wire::frame::Start;
use gannet_wire::{Offset, PartitionIndex};

/// The next record that is wanted of each partition.
#[derive(Debug)]
pub(super) struct Places(BTreeMap<PartitionIndex, Offset>);

impl Places {
    /// From where each partition begins; where it ends does not matter here.
    pub(super) fn new(reaches: &[(PartitionIndex, Offset, Offset)]) -> Self {
        Self(
            reaches
                .iter()
                .map(|(partition, begin, _)| (*partition, *begin))
                .collect(),
        )
    }

    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything of a partition before `offset` is dealt with.
    pub(super) fn go_on(&mut self, partition: PartitionIndex, offset: Offset) {
        if let Some(place) = self.0.get_mut(&partition) {
            *place = offset;
        }
    }

    /// No more is wanted of a partition.
    pub(super) fn give_up(&mut self, partition: PartitionIndex) {
        self.0.remove(&partition);
    }

    /// Where to begin in those of `only`, or in all.
    pub(super) fn starts(&self, only: Option<Vec<PartitionIndex>>) -> Vec<(PartitionIndex, Start)> {
        self.0
            .iter()
            .filter(|(partition, _)| only.as_ref().is_none_or(|only| only.contains(partition)))
            .map(|(partition, offset)| (*partition, Start::Offset(*offset)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_goes_on_where_it_was_in_those_that_are_not_done() {
        let (zero, one) = (PartitionIndex(0), PartitionIndex(1));
        let mut places = Places::new(&[(zero, Offset(3), Offset(9)), (one, Offset(0), Offset(5))]);
        places.go_on(zero, Offset(7));
        assert_eq!(
            places.starts(Some(vec![zero])),
            [(zero, Start::Offset(Offset(7)))]
        );
        assert_eq!(places.starts(None).len(), 2);
    }
}
