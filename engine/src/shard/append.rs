//! What comes in: batches get their offsets, committed offsets their place, or a reason why not.

use std::rc::Rc;

use bytes::Bytes;
use gannet_wire::batch::CheckedHeader;
use gannet_wire::frame::Durability;
use gannet_wire::{ErrorBody, ErrorCode};

use super::completion::{Completion, Outcome};
use super::log::ShardLog;
use super::pending::{BatchArrival, CommitArrival, WaitingDuplicate};
use super::slot::Slot;
use super::topics::topic_deleted;
use crate::cursor::CommittedOffset;
use crate::io::{Clock, Disk};
use crate::partition::{AppendRefusal, Appended, ProducerLimits};

/// A batch whose bytes were checked, with the proof.
#[derive(Debug)]
pub struct CheckedBatch {
    /// The batch as it was sent.
    pub bytes: Bytes,
    /// What its check found.
    pub header: CheckedHeader,
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Whether a publisher may go on now, or has to wait by [`ShardLog::admitted`].
    #[must_use]
    pub fn admits(&self) -> bool {
        self.held_bytes() < self.config.unflushed_bytes_max
            && self.uncommitted_bytes() < UNCOMMITTED_BYTES_MAX
    }

    /// What waits for the disk: gathering and being written.
    fn uncommitted_bytes(&self) -> u64 {
        self.arrivals.bytes() as u64 + self.on_their_way.bytes()
    }

    /// Memory of all batches that are in no segment yet: waiting, being written, and in the tail.
    pub(super) fn held_bytes(&self) -> u64 {
        self.uncommitted_bytes() + self.recent.unflushed_bytes()
    }

    /// Waits until memory allows another batch, or until it is clear that none is taken: a full disk refuses, and keeps nobody waiting. A publisher waits here, and thereby its connection.
    pub async fn admitted(&self) {
        loop {
            let seen = self.room.version();
            if self.admits()
                || self.is_stopping()
                || self.is_disk_full()
                || self.failure.borrow().is_some()
            {
                return;
            }
            if self.held_bytes() >= self.config.unflushed_bytes_max {
                self.want_flush();
            }
            self.room.changed_since(seen).await;
        }
    }

    /// Appends a batch. `completion` hears of it exactly once: at once when it is refused or `accepted` is enough, else when it is durable.
    pub fn publish(
        &self,
        slot: &Rc<Slot>,
        batch: CheckedBatch,
        durability: Durability,
        completion: Completion,
    ) {
        if let Some(refusal) = self.refusal(slot) {
            completion.complete(Outcome::Failed(refusal));
            return;
        }
        if self.arrivals.is_empty() {
            // The first of its commit: what came with it is as late, and retention must not find it older than it is.
            self.observe_clock();
        }
        let header = batch.header.header();
        let now = self.append_clock.borrow().now();
        let appended = slot.state.borrow_mut().append(
            header.producer(),
            header.record_count(),
            now,
            &self.producer_limits(),
        );
        match appended {
            Err(refusal) => completion.complete(Outcome::Failed(append_error(&refusal))),
            Ok(Appended::Duplicate {
                base_offset,
                next_offset,
                append_time,
            }) => {
                let outcome = Outcome::Published {
                    base_offset,
                    append_time,
                    durability: Durability::Durable,
                    duplicate: true,
                };
                if slot.state.borrow().durable_offset() >= next_offset {
                    completion.complete(outcome);
                } else {
                    slot.pending.borrow_mut().duplicates.push(WaitingDuplicate {
                        next_offset,
                        outcome,
                        completion,
                    });
                }
            }
            Ok(Appended::New { base_offset }) => {
                // Whoever is content with memory has its answer before the commit, and sends on.
                let mut streamed = true;
                let completion = match durability {
                    Durability::Durable => {
                        streamed = completion.has_others_in_flight();
                        Some(completion)
                    }
                    Durability::Accepted => {
                        let outcome = Outcome::Published {
                            base_offset,
                            append_time: now,
                            durability,
                            duplicate: false,
                        };
                        completion.complete(outcome);
                        None
                    }
                };
                let arrival = BatchArrival {
                    base_offset,
                    record_count: header.record_count(),
                    append_time: now,
                    max_timestamp: header.max_timestamp(),
                    leader_epoch: slot.state.borrow().leader_epoch(),
                    producer: header.producer(),
                    bytes: batch.bytes,
                    completion,
                };
                self.enqueue_batch(slot, arrival, streamed);
            }
        }
    }

    /// Bounds of the producers' table now: silence counts as it really passed, whatever the clock has jumped over.
    pub(super) fn producer_limits(&self) -> ProducerLimits {
        let clock = self.append_clock.borrow();
        ProducerLimits {
            expiry_ms: clock.stamps_of_age(self.config.producers.expiry_ms),
            ..self.config.producers
        }
    }

    /// Commits a group's offset; `completion` hears when it is durable.
    pub fn commit_offset(&self, slot: &Rc<Slot>, offset: CommittedOffset, completion: Completion) {
        if let Some(refusal) = self.refusal(slot) {
            completion.complete(Outcome::Failed(refusal));
            return;
        }
        if !slot.state.borrow().committed.accepts(&offset.group) {
            let error = ErrorBody::new(
                ErrorCode::GroupInvalid,
                format!(
                    "{} has offsets of {} groups already, which is the limit",
                    slot.topic().name,
                    crate::cursor::GROUPS_MAX
                ),
            );
            completion.complete(Outcome::Failed(error));
            return;
        }
        let encoded = offset.encode();
        slot.pending.borrow_mut().commits.push_back(CommitArrival {
            offset,
            encoded,
            completion,
        });
        self.gathering.awaited();
        self.queue(slot);
    }

    /// Why nothing can be appended now, if so.
    fn refusal(&self, slot: &Slot) -> Option<ErrorBody> {
        if slot.is_deleted() {
            return Some(topic_deleted(slot));
        }
        if let Some(failure) = &*self.failure.borrow() {
            return Some(failure.clone());
        }
        if self.is_stopping() {
            return Some(ErrorBody::of_code(ErrorCode::ServerStopping));
        }
        if self.is_disk_full() {
            return Some(ErrorBody::new(
                ErrorCode::DiskFull,
                format!(
                    "the disk of {} is nearly full: free some space, or let retention do so; reading goes on",
                    self.data.root().display()
                ),
            ));
        }
        None
    }

    fn enqueue_batch(&self, slot: &Rc<Slot>, batch: BatchArrival, streamed: bool) {
        if streamed {
            self.gathering.streamed(self.clock.monotonic());
        } else {
            self.gathering.awaited();
        }
        self.disk_room.take(batch.bytes.len() as u64);
        self.arrivals
            .push_batch(slot, batch, self.config.direct_bytes_min);
        self.work.notify_all();
    }

    /// Puts a slot in the queue for the next commit.
    pub(super) fn queue(&self, slot: &Rc<Slot>) {
        self.arrivals.queue(slot);
        self.work.notify_all();
    }
}

/// What waits for the disk is a queue: more than the disk has at once makes nothing faster, and each publish later. Those that are acknowledged from memory
/// would fill all of it otherwise.
const UNCOMMITTED_BYTES_MAX: u64 = 32 << 20;

/// What the wire says of a refusal.
fn append_error(refusal: &AppendRefusal) -> ErrorBody {
    let code = match refusal {
        AppendRefusal::SequenceGap => ErrorCode::SequenceGap,
        AppendRefusal::ProducerUnknown => ErrorCode::ProducerUnknown,
        AppendRefusal::ProducerFenced => ErrorCode::ProducerFenced,
        AppendRefusal::DuplicateExpired => ErrorCode::DuplicateExpired,
        AppendRefusal::OffsetsExhausted => ErrorCode::StorageFailed,
    };
    ErrorBody::new(code, refusal.to_string())
}
