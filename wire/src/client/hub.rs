//! What the threads (or tasks) of one publishing connection share: the lanes whose partitions it serves, and the frames
//! that wait to be written. The same for the blocking and the tokio flavour; each brings its own sockets and bells.
//!
//! Locks are taken in the order lane, then outbox, linger queue or books; never two lanes at once. Frames enter the outbox
//! under their lane's lock, so that the order of the sequences is the order on the wire.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::error::ClientError;
use super::lane::{GATHER_MAX, Lane, LaneId, PublishFrame, Record};
use super::report::{Books, Settlement};
use crate::frame::{Frame, Message, PublishAck, encode};
use crate::limits::DATA_HEAD_BYTES;

/// Wakes somebody.
pub(crate) trait Bell: Send + Sync {
    /// Wakes who waits for `at`, if he would otherwise sleep longer.
    fn ring_by(&self, at: Instant);
    /// Wakes who waits, at once.
    fn ring(&self);
}

/// A frame to be written: a head, or nothing, and what follows.
#[derive(Clone, Debug)]
pub(crate) struct OutFrame {
    head: [u8; DATA_HEAD_BYTES],
    head_bytes: usize,
    pub(crate) tail: Bytes,
}

impl OutFrame {
    fn publish((head, batch): PublishFrame) -> Self {
        Self {
            head,
            head_bytes: head.len(),
            tail: batch,
        }
    }

    fn control(frame: Bytes) -> Self {
        Self {
            head: [0; DATA_HEAD_BYTES],
            head_bytes: 0,
            tail: frame,
        }
    }

    pub(crate) fn head(&self) -> &[u8] {
        self.head.get(..self.head_bytes).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.head_bytes + self.tail.len()
    }
}

/// Frames that wait for the socket of one connection.
#[derive(Debug)]
struct Outbox {
    connected: bool,
    /// Somebody writes, and looks again when done.
    writing: bool,
    /// Counts the connections: frames for one are never written to another.
    generation: u64,
    queue: Vec<OutFrame>,
    queued_bytes: usize,
    queued_batches: usize,
    /// Batches handed over and not answered, those in the queue included.
    unanswered: usize,
    written_at: Option<Instant>,
    /// Memory to reuse.
    spare: Load,
}

/// Frames to be written to the connection of this generation.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) generation: u64,
    pub(crate) frames: Vec<OutFrame>,
    /// Memory to gather small frames in.
    pub(crate) scratch: Vec<u8>,
}

/// What a caller is to do about the outbox.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Write these, then call [`Hub::written`].
    Write(Load),
    /// Nothing: it is empty, or somebody writes, or the writer comes in time.
    Leave,
}

/// A lane, and what its producer shares over all its lanes.
pub(crate) struct LaneSlot {
    pub(crate) id: LaneId,
    lane: Mutex<Lane>,
    pub(crate) producer: Arc<ProducerBooks>,
}

/// What a producer's lanes share.
pub(crate) struct ProducerBooks {
    buffer_bytes_max: usize,
    buffered_bytes: AtomicUsize,
    waiters: AtomicUsize,
    books: Mutex<Books>,
    closed: AtomicBool,
    /// Wakes those who wait for room, for an answer, or for a lane to take records again.
    bell: Box<dyn Bell>,
}

/// What became of an attempt to send.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// The lane has it. Now is the time to look at the outbox.
    Queued,
    /// The lane has it; nothing to write yet.
    Gathering,
    /// Wait until the producer's bell rings, then try again.
    Wait,
}

pub(crate) struct Hub {
    lanes: Mutex<HashMap<LaneId, Arc<LaneSlot>>>,
    outbox: Mutex<Outbox>,
    /// Lanes whose batch lingers, by when it is due.
    lingering: Mutex<VecDeque<(Instant, Arc<LaneSlot>)>>,
    /// Lanes that wait for a pause to end or for an identity.
    attention: AtomicBool,
    looked_at: Mutex<Instant>,
    has_given_up: AtomicBool,
    given_up: Mutex<Option<ClientError>>,
    /// Why there is no connection, while there is none.
    outage: Mutex<Option<ClientError>>,
    closed: AtomicBool,
    /// Wakes the writer.
    writer: Box<dyn Bell>,
}

impl Hub {
    pub(crate) fn new(writer: Box<dyn Bell>, now: Instant) -> Self {
        Self {
            lanes: Mutex::new(HashMap::new()),
            outbox: Mutex::new(Outbox {
                connected: false,
                writing: false,
                generation: 0,
                queue: Vec::new(),
                queued_bytes: 0,
                queued_batches: 0,
                unanswered: 0,
                written_at: None,
                spare: Load::default(),
            }),
            lingering: Mutex::new(VecDeque::new()),
            attention: AtomicBool::new(false),
            looked_at: Mutex::new(now),
            has_given_up: AtomicBool::new(false),
            given_up: Mutex::new(None),
            outage: Mutex::new(None),
            closed: AtomicBool::new(false),
            writer,
        }
    }

    pub(crate) fn add(&self, slot: Arc<LaneSlot>) {
        let mut lanes = locked(&self.lanes);
        // The order of locks is lane, then outbox: taking the lane first closes the gap to a connection just made.
        let connected = locked(&self.outbox).connected;
        if connected {
            locked(&slot.lane).handle_connect();
        }
        lanes.insert(slot.id, slot);
    }

    pub(crate) fn remove(&self, id: LaneId) {
        locked(&self.lanes).remove(&id);
        locked(&self.lingering).retain(|(_, slot)| slot.id != id);
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.writer.ring();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    // ---- the senders' side ----

    /// Gives a record to its lane.
    pub(crate) fn send(
        &self,
        slot: &Arc<LaneSlot>,
        record: &Record<'_>,
        now: Instant,
    ) -> Result<Sent, ClientError> {
        let producer = &slot.producer;
        if producer.closed.load(Ordering::Relaxed) {
            return Err(ClientError::Closed);
        }
        if self.has_given_up.load(Ordering::Relaxed) {
            return Err(locked(&self.given_up)
                .clone()
                .unwrap_or(ClientError::Closed));
        }
        let mut lane = locked(&slot.lane);
        let begins = lane.is_between_batches();
        if !lane.takes_records() {
            return Ok(Sent::Wait);
        }
        if producer.is_full() && lane.begins_batch(record) {
            // What this one does not fit into is done, and goes: it is what room is waited for.
            self.seal_locked(&mut lane, slot, now);
            return Ok(Sent::Wait);
        }
        let before = lane.last_ordinal();
        lane.push(record, now).map_err(ClientError::Record)?;
        if lane.is_due(now) {
            lane.seal(now);
        }
        let sealed = lane.last_ordinal() != before;
        if sealed {
            producer.add_buffered(lane.take_sealed_bytes());
            self.dispatch(&mut lane, now);
        }
        if let Some(due_at) = lane.due_at()
            && (begins || sealed)
        {
            self.linger(due_at, slot);
        }
        Ok(if sealed {
            Sent::Queued
        } else {
            Sent::Gathering
        })
    }

    /// Seals what the lane is filling; the ordinal of the last batch there is.
    pub(crate) fn seal(&self, slot: &LaneSlot, now: Instant) -> u64 {
        let mut lane = locked(&slot.lane);
        self.seal_locked(&mut lane, slot, now);
        lane.last_ordinal()
    }

    fn seal_locked(&self, lane: &mut Lane, slot: &LaneSlot, now: Instant) {
        if lane.seal(now).is_some() {
            slot.producer.add_buffered(lane.take_sealed_bytes());
        }
        self.dispatch(lane, now);
    }

    fn dispatch(&self, lane: &mut Lane, now: Instant) {
        let mut outbox = None;
        lane.dispatch(now, |frame| {
            let outbox = outbox.get_or_insert_with(|| locked(&self.outbox));
            if outbox.connected {
                outbox.unanswered += 1;
                outbox.queued_batches += 1;
                outbox.push(OutFrame::publish(frame));
            }
            // Otherwise the lane is about to be told that the connection is gone, and sends it again.
        });
    }

    fn linger(&self, due_at: Instant, slot: &Arc<LaneSlot>) {
        let mut lingering = locked(&self.lingering);
        // Producers with another linger share the connection, so the queue is sorted on entry; nearly always at its end.
        let at = lingering.partition_point(|(other, _)| *other <= due_at);
        lingering.insert(at, (due_at, Arc::clone(slot)));
        if at == 0 {
            drop(lingering);
            self.writer.ring_by(due_at);
        }
    }

    // ---- the writers' side ----

    /// For a thread that sends: decides whether it writes what waits, or leaves it to the writer for a moment, in
    /// which more may come.
    pub(crate) fn sender_turn(&self, now: Instant) -> Turn {
        let mut outbox = locked(&self.outbox);
        if outbox.queue.is_empty() || outbox.writing {
            return Turn::Leave;
        }
        let quiet = outbox.written_at.is_none_or(|at| now >= at + GATHER_MAX);
        let alone = outbox.unanswered <= outbox.queued_batches;
        if quiet || alone || outbox.queued_bytes >= WRITE_BYTES {
            return Turn::Write(outbox.take());
        }
        drop(outbox);
        self.writer.ring_by(now + GATHER_MAX);
        Turn::Leave
    }

    /// For the writer: takes whatever waits.
    pub(crate) fn writer_turn(&self) -> Turn {
        let mut outbox = locked(&self.outbox);
        if outbox.queue.is_empty() || outbox.writing {
            return Turn::Leave;
        }
        Turn::Write(outbox.take())
    }

    /// After a write, done or failed: gives the memory back, and hands what came meanwhile to the writer.
    pub(crate) fn written(&self, mut load: Load, now: Instant) {
        load.frames.clear();
        load.scratch.clear();
        let mut outbox = locked(&self.outbox);
        outbox.writing = false;
        outbox.written_at = Some(now);
        if load.frames.capacity() <= SPARE_FRAMES_MAX && load.scratch.capacity() <= SPARE_BYTES_MAX
        {
            outbox.spare = load;
        }
        let more = !outbox.queue.is_empty();
        drop(outbox);
        if more {
            self.writer.ring_by(now);
        }
    }

    /// Queues a frame that belongs to no lane.
    pub(crate) fn queue_control(&self, frame: BytesMut) {
        if frame.is_empty() {
            return;
        }
        let mut outbox = locked(&self.outbox);
        if outbox.connected {
            outbox.push(OutFrame::control(frame.freeze()));
        }
        drop(outbox);
        self.writer.ring();
    }

    /// Whether something waits to be written.
    pub(crate) fn has_output(&self) -> bool {
        let outbox = locked(&self.outbox);
        !outbox.queue.is_empty() && !outbox.writing
    }

    /// Whether a lingering batch is due before `at`.
    pub(crate) fn is_due_before(&self, at: Instant) -> bool {
        locked(&self.lingering)
            .front()
            .is_some_and(|(due_at, _)| *due_at < at)
    }

    /// For the writer: does what the time asks for, and says when it will ask again.
    pub(crate) fn tick(&self, now: Instant) -> Instant {
        loop {
            let mut lingering = locked(&self.lingering);
            match lingering.front() {
                Some((due_at, _)) if *due_at <= now => {}
                _ => break,
            }
            let Some((_, slot)) = lingering.pop_front() else {
                break;
            };
            drop(lingering);
            let mut lane = locked(&slot.lane);
            match lane.due_at() {
                Some(due_at) if due_at <= now => self.seal_locked(&mut lane, &slot, now),
                // The batch it stood for went earlier, and the one being filled has an entry of its own.
                _ => {}
            }
        }
        let attention = self.attention.load(Ordering::Relaxed);
        let every = if attention {
            ATTENTION_EVERY
        } else {
            LOOK_EVERY
        };
        let mut looked_at = locked(&self.looked_at);
        if now >= *looked_at + every {
            *looked_at = now;
            drop(looked_at);
            self.look_at_lanes(now);
            looked_at = locked(&self.looked_at);
        }
        let next_look = *looked_at + every;
        drop(looked_at);
        let next_linger = locked(&self.lingering).front().map(|(due_at, _)| *due_at);
        next_linger.map_or(next_look, |due_at| due_at.min(next_look))
    }

    /// Timeouts, ended pauses, identities. Over all lanes, a few times a second at most.
    fn look_at_lanes(&self, now: Instant) {
        let mut attention = false;
        let outage = locked(&self.outage).clone();
        for slot in self.all_lanes() {
            let mut settlement = Settlement::default();
            let mut lane = locked(&slot.lane);
            lane.handle_timeout(outage.as_ref(), now, &mut settlement);
            self.dispatch(&mut lane, now);
            self.ask_identity(&mut lane, &slot, now);
            attention |= lane.needs_attention();
            slot.producer.enter(settlement);
        }
        self.attention.store(attention, Ordering::Relaxed);
    }

    // ---- the reader's side ----

    /// The generation of the connection about to be announced by [`handle_connect`](Self::handle_connect).
    pub(crate) fn next_generation(&self) -> u64 {
        locked(&self.outbox).generation + 1
    }

    /// A connection stands: lanes may send.
    pub(crate) fn handle_connect(&self, now: Instant) {
        self.has_given_up.store(false, Ordering::SeqCst);
        *locked(&self.outage) = None;
        {
            let mut outbox = locked(&self.outbox);
            outbox.generation += 1;
            outbox.connected = true;
            outbox.unanswered = 0;
            outbox.written_at = None;
        }
        for slot in self.all_lanes() {
            let mut lane = locked(&slot.lane);
            lane.handle_connect();
            self.dispatch(&mut lane, now);
            self.ask_identity(&mut lane, &slot, now);
        }
        self.writer.ring();
    }

    /// The connection is gone. Nothing handed over before counts as sent.
    pub(crate) fn handle_disconnect(&self, now: Instant) {
        {
            let mut outbox = locked(&self.outbox);
            outbox.connected = false;
            outbox.queue.clear();
            outbox.queued_bytes = 0;
            outbox.queued_batches = 0;
            outbox.unanswered = 0;
        }
        for slot in self.all_lanes() {
            let mut settlement = Settlement::default();
            let mut lane = locked(&slot.lane);
            lane.handle_disconnect(now, &mut settlement);
            slot.producer.enter(settlement);
        }
    }

    /// The connection broke, or another could not be made, for this reason.
    pub(crate) fn handle_outage(&self, why: ClientError) {
        *locked(&self.outage) = Some(why);
    }

    /// What keeps the lane's batches from being acknowledged at this moment.
    pub(crate) fn obstacle(&self, slot: &LaneSlot) -> Option<ClientError> {
        let outage = locked(&self.outage).clone();
        outage.or_else(|| locked(&slot.lane).obstacle())
    }

    /// There has been no connection for too long.
    pub(crate) fn give_up(&self, cause: &ClientError, now: Instant) {
        *locked(&self.given_up) = Some(cause.clone());
        self.has_given_up.store(true, Ordering::SeqCst);
        for slot in self.all_lanes() {
            let mut settlement = Settlement::default();
            let mut lane = locked(&slot.lane);
            lane.give_up(cause, now, &mut settlement);
            slot.producer.enter(settlement);
            drop(lane);
            slot.producer.ring();
        }
        self.attention.store(true, Ordering::Relaxed);
        self.writer.ring();
    }

    /// A frame came in.
    pub(crate) fn handle_frame(&self, frame: Frame, now: Instant) -> Result<(), ClientError> {
        match frame.message {
            Message::PublishAcks(acks) => {
                self.handle_acks(acks, now);
                Ok(())
            }
            Message::Error(error) => {
                let Some(slot) = self.lane_of(frame.correlation) else {
                    return Ok(());
                };
                {
                    let mut outbox = locked(&self.outbox);
                    outbox.unanswered = outbox.unanswered.saturating_sub(1);
                }
                let mut settlement = Settlement::default();
                let mut lane = locked(&slot.lane);
                lane.handle_error(frame.correlation, error, now, &mut settlement);
                self.after_answers(&mut lane, &slot, now);
                if lane.needs_attention() {
                    self.attention.store(true, Ordering::Relaxed);
                }
                slot.producer.enter(settlement);
                drop(lane);
                self.writer.ring();
                Ok(())
            }
            Message::ProducerReply(reply) => {
                let Some(slot) = self.lane_of(frame.correlation) else {
                    return Ok(());
                };
                let mut lane = locked(&slot.lane);
                lane.handle_identity(reply.producer, reply.epoch);
                self.after_answers(&mut lane, &slot, now);
                drop(lane);
                slot.producer.ring();
                self.writer.ring();
                Ok(())
            }
            _ => Err(ClientError::Protocol(
                "a reply came to a request that was never made",
            )),
        }
    }

    fn handle_acks(&self, mut acks: Vec<PublishAck>, now: Instant) {
        {
            let mut outbox = locked(&self.outbox);
            outbox.unanswered = outbox.unanswered.saturating_sub(acks.len());
        }
        // Stable: within a lane the order stays.
        acks.sort_by_key(|ack| ack.correlation.0 >> 32);
        let mut rings = false;
        for run in acks.chunk_by(|a, b| a.correlation.0 >> 32 == b.correlation.0 >> 32) {
            let Some(slot) = run.first().and_then(|ack| self.lane_of(ack.correlation)) else {
                continue;
            };
            let mut settlement = Settlement::default();
            let mut lane = locked(&slot.lane);
            for ack in run {
                lane.handle_ack(ack, now, &mut settlement);
            }
            rings |= self.after_answers(&mut lane, &slot, now);
            slot.producer.enter(settlement);
        }
        if rings {
            self.writer.ring();
        }
    }

    /// Answers make room: sends what may go now. Whether there was something.
    fn after_answers(&self, lane: &mut Lane, slot: &LaneSlot, now: Instant) -> bool {
        if lane.is_due(now) && lane.seal(now).is_some() {
            slot.producer.add_buffered(lane.take_sealed_bytes());
        }
        self.dispatch(lane, now);
        self.ask_identity(lane, slot, now);
        self.has_output()
    }

    fn ask_identity(&self, lane: &mut Lane, slot: &LaneSlot, now: Instant) {
        if lane.poll_identity_request(now) {
            let mut frame = BytesMut::new();
            encode(
                slot.id.identity_correlation(),
                &Message::ProducerInit,
                &mut frame,
            );
            let mut outbox = locked(&self.outbox);
            if outbox.connected {
                outbox.push(OutFrame::control(frame.freeze()));
            }
        }
    }

    fn lane_of(&self, correlation: crate::ids::CorrelationId) -> Option<Arc<LaneSlot>> {
        // None: an answer to a producer that has been closed.
        locked(&self.lanes).get(&LaneId::of(correlation)?).cloned()
    }

    fn all_lanes(&self) -> Vec<Arc<LaneSlot>> {
        locked(&self.lanes).values().cloned().collect()
    }
}

impl Outbox {
    fn push(&mut self, frame: OutFrame) {
        self.queued_bytes += frame.len();
        self.queue.push(frame);
    }

    fn take(&mut self) -> Load {
        self.writing = true;
        self.queued_bytes = 0;
        self.queued_batches = 0;
        let spare = std::mem::take(&mut self.spare);
        Load {
            generation: self.generation,
            frames: std::mem::replace(&mut self.queue, spare.frames),
            scratch: spare.scratch,
        }
    }
}

impl LaneSlot {
    pub(crate) fn new(id: LaneId, lane: Lane, producer: Arc<ProducerBooks>) -> Self {
        Self {
            id,
            lane: Mutex::new(lane),
            producer,
        }
    }

    pub(crate) fn is_settled(&self, ordinal: u64) -> bool {
        locked(&self.lane).is_settled(ordinal)
    }
}

impl ProducerBooks {
    pub(crate) fn new(buffer_bytes_max: usize, bell: Box<dyn Bell>) -> Self {
        Self {
            buffer_bytes_max,
            buffered_bytes: AtomicUsize::new(0),
            waiters: AtomicUsize::new(0),
            books: Mutex::new(Books::default()),
            closed: AtomicBool::new(false),
            bell,
        }
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        locked(&self.books)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes.load(Ordering::SeqCst)
    }

    fn is_full(&self) -> bool {
        self.buffered_bytes() >= self.buffer_bytes_max
    }

    fn add_buffered(&self, bytes: usize) {
        self.buffered_bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    /// IMPORTANT: under the lane's lock, so that whoever finds a batch settled finds its failure in the books.
    fn enter(&self, mut settlement: Settlement) {
        if settlement.is_empty() {
            return;
        }
        self.buffered_bytes
            .fetch_sub(settlement.freed_bytes, Ordering::SeqCst);
        if settlement.needs_entry() {
            self.books().enter(&mut settlement);
        }
        self.ring();
    }

    /// To be called before looking at what one waits for; undone by dropping it.
    pub(crate) fn announce_waiter(&self) -> Waiter<'_> {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        Waiter(self)
    }

    fn ring(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.bell.ring();
        }
    }
}

/// Somebody who must be woken when the producer's state changes.
pub(crate) struct Waiter<'a>(&'a ProducerBooks);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives every lane of a program an id of its own.
pub(crate) fn next_lane_id() -> LaneId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        match NEXT.fetch_add(1, Ordering::Relaxed) {
            // The last id is left out because its correlations reach up to the heartbeat's.
            0 | u32::MAX => {}
            id => return LaneId(id),
        }
    }
}

/// A lock whose holder panicked is taken all the same: every critical section leaves its data whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A sending thread writes once this much waits.
const WRITE_BYTES: usize = 64 * 1024;
/// The vector kept for reuse has room for at most so many frames.
const SPARE_FRAMES_MAX: usize = 4096;
/// The scratch kept for reuse has at most so many bytes.
const SPARE_BYTES_MAX: usize = 1024 * 1024;
/// How often timeouts are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often while a lane waits for a pause to end or for an identity.
const ATTENTION_EVERY: Duration = Duration::from_millis(10);
