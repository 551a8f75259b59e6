//! What shards say to each other. Messages are queued here and leave together, once a turn of the loop; the rim carries them.
//!
//! The queues have no limit of their own because whatever enters them has one: publishes hold a budget, other requests count against their
//! connection's, deliveries against their subscription's credit and their connection's room, answers against their requests. Credit is gathered, one
//! message for each subscription.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use gannet_wire::batch::CheckedHeader;
use gannet_wire::frame::{Durability, Message, Start, Subscribe, TopicCreate};
use gannet_wire::{CorrelationId, ErrorBody, Offset, ShardIndex, SubscriptionId, TopicId};

use super::slot::Outcome;
use crate::control::catalogue::Topic;
use crate::cursor::CommittedOffset;
use crate::io::local::Signal;
use crate::storage::{PartitionKey, SegmentId};

/// Names a connection on the shard that serves it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A connection as another shard knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RemoteConnection {
    /// The shard that serves it.
    pub shard: ShardIndex,
    /// Its name there.
    pub connection: ConnectionId,
}

/// A message from one shard to another.
#[derive(Debug)]
pub enum ShardMessage {
    /// A checked batch for a partition of the receiver's.
    Publish {
        /// The shard that is to be answered.
        from: ShardIndex,
        /// By which number.
        number: u64,
        /// Where it goes.
        key: PartitionKey,
        /// What was asked for.
        durability: Option<Durability>,
        /// The batch.
        batch: Bytes,
        /// The proof of its check.
        header: CheckedHeader,
        /// Whether its sender has others on their way.
        others_in_flight: bool,
    },
    /// What became of a Publish.
    Published {
        /// Its number.
        number: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// A subscription to a partition of the receiver's.
    Subscribe {
        /// Who subscribes.
        from: RemoteConnection,
        /// The request's number.
        correlation: CorrelationId,
        /// The request.
        subscribe: Subscribe,
    },
    /// More credit for a subscription.
    Credit(RemoteConnection, SubscriptionId, u64),
    /// The end of a subscription, answered by the request's number behind the last delivery.
    Unsubscribe(RemoteConnection, CorrelationId, SubscriptionId),
    /// A connection is gone with all its subscriptions.
    Closed(RemoteConnection),
    /// A frame for a connection of the receiver's.
    Frame(ConnectionId, CorrelationId, Box<Message>),
    /// Batches for a connection of the receiver's.
    Deliver {
        /// Who sends them, and is to hear when they have left.
        from: ShardIndex,
        /// Whose.
        connection: ConnectionId,
        /// Which subscription.
        subscription: SubscriptionId,
        /// The partition's durable end.
        next_offset: Offset,
        /// The batches, copied: memory of a shard stays on it.
        batches: Bytes,
    },
    /// So many bytes of the receiver's deliveries have left on a connection.
    Delivered(RemoteConnection, usize),
    /// A question.
    Ask(ShardIndex, u64, Box<Ask>),
    /// The answer to the question of that number.
    Answer(u64, Box<Result<Answer, ErrorBody>>),
}

/// A question to a shard.
#[derive(Debug, Clone)]
pub enum Ask {
    /// To the catalogue's owner: make a topic.
    CreateTopic(TopicCreate),
    /// To the catalogue's owner: delete the topic of this name.
    DeleteTopic(String),
    /// To the catalogue's owner: an incarnation that nobody else has.
    NewIncarnation,
    /// To every shard: the topic exists.
    AddTopic(Arc<Topic>),
    /// To every shard: the topic is gone.
    DropTopic(TopicId),
    /// To every shard, after that: answer once it needs nothing of the topic's files any more.
    ReleaseTopic(TopicId),
    /// To partitions' owners: how they are.
    Describe(Vec<PartitionKey>),
    /// To partitions' owners: store a group's offsets.
    CommitOffsets(Vec<(PartitionKey, CommittedOffset)>),
    /// To partitions' owners: a group's offsets.
    FetchOffsets(String, Vec<PartitionKey>),
    /// To a partition's owner: where a position is.
    Lookup(PartitionKey, Start),
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// Done.
    Done,
    /// The topic.
    Topic(Arc<Topic>),
    /// The incarnation.
    Incarnation(u32),
    /// Partitions, in the order asked for.
    Partitions(Vec<gannet_wire::frame::PartitionDescription>),
    /// A group's offsets, in the order asked for.
    Offsets(Vec<gannet_wire::frame::CommittedOffset>),
    /// A position.
    Position(gannet_wire::frame::OffsetLookupReply),
}

/// What a shard reports once it has recovered.
#[derive(Debug, Clone, Default)]
pub struct ShardReady {
    /// The shared segments it has runs in.
    pub shared_segments: Vec<SegmentId>,
}

/// Messages on their way to one other shard.
#[derive(Default)]
pub struct Outgoing {
    queue: RefCell<VecDeque<ShardMessage>>,
    /// Where in the queue, counted from the first message ever, the Credit of a subscription is that more may be added to.
    credits: RefCell<HashMap<(RemoteConnection, SubscriptionId), u64>>,
    /// The number of the first message in the queue.
    front: Cell<u64>,
    changed: Signal,
}

impl Outgoing {
    /// Queues a message.
    pub fn push(&self, message: ShardMessage) {
        self.queue.borrow_mut().push_back(message);
        self.changed.notify_all();
    }

    /// Queues credit for a subscription, with what is queued for it already: nothing answers Credit, so nothing else bounds how much of it there is.
    pub fn push_credit(&self, of: RemoteConnection, subscription: SubscriptionId, bytes: u64) {
        let (mut queue, mut credits) = (self.queue.borrow_mut(), self.credits.borrow_mut());
        let queued = credits.get(&(of, subscription)).and_then(|number| {
            let at = number.checked_sub(self.front.get())?;
            queue.get_mut(usize::try_from(at).ok()?)
        });
        if let Some(ShardMessage::Credit(_, _, queued)) = queued {
            *queued = queued.saturating_add(bytes);
            return;
        }
        let number = self.front.get() + queue.len() as u64;
        credits.insert((of, subscription), number);
        queue.push_back(ShardMessage::Credit(of, subscription, bytes));
        drop((queue, credits));
        self.changed.notify_all();
    }

    /// Queues the end of a subscription: credit that comes for its name later is another one's.
    pub fn push_unsubscribe(
        &self,
        of: RemoteConnection,
        correlation: CorrelationId,
        subscription: SubscriptionId,
    ) {
        self.credits.borrow_mut().remove(&(of, subscription));
        self.push(ShardMessage::Unsubscribe(of, correlation, subscription));
    }

    /// All that is queued, at least one, at most `max`.
    pub async fn take(&self, max: usize) -> Vec<ShardMessage> {
        loop {
            let seen = self.changed.version();
            {
                let mut queue = self.queue.borrow_mut();
                let count = queue.len().min(max);
                if count > 0 {
                    let messages: Vec<ShardMessage> = queue.drain(..count).collect();
                    let front = self.front.get() + count as u64;
                    self.front.set(front);
                    let mut credits = self.credits.borrow_mut();
                    if !credits.is_empty() {
                        credits.retain(|_, number| *number >= front);
                    }
                    return messages;
                }
            }
            self.changed.changed_since(seen).await;
        }
    }
}
