//! One connection: a reader that turns frames into requests, a writer that sends what they lead to, a watch over its silence.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{Either, select};
use gannet_wire::batch::{BatchError, CheckDepth, CheckScratch, Compression, check_batch};
use gannet_wire::frame::{
    Frame, FrameDecoder, FrameLimits, Goodbye, Hello, HelloReply, Message, Publish, Subscribe,
    TopicCheck,
};
use gannet_wire::{CorrelationId, ErrorBody, ErrorCode, SubscriptionId};

use super::NativeConfig;
use super::outbox::Outbox;
use crate::control::names::check_group_name;
use crate::io::local::{Semaphore, Signal, yield_once};
use crate::io::uring_net::Connection;
use crate::io::{Clock, Disk, Spawn};
use crate::shard::forwarded::ForwardedPublish;
use crate::shard::log::CheckedBatch;
use crate::shard::mail::{ConnectionId, RemoteConnection, ShardMessage};
use crate::shard::requests::Shard;
use crate::shard::slot::{Completion, CompletionSink, Outcome};
use crate::shard::subscribe::Peer;
use crate::storage::PartitionKey;

/// The protocol version this server speaks.
const PROTOCOL: u16 = 1;
/// A read buffer of a connection that sends little.
const READ_BYTES_MIN: usize = 4 << 10;
/// What a connection may need for a frame without asking the shard's receive budget.
const FRAME_BYTES_FREE: usize = 64 << 10;
/// A peer that was silent for so many heartbeats is gone.
const SILENT_HEARTBEATS_MAX: u32 = 3;
/// A frame that has begun has arrived within so many heartbeats: what is there of it takes up the shard's memory.
const FRAME_HEARTBEATS_MAX: u32 = 6;
/// How long a stopping server waits for a connection's acknowledgements to leave.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the connections of a shard share.
pub struct GatewayContext<C: Clock> {
    /// What a connection is allowed.
    pub config: NativeConfig,
    /// Time.
    pub clock: C,
    /// Bytes of large frames of which only a part has arrived.
    pub receive_budget: Rc<Semaphore>,
    /// For the check of compressed batches; used by one check at a time.
    pub scratch: RefCell<CheckScratch>,
    /// Set when the server stops.
    pub stopping: Cell<bool>,
    /// Notified when it does.
    pub stop: Signal,
}

/// What a connection holds of the receive budget; given back when dropped.
#[derive(Default)]
struct Charge {
    held: Option<(Rc<Semaphore>, usize)>,
}

impl Charge {
    /// Takes `bytes`, waiting for them, unless something is held for the frame at hand already.
    async fn take(&mut self, budget: &Rc<Semaphore>, bytes: usize) {
        if self.held.is_none() {
            budget.acquire(bytes).await;
            self.held = Some((budget.clone(), bytes));
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some((budget, bytes)) = &self.held {
            budget.release(*bytes);
        }
    }
}

struct Session<D: Disk, C: Clock, S: Spawn> {
    shard: Rc<Shard<D, C, S>>,
    context: Rc<GatewayContext<C>>,
    outbox: Rc<Outbox>,
    id: ConnectionId,
    greeted: Cell<bool>,
    /// By owner: a partition's shard need not be this one.
    subscriptions: RefCell<std::collections::HashMap<SubscriptionId, gannet_wire::ShardIndex>>,
    /// When the peer was last heard, or was not listened to.
    heard: Cell<Duration>,
    /// When something was last sent to it.
    sent: Cell<Duration>,
    /// Whether it is listened to: while memory is short it is not, and its silence says nothing.
    listening: Cell<bool>,
    /// Since when a frame has been incomplete.
    partial_since: Cell<Option<Duration>>,
}

/// Serves a connection until it ends, whoever ends it.
pub async fn serve<D: Disk, C: Clock, S: Spawn>(
    shard: Rc<Shard<D, C, S>>,
    context: Rc<GatewayContext<C>>,
    connection: Connection,
) {
    let connection = Rc::new(connection);
    let outbox = Outbox::new(
        context.config.connection_buffer_bytes_max,
        context.config.requests_in_flight_max,
    );
    let peer: Rc<dyn Peer> = outbox.clone();
    let id = shard.add_connection(&peer);
    let session = Rc::new(Session {
        heard: Cell::new(context.clock.monotonic()),
        sent: Cell::new(context.clock.monotonic()),
        listening: Cell::new(true),
        partial_since: Cell::new(None),
        shard: shard.clone(),
        context,
        outbox: outbox.clone(),
        id,
        greeted: Cell::new(false),
        subscriptions: RefCell::default(),
    });
    shard
        .spawn()
        .spawn(watch_silence(session.clone(), connection.clone()));
    let written = Rc::new(Signal::new());
    shard.spawn().spawn({
        let (session, connection, written) = (session.clone(), connection.clone(), written.clone());
        async move {
            session.write_all(&connection).await;
            written.notify_all();
        }
    });
    let before = written.version();
    session.read_all(&connection).await;
    shard.remove_connection(id);
    outbox.close();
    let patience = session.context.clock.sleep(STOP_PATIENCE);
    select(pin!(written.changed_since(before)), pin!(patience)).await;
    connection.shutdown();
}

/// Pings a peer that was silent or was told nothing, listened to or not, since it goes by the pings; and gives it up when it stays silent: a peer that
/// is gone without a word must not hold anything.
async fn watch_silence<D: Disk, C: Clock, S: Spawn>(
    session: Rc<Session<D, C, S>>,
    connection: Rc<Connection>,
) {
    let heartbeat = session.context.config.heartbeat;
    let mut pings: u64 = 0;
    loop {
        let now = session.context.clock.monotonic();
        if !session.listening.get() {
            session.heard.set(now);
            session
                .partial_since
                .set(session.partial_since.get().and(Some(now)));
        }
        let silence = now.saturating_sub(session.heard.get());
        let partial = session.partial_since.get();
        if silence >= heartbeat * SILENT_HEARTBEATS_MAX {
            tracing::info!(peer = %connection.peer(), "a connection has been silent for too long: closing it");
            connection.shutdown();
            return;
        }
        if partial
            .is_some_and(|since| now.saturating_sub(since) >= heartbeat * FRAME_HEARTBEATS_MAX)
        {
            tracing::info!(peer = %connection.peer(), "a connection did not finish a frame in time: closing it");
            connection.shutdown();
            return;
        }
        let quiet = now.saturating_sub(session.sent.get());
        // What waits to be sent is as good as a Ping, and a peer that does not read gets no more of them.
        let idle = session.outbox.room().held_bytes() == 0;
        if (silence >= heartbeat || quiet >= heartbeat) && idle && session.greeted.get() {
            pings += 1;
            session.outbox.reply(CorrelationId(0), Message::Ping(pings));
        }
        let next = until_next(silence, heartbeat).min(until_next(quiet, heartbeat));
        let next = session.context.clock.sleep(next);
        let closed = async {
            while !session.outbox.is_closing() {
                session.outbox.drained().wait().await;
            }
        };
        if let Either::Right(_) = select(pin!(next), pin!(closed)).await {
            return;
        }
    }
}

/// How long until `elapsed` is the next whole number of heartbeats.
fn until_next(elapsed: Duration, heartbeat: Duration) -> Duration {
    let over = elapsed.as_nanos() % heartbeat.as_nanos().max(1);
    heartbeat.saturating_sub(Duration::from_nanos(u64::try_from(over).unwrap_or(0)))
}

impl<D: Disk, C: Clock, S: Spawn> Session<D, C, S> {
    /// Sends whatever the outbox has, as much as possible with one call.
    async fn write_all(&self, connection: &Connection) {
        while let Some(parcel) = self.outbox.next_parcel().await {
            let mut slices = parcel.slices();
            if let Err(error) = connection.write_vectored_all(&mut slices).await {
                tracing::debug!(peer = %connection.peer(), %error, "a connection cannot be written to");
                // The reader sees the end and frees everything.
                connection.shutdown();
                self.outbox.close();
                return;
            }
            self.outbox.sent(&parcel);
            self.sent.set(self.context.clock.monotonic());
            for (shard, bytes) in parcel.senders() {
                self.shard
                    .send(shard, ShardMessage::Delivered(self.as_remote(), bytes));
            }
        }
    }

    async fn read_all(self: &Rc<Self>, connection: &Connection) {
        let config = &self.context.config;
        let mut decoder = FrameDecoder::new(FrameLimits {
            frame_bytes_max: config.frame_bytes_max,
        });
        let mut received = BytesMut::new();
        let mut read_bytes = READ_BYTES_MIN;
        let mut charge = Charge::default();
        loop {
            if !self.wait_for_room().await {
                break;
            }
            let missing = decoder.missing_bytes();
            if missing > FRAME_BYTES_FREE {
                charge.take(&self.context.receive_budget, missing).await;
            }
            received.reserve(read_bytes.max(missing));
            let stop = self.context.stop.version();
            if self.context.stopping.get() {
                self.say_goodbye().await;
                break;
            }
            self.listening.set(true);
            let read = match select(
                pin!(connection.read(std::mem::take(&mut received))),
                pin!(self.context.stop.changed_since(stop)),
            )
            .await
            {
                Either::Left(((result, buffer), _)) => {
                    received = buffer;
                    result
                }
                // The server stops: whatever arrives now is not heard any more.
                Either::Right(_) => continue,
            };
            self.listening.set(false);
            let read = match read {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    tracing::debug!(peer = %connection.peer(), %error, "a connection ended");
                    break;
                }
            };
            self.heard.set(self.context.clock.monotonic());
            // A busy connection reads much at once, an idle one holds little memory.
            read_bytes = if read >= read_bytes {
                (read_bytes * 4).min(config.read_quantum_bytes)
            } else {
                read_bytes
            };
            let Some(frames) = self.handle_received(&mut decoder, &mut received).await else {
                break;
            };
            if frames > 0 {
                charge = Charge::default();
            }
            self.note_partial_frame(frames, &received);
            if received.is_empty() && read < READ_BYTES_MIN {
                read_bytes = READ_BYTES_MIN;
                received = BytesMut::new();
            }
        }
    }

    /// Back-pressure: nothing more is read or done while too much waits to be sent, or to be acknowledged. `false`: the connection is over.
    async fn wait_for_room(&self) -> bool {
        let config = &self.context.config;
        loop {
            let seen = self.outbox.drained().version();
            if self.outbox.is_closing() {
                return false;
            }
            if !self.outbox.is_over()
                && self.outbox.publishes_in_flight() < config.publishes_in_flight_max
            {
                return true;
            }
            self.outbox.drained().changed_since(seen).await;
        }
    }

    /// The server stops: what was accepted is still answered.
    async fn say_goodbye(&self) {
        let patience = self.context.clock.sleep(STOP_PATIENCE);
        let answered = async {
            loop {
                let seen = self.outbox.drained().version();
                if self.outbox.publishes_in_flight() == 0 || self.outbox.is_closing() {
                    return;
                }
                self.outbox.drained().changed_since(seen).await;
            }
        };
        select(pin!(answered), pin!(patience)).await;
        let goodbye = Goodbye {
            code: ErrorCode::ServerStopping,
            sentence: "the server is stopping; connect again later".into(),
        };
        self.outbox
            .reply(CorrelationId(0), Message::Goodbye(goodbye));
    }

    /// Starts the clock of a frame of which only a part is there.
    fn note_partial_frame(&self, frames: usize, received: &BytesMut) {
        if received.is_empty() {
            self.partial_since.set(None);
        } else if frames > 0 || self.partial_since.get().is_none() {
            self.partial_since.set(Some(self.context.clock.monotonic()));
        }
    }

    /// Handles every whole frame, and says how many there were. `None`: the connection is over.
    async fn handle_received(
        self: &Rc<Self>,
        decoder: &mut FrameDecoder,
        received: &mut BytesMut,
    ) -> Option<usize> {
        let mut frames = 0;
        loop {
            match decoder.decode(received) {
                Ok(Some(frame)) => {
                    frames += 1;
                    // Before every frame: thousands of small ones with large answers arrive with one read.
                    if !self.wait_for_room().await || !self.handle(frame).await {
                        return None;
                    }
                }
                Ok(None) => return Some(frames),
                Err(error) => {
                    let body =
                        ErrorBody::new(error.code(), format!("{error}; the connection is closed"));
                    self.outbox.reply(error.correlation, Message::Error(body));
                    return None;
                }
            }
        }
    }

    async fn handle(self: &Rc<Self>, frame: Frame) -> bool {
        let Frame {
            correlation,
            message,
        } = frame;
        if !self.greeted.get() {
            return match message {
                Message::Hello(hello) => self.greet(correlation, &hello),
                _ => {
                    self.outbox.reply(
                        correlation,
                        Message::Error(ErrorBody::of_code(ErrorCode::HelloExpected)),
                    );
                    false
                }
            };
        }
        match message {
            Message::Publish(publish) => self.publish(correlation, publish).await,
            Message::Credit(subscription, bytes) => self.credit(subscription, bytes),
            Message::Subscribe(subscribe) => self.subscribe(correlation, subscribe).await,
            Message::Unsubscribe(subscription) => self.unsubscribe(correlation, subscription).await,
            Message::Ping(number) => self.outbox.reply(correlation, Message::Pong(number)),
            Message::Pong(_) => {}
            Message::Goodbye(_) => return false,
            Message::Hello(_) => {
                self.outbox.reply(
                    correlation,
                    Message::Error(ErrorBody::of_code(ErrorCode::HelloExpected)),
                );
                return false;
            }
            request => self.request(correlation, request).await,
        }
        true
    }

    fn greet(&self, correlation: CorrelationId, hello: &Hello) -> bool {
        let refusal = if hello.protocol_min > PROTOCOL || hello.protocol_max < PROTOCOL {
            let sentence = format!(
                "this server speaks protocol {PROTOCOL}, the client {} to {}",
                hello.protocol_min, hello.protocol_max
            );
            Some(ErrorBody::new(ErrorCode::UnsupportedVersion, sentence))
        } else {
            let unknown = hello.shard.filter(|shard| shard.0 >= self.shard.shards());
            unknown.map(|shard| {
                ErrorBody::new(
                    ErrorCode::ShardUnknown,
                    format!(
                        "there is no shard {shard}: the broker has {}",
                        self.shard.shards()
                    ),
                )
            })
        };
        if let Some(refusal) = refusal {
            self.outbox.reply(correlation, Message::Error(refusal));
            return false;
        }
        let config = &self.context.config;
        let reply = HelloReply {
            protocol: PROTOCOL,
            shard: self.shard.index(),
            shards: self.shard.shards(),
            features: 0,
            frame_bytes_max: config.frame_bytes_max,
            batch_bytes_max: config.batch.batch_bytes_max,
            batch_records_max: config.batch.batch_records_max,
            producer_inflight_max: config.producer_inflight_max,
            heartbeat_ms: u32::try_from(config.heartbeat.as_millis()).unwrap_or(u32::MAX),
            broker_id: self.shard.broker_id(),
            server_name: concat!("gannet ", env!("CARGO_PKG_VERSION")).into(),
        };
        self.greeted.set(true);
        self.outbox.reply(correlation, Message::HelloReply(reply));
        true
    }

    /// Checks a batch and hands it to its partition's owner. Waits while memory is short: that is the back-pressure on the sender.
    async fn publish(&self, correlation: CorrelationId, publish: Publish) {
        self.outbox.begin_publish();
        let refuse = |error: ErrorBody| self.outbox.complete(correlation.0, Outcome::Failed(error));
        let key = PartitionKey {
            topic: publish.topic,
            partition: publish.partition,
        };
        let topic = match self.shard.topic_of(key) {
            Ok(topic) => topic,
            Err(error) => return refuse(error),
        };
        let depth = match topic.settings.check {
            TopicCheck::Full => CheckDepth::Full,
            TopicCheck::HeaderOnly => CheckDepth::HeaderOnly,
        };
        let header = match check_batch(
            &publish.batch,
            &self.context.config.batch,
            depth,
            &mut self.context.scratch.borrow_mut(),
        ) {
            Ok(header) => header,
            Err(error) => return refuse(batch_refusal(&error)),
        };
        if !matches!(header.header().compression(), Ok(Compression::None)) {
            // A small frame may have taken long: the others of this shard come next.
            yield_once().await;
        }
        let owner = self.shard.owner(key);
        let completion = Completion::new(self.outbox.clone(), correlation.0);
        let batch = CheckedBatch {
            bytes: publish.batch,
            header,
        };
        let durability = publish.durability;
        if owner == self.shard.index() {
            if !self.shard.log.admits() {
                self.shard.log.admitted().await;
            }
            match self.shard.local_slot(key) {
                Some(slot) => self.shard.publish(&slot, batch, durability, completion),
                None => completion
                    .complete(Outcome::Failed(ErrorBody::of_code(ErrorCode::TopicDeleted))),
            }
        } else {
            let publish = ForwardedPublish {
                key,
                batch,
                durability,
                completion,
            };
            self.shard.forward(owner, publish).await;
        }
    }

    async fn subscribe(&self, correlation: CorrelationId, subscribe: Subscribe) {
        // Where it begins may take long to look up.
        self.outbox.requests().acquire(1).await;
        if let Err(refusal) = self.begin_subscribe(correlation, &subscribe) {
            self.outbox.requests().release(1);
            self.outbox.reply(correlation, Message::Error(refusal));
            return;
        }
        let owner = self.shard.owner(PartitionKey {
            topic: subscribe.topic,
            partition: subscribe.partition,
        });
        if owner == self.shard.index() {
            self.shard.subscribe(
                self.as_remote(),
                self.outbox.clone(),
                correlation,
                subscribe,
            );
        } else {
            self.shard.send(
                owner,
                ShardMessage::Subscribe {
                    from: self.as_remote(),
                    correlation,
                    subscribe,
                },
            );
        }
    }

    /// Takes note of a subscription that is asked for.
    fn begin_subscribe(
        &self,
        correlation: CorrelationId,
        subscribe: &Subscribe,
    ) -> Result<(), ErrorBody> {
        let key = PartitionKey {
            topic: subscribe.topic,
            partition: subscribe.partition,
        };
        self.shard.topic_of(key)?;
        let owner = self.shard.owner(key);
        {
            let mut subscriptions = self.subscriptions.borrow_mut();
            for ended in self.outbox.take_ended() {
                subscriptions.remove(&ended);
            }
            let max = self.context.config.subscriptions_max;
            if subscriptions.len() >= max {
                return Err(ErrorBody::new(
                    ErrorCode::SubscriptionsTooMany,
                    format!("a connection has at most {max} subscriptions"),
                ));
            }
            if subscriptions.contains_key(&subscribe.subscription) {
                let sentence = format!(
                    "subscription {} exists on this connection already",
                    subscribe.subscription
                );
                return Err(ErrorBody::new(ErrorCode::SubscriptionExists, sentence));
            }
            subscriptions.insert(subscribe.subscription, owner);
            self.outbox
                .begin_ask(correlation, Some(subscribe.subscription));
        }
        Ok(())
    }

    fn credit(&self, subscription: SubscriptionId, bytes: u64) {
        match self.subscriptions.borrow().get(&subscription) {
            Some(owner) if *owner == self.shard.index() => {
                self.shard.grant(self.as_remote(), subscription, bytes)
            }
            Some(owner) => self
                .shard
                .send_credit(*owner, self.as_remote(), subscription, bytes),
            // Credit has no reply, and an end may have crossed it.
            None => {}
        }
    }

    async fn unsubscribe(&self, correlation: CorrelationId, subscription: SubscriptionId) {
        let owner = self.subscriptions.borrow_mut().remove(&subscription);
        let reply = match owner {
            Some(owner) if owner == self.shard.index() => {
                self.shard.unsubscribe(self.as_remote(), subscription);
                Message::Ok
            }
            Some(owner) => {
                // Its owner answers, behind what it has sent before.
                self.outbox.requests().acquire(1).await;
                self.outbox.begin_ask(correlation, None);
                let of = self.as_remote();
                return self
                    .shard
                    .send_unsubscribe(owner, of, correlation, subscription);
            }
            None => Message::Error(ErrorBody::of_code(ErrorCode::SubscriptionUnknown)),
        };
        self.outbox.reply(correlation, reply);
    }

    /// Any other request runs beside the reading, a bounded number at once.
    async fn request(self: &Rc<Self>, correlation: CorrelationId, message: Message) {
        let group = match &message {
            Message::OffsetsCommit(commit) => Some(&commit.group),
            Message::OffsetsFetch(fetch) => Some(&fetch.group),
            _ => None,
        };
        if let Some(Err(sentence)) = group.map(|group| check_group_name(group)) {
            self.outbox.reply(
                correlation,
                Message::Error(ErrorBody::new(ErrorCode::GroupInvalid, sentence)),
            );
            return;
        }
        self.outbox.requests().acquire(1).await;
        // What is being made up counts as much as what waits to be sent.
        let reply_bytes = self.shard.reply_bytes(&message);
        if !self.claim_room(reply_bytes).await {
            self.outbox.requests().release(1);
            return;
        }
        let session = self.clone();
        self.shard.spawn().spawn(async move {
            let reply = session.shard.request(message).await;
            session.outbox.room().free(reply_bytes);
            session.outbox.reply(correlation, reply);
            session.outbox.requests().release(1);
        });
    }

    /// Takes room for an answer that is about to be made. `false`: the connection is over.
    ///
    /// It does not queue behind the subscriptions: who asks for an offset need not wait for thousands of deliveries. Who asks without end makes its own deliveries wait.
    async fn claim_room(&self, bytes: usize) -> bool {
        let room = self.outbox.room();
        loop {
            let seen = room.drained().version();
            if self.outbox.is_closing() {
                return false;
            }
            if room.claim(bytes) {
                return true;
            }
            room.drained().changed_since(seen).await;
        }
    }

    fn as_remote(&self) -> RemoteConnection {
        RemoteConnection {
            shard: self.shard.index(),
            connection: self.id,
        }
    }
}

fn batch_refusal(error: &BatchError) -> ErrorBody {
    let code = match error {
        BatchError::Checksum { .. } | BatchError::StampChecksum { .. } => ErrorCode::BatchChecksum,
        BatchError::TooLarge { .. } => ErrorCode::BatchTooLarge,
        BatchError::FormatUnsupported(_) | BatchError::CompressionUnsupported(_) => {
            ErrorCode::BatchFormatUnsupported
        }
        _ => ErrorCode::BatchMalformed,
    };
    ErrorBody::new(code, error.to_string())
}
