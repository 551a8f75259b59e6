//! Which topics there are, as every shard knows them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use gannet_wire::frame::{TopicEntry, TopicList, TopicListReply};
use gannet_wire::{ErrorBody, ErrorCode, TopicId};

use crate::control::catalogue::Topic;
use crate::storage::PartitionKey;

/// A shard's copy of what the catalogue says, kept up by mail.
pub(super) struct TopicTable {
    topics: RefCell<BTreeMap<TopicId, Arc<Topic>>>,
    names: RefCell<BTreeMap<String, TopicId>>,
}

impl TopicTable {
    /// What the catalogue said at the start.
    pub(super) fn new(
        topics: BTreeMap<TopicId, Arc<Topic>>,
        names: BTreeMap<String, TopicId>,
    ) -> Self {
        Self {
            topics: RefCell::new(topics),
            names: RefCell::new(names),
        }
    }

    /// A topic was created.
    pub(super) fn add(&self, topic: &Arc<Topic>) {
        self.names.borrow_mut().insert(topic.name.clone(), topic.id);
        self.topics.borrow_mut().insert(topic.id, topic.clone());
    }

    /// A topic was deleted.
    pub(super) fn remove(&self, id: TopicId) {
        if let Some(topic) = self.topics.borrow_mut().remove(&id) {
            self.names.borrow_mut().remove(&topic.name);
        }
    }

    /// The topic of an id, if it has that partition.
    pub(super) fn topic_of(&self, key: PartitionKey) -> Result<Arc<Topic>, ErrorBody> {
        let topic = self.topics.borrow().get(&key.topic).cloned();
        let Some(topic) = topic else {
            return Err(ErrorBody::new(
                ErrorCode::TopicUnknown,
                format!(
                    "there is no topic with id {} (any more); ask for the topic by its name again",
                    key.topic
                ),
            ));
        };
        if key.partition.0 >= topic.partitions {
            return Err(ErrorBody::new(
                ErrorCode::PartitionUnknown,
                format!(
                    "topic {} has partitions 0 to {}, not {}",
                    topic.name,
                    topic.partitions - 1,
                    key.partition
                ),
            ));
        }
        Ok(topic)
    }

    /// The topic of a name.
    pub(super) fn topic_named(&self, name: &str) -> Result<Arc<Topic>, ErrorBody> {
        let id = self.names.borrow().get(name).copied();
        id.and_then(|id| self.topics.borrow().get(&id).cloned())
            .ok_or_else(|| no_topic(name))
    }

    /// How many bytes the answer to a TopicList takes, at most.
    pub(super) fn list_bytes(&self, list: &TopicList) -> usize {
        page_topics(list).min(self.topics.borrow().len() + 1) * TOPIC_ENTRY_BYTES
    }

    /// Topics in the order of their names, from the one behind the last that was heard of.
    pub(super) fn list(&self, list: &TopicList) -> TopicListReply {
        let names = self.names.borrow();
        let topics = self.topics.borrow();
        let after = (
            std::ops::Bound::Excluded(list.after.clone()),
            std::ops::Bound::Unbounded,
        );
        let max = page_topics(list);
        let mut entries: Vec<TopicEntry> = names
            .range::<String, _>(after)
            .filter_map(|(name, id)| {
                topics.get(id).map(|topic| TopicEntry {
                    topic: *id,
                    name: name.clone(),
                    partitions: topic.partitions,
                })
            })
            .take(max + 1)
            .collect();
        let more = entries.len() > max;
        entries.truncate(max);
        TopicListReply {
            more,
            topics: entries,
        }
    }
}

/// Topics of one answer.
fn page_topics(list: &TopicList) -> usize {
    usize::try_from(list.topics_max)
        .unwrap_or(usize::MAX)
        .clamp(1, gannet_wire::limits::TOPIC_LIST_MAX as usize)
}

/// A topic in a list, with the longest name.
const TOPIC_ENTRY_BYTES: usize = 16 + gannet_wire::limits::TOPIC_NAME_BYTES_MAX;

pub(super) fn no_topic(name: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::TopicUnknown,
        format!(
            "there is no topic {name}; create it first, for example by `gannet topic create {name}`"
        ),
    )
}
