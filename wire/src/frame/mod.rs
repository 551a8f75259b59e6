//! Frames: what travels between a client and a broker. Bytes in, messages out and back; no I/O.
//!
//! The bytes of every kind stand in `wire/PROTOCOL.md`. A reader appends what it receives to a `BytesMut` and calls
//! [`FrameDecoder::decode`] until it answers `None`; a writer calls [`encode`], or, where a batch follows, writes the
//! head from [`encode_publish_head`] or [`encode_deliver_head`] and the batch itself from where it lies.

mod body;
mod decode;
mod encode;
mod error;
mod field;
mod header;
mod kind;
mod message;
mod topic;

pub use decode::{FrameDecoder, FrameLimits, decode};
pub use encode::{PublishAcksWriter, encode, encode_deliver_head, encode_publish_head};
pub use error::{FrameError, FrameErrorKind};
pub use header::FrameHeader;
pub use kind::FrameKind;
pub use message::{
    CommittedOffset, Deliver, Frame, Goodbye, Hello, HelloReply, Message, OffsetLookup,
    OffsetLookupReply, OffsetToCommit, OffsetsCommit, OffsetsFetch, OffsetsReply, ProducerReply,
    Publish, PublishAck, Start, Subscribe, Subscribed, SubscriptionEnd,
};
pub use topic::{
    Durability, PARTITIONS_DEFAULT, PartitionDescription, Retention, TimestampSource, TopicCheck,
    TopicCreate, TopicDescription, TopicEntry, TopicList, TopicListReply, TopicOptions,
    TopicSettings,
};

#[cfg(test)]
mod tests;
