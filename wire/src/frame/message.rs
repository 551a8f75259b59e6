//! The messages that are not about topics, and the sum of all of them.

use bytes::Bytes;

use super::kind::FrameKind;
use super::topic::{Durability, TopicCreate, TopicDescription, TopicList, TopicListReply};
use crate::error::{ErrorBody, ErrorCode};
use crate::ids::{
    CorrelationId, Offset, PartitionIndex, ProducerEpoch, ProducerId, ShardIndex, SubscriptionId,
    Timestamp, TopicId,
};

/// A decoded frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The request's in a reply; 0 for what nobody asked for.
    pub correlation: CorrelationId,
    /// What it says.
    pub message: Message,
}

/// What a frame says. One variant a kind; `wire/PROTOCOL.md` has their bytes and who sends which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// The first frame of every connection.
    Hello(Hello),
    /// The server's answer to Hello.
    HelloReply(HelloReply),
    /// Asks for a Pong with the same number.
    Ping(u64),
    /// Answers a Ping.
    Pong(u64),
    /// Creates a topic.
    TopicCreate(TopicCreate),
    /// Asks for the description of the topic of this name.
    TopicDescribe(String),
    /// A topic's description.
    TopicReply(TopicDescription),
    /// Deletes the topic of this name.
    TopicDelete(String),
    /// Asks for a page of the topics.
    TopicList(TopicList),
    /// A page of the topics.
    TopicListReply(TopicListReply),
    /// Asks for a producer id.
    ProducerInit,
    /// A new producer id.
    ProducerReply(ProducerReply),
    /// A batch to append.
    Publish(Publish),
    /// Batches that were appended.
    PublishAcks(Vec<PublishAck>),
    /// Asks for a partition's batches.
    Subscribe(Subscribe),
    /// The subscription stands.
    Subscribed(Subscribed),
    /// Grants a subscription this many bytes more.
    Credit(SubscriptionId, u64),
    /// Batches of a subscription.
    Deliver(Deliver),
    /// Ends a subscription.
    Unsubscribe(SubscriptionId),
    /// The server ended a subscription.
    SubscriptionEnd(SubscriptionEnd),
    /// Stores a group's offsets.
    OffsetsCommit(OffsetsCommit),
    /// Asks for a group's offsets.
    OffsetsFetch(OffsetsFetch),
    /// A group's offsets.
    OffsetsReply(OffsetsReply),
    /// Asks where a start position is.
    OffsetLookup(OffsetLookup),
    /// Where a start position is.
    OffsetLookupReply(OffsetLookupReply),
    /// The request took effect.
    Ok,
    /// The request failed; or, with correlation 0, the connection did.
    Error(ErrorBody),
    /// The sender is about to close the connection.
    Goodbye(Goodbye),
}

/// Introduces a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The oldest protocol the client speaks.
    pub protocol_min: u16,
    /// The newest protocol the client speaks.
    pub protocol_max: u16,
    /// Bits of what the client can do beyond that; none is defined yet.
    pub features: u64,
    /// The shard that should serve the connection. `None`: any.
    pub shard: Option<ShardIndex>,
    /// For the server's logs.
    pub client_name: String,
}

/// Introduces a server and states its limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HelloReply {
    /// The protocol both speak from here on.
    pub protocol: u16,
    /// The shard that serves this connection.
    pub shard: ShardIndex,
    /// How many shards there are.
    pub shards: u16,
    /// Bits of what both can do.
    pub features: u64,
    /// Bytes of the largest frame the server takes.
    pub frame_bytes_max: u32,
    /// Bytes of the largest batch the server takes.
    pub batch_bytes_max: u32,
    /// Records of the largest batch the server takes.
    pub batch_records_max: u32,
    /// Batches of one producer and partition that may be unacknowledged at once, if duplicates are to be recognised.
    pub producer_inflight_max: u32,
    /// After this many milliseconds of silence a side sends a Ping.
    pub heartbeat_ms: u32,
    /// Which broker this is.
    pub broker_id: u64,
    /// For the client's logs.
    pub server_name: String,
}

/// Names an idempotent producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerReply {
    /// The id, never given to anyone else.
    pub producer: ProducerId,
    /// Its life.
    pub epoch: ProducerEpoch,
}

/// A batch to append. Answered by an acknowledgement in some PublishAcks, or by an Error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// When to acknowledge. `None`: as the topic is set.
    pub durability: Option<Durability>,
    /// Exactly one batch, not yet checked; a slice of what was received.
    pub batch: Bytes,
}

/// A batch that was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishAck {
    /// The Publish's.
    pub correlation: CorrelationId,
    /// The offset of the batch's first record.
    pub base_offset: Offset,
    /// The broker's time at the append.
    pub append_time: Timestamp,
    /// What was reached: at least what was asked for.
    pub durability: Durability,
    /// Whether the batch had been appended before, at this offset.
    pub duplicate: bool,
}

/// Where to begin to read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Start {
    /// At the oldest record kept.
    Earliest,
    /// Behind the last durable record.
    Latest,
    /// At this offset; it must be kept still, or be the next one.
    Offset(Offset),
    /// At the first record whose timestamp is this or later; behind the last durable record if there is none.
    Timestamp(Timestamp),
}

/// Asks for a partition's batches. Answered by [`Subscribed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe {
    /// Chosen by the client, new on this connection.
    pub subscription: SubscriptionId,
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// Where to begin.
    pub start: Start,
    /// Bytes of batches the server may send before more is granted.
    pub credit: u64,
}

/// The subscription stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// Which.
    pub subscription: SubscriptionId,
    /// The first offset the client is to see; the first batch may begin before it.
    pub start_offset: Offset,
    /// The offset of the oldest record kept.
    pub log_start: Offset,
    /// Just behind the last durable record.
    pub next_offset: Offset,
}

/// Batches of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deliver {
    /// Which.
    pub subscription: SubscriptionId,
    /// Just behind the partition's last durable record when this was sent.
    pub next_offset: Offset,
    /// One or more whole batches, not yet checked; a slice of what was received.
    pub batches: Bytes,
}

/// The server ended a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionEnd {
    /// Which.
    pub subscription: SubscriptionId,
    /// Why.
    pub error: ErrorBody,
}

/// Stores a group's offsets, durably before the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetsCommit {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: TopicId,
    /// The offsets.
    pub offsets: Vec<OffsetToCommit>,
}

/// An offset to store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetToCommit {
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset the group is to read.
    pub offset: Offset,
    /// Text of the group's own.
    pub metadata: String,
}

/// Asks for a group's offsets. Answered by [`OffsetsReply`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetsFetch {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: TopicId,
    /// Of which partitions.
    pub partitions: Vec<PartitionIndex>,
}

/// A group's offsets, in the order asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetsReply {
    /// One for each partition asked for.
    pub offsets: Vec<CommittedOffset>,
}

/// A stored offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset the group is to read. `None`: the group never stored one. At most `i64::MAX`.
    pub offset: Option<Offset>,
    /// Text of the group's own.
    pub metadata: String,
}

/// Asks where a start position is. Answered by [`OffsetLookupReply`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetLookup {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The position.
    pub start: Start,
}

/// Where a start position is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetLookupReply {
    /// The position.
    pub offset: Offset,
    /// The offset of the oldest record kept.
    pub log_start: Offset,
    /// Just behind the last durable record.
    pub next_offset: Offset,
}

/// The sender is about to close the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Goodbye {
    /// Why.
    pub code: ErrorCode,
    /// Why, for a human.
    pub sentence: String,
}

impl Message {
    /// What kind of frame carries it.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Hello(_) => FrameKind::Hello,
            Self::HelloReply(_) => FrameKind::HelloReply,
            Self::Ping(_) => FrameKind::Ping,
            Self::Pong(_) => FrameKind::Pong,
            Self::TopicCreate(_) => FrameKind::TopicCreate,
            Self::TopicDescribe(_) => FrameKind::TopicDescribe,
            Self::TopicReply(_) => FrameKind::TopicReply,
            Self::TopicDelete(_) => FrameKind::TopicDelete,
            Self::TopicList(_) => FrameKind::TopicList,
            Self::TopicListReply(_) => FrameKind::TopicListReply,
            Self::ProducerInit => FrameKind::ProducerInit,
            Self::ProducerReply(_) => FrameKind::ProducerReply,
            Self::Publish(_) => FrameKind::Publish,
            Self::PublishAcks(_) => FrameKind::PublishAcks,
            Self::Subscribe(_) => FrameKind::Subscribe,
            Self::Subscribed(_) => FrameKind::Subscribed,
            Self::Credit(..) => FrameKind::Credit,
            Self::Deliver(_) => FrameKind::Deliver,
            Self::Unsubscribe(_) => FrameKind::Unsubscribe,
            Self::SubscriptionEnd(_) => FrameKind::SubscriptionEnd,
            Self::OffsetsCommit(_) => FrameKind::OffsetsCommit,
            Self::OffsetsFetch(_) => FrameKind::OffsetsFetch,
            Self::OffsetsReply(_) => FrameKind::OffsetsReply,
            Self::OffsetLookup(_) => FrameKind::OffsetLookup,
            Self::OffsetLookupReply(_) => FrameKind::OffsetLookupReply,
            Self::Ok => FrameKind::Ok,
            Self::Error(_) => FrameKind::Error,
            Self::Goodbye(_) => FrameKind::Goodbye,
        }
    }
}
