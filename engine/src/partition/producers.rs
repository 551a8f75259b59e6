//! Idempotent producers: which sequence comes next, and where the last batches went.

use std::collections::{HashMap, VecDeque};

use gannet_wire::batch::ProducerStamp;
use gannet_wire::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use super::{AppendRefusal, ProducerLimits};
use crate::storage::checkpoint::{ProducerRecord, WindowRecord};

/// A batch that a producer appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowBatch {
    /// The sequence of its first record.
    pub base_sequence: Sequence,
    /// Its records.
    pub record_count: u32,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// What it was stamped with.
    pub append_time: Timestamp,
}

/// What a batch's sequence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceVerdict {
    /// It is the next one.
    Next,
    /// It was appended before.
    Duplicate {
        /// Where its first record went.
        base_offset: Offset,
        /// What it was stamped with.
        append_time: Timestamp,
    },
    /// It is not to be appended.
    Refused(AppendRefusal),
}

/// The producers that one partition remembers. Takes no memory while it is empty.
#[derive(Debug, Default)]
pub struct ProducerTable {
    producers: HashMap<ProducerId, Producer>,
}

#[derive(Debug)]
struct Producer {
    epoch: ProducerEpoch,
    /// The newest batches, oldest first. Twice as many as may be in flight: a checkpoint leaves out those that are not durable yet,
    /// and what remains must still answer for every batch that can be sent again.
    window: VecDeque<WindowBatch>,
    last_append: Timestamp,
}

impl Producer {
    fn is_known(&self, now: Timestamp, limits: &ProducerLimits) -> bool {
        now.0.saturating_sub(self.last_append.0) <= limits.expiry_ms
    }

    fn next_sequence(&self) -> Sequence {
        self.window.back().map_or(Sequence(0), |last| {
            last.base_sequence.wrapping_add(last.record_count)
        })
    }
}

impl ProducerTable {
    /// Judges a batch. Changes nothing.
    #[must_use]
    pub fn check(
        &self,
        stamp: &ProducerStamp,
        record_count: u32,
        now: Timestamp,
        limits: &ProducerLimits,
    ) -> SequenceVerdict {
        use AppendRefusal::{DuplicateExpired, ProducerFenced, ProducerUnknown, SequenceGap};
        let known = self.producers.get(&stamp.id);
        let known = known.filter(|producer| producer.is_known(now, limits));
        let first = stamp.base_sequence == Sequence(0);
        let Some(producer) = known else {
            return if first {
                SequenceVerdict::Next
            } else {
                SequenceVerdict::Refused(ProducerUnknown)
            };
        };
        if stamp.epoch < producer.epoch {
            return SequenceVerdict::Refused(ProducerFenced);
        }
        if stamp.epoch > producer.epoch {
            return if first {
                SequenceVerdict::Next
            } else {
                SequenceVerdict::Refused(SequenceGap)
            };
        }
        let next = producer.next_sequence();
        if stamp.base_sequence == next {
            return SequenceVerdict::Next;
        }
        let same = |batch: &&WindowBatch| {
            batch.base_sequence == stamp.base_sequence && batch.record_count == record_count
        };
        if let Some(batch) = producer.window.iter().rev().find(same) {
            return SequenceVerdict::Duplicate {
                base_offset: batch.base_offset,
                append_time: batch.append_time,
            };
        }
        // Sequences wrap: less than half of the circle behind the next one counts as the past.
        let behind = next.0.wrapping_sub(stamp.base_sequence.0);
        SequenceVerdict::Refused(if behind < u32::MAX / 2 {
            DuplicateExpired
        } else {
            SequenceGap
        })
    }

    /// Notes a batch that was appended, or that a replay found.
    pub fn record(&mut self, stamp: &ProducerStamp, batch: WindowBatch, limits: &ProducerLimits) {
        let now = batch.append_time;
        let producers = &mut self.producers;
        if !producers.contains_key(&stamp.id) && producers.len() >= limits.producers_max {
            let oldest = producers
                .iter()
                .min_by_key(|(id, producer)| (producer.last_append, **id))
                .map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                producers.remove(&oldest);
            }
        }
        let producer = producers.entry(stamp.id).or_insert_with(|| Producer {
            epoch: stamp.epoch,
            window: VecDeque::new(),
            last_append: now,
        });
        // A replay may meet what the checkpoint already has.
        if producer
            .window
            .iter()
            .any(|known| known.base_offset == batch.base_offset)
        {
            return;
        }
        if producer.epoch != stamp.epoch || producer.next_sequence() != batch.base_sequence {
            producer.window.clear();
            producer.epoch = stamp.epoch;
        }
        producer.window.push_back(batch);
        while producer.window.len() > 2 * limits.inflight_max {
            producer.window.pop_front();
        }
        producer.last_append = producer.last_append.max(now);
    }

    /// Forgets producers that sent nothing for so long that a batch of theirs would be refused anyway.
    pub fn expire(&mut self, now: Timestamp, limits: &ProducerLimits) {
        let before = self.producers.len();
        self.producers
            .retain(|_, producer| producer.is_known(now, limits));
        if self.producers.len() < before / 2 {
            self.producers.shrink_to_fit();
        }
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For a checkpoint: what was appended before `next_offset`.
    #[must_use]
    pub fn records(&self, next_offset: Offset) -> Vec<ProducerRecord> {
        let mut records: Vec<ProducerRecord> = self
            .producers
            .iter()
            .filter_map(|(id, producer)| {
                let window: Vec<WindowRecord> = producer
                    .window
                    .iter()
                    .filter(|batch| batch.base_offset < next_offset)
                    .map(|batch| WindowRecord {
                        base_sequence: batch.base_sequence.0,
                        record_count: batch.record_count,
                        base_offset: batch.base_offset.0,
                        append_time: batch.append_time.0,
                    })
                    .collect();
                (!window.is_empty()).then_some(ProducerRecord {
                    id: id.0,
                    epoch: producer.epoch.0,
                    last_append: producer.last_append.0,
                    window,
                })
            })
            .collect();
        records.sort_unstable_by_key(|record| record.id);
        records
    }

    /// From a checkpoint.
    #[must_use]
    pub fn restore(records: &[ProducerRecord]) -> Self {
        let producers = records
            .iter()
            .map(|record| {
                let window = record
                    .window
                    .iter()
                    .map(|batch| WindowBatch {
                        base_sequence: Sequence(batch.base_sequence),
                        record_count: batch.record_count,
                        base_offset: Offset(batch.base_offset),
                        append_time: Timestamp(batch.append_time),
                    })
                    .collect();
                let producer = Producer {
                    epoch: ProducerEpoch(record.epoch),
                    window,
                    last_append: Timestamp(record.last_append),
                };
                (ProducerId(record.id), producer)
            })
            .collect();
        Self { producers }
    }
}

#[cfg(test)]
mod tests;
