//! When reading without `--follow` is done: every partition was read up to the durable end that it had at the start.

use std::collections::BTreeMap;

use gannet_wire::{Offset, PartitionIndex};

/// The partitions that are not read to their end yet, each with that end.
#[derive(Debug)]
pub(super) struct Ends(BTreeMap<PartitionIndex, Offset>);

impl Ends {
    /// From where each partition begins and where it ended at the start; what begins at its end is done at once.
    pub(super) fn new(
        partitions: impl IntoIterator<Item = (PartitionIndex, Offset, Offset)>,
    ) -> Self {
        Self(
            partitions
                .into_iter()
                .filter(|(_, begin, end)| begin < end)
                .map(|(partition, _, end)| (partition, end))
                .collect(),
        )
    }

    /// Partitions that have something left to read.
    pub(super) fn unfinished(&self) -> Vec<PartitionIndex> {
        self.0.keys().copied().collect()
    }

    pub(super) fn all_reached(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a record still belongs to what there was at the start.
    pub(super) fn includes(&self, partition: PartitionIndex, offset: Offset) -> bool {
        self.0.get(&partition).is_some_and(|end| offset < *end)
    }

    /// No more comes of a partition.
    pub(super) fn give_up(&mut self, partition: PartitionIndex) {
        self.0.remove(&partition);
    }

    /// Everything of a partition below `next_offset` was read.
    pub(super) fn advance(&mut self, partition: PartitionIndex, next_offset: Offset) {
        if self
            .0
            .get(&partition)
            .is_some_and(|end| next_offset >= *end)
        {
            self.0.remove(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: PartitionIndex = PartitionIndex(0);
    const ONE: PartitionIndex = PartitionIndex(1);

    #[test]
    fn a_partition_that_begins_at_its_end_is_done_at_once() {
        let ends = Ends::new([(ZERO, Offset(5), Offset(5)), (ONE, Offset(9), Offset(5))]);
        assert!(ends.all_reached());
    }

    #[test]
    fn all_is_read_when_every_partition_reached_its_end() {
        let mut ends = Ends::new([(ZERO, Offset(0), Offset(5)), (ONE, Offset(0), Offset(1))]);
        assert_eq!(ends.unfinished(), [ZERO, ONE]);
        ends.advance(ZERO, Offset(4));
        ends.advance(ONE, Offset(1));
        assert_eq!(ends.unfinished(), [ZERO]);
        ends.advance(ZERO, Offset(7));
        assert!(ends.all_reached());
    }

    #[test]
    fn a_partition_of_which_no_more_comes_is_not_waited_for() {
        let mut ends = Ends::new([(ZERO, Offset(0), Offset(5)), (ONE, Offset(0), Offset(1))]);
        ends.give_up(ZERO);
        assert_eq!(ends.unfinished(), [ONE]);
    }

    #[test]
    fn what_was_published_since_the_start_is_left_out() {
        let ends = Ends::new([(ZERO, Offset(0), Offset(5))]);
        assert!(ends.includes(ZERO, Offset(4)));
        assert!(!ends.includes(ZERO, Offset(5)));
        assert!(!ends.includes(ONE, Offset(0)));
    }
}
