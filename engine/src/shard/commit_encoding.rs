//! From what is to be committed to a commit's bytes.

use bytes::Bytes;

use super::arrivals::Item;
use super::pending::Arrival;
use crate::storage::commit::{BatchStamp, CommitIdentity, CommitWriter, EntryKind, commit_bytes};
use crate::storage::segment::DirectRun;

/// A commit that only lacks its place. Without items it is a mark.
pub(super) struct PlannedCommit {
    items: Vec<Item>,
    /// What the journal notes of chunks, by item.
    directs: Vec<Option<Vec<u8>>>,
    bytes: usize,
}

impl PlannedCommit {
    /// `bytes_max`: what a commit may take; the items are known to fit.
    pub(super) fn of(items: Vec<Item>, bytes_max: usize) -> Self {
        let directs: Vec<Option<Vec<u8>>> = items
            .iter()
            .map(|item| encode_direct(&item.arrival))
            .collect();
        let payload: usize = items
            .iter()
            .zip(&directs)
            .map(|(item, direct)| {
                direct
                    .as_ref()
                    .map_or_else(|| arrival_bytes(&item.arrival), Vec::len)
            })
            .sum();
        let bytes = commit_bytes(items.len(), payload);
        // IMPORTANT: what is larger a recovery takes for damage, and no journal file may have room for it.
        assert!(
            bytes <= bytes_max,
            "a commit of {bytes} bytes is over the limit"
        );
        Self {
            items,
            directs,
            bytes,
        }
    }

    /// What it takes in the journal.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fills `buffer`, which is as long as the commit; returns the items with their places in it, and the commit's checksum.
    pub(super) fn encode(self, buffer: &mut [u8], identity: CommitIdentity) -> (Vec<Item>, u32) {
        let Self {
            mut items, directs, ..
        } = self;
        let mut writer = CommitWriter::new(buffer, identity, items.len());
        for (item, direct) in items.iter_mut().zip(directs) {
            let key = item.slot.key();
            match (&mut item.arrival, direct) {
                (Arrival::Batch(batch), _) => {
                    let stamp = BatchStamp {
                        key,
                        base_offset: batch.base_offset,
                        record_count: batch.record_count,
                        append_time: batch.append_time,
                        leader_epoch: batch.leader_epoch,
                    };
                    item.range = writer.batch(&batch.bytes, &stamp);
                    // The arrival's bytes are in the commit now; what the socket received can be reused.
                    batch.bytes = Bytes::new();
                }
                (Arrival::Direct(chunk), Some(encoded)) => {
                    let records = chunk.run.next_offset.0 - chunk.run.base_offset.0;
                    let records =
                        u32::try_from(records).expect("a chunk's records are bounded by its bytes");
                    writer.entry(
                        EntryKind::DirectRun,
                        key,
                        chunk.run.base_offset,
                        records,
                        &encoded,
                    );
                }
                (Arrival::Committed(commit), _) => writer.entry(
                    EntryKind::CommittedOffset,
                    key,
                    Default::default(),
                    0,
                    &commit.encoded,
                ),
                (Arrival::Direct(_), None) => unreachable!("every chunk was encoded above"),
            }
        }
        (items, writer.finish())
    }
}

/// Bytes of an arrival that stands in a commit as it is.
fn arrival_bytes(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Batch(batch) => batch.bytes.len(),
        Arrival::Committed(commit) => commit.encoded.len(),
        Arrival::Direct(_) => 0,
    }
}

fn encode_direct(arrival: &Arrival) -> Option<Vec<u8>> {
    let Arrival::Direct(chunk) = arrival else {
        return None;
    };
    let run = DirectRun {
        segment: chunk.run.segment.id.0,
        position: chunk.run.position,
        end: chunk.run.end,
        max_timestamp: chunk.run.max_timestamp.0,
        append_time: chunk.run.append_time.0,
        producers: chunk.producers.clone(),
    };
    Some(
        rkyv::to_bytes::<rkyv::rancor::Error>(&run)
            .expect("memory is the only thing that can be missing")
            .into_vec(),
    )
}
