//! One producer's way to one partition: what is being filled, what waits, what is under way. No I/O, no locks; the time
//! is an argument.
//!
//! Order of calls: [`push`](Lane::push) records; [`seal`](Lane::seal) when [`is_due`](Lane::is_due); after each of
//! these and after everything that came in, [`dispatch`](Lane::dispatch) what may go. Answers go to
//! [`handle_ack`](Lane::handle_ack) and [`handle_error`](Lane::handle_error), the connection's fate to
//! [`handle_connect`](Lane::handle_connect) and [`handle_disconnect`](Lane::handle_disconnect).
//!
//! What keeps the order: batches are numbered when sealed, leave in that order, at most `inflight_max` at once, and
//! after a lost connection everything unanswered goes back to the front of the queue. When a batch is refused for good,
//! an idempotent lane fails everything that was accepted behind it, waits for the answers to what is under way, and
//! asks for a new producer id before it takes more: nothing is ever stored behind a hole.
//!
//! A broker forgets producers that were silent for long. Batches it refuses for that, and which cannot have been stored
//! by an earlier attempt, are nobody's loss: they get a new producer id and go again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::error::ClientError;
pub(crate) use super::identity::Identity;
pub(crate) use super::lane_config::{LaneConfig, LaneId};
use super::report::{Delivered, DeliveryReport, Settlement};
use crate::batch::{BatchBuilder, BatchError, change_producer};
use crate::error::{ErrorBody, ErrorCode, Fault, Retry};
use crate::frame::{PublishAck, encode_publish_head};
use crate::ids::{CorrelationId, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::limits::DATA_HEAD_BYTES;

/// A record to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) timestamp: Timestamp,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Wants a report, which names this token.
    pub(crate) token: Option<u64>,
}

/// A frame head and the batch that follows it.
pub(crate) type PublishFrame = ([u8; DATA_HEAD_BYTES], Bytes);

#[derive(Debug)]
struct Batch {
    bytes: Bytes,
    ordinal: u64,
    records: u32,
    first_token: Option<u64>,
    /// When its first record was sent.
    since: Instant,
    /// An earlier attempt may have stored it.
    in_doubt: bool,
}

/// The batch being filled.
#[derive(Debug)]
struct Filling {
    since: Instant,
    first_token: Option<u64>,
}

#[derive(Debug)]
enum Mode {
    Flowing,
    /// A batch was refused for now: once all answers are in, what was refused goes again.
    Holding,
    /// The broker has forgotten the producer: once all answers are in, what was refused gets a new identity and goes again.
    Renewing,
    /// A batch was refused for good: once all answers are in, a new identity is due.
    Failing,
}

#[derive(Debug)]
pub(crate) struct Lane {
    config: LaneConfig,
    builder: Option<BatchBuilder>,
    filling: Option<Filling>,
    identity: Identity,
    identity_asked: bool,
    mode: Mode,
    connected: bool,
    ready: VecDeque<Batch>,
    in_flight: VecDeque<Batch>,
    /// Refused for now; in order.
    refused: VecDeque<Batch>,
    hold_until: Option<Instant>,
    /// The last refusal for now, until something is acknowledged again.
    refusal: Option<ErrorBody>,
    next_ordinal: u64,
    sealed_at: Option<Instant>,
    sealed_bytes: usize,
}

impl Lane {
    pub(crate) fn new(config: LaneConfig, identity: Identity) -> Self {
        Self {
            config,
            builder: None,
            filling: None,
            identity,
            identity_asked: false,
            mode: Mode::Flowing,
            connected: false,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            refused: VecDeque::new(),
            hold_until: None,
            refusal: None,
            next_ordinal: 1,
            sealed_at: None,
            sealed_bytes: 0,
        }
    }

    /// Whether [`push`](Self::push) may be called now; otherwise a failure is being dealt with.
    pub(crate) fn takes_records(&self) -> bool {
        !matches!(self.mode, Mode::Failing) && !matches!(self.identity, Identity::Missing)
    }

    /// Whether no batch is being filled, so that the next record begins one.
    pub(crate) const fn is_between_batches(&self) -> bool {
        self.filling.is_none()
    }

    /// Whether the next record begins a batch: none is being filled, or the one that is has no room for it. `false` for a record that fits no batch:
    /// [`push`](Self::push) says so.
    pub(crate) fn begins_batch(&self, record: &Record<'_>) -> bool {
        self.is_between_batches() || (self.overflows(record) && self.check_alone(record).is_ok())
    }

    /// Whether the batch being filled has no room for the record.
    fn overflows(&self, record: &Record<'_>) -> bool {
        let mut bytes = RECORD_OVERHEAD_BYTES
            + record.key.map_or(0, <[u8]>::len)
            + record.value.map_or(0, <[u8]>::len);
        for (name, value) in record.headers {
            bytes += HEADER_OVERHEAD_BYTES + name.len() + value.map_or(0, <[u8]>::len);
        }
        self.filling.is_some() && self.encoded_bytes() + bytes > self.config.batch_bytes
    }

    /// Adds a record; seals the batch before it if they do not fit together.
    ///
    /// # Errors
    /// The record fits no batch; the lane is as before.
    pub(crate) fn push(&mut self, record: &Record<'_>, now: Instant) -> Result<(), BatchError> {
        if self.overflows(record) {
            // First, so that a record that fits no batch seals none: what is sealed is counted only when its record is in.
            self.check_alone(record)?;
            self.seal(now);
        }
        match self.push_to_builder(record) {
            Err(BatchError::Full) if self.filling.is_some() => {
                self.seal(now);
                self.push_to_builder(record)?;
            }
            other => other?,
        }
        let filling = self.filling.get_or_insert(Filling {
            since: now,
            first_token: None,
        });
        filling.first_token = filling.first_token.or(record.token);
        Ok(())
    }

    fn push_to_builder(&mut self, record: &Record<'_>) -> Result<(), BatchError> {
        let limits = self.config.limits;
        let builder = self
            .builder
            .get_or_insert_with(|| BatchBuilder::new(limits));
        builder.push(record.timestamp, record.key, record.value, record.headers)
    }

    fn check_alone(&self, record: &Record<'_>) -> Result<(), BatchError> {
        self.builder.as_ref().map_or(Ok(()), |builder| {
            builder.check_alone(record.timestamp, record.key, record.value, record.headers)
        })
    }

    fn encoded_bytes(&self) -> usize {
        match (&self.filling, &self.builder) {
            (Some(_), Some(builder)) => builder.encoded_bytes(),
            _ => 0,
        }
    }

    /// When the batch being filled is due; `None` when there is none.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let filling = self.filling.as_ref()?;
        Some(filling.since + self.config.linger.max(GATHER_MAX))
    }

    /// Whether the batch being filled should go now: full, lingered long enough, or nothing speaks for waiting.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let (Some(filling), Some(builder)) = (&self.filling, &self.builder) else {
            return false;
        };
        if builder.record_count() >= self.config.limits.batch_records_max
            || builder.encoded_bytes() >= self.config.batch_bytes
        {
            return true;
        }
        if !self.config.linger.is_zero() {
            return now >= filling.since + self.config.linger;
        }
        let idle = self.ready.is_empty() && self.in_flight.is_empty();
        // Not in a tight loop: gathering would only add to the latency.
        idle || self
            .sealed_at
            .is_none_or(|sealed_at| now >= sealed_at + GATHER_MAX)
    }

    /// Ends the batch being filled, if there is one, and queues it. Returns its ordinal.
    pub(crate) fn seal(&mut self, now: Instant) -> Option<u64> {
        let filling = self.filling.take()?;
        let builder = self.builder.as_mut()?;
        let records = builder.record_count();
        let stamp = self.identity.stamp(records);
        let bytes = builder.build(self.config.compression, stamp);
        if !self.config.keeps_builder {
            self.builder = None;
        }
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        if self.next_ordinal & u64::from(u32::MAX) == 0 {
            // That correlation asks for an identity.
            self.next_ordinal += 1;
        }
        self.sealed_at = Some(now);
        self.sealed_bytes += bytes.len();
        let (first_token, since) = (filling.first_token, filling.since);
        self.ready.push_back(Batch {
            bytes,
            ordinal,
            records,
            first_token,
            since,
            in_doubt: false,
        });
        Some(ordinal)
    }

    /// Bytes of the batches sealed since the last call, for the producer's account.
    pub(crate) fn take_sealed_bytes(&mut self) -> usize {
        std::mem::take(&mut self.sealed_bytes)
    }

    /// Hands over what may be sent now, in order.
    pub(crate) fn dispatch(&mut self, now: Instant, mut send: impl FnMut(PublishFrame)) {
        if !self.connected || !matches!(self.mode, Mode::Flowing) || self.identity.is_due() {
            return;
        }
        if self.hold_until.is_some_and(|hold_until| now < hold_until) {
            return;
        }
        self.hold_until = None;
        while self.in_flight.len() < self.config.inflight_max {
            let Some(batch) = self.ready.pop_front() else {
                return;
            };
            let head = encode_publish_head(
                self.config.lane.correlation(batch.ordinal),
                self.config.topic,
                self.config.partition,
                self.config.durability,
                batch.bytes.len(),
            );
            send((head, batch.bytes.clone()));
            self.in_flight.push_back(batch);
        }
    }

    pub(crate) fn handle_ack(&mut self, ack: &PublishAck, now: Instant, into: &mut Settlement) {
        let Some(batch) = self.take_in_flight(ack.correlation) else {
            return;
        };
        let delivered = Delivered {
            base_offset: ack.base_offset,
            append_time: ack.append_time,
            durability: ack.durability,
            duplicate: ack.duplicate,
        };
        self.refusal = None;
        self.settle(batch, Ok(delivered), now, into);
        self.answered(now);
    }

    pub(crate) fn handle_error(
        &mut self,
        correlation: CorrelationId,
        error: ErrorBody,
        now: Instant,
        into: &mut Settlement,
    ) {
        if correlation == self.config.lane.identity_correlation() {
            self.identity_asked = false;
            self.hold_until = Some(now + self.config.retry_pause);
            self.refusal = Some(error);
            return;
        }
        let Some(batch) = self.take_in_flight(correlation) else {
            return;
        };
        let idempotent = !matches!(self.identity, Identity::Anonymous);
        let forgotten = idempotent && error.code == ErrorCode::ProducerUnknown && !batch.in_doubt;
        let again = match error.retry {
            Retry::Later => true,
            Retry::Refresh => forgotten || error.fault == Fault::Environment,
            // The hole is the batch that was refused for now, and will be filled before this one goes again.
            Retry::No => {
                error.code == ErrorCode::SequenceGap
                    && idempotent
                    && matches!(self.mode, Mode::Holding | Mode::Renewing)
            }
        };
        if again && !matches!(self.mode, Mode::Failing) {
            if forgotten {
                self.mode = Mode::Renewing;
            } else if matches!(self.mode, Mode::Flowing) {
                self.mode = Mode::Holding;
            }
            let at = self
                .refused
                .partition_point(|other| other.ordinal < batch.ordinal);
            // Such an error does not say whether the batch was stored.
            let in_doubt = batch.in_doubt || error.retry == Retry::Refresh && !forgotten;
            self.refused.insert(at, Batch { in_doubt, ..batch });
            // A gap is what the refusal of the batch before it left.
            if error.code != ErrorCode::SequenceGap {
                self.refusal = Some(error);
            }
        } else {
            self.refusal = None;
            let cause = ClientError::Server(error);
            self.settle(batch, Err(cause.clone()), now, into);
            if idempotent {
                self.fail_behind(&cause, now, into);
            }
        }
        self.answered(now);
    }

    /// A new connection stands.
    pub(crate) fn handle_connect(&mut self) {
        self.connected = true;
        self.identity_asked = false;
    }

    /// The connection is gone: what was under way goes again, in order, with the sequences it had.
    pub(crate) fn handle_disconnect(&mut self, now: Instant, into: &mut Settlement) {
        self.connected = false;
        self.identity_asked = false;
        if matches!(self.mode, Mode::Failing) {
            let lost = ClientError::ConnectionLost("behind a failed batch".to_owned());
            while let Some(batch) = self.in_flight.pop_front() {
                self.settle(batch, Err(lost.clone()), now, into);
            }
            self.answered(now);
            return;
        }
        // Nothing is stored behind a batch whose producer the broker had forgotten.
        let forgotten_from = match (&self.mode, self.refused.front()) {
            (Mode::Renewing, Some(batch)) => batch.ordinal,
            _ => u64::MAX,
        };
        self.mode = Mode::Flowing;
        let doubtful = self.in_flight.drain(..).map(|batch| Batch {
            in_doubt: batch.in_doubt || batch.ordinal < forgotten_from,
            ..batch
        });
        let mut unanswered: Vec<Batch> = doubtful.chain(self.refused.drain(..)).collect();
        unanswered.sort_unstable_by_key(|batch| batch.ordinal);
        for batch in unanswered.into_iter().rev() {
            self.ready.push_front(batch);
        }
    }

    /// Fails everything the lane holds; an idempotent lane takes a new identity before it takes more.
    pub(crate) fn give_up(&mut self, cause: &ClientError, now: Instant, into: &mut Settlement) {
        let mut held: Vec<Batch> = self
            .in_flight
            .drain(..)
            .chain(self.refused.drain(..))
            .collect();
        if held.is_empty() && self.ready.is_empty() && self.filling.is_none() {
            return;
        }
        held.sort_unstable_by_key(|batch| batch.ordinal);
        for batch in held {
            self.settle(batch, Err(cause.clone()), now, into);
        }
        self.fail_waiting(cause, now, into);
        self.mode = Mode::Flowing;
        self.hold_until = None;
        self.refusal = None;
        if !matches!(self.identity, Identity::Anonymous) {
            self.identity = Identity::Missing;
            self.identity_asked = false;
        }
    }

    /// What keeps the lane's batches from being acknowledged, as far as the server said.
    pub(crate) fn obstacle(&self) -> Option<ClientError> {
        self.refusal.clone().map(ClientError::Server)
    }

    /// Fails what has waited longer than `delivery_timeout`, and, so that no hole is left, everything behind it. `outage`: why there is no
    /// connection, when there is none.
    pub(crate) fn handle_timeout(
        &mut self,
        outage: Option<&ClientError>,
        now: Instant,
        into: &mut Settlement,
    ) {
        let oldest = [
            self.in_flight.front(),
            self.refused.front(),
            self.ready.front(),
        ]
        .into_iter()
        .flatten()
        .map(|batch| batch.since)
        .chain(self.filling.as_ref().map(|filling| filling.since))
        .min();
        if oldest.is_some_and(|oldest| now >= oldest + self.config.delivery_timeout) {
            let obstacle = outage.cloned().or_else(|| self.obstacle());
            let cause = ClientError::timed_out("a batch was not acknowledged", obstacle);
            self.give_up(&cause, now, into);
        }
    }

    /// Whether the lane's next step is to ask for a producer id; asks once.
    pub(crate) fn poll_identity_request(&mut self, now: Instant) -> bool {
        let due = self.identity.is_due()
            && self.connected
            && !self.identity_asked
            && self.in_flight.is_empty()
            && self.hold_until.is_none_or(|hold_until| now >= hold_until);
        self.identity_asked |= due;
        due
    }

    pub(crate) fn handle_identity(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        if !self.identity.is_due() {
            return;
        }
        self.identity = Identity::Producer {
            id,
            epoch,
            next: Sequence(0),
        };
        self.identity_asked = false;
        self.hold_until = None;
        for batch in &mut self.ready {
            if let Some(stamp) = self.identity.stamp(batch.records) {
                // A frame that was never written may still hold the bytes, so this may copy them: it happens once a day.
                let mut bytes = BytesMut::from(std::mem::take(&mut batch.bytes));
                change_producer(&mut bytes, stamp);
                batch.bytes = bytes.freeze();
            }
        }
    }

    /// Whether something is to be done at the next look: a pause ends, or an identity is missing.
    pub(crate) fn needs_attention(&self) -> bool {
        self.hold_until.is_some() || self.identity.is_due()
    }

    /// Whether everything up to the batch `ordinal` has been answered or failed.
    pub(crate) fn is_settled(&self, ordinal: u64) -> bool {
        [&self.in_flight, &self.refused, &self.ready]
            .iter()
            .all(|queue| queue.front().is_none_or(|batch| batch.ordinal > ordinal))
    }

    /// The ordinal of the batch sealed last.
    pub(crate) const fn last_ordinal(&self) -> u64 {
        self.next_ordinal - 1
    }

    fn take_in_flight(&mut self, correlation: CorrelationId) -> Option<Batch> {
        let lane = self.config.lane;
        // Answers come in order but for errors, so the first one looked at is nearly always the one.
        let at = self
            .in_flight
            .iter()
            .position(|batch| lane.correlation(batch.ordinal) == correlation)?;
        self.in_flight.remove(at)
    }

    /// After each answer: when all are in, goes on as the mode says.
    fn answered(&mut self, now: Instant) {
        if !self.in_flight.is_empty() {
            return;
        }
        match self.mode {
            Mode::Flowing => {}
            Mode::Holding => {
                for batch in self.refused.drain(..).rev() {
                    self.ready.push_front(batch);
                }
                self.hold_until = Some(now + self.config.retry_pause);
                self.mode = Mode::Flowing;
            }
            Mode::Renewing => {
                for batch in self.refused.drain(..).rev() {
                    self.ready.push_front(batch);
                }
                self.identity.expire();
                self.identity_asked = false;
                self.mode = Mode::Flowing;
            }
            Mode::Failing => {
                self.identity = Identity::Missing;
                self.identity_asked = false;
                self.mode = Mode::Flowing;
            }
        }
    }

    fn fail_behind(&mut self, cause: &ClientError, now: Instant, into: &mut Settlement) {
        self.mode = Mode::Failing;
        let behind = cause.behind();
        while let Some(batch) = self.refused.pop_front() {
            self.settle(batch, Err(behind.clone()), now, into);
        }
        self.fail_waiting(&behind, now, into);
    }

    fn fail_waiting(&mut self, cause: &ClientError, now: Instant, into: &mut Settlement) {
        while let Some(batch) = self.ready.pop_front() {
            self.settle(batch, Err(cause.clone()), now, into);
        }
        let Some(filling) = self.filling.take() else {
            return;
        };
        let records = self
            .builder
            .take()
            .map_or(0, |builder| builder.record_count());
        // It was not sealed, so its bytes were not counted.
        into.record(DeliveryReport {
            partition: self.config.partition,
            records,
            first_token: filling.first_token,
            sent_at: filling.since,
            settled_at: now,
            result: Err(cause.clone()),
        });
    }

    fn settle(
        &self,
        batch: Batch,
        result: Result<Delivered, ClientError>,
        now: Instant,
        into: &mut Settlement,
    ) {
        into.freed_bytes += batch.bytes.len();
        into.record(DeliveryReport {
            partition: self.config.partition,
            records: batch.records,
            first_token: batch.first_token,
            sent_at: batch.since,
            settled_at: now,
            result,
        });
    }
}

/// Without linger, records gather at most this long while batches are under way; sends further apart than this do not
/// gather at all. Long against the system call it saves (a few microseconds), short against a disk's write.
pub(crate) const GATHER_MAX: Duration = Duration::from_micros(50);

/// What a record costs in its batch beyond its bytes, at most: a timestamp, the ends of key and value, the header count.
const RECORD_OVERHEAD_BYTES: usize = 20;
/// What a header costs beyond its bytes: two ends.
const HEADER_OVERHEAD_BYTES: usize = 8;
