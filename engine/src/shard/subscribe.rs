//! Subscriptions: batches are pushed as they become durable, as far as the subscriber's credit goes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use gannet_wire::frame::{Message, Subscribe, Subscribed, SubscriptionEnd};
use gannet_wire::{CorrelationId, ErrorBody, ErrorCode, Offset, ShardIndex, SubscriptionId};

use super::log::ShardLog;
use super::mail::RemoteConnection;
use super::read::ReadCursor;
use super::requests::{Shard, unknown_here};
use super::room::Room;
use super::slot::Slot;
use crate::io::local::{Signal, yield_once};
use crate::io::{Clock, Disk, Spawn};
use crate::storage::PartitionKey;
use crate::storage::slice::Slice;

/// Bytes that one Deliver carries at most, unless a single batch is larger.
const DELIVER_BYTES_MAX: usize = 512 << 10;

/// A connection as its requests see it: here, or on another shard.
pub trait Peer {
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
    /// Below zero after a delivery that overdrew it: what is granted pays for that first.
    credit: Cell<i64>,
    ended: Cell<bool>,
    changed: Signal,
}

impl Subscription {
    /// A subscription that may be sent `credit` bytes.
    #[must_use]
    pub fn new(id: SubscriptionId, credit: u64) -> Rc<Self> {
        Rc::new(Self {
            id,
            credit: Cell::new(i64::try_from(credit).unwrap_or(i64::MAX)),
            ended: Cell::new(false),
            changed: Signal::new(),
        })
    }

    /// More may be sent.
    pub fn grant(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.credit.set(self.credit.get().saturating_add(bytes));
        self.changed.notify_all();
    }

    /// How much the next delivery may have.
    fn deliver_bytes_max(&self) -> usize {
        usize::try_from(self.credit.get())
            .unwrap_or(0)
            .min(DELIVER_BYTES_MAX)
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
            let (mut granted, appended) = (self.changed.version(), slot.changed.version());
            if self.ended.get() {
                return;
            }
            // One that has all there is would stand in the queue for nothing.
            let has_all =
                !slot.is_deleted() && cursor.offset == slot.state.borrow().durable_offset();
            if self.credit.get() > 0 && !has_all {
                let bytes_max = {
                    let place = || cursor.shared_place(&slot);
                    // What was granted while it waited counts.
                    let bytes = || self.deliver_bytes_max();
                    let mut claimed = pin!(peer.room().claimed(place, bytes));
                    // It keeps its place in the queue when it is granted more.
                    loop {
                        let granted_more = pin!(self.changed.changed_since(granted));
                        match select(claimed.as_mut(), granted_more).await {
                            Either::Left((bytes_max, _)) => break bytes_max,
                            Either::Right(_) if self.ended.get() => return,
                            Either::Right(_) => granted = self.changed.version(),
                        }
                    }
                };
                if self.ended.get() {
                    // In the same moment: nothing is read for nobody.
                    peer.room().free(bytes_max);
                    return;
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
                        let bytes: usize = batches.iter().map(|batch| batch.len()).sum();
                        // Granted meanwhile or not: what is sent is taken from what is there now.
                        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
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

/// What names a subscription on its partition's shard.
type SubscriptionName = (RemoteConnection, SubscriptionId);

/// The subscriptions to partitions of a shard.
#[derive(Default)]
pub(super) struct Subscriptions(RefCell<HashMap<SubscriptionName, Rc<Subscription>>>);

impl Subscriptions {
    fn has(&self, name: SubscriptionName) -> bool {
        self.0.borrow().contains_key(&name)
    }

    fn add(&self, name: SubscriptionName, subscription: &Rc<Subscription>) {
        self.0.borrow_mut().insert(name, subscription.clone());
    }

    /// Forgets a subscription, unless another one has its name by now.
    fn remove(&self, name: SubscriptionName, subscription: &Rc<Subscription>) {
        let mut subscriptions = self.0.borrow_mut();
        if subscriptions
            .get(&name)
            .is_some_and(|known| Rc::ptr_eq(known, subscription))
        {
            subscriptions.remove(&name);
        }
    }

    fn grant(&self, name: SubscriptionName, bytes: u64) {
        if let Some(subscription) = self.0.borrow().get(&name) {
            subscription.grant(bytes);
        }
    }

    fn end(&self, name: SubscriptionName) {
        if let Some(subscription) = self.0.borrow_mut().remove(&name) {
            subscription.end();
        }
    }

    /// A connection is gone.
    pub(super) fn end_all_of(&self, from: RemoteConnection) {
        self.0.borrow_mut().retain(|(connection, _), subscription| {
            let stays = *connection != from;
            if !stays {
                subscription.end();
            }
            stays
        });
    }
}

impl<D: Disk, C: Clock, S: Spawn> Shard<D, C, S> {
    /// Begins a subscription to a partition of this shard; the peer hears of success or failure.
    pub fn subscribe(
        self: &Rc<Self>,
        from: RemoteConnection,
        peer: Rc<dyn Peer>,
        correlation: CorrelationId,
        request: Subscribe,
    ) {
        let key = PartitionKey {
            topic: request.topic,
            partition: request.partition,
        };
        let Some(slot) = self.local_slot(key) else {
            peer.send(correlation, Message::Error(unknown_here(key)));
            return;
        };
        let name = (from, request.subscription);
        if self.subscriptions.has(name) {
            let sentence = format!(
                "subscription {} exists on this connection already",
                request.subscription
            );
            peer.send(
                correlation,
                Message::Error(ErrorBody::new(ErrorCode::SubscriptionExists, sentence)),
            );
            return;
        }
        let subscription = Subscription::new(request.subscription, request.credit);
        self.subscriptions.add(name, &subscription);
        let shard = self.clone();
        self.spawn().spawn(async move {
            let given_up = || subscription.is_ended();
            let found = shard
                .log
                .start_offset_unless(&slot, request.start, &given_up)
                .await;
            match found {
                Ok(start_offset) => {
                    let (log_start, next_offset) = {
                        let state = slot.state.borrow();
                        (state.log_start(), state.durable_offset())
                    };
                    peer.send(
                        correlation,
                        Message::Subscribed(Subscribed {
                            subscription: request.subscription,
                            start_offset,
                            log_start,
                            next_offset,
                        }),
                    );
                    subscription
                        .clone()
                        .run(shard.log.clone(), slot, peer, start_offset)
                        .await;
                }
                Err(error) => peer.send(correlation, Message::Error(error.to_body())),
            }
            shard.subscriptions.remove(name, &subscription);
        });
    }

    /// Grants credit to a subscription on this shard. One that has just ended hears nothing: its end is on the way.
    pub fn grant(&self, from: RemoteConnection, subscription: SubscriptionId, bytes: u64) {
        self.subscriptions.grant((from, subscription), bytes);
    }

    /// Ends a subscription on this shard.
    pub fn unsubscribe(&self, from: RemoteConnection, subscription: SubscriptionId) {
        self.subscriptions.end((from, subscription));
    }
}
