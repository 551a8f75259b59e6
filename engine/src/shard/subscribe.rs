//! Subscriptions: batches are pushed as they become durable, as far as the subscriber's credit goes.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::select;
use gannet_wire::frame::{Message, SubscriptionEnd};
use gannet_wire::{CorrelationId, Offset, ShardIndex, SubscriptionId};

use super::log::ShardLog;
use super::read::ReadCursor;
use super::room::Room;
use super::slot::{CompletionSink, Slot};
use crate::io::local::{Signal, yield_once};
use crate::io::{Clock, Disk};
use crate::storage::slice::Slice;

/// Bytes that one Deliver carries at most, unless a single batch is larger.
const DELIVER_BYTES_MAX: usize = 512 << 10;

/// A connection as its requests see it: here, or on another shard.
pub trait Peer: CompletionSink {
    /// Sends a frame.
    fn send(&self, correlation: CorrelationId, message: Message);
    /// Sends batches of a subscription.
    fn deliver(&self, subscription: SubscriptionId, next_offset: Offset, batches: Vec<Slice>);
    /// Sends batches that came from another shard, which is to hear when they have left.
    fn deliver_copy(
        &self,
        from: ShardIndex,
        subscription: SubscriptionId,
        next_offset: Offset,
        batches: Bytes,
    );
    /// What may wait for it.
    fn room(&self) -> &Room;
}

/// A subscriber's claim on a partition. It can make a shard hold no more than its credit, and than its connection has room for.
pub struct Subscription {
    id: SubscriptionId,
    credit: Cell<u64>,
    ended: Cell<bool>,
    changed: Signal,
}

impl Subscription {
    /// A subscription that may be sent `credit` bytes.
    #[must_use]
    pub fn new(id: SubscriptionId, credit: u64) -> Rc<Self> {
        Rc::new(Self {
            id,
            credit: Cell::new(credit),
            ended: Cell::new(false),
            changed: Signal::new(),
        })
    }

    /// More may be sent.
    pub fn grant(&self, bytes: u64) {
        self.credit.set(self.credit.get().saturating_add(bytes));
        self.changed.notify_all();
    }

    /// Nothing more is sent.
    pub fn end(&self) {
        self.ended.set(true);
        self.changed.notify_all();
    }

    /// Pushes batches from `offset` on until the subscription ends, on its own account or for an error, which the peer is told. One task a subscription.
    pub async fn run<D: Disk, C: Clock>(
        self: Rc<Self>,
        log: Rc<ShardLog<D, C>>,
        slot: Rc<Slot>,
        peer: Rc<dyn Peer>,
        offset: Offset,
    ) {
        let mut cursor = ReadCursor::at(offset);
        loop {
            let (granted, appended) = (self.changed.version(), slot.changed.version());
            if self.ended.get() {
                return;
            }
            let credit = self.credit.get();
            if credit > 0 {
                let bytes_max = usize::try_from(credit)
                    .unwrap_or(usize::MAX)
                    .min(DELIVER_BYTES_MAX);
                let drained = peer.room().drained().version();
                if !peer.room().claim(bytes_max) {
                    select(
                        pin!(self.changed.changed_since(granted)),
                        pin!(peer.room().drained().changed_since(drained)),
                    )
                    .await;
                    continue;
                }
                let read = log.read(&slot, &mut cursor, bytes_max).await;
                // From here on it is what is sent that counts.
                peer.room().free(bytes_max);
                match read {
                    Ok(batches) if batches.is_empty() => {}
                    Ok(batches) => {
                        if self.ended.get() {
                            return;
                        }
                        let bytes: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
                        // Granted meanwhile or not: what is sent is taken from what is there now.
                        self.credit.set(self.credit.get().saturating_sub(bytes));
                        let next_offset = slot.state.borrow().durable_offset();
                        peer.deliver(self.id, next_offset, batches);
                        // The others of this shard come first.
                        yield_once().await;
                        continue;
                    }
                    Err(error) => {
                        if !self.ended.replace(true) {
                            let end = SubscriptionEnd {
                                subscription: self.id,
                                error: error.to_body(),
                            };
                            peer.send(CorrelationId(0), Message::SubscriptionEnd(end));
                        }
                        return;
                    }
                }
            }
            select(
                pin!(self.changed.changed_since(granted)),
                pin!(slot.changed.changed_since(appended)),
            )
            .await;
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.get()
    }
}
