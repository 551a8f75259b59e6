//! What waits to be sent on a connection: acknowledgements are gathered into few frames, batches leave as slices of the memory they are in.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Deref;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use gannet_wire::frame::{Message, PublishAck, PublishAcksWriter, encode, encode_deliver_head};
use gannet_wire::{CorrelationId, Offset, ShardIndex, SubscriptionId};

use crate::io::local::{Semaphore, Signal};
use crate::shard::room::Room;
use crate::shard::slot::{CompletionSink, Outcome};
use crate::shard::subscribe::Peer;
use crate::storage::slice::Slice;

const DELIVER_HEAD_BYTES: usize = 32;

/// The sending side of one connection. Filled by requests that end, emptied by the connection's writer.
pub struct Outbox {
    /// Not encoded yet, so that many leave in one frame.
    acks: RefCell<Vec<PublishAck>>,
    /// In the order in which it is to be sent: the end of a subscription must not overtake its deliveries.
    queue: RefCell<VecDeque<Queued>>,
    /// For the bytes in `queue`, those being written, and `acks`.
    room: Room,
    publishes_in_flight: Cell<usize>,
    /// What was asked of partitions' shards and not answered yet, by the request's number; with the subscription that it begins, if it does. Each
    /// holds one of `requests`, so there are few.
    asked: RefCell<Vec<(CorrelationId, Option<SubscriptionId>)>>,
    /// For requests that are not publishes.
    requests: Semaphore,
    /// Subscriptions that failed or ended, which the connection has not noticed yet.
    ended: RefCell<Vec<SubscriptionId>>,
    closing: Cell<bool>,
    /// Something to send, or the end.
    changed: Signal,
}

enum Queued {
    /// Encoded frames, back to back.
    Frames(BytesMut),
    Delivery(Delivery),
}

struct Delivery {
    head: [u8; DELIVER_HEAD_BYTES],
    batches: Batches,
}

enum Batches {
    /// Of this shard's memory.
    Slices(Vec<Body>),
    /// From another shard.
    Copied(ShardIndex, Bytes),
}

/// Batches of a delivery.
enum Body {
    /// Where they lie.
    Shared(Slice),
    /// Copied out: they would have kept alive far more than they are.
    Copied(Bytes),
}

/// What is written with one call, and keeps alive what it points to.
pub struct Parcel {
    queued: VecDeque<Queued>,
    bytes: usize,
}

impl Outbox {
    /// An empty one. `buffer_bytes_max`: above it nothing more is read. `requests_max`: so many that are not publishes may be under way.
    #[must_use]
    pub fn new(buffer_bytes_max: usize, requests_max: usize) -> Rc<Self> {
        Rc::new(Self {
            acks: RefCell::default(),
            queue: RefCell::default(),
            room: Room::new(buffer_bytes_max),
            publishes_in_flight: Cell::new(0),
            asked: RefCell::default(),
            requests: Semaphore::new(requests_max),
            ended: RefCell::default(),
            closing: Cell::new(false),
            changed: Signal::new(),
        })
    }

    /// Whether more waits to be sent than may.
    pub(super) fn is_over(&self) -> bool {
        self.room.is_over()
    }

    /// Notified when less waits to be sent, or fewer publishes are in flight.
    pub(super) fn drained(&self) -> &Signal {
        self.room.drained()
    }

    /// Publishes that were not answered yet.
    pub(super) fn publishes_in_flight(&self) -> usize {
        self.publishes_in_flight.get()
    }

    /// A publish begins; its answer ends it.
    pub(super) fn begin_publish(&self) {
        self.publishes_in_flight
            .set(self.publishes_in_flight.get() + 1);
    }

    /// One is held by each request under way.
    pub(super) fn requests(&self) -> &Semaphore {
        &self.requests
    }

    /// A partition's shard is asked for something, perhaps to begin a subscription. What was acquired of [`Outbox::requests`] is given back with its
    /// answer.
    pub(super) fn begin_ask(&self, correlation: CorrelationId, begins: Option<SubscriptionId>) {
        self.asked.borrow_mut().push((correlation, begins));
    }

    /// A partition's shard has answered.
    fn end_ask(&self, correlation: CorrelationId, failed: bool) {
        let mut asked = self.asked.borrow_mut();
        let Some(at) = asked.iter().position(|(of, _)| *of == correlation) else {
            return;
        };
        let (_, begins) = asked.remove(at);
        if failed {
            self.ended.borrow_mut().extend(begins);
        }
        self.requests.release(1);
    }

    /// Sends a frame that this connection has made itself.
    pub(super) fn reply(&self, correlation: CorrelationId, message: Message) {
        // What was acknowledged before a Goodbye or an Error is heard before it.
        self.encode_acks();
        self.append_frames(|frames| encode(correlation, &message, frames));
        self.changed.notify_all();
    }

    /// Subscriptions that are no more.
    pub(super) fn take_ended(&self) -> Vec<SubscriptionId> {
        self.ended.take()
    }

    /// Nothing more will come: what is there is still sent.
    pub(super) fn close(&self) {
        self.closing.set(true);
        self.changed.notify_all();
        self.drained().notify_all();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Waits for something to send; `None` when there is nothing and there will be nothing more.
    pub async fn next_parcel(&self) -> Option<Parcel> {
        loop {
            let seen = self.changed.version();
            self.encode_acks();
            let queued = self.queue.take();
            if !queued.is_empty() {
                let bytes = queued.iter().map(Queued::bytes).sum();
                return Some(Parcel { queued, bytes });
            }
            if self.closing.get() {
                return None;
            }
            self.changed.changed_since(seen).await;
        }
    }

    /// A parcel is with the kernel.
    pub fn sent(&self, parcel: &Parcel) {
        self.room.free(parcel.bytes);
    }

    fn encode_acks(&self) {
        let mut acks = self.acks.borrow_mut();
        if acks.is_empty() {
            return;
        }
        let held_bytes = acks.len() * size_of::<PublishAck>();
        self.append_frames(|frames| {
            let mut writer = PublishAcksWriter::new(frames);
            for ack in acks.drain(..) {
                writer.push(&ack);
            }
            writer.finish();
        });
        self.room.free(held_bytes);
    }

    /// Encodes frames to the end of the queue.
    fn append_frames(&self, encode: impl FnOnce(&mut BytesMut)) {
        let mut queue = self.queue.borrow_mut();
        if !matches!(queue.back(), Some(Queued::Frames(_))) {
            queue.push_back(Queued::Frames(BytesMut::new()));
        }
        if let Some(Queued::Frames(frames)) = queue.back_mut() {
            let before = frames.len();
            encode(frames);
            self.room.hold(frames.len() - before);
        }
    }

    fn push_delivery(&self, delivery: Delivery) {
        self.room.hold(delivery.bytes());
        self.queue
            .borrow_mut()
            .push_back(Queued::Delivery(delivery));
        self.changed.notify_all();
    }
}

impl CompletionSink for Outbox {
    fn complete(&self, token: u64, outcome: Outcome) {
        self.publishes_in_flight
            .set(self.publishes_in_flight.get().saturating_sub(1));
        let correlation = CorrelationId(token);
        match outcome {
            Outcome::Published {
                base_offset,
                append_time,
                durability,
                duplicate,
            } => {
                // It ends the publish, which counted until now, so it must count itself: the peer may never read it.
                self.room.hold(size_of::<PublishAck>());
                self.acks.borrow_mut().push(PublishAck {
                    correlation,
                    base_offset,
                    append_time,
                    durability,
                    duplicate,
                });
                self.changed.notify_all();
            }
            Outcome::Committed => self.reply(correlation, Message::Ok),
            Outcome::Failed(error) => self.reply(correlation, Message::Error(error)),
        }
        self.drained().notify_all();
    }

    fn has_others_in_flight(&self) -> bool {
        self.publishes_in_flight() > 1
    }
}

impl Peer for Outbox {
    fn send(&self, correlation: CorrelationId, message: Message) {
        match &message {
            Message::SubscriptionEnd(end) => self.ended.borrow_mut().push(end.subscription),
            Message::Subscribed(_) | Message::Ok => self.end_ask(correlation, false),
            Message::Error(_) => self.end_ask(correlation, true),
            _ => {}
        }
        self.reply(correlation, message);
    }

    fn deliver(&self, subscription: SubscriptionId, next_offset: Offset, batches: Vec<Slice>) {
        let bytes = batches.iter().map(|batch| batch.len()).sum();
        self.push_delivery(Delivery {
            head: encode_deliver_head(subscription, next_offset, bytes),
            batches: Batches::Slices(unpinned(batches)),
        });
    }

    fn deliver_copy(
        &self,
        from: ShardIndex,
        subscription: SubscriptionId,
        next_offset: Offset,
        batches: Bytes,
    ) {
        self.push_delivery(Delivery {
            head: encode_deliver_head(subscription, next_offset, batches.len()),
            batches: Batches::Copied(from, batches),
        });
    }

    fn room(&self) -> &Room {
        &self.room
    }
}

impl Queued {
    fn bytes(&self) -> usize {
        match self {
            Self::Frames(frames) => frames.len(),
            Self::Delivery(delivery) => delivery.bytes(),
        }
    }
}

impl Delivery {
    fn bytes(&self) -> usize {
        DELIVER_HEAD_BYTES
            + match &self.batches {
                Batches::Slices(bodies) => bodies.iter().map(|body| body.len()).sum(),
                Batches::Copied(_, bytes) => bytes.len(),
            }
    }
}

impl Deref for Body {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(slice) => slice,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl Parcel {
    /// The shards whose deliveries are in it, with how many bytes each.
    pub(super) fn senders(&self) -> impl Iterator<Item = (ShardIndex, usize)> {
        self.queued.iter().filter_map(|queued| match queued {
            Queued::Delivery(Delivery {
                batches: Batches::Copied(from, bytes),
                ..
            }) => Some((*from, bytes.len())),
            _ => None,
        })
    }

    /// All of it, in the order it is to be sent.
    #[must_use]
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.queued.len());
        for queued in &self.queued {
            match queued {
                Queued::Frames(frames) => slices.push(IoSlice::new(frames)),
                Queued::Delivery(delivery) => {
                    slices.push(IoSlice::new(&delivery.head));
                    match &delivery.batches {
                        Batches::Slices(bodies) => {
                            slices.extend(bodies.iter().map(|body| IoSlice::new(body)));
                        }
                        Batches::Copied(_, bytes) => slices.push(IoSlice::new(bytes)),
                    }
                }
            }
        }
        slices
    }
}

/// Copies out what would pin much more than itself: a batch of a slow partition lies in a commit with those of all the others, and a
/// client that does not read would keep them all in memory. What takes up a fair part of its buffer stays where it is.
fn unpinned(batches: Vec<Slice>) -> Vec<Body> {
    let mut bodies = Vec::with_capacity(batches.len());
    for neighbours in batches.chunk_by(Slice::shares_buffer) {
        let bytes: usize = neighbours.iter().map(|batch| batch.len()).sum();
        let pinned = neighbours.first().map_or(0, Slice::pinned_bytes);
        if bytes * PINNED_FACTOR_MAX >= pinned {
            bodies.extend(neighbours.iter().cloned().map(Body::Shared));
        } else {
            let mut copy = BytesMut::with_capacity(bytes);
            for batch in neighbours {
                copy.extend_from_slice(batch);
            }
            bodies.push(Body::Copied(copy.freeze()));
        }
    }
    bodies
}

/// How much more than itself a delivery may keep in memory.
const PINNED_FACTOR_MAX: usize = 4;

#[cfg(test)]
mod tests;
