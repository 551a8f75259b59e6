//! The log of one shard: arrivals are gathered, committed together, acknowledged in order and given to readers.
//!
//! One task ([`ShardLog::run_commits`]) owns the journal's end. A batch gets its offsets when it arrives and waits in its slot; the task takes
//! from the slots in turn, fills one buffer, writes it, and releases what came back as far as no earlier write is missing. Only
//! then are batches acknowledged and visible.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use gannet_wire::batch::CheckedHeader;
use gannet_wire::frame::Durability;
use gannet_wire::{ErrorBody, ErrorCode, ShardIndex};

use super::direct::DirectFuture;
use super::files::FileShares;
use super::flush::SharedSegment;
use super::slot::{
    Arrival, BatchArrival, CommitArrival, Completion, Outcome, Slot, WaitingDuplicate,
};
use super::topics::{DroppedTopic, topic_deleted};
use crate::cursor::CommittedOffset;
use crate::io::local::Signal;
use crate::io::{Clock, Disk, DiskBuffer, DiskFile};
use crate::limits::COMMIT_BYTES_MAX;
use crate::partition::{AppendRefusal, Appended, ProducerLimits, TailBatch};
use crate::storage::append_clock::{AppendClock, WallClock};
use crate::storage::commit::{
    BatchStamp, CommitIdentity, CommitWriter, EntryKind, commit_bytes, lone_entry_bytes_max,
};
use crate::storage::journal::Journal;
use crate::storage::journal_file::FIRST_COMMIT_POSITION;
use crate::storage::layout::DataDir;
use crate::storage::open_segment::{OpenSegment, SegmentDirs};
use crate::storage::reader::SegmentReader;
use crate::storage::record_log::RecordLog;
use crate::storage::recovery::Cut;
use crate::storage::segment::{DirectRun, SegmentIds, SegmentRef};
use crate::storage::slice::Slice;
use crate::storage::{Lsn, PartitionKey, StorageError};

/// What a shard's log is tuned by. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A journal file.
    pub journal_file_bytes: u64,
    /// A commit, at most.
    pub commit_bytes_max: usize,
    /// Journal writes in flight, at most.
    pub commits_in_flight_max: usize,
    /// While a write is in flight, the next one waits until so much has gathered.
    pub commit_gather_bytes: usize,
    /// While commits follow each other, so much lies between the beginnings of two small ones.
    pub commit_interval: Duration,
    /// How long an acknowledged commit may stand without a mark above it.
    pub mark_interval: Duration,
    /// What is in memory and not in segments, at most; beyond it publishers wait.
    pub unflushed_bytes_max: u64,
    /// A flush starts when so much is not in segments.
    pub flush_bytes: u64,
    /// ... or when something has not been there for so long.
    pub flush_interval: Duration,
    /// A flush covers at most about so much.
    pub flush_round_bytes_max: u64,
    /// A partition with so much to flush gets a segment of its own.
    pub own_segment_bytes_min: u64,
    /// A partition with so much waiting goes straight to a segment.
    pub direct_bytes_min: usize,
    /// ... in pieces of at most so much.
    pub direct_chunk_bytes_max: usize,
    /// ... with so many pieces on their way.
    pub directs_in_flight_max: usize,
    /// A segment is sealed at this size.
    pub segment_bytes_max: u64,
    /// A checkpoint's log begins anew once more than this, and more than twice its snapshot, was appended.
    pub checkpoint_bytes_min: u64,
    /// One write of the flusher.
    pub flush_write_bytes: usize,
    /// Writes of the flusher in flight.
    pub flush_writes_in_flight_max: usize,
    /// Flushed batches kept in memory for readers.
    pub tail_cache_bytes: u64,
    /// A read from a segment.
    pub read_chunk_bytes: usize,
    /// Chunks of segments kept in memory.
    pub read_cache_bytes: usize,
    /// Open segments, for reading and for writing together.
    pub open_files_max: usize,
    /// Publishes are refused while the disk has less room than this.
    pub disk_reserve_bytes: u64,
    /// The operator says that the wall clock is right, however far the append clock is behind it.
    pub trust_wall_clock: bool,
    /// Bounds of the producers' table.
    pub producers: ProducerLimits,
}

/// A batch whose bytes were checked, with the proof.
#[derive(Debug)]
pub struct CheckedBatch {
    /// The batch as it was sent.
    pub bytes: Bytes,
    /// What its check found.
    pub header: CheckedHeader,
}

/// See the module's text.
pub struct ShardLog<D: Disk, C: Clock> {
    pub(super) disk: D,
    pub(super) clock: C,
    pub(super) data: DataDir,
    pub(super) config: LogConfig,
    pub(super) shard: ShardIndex,
    pub(super) journal: Journal<D>,
    pub(super) checkpoint: RefCell<Option<RecordLog<D>>>,
    pub(super) cuts: RefCell<Vec<Cut>>,
    pub(super) slots: RefCell<HashMap<PartitionKey, Rc<Slot>>>,
    pub(super) append_clock: RefCell<AppendClock>,
    pub(super) segment_ids: RefCell<SegmentIds>,
    /// How many runs each segment holds for this shard.
    pub(super) segment_runs: RefCell<HashMap<SegmentRef, u32>>,
    /// The present layout's number.
    pub(super) layout: u64,
    /// Shards that write to the same disk.
    pub(super) shards: u16,
    /// The first incarnation of the present layout: shared segments from before may hold other shards' runs.
    pub(super) layout_incarnation: u32,
    pub(super) direct_segments: RefCell<BTreeMap<PartitionKey, OpenSegment<D>>>,
    pub(super) flush_segments: RefCell<BTreeMap<PartitionKey, OpenSegment<D>>>,
    /// The segment that small backlogs go to, over several rounds.
    pub(super) shared_segment: RefCell<Option<SharedSegment<D>>>,
    pub(super) segment_dirs: SegmentDirs,
    pub(super) files: FileShares,
    pub(super) reader: SegmentReader<D>,

    ready: RefCell<VecDeque<Rc<Slot>>>,
    /// Slots with enough for a chunk.
    pub(super) large: RefCell<VecDeque<Rc<Slot>>>,
    gathered_bytes: Cell<usize>,
    next_lsn: Cell<Lsn>,
    released_lsn: Cell<Lsn>,
    /// The newest released commit that holds anything.
    released_data_lsn: Cell<Lsn>,
    /// The highest `durable_lsn` that a submitted commit states.
    stated_lsn: Cell<Lsn>,
    mark_wanted: Cell<bool>,
    /// When the newest commit was submitted.
    submitted_at: Cell<Duration>,
    /// Whether something was waiting already when the last write ended: more is likely to come.
    crowded: Cell<bool>,
    pub(super) flushed_lsn: Cell<Lsn>,
    /// Commits whose batches are in memory, oldest first: not flushed yet, then those kept for readers are in `cached`.
    pub(super) unflushed: RefCell<VecDeque<Recent>>,
    pub(super) cached: RefCell<VecDeque<Recent>>,
    pub(super) unflushed_bytes: Cell<u64>,
    pub(super) cached_bytes: Cell<u64>,
    pub(super) flush_wanted: Cell<bool>,
    pub(super) flush_rounds: Cell<u64>,
    pub(super) disk_full: Cell<bool>,
    /// What may still be published before the disk's room is looked at again.
    pub(super) publishable_bytes: Cell<u64>,
    /// The disk was full at a stop: what waits for room is not waited for.
    gave_up: Cell<bool>,
    pub(super) topics_dropped: RefCell<Vec<Rc<DroppedTopic>>>,
    pub(super) expiries:
        RefCell<std::collections::BinaryHeap<std::cmp::Reverse<(i64, PartitionKey)>>>,

    /// Something to commit.
    pub(super) work: Signal,
    /// Something to flush.
    pub(super) flush: Signal,
    /// The journal's current file fills up.
    pub(super) spare_wanted: Signal,
    /// Memory was freed.
    pub(super) room: Signal,
    /// A released commit waits for a mark.
    unmarked: Signal,
    /// A flush ended.
    pub(super) flush_done: Signal,
    stopping: Cell<bool>,
    commits_ended: Cell<bool>,
    /// Why nothing can be made durable any more.
    pub(super) failure: RefCell<Option<ErrorBody>>,
    pub(super) failed: Signal,
}

/// A released commit whose batches are in memory.
pub(super) struct Recent {
    pub(super) lsn: Lsn,
    /// What it holds of memory.
    pub(super) bytes: u64,
    pub(super) slots: Vec<Rc<Slot>>,
    pub(super) released_at: Duration,
}

/// Parts of a log that recovery makes.
pub(super) struct LogParts<D: Disk> {
    pub(super) journal: Journal<D>,
    pub(super) checkpoint: RecordLog<D>,
    pub(super) cuts: Vec<Cut>,
    pub(super) slots: HashMap<PartitionKey, Rc<Slot>>,
    pub(super) append_clock: AppendClock,
    pub(super) segment_ids: SegmentIds,
    pub(super) segment_runs: HashMap<SegmentRef, u32>,
    pub(super) layout: u64,
    pub(super) shards: u16,
    pub(super) layout_incarnation: u32,
    pub(super) unflushed: VecDeque<Recent>,
    pub(super) end_lsn: Lsn,
    pub(super) flushed_lsn: Lsn,
}

struct Submitted {
    lsn: Lsn,
    done: bool,
    buffer: DiskBuffer,
    items: Vec<Item>,
}

struct Item {
    slot: Rc<Slot>,
    arrival: Arrival,
    range: std::ops::Range<usize>,
}

type Write = LocalBoxFuture<'static, (Lsn, std::io::Result<()>)>;

impl<D: Disk, C: Clock> ShardLog<D, C> {
    pub(super) fn assemble(
        disk: D,
        clock: C,
        data: DataDir,
        config: LogConfig,
        shard: ShardIndex,
        parts: LogParts<D>,
    ) -> Rc<Self> {
        assert!(
            config.commit_bytes_max <= COMMIT_BYTES_MAX
                && FIRST_COMMIT_POSITION + config.commit_bytes_max as u64
                    <= config.journal_file_bytes,
            "a commit fits into a journal file, and a recovery reads it whole"
        );
        // A batch that no commit has room for goes straight to a segment, however large a backlog has to be for that.
        let direct_bytes_min = config
            .direct_bytes_min
            .min(lone_entry_bytes_max(config.commit_bytes_max) + 1);
        let config = LogConfig {
            direct_bytes_min,
            ..config
        };
        let files = FileShares::of(config.open_files_max);
        let reader = SegmentReader::new(
            disk.clone(),
            data.clone(),
            config.read_chunk_bytes,
            config.read_cache_bytes,
            files.reading,
        );
        let unflushed_bytes = parts.unflushed.iter().map(|recent| recent.bytes).sum();
        Rc::new(Self {
            disk,
            clock,
            data,
            config,
            shard,
            journal: parts.journal,
            checkpoint: RefCell::new(Some(parts.checkpoint)),
            cuts: RefCell::new(parts.cuts),
            slots: RefCell::new(parts.slots),
            append_clock: RefCell::new(parts.append_clock),
            segment_ids: RefCell::new(parts.segment_ids),
            segment_runs: RefCell::new(parts.segment_runs),
            layout: parts.layout,
            shards: parts.shards,
            layout_incarnation: parts.layout_incarnation,
            direct_segments: RefCell::default(),
            flush_segments: RefCell::default(),
            shared_segment: RefCell::new(None),
            segment_dirs: SegmentDirs::default(),
            files,
            reader,
            ready: RefCell::default(),
            large: RefCell::default(),
            gathered_bytes: Cell::new(0),
            next_lsn: Cell::new(parts.end_lsn.next()),
            released_lsn: Cell::new(parts.end_lsn),
            released_data_lsn: Cell::new(parts.end_lsn),
            stated_lsn: Cell::new(parts.end_lsn),
            mark_wanted: Cell::new(false),
            submitted_at: Cell::new(Duration::ZERO),
            crowded: Cell::new(false),
            flushed_lsn: Cell::new(parts.flushed_lsn),
            unflushed: RefCell::new(parts.unflushed),
            cached: RefCell::default(),
            unflushed_bytes: Cell::new(unflushed_bytes),
            cached_bytes: Cell::new(0),
            flush_wanted: Cell::new(false),
            flush_rounds: Cell::new(0),
            disk_full: Cell::new(false),
            publishable_bytes: Cell::new(u64::MAX),
            gave_up: Cell::new(false),
            topics_dropped: RefCell::default(),
            expiries: RefCell::default(),
            work: Signal::new(),
            flush: Signal::new(),
            spare_wanted: Signal::new(),
            room: Signal::new(),
            unmarked: Signal::new(),
            flush_done: Signal::new(),
            stopping: Cell::new(false),
            commits_ended: Cell::new(false),
            failure: RefCell::new(None),
            failed: Signal::new(),
        })
    }

    /// The slot of a partition that this shard owns.
    #[must_use]
    pub fn slot(&self, key: PartitionKey) -> Option<Rc<Slot>> {
        self.slots.borrow().get(&key).cloned()
    }

    /// Whether a publisher may go on now, or has to wait by [`ShardLog::admitted`].
    #[must_use]
    pub fn admits(&self) -> bool {
        self.unflushed_bytes.get() + (self.gathered_bytes.get() as u64)
            < self.config.unflushed_bytes_max
    }

    /// Waits until memory allows another batch. A publisher waits here, and thereby its connection.
    pub async fn admitted(&self) {
        loop {
            let seen = self.room.version();
            if self.admits() || self.stopping.get() || self.failure.borrow().is_some() {
                return;
            }
            self.want_flush();
            self.room.changed_since(seen).await;
        }
    }

    /// Appends a batch. `completion` hears of it exactly once: at once when it is refused or `accepted` is enough, else when it is durable.
    pub fn publish(
        &self,
        slot: &Rc<Slot>,
        batch: CheckedBatch,
        durability: Durability,
        completion: Completion,
    ) {
        if let Some(refusal) = self.refusal(slot) {
            completion.complete(Outcome::Failed(refusal));
            return;
        }
        if self.ready.borrow().is_empty() {
            // The first of its commit: what came with it is as late, and retention must not find it older than it is.
            self.observe_clock();
        }
        let header = batch.header.header();
        let now = self.append_clock.borrow().now();
        let appended = slot.state.borrow_mut().append(
            header.producer(),
            header.record_count(),
            now,
            &self.producer_limits(),
        );
        match appended {
            Err(refusal) => completion.complete(Outcome::Failed(append_error(&refusal))),
            Ok(Appended::Duplicate {
                base_offset,
                next_offset,
                append_time,
            }) => {
                let outcome = Outcome::Published {
                    base_offset,
                    append_time,
                    durability: Durability::Durable,
                    duplicate: true,
                };
                if slot.state.borrow().durable_offset() >= next_offset {
                    completion.complete(outcome);
                } else {
                    slot.pending.borrow_mut().duplicates.push(WaitingDuplicate {
                        next_offset,
                        outcome,
                        completion,
                    });
                }
            }
            Ok(Appended::New { base_offset }) => {
                let completion = match durability {
                    Durability::Durable => Some(completion),
                    Durability::Accepted => {
                        let outcome = Outcome::Published {
                            base_offset,
                            append_time: now,
                            durability,
                            duplicate: false,
                        };
                        completion.complete(outcome);
                        None
                    }
                };
                let arrival = BatchArrival {
                    base_offset,
                    record_count: header.record_count(),
                    append_time: now,
                    max_timestamp: header.max_timestamp(),
                    leader_epoch: slot.state.borrow().leader_epoch(),
                    producer: header.producer(),
                    bytes: batch.bytes,
                    completion,
                };
                self.enqueue_batch(slot, arrival);
            }
        }
    }

    /// Bounds of the producers' table now: silence counts as it really passed, whatever the clock has jumped over.
    fn producer_limits(&self) -> ProducerLimits {
        let clock = self.append_clock.borrow();
        let silent_before = clock.stamped_before(self.config.producers.expiry_ms);
        ProducerLimits {
            expiry_ms: clock.now().0.saturating_sub(silent_before.0),
            ..self.config.producers
        }
    }

    /// Commits a group's offset; `completion` hears when it is durable.
    pub fn commit_offset(&self, slot: &Rc<Slot>, offset: CommittedOffset, completion: Completion) {
        if let Some(refusal) = self.refusal(slot) {
            completion.complete(Outcome::Failed(refusal));
            return;
        }
        if !slot.state.borrow().committed.accepts(&offset.group) {
            let error = ErrorBody::new(
                ErrorCode::GroupInvalid,
                format!(
                    "{} has offsets of {} groups already, which is the limit",
                    slot.topic().name,
                    crate::cursor::GROUPS_MAX
                ),
            );
            completion.complete(Outcome::Failed(error));
            return;
        }
        let encoded = offset.encode();
        slot.pending.borrow_mut().commits.push_back(CommitArrival {
            offset,
            encoded,
            completion,
        });
        self.queue(slot);
    }

    /// Why nothing can be appended now, if so.
    fn refusal(&self, slot: &Slot) -> Option<ErrorBody> {
        if slot.is_deleted() {
            return Some(topic_deleted(slot));
        }
        if let Some(failure) = &*self.failure.borrow() {
            return Some(failure.clone());
        }
        if self.stopping.get() {
            return Some(ErrorBody::of_code(ErrorCode::ServerStopping));
        }
        if self.is_disk_full() {
            return Some(ErrorBody::new(
                ErrorCode::DiskFull,
                format!(
                    "the disk of {} is nearly full: free some space, or let retention do so; reading goes on",
                    self.data.root().display()
                ),
            ));
        }
        None
    }

    fn enqueue_batch(&self, slot: &Rc<Slot>, batch: BatchArrival) {
        let mut pending = slot.pending.borrow_mut();
        pending.batch_bytes += batch.bytes.len();
        self.gathered_bytes
            .set(self.gathered_bytes.get() + batch.bytes.len());
        self.publishable_bytes.set(
            self.publishable_bytes
                .get()
                .saturating_sub(batch.bytes.len() as u64),
        );
        pending.batches.push_back(batch);
        if pending.batch_bytes >= self.config.direct_bytes_min && !pending.large_queued {
            pending.large_queued = true;
            self.large.borrow_mut().push_back(slot.clone());
        }
        drop(pending);
        self.queue(slot);
    }

    /// Puts a slot in the queue for the next commit.
    pub(super) fn queue(&self, slot: &Rc<Slot>) {
        let mut pending = slot.pending.borrow_mut();
        if !pending.queued {
            pending.queued = true;
            self.ready.borrow_mut().push_back(slot.clone());
        }
        drop(pending);
        self.work.notify_all();
    }

    /// The time that the next batches are stamped with.
    pub fn observe_clock(&self) {
        let observed = self
            .append_clock
            .borrow_mut()
            .observe(self.clock.monotonic(), self.clock.wall_ms());
        report_wall_clock(observed);
    }

    /// Runs until [`ShardLog::stop`] and until everything gathered is durable. An error is final: nothing more is acknowledged. Ends as well when
    /// storage failed elsewhere ([`ShardLog::fail`]); what was on its way is then dropped, and with it who waits for it is told.
    pub async fn run_commits(self: &Rc<Self>) -> Result<(), StorageError> {
        // It is notified once, perhaps before this begins.
        let failed = self.failed.changed_since(0);
        match select(pin!(self.commit_all()), pin!(failed)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Ok(()),
        }
    }

    async fn commit_all(self: &Rc<Self>) -> Result<(), StorageError> {
        let mut writes: FuturesUnordered<Write> = FuturesUnordered::new();
        let mut directs: FuturesUnordered<DirectFuture<D>> = FuturesUnordered::new();
        let mut submitted: VecDeque<Submitted> = VecDeque::new();
        loop {
            let seen = self.work.version();
            if !self.gave_up.get() {
                self.start_directs(&mut directs);
            }
            let hold = self.hold();
            while hold.is_none() && !self.gave_up.get() && self.may_submit(writes.len()) {
                let Some(items) = self.gather(directs.len()) else {
                    break;
                };
                match self.submit(items, &mut submitted).await {
                    Ok(write) => writes.push(write),
                    Err(error) => self.give_up(error)?,
                }
            }
            let nothing_waits = self.ready.borrow().is_empty() && !self.mark_due();
            if self.stopping.get()
                && writes.is_empty()
                && directs.is_empty()
                && (nothing_waits || self.gave_up.get())
            {
                self.commits_ended.set(true);
                self.flush.notify_all();
                return Ok(());
            }
            let mut changed = pin!(self.work.changed_since(seen));
            // With a write in flight its end comes first anyway.
            let hold = hold.filter(|_| writes.is_empty());
            let mut held = pin!(async {
                match hold {
                    Some(hold) => self.clock.sleep(hold).await,
                    None => std::future::pending().await,
                }
            });
            let mut finished = Vec::new();
            let mut landed = Vec::new();
            poll_fn(|cx| {
                while let Poll::Ready(Some(done)) = Pin::new(&mut writes).poll_next(cx) {
                    finished.push(done);
                }
                while let Poll::Ready(Some(done)) = Pin::new(&mut directs).poll_next(cx) {
                    landed.push(done);
                }
                if finished.is_empty() && landed.is_empty() {
                    match held.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(()),
                        Poll::Pending => changed.as_mut().poll(cx),
                    }
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            for done in landed {
                match done {
                    Ok(done) => self.direct_landed(done),
                    Err(error) => self.give_up(error)?,
                }
            }
            if !finished.is_empty() {
                self.crowded.set(!self.ready.borrow().is_empty());
            }
            for (lsn, result) in finished {
                result.map_err(StorageError::io("write the journal in", self.data.root()))?;
                let index =
                    usize::try_from(lsn.0 - submitted.front().map_or(lsn.0, |first| first.lsn.0))
                        .unwrap_or(usize::MAX);
                submitted
                    .get_mut(index)
                    .expect("a write that finished was submitted")
                    .done = true;
            }
            self.release(&mut submitted);
        }
    }

    /// Writes marks: [`LogConfig::mark_interval`] after a commit was released, unless a later one states it as durable.
    pub async fn run_marks(&self) {
        loop {
            let seen = self.unmarked.version();
            if self.mark_due() {
                self.clock.sleep(self.config.mark_interval).await;
                if self.mark_due() {
                    self.mark_wanted.set(true);
                    self.work.notify_all();
                }
            }
            if self.commits_ended.get() {
                return;
            }
            self.unmarked.changed_since(seen).await;
        }
    }

    /// No more is accepted; [`ShardLog::run_commits`] ends when what is there is durable, [`ShardLog::run_flushes`] when it is in segments.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.work.notify_all();
        self.room.notify_all();
        self.spare_wanted.notify_all();
        self.unmarked.notify_all();
        self.flush.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether nothing more will be released.
    pub(super) fn commits_ended(&self) -> bool {
        self.commits_ended.get()
    }

    pub(super) fn released_lsn(&self) -> Lsn {
        self.released_lsn.get()
    }

    fn mark_due(&self) -> bool {
        self.released_data_lsn.get() > self.stated_lsn.get()
    }

    /// How long what waits is to gather others still: while publishes keep coming, a commit for each would cost more system calls and wake-ups, here and
    /// at the clients, than the records themselves.
    fn hold(&self) -> Option<Duration> {
        if !self.crowded.get()
            || self.stopping.get()
            || self.mark_wanted.get()
            || self.gathered_bytes.get() >= self.config.commit_gather_bytes
        {
            return None;
        }
        let since = self
            .clock
            .monotonic()
            .saturating_sub(self.submitted_at.get());
        let left = self.config.commit_interval.saturating_sub(since);
        (!left.is_zero()).then_some(left)
    }

    /// An idle device takes what there is at once; a busy one lets arrivals gather.
    fn may_submit(&self, in_flight: usize) -> bool {
        in_flight == 0
            || (in_flight < self.config.commits_in_flight_max
                && self.gathered_bytes.get() >= self.config.commit_gather_bytes)
    }

    /// Takes from the slots in turn what one commit holds; `None` when there is nothing to write.
    fn gather(self: &Rc<Self>, directs_in_flight: usize) -> Option<Vec<Item>> {
        let mut items: Vec<Item> = Vec::new();
        let mut payload = 0;
        let max = self.config.commit_bytes_max;
        let mut ready = self.ready.borrow_mut();
        let direct_room = directs_in_flight < self.config.directs_in_flight_max;
        while let Some(slot) = ready.pop_front() {
            let mut pending = slot.pending.borrow_mut();
            let mut full = false;
            let mut turn_ended = false;
            let turn_ends = payload + max / TURNS_PER_COMMIT;
            while let Some(bytes) = pending.front_bytes(self.config.direct_bytes_min, direct_room) {
                turn_ended = payload >= turn_ends;
                if turn_ended {
                    break;
                }
                full = !items.is_empty() && commit_bytes(items.len() + 1, payload + bytes) > max;
                if full {
                    break;
                }
                payload += bytes;
                let Some(arrival) = pending.pop_front() else {
                    break;
                };
                if let Arrival::Batch(batch) = &arrival {
                    self.gathered_bytes
                        .set(self.gathered_bytes.get() - batch.bytes.len());
                }
                items.push(Item {
                    slot: slot.clone(),
                    arrival,
                    range: 0..0,
                });
            }
            if full {
                // It was in the middle of its turn: it goes on first.
                drop(pending);
                ready.push_front(slot);
                break;
            }
            if turn_ended {
                drop(pending);
                ready.push_back(slot);
                continue;
            }
            // What waits for a chunk comes back when the chunk has landed.
            pending.queued = false;
        }
        // At a stop the mark does not wait for its interval.
        let mark = (self.mark_wanted.take() || (self.stopping.get() && ready.is_empty()))
            && self.mark_due();
        (!items.is_empty() || mark).then_some(items)
    }

    /// Fills a buffer with the items and starts the write.
    async fn submit(
        self: &Rc<Self>,
        mut items: Vec<Item>,
        submitted: &mut VecDeque<Submitted>,
    ) -> Result<Write, StorageError> {
        self.observe_clock();
        let directs: Vec<Option<Vec<u8>>> = items
            .iter()
            .map(|item| encode_direct(&item.arrival))
            .collect();
        let payload: usize = items
            .iter()
            .zip(&directs)
            .map(|(item, direct)| {
                direct
                    .as_ref()
                    .map_or_else(|| arrival_bytes(&item.arrival), Vec::len)
            })
            .sum();
        let bytes = commit_bytes(items.len(), payload);
        // IMPORTANT: what is larger a recovery takes for damage, and no journal file may have room for it.
        assert!(
            bytes <= self.config.commit_bytes_max,
            "a commit of {bytes} bytes is over the limit"
        );
        let lsn = self.next_lsn.get();
        let placement = loop {
            if let Some(placement) = self.journal.place(bytes) {
                break placement;
            }
            match self.journal.rotate(lsn).await {
                Ok(()) => {}
                Err(error) => self.wait_for_space(error).await?,
            }
        };
        let durable_lsn = self.released_lsn.get();
        let identity = CommitIdentity {
            generation: placement.generation,
            lsn,
            position: placement.position,
            durable_lsn,
            append_time: self.append_clock.borrow().now(),
            previous_checksum: placement.previous_checksum,
        };
        let mut buffer = self.disk.buffer(bytes);
        let mut writer = CommitWriter::new(&mut buffer, identity, items.len());
        for (item, direct) in items.iter_mut().zip(directs) {
            let key = item.slot.key();
            match (&item.arrival, direct) {
                (Arrival::Batch(batch), _) => {
                    let stamp = BatchStamp {
                        key,
                        base_offset: batch.base_offset,
                        record_count: batch.record_count,
                        append_time: batch.append_time,
                        leader_epoch: batch.leader_epoch,
                    };
                    item.range = writer.batch(&batch.bytes, &stamp);
                }
                (Arrival::Direct(chunk), Some(encoded)) => {
                    let records = chunk.run.next_offset.0 - chunk.run.base_offset.0;
                    let records =
                        u32::try_from(records).expect("a chunk's records are bounded by its bytes");
                    writer.entry(
                        EntryKind::DirectRun,
                        key,
                        chunk.run.base_offset,
                        records,
                        &encoded,
                    );
                }
                (Arrival::Committed(commit), _) => writer.entry(
                    EntryKind::CommittedOffset,
                    key,
                    Default::default(),
                    0,
                    &commit.encoded,
                ),
                (Arrival::Direct(_), None) => unreachable!("every chunk was encoded above"),
            }
            // The arrival's bytes are in the commit now; what the socket received can be reused.
            if let Arrival::Batch(batch) = &mut item.arrival {
                batch.bytes = Bytes::new();
            }
        }
        let checksum = writer.finish();
        let buffer = buffer.freeze();
        self.journal.advance(bytes, lsn, checksum);
        if self.journal.wants_spare() {
            self.spare_wanted.notify_all();
        }
        self.next_lsn.set(lsn.next());
        self.submitted_at.set(self.clock.monotonic());
        self.stated_lsn.set(durable_lsn);
        submitted.push_back(Submitted {
            lsn,
            done: false,
            buffer: buffer.clone(),
            items,
        });
        let (file, position) = (placement.file, placement.position);
        Ok(Box::pin(async move {
            (lsn, file.write_at(position, &buffer).await)
        }))
    }

    /// Acknowledges and shows the contiguous prefix of complete commits.
    fn release(&self, submitted: &mut VecDeque<Submitted>) {
        while submitted.front().is_some_and(|commit| commit.done) {
            let Some(commit) = submitted.pop_front() else {
                break;
            };
            self.released_lsn.set(commit.lsn);
            if commit.items.is_empty() {
                continue;
            }
            self.released_data_lsn.set(commit.lsn);
            let mut bytes = commit.buffer.len() as u64;
            let mut slots: Vec<Rc<Slot>> = Vec::new();
            for item in commit.items {
                if let Arrival::Direct(chunk) = &item.arrival {
                    bytes += chunk.allocated_bytes as u64;
                }
                self.release_item(
                    commit.lsn,
                    &commit.buffer,
                    item.arrival,
                    item.range,
                    &item.slot,
                );
                if slots
                    .last()
                    .is_none_or(|last| !Rc::ptr_eq(last, &item.slot))
                {
                    item.slot.changed.notify_all();
                    slots.push(item.slot);
                }
            }
            self.unflushed_bytes.set(self.unflushed_bytes.get() + bytes);
            self.unflushed.borrow_mut().push_back(Recent {
                lsn: commit.lsn,
                bytes,
                slots,
                released_at: self.clock.monotonic(),
            });
        }
        if self.mark_due() {
            self.unmarked.notify_all();
        }
        if self.unflushed_bytes.get() >= self.config.flush_bytes {
            self.want_flush();
        }
    }

    fn release_item(
        &self,
        lsn: Lsn,
        buffer: &DiskBuffer,
        arrival: Arrival,
        range: std::ops::Range<usize>,
        slot: &Rc<Slot>,
    ) {
        if slot.is_deleted() {
            for completion in arrival.into_completions() {
                completion.complete(Outcome::Failed(topic_deleted(slot)));
            }
            return;
        }
        let mut state = slot.state.borrow_mut();
        match arrival {
            Arrival::Batch(batch) => {
                let next_offset = batch.next_offset();
                state.batch_durable(TailBatch {
                    base_offset: batch.base_offset,
                    next_offset,
                    lsn,
                    bytes: Slice::new(buffer.clone(), range),
                    flushed: false,
                });
                drop(state);
                complete_published(batch.completion, batch.base_offset, batch.append_time);
            }
            Arrival::Direct(chunk) => {
                self.count_claimed_run(&mut state, chunk.run);
                slot.unrecorded.borrow_mut().push_back((lsn, chunk.run));
                for batch in &chunk.batches {
                    state.batch_durable(TailBatch {
                        base_offset: batch.base_offset,
                        next_offset: batch.next_offset,
                        lsn,
                        bytes: batch.bytes.clone(),
                        flushed: true,
                    });
                }
                drop(state);
                for batch in chunk.batches {
                    complete_published(batch.completion, batch.base_offset, batch.append_time);
                }
            }
            Arrival::Committed(commit) => {
                state.committed.apply(commit.offset, lsn);
                drop(state);
                commit.completion.complete(Outcome::Committed);
            }
        }
        let durable = slot.state.borrow().durable_offset();
        let mut pending = slot.pending.borrow_mut();
        if !pending.duplicates.is_empty() {
            let waiting = std::mem::take(&mut pending.duplicates);
            let (ready, later): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|duplicate| duplicate.next_offset <= durable);
            pending.duplicates = later;
            drop(pending);
            for duplicate in ready {
                duplicate.completion.complete(duplicate.outcome);
            }
        }
    }

    pub(super) fn want_flush(&self) {
        self.flush_wanted.set(true);
        self.flush.notify_all();
    }

    pub(super) fn gathered_bytes(&self) -> u64 {
        self.gathered_bytes.get() as u64
    }

    pub(super) fn take_gathered(&self, bytes: usize) {
        self.gathered_bytes.set(self.gathered_bytes.get() - bytes);
    }

    /// Whether publishes are refused for want of room.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.disk_full.get() || self.publishable_bytes.get() == 0
    }

    /// Nothing can be written where there is no room. Publishes are refused from now on; those that have their offsets wait here for a
    /// moment, to try again. At a stop nobody waits for room, which may never come: then, and when it is something else, the error comes back.
    pub(super) async fn wait_for_space(&self, error: StorageError) -> Result<(), StorageError> {
        if !error.is_disk_full() || self.stopping.get() {
            return Err(error);
        }
        if !self.disk_full.replace(true) {
            tracing::error!(%error, "the disk is full: publishes are refused until there is room again; reading goes on");
        }
        self.want_flush();
        self.clock.sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// At a stop on a full disk the log ends with what is durable; any other error is final.
    fn give_up(&self, error: StorageError) -> Result<(), StorageError> {
        if !self.stopping.get() || !error.is_disk_full() {
            return Err(error);
        }
        if !self.gave_up.replace(true) {
            tracing::error!(%error, "the disk is full: what was not acknowledged as durable is dropped at this stop");
        }
        Ok(())
    }
}

/// Says that the wall clock is off, once.
pub(super) fn report_wall_clock(observed: WallClock) {
    if let WallClock::FoundOff { by_ms } = observed {
        tracing::warn!(
            by_seconds = by_ms / 1000,
            "the wall clock is off the broker's append clock; retention does not follow it for an hour. Check the machine's time; \
             if it is right, a start with --trust-wall-clock need not wait"
        );
    }
}

/// A slot's turn ends after this part of a commit, while others wait.
const TURNS_PER_COMMIT: usize = 4;

fn complete_published(
    completion: Option<Completion>,
    base_offset: gannet_wire::Offset,
    append_time: gannet_wire::Timestamp,
) {
    if let Some(completion) = completion {
        completion.complete(Outcome::Published {
            base_offset,
            append_time,
            durability: Durability::Durable,
            duplicate: false,
        });
    }
}

/// Bytes of an arrival that stands in a commit as it is.
fn arrival_bytes(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Batch(batch) => batch.bytes.len(),
        Arrival::Committed(commit) => commit.encoded.len(),
        Arrival::Direct(_) => 0,
    }
}

fn encode_direct(arrival: &Arrival) -> Option<Vec<u8>> {
    let Arrival::Direct(chunk) = arrival else {
        return None;
    };
    let run = DirectRun {
        segment: chunk.run.segment.id.0,
        position: chunk.run.position,
        end: chunk.run.end,
        max_timestamp: chunk.run.max_timestamp.0,
        append_time: chunk.run.append_time.0,
        producers: chunk.producers.clone(),
    };
    Some(
        rkyv::to_bytes::<rkyv::rancor::Error>(&run)
            .expect("memory is the only thing that can be missing")
            .into_vec(),
    )
}

/// What the wire says of a refusal.
fn append_error(refusal: &AppendRefusal) -> ErrorBody {
    let code = match refusal {
        AppendRefusal::SequenceGap => ErrorCode::SequenceGap,
        AppendRefusal::ProducerUnknown => ErrorCode::ProducerUnknown,
        AppendRefusal::ProducerFenced => ErrorCode::ProducerFenced,
        AppendRefusal::DuplicateExpired => ErrorCode::DuplicateExpired,
        AppendRefusal::OffsetsExhausted => ErrorCode::StorageFailed,
    };
    ErrorBody::new(code, refusal.to_string())
}

#[cfg(test)]
mod tests;
