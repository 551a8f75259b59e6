//! Reading a partition: from memory at the tail, from segments behind it.

use std::rc::Rc;

use gannet_wire::frame::{Start, TimestampSource};
use gannet_wire::{ErrorBody, ErrorCode, Offset, Timestamp};

use super::log::ShardLog;
use super::room::SharedPlace;
use super::slot::Slot;
use crate::io::local::yield_once;
use crate::io::{Clock, Disk};
use crate::partition::{Fence, ReadPlace};
use crate::storage::StorageError;
use crate::storage::index::RunIndex;
use crate::storage::reader::{Place, ReadFault, ReadFrom};
use crate::storage::segment::Run;
use crate::storage::slice::Slice;

/// A reader's place in a partition.
#[derive(Clone, Copy, Debug)]
pub struct ReadCursor {
    /// The next record it wants.
    pub offset: Offset,
    /// Where the last read from a segment ended.
    place: Option<(Run, Place)>,
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset lies before the log start or behind the durable end.
    #[error("offset {offset} is outside of what is stored, {log_start} to {next_offset}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The oldest offset there is.
        log_start: Offset,
        /// The durable end.
        next_offset: Offset,
    },
    /// These offsets are lost.
    #[error("offsets {from} to {to} are damaged on disk and withheld; reading can go on at {to}", from = .0.from, to = .0.to)]
    Fenced(Fence),
    /// The topic was deleted.
    #[error("the topic was deleted")]
    Deleted,
    /// The system failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ReadError {
    /// What the wire says of it.
    #[must_use]
    pub fn to_body(&self) -> ErrorBody {
        match self {
            Self::OutOfRange {
                log_start,
                next_offset,
                ..
            } => ErrorBody::new(ErrorCode::OffsetOutOfRange, self.to_string())
                .with_range(*log_start, *next_offset),
            Self::Fenced(fence) => ErrorBody::new(ErrorCode::RangeFenced, self.to_string())
                .with_range(fence.from, fence.to),
            Self::Deleted => ErrorBody::new(ErrorCode::TopicDeleted, self.to_string()),
            Self::Storage(_) => ErrorBody::new(ErrorCode::StorageFailed, self.to_string()),
        }
    }
}

impl ReadCursor {
    /// A cursor at `offset`.
    #[must_use]
    pub fn at(offset: Offset) -> Self {
        Self {
            offset,
            place: None,
        }
    }

    /// Where the next read begins, if that is a segment that partitions share. Where in a run it is not known yet, its beginning.
    #[must_use]
    pub(super) fn shared_place(&self, slot: &Slot) -> Option<SharedPlace> {
        let ReadPlace::Run(run) = slot.state.borrow().place(self.offset) else {
            return None;
        };
        let position = self.place_in(&run).map(|place| place.position);
        run.segment.shared.then_some(SharedPlace {
            segment: run.segment.id,
            position: position.unwrap_or(run.position),
        })
    }

    /// Where the last read ended, if that was in this run. It may have grown since; where it begins tells that it is the same one.
    fn place_in(&self, run: &Run) -> Option<Place> {
        let (known, place) = self.place?;
        let is_same = known.segment == run.segment && known.base_offset == run.base_offset;
        is_same.then_some(place)
    }
}

/// Whether the record at `offset` does not lie in `run` any more.
fn moved(slot: &Slot, offset: Offset, run: &Run) -> bool {
    match slot.state.borrow().place(offset) {
        ReadPlace::Run(now) => now.segment != run.segment || now.base_offset != run.base_offset,
        _ => false,
    }
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// The next batches for a reader, at least one and otherwise within `bytes_max`, and moves its cursor behind them. Nothing when it is at the
    /// durable end. The first batch may begin before the cursor.
    pub async fn read(
        &self,
        slot: &Rc<Slot>,
        cursor: &mut ReadCursor,
        bytes_max: usize,
    ) -> Result<Vec<Slice>, ReadError> {
        let mut batches = Vec::new();
        let place = {
            let state = slot.state.borrow();
            if slot.is_deleted() {
                return Err(ReadError::Deleted);
            }
            let place = state.place(cursor.offset);
            if place == ReadPlace::Tail
                && let Some(next) = state.tail.read(cursor.offset, bytes_max, &mut batches)
            {
                *cursor = ReadCursor::at(next);
                return Ok(batches);
            }
            if place == ReadPlace::BeforeStart
                || (place == ReadPlace::End && cursor.offset > state.durable_offset())
            {
                return Err(ReadError::OutOfRange {
                    offset: cursor.offset,
                    log_start: state.log_start(),
                    next_offset: state.durable_offset(),
                });
            }
            place
        };
        match place {
            ReadPlace::Run(run) => match self.read_run(slot, cursor, run, bytes_max).await {
                // A merge has put another run in its place, and the file is gone.
                Err(ReadError::Fenced(_) | ReadError::Storage(_))
                    if moved(slot, cursor.offset, &run) =>
                {
                    Box::pin(self.read(slot, cursor, bytes_max)).await
                }
                other => other,
            },
            ReadPlace::Fenced(fence) => Err(ReadError::Fenced(Fence {
                from: cursor.offset,
                to: fence.to,
            })),
            ReadPlace::Tail | ReadPlace::End | ReadPlace::BeforeStart => Ok(batches),
        }
    }

    async fn read_run(
        &self,
        slot: &Rc<Slot>,
        cursor: &mut ReadCursor,
        run: Run,
        bytes_max: usize,
    ) -> Result<Vec<Slice>, ReadError> {
        let key = slot.key();
        let _in_use = slot.in_use();
        let known = cursor.place_in(&run);
        let behind =
            slot.state
                .borrow()
                .runs_behind(&run, self.reader.ahead_bytes(), RUNS_AHEAD_MAX);
        let read = async {
            let place = match known {
                Some(place) => place,
                None => {
                    let open = self.open_index_place(slot, &run, cursor.offset);
                    self.reader.seek(key, &run, cursor.offset, open).await?
                }
            };
            let from = ReadFrom {
                place,
                offset: cursor.offset,
                // The end of one run and the beginning of the next are one sequence.
                in_sequence: cursor.place.is_some(),
                behind: &behind,
            };
            self.reader.read(key, &run, from, bytes_max).await
        };
        let read = match read.await {
            Ok(read) => read,
            Err(fault) => {
                // The segment may have gone meanwhile, with its topic or by retention; then it is no damage.
                if slot.is_deleted() {
                    return Err(ReadError::Deleted);
                }
                let state = slot.state.borrow();
                if cursor.offset < state.log_start() {
                    return Err(ReadError::OutOfRange {
                        offset: cursor.offset,
                        log_start: state.log_start(),
                        next_offset: state.durable_offset(),
                    });
                }
                drop(state);
                let error = read_error(fault, cursor.offset, &run);
                if let ReadError::Fenced(damage) = error {
                    note_damage(slot, damage);
                }
                return Err(error);
            }
        };
        slot.state.borrow_mut().damage.forget(Fence {
            from: cursor.offset,
            to: read.next.offset,
        });
        *cursor = ReadCursor {
            offset: read.next.offset,
            place: Some((run, read.next)),
        };
        Ok(read.batches.into_iter().map(|batch| batch.bytes).collect())
    }

    /// Where `offset` stands according to the index of a segment that is still being written.
    pub(super) fn open_index_place(&self, slot: &Slot, run: &Run, offset: Offset) -> Option<Place> {
        self.with_open_index(slot, run, |points| points.seek_offset(offset))?
            .map(Place::from)
    }

    /// Asks the index of a segment that is still being written, if this is one.
    fn with_open_index<T>(
        &self,
        slot: &Slot,
        run: &Run,
        ask: impl Fn(&RunIndex) -> T,
    ) -> Option<T> {
        let index = self.segments.index(run.segment)?;
        let index = index.borrow();
        index.run(slot.key(), run.base_offset).map(ask)
    }

    /// The offset at which reading starts.
    pub async fn start_offset(&self, slot: &Rc<Slot>, start: Start) -> Result<Offset, ReadError> {
        self.start_offset_unless(slot, start, &|| false).await
    }

    /// The same, or any offset once it is given up: a look-up may read a partition from end to end.
    pub async fn start_offset_unless(
        &self,
        slot: &Rc<Slot>,
        start: Start,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Offset, ReadError> {
        let (log_start, end) = {
            let state = slot.state.borrow();
            (state.log_start(), state.durable_offset())
        };
        match start {
            Start::Earliest => Ok(log_start),
            Start::Latest => Ok(end),
            Start::Offset(offset) if offset < log_start || offset > end => {
                Err(ReadError::OutOfRange {
                    offset,
                    log_start,
                    next_offset: end,
                })
            }
            Start::Offset(offset) => Ok(offset),
            Start::Timestamp(timestamp) => {
                self.offset_of_timestamp(slot, timestamp, given_up).await
            }
        }
    }

    /// The first offset whose batch may hold a record at or after `timestamp`, or the durable end: exact to the batch when the topic goes by append
    /// time, to the record otherwise.
    async fn offset_of_timestamp(
        &self,
        slot: &Rc<Slot>,
        timestamp: Timestamp,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Offset, ReadError> {
        let _in_use = slot.in_use();
        let by_append = slot.topic().settings.timestamps == TimestampSource::Append;
        let mut offset = slot.state.borrow().log_start();
        // Place after place in the order of offsets, each looked up anew: batches move from memory to segments meanwhile, and where some went
        // straight to a segment or were replayed the two alternate.
        loop {
            if given_up() {
                return Ok(offset);
            }
            let place = slot.state.borrow().place(offset);
            match place {
                ReadPlace::End => return Ok(offset),
                ReadPlace::BeforeStart => offset = slot.state.borrow().log_start(),
                // The reader will be told when it gets there.
                ReadPlace::Fenced(fence) => offset = fence.to,
                ReadPlace::Tail => {
                    let mut batches = Vec::new();
                    let state = slot.state.borrow();
                    let next = state.tail.read(offset, LOOKUP_BYTES, &mut batches);
                    let found = batches
                        .iter()
                        .find_map(|batch| offset_in_batch(batch, timestamp, by_append));
                    match (found, next) {
                        (Some(found), _) => return Ok(found.max(offset)),
                        (None, Some(next)) => offset = next,
                        (None, None) => return Ok(state.durable_offset()),
                    }
                }
                ReadPlace::Run(run) => {
                    let found = self
                        .offset_in_run(slot, &run, offset, timestamp, given_up)
                        .await;
                    match found {
                        Ok(Some(found)) => return Ok(found),
                        Ok(None) => offset = run.next_offset,
                        Err(_) if slot.is_deleted() => return Err(ReadError::Deleted),
                        // A merge has put another run in its place.
                        Err(_) if moved(slot, offset, &run) => {}
                        // It may be retention that has taken it.
                        Err(_) if slot.state.borrow().log_start() > offset => {
                            offset = slot.state.borrow().log_start();
                        }
                        Err(fault) => return Err(read_error(fault, offset, &run)),
                    }
                }
            }
            // The others of this shard come first.
            yield_once().await;
        }
    }

    /// The first offset of a run, from `offset` on, whose batch may hold a record at or after `timestamp`.
    async fn offset_in_run(
        &self,
        slot: &Rc<Slot>,
        run: &Run,
        mut offset: Offset,
        timestamp: Timestamp,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Option<Offset>, ReadFault> {
        let key = slot.key();
        let by_append = slot.topic().settings.timestamps == TimestampSource::Append;
        let newest = match by_append {
            true => run.append_time,
            false => run.max_timestamp,
        };
        if newest < timestamp {
            return Ok(None);
        }
        let open = self.with_open_index(slot, run, RunIndex::clone);
        let reader = &self.reader;
        let mut place = match by_append {
            true => reader.seek_append_time(key, run, timestamp, open).await?,
            false => reader.seek_timestamp(key, run, timestamp, open).await?,
        };
        offset = offset.max(place.offset);
        while offset < run.next_offset {
            if slot.is_deleted() || given_up() {
                return Ok(None);
            }
            let from = ReadFrom {
                place,
                offset,
                in_sequence: true,
                behind: &[],
            };
            match reader.read(key, run, from, LOOKUP_BYTES).await {
                Ok(read) => {
                    let found = read
                        .batches
                        .iter()
                        .find_map(|batch| offset_in_batch(&batch.bytes, timestamp, by_append));
                    if let Some(found) = found {
                        return Ok(Some(found.max(offset)));
                    }
                    (place, offset) = (read.next, read.next.offset);
                }
                // What is damaged is passed over: the reader will be told when it gets there.
                Err(ReadFault::Damaged(fence)) => offset = fence.to,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// So many runs behind the present one are looked at at most.
const RUNS_AHEAD_MAX: usize = 64;
/// Bytes that a look-up by time takes at once.
const LOOKUP_BYTES: usize = 1 << 20;

/// The first record of a batch at or after a time.
fn offset_in_batch(batch: &Slice, timestamp: Timestamp, by_append: bool) -> Option<Offset> {
    let header = crate::storage::segment::header_at(batch)?;
    if by_append {
        return (header.append_time() >= timestamp).then(|| header.base_offset());
    }
    if header.max_timestamp() < timestamp {
        return None;
    }
    // Only here does the broker look into a body: once a look-up, for the one batch that has the answer.
    match gannet_wire::batch::Records::open(bytes::Bytes::copy_from_slice(batch)) {
        Ok(records) => records
            .iter()
            .find(|(_, record)| record.timestamp >= timestamp)
            .map(|(offset, _)| offset),
        Err(_) => Some(header.base_offset()),
    }
}

/// Remembers what a read found damaged, for those who ask how the topic is.
fn note_damage(slot: &Slot, damage: Fence) {
    if slot.state.borrow_mut().damage.note(damage) {
        tracing::error!(topic = slot.topic().name, partition = %slot.key(), from = %damage.from, to = %damage.to, "records are damaged in a segment: they are withheld, and readers are told");
    }
}

fn read_error(fault: ReadFault, offset: Offset, run: &Run) -> ReadError {
    match fault {
        ReadFault::Damaged(fence) => ReadError::Fenced(fence),
        ReadFault::Storage(error) if error.is_not_found() => {
            // It was there, and nothing that we did took it away: its records are lost with it.
            tracing::error!(%error, "a segment is missing");
            ReadError::Fenced(Fence {
                from: offset,
                to: run.next_offset,
            })
        }
        ReadFault::Storage(error) => ReadError::Storage(error),
    }
}
