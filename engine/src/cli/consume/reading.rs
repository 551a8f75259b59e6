//! How far the reading is, what it still wants, and what damage kept from it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use gannet_wire::batch::Records;
use gannet_wire::client::Delivery;
use gannet_wire::frame::Start;
use gannet_wire::{Offset, PartitionIndex};

use super::ends::Ends;
use super::places::Places;
use crate::cli::exit::{ExitStatus, Failure};

/// The reading of all partitions asked for.
#[derive(Debug)]
pub(super) struct Reading {
    places: Places,
    /// Without them it goes on for ever.
    ends: Option<Ends>,
    /// Records still wanted.
    left: u64,
    /// Whether it went on behind damage.
    skipped: bool,
    /// Partitions that were given up where they are damaged.
    broken: BTreeSet<PartitionIndex>,
}

impl Reading {
    /// From where each partition begins and where it ended at the start; `follow` goes on behind that end.
    pub(super) fn new(
        reaches: &[(PartitionIndex, Offset, Offset)],
        follow: bool,
        count: Option<u64>,
    ) -> Self {
        Self {
            places: Places::new(reaches),
            ends: (!follow).then(|| Ends::new(reaches.iter().copied())),
            left: count.unwrap_or(u64::MAX),
            skipped: false,
            broken: BTreeSet::new(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0
            || self.places.are_none()
            || self.ends.as_ref().is_some_and(Ends::all_reached)
    }

    /// Where to go on in each partition that is not done.
    pub(super) fn starts(&self) -> Vec<(PartitionIndex, Start)> {
        self.places.starts(self.ends.as_ref().map(Ends::unfinished))
    }

    /// Whether a partition is not done yet.
    pub(super) fn wants(&self, partition: PartitionIndex) -> bool {
        self.starts().iter().any(|(wanted, _)| *wanted == partition)
    }

    /// Writes what is wanted of a delivery.
    pub(super) fn write(&mut self, delivery: &Delivery, out: &mut impl Write) -> io::Result<()> {
        self.places.go_on(delivery.partition, delivery.position());
        write_records(
            delivery.partition,
            &delivery.records,
            delivery.skip_before,
            &mut self.ends,
            &mut self.left,
            out,
        )
    }

    /// Leaves out what is damaged: the partition is read on at `behind`.
    pub(super) fn skip_to(&mut self, partition: PartitionIndex, behind: Offset) {
        self.skipped = true;
        self.places.go_on(partition, behind);
        if let Some(ends) = &mut self.ends {
            ends.advance(partition, behind);
        }
    }

    /// No more comes of a damaged partition: the others are read on.
    pub(super) fn give_up(&mut self, partition: PartitionIndex) {
        self.broken.insert(partition);
        self.places.give_up(partition);
        if let Some(ends) = &mut self.ends {
            ends.give_up(partition);
        }
    }

    /// How it went, once it is done.
    pub(super) fn verdict(&self, topic: &str) -> Result<ExitStatus, Failure> {
        if self.broken.is_empty() {
            return Ok(if self.skipped {
                ExitStatus::Damaged
            } else {
                ExitStatus::Success
            });
        }
        let broken: Vec<String> = self.broken.iter().map(ToString::to_string).collect();
        Err(Failure::new(
            ExitStatus::Server,
            format!(
                "of the topic {topic}, what lies behind the damage was not read in {} of the partitions: {}",
                broken.len(),
                broken.join(", ")
            ),
        ))
    }
}

/// The values of a batch of `partition` from `begin` on, each with a newline, as far as they were asked for. A null value is an
/// empty line.
fn write_records(
    partition: PartitionIndex,
    records: &Records,
    begin: Offset,
    ends: &mut Option<Ends>,
    left: &mut u64,
    out: &mut impl Write,
) -> io::Result<()> {
    for (offset, record) in records.iter() {
        if *left == 0 {
            return Ok(());
        }
        let wanted = offset >= begin
            && ends
                .as_ref()
                .is_none_or(|ends| ends.includes(partition, offset));
        if wanted {
            out.write_all(record.value.unwrap_or_default())?;
            out.write_all(b"\n")?;
            *left -= 1;
        }
    }
    if let Some(ends) = ends {
        ends.advance(partition, records.next_offset());
    }
    Ok(())
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
