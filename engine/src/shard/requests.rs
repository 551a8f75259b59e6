//! A shard as the others see it: what belongs to its partitions is done here, what belongs elsewhere is asked for there.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use gannet_wire::frame::{
    CommittedOffset as WireOffset, Durability, Message, OffsetLookupReply, OffsetsReply,
    PARTITIONS_DEFAULT, PartitionDescription, ProducerReply, Start, Subscribe, Subscribed,
    TopicCreate, TopicDescription, TopicEntry, TopicList, TopicListReply, TopicSettings,
};
use gannet_wire::{
    CorrelationId, ErrorBody, ErrorCode, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    ShardIndex, SubscriptionId, TopicId,
};

use super::forwarded::ForwardedPublish;
use super::log::{CheckedBatch, ShardLog};
use super::mail::{Answer, Ask, ConnectionId, Outgoing, RemoteConnection, ShardMessage};
use super::room::Room;
use super::slot::{Completion, CompletionSink, Outcome, Slot};
use super::subscribe::{Peer, Subscription};
use crate::control::catalogue::{Catalogue, CatalogueState, Layout, Topic};
use crate::cursor::CommittedOffset;
use crate::io::local::{Semaphore, Signal};
use crate::io::{Clock, Disk, Spawn};
use crate::storage::slice::Slice;
use crate::storage::{PartitionKey, StorageError};

/// The shard that owns the catalogue.
const CATALOGUE_OWNER: ShardIndex = ShardIndex(0);

/// Producer ids that one shard gives out in one life of the broker.
const PRODUCER_IDS_MAX: u32 = 1 << 24;

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
}

/// One shard. Shared by its tasks.
pub struct Shard<D: Disk, C: Clock, S: Spawn> {
    index: ShardIndex,
    layout: Layout,
    incarnation: u32,
    broker_id: u64,
    bounds: ShardBounds,
    /// Its log.
    pub log: Rc<ShardLog<D, C>>,
    spawn: S,
    topics: RefCell<BTreeMap<TopicId, Arc<Topic>>>,
    names: RefCell<BTreeMap<String, TopicId>>,
    /// Only on the catalogue's owner; a change holds it from its durability to the last shard's answer.
    catalogue: Option<RefCell<Option<Catalogue<D>>>>,
    catalogue_turn: Semaphore,
    outgoing: Vec<Rc<Outgoing>>,
    /// Publishes of other shards' connections that wait for memory.
    pub(super) forwarded: RefCell<VecDeque<ForwardedPublish>>,
    peers: RefCell<HashMap<ConnectionId, Weak<dyn Peer>>>,
    subscriptions: RefCell<HashMap<(RemoteConnection, SubscriptionId), Rc<Subscription>>>,
    /// What waits for connections that other shards serve.
    remote_rooms: RefCell<HashMap<RemoteConnection, Rc<Room>>>,
    questions: RefCell<HashMap<u64, Rc<Question>>>,
    next_question: Cell<u64>,
    next_producer: Cell<u32>,
    next_connection: Cell<u64>,
    failure: RefCell<Option<StorageError>>,
    failed: Signal,
}

struct Question {
    answer: RefCell<Option<Result<Answer, ErrorBody>>>,
    changed: Signal,
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
            incarnation: parts.state.incarnation,
            broker_id: parts.state.broker_id,
            bounds: parts.bounds,
            log: parts.log,
            spawn: parts.spawn,
            topics: RefCell::new(parts.state.topics),
            names: RefCell::new(parts.state.names),
            catalogue: parts
                .catalogue
                .map(|catalogue| RefCell::new(Some(catalogue))),
            catalogue_turn: Semaphore::new(1),
            outgoing: parts.outgoing,
            forwarded: RefCell::default(),
            peers: RefCell::default(),
            subscriptions: RefCell::default(),
            remote_rooms: RefCell::default(),
            questions: RefCell::default(),
            next_question: Cell::new(0),
            next_producer: Cell::new(0),
            next_connection: Cell::new(0),
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
        let id = ConnectionId(self.next_connection.get());
        self.next_connection.set(id.0 + 1);
        self.peers.borrow_mut().insert(id, Rc::downgrade(peer));
        id
    }

    /// A connection is gone: its subscriptions end, here and elsewhere.
    pub fn remove_connection(&self, connection: ConnectionId) {
        self.peers.borrow_mut().remove(&connection);
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

    /// Takes a message from another shard.
    pub fn handle(self: &Rc<Self>, message: ShardMessage) {
        match message {
            ShardMessage::Publish {
                from,
                correlation,
                key,
                durability,
                batch,
                header,
            } => {
                let peer = Rc::new(RemoteSink {
                    outgoing: self.outgoing_to(from.shard),
                    connection: from.connection,
                });
                let completion = Completion::new(peer, correlation.0);
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
            ShardMessage::Published {
                connection,
                correlation,
                outcome,
            } => {
                if let Some(peer) = self.peer(connection) {
                    peer.complete(correlation.0, outcome);
                }
            }
            ShardMessage::Subscribe {
                from,
                correlation,
                subscribe,
            } => {
                let peer: Rc<dyn Peer> = self.remote_peer(from);
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
                if let Some(peer) = self.peer(connection) {
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
                if let Some(peer) = self.peer(connection) {
                    peer.deliver_copy(from, subscription, next_offset, batches);
                }
            }
            ShardMessage::Delivered(connection, bytes) => {
                if let Some(room) = self.remote_rooms.borrow().get(&connection) {
                    room.free(bytes);
                }
            }
            ShardMessage::Ask(from, number, ask) => {
                let shard = self.clone();
                self.spawn.spawn(async move {
                    let answer = shard.answer(*ask).await;
                    shard.send(from, ShardMessage::Answer(number, Box::new(answer)));
                });
            }
            ShardMessage::Answer(number, answer) => {
                if let Some(question) = self.questions.borrow_mut().remove(&number) {
                    *question.answer.borrow_mut() = Some(*answer);
                    question.changed.notify_all();
                }
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
        if self.subscriptions.borrow().contains_key(&name) {
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
        self.subscriptions
            .borrow_mut()
            .insert(name, subscription.clone());
        let shard = self.clone();
        self.spawn.spawn(async move {
            match shard.log.start_offset(&slot, request.start).await {
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
            let mut subscriptions = shard.subscriptions.borrow_mut();
            if subscriptions
                .get(&name)
                .is_some_and(|known| Rc::ptr_eq(known, &subscription))
            {
                subscriptions.remove(&name);
            }
        });
    }

    /// Grants credit to a subscription on this shard. One that has just ended hears nothing: its end is on the way.
    pub fn grant(&self, from: RemoteConnection, subscription: SubscriptionId, bytes: u64) {
        if let Some(subscription) = self.subscriptions.borrow().get(&(from, subscription)) {
            subscription.grant(bytes);
        }
    }

    /// Ends a subscription on this shard.
    pub fn unsubscribe(&self, from: RemoteConnection, subscription: SubscriptionId) {
        if let Some(subscription) = self
            .subscriptions
            .borrow_mut()
            .remove(&(from, subscription))
        {
            subscription.end();
        }
    }

    fn close_remote(&self, from: RemoteConnection) {
        self.remote_rooms.borrow_mut().remove(&from);
        self.subscriptions
            .borrow_mut()
            .retain(|(connection, _), subscription| {
                let stays = *connection != from;
                if !stays {
                    subscription.end();
                }
                stays
            });
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
            Message::TopicDescribe(name) => match self.topic_named(&name) {
                Ok(topic) => self.describe(topic).await,
                Err(error) => Err(error),
            },
            Message::TopicDelete(name) => self
                .ask(CATALOGUE_OWNER, Ask::DeleteTopic(name))
                .await
                .map(|_| Message::Ok),
            Message::TopicList(list) => Ok(Message::TopicListReply(self.list(&list))),
            Message::ProducerInit => self.new_producer(),
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

    async fn ask(self: &Rc<Self>, to: ShardIndex, ask: Ask) -> Result<Answer, ErrorBody> {
        if to == self.index {
            return Box::pin(self.answer(ask)).await;
        }
        let number = self.next_question.get();
        self.next_question.set(number + 1);
        let question = Rc::new(Question {
            answer: RefCell::new(None),
            changed: Signal::new(),
        });
        self.questions.borrow_mut().insert(number, question.clone());
        self.send(to, ShardMessage::Ask(self.index, number, Box::new(ask)));
        loop {
            let seen = question.changed.version();
            if let Some(answer) = question.answer.borrow_mut().take() {
                return answer;
            }
            question.changed.changed_since(seen).await;
        }
    }

    async fn answer(self: &Rc<Self>, ask: Ask) -> Result<Answer, ErrorBody> {
        match ask {
            Ask::CreateTopic(create) => self.create_topic(create).await.map(Answer::Topic),
            Ask::DeleteTopic(name) => self.delete_topic(&name).await.map(|()| Answer::Done),
            Ask::AddTopic(topic) => {
                self.names.borrow_mut().insert(topic.name.clone(), topic.id);
                self.topics.borrow_mut().insert(topic.id, topic.clone());
                self.log
                    .add_topic(&topic, |key| self.owner(key) == self.index);
                Ok(Answer::Done)
            }
            Ask::DropTopic(id) => {
                if let Some(topic) = self.topics.borrow_mut().remove(&id) {
                    self.names.borrow_mut().remove(&topic.name);
                }
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
            Ask::FetchOffsets(group, keys) => {
                let fetch = |key: PartitionKey| {
                    let slot = self.local_slot(key).ok_or_else(|| unknown_here(key))?;
                    let state = slot.state.borrow();
                    let known = state.committed.fetch(&group);
                    Ok(WireOffset {
                        partition: key.partition,
                        offset: known.map(|known| known.offset),
                        metadata: known
                            .map(|known| known.metadata.clone())
                            .unwrap_or_default(),
                    })
                };
                keys.into_iter()
                    .map(fetch)
                    .collect::<Result<_, _>>()
                    .map(Answer::Offsets)
            }
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

    async fn create_topic(self: &Rc<Self>, create: TopicCreate) -> Result<Arc<Topic>, ErrorBody> {
        crate::control::names::check_topic_name(&create.name)
            .map_err(|sentence| ErrorBody::new(ErrorCode::TopicNameInvalid, sentence))?;
        let partitions = match create.partitions {
            PARTITIONS_DEFAULT => self.bounds.partitions_default,
            partitions => partitions,
        };
        if partitions > self.bounds.partitions_max {
            return Err(ErrorBody::new(
                ErrorCode::TopicSettingsInvalid,
                format!(
                    "a topic has 1 to {} partitions, not {}",
                    self.bounds.partitions_max, partitions
                ),
            ));
        }
        let settings = create.options.resolve(&self.bounds.topic_defaults);
        self.change_catalogue(async |catalogue| {
            if catalogue.state().names.contains_key(&create.name) {
                return Ok(Err(ErrorBody::new(
                    ErrorCode::TopicExists,
                    format!("there is a topic {} already", create.name),
                )));
            }
            let topic = Arc::new(
                catalogue
                    .create(create.name.clone(), partitions, settings)
                    .await?,
            );
            // Known everywhere before its maker hears of it.
            self.tell_all(|| Ask::AddTopic(topic.clone())).await;
            Ok(Ok(topic))
        })
        .await
    }

    async fn delete_topic(self: &Rc<Self>, name: &str) -> Result<(), ErrorBody> {
        self.change_catalogue(async |catalogue| {
            let Some(topic) = catalogue.delete(name).await? else {
                return Ok(Err(no_topic(name)));
            };
            self.tell_all(|| Ask::DropTopic(topic.id)).await;
            // Behind the answer: the tombstone is durable, so that a start would finish it.
            let shard = self.clone();
            self.spawn
                .spawn(async move { shard.remove_topic_files(topic.id).await });
            Ok(Ok(()))
        })
        .await
    }

    /// Once no shard needs them any more, the files of a deleted topic go.
    async fn remove_topic_files(self: Rc<Self>, topic: TopicId) {
        self.tell_all(|| Ask::ReleaseTopic(topic)).await;
        match self.log.remove_topic(topic).await {
            Ok(removed) => {
                tracing::info!(topic = %topic, removed, "the files of a deleted topic are gone")
            }
            Err(error) => self.fail(error),
        }
    }

    /// One change of the catalogue at a time. A failed write is final for the broker.
    async fn change_catalogue<T>(
        &self,
        change: impl AsyncFnOnce(&mut Catalogue<D>) -> Result<Result<T, ErrorBody>, StorageError>,
    ) -> Result<T, ErrorBody> {
        self.catalogue_turn.acquire(1).await;
        let taken = self
            .catalogue
            .as_ref()
            .and_then(|catalogue| catalogue.borrow_mut().take());
        let result = match taken {
            Some(mut catalogue) => {
                let result = match catalogue.reserve().await {
                    Err(error) if error.is_disk_full() => {
                        Ok(Err(ErrorBody::new(ErrorCode::DiskFull, error.to_string())))
                    }
                    Err(error) => Err(error),
                    Ok(()) => change(&mut catalogue).await,
                };
                if result.is_ok()
                    && let Some(place) = &self.catalogue
                {
                    *place.borrow_mut() = Some(catalogue);
                }
                result
            }
            None => Ok(Err(ErrorBody::new(
                ErrorCode::StorageFailed,
                "the catalogue cannot be changed any more: its disk failed",
            ))),
        };
        self.catalogue_turn.release(1);
        result.unwrap_or_else(|error| {
            let body = ErrorBody::new(ErrorCode::StorageFailed, error.to_string());
            self.fail(error);
            Err(body)
        })
    }

    async fn tell_all(self: &Rc<Self>, ask: impl Fn() -> Ask) {
        let shards = (0..self.layout.shards).map(ShardIndex);
        for answer in join_all(shards.map(|shard| self.ask(shard, ask()))).await {
            if let Err(error) = answer {
                tracing::error!(%error, "a shard could not take a change of the catalogue");
            }
        }
    }

    fn topic_named(&self, name: &str) -> Result<Arc<Topic>, ErrorBody> {
        let id = self.names.borrow().get(name).copied();
        id.and_then(|id| self.topics.borrow().get(&id).cloned())
            .ok_or_else(|| no_topic(name))
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

    fn list(&self, list: &TopicList) -> TopicListReply {
        let names = self.names.borrow();
        let topics = self.topics.borrow();
        let after = (
            std::ops::Bound::Excluded(list.after.clone()),
            std::ops::Bound::Unbounded,
        );
        let max = usize::try_from(list.topics_max)
            .unwrap_or(usize::MAX)
            .clamp(1, gannet_wire::limits::TOPIC_LIST_MAX as usize);
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

    /// An id holds the broker's life, the shard and a counter: unique over shards and restarts without asking anybody.
    fn new_producer(&self) -> Result<Message, ErrorBody> {
        let number = self.next_producer.get();
        if number >= PRODUCER_IDS_MAX {
            return Err(ErrorBody::new(
                ErrorCode::ServerBusy,
                "this shard has given out all producer ids of this run; restart the broker",
            ));
        }
        self.next_producer.set(number + 1);
        let id =
            u64::from(self.incarnation) << 32 | u64::from(self.index.0) << 24 | u64::from(number);
        Ok(Message::ProducerReply(ProducerReply {
            producer: ProducerId(id),
            epoch: ProducerEpoch(0),
        }))
    }

    async fn commit_offsets(
        self: &Rc<Self>,
        offsets: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<Message, ErrorBody> {
        let mut by_owner: BTreeMap<ShardIndex, Vec<(PartitionKey, CommittedOffset)>> =
            BTreeMap::new();
        for (key, offset) in offsets {
            self.topic_of(key)?;
            by_owner
                .entry(self.owner(key))
                .or_default()
                .push((key, offset));
        }
        for answer in join_all(
            by_owner
                .into_iter()
                .map(|(owner, offsets)| self.ask(owner, Ask::CommitOffsets(offsets))),
        )
        .await
        {
            answer?;
        }
        Ok(Message::Ok)
    }

    async fn store_offsets(
        &self,
        offsets: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<(), ErrorBody> {
        let gate = Rc::new(Gate {
            left: Cell::new(offsets.len()),
            failed: RefCell::new(None),
            changed: Signal::new(),
        });
        for (key, offset) in offsets {
            let completion = Completion::new(gate.clone(), 0);
            match self.local_slot(key) {
                Some(slot) => self.log.commit_offset(&slot, offset, completion),
                None => completion.complete(Outcome::Failed(unknown_here(key))),
            }
        }
        loop {
            let seen = gate.changed.version();
            if gate.left.get() == 0 {
                return gate.failed.borrow_mut().take().map_or(Ok(()), Err);
            }
            gate.changed.changed_since(seen).await;
        }
    }

    async fn fetch_offsets(
        self: &Rc<Self>,
        group: String,
        topic: TopicId,
        partitions: Vec<PartitionIndex>,
    ) -> Result<Message, ErrorBody> {
        let keys: Vec<PartitionKey> = partitions
            .iter()
            .map(|partition| PartitionKey {
                topic,
                partition: *partition,
            })
            .collect();
        for key in &keys {
            self.topic_of(*key)?;
        }
        let mut known: HashMap<PartitionIndex, WireOffset> = HashMap::new();
        for (owner, keys) in self.by_owner(keys.into_iter()) {
            match self
                .ask(owner, Ask::FetchOffsets(group.clone(), keys))
                .await
            {
                Ok(Answer::Offsets(offsets)) => {
                    known.extend(offsets.into_iter().map(|offset| (offset.partition, offset)))
                }
                other => return Err(unexpected(other)),
            }
        }
        let offsets = partitions
            .iter()
            .filter_map(|partition| known.get(partition).cloned())
            .collect();
        Ok(Message::OffsetsReply(OffsetsReply { offsets }))
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

    fn by_owner(
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

    fn peer(&self, connection: ConnectionId) -> Option<Rc<dyn Peer>> {
        self.peers.borrow().get(&connection).and_then(Weak::upgrade)
    }

    fn remote_peer(&self, to: RemoteConnection) -> Rc<RemotePeer> {
        let room = self
            .remote_rooms
            .borrow_mut()
            .entry(to)
            .or_insert_with(|| Rc::new(Room::new(self.bounds.connection_buffer_bytes_max)))
            .clone();
        Rc::new(RemotePeer {
            sink: RemoteSink {
                outgoing: self.outgoing_to(to.shard),
                connection: to.connection,
            },
            own: self.index,
            room,
        })
    }

    fn outgoing_to(&self, shard: ShardIndex) -> Rc<Outgoing> {
        self.outgoing
            .get(usize::from(shard.0))
            .cloned()
            .unwrap_or_default()
    }
}

/// Answers to a connection that another shard serves.
struct RemoteSink {
    outgoing: Rc<Outgoing>,
    connection: ConnectionId,
}

impl CompletionSink for RemoteSink {
    fn complete(&self, token: u64, outcome: Outcome) {
        self.outgoing.push(ShardMessage::Published {
            connection: self.connection,
            correlation: CorrelationId(token),
            outcome,
        });
    }
}

/// A connection that another shard serves.
struct RemotePeer {
    sink: RemoteSink,
    own: ShardIndex,
    room: Rc<Room>,
}

impl CompletionSink for RemotePeer {
    fn complete(&self, token: u64, outcome: Outcome) {
        self.sink.complete(token, outcome);
    }
}

impl Peer for RemotePeer {
    fn send(&self, correlation: CorrelationId, message: Message) {
        self.sink.outgoing.push(ShardMessage::Frame(
            self.sink.connection,
            correlation,
            Box::new(message),
        ));
    }

    fn deliver(&self, subscription: SubscriptionId, next_offset: Offset, batches: Vec<Slice>) {
        let mut copy = BytesMut::with_capacity(batches.iter().map(|batch| batch.len()).sum());
        for batch in &batches {
            copy.extend_from_slice(batch);
        }
        self.deliver_copy(self.own, subscription, next_offset, copy.freeze());
    }

    fn deliver_copy(
        &self,
        from: ShardIndex,
        subscription: SubscriptionId,
        next_offset: Offset,
        batches: Bytes,
    ) {
        self.room.hold(batches.len());
        self.sink.outgoing.push(ShardMessage::Deliver {
            from,
            connection: self.sink.connection,
            subscription,
            next_offset,
            batches,
        });
    }

    fn room(&self) -> &Room {
        &self.room
    }
}

/// Opens when all of a number of requests are done.
struct Gate {
    left: Cell<usize>,
    failed: RefCell<Option<ErrorBody>>,
    changed: Signal,
}

impl CompletionSink for Gate {
    fn complete(&self, _token: u64, outcome: Outcome) {
        if let Outcome::Failed(error) = outcome {
            self.failed.borrow_mut().get_or_insert(error);
        }
        self.left.set(self.left.get() - 1);
        self.changed.notify_all();
    }
}

fn no_topic(name: &str) -> ErrorBody {
    ErrorBody::new(
        ErrorCode::TopicUnknown,
        format!(
            "there is no topic {name}; create it first, for example by `gannet topic create {name}`"
        ),
    )
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

fn unexpected(answer: Result<Answer, ErrorBody>) -> ErrorBody {
    answer.err().unwrap_or_else(|| {
        ErrorBody::new(
            ErrorCode::Internal,
            "a shard gave an answer that does not fit the question",
        )
    })
}
