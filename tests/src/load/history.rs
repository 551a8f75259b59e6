//! What clients sent, were told and were given, and what is wrong with a broker that holds something else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::LoadPlan;
use super::stored::{Identity, Stored};

/// Consecutive records of one producer and partition, acknowledged together.
#[derive(Clone)]
pub(super) struct Acked {
    pub(super) producer: u32,
    pub(super) partition: u32,
    pub(super) first: u64,
    pub(super) records: u64,
    pub(super) base_offset: u64,
}

/// Consecutive records of one producer and partition that were given up.
#[derive(Clone)]
pub(super) struct Refused {
    pub(super) producer: u32,
    pub(super) partition: u32,
    pub(super) first: u64,
    pub(super) records: u64,
    pub(super) why: String,
}

/// The history of one topic.
#[derive(Clone)]
pub struct History {
    acked: Vec<Acked>,
    refused: Vec<Refused>,
    /// By consumer and partition: offsets follow each other from 0, each delivered once.
    delivered: Vec<Vec<Vec<Identity>>>,
    /// By producer and partition; known once it has ended.
    sent: BTreeMap<(u32, u32), u64>,
    troubles: Vec<String>,
}

/// What is wrong. Records, but for the sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Acknowledged, and stored nowhere.
    pub lost: u64,
    /// Stored more than once.
    pub doubled: u64,
    /// Stored behind a later one of the same producer.
    pub reordered: u64,
    /// Acknowledged with another offset than they are stored at.
    pub moved: u64,
    /// Delivered from an offset that holds something else, or nothing.
    pub changed: u64,
    /// Given up by their producer, or never answered.
    pub refused: u64,
    /// What clients complained of.
    pub troubles: Vec<String>,
    /// Some of the findings: a sentence each.
    pub examples: Vec<String>,
}

impl History {
    pub(super) fn new(plan: &LoadPlan) -> Self {
        let partitions = vec![Vec::new(); plan.partitions as usize];
        Self {
            acked: Vec::new(),
            refused: Vec::new(),
            delivered: vec![partitions; plan.consumers as usize],
            sent: BTreeMap::new(),
            troubles: Vec::new(),
        }
    }

    pub(super) fn acked(&mut self, acked: Acked) {
        self.acked.push(acked);
    }

    pub(super) fn refused(&mut self, refused: Refused) {
        self.refused.push(refused);
    }

    pub(super) fn delivered(&mut self, consumer: u32, partition: u32, records: &[(u64, Identity)]) {
        let Some(delivered) = self
            .delivered
            .get_mut(consumer as usize)
            .and_then(|partitions| partitions.get_mut(partition as usize))
        else {
            return;
        };
        let mut misdelivered = None;
        for (offset, identity) in records {
            if *offset != delivered.len() as u64 {
                misdelivered.get_or_insert(*offset);
            }
            delivered.push(*identity);
        }
        if let Some(offset) = misdelivered {
            self.troubles.push(format!(
                "consumer {consumer}, partition {partition}: offset {offset} came out of turn"
            ));
        }
    }

    pub(super) fn trouble(&mut self, sentence: String) {
        self.troubles.push(sentence);
    }

    pub(super) fn sent(&mut self, producer: u32, sent: &[u64]) {
        for (partition, records) in (0..).zip(sent) {
            self.sent.insert((producer, partition), *records);
        }
    }

    /// Records acknowledged.
    #[must_use]
    pub fn acked_records(&self) -> u64 {
        self.acked.iter().map(|acked| acked.records).sum()
    }

    /// Records delivered, to all consumers together.
    #[must_use]
    pub fn delivered_records(&self) -> u64 {
        self.delivered
            .iter()
            .flatten()
            .map(|records| records.len() as u64)
            .sum()
    }

    /// What is wrong with a broker that came to hold `stored` after all of this.
    #[must_use]
    pub fn findings(&self, stored: &Stored) -> Findings {
        let mut findings = Findings {
            troubles: self.troubles.clone(),
            ..Findings::default()
        };
        self.judge_order(stored, &mut findings);
        self.judge_acknowledgements(stored, &mut findings);
        self.judge_deliveries(stored, &mut findings);
        self.judge_answers(&mut findings);
        findings
    }

    fn judge_order(&self, stored: &Stored, findings: &mut Findings) {
        for (partition, records) in (0u32..).zip(&stored.partitions) {
            let mut next: BTreeMap<u32, u64> = BTreeMap::new();
            for (offset, identity) in records.iter().enumerate() {
                let next = next.entry(identity.producer).or_default();
                if identity.sequence < *next {
                    let earlier = records.iter().take(offset).any(|other| other == identity);
                    let (count, what) = if earlier {
                        (&mut findings.doubled, "is stored twice")
                    } else {
                        (&mut findings.reordered, "stands behind a later one")
                    };
                    *count += 1;
                    findings.example(|| {
                        format!("partition {partition}, offset {offset}: {identity:?} {what}")
                    });
                }
                *next = (*next).max(identity.sequence + 1);
            }
        }
    }

    fn judge_acknowledgements(&self, stored: &Stored, findings: &mut Findings) {
        // Only those that are not where they were said to be are looked for everywhere.
        let mut missing = Vec::new();
        for acked in &self.acked {
            for index in 0..acked.records {
                let identity = Identity {
                    producer: acked.producer,
                    sequence: acked.first + index,
                };
                let offset = acked.base_offset + index;
                if stored.at(acked.partition, offset) != Some(identity) {
                    missing.push((acked.partition, identity, offset));
                }
            }
        }
        if missing.is_empty() {
            return;
        }
        let everywhere: Vec<BTreeSet<Identity>> = stored
            .partitions
            .iter()
            .map(|records| records.iter().copied().collect())
            .collect();
        for (partition, identity, offset) in missing {
            let there = everywhere
                .get(partition as usize)
                .is_some_and(|records| records.contains(&identity));
            let (count, what) = if there {
                (&mut findings.moved, "is stored elsewhere")
            } else {
                (&mut findings.lost, "is stored nowhere")
            };
            *count += 1;
            findings.example(|| {
                format!(
                    "partition {partition}: {identity:?}, acknowledged at offset {offset}, {what}"
                )
            });
        }
    }

    fn judge_deliveries(&self, stored: &Stored, findings: &mut Findings) {
        for (consumer, partitions) in self.delivered.iter().enumerate() {
            for (partition, records) in (0u32..).zip(partitions) {
                for (offset, identity) in (0u64..).zip(records) {
                    let holds = stored.at(partition, offset);
                    if holds != Some(*identity) {
                        findings.changed += 1;
                        findings.example(|| {
                            format!(
                                "partition {partition}, offset {offset}: consumer {consumer} was given {identity:?}, and it holds {holds:?}"
                            )
                        });
                    }
                }
            }
        }
    }

    fn judge_answers(&self, findings: &mut Findings) {
        let mut answered: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for acked in &self.acked {
            *answered
                .entry((acked.producer, acked.partition))
                .or_default() += acked.records;
        }
        for refused in &self.refused {
            findings.refused += refused.records;
            *answered
                .entry((refused.producer, refused.partition))
                .or_default() += refused.records;
            let Refused {
                producer,
                partition,
                first,
                records,
                why,
            } = refused;
            findings.example(|| {
                format!("partition {partition}: producer {producer} gave up {records} records from {first} on: {why}")
            });
        }
        for (place, sent) in &self.sent {
            let answered = answered.get(place).copied().unwrap_or_default();
            if answered != *sent {
                findings.refused += sent.abs_diff(answered);
                findings.example(|| {
                    format!("of {sent} records of producer and partition {place:?} {answered} were answered")
                });
            }
        }
    }
}

impl Findings {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing is wrong but what durability `accepted` allows: that a crash takes acknowledged records, and that their producers are told of the gap.
    #[must_use]
    pub fn only_what_accepted_allows(&self) -> bool {
        let Self {
            lost: _,
            refused: _,
            troubles: _,
            examples: _,
            doubled,
            reordered,
            moved,
            changed,
        } = self;
        [doubled, reordered, moved, changed]
            .into_iter()
            .all(|count| *count == 0)
    }

    fn example(&mut self, sentence: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(sentence());
        }
    }
}

/// So many findings are told in full.
const EXAMPLES_MAX: usize = 10;

impl fmt::Display for Findings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lost,
            doubled,
            reordered,
            moved,
            changed,
            refused,
            troubles,
            examples,
        } = self;
        write!(
            formatter,
            "lost {lost}, doubled {doubled}, reordered {reordered}, moved {moved}, changed behind a consumer {changed}, not taken {refused}"
        )?;
        for sentence in examples.iter().chain(troubles.iter().take(EXAMPLES_MAX)) {
            write!(formatter, "\n  {sentence}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
