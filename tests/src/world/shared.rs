//! What the clients of a simulated world share over all lives of the broker: the model, the producers, and who waits for what.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use gannet_engine::io::Clock;
use gannet_engine::io::sim::{SimClock, SimDisk};
use gannet_engine::shard::slot::{Completion, CompletionSink, Outcome};
use gannet_engine::storage::PartitionKey;
use gannet_wire::batch::ProducerStamp;
use gannet_wire::frame::Durability;
use gannet_wire::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

use super::limits::INFLIGHT_MAX;
use super::model::Model;

/// An idempotent producer of one partition. It outlives the broker: what was not acknowledged is sent again, in order.
pub(super) struct Producer {
    pub(super) key: PartitionKey,
    id: ProducerId,
    next_sequence: u32,
    /// Sent and not acknowledged, oldest first.
    pub(super) unacked: VecDeque<u64>,
    /// The newest that were acknowledged: sent again, they must be answered with where they are.
    pub(super) acked: VecDeque<u64>,
    pub(super) in_flight: usize,
    /// A batch was refused or a broker has gone: everything is sent again once nothing is in flight.
    pub(super) broken: bool,
}

impl Producer {
    pub(super) fn new(key: PartitionKey, number: u64) -> Self {
        Self {
            key,
            id: ProducerId(number),
            next_sequence: 0,
            unacked: VecDeque::new(),
            acked: VecDeque::new(),
            in_flight: 0,
            broken: false,
        }
    }

    /// The stamp of the next batch.
    pub(super) fn stamp(&mut self, records: u32) -> ProducerStamp {
        let base_sequence = Sequence(self.next_sequence);
        self.next_sequence = self.next_sequence.wrapping_add(records);
        ProducerStamp {
            id: self.id,
            epoch: ProducerEpoch(0),
            base_sequence,
        }
    }
}

/// A request that was not answered yet.
#[derive(Clone, Debug)]
enum Waiting {
    Publish {
        attempt: u64,
        producer: Option<usize>,
        /// Nothing before it was unacknowledged when it was sent: no gap can excuse its refusal.
        first: bool,
    },
    Commit {
        key: PartitionKey,
        group: String,
        number: usize,
    },
}

/// See the module's text.
pub(super) struct Shared {
    pub(super) model: RefCell<Model>,
    pub(super) producers: RefCell<Vec<Producer>>,
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    next_token: Cell<u64>,
    /// Clients do nothing more in this life.
    pub(super) quiet: Cell<bool>,
    pub(super) clock: SimClock,
    /// Publishes that were refused because the disk was full.
    pub(super) refused_full: Cell<u64>,
    /// Batches without a producer that were refused, for whatever reason.
    pub(super) refused_plain: Cell<u64>,
    pub(super) duplicates: Cell<u64>,
    /// Commits of groups that were acknowledged.
    pub(super) commits: Cell<u64>,
    /// Commits of groups that were refused, for whatever reason.
    pub(super) refused_commits: Cell<u64>,
    /// What happened, when someone wants to know.
    steps: Option<RefCell<Vec<String>>>,
}

impl Shared {
    pub(super) fn new(clock: SimClock, disk: SimDisk, traced: bool) -> Rc<Self> {
        Rc::new(Self {
            model: RefCell::new(Model::on(disk)),
            producers: RefCell::default(),
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            quiet: Cell::new(false),
            clock,
            refused_full: Cell::new(0),
            refused_plain: Cell::new(0),
            duplicates: Cell::new(0),
            commits: Cell::new(0),
            refused_commits: Cell::new(0),
            steps: traced.then(RefCell::default),
        })
    }

    /// Notes a step.
    pub(super) fn note(&self, step: impl FnOnce() -> String) {
        if let Some(steps) = &self.steps {
            let at = self.clock.monotonic();
            steps.borrow_mut().push(format!("{at:>14.6?}  {}", step()));
        }
    }

    pub(super) fn take_steps(&self) -> Vec<String> {
        self.steps.as_ref().map_or_else(Vec::new, RefCell::take)
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// Someone to tell what became of an attempt, and by which token it is known.
    pub(super) fn publish_completion(
        self: &Rc<Self>,
        attempt: u64,
        producer: Option<usize>,
    ) -> (u64, Completion) {
        let mut first = false;
        if let Some(index) = producer
            && let Some(producer) = self.producers.borrow_mut().get_mut(index)
        {
            producer.in_flight += 1;
            first = producer.unacked.front() == Some(&attempt);
        }
        self.completion(Waiting::Publish {
            attempt,
            producer,
            first,
        })
    }

    /// Someone to tell what became of a group's commit.
    pub(super) fn commit_completion(
        self: &Rc<Self>,
        key: PartitionKey,
        group: &str,
        number: usize,
    ) -> Completion {
        let waiting = Waiting::Commit {
            key,
            group: group.to_owned(),
            number,
        };
        self.completion(waiting).1
    }

    fn completion(self: &Rc<Self>, waiting: Waiting) -> (u64, Completion) {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        self.waiting.borrow_mut().insert(token, waiting);
        (token, Completion::new(self.clone(), token))
    }

    /// The broker is gone, and nobody is told anything any more.
    pub(super) fn broker_gone(&self) {
        self.waiting.borrow_mut().clear();
        self.quiet.set(false);
        for producer in self.producers.borrow_mut().iter_mut() {
            producer.in_flight = 0;
            producer.broken = true;
        }
    }

    /// Requests that were not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.waiting.borrow().len()
    }

    fn published(&self, attempt: u64, producer: Option<usize>, first: bool, outcome: &Outcome) {
        let mut model = self.model.borrow_mut();
        let mut producers = self.producers.borrow_mut();
        let mut producer = producer.and_then(|index| producers.get_mut(index));
        if let Some(producer) = producer.as_deref_mut() {
            producer.in_flight = producer.in_flight.saturating_sub(1);
        }
        match outcome {
            Outcome::Published {
                base_offset,
                durability,
                duplicate,
                ..
            } => {
                if *duplicate {
                    self.duplicates.set(self.duplicates.get() + 1);
                } else {
                    model.appended(attempt, base_offset.0, self.now_ms());
                }
                if *durability != Durability::Accepted {
                    model.acked_durable(attempt, base_offset.0, *duplicate);
                }
                if let Some(producer) = producer
                    && let Some(at) = producer.unacked.iter().position(|known| *known == attempt)
                {
                    producer.unacked.remove(at);
                    producer.acked.push_back(attempt);
                    if producer.acked.len() > INFLIGHT_MAX {
                        producer.acked.pop_front();
                    }
                }
            }
            Outcome::Failed(error) => {
                if error.code == ErrorCode::DiskFull {
                    self.refused_full.set(self.refused_full.get() + 1);
                }
                let Some(producer) = producer else {
                    self.refused_plain.set(self.refused_plain.get() + 1);
                    return;
                };
                let outage = is_outage(error.code);
                let gap = matches!(
                    error.code,
                    ErrorCode::SequenceGap | ErrorCode::ProducerUnknown
                );
                let unacked = producer.unacked.contains(&attempt);
                if !(outage || gap && unacked && !first || model.rot) {
                    model.violate(format!(
                        "batch {attempt} of producer {:?} (unacknowledged: {unacked}) was refused without a reason: {error}",
                        producer.id
                    ));
                }
                if unacked {
                    producer.broken = true;
                }
            }
            Outcome::Committed => {
                model.violate(format!("batch {attempt} was answered as a commit"));
            }
        }
    }
}

impl CompletionSink for Shared {
    /// As if all of them came by one connection.
    fn has_others_in_flight(&self) -> bool {
        self.waiting.borrow().len() > 1
    }

    fn complete(&self, token: u64, outcome: Outcome) {
        let waiting = self.waiting.borrow_mut().remove(&token);
        self.note(|| format!("answer {token} {waiting:?}: {outcome:?}"));
        match waiting {
            Some(Waiting::Publish {
                attempt,
                producer,
                first,
            }) => self.published(attempt, producer, first, &outcome),
            Some(Waiting::Commit { key, group, number }) => match outcome {
                Outcome::Committed => {
                    self.commits.set(self.commits.get() + 1);
                    self.model.borrow_mut().commit_acked(key, &group, number);
                }
                Outcome::Failed(error) => {
                    self.refused_commits.set(self.refused_commits.get() + 1);
                    if !is_outage(error.code) {
                        self.model.borrow_mut().violate(format!(
                            "commit {number} of {group} in {key} was refused without a reason: {error}"
                        ));
                    }
                }
                Outcome::Published { .. } => self
                    .model
                    .borrow_mut()
                    .violate(format!("a commit of {group} was answered as a batch")),
            },
            None => self
                .model
                .borrow_mut()
                .violate(format!("request {token} was answered twice: {outcome:?}")),
        }
    }
}

/// Whether a broker may refuse anything for it, while there are faults.
fn is_outage(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::DiskFull
            | ErrorCode::ServerStopping
            | ErrorCode::StorageFailed
            | ErrorCode::TopicDeleted
    )
}
