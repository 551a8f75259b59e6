//! The commit loop: what waits goes to the journal, and what is durable is acknowledged and shown.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::stream::FuturesUnordered;
use gannet_wire::frame::Durability;

use super::arrivals::{CommitBounds, Item};
use super::direct::DirectFuture;
use super::log::ShardLog;
use super::recent::Recent;
use super::slot::{Arrival, Completion, Outcome, Slot};
use super::topics::topic_deleted;
use crate::io::{Clock, Disk, DiskBuffer, DiskFile};
use crate::partition::TailBatch;
use crate::storage::commit::{BatchStamp, CommitIdentity, CommitWriter, EntryKind, commit_bytes};
use crate::storage::segment::DirectRun;
use crate::storage::slice::Slice;
use crate::storage::{Lsn, StorageError};

struct Submitted {
    lsn: Lsn,
    done: bool,
    buffer: DiskBuffer,
    items: Vec<Item>,
}

type Write = LocalBoxFuture<'static, (Lsn, std::io::Result<()>)>;

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
        loop {
            let seen = self.work.version();
            if !self.disk_room.gave_up() {
                self.start_directs(&mut directs);
            }
            let hold = self.hold();
            while hold.is_none() && !self.disk_room.gave_up() && self.may_submit(writes.len()) {
                let Some(items) = self.gather(directs.len()) else {
                    break;
                };
                match self.submit(items, &mut submitted).await {
                    Ok(write) => writes.push(write),
                    Err(error) => self.give_up(error)?,
                }
            }
            let nothing_waits = self.arrivals.is_empty() && !self.progress.mark_due();
            if self.is_stopping()
                && writes.is_empty()
                && directs.is_empty()
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
                self.crowded.set(!self.arrivals.is_empty());
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

    /// How long what waits is to gather others still: while publishes keep coming, a commit for each would cost more system calls and wake-ups, here and
    /// at the clients, than the records themselves.
    fn hold(&self) -> Option<Duration> {
        if !self.crowded.get()
            || self.is_stopping()
            || self.mark_wanted.get()
            || self.arrivals.bytes() >= self.config.commit_gather_bytes
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
                && self.arrivals.bytes() >= self.config.commit_gather_bytes)
    }

    /// What the next commit holds: nothing at all for a mark; `None` when there is nothing to write.
    fn gather(&self, directs_in_flight: usize) -> Option<Vec<Item>> {
        let items = self.arrivals.take_commit(&CommitBounds {
            bytes_max: self.config.commit_bytes_max,
            direct_bytes_min: self.config.direct_bytes_min,
            direct_room: directs_in_flight < self.config.directs_in_flight_max,
        });
        // At a stop the mark does not wait for its interval.
        let mark = (self.mark_wanted.take() || (self.is_stopping() && self.arrivals.is_empty()))
            && self.progress.mark_due();
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
        let lsn = self.progress.next();
        let placement = loop {
            if let Some(placement) = self.journal.place(bytes) {
                break placement;
            }
            match self.journal.rotate(lsn).await {
                Ok(()) => {}
                Err(error) => self.wait_for_space(error).await?,
            }
        };
        let durable_lsn = self.progress.released();
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
        self.submitted_at.set(self.clock.monotonic());
        self.progress.submitted(durable_lsn);
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
