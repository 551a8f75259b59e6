//! One partition as a consumer reads it: where it is, what it has granted, and the proof of what arrives. No I/O.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::error::ClientError;
use crate::batch::{
    BatchError, BatchLimits, CheckScratch, RecordRef, Records, split_batch, verify_stamp_only,
};
use crate::frame::{Deliver, Message, Start, Subscribe, Subscribed};
use crate::ids::{Offset, PartitionIndex, SubscriptionId, TopicId};

/// Consecutive records of one partition: a batch as it was stored, checked.
///
/// Its bytes count against the consumer's credit until it is dropped.
#[derive(Debug)]
pub struct Delivery {
    /// The partition.
    pub partition: PartitionIndex,
    /// The records, from the first of the batch on. Those before [`skip_before`](Self::skip_before) were not asked for.
    pub records: Records,
    /// Just behind the partition's last durable record when the server sent this.
    pub next_offset: Offset,
    /// The first offset of the batch that was asked for and not delivered before.
    pub skip_before: Offset,
    _credit: Credit,
}

impl Delivery {
    /// The records that were asked for, with their offsets.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, RecordRef<'_>)> {
        let skip = self
            .skip_before
            .0
            .saturating_sub(self.records.base_offset().0);
        self.records
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// The offset behind the last record: what to commit once these are dealt with.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.records.next_offset()
    }
}

/// Counts the bytes of the deliveries there are.
pub(crate) trait CreditAccount: Send + Sync {
    /// A delivery of so many bytes came.
    fn hold(&self, bytes: u64);
    /// It was dropped.
    fn give_back(&self, bytes: u64);
}

/// Bytes of a delivery, given back when it is dropped.
struct Credit {
    bytes: u64,
    account: Arc<dyn CreditAccount>,
}

impl Credit {
    fn hold(bytes: u64, account: &Arc<dyn CreditAccount>) -> Self {
        account.hold(bytes);
        Self {
            bytes,
            account: Arc::clone(account),
        }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A partition's subscription, over all the connections it outlives.
pub(crate) struct Subscription {
    id: SubscriptionId,
    topic: TopicId,
    partition: PartitionIndex,
    start: Start,
    /// The next offset to deliver, once the server has said where the start is.
    position: Option<Offset>,
    account: Arc<dyn CreditAccount>,
    ended: bool,
}

impl Subscription {
    pub(crate) fn new(
        id: SubscriptionId,
        topic: TopicId,
        partition: PartitionIndex,
        start: Start,
        account: Arc<dyn CreditAccount>,
    ) -> Self {
        Self {
            id,
            topic,
            partition,
            start,
            position: None,
            account,
            ended: false,
        }
    }

    pub(crate) const fn id(&self) -> SubscriptionId {
        self.id
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether its place is known, or it has none.
    pub(crate) const fn has_begun(&self) -> bool {
        self.position.is_some() || self.ended
    }

    /// The request for a new connection: from the first offset not delivered yet.
    pub(crate) fn subscribe(&self, credit: u64) -> Message {
        Message::Subscribe(Subscribe {
            subscription: self.id,
            topic: self.topic,
            partition: self.partition,
            start: self.position.map_or(self.start, Start::Offset),
            credit,
        })
    }

    pub(crate) fn handle_subscribed(&mut self, subscribed: &Subscribed) {
        if self.position.is_none() {
            self.position = Some(subscribed.start_offset);
        }
    }

    pub(crate) fn handle_end(&mut self, error: crate::error::ErrorBody) -> ClientError {
        self.ended = true;
        ClientError::SubscriptionEnded {
            partition: self.partition,
            position: self.position,
            error,
        }
    }

    /// Proves what arrived and appends it to `into`, without what lies before the position.
    ///
    /// # Errors
    /// A batch is damaged, or leaves a hole; the position stays before it, so that subscribing again asks for it again.
    pub(crate) fn handle_deliver(
        &mut self,
        deliver: Deliver,
        scratch: &mut CheckScratch,
        into: &mut impl Extend<Delivery>,
    ) -> Result<(), ClientError> {
        let Some(mut position) = self.position else {
            return Err(ClientError::Protocol("Deliver came before Subscribed"));
        };
        let mut batches = deliver.batches;
        loop {
            let batch = split_batch(&mut batches).map_err(|error| self.damaged(position, error))?;
            let Some(batch) = batch else { return Ok(()) };
            let credit = Credit::hold(batch.len() as u64, &self.account);
            let records = self
                .open(batch, scratch)
                .map_err(|error| self.damaged(position, error))?;
            let base_offset = records.base_offset();
            if base_offset > position {
                // The program would never hear of the records in between.
                let error = BatchError::Misplaced {
                    found: base_offset,
                    expected: position,
                };
                return Err(self.damaged(position, error));
            }
            if records.next_offset() <= position {
                continue;
            }
            let delivery = Delivery {
                partition: self.partition,
                next_offset: deliver.next_offset,
                skip_before: position,
                records,
                _credit: credit,
            };
            position = delivery.records.next_offset();
            self.position = Some(position);
            into.extend([delivery]);
        }
    }

    /// The stamp proves that the batch is of this partition and has this offset; opening proves the rest.
    fn open(&self, batch: Bytes, scratch: &mut CheckScratch) -> Result<Records, BatchError> {
        verify_stamp_only(&batch, self.topic, self.partition)?;
        Records::open_with(batch, &BatchLimits::FORMAT, scratch)
    }

    fn damaged(&self, position: Offset, error: BatchError) -> ClientError {
        ClientError::BatchDamaged {
            partition: self.partition,
            position,
            error,
        }
    }
}
