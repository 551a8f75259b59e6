//! The newest batches of a partition, in memory: what is not in a segment yet, and what was moved there lately.

use std::collections::VecDeque;

use gannet_wire::Offset;

use crate::storage::Lsn;
use crate::storage::slice::Slice;

/// A durable batch in memory.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// Its first record.
    pub base_offset: Offset,
    /// Behind its last record.
    pub next_offset: Offset,
    /// The commit that made it durable.
    pub lsn: Lsn,
    /// The stamped batch.
    pub bytes: Slice,
    /// Whether a segment has it already.
    pub flushed: bool,
}

/// Consecutive batches, oldest first.
#[derive(Debug, Default)]
pub struct Tail {
    batches: VecDeque<TailBatch>,
    unflushed_bytes: u64,
}

impl Tail {
    /// Adds the newest batch.
    pub fn push(&mut self, batch: TailBatch) {
        if !batch.flushed {
            self.unflushed_bytes += batch.bytes.len() as u64;
        }
        self.batches.push_back(batch);
    }

    /// The oldest offset in memory.
    #[must_use]
    pub fn base_offset(&self) -> Option<Offset> {
        self.batches.front().map(|batch| batch.base_offset)
    }

    /// Whether the batch with `offset` is in memory. A replay can leave gaps between batches.
    #[must_use]
    pub fn covers(&self, offset: Offset) -> bool {
        self.batches
            .get(self.find(offset))
            .is_some_and(|batch| batch.base_offset <= offset)
    }

    /// The batches from the one with `offset` on: at least one, then as many as fit into `bytes_max`, without a gap.
    pub fn read(&self, offset: Offset, bytes_max: usize, into: &mut Vec<Slice>) -> Option<Offset> {
        let mut bytes = 0;
        let mut next = None;
        for batch in self.batches.range(self.find(offset)..) {
            match next {
                None if batch.base_offset > offset => return None,
                Some(next) if batch.base_offset != next => break,
                _ => {}
            }
            if next.is_some() && bytes + batch.bytes.len() > bytes_max {
                break;
            }
            bytes += batch.bytes.len();
            into.push(batch.bytes.clone());
            next = Some(batch.next_offset);
        }
        next
    }

    /// The batches that no segment has yet, up to and with `lsn`.
    pub fn unflushed(&self, lsn: Lsn) -> impl Iterator<Item = &TailBatch> {
        self.batches
            .iter()
            .take_while(move |batch| batch.lsn <= lsn)
            .filter(|batch| !batch.flushed)
    }

    /// Bytes that no segment has yet.
    #[must_use]
    pub fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes
    }

    /// Batches that commits above `lsn` made durable, and that no segment has yet.
    pub fn unflushed_above(&self, lsn: Lsn) -> impl Iterator<Item = &TailBatch> {
        let above = self.batches.partition_point(|batch| batch.lsn <= lsn);
        self.batches.range(above..).filter(|batch| !batch.flushed)
    }

    /// The first record of the oldest batch that a commit above `lsn` made durable; `None` when memory has no such batch.
    #[must_use]
    pub fn base_offset_above(&self, lsn: Lsn) -> Option<Offset> {
        let above = self.batches.partition_point(|batch| batch.lsn <= lsn);
        self.batches.get(above).map(|batch| batch.base_offset)
    }

    /// Segments have everything up to and with `lsn`.
    pub fn mark_flushed(&mut self, lsn: Lsn) {
        for batch in self.batches.iter_mut().take_while(|batch| batch.lsn <= lsn) {
            if !batch.flushed {
                batch.flushed = true;
                self.unflushed_bytes -= batch.bytes.len() as u64;
            }
        }
    }

    /// Lets go of what segments have, up to and with `lsn`.
    pub fn evict(&mut self, lsn: Lsn) {
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.flushed && batch.lsn <= lsn)
        {
            self.batches.pop_front();
        }
        if self.batches.is_empty() {
            self.batches = VecDeque::new();
        }
    }

    fn find(&self, offset: Offset) -> usize {
        self.batches
            .partition_point(|batch| batch.next_offset <= offset)
    }
}
