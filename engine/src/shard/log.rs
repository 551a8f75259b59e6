//! The log of one shard: arrivals are gathered, committed together, acknowledged in order and given to readers.
//!
//! One task ([`ShardLog::run_commits`]) owns the journal's end. A batch gets its offsets when it arrives ([`ShardLog::publish`]) and waits in its slot; the task
//! takes from the slots in turn, fills one buffer, writes it, and releases what came back as far as no earlier write is missing. Only
//! then are batches acknowledged and visible. Another task ([`ShardLog::run_flushes`]) moves them to segments.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use gannet_wire::{ErrorBody, ShardIndex};

pub use super::append::CheckedBatch;
use super::arrivals::Arrivals;
use super::commit_progress::CommitProgress;
use super::disk_room::DiskRoom;
use super::expiries::Expiries;
use super::files::FileShares;
use super::gathering::Gathering;
pub use super::log_config::LogConfig;
use super::merge::Merged;
use super::on_their_way::OnTheirWay;
use super::recent::{Recent, RecentCommits};
use super::segment_claims::SegmentClaims;
use super::segments::OpenSegments;
use super::slot::Slot;
use super::topics::DroppedTopic;
use crate::io::local::Signal;
use crate::io::{Clock, Disk};
use crate::limits::COMMIT_BYTES_MAX;
use crate::storage::append_clock::{AppendClock, WallClock};
use crate::storage::commit::lone_entry_bytes_max;
use crate::storage::journal::Journal;
use crate::storage::journal_file::FIRST_COMMIT_POSITION;
use crate::storage::layout::DataDir;
use crate::storage::reader::SegmentReader;
use crate::storage::record_log::RecordLog;
use crate::storage::recovery::Cut;
use crate::storage::segment::SegmentIds;
use crate::storage::{Generation, Lsn, PartitionKey};

/// See the module's text.
pub struct ShardLog<D: Disk, C: Clock> {
    pub(super) disk: D,
    pub(super) clock: C,
    pub(super) data: DataDir,
    pub(super) config: LogConfig,
    pub(super) shard: ShardIndex,
    /// The present layout's number.
    pub(super) layout: u64,
    /// Shards that write to the same disk.
    pub(super) shards: u16,
    /// The first incarnation of the present layout: shared segments from before may hold other shards' runs.
    pub(super) layout_incarnation: u32,

    pub(super) slots: RefCell<HashMap<PartitionKey, Rc<Slot>>>,
    pub(super) topics_dropped: RefCell<Vec<Rc<DroppedTopic>>>,
    pub(super) append_clock: RefCell<AppendClock>,

    pub(super) journal: Journal<D>,
    pub(super) arrivals: Arrivals,
    pub(super) on_their_way: OnTheirWay,
    pub(super) progress: CommitProgress,
    pub(super) mark_wanted: Cell<bool>,
    pub(super) gathering: Gathering,

    pub(super) recent: RecentCommits,
    pub(super) segments: OpenSegments<D>,
    pub(super) claims: SegmentClaims,
    pub(super) reader: SegmentReader<D>,
    pub(super) disk_room: DiskRoom,

    /// Taken out while the flusher writes to it.
    pub(super) checkpoint: RefCell<Option<RecordLog<D>>>,
    pub(super) cuts: RefCell<Vec<Cut>>,
    pub(super) flushed_lsn: Cell<Lsn>,
    /// The newest life of a journal file that a checkpoint knows of.
    pub(super) noted_generation: Cell<Generation>,
    pub(super) flush_wanted: Cell<bool>,
    pub(super) flush_rounds: Cell<u64>,
    pub(super) expiries: Expiries,
    /// What a merge wrote, for the flusher to put into a checkpoint.
    pub(super) merged: RefCell<Option<Merged>>,

    /// Something to commit.
    pub(super) work: Signal,
    /// Something to flush.
    pub(super) flush: Signal,
    /// The journal's current file fills up.
    pub(super) spare_wanted: Signal,
    /// Memory was freed.
    pub(super) room: Signal,
    /// A released commit waits for a mark.
    pub(super) unmarked: Signal,
    /// There may be segments to merge.
    pub(super) merge_wanted: Signal,
    /// A flush ended.
    pub(super) flush_done: Signal,
    stopping: Cell<bool>,
    pub(super) commits_ended: Cell<bool>,
    /// Why nothing can be made durable any more.
    pub(super) failure: RefCell<Option<ErrorBody>>,
    pub(super) failed: Signal,
}

/// Parts of a log that recovery makes.
pub(super) struct LogParts<D: Disk> {
    pub(super) journal: Journal<D>,
    pub(super) checkpoint: RecordLog<D>,
    pub(super) cuts: Vec<Cut>,
    pub(super) slots: HashMap<PartitionKey, Rc<Slot>>,
    pub(super) append_clock: AppendClock,
    pub(super) segment_ids: SegmentIds,
    pub(super) claims: SegmentClaims,
    pub(super) layout: u64,
    pub(super) shards: u16,
    pub(super) layout_incarnation: u32,
    pub(super) unflushed: VecDeque<Recent>,
    pub(super) end_lsn: Lsn,
    pub(super) flushed_lsn: Lsn,
    pub(super) noted_generation: Generation,
}

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
        let gathering = Gathering::new(config.commit_interval);
        let shares = FileShares::of(config.open_files_max);
        let reader = SegmentReader::new(
            disk.clone(),
            data.clone(),
            config.read_chunk_bytes,
            config.read_cache_bytes,
            shares.reading,
        );
        Rc::new(Self {
            disk,
            clock,
            data,
            config,
            shard,
            layout: parts.layout,
            shards: parts.shards,
            layout_incarnation: parts.layout_incarnation,
            slots: RefCell::new(parts.slots),
            topics_dropped: RefCell::default(),
            append_clock: RefCell::new(parts.append_clock),
            journal: parts.journal,
            arrivals: Arrivals::default(),
            on_their_way: OnTheirWay::default(),
            progress: CommitProgress::behind(parts.end_lsn),
            mark_wanted: Cell::new(false),
            gathering,
            recent: RecentCommits::replayed(parts.unflushed),
            segments: OpenSegments::none(parts.segment_ids, shares),
            claims: parts.claims,
            reader,
            disk_room: DiskRoom::unknown(),
            checkpoint: RefCell::new(Some(parts.checkpoint)),
            cuts: RefCell::new(parts.cuts),
            flushed_lsn: Cell::new(parts.flushed_lsn),
            noted_generation: Cell::new(parts.noted_generation),
            flush_wanted: Cell::new(false),
            flush_rounds: Cell::new(0),
            expiries: Expiries::default(),
            merged: RefCell::new(None),
            work: Signal::new(),
            flush: Signal::new(),
            spare_wanted: Signal::new(),
            room: Signal::new(),
            unmarked: Signal::new(),
            merge_wanted: Signal::new(),
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

    /// The time that the next batches are stamped with.
    pub fn observe_clock(&self) {
        let observed = self
            .append_clock
            .borrow_mut()
            .observe(self.clock.monotonic(), self.clock.wall_ms());
        report_wall_clock(observed);
    }

    /// No more is accepted; [`ShardLog::run_commits`] ends when what is there is durable, [`ShardLog::run_flushes`] when it is in segments.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.work.notify_all();
        self.room.notify_all();
        self.spare_wanted.notify_all();
        self.unmarked.notify_all();
        self.merge_wanted.notify_all();
        self.flush_done.notify_all();
        self.flush.notify_all();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Whether nothing more will be released.
    pub(super) fn commits_ended(&self) -> bool {
        self.commits_ended.get()
    }

    pub(super) fn want_flush(&self) {
        self.flush_wanted.set(true);
        self.flush.notify_all();
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

#[cfg(test)]
mod tests;
