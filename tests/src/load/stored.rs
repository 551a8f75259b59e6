//! What a topic holds, record by record.

use gannet_loadgen::verify::{Filler, RecordHead};
use gannet_wire::PartitionIndex;
use gannet_wire::client::blocking::Client;

use crate::contents::read_each;

/// Which record it is: of whom, and the how manieth that it sent to its partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// Who sent it.
    pub producer: u32,
    /// Counts from 0, for each producer and partition.
    pub sequence: u64,
}

impl Identity {
    /// Of a record that arrived.
    ///
    /// # Panics
    /// When it is not byte for byte what was sent to this partition.
    pub(super) fn of(value: &[u8], partition: PartitionIndex, filler: &Filler) -> Self {
        let head = RecordHead::check(value, filler)
            .unwrap_or_else(|error| panic!("partition {partition}: {error}"));
        assert_eq!(
            head.partition, partition.0,
            "a record of another partition: {head:?}"
        );
        Self {
            producer: head.producer,
            sequence: head.sequence,
        }
    }
}

/// All records of a topic that keeps everything: of each partition, by offset.
#[derive(Clone, Debug)]
pub struct Stored {
    pub(super) partitions: Vec<Vec<Identity>>,
}

impl Stored {
    /// Reads all that is durable now.
    pub(super) fn read(client: &Client, topic: &str, partitions: u32, filler: &Filler) -> Self {
        let mut stored = Self {
            partitions: vec![Vec::new(); partitions as usize],
        };
        read_each(client, topic, |partition, offset, value| {
            let records = stored
                .partitions
                .get_mut(partition.0 as usize)
                .expect("the topic has no more partitions");
            assert_eq!(
                offset.0,
                records.len() as u64,
                "partition {partition} has a gap, or gives an offset twice"
            );
            records.push(Identity::of(value, partition, filler));
        })
        .expect("reading goes on");
        stored
    }

    /// How many there are.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.partitions
            .iter()
            .map(|partition| partition.len() as u64)
            .sum()
    }

    pub(super) fn at(&self, partition: u32, offset: u64) -> Option<Identity> {
        let offset = usize::try_from(offset).ok()?;
        self.partitions
            .get(partition as usize)?
            .get(offset)
            .copied()
    }
}
