//! A shard as the others see it: what belongs to its partitions is done here, what belongs elsewhere is asked for there.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use gannet_wire::frame::{
    Durability, Message, OffsetLookupReply, PartitionDescription, Start, TopicDescription,
    TopicSettings,
};
use gannet_wire::{CorrelationId, ErrorBody, ErrorCode, ShardIndex, SubscriptionId};

use super::catalogue_changes::{CATALOGUE_OWNER, OwnedCatalogue};
use super::forwarded::{ForwardedAnswers, ForwardedPublish, Forwards};
use super::log::{CheckedBatch, ShardLog};
use super::mail::{Answer, Ask, ConnectionId, Outgoing, RemoteConnection, ShardMessage};
use super::producer_ids::ProducerIds;
use super::questions::{Questions, unexpected};
use super::remote_peers::{LocalPeers, RemotePeers};
use super::slot::{Completion, Slot};
use super::subscribe::{Peer, Subscriptions};
use super::topic_table::TopicTable;
use crate::control::catalogue::{Catalogue, CatalogueState, Layout, Topic};
use crate::cursor::CommittedOffset;
use crate::io::local::Signal;
use crate::io::{Clock, Disk, Spawn};
use crate::limits::PARTITION_DESCRIPTION_BYTES;
use crate::storage::{PartitionKey, StorageError};

/// An answer without a list, an error with a sentence included.
const SMALL_REPLY_BYTES: usize = 1 << 10;

/// A committed offset in an answer, with all the metadata it may have.
const COMMITTED_OFFSET_BYTES: usize = 32 + gannet_wire::limits::OFFSET_METADATA_BYTES_MAX;

/// What topics may be like.
#[derive(Clone, Copy, Debug)]
pub struct ShardBounds {
    /// Partitions of one topic.
    pub partitions_max: u32,
    /// Partitions of a topic whose maker does not say.
    pub partitions_default: u32,
    /// What a topic is like whose maker does not say.
    pub topic_defaults: TopicSettings,
    /// Bytes of this shard's deliveries that may wait for a connection which another shard serves.
    pub connection_buffer_bytes_max: usize,
    /// Bytes of its connections' publishes that may be on their way to each of the other shards.
    pub forward_bytes_max: usize,
}

/// One shard. Shared by its tasks.
pub struct Shard<D: Disk, C: Clock, S: Spawn> {
    index: ShardIndex,
    layout: Layout,
    broker_id: u64,
    pub(super) bounds: ShardBounds,
    /// Its log.
    pub log: Rc<ShardLog<D, C>>,
    spawn: S,
    pub(super) topics: TopicTable,
    pub(super) catalogue: OwnedCatalogue<D>,
    outgoing: Vec<Rc<Outgoing>>,
    /// Publishes of this shard's connections that are at other shards.
    pub(super) forwards: Forwards,
    /// Publishes of other shards' connections that wait for memory.
    pub(super) forwarded: RefCell<VecDeque<ForwardedPublish>>,
    peers: LocalPeers,
    remote_peers: RemotePeers,
    pub(super) subscriptions: Subscriptions,
    pub(super) questions: Questions,
    pub(super) producer_ids: ProducerIds,
    failure: RefCell<Option<StorageError>>,
    failed: Signal,
}

/// What a shard is made of.
pub struct ShardParts<D: Disk, C: Clock, S: Spawn> {
    /// Its number.
    pub index: ShardIndex,
    /// Its log.
    pub log: Rc<ShardLog<D, C>>,
    /// Where its tasks run.
    pub spawn: S,
    /// What the catalogue said at the start.
    pub state: CatalogueState,
    /// The catalogue itself, on its owner.
    pub catalogue: Option<Catalogue<D>>,
    /// Ways to the shards, one each, its own unused.
    pub outgoing: Vec<Rc<Outgoing>>,
    /// What it allows.
    pub bounds: ShardBounds,
}

impl<D: Disk, C: Clock, S: Spawn> Shard<D, C, S> {
    /// A shard at its start.
    #[must_use]
    pub fn new(parts: ShardParts<D, C, S>) -> Rc<Self> {
        Rc::new(Self {
            index: parts.index,
            layout: parts.state.layout,
            broker_id: parts.state.broker_id,
            bounds: parts.bounds,
            log: parts.log,
            spawn: parts.spawn,
            topics: TopicTable::new(parts.state.topics, parts.state.names),
            catalogue: OwnedCatalogue::new(parts.catalogue),
            outgoing: parts.outgoing,
            forwards: Forwards::new(parts.state.layout.shards, parts.bounds.forward_bytes_max),
            forwarded: RefCell::default(),
            peers: LocalPeers::default(),
            remote_peers: RemotePeers::new(parts.bounds.connection_buffer_bytes_max),
            subscriptions: Subscriptions::default(),
            questions: Questions::default(),
            producer_ids: ProducerIds::new(parts.state.incarnation, parts.index),
            failure: RefCell::new(None),
            failed: Signal::new(),
        })
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> ShardIndex {
        self.index
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.layout.shards
    }

    /// Names the broker's data.
    #[must_use]
    pub fn broker_id(&self) -> u64 {
        self.broker_id
    }

    /// The task runner.
    #[must_use]
    pub fn spawn(&self) -> &S {
        &self.spawn
    }

    /// The topic of an id, if it has that partition.
    pub fn topic_of(&self, key: PartitionKey) -> Result<Arc<Topic>, ErrorBody> {
        self.topics.topic_of(key)
    }

    /// The shard that owns a partition.
    #[must_use]
    pub fn owner(&self, key: PartitionKey) -> ShardIndex {
        self.layout.owner(key)
    }

    /// The slot of a partition that this shard owns.
    #[must_use]
    pub fn local_slot(&self, key: PartitionKey) -> Option<Rc<Slot>> {
        if self.owner(key) == self.index {
            self.log.slot(key)
        } else {
            None
        }
    }

    /// A way for other shards' answers to reach a connection of this shard; gone with the connection.
    pub fn add_connection(&self, peer: &Rc<dyn Peer>) -> ConnectionId {
        self.peers.add(peer)
    }

    /// A connection is gone: its subscriptions end, here and elsewhere.
    pub fn remove_connection(&self, connection: ConnectionId) {
        self.peers.remove(connection);
        let remote = RemoteConnection {
            shard: self.index,
            connection,
        };
        self.close_remote(remote);
        for shard in self.other_shards() {
            self.send(shard, ShardMessage::Closed(remote));
        }
    }

    /// Sends a message to another shard.
    pub fn send(&self, to: ShardIndex, message: ShardMessage) {
        if let Some(outgoing) = self.outgoing.get(usize::from(to.0)) {
            outgoing.push(message);
        }
    }

    /// Grants credit to a subscription on another shard.
    pub fn send_credit(
        &self,
        to: ShardIndex,
        of: RemoteConnection,
        subscription: SubscriptionId,
        bytes: u64,
    ) {
        if let Some(outgoing) = self.outgoing.get(usize::from(to.0)) {
            outgoing.push_credit(of, subscription, bytes);
        }
    }

    /// Ends a subscription on another shard, which answers.
    pub fn send_unsubscribe(
        &self,
        to: ShardIndex,
        of: RemoteConnection,
        correlation: CorrelationId,
        subscription: SubscriptionId,
    ) {
        if let Some(outgoing) = self.outgoing.get(usize::from(to.0)) {
            outgoing.push_unsubscribe(of, correlation, subscription);
        }
    }

    /// Takes a message from another shard.
    pub fn handle(self: &Rc<Self>, message: ShardMessage) {
        match message {
            ShardMessage::Publish {
                from,
                number,
                key,
                durability,
                batch,
                header,
                others_in_flight,
            } => {
                let sink = Rc::new(ForwardedAnswers {
                    to: self.outgoing_to(from),
                    others_in_flight,
                });
                let completion = Completion::new(sink, number);
                self.publish_forwarded(ForwardedPublish {
                    key,
                    batch: CheckedBatch {
                        bytes: batch,
                        header,
                    },
                    durability,
                    completion,
                });
            }
            ShardMessage::Published { number, outcome } => self.forwards.answered(number, outcome),
            ShardMessage::Subscribe {
                from,
                correlation,
                subscribe,
            } => {
                let outgoing = self.outgoing_to(from.shard);
                let peer = self.remote_peers.peer(self.index, from, outgoing);
                self.subscribe(from, peer, correlation, subscribe);
            }
            ShardMessage::Credit(from, subscription, bytes) => {
                self.grant(from, subscription, bytes)
            }
            ShardMessage::Unsubscribe(from, correlation, subscription) => {
                self.unsubscribe(from, subscription);
                let answer = Box::new(Message::Ok);
                self.send(
                    from.shard,
                    ShardMessage::Frame(from.connection, correlation, answer),
                );
            }
            ShardMessage::Closed(from) => self.close_remote(from),
            ShardMessage::Frame(connection, correlation, message) => {
                if let Some(peer) = self.peers.find(connection) {
                    peer.send(correlation, *message);
                }
            }
            ShardMessage::Deliver {
                from,
                connection,
                subscription,
                next_offset,
                batches,
            } => {
                // One that is gone has no room any more: the other shard hears of its end.
                if let Some(peer) = self.peers.find(connection) {
                    peer.deliver_copy(from, subscription, next_offset, batches);
                }
            }
            ShardMessage::Delivered(connection, bytes) => {
                self.remote_peers.delivered(connection, bytes);
            }
            ShardMessage::Ask(from, number, ask) => {
                let shard = self.clone();
                self.spawn.spawn(async move {
                    let answer = shard.answer(*ask).await;
                    shard.send(from, ShardMessage::Answer(number, Box::new(answer)));
                });
            }
            ShardMessage::Answer(number, answer) => {
                self.questions.answered(number, *answer);
            }
        }
    }

    /// Appends a batch to a partition of this shard.
    pub fn publish(
        &self,
        slot: &Rc<Slot>,
        batch: CheckedBatch,
        durability: Option<Durability>,
        completion: Completion,
    ) {
        let durability = durability.unwrap_or(slot.topic().settings.durability);
        self.log.publish(slot, batch, durability, completion);
    }

    fn close_remote(&self, from: RemoteConnection) {
        self.remote_peers.remove(from);
        self.subscriptions.end_all_of(from);
    }

    /// About how many bytes the answer to a request takes, at most but for a topic with very many fences.
    pub fn reply_bytes(&self, request: &Message) -> usize {
        match request {
            Message::TopicCreate(create) => {
                let partitions = create.partitions.min(self.bounds.partitions_max);
                description_bytes(partitions)
            }
            Message::TopicDescribe(name) => self
                .topics
                .topic_named(name)
                .map_or(SMALL_REPLY_BYTES, |topic| {
                    description_bytes(topic.partitions)
                }),
            Message::TopicList(list) => self.topics.list_bytes(list),
            Message::OffsetsFetch(fetch) => {
                SMALL_REPLY_BYTES + fetch.partitions.len() * COMMITTED_OFFSET_BYTES
            }
            _ => SMALL_REPLY_BYTES,
        }
    }

    /// Does a request that is not about batches. What concerns other shards is asked of them.
    pub async fn request(self: &Rc<Self>, message: Message) -> Message {
        let done = match message {
            Message::TopicCreate(create) => {
                match self.ask(CATALOGUE_OWNER, Ask::CreateTopic(create)).await {
                    Ok(Answer::Topic(topic)) => self.describe(topic).await,
                    other => Err(unexpected(other)),
                }
            }
            Message::TopicDescribe(name) => match self.topics.topic_named(&name) {
                Ok(topic) => self.describe(topic).await,
                Err(error) => Err(error),
            },
            Message::TopicDelete(name) => self
                .ask(CATALOGUE_OWNER, Ask::DeleteTopic(name))
                .await
                .map(|_| Message::Ok),
            Message::TopicList(list) => Ok(Message::TopicListReply(self.topics.list(&list))),
            Message::ProducerInit => self.new_producer().await,
            Message::OffsetsCommit(commit) => {
                let offsets = commit.offsets.into_iter().map(|offset| {
                    let key = PartitionKey {
                        topic: commit.topic,
                        partition: offset.partition,
                    };
                    (
                        key,
                        CommittedOffset {
                            group: commit.group.clone(),
                            offset: offset.offset,
                            metadata: offset.metadata,
                        },
                    )
                });
                self.commit_offsets(offsets.collect()).await
            }
            Message::OffsetsFetch(fetch) => {
                self.fetch_offsets(fetch.group, fetch.topic, fetch.partitions)
                    .await
            }
            Message::OffsetLookup(lookup) => {
                self.lookup(
                    PartitionKey {
                        topic: lookup.topic,
                        partition: lookup.partition,
                    },
                    lookup.start,
                )
                .await
            }
            other => Err(ErrorBody::new(
                ErrorCode::UnknownKind,
                format!("{:?} is not something a client asks", other.kind()),
            )),
        };
        done.unwrap_or_else(Message::Error)
    }

    /// Answers a question of another shard, or of this one.
    pub(super) async fn answer(self: &Rc<Self>, ask: Ask) -> Result<Answer, ErrorBody> {
        match ask {
            Ask::CreateTopic(create) => self.create_topic(create).await.map(Answer::Topic),
            Ask::NewIncarnation => self.new_incarnation().await.map(Answer::Incarnation),
            Ask::DeleteTopic(name) => self.delete_topic(&name).await.map(|()| Answer::Done),
            Ask::AddTopic(topic) => {
                self.topics.add(&topic);
                self.log
                    .add_topic(&topic, |key| self.owner(key) == self.index);
                Ok(Answer::Done)
            }
            Ask::DropTopic(id) => {
                self.topics.remove(id);
                self.log.drop_topic(id);
                Ok(Answer::Done)
            }
            Ask::ReleaseTopic(id) => {
                self.log.topic_released(id).await;
                Ok(Answer::Done)
            }
            Ask::Describe(keys) => keys
                .into_iter()
                .map(|key| self.describe_partition(key))
                .collect::<Result<_, _>>()
                .map(Answer::Partitions),
            Ask::CommitOffsets(offsets) => self.store_offsets(offsets).await.map(|()| Answer::Done),
            Ask::FetchOffsets(group, keys) => self.known_offsets(&group, keys).map(Answer::Offsets),
            Ask::Lookup(key, start) => {
                let slot = self.local_slot(key).ok_or_else(|| unknown_here(key))?;
                let offset = self
                    .log
                    .start_offset(&slot, start)
                    .await
                    .map_err(|error| error.to_body())?;
                let state = slot.state.borrow();
                Ok(Answer::Position(OffsetLookupReply {
                    offset,
                    log_start: state.log_start(),
                    next_offset: state.durable_offset(),
                }))
            }
        }
    }

    async fn describe(self: &Rc<Self>, topic: Arc<Topic>) -> Result<Message, ErrorBody> {
        let mut partitions: Vec<PartitionDescription> =
            Vec::with_capacity(topic.partitions as usize);
        for (owner, keys) in self.by_owner(topic.keys()) {
            match self.ask(owner, Ask::Describe(keys)).await {
                Ok(Answer::Partitions(described)) => partitions.extend(described),
                other => return Err(unexpected(other)),
            }
        }
        partitions.sort_unstable_by_key(|partition| partition.partition);
        Ok(Message::TopicReply(TopicDescription {
            topic: topic.id,
            name: topic.name.clone(),
            settings: topic.settings,
            partitions,
        }))
    }

    fn describe_partition(&self, key: PartitionKey) -> Result<PartitionDescription, ErrorBody> {
        let slot = self.local_slot(key).ok_or_else(|| unknown_here(key))?;
        let state = slot.state.borrow();
        Ok(PartitionDescription {
            partition: key.partition,
            shard: self.index,
            log_start: state.log_start(),
            next_offset: state.durable_offset(),
            leader_epoch: state.leader_epoch(),
            stored_bytes: state.stored_bytes(),
            fences: state
                .damaged()
                .iter()
                .take(gannet_wire::limits::FENCES_MAX)
                .map(|fence| (fence.from, fence.to))
                .collect(),
        })
    }

    async fn lookup(
        self: &Rc<Self>,
        key: PartitionKey,
        start: Start,
    ) -> Result<Message, ErrorBody> {
        self.topic_of(key)?;
        match self.ask(self.owner(key), Ask::Lookup(key, start)).await {
            Ok(Answer::Position(position)) => Ok(Message::OffsetLookupReply(position)),
            other => Err(unexpected(other)),
        }
    }

    /// The broker cannot go on: whoever waits for [`Shard::failure`] ends it.
    pub fn fail(&self, error: StorageError) {
        tracing::error!(%error, "storage failed: the broker stops");
        self.log.fail(&error);
        self.failure.borrow_mut().get_or_insert(error);
        self.failed.notify_all();
    }

    /// Waits until the broker cannot go on.
    pub async fn failure(&self) -> StorageError {
        loop {
            let seen = self.failed.version();
            if let Some(error) = self.failure.borrow_mut().take() {
                return error;
            }
            self.failed.changed_since(seen).await;
        }
    }

    pub(super) fn by_owner(
        &self,
        keys: impl Iterator<Item = PartitionKey>,
    ) -> BTreeMap<ShardIndex, Vec<PartitionKey>> {
        let mut by_owner: BTreeMap<ShardIndex, Vec<PartitionKey>> = BTreeMap::new();
        for key in keys {
            by_owner.entry(self.owner(key)).or_default().push(key);
        }
        by_owner
    }

    fn other_shards(&self) -> impl Iterator<Item = ShardIndex> {
        let own = self.index;
        (0..self.layout.shards)
            .map(ShardIndex)
            .filter(move |shard| *shard != own)
    }

    fn outgoing_to(&self, shard: ShardIndex) -> Rc<Outgoing> {
        self.outgoing
            .get(usize::from(shard.0))
            .cloned()
            .unwrap_or_default()
    }
}

fn description_bytes(partitions: u32) -> usize {
    SMALL_REPLY_BYTES + partitions as usize * PARTITION_DESCRIPTION_BYTES as usize
}

pub(super) fn unknown_here(key: PartitionKey) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::TopicUnknown,
        format!(
            "partition {} of topic {} is not here (any more); ask for the topic by its name again",
            key.partition, key.topic
        ),
    )
}
