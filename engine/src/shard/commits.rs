//! The commit loop: what waits goes to the journal, and what is durable is acknowledged and shown.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use gannet_wire::frame::Durability;

use super::arrivals::{CommitBounds, Item};
use super::commit_encoding::PlannedCommit;
use super::completion::{Completion, Outcome};
use super::direct::DirectFuture;
use super::log::ShardLog;
use super::on_their_way::OnItsWay;
use super::pending::Arrival;
use super::recent::Recent;
use super::slot::Slot;
use super::topics::topic_deleted;
use crate::io::{Clock, Disk, DiskBuffer, DiskFile};
use crate::partition::TailBatch;
use crate::storage::commit::CommitIdentity;
use crate::storage::journal::Placement;
use crate::storage::slice::Slice;
use crate::storage::{Lsn, StorageError};

struct Submitted {
    lsn: Lsn,
    done: bool,
    buffer: DiskBuffer,
    items: Vec<Item>,
    _on_its_way: OnItsWay,
}

type Write = LocalBoxFuture<'static, (Lsn, std::io::Result<()>)>;
type Rotation = LocalBoxFuture<'static, Result<(), StorageError>>;

impl<D: Disk, C: Clock> ShardLog<D, C> {
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
        // A commit that the current journal file has no room for, and what makes the next one ready.
        let mut waiting: Option<PlannedCommit> = None;
        let mut rotation: Option<Rotation> = None;
        loop {
            let seen = self.work.version();
            if !self.disk_room.gave_up() {
                self.start_directs(&mut directs);
            }
            let hold = self.hold();
            while rotation.is_none() && !self.disk_room.gave_up() {
                // One that waited for a journal file goes first.
                let next = waiting.take().or_else(|| {
                    let may = hold.is_none() && self.may_submit(writes.len());
                    may.then(|| self.gather(directs.len())).flatten()
                });
                let Some(commit) = next else { break };
                match self.journal.place(commit.bytes()) {
                    Some(placement) => writes.push(self.submit(commit, placement, &mut submitted)),
                    None => {
                        // IMPORTANT: nothing is awaited here. What is on its way goes on while the next file is made ready.
                        rotation = Some(self.rotation());
                        waiting = Some(commit);
                    }
                }
            }
            let nothing_waits = self.arrivals.is_empty() && !self.progress.mark_due();
            let nothing_on_its_way = writes.is_empty() && directs.is_empty() && waiting.is_none();
            self.reader
                .set_writes_wait(!(nothing_on_its_way && self.arrivals.is_empty()));
            if self.is_stopping()
                && writes.is_empty()
                && directs.is_empty()
                && rotation.is_none()
                && (nothing_waits || self.disk_room.gave_up())
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
            let mut rotated = None;
            poll_fn(|cx| {
                while let Poll::Ready(Some(done)) = Pin::new(&mut writes).poll_next(cx) {
                    finished.push(done);
                }
                while let Poll::Ready(Some(done)) = Pin::new(&mut directs).poll_next(cx) {
                    landed.push(done);
                }
                if let Some(Poll::Ready(done)) =
                    rotation.as_mut().map(|next| next.as_mut().poll(cx))
                {
                    rotated = Some(done);
                }
                if finished.is_empty() && landed.is_empty() && rotated.is_none() {
                    match held.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(()),
                        Poll::Pending => changed.as_mut().poll(cx),
                    }
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            if let Some(done) = rotated {
                rotation = None;
                // The checkpoint is to know of the new file.
                self.flush.notify_all();
                if let Err(error) = done {
                    waiting = None;
                    self.give_up(error)?;
                }
            }
            for done in landed {
                match done {
                    Ok(done) => self.direct_landed(done),
                    Err(error) => self.give_up(error)?,
                }
            }
            if !finished.is_empty() {
                self.gathering.ended(!self.arrivals.is_empty());
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

    /// Writes marks: [`mark_interval`](super::log::LogConfig::mark_interval) after a commit was released, unless a later one states it as durable.
    pub async fn run_marks(&self) {
        loop {
            let seen = self.unmarked.version();
            if self.progress.mark_due() {
                self.clock.sleep(self.config.mark_interval).await;
                if self.progress.mark_due() {
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

    /// How long what waits is to gather others still.
    fn hold(&self) -> Option<Duration> {
        if self.is_stopping()
            || self.mark_wanted.get()
            || self.arrivals.bytes() >= self.config.commit_gather_bytes
        {
            return None;
        }
        self.gathering.hold(self.clock.monotonic())
    }

    /// An idle device takes what there is at once; a busy one lets arrivals gather.
    fn may_submit(&self, in_flight: usize) -> bool {
        in_flight == 0
            || (in_flight < self.config.commits_in_flight_max
                && self.arrivals.bytes() >= self.config.commit_gather_bytes)
    }

    /// What the next commit holds: nothing at all for a mark; `None` when there is nothing to write.
    fn gather(&self, directs_in_flight: usize) -> Option<PlannedCommit> {
        let items = self.arrivals.take_commit(&CommitBounds {
            bytes_max: self.config.commit_bytes_max,
            direct_bytes_min: self.config.direct_bytes_min,
            direct_room: directs_in_flight < self.config.directs_in_flight_max,
        });
        // At a stop the mark does not wait for its interval.
        let mark = (self.mark_wanted.take() || (self.is_stopping() && self.arrivals.is_empty()))
            && self.progress.mark_due();
        (!items.is_empty() || mark).then(|| PlannedCommit::of(items, self.config.commit_bytes_max))
    }

    /// Starts the write of a commit that has its place.
    fn submit(
        &self,
        commit: PlannedCommit,
        placement: Placement<D>,
        submitted: &mut VecDeque<Submitted>,
    ) -> Write {
        self.observe_clock();
        let lsn = self.progress.next();
        let durable_lsn = self.progress.released();
        let identity = CommitIdentity {
            generation: placement.generation,
            lsn,
            position: placement.position,
            durable_lsn,
            append_time: self.append_clock.borrow().now(),
            previous_checksum: placement.previous_checksum,
            file: placement.file_place,
        };
        let bytes = commit.bytes();
        let mut buffer = self.disk.buffer(bytes);
        let (items, checksum) = commit.encode(&mut buffer, identity);
        let buffer = buffer.freeze();
        self.journal.advance(bytes, lsn, checksum);
        if self.journal.wants_spare() {
            self.spare_wanted.notify_all();
        }
        self.gathering
            .begins(self.clock.monotonic(), self.arrivals.is_empty());
        self.progress.submitted(durable_lsn);
        submitted.push_back(Submitted {
            lsn,
            done: false,
            buffer: buffer.clone(),
            items,
            _on_its_way: self.on_their_way.hold(bytes as u64),
        });
        let (file, position) = (placement.file, placement.position);
        Box::pin(async move { (lsn, file.write_at(position, &buffer).await) })
    }

    /// Puts the next journal file to use; a full disk only delays it.
    fn rotation(self: &Rc<Self>) -> Rotation {
        let (log, first_lsn) = (self.clone(), self.progress.next());
        Box::pin(async move {
            while let Err(error) = log.journal.rotate(first_lsn).await {
                log.wait_for_space(error).await?;
            }
            Ok(())
        })
    }

    /// Acknowledges and shows the contiguous prefix of complete commits.
    fn release(&self, submitted: &mut VecDeque<Submitted>) {
        let released = submitted.front().is_some_and(|commit| commit.done);
        while submitted.front().is_some_and(|commit| commit.done) {
            let Some(commit) = submitted.pop_front() else {
                break;
            };
            self.progress.release(commit.lsn, !commit.items.is_empty());
            if commit.items.is_empty() {
                continue;
            }
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
            self.recent.push(Recent {
                lsn: commit.lsn,
                bytes,
                slots,
                released_at: self.clock.monotonic(),
            });
        }
        if released {
            // It has left the queue for the disk.
            self.room.notify_all();
        }
        if self.progress.mark_due() {
            self.unmarked.notify_all();
        }
        if self.recent.unflushed_bytes() >= self.config.flush_bytes {
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
            if let Arrival::Direct(chunk) = &arrival {
                // Its file goes with the topic.
                self.claims.forget(chunk.run.segment);
            }
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
                self.claims.add_claimed_run(&mut state, chunk.run);
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
}

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
