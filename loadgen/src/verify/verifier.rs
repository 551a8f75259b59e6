//! What one consumer checks on every record, and what it counts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::filler::Filler;
use super::record::{HEAD_BYTES, RecordHead};
use super::sequence::{SequenceChecker, Sequenced};
use super::shape::{Key, RecordShape};

/// What was wrong; all zero in a sound run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Records acknowledged but never delivered.
    pub lost: u64,
    /// Records delivered more than once.
    pub duplicated: u64,
    /// Records delivered after a later one of the same producer and partition, or under an offset that is not the one expected next.
    pub reordered: u64,
    /// Records whose bytes or key are not what was sent, or that nobody sent, or that came out of another partition.
    pub corrupt: u64,
}

impl Findings {
    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
    }

    /// Whether nothing was wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

/// What one record turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Its bytes and its key are those sent, and it was not delivered before; carries when it should have been sent.
    Sound {
        /// Nanoseconds since the run began.
        intended_ns: u64,
    },
    /// Wrong, and counted.
    Wrong,
    /// Another run's record in the same topic: not ours to judge.
    Foreign,
}

/// Checks all that one consumer is delivered.
#[derive(Debug)]
pub struct Verifier {
    run: u32,
    producers: u32,
    filler: Arc<Filler>,
    shape: Arc<RecordShape>,
    partitions: Vec<PartitionCheck>,
    sound: u64,
    findings: Findings,
}

#[derive(Clone, Debug, Default)]
struct PartitionCheck {
    next_offset: Option<u64>,
    producers: Vec<SequenceChecker>,
}

impl Verifier {
    /// A verifier that has seen nothing yet.
    #[must_use]
    pub fn new(run: u32, producers: u32, filler: Arc<Filler>, shape: Arc<RecordShape>) -> Self {
        Self {
            run,
            producers,
            filler,
            partitions: vec![PartitionCheck::default(); shape.partitions() as usize],
            shape,
            sound: 0,
            findings: Findings::default(),
        }
    }

    /// Takes one record as delivered.
    #[inline]
    pub fn observe(
        &mut self,
        partition: u32,
        offset: u64,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Observed {
        let Some(check) = self.partitions.get_mut(partition as usize) else {
            self.findings.corrupt += 1;
            return Observed::Wrong;
        };
        let in_order = check.next_offset.is_none_or(|expected| expected == offset);
        check.next_offset = Some(offset.saturating_add(1));

        let checked = if value.len() < HEAD_BYTES {
            RecordHead::check_tiny(value, &self.filler, self.run, partition)
        } else {
            RecordHead::check(value, &self.filler)
        };
        let Ok(head) = checked else {
            self.findings.corrupt += 1;
            return Observed::Wrong;
        };
        if head.run != self.run {
            return Observed::Foreign;
        }
        if head.partition != partition || head.producer >= self.producers {
            self.findings.corrupt += 1;
            return Observed::Wrong;
        }
        let key_sent = self.shape.key(head.producer, partition, head.sequence);
        if key_sent.as_ref().map(Key::as_bytes) != key {
            self.findings.corrupt += 1;
            return Observed::Wrong;
        }
        if check.producers.is_empty() {
            // On the first record, so that a verifier of one consumer of many holds no state for partitions it never sees.
            check
                .producers
                .resize_with(self.producers as usize, SequenceChecker::default);
        }
        let Some(sequence) = check.producers.get_mut(head.producer as usize) else {
            self.findings.corrupt += 1;
            return Observed::Wrong;
        };
        match sequence.observe(head.sequence) {
            Sequenced::Next | Sequenced::Skipped(_) if in_order => {}
            Sequenced::Doubled => {
                self.findings.duplicated += 1;
                return Observed::Wrong;
            }
            Sequenced::Late | Sequenced::Next | Sequenced::Skipped(_) => {
                self.findings.reordered += 1
            }
        }
        self.sound += 1;
        Observed::Sound {
            intended_ns: head.intended_ns,
        }
    }

    /// Takes a record without a value: never sent by a generator.
    pub fn observe_null(&mut self) -> Observed {
        self.findings.corrupt += 1;
        Observed::Wrong
    }

    /// How many of this run's records came, each counted once.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.sound
    }

    /// What was wrong, given for each producer and partition how many records were acknowledged and how many were sent at all. Only partitions for which `owned` holds
    /// are judged: a verifier sees those of its own consumer.
    ///
    /// A record behind the last acknowledged one may be there or not: its acknowledgement may have been lost on the way. One that was never sent may not.
    pub fn findings(
        &self,
        owned: impl Fn(u32) -> bool,
        acked: impl Fn(u32, u32) -> u64,
        sent: impl Fn(u32, u32) -> u64,
    ) -> Findings {
        let mut findings = self.findings;
        let untouched = SequenceChecker::default();
        for (check, partition) in self.partitions.iter().zip(0_u32..) {
            if !owned(partition) {
                continue;
            }
            for producer in 0..self.producers {
                let sequence = check.producers.get(producer as usize).unwrap_or(&untouched);
                findings.lost += sequence.lost(acked(producer, partition));
                findings.corrupt += sequence.next().saturating_sub(sent(producer, partition));
            }
        }
        findings
    }
}
