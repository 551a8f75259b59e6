//! A broker in this process: frames by the codec over real sockets, batches in memory, duplicates recognised, and
//! failures at scripted points.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use gannet_wire::batch::{
    BatchHeader, BatchLimits, CheckDepth, CheckScratch, Records, check_batch, stamp,
};
use gannet_wire::client::{ClientConfig, ProducerConfig, ReconnectConfig};
use gannet_wire::frame::*;
use gannet_wire::*;

/// What happens to the publish with a number, counted over all connections from 1, resent ones included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// The connection is closed before the batch is stored.
    LoseBatch,
    /// The connection is closed after the batch is stored and before it is acknowledged.
    LoseAck,
    /// It is refused.
    Refuse(ErrorCode),
}

pub(crate) struct Options {
    pub(crate) shards: u16,
    pub(crate) heartbeat_ms: u32,
    pub(crate) producer_inflight_max: u32,
    pub(crate) batch_bytes_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 1,
            heartbeat_ms: 10_000,
            producer_inflight_max: 5,
            batch_bytes_max: 1 << 20,
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) topics: Vec<Topic>,
    pub(crate) offsets: HashMap<(String, u64, u32), u64>,
    pub(crate) fates: HashMap<u64, Fate>,
    pub(crate) publishes: u64,
    /// Acknowledgements are kept back while this is set.
    pub(crate) holds_acks: bool,
    /// Nothing is answered while this is set, not even heartbeats.
    pub(crate) is_mute: bool,
    /// New connections are closed at once while this is set.
    pub(crate) refuses_connections: bool,
    pub(crate) producers: u64,
    pub(crate) accepted: u64,
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    /// One entry for each greeted connection: the shard asked for.
    pub(crate) hellos: Vec<Option<ShardIndex>>,
    /// How long a Subscribe takes.
    pub(crate) subscribe_delay: Duration,
    /// One entry for each Subscribe.
    pub(crate) subscribes: Vec<Subscribe>,
    /// What a subscription, the how manieth it is, is given before what is stored, whatever it is.
    pub(crate) scripted: Option<(usize, Bytes)>,
    /// Subscriptions whose connection has ended: the how manieth each was.
    pub(crate) ended: Vec<usize>,
    /// Bytes granted, first credit and later ones, over all subscriptions.
    pub(crate) granted_bytes: u64,
    pub(crate) delivered_bytes: u64,
    /// The most batches of one producer and partition that were unanswered at once.
    pub(crate) unanswered_max: usize,
    pub(crate) unanswered: usize,
    /// A start with another number of shards, when set.
    pub(crate) shards: Option<u16>,
    sockets: Vec<TcpStream>,
    generation: u64,
}

pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) name: String,
    pub(crate) settings: TopicSettings,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) ended: Option<ErrorCode>,
}

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) batches: Vec<Bytes>,
    pub(crate) next_offset: u64,
    pub(crate) log_start: u64,
    producers: HashMap<u64, Producer>,
}

#[derive(Default)]
struct Producer {
    next: u32,
    stored: VecDeque<(u32, u64)>,
}

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Broker {
    pub(crate) fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            options,
            state: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (socket, shared) = (socket.unwrap(), Arc::clone(&accepting));
                if shared.state.lock().unwrap().refuses_connections {
                    continue;
                }
                {
                    let mut state = shared.state.lock().unwrap();
                    state.accepted += 1;
                    state.sockets.push(socket.try_clone().unwrap());
                }
                thread::spawn(move || Connection::new(socket, shared).run());
            }
        });
        Self { address, shared }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Waits until the state is as wanted.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut state = self.state();
        while !wanted(&state) {
            assert!(
                Instant::now() < deadline,
                "the broker never got into the wanted state"
            );
            state = self
                .shared
                .changed
                .wait_timeout(state, Duration::from_millis(20))
                .unwrap()
                .0;
        }
    }

    /// Closes every connection.
    pub(crate) fn hang_up(&self) {
        for socket in self.state().sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn create(&self, name: &str, partitions: u32) {
        self.state()
            .create(name, partitions, TopicSettings::default());
    }

    /// The values stored in a partition, in order.
    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        let state = self.state();
        let topic = state.topics.iter().find(|one| one.name == topic).unwrap();
        let mut values = Vec::new();
        for batch in &topic.partitions[partition].batches {
            for (_, record) in Records::open(batch.clone()).unwrap().iter() {
                values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            }
        }
        values
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.hang_up();
        let _ = TcpStream::connect(self.address);
    }
}

/// A producer whose every record is a batch.
pub(crate) fn one_by_one() -> ProducerConfig {
    ProducerConfig {
        batch_records_max: 1,
        ..ProducerConfig::default()
    }
}

/// A producer whose batches go when they are full, and that holds two of them.
pub(crate) fn lingering() -> ProducerConfig {
    ProducerConfig {
        batch_bytes: 4096,
        buffer_bytes_max: 8192,
        linger: Duration::from_secs(60),
        ..ProducerConfig::default()
    }
}

/// A client's configuration that loses no time.
pub(crate) fn quick() -> ClientConfig {
    ClientConfig {
        client_name: "test".into(),
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(20),
        reconnect: ReconnectConfig {
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(5),
            give_up_after: Duration::from_secs(20),
        },
    }
}

impl State {
    fn create(&mut self, name: &str, partitions: u32, settings: TopicSettings) -> TopicId {
        let id = TopicId(self.topics.len() as u64 + 1);
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        self.topics.push(Topic {
            id,
            name: name.into(),
            settings,
            partitions,
            ended: None,
        });
        id
    }

    fn describe(&self, name: &str, shards: u16) -> Message {
        let Some(topic) = self.topics.iter().find(|one| one.name == name) else {
            return Message::Error(ErrorBody::of_code(ErrorCode::TopicUnknown));
        };
        let describe = |(partition, index): (&Partition, u32)| PartitionDescription {
            partition: PartitionIndex(index),
            shard: ShardIndex(index as u16 % shards),
            log_start: Offset(partition.log_start),
            next_offset: Offset(partition.next_offset),
            leader_epoch: LeaderEpoch(1),
            stored_bytes: 0,
            fences: vec![],
        };
        Message::TopicReply(TopicDescription {
            topic: topic.id,
            name: topic.name.clone(),
            settings: topic.settings,
            partitions: topic.partitions.iter().zip(0..).map(describe).collect(),
        })
    }

    fn append(&mut self, publish: &Publish, generation: u64) -> Result<PublishAck, ErrorCode> {
        let limits = BatchLimits::default();
        let header = check_batch(
            &publish.batch,
            &limits,
            CheckDepth::Full,
            &mut CheckScratch::new(),
        )
        .map_err(|_| ErrorCode::BatchMalformed)?;
        let topic = self.topics.get_mut(publish.topic.0 as usize - 1);
        let partition = topic
            .and_then(|topic| topic.partitions.get_mut(publish.partition.0 as usize))
            .ok_or(ErrorCode::TopicUnknown)?;
        let mut ack = PublishAck {
            correlation: CorrelationId(0),
            base_offset: Offset(partition.next_offset),
            append_time: Timestamp(generation as i64 + 1),
            durability: publish.durability.unwrap_or(Durability::Durable),
            duplicate: false,
        };
        if let Some(sent) = header.header().producer() {
            let known = partition.producers.entry(sent.id.0).or_default();
            let stored = known
                .stored
                .iter()
                .find(|(base, _)| *base == sent.base_sequence.0);
            if let Some((_, base_offset)) = stored {
                ack.base_offset = Offset(*base_offset);
                ack.duplicate = true;
                return Ok(ack);
            }
            if sent.base_sequence.0 != known.next {
                return Err(ErrorCode::SequenceGap);
            }
            known.next += header.header().record_count();
            known
                .stored
                .push_back((sent.base_sequence.0, partition.next_offset));
        }
        let mut batch = publish.batch.to_vec();
        let (base, time) = (ack.base_offset, ack.append_time);
        stamp(
            &mut batch,
            publish.topic,
            publish.partition,
            base,
            time,
            LeaderEpoch(1),
        );
        partition.next_offset += u64::from(header.header().record_count());
        partition.batches.push(batch.into());
        Ok(ack)
    }
}

struct Connection {
    socket: TcpStream,
    shared: Arc<Shared>,
    out: BytesMut,
    held: Vec<PublishAck>,
    subscriptions: HashMap<u64, Served>,
    closing: bool,
}

struct Served {
    number: usize,
    subscribe: Subscribe,
    next: u64,
    credit: i64,
}

impl Connection {
    fn new(socket: TcpStream, shared: Arc<Shared>) -> Self {
        let (out, held) = (BytesMut::new(), Vec::new());
        Self {
            socket,
            shared,
            out,
            held,
            subscriptions: HashMap::new(),
            closing: false,
        }
    }

    fn run(mut self) {
        self.socket.set_nodelay(true).unwrap();
        self.socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let mut decoder = FrameDecoder::new(FrameLimits::default());
        let mut received = BytesMut::new();
        let mut chunk = vec![0; 1 << 18];
        while !self.closing {
            match self.socket.read(&mut chunk) {
                Ok(0) => break,
                Ok(bytes) => received.extend_from_slice(&chunk[..bytes]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
            if self.shared.state.lock().unwrap().is_mute {
                continue;
            }
            while let Some(frame) = decoder.decode(&mut received).unwrap() {
                self.handle(frame);
                if self.closing {
                    break;
                }
            }
            self.deliver();
            self.acknowledge();
            if self.socket.write_all(&self.out.split()).is_err() {
                break;
            }
            self.shared.changed.notify_all();
        }
        let _ = self.socket.shutdown(Shutdown::Both);
        let mut state = self.shared.state.lock().unwrap();
        state.unanswered -= self.held.len();
        let numbers = self.subscriptions.values().map(|served| served.number);
        state.ended.extend(numbers);
        drop(state);
        self.shared.changed.notify_all();
    }

    fn reply(&mut self, correlation: CorrelationId, message: &Message) {
        encode(correlation, message, &mut self.out);
    }

    fn handle(&mut self, frame: Frame) {
        let correlation = frame.correlation;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock().unwrap();
        let shards = state.shards.unwrap_or(shared.options.shards);
        let answer = match frame.message {
            Message::Hello(hello) if hello.shard.is_some_and(|shard| shard.0 >= shards) => {
                self.closing = true;
                Message::Error(ErrorBody::of_code(ErrorCode::ShardUnknown))
            }
            Message::Hello(hello) => {
                state.hellos.push(hello.shard);
                Message::HelloReply(HelloReply {
                    protocol: 1,
                    shard: hello.shard.unwrap_or_default(),
                    shards,
                    features: 0,
                    frame_bytes_max: 2 << 20,
                    batch_bytes_max: shared.options.batch_bytes_max,
                    batch_records_max: 10_000,
                    producer_inflight_max: shared.options.producer_inflight_max,
                    heartbeat_ms: shared.options.heartbeat_ms,
                    broker_id: 1,
                    server_name: "fake".into(),
                })
            }
            Message::Ping(opaque) => {
                state.pings += 1;
                Message::Pong(opaque)
            }
            Message::Pong(_) => {
                state.pongs += 1;
                return;
            }
            Message::TopicCreate(create) => {
                if state.topics.iter().any(|topic| topic.name == create.name) {
                    Message::Error(ErrorBody::of_code(ErrorCode::TopicExists))
                } else {
                    let settings = create.options.resolve(&TopicSettings::default());
                    state.create(&create.name, create.partitions.max(1), settings);
                    state.describe(&create.name, shards)
                }
            }
            Message::TopicDescribe(name) => state.describe(&name, shards),
            Message::TopicDelete(name) => {
                state.topics.retain(|topic| topic.name != name);
                Message::Ok
            }
            Message::TopicList(list) => {
                // Pages of two, whatever is asked for.
                let mut names: Vec<&Topic> = state
                    .topics
                    .iter()
                    .filter(|topic| topic.name > list.after)
                    .collect();
                names.sort_by(|a, b| a.name.cmp(&b.name));
                let entry = |topic: &&Topic| TopicEntry {
                    topic: topic.id,
                    name: topic.name.clone(),
                    partitions: topic.partitions.len() as u32,
                };
                let topics = names.iter().take(2).map(entry).collect();
                Message::TopicListReply(TopicListReply {
                    more: names.len() > 2,
                    topics,
                })
            }
            Message::ProducerInit => {
                state.producers += 1;
                let producer = ProducerId(state.producers);
                Message::ProducerReply(ProducerReply {
                    producer,
                    epoch: ProducerEpoch(0),
                })
            }
            Message::Publish(publish) => {
                drop(state);
                self.publish(correlation, &publish);
                return;
            }
            Message::Subscribe(subscribe) => {
                if !state.subscribe_delay.is_zero() {
                    let delay = state.subscribe_delay;
                    drop(state);
                    thread::sleep(delay);
                    state = self.shared.state.lock().unwrap();
                }
                state.subscribes.push(subscribe);
                state.granted_bytes += subscribe.credit;
                let topic = &state.topics[subscribe.topic.0 as usize - 1];
                let partition = &topic.partitions[subscribe.partition.0 as usize];
                let (log_start, next_offset) = (partition.log_start, partition.next_offset);
                let start = match subscribe.start {
                    Start::Earliest => log_start,
                    Start::Latest => next_offset,
                    Start::Offset(offset) => offset.0,
                    Start::Timestamp(_) => next_offset,
                };
                if start > next_offset || start < log_start {
                    let error = ErrorBody::of_code(ErrorCode::OffsetOutOfRange)
                        .with_range(Offset(log_start), Offset(next_offset));
                    Message::Error(error)
                } else {
                    let credit = subscribe.credit as i64;
                    let served = Served {
                        number: state.subscribes.len(),
                        subscribe,
                        next: start,
                        credit,
                    };
                    self.subscriptions.insert(subscribe.subscription.0, served);
                    Message::Subscribed(Subscribed {
                        subscription: subscribe.subscription,
                        start_offset: Offset(start),
                        log_start: Offset(log_start),
                        next_offset: Offset(next_offset),
                    })
                }
            }
            Message::Credit(subscription, bytes) => {
                state.granted_bytes += bytes;
                if let Some(served) = self.subscriptions.get_mut(&subscription.0) {
                    served.credit += bytes as i64;
                }
                return;
            }
            Message::OffsetsCommit(commit) => {
                for one in commit.offsets {
                    let key = (commit.group.clone(), commit.topic.0, one.partition.0);
                    state.offsets.insert(key, one.offset.0);
                }
                Message::Ok
            }
            Message::OffsetsFetch(fetch) => {
                let committed = |partition: PartitionIndex| CommittedOffset {
                    partition,
                    offset: state
                        .offsets
                        .get(&(fetch.group.clone(), fetch.topic.0, partition.0))
                        .map(|offset| Offset(*offset)),
                    metadata: String::new(),
                };
                let offsets = fetch.partitions.iter().copied().map(committed).collect();
                Message::OffsetsReply(OffsetsReply { offsets })
            }
            Message::OffsetLookup(lookup) => {
                let topic = &state.topics[lookup.topic.0 as usize - 1];
                let partition = &topic.partitions[lookup.partition.0 as usize];
                let offset = match lookup.start {
                    Start::Earliest => Offset(partition.log_start),
                    Start::Offset(offset) => offset,
                    _ => Offset(partition.next_offset),
                };
                Message::OffsetLookupReply(OffsetLookupReply {
                    offset,
                    log_start: Offset(partition.log_start),
                    next_offset: Offset(partition.next_offset),
                })
            }
            other => panic!("the client sent {other:?}"),
        };
        drop(state);
        self.reply(correlation, &answer);
    }

    fn publish(&mut self, correlation: CorrelationId, publish: &Publish) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock().unwrap();
        state.publishes += 1;
        state.generation += 1;
        let number = state.publishes;
        let fate = state.fates.remove(&number);
        if fate == Some(Fate::LoseBatch) {
            self.closing = true;
            return;
        }
        if let Some(Fate::Refuse(code)) = fate {
            drop(state);
            self.reply(correlation, &Message::Error(ErrorBody::of_code(code)));
            return;
        }
        let generation = state.generation;
        let answer = state.append(publish, generation);
        if fate == Some(Fate::LoseAck) {
            self.closing = true;
            return;
        }
        match answer {
            Ok(ack) => {
                self.held.push(PublishAck { correlation, ..ack });
                state.unanswered += 1;
                state.unanswered_max = state.unanswered_max.max(state.unanswered);
            }
            Err(code) => {
                drop(state);
                self.reply(correlation, &Message::Error(ErrorBody::of_code(code)));
            }
        }
    }

    fn acknowledge(&mut self) {
        let mut state = self.shared.state.lock().unwrap();
        if state.holds_acks || self.closing {
            return;
        }
        state.unanswered -= self.held.len();
        let mut writer = PublishAcksWriter::new(&mut self.out);
        self.held.drain(..).for_each(|ack| writer.push(&ack));
    }

    fn deliver(&mut self) {
        let mut ended = Vec::new();
        let mut state = self.shared.state.lock().unwrap();
        let mut delivered_bytes = 0;
        for (id, served) in &mut self.subscriptions {
            let number = served.number;
            if let Some((_, batches)) = state.scripted.take_if(|(of, _)| *of == number) {
                let message = Message::Deliver(Deliver {
                    subscription: SubscriptionId(*id),
                    next_offset: Offset(u64::MAX >> 1),
                    batches,
                });
                encode(CorrelationId(0), &message, &mut self.out);
                continue;
            }
            let topic = &state.topics[served.subscribe.topic.0 as usize - 1];
            if let Some(code) = topic.ended {
                ended.push((*id, code));
                continue;
            }
            let partition = &topic.partitions[served.subscribe.partition.0 as usize];
            let mut batches = BytesMut::new();
            for batch in &partition.batches {
                let header = BatchHeader::read_from_prefix_of(batch).unwrap();
                if header.next_offset().0 <= served.next {
                    continue;
                }
                if served.credit <= 0 {
                    break;
                }
                served.credit -= batch.len() as i64;
                served.next = header.next_offset().0;
                batches.extend_from_slice(batch);
            }
            if !batches.is_empty() {
                delivered_bytes += batches.len() as u64;
                let message = Message::Deliver(Deliver {
                    subscription: SubscriptionId(*id),
                    next_offset: Offset(partition.next_offset),
                    batches: batches.freeze(),
                });
                encode(CorrelationId(0), &message, &mut self.out);
            }
        }
        state.delivered_bytes += delivered_bytes;
        for (id, code) in ended {
            self.subscriptions.remove(&id);
            let end = SubscriptionEnd {
                subscription: SubscriptionId(id),
                error: ErrorBody::of_code(code),
            };
            encode(
                CorrelationId(0),
                &Message::SubscriptionEnd(end),
                &mut self.out,
            );
        }
    }
}
