//! Requests and what their answers mean; the same for both flavours.

use super::error::ClientError;
use crate::frame::{
    CommittedOffset, Message, OffsetLookup, OffsetLookupReply, OffsetToCommit, OffsetsCommit,
    OffsetsFetch, ProducerReply, Retention, Start, TopicCreate, TopicDescription, TopicList,
    TopicListReply, TopicOptions,
};
use crate::ids::{Offset, PartitionIndex, TopicId};
use crate::limits::{GROUP_NAME_BYTES_MAX, TOPIC_LIST_MAX, TOPIC_NAME_BYTES_MAX};

/// A request that was checked, so that encoding it cannot fail.
pub(crate) struct Request {
    pub(crate) message: Message,
    /// Asking twice does no harm, so a request whose answer was lost may be made again.
    pub(crate) repeatable: bool,
}

impl Request {
    pub(crate) fn topic_create(
        name: &str,
        partitions: u32,
        options: TopicOptions,
    ) -> Result<Self, ClientError> {
        let fits = |retention: Option<Retention>| {
            let limit = retention.and_then(Retention::limit);
            limit.is_none_or(|limit| limit <= i64::MAX as u64)
        };
        if !fits(options.retention_ms) || !fits(options.retention_bytes) {
            return Err(ClientError::InvalidArgument("a retention is over i64::MAX"));
        }
        let create = TopicCreate {
            name: checked_name(name)?,
            partitions,
            options,
        };
        Ok(Self {
            message: Message::TopicCreate(create),
            repeatable: false,
        })
    }

    pub(crate) fn topic_describe(name: &str) -> Result<Self, ClientError> {
        Ok(Self {
            message: Message::TopicDescribe(checked_name(name)?),
            repeatable: true,
        })
    }

    pub(crate) fn topic_delete(name: &str) -> Result<Self, ClientError> {
        Ok(Self {
            message: Message::TopicDelete(checked_name(name)?),
            repeatable: false,
        })
    }

    pub(crate) fn topic_list(after: String) -> Self {
        let list = TopicList {
            after,
            topics_max: TOPIC_LIST_MAX,
        };
        Self {
            message: Message::TopicList(list),
            repeatable: true,
        }
    }

    pub(crate) fn producer_init() -> Self {
        Self {
            message: Message::ProducerInit,
            repeatable: true,
        }
    }

    pub(crate) fn ping() -> Self {
        Self {
            message: Message::Ping(0),
            repeatable: true,
        }
    }

    /// Committing the same offsets twice ends in the same, so this may be repeated.
    pub(crate) fn offsets_commit(
        group: &str,
        topic: TopicId,
        offsets: &[(PartitionIndex, Offset)],
    ) -> Result<Self, ClientError> {
        if offsets.iter().any(|(_, offset)| offset.0 > i64::MAX as u64) {
            return Err(ClientError::InvalidArgument("an offset is over i64::MAX"));
        }
        let offsets = offsets
            .iter()
            .map(|&(partition, offset)| OffsetToCommit {
                partition,
                offset,
                metadata: String::new(),
            })
            .collect();
        let commit = OffsetsCommit {
            group: checked_group(group)?,
            topic,
            offsets,
        };
        Ok(Self {
            message: Message::OffsetsCommit(commit),
            repeatable: true,
        })
    }

    pub(crate) fn offsets_fetch(
        group: &str,
        topic: TopicId,
        partitions: &[PartitionIndex],
    ) -> Result<Self, ClientError> {
        let partitions = partitions.to_vec();
        let fetch = OffsetsFetch {
            group: checked_group(group)?,
            topic,
            partitions,
        };
        Ok(Self {
            message: Message::OffsetsFetch(fetch),
            repeatable: true,
        })
    }

    pub(crate) fn offset_lookup(topic: TopicId, partition: PartitionIndex, start: Start) -> Self {
        let lookup = OffsetLookup {
            topic,
            partition,
            start,
        };
        Self {
            message: Message::OffsetLookup(lookup),
            repeatable: true,
        }
    }
}

fn checked_name(name: &str) -> Result<String, ClientError> {
    if name.is_empty() || name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(ClientError::InvalidArgument(
            "a topic's name has 1 to 249 bytes",
        ));
    }
    Ok(name.to_owned())
}

fn checked_group(group: &str) -> Result<String, ClientError> {
    if group.is_empty() || group.len() > GROUP_NAME_BYTES_MAX {
        return Err(ClientError::InvalidArgument(
            "a group's name has 1 to 255 bytes",
        ));
    }
    Ok(group.to_owned())
}

/// The answer to a request.
pub(crate) struct Reply(pub(crate) Message);

impl Reply {
    fn expect<T>(self, take: impl FnOnce(Message) -> Option<T>) -> Result<T, ClientError> {
        match self.0 {
            Message::Error(body) => Err(ClientError::Server(body)),
            message => take(message).ok_or(ClientError::Protocol(
                "the reply is not of the kind that was asked for",
            )),
        }
    }

    pub(crate) fn topic(self) -> Result<TopicDescription, ClientError> {
        let topic = self.expect(|message| match message {
            Message::TopicReply(topic) => Some(topic),
            _ => None,
        })?;
        let in_order = topic
            .partitions
            .iter()
            .zip(0..)
            .all(|(partition, index)| partition.partition.0 == index);
        if topic.partitions.is_empty() || !in_order {
            return Err(ClientError::Protocol(
                "the partitions in TopicReply are not 0, 1, 2, ...",
            ));
        }
        Ok(topic)
    }

    pub(crate) fn topics(self) -> Result<TopicListReply, ClientError> {
        let page = self.expect(|message| match message {
            Message::TopicListReply(page) => Some(page),
            _ => None,
        })?;
        if page.more && page.topics.is_empty() {
            return Err(ClientError::Protocol(
                "an empty page of topics says that there are more",
            ));
        }
        Ok(page)
    }

    pub(crate) fn producer(self) -> Result<ProducerReply, ClientError> {
        self.expect(|message| match message {
            Message::ProducerReply(producer) => Some(producer),
            _ => None,
        })
    }

    pub(crate) fn offsets(self) -> Result<Vec<CommittedOffset>, ClientError> {
        self.expect(|message| match message {
            Message::OffsetsReply(reply) => Some(reply.offsets),
            _ => None,
        })
    }

    pub(crate) fn lookup(self) -> Result<OffsetLookupReply, ClientError> {
        self.expect(|message| match message {
            Message::OffsetLookupReply(reply) => Some(reply),
            _ => None,
        })
    }

    pub(crate) fn ok(self) -> Result<(), ClientError> {
        self.expect(|message| matches!(message, Message::Ok).then_some(()))
    }

    pub(crate) fn pong(self) -> Result<(), ClientError> {
        self.expect(|message| matches!(message, Message::Pong(_)).then_some(()))
    }
}
