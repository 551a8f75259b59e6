//! Shared segments are merged: the runs of many rounds come together, so that a partition with a trickle has few of them, and what lies in a segment of
//! which most has expired gives its room back.
//!
//! A merge works behind everything else and changes nothing that is there. It copies the runs of some sealed segments into new ones, each partition's one behind
//! the other, makes them durable, and hands over what it wrote; the flusher puts it into a checkpoint, and only then are the old ones let go of. A crash before that
//! leaves segments that nothing refers to, which the next start sweeps.

mod choice;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use self::choice::{Candidate, choose};
use super::flush::{Pace, RoundEnd};
use super::log::ShardLog;
use super::segments::seal_age;
use super::slot::Slot;
use crate::io::local::yield_once;
use crate::io::{Clock, Disk};
use crate::storage::layout::{DataDir, SEGMENT_SUFFIX};
use crate::storage::open_segment::{OpenSegment, SegmentWriter};
use crate::storage::reader::{Place, ReadFault, ReadFrom};
use crate::storage::segment::{BATCH_ALIGNMENT, Run, SegmentRef, aligned_bytes, header_at};
use crate::storage::{PartitionKey, StorageError};

/// What a merge wrote, durable, and not in any checkpoint yet.
#[derive(Default)]
pub(super) struct Merged {
    pub(super) moves: Vec<Move>,
    /// The segments it wrote, each with a claim that keeps it until the checkpoint is durable.
    pub(super) segments: Vec<(PartitionKey, SegmentRef)>,
    /// Where something could not be read whole.
    damaged: HashSet<SegmentRef>,
}

/// One run in place of others that hold the same records.
pub(super) struct Move {
    pub(super) slot: Rc<Slot>,
    pub(super) from: Vec<Run>,
    pub(super) to: Run,
}

/// Consecutive runs of one partition that become one.
struct Stretch {
    slot: Rc<Slot>,
    runs: Vec<Run>,
}

/// What came of a merge, for the choice of the next one.
#[derive(Default)]
struct Experience {
    /// Segments with damage: what cannot be read whole stays where it is, and is not tried again.
    damaged: HashSet<SegmentRef>,
    /// What a merge put into segments. Where none of it is gone nothing is to be gained.
    written_bytes: HashMap<SegmentRef, u64>,
}

/// Segments to merge.
struct Chosen {
    segments: HashSet<SegmentRef>,
    live_bytes: u64,
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Merges shared segments whenever there are enough, one merge at a time; runs until the log stops.
    pub async fn run_merges(self: &Rc<Self>) -> Result<(), StorageError> {
        let mut seen = self.merge_wanted.version();
        let mut experience = Experience::default();
        while !self.is_stopping() {
            match self.choose_segments(&experience).await? {
                Some(chosen) if self.has_room_for(chosen.live_bytes).await => {
                    self.merge(&chosen.segments, &mut experience).await?;
                }
                // When there is room again it is looked at again.
                Some(_) => {}
                None => self.merge_wanted.changed_since(seen).await,
            }
            // However often segments are sealed or expire: a look goes over all partitions.
            self.clock.sleep(self.config.merge_interval).await;
            seen = self.merge_wanted.version();
            experience.forget_unless(|segment| self.claims.is_needed(segment));
        }
        Ok(())
    }

    /// The segments to merge next; none when it does not pay.
    async fn choose_segments(
        &self,
        experience: &Experience,
    ) -> Result<Option<Chosen>, StorageError> {
        let shared = self.data.shared();
        let entries = match self.disk.list(&shared).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StorageError::io("list", &shared)(error)),
        };
        let open = self.segments.shared_ref.get();
        let mut candidates: Vec<Candidate> = entries
            .iter()
            .filter(|entry| entry.name.ends_with(SEGMENT_SUFFIX))
            .filter_map(|entry| {
                let segment = SegmentRef {
                    id: DataDir::segment_of_name(&entry.name)?,
                    shared: true,
                };
                let ours = self.owns_alone(segment)
                    && self.claims.is_needed(segment)
                    && !experience.damaged.contains(&segment);
                let written = experience.written_bytes.get(&segment).copied();
                (ours && open != Some(segment)).then_some(Candidate {
                    segment,
                    bytes: written.unwrap_or(entry.bytes),
                    live_bytes: 0,
                })
            })
            .collect();
        if candidates.is_empty() {
            return Ok(None);
        }
        candidates.sort_unstable_by_key(|candidate| candidate.segment);
        for slot in self.slots_in_order() {
            {
                let state = slot.state.borrow();
                for run in state.runs().iter().filter(|run| run.segment.shared) {
                    let at = candidates.binary_search_by_key(&run.segment, |one| one.segment);
                    if let Some(one) = at.ok().and_then(|at| candidates.get_mut(at)) {
                        one.live_bytes += run.bytes();
                    }
                }
            }
            yield_once().await;
        }
        candidates.retain(|candidate| candidate.live_bytes > 0);
        let segments = choose(&candidates, self.config.merge_segments_min);
        let chosen = candidates
            .iter()
            .filter(|one| segments.contains(&one.segment));
        let live_bytes = chosen.map(|one| one.live_bytes).sum();
        Ok((!segments.is_empty()).then_some(Chosen {
            segments,
            live_bytes,
        }))
    }

    /// Whether a merge takes nothing of the room that publishers need.
    async fn has_room_for(&self, bytes: u64) -> bool {
        if self.is_disk_full() {
            return false;
        }
        let kept = self.config.disk_reserve_bytes
            + self.config.journal_file_bytes
            + self.held_bytes() * u64::from(self.shards.max(1));
        match self.disk.available_bytes(self.data.root()).await {
            Ok(available) => available >= kept.saturating_add(bytes.saturating_mul(2)),
            Err(_) => false,
        }
    }

    /// Copies what is in these segments, and waits until a checkpoint has it.
    async fn merge(
        self: &Rc<Self>,
        from: &HashSet<SegmentRef>,
        experience: &mut Experience,
    ) -> Result<(), StorageError> {
        // Retention may let go of them meanwhile.
        for segment in from {
            self.claims.claim(*segment);
        }
        let mut merged = Merged::default();
        let copied = self.copy(from, &mut merged).await;
        let mut claimed: Vec<(PartitionKey, SegmentRef)> =
            from.iter().map(|segment| (anyone(), *segment)).collect();
        // So that a simulated run is the same each time.
        claimed.sort_unstable_by_key(|(_, segment)| *segment);
        match copied {
            Ok(()) if !merged.moves.is_empty() => {
                experience.note(&merged);
                *self.merged.borrow_mut() = Some(merged);
                self.want_flush();
                loop {
                    let seen = self.flush_done.version();
                    if self.merged.borrow().is_none() || self.is_stopping() {
                        break;
                    }
                    self.flush_done.changed_since(seen).await;
                }
            }
            ended => {
                experience.damaged.extend(merged.damaged.iter().copied());
                // What was written is named by nothing.
                self.unlink(merged.segments).await?;
                match ended {
                    Err(error) if error.is_disk_full() => {
                        tracing::warn!(%error, "the disk is full: segments are not merged");
                    }
                    other => other?,
                }
            }
        }
        self.unlink(claimed).await
    }

    /// Copies the runs into new segments and makes them durable.
    async fn copy(
        self: &Rc<Self>,
        from: &HashSet<SegmentRef>,
        merged: &mut Merged,
    ) -> Result<(), StorageError> {
        let mut small: Vec<(usize, Stretch)> = Vec::new();
        for slot in self.slots_in_order() {
            // IMPORTANT: until its segment has its index, a deletion leaves the directory. It marks the slot before it looks who is in there.
            let _in_use = slot.in_use();
            if slot.is_deleted() {
                continue;
            }
            for (turn, stretch) in self.stretches(&slot, from).into_iter().enumerate() {
                if stretch.bytes() >= self.config.own_segment_bytes_min {
                    self.write_stretches(Some(slot.key()), &[stretch], merged)
                        .await?;
                } else {
                    small.push((turn, stretch));
                }
            }
            yield_once().await;
        }
        // Those of one partition apart from each other: where two are neighbours a gap has to be between them.
        small.sort_by_key(|(turn, _)| *turn);
        let small: Vec<Stretch> = small.into_iter().map(|(_, stretch)| stretch).collect();
        if !small.is_empty() {
            self.write_stretches(None, &small, merged).await?;
        }
        Ok(())
    }

    /// The runs of a partition in `from`, put together where one follows the other, and where retention would not drop one long before the other.
    fn stretches(&self, slot: &Rc<Slot>, from: &HashSet<SegmentRef>) -> Vec<Stretch> {
        let age_max = seal_age(slot.topic().settings.retention_ms);
        let mut stretches: Vec<Stretch> = Vec::new();
        let state = slot.state.borrow();
        for run in state
            .runs()
            .iter()
            .filter(|run| from.contains(&run.segment))
        {
            match stretches.last_mut() {
                Some(stretch) if stretch.is_followed_by(run, age_max) => stretch.runs.push(*run),
                _ => stretches.push(Stretch {
                    slot: slot.clone(),
                    runs: vec![*run],
                }),
            }
        }
        stretches
    }

    /// Writes stretches to a new segment, one behind the other. `owner`: of all of them, if they have one.
    async fn write_stretches(
        self: &Rc<Self>,
        owner: Option<PartitionKey>,
        stretches: &[Stretch],
        merged: &mut Merged,
    ) -> Result<(), StorageError> {
        let mut segment = self.try_create_segment(owner).await?;
        self.claims.claim(segment.segment);
        let named = owner.unwrap_or_else(anyone);
        merged.segments.push((named, segment.segment));
        let bytes: u64 = stretches.iter().map(Stretch::bytes).sum();
        // Between stretches of one partition lies up to a block and a half.
        let between = 2 * crate::io::BLOCK_BYTES as u64 * stretches.len() as u64;
        segment.reserve(bytes + between).await?;
        let mut pace = self.flush_pace();
        let mut writer = self.segment_writer(&segment, &pace);
        let mut last: Option<PartitionKey> = None;
        for stretch in stretches {
            let key = stretch.slot.key();
            if last.replace(key) == Some(key) {
                // IMPORTANT: runs that touch are taken for one, and would expire together.
                push_gap(&mut writer).await?;
            }
            segment.index.borrow_mut().begin_run();
            if self.is_stopping() {
                break;
            }
            let moved = self
                .copy_stretch(
                    stretch,
                    &mut writer,
                    &segment,
                    &mut pace,
                    &mut merged.damaged,
                )
                .await?;
            merged.moves.extend(moved);
        }
        segment.advance(writer.finish().await?);
        segment
            .sync()
            .await
            .map_err(StorageError::after_room_was_made)?;
        segment.seal().await
    }

    /// Copies the runs of a stretch, up to one that cannot be read whole: that one, and what is behind it, stays where it is.
    async fn copy_stretch(
        self: &Rc<Self>,
        stretch: &Stretch,
        writer: &mut SegmentWriter<D>,
        segment: &OpenSegment<D>,
        pace: &mut Pace,
        damaged: &mut HashSet<SegmentRef>,
    ) -> Result<Option<Move>, StorageError> {
        let slot = &stretch.slot;
        let _in_use = slot.in_use();
        let position = writer.end();
        let mut moved: Option<Move> = None;
        for run in &stretch.runs {
            let mut place = Place::start_of(run);
            while place.offset < run.next_offset {
                let from = ReadFrom {
                    place,
                    offset: place.offset,
                    in_sequence: true,
                    behind: &[],
                };
                let read = self
                    .reader
                    .read(slot.key(), run, from, self.config.flush_write_bytes);
                let read = match read.await {
                    Ok(read) => read,
                    // Readers will meet the damage where it is, and report it.
                    Err(ReadFault::Damaged(_)) => {
                        damaged.insert(run.segment);
                        return Ok(moved);
                    }
                    Err(ReadFault::Storage(error)) => {
                        damaged.insert(run.segment);
                        tracing::warn!(partition = %slot.key(), %error, "a run could not be read to be merged: it stays where it is");
                        return Ok(moved);
                    }
                };
                for batch in &read.batches {
                    let header =
                        header_at(&batch.bytes).expect("a batch that was proven has a header");
                    let offsets = header.base_offset()..header.next_offset();
                    segment.index.borrow_mut().push(
                        slot.key(),
                        offsets,
                        writer.end(),
                        header.max_timestamp(),
                    );
                    writer.push(&batch.bytes).await?;
                    let filler = aligned_bytes(batch.bytes.len()) - batch.bytes.len();
                    writer.push(&[0; BATCH_ALIGNMENT][..filler]).await?;
                    self.keep_pace(pace, writer.end()).await;
                }
                place = read.next;
            }
            let moved = moved.get_or_insert_with(|| Move {
                slot: slot.clone(),
                from: Vec::new(),
                to: Run {
                    segment: segment.segment,
                    position,
                    ..*run
                },
            });
            moved.from.push(*run);
            moved.to = Run {
                next_offset: run.next_offset,
                end: writer.end(),
                max_timestamp: moved.to.max_timestamp.max(run.max_timestamp),
                append_time: moved.to.append_time.max(run.append_time),
                ..moved.to
            };
        }
        Ok(moved)
    }

    /// Puts what a merge wrote into a checkpoint, and lets go of what it replaces.
    pub(super) async fn checkpoint_merged(
        self: &Rc<Self>,
        merged: Merged,
    ) -> Result<(), StorageError> {
        let mut runs = Vec::new();
        let mut slots: Vec<Rc<Slot>> = Vec::new();
        for Move { slot, from, to } in merged.moves {
            // Retention and deletion went on meanwhile.
            let holds = !slot.is_deleted() && slot.state.borrow().has_runs(&from);
            if !holds {
                continue;
            }
            if slots.last().is_none_or(|last| !Rc::ptr_eq(last, &slot)) {
                slots.push(slot.clone());
            }
            runs.push((slot, to));
        }
        slots.sort_unstable_by_key(|slot| slot.key());
        slots.dedup_by(|one, other| Rc::ptr_eq(one, other));
        if let RoundEnd::NoRoom(error) = self.reserve_checkpoint().await? {
            tracing::warn!(%error, "the disk is full: segments are not merged");
            self.flush_done.notify_all();
            return self.unlink(merged.segments).await;
        }
        self.checkpoint_round(self.flushed_lsn.get(), &slots, runs)
            .await?;
        self.unlink(merged.segments).await
    }

    /// All slots in the order of keys, so that a simulated run is the same each time.
    fn slots_in_order(&self) -> Vec<Rc<Slot>> {
        let mut slots: Vec<Rc<Slot>> = self.slots.borrow().values().cloned().collect();
        slots.sort_unstable_by_key(|slot| slot.key());
        slots
    }
}

impl Experience {
    fn note(&mut self, merged: &Merged) {
        self.damaged.extend(merged.damaged.iter().copied());
        for one in &merged.moves {
            *self.written_bytes.entry(one.to.segment).or_default() += one.to.bytes();
        }
    }

    fn forget_unless(&mut self, needed: impl Fn(SegmentRef) -> bool) {
        self.damaged.retain(|segment| needed(*segment));
        self.written_bytes.retain(|segment, _| needed(*segment));
    }
}

impl Stretch {
    fn bytes(&self) -> u64 {
        self.runs.iter().map(Run::bytes).sum()
    }

    fn is_followed_by(&self, run: &Run, age_max: Duration) -> bool {
        let (Some(first), Some(last)) = (self.runs.first(), self.runs.last()) else {
            return false;
        };
        let age = run.append_time.0.saturating_sub(first.append_time.0);
        last.next_offset == run.base_offset
            && u128::try_from(age).unwrap_or(0) <= age_max.as_millis()
    }
}

/// Leaves a block of zeros, whatever the rest of the present one is.
async fn push_gap<D: Disk>(writer: &mut SegmentWriter<D>) -> Result<(), StorageError> {
    let block = crate::io::BLOCK_BYTES as u64;
    let end = (writer.end() + 1).next_multiple_of(block) + block;
    let zeros = [0; 512];
    while writer.end() < end {
        let left = usize::try_from(end - writer.end()).unwrap_or(zeros.len());
        writer.push(&zeros[..left.min(zeros.len())]).await?;
    }
    Ok(())
}

/// Whose run it is does not matter: shared segments lie in one place.
fn anyone() -> PartitionKey {
    PartitionKey {
        topic: gannet_wire::TopicId(0),
        partition: gannet_wire::PartitionIndex(0),
    }
}

#[cfg(test)]
mod tests;
