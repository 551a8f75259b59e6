#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;

use gannet_wire::batch::verify_stamped;

use super::*;
use crate::io::sim::{Fault, FaultKind, SimDisk, SimExecutor};
use crate::storage::SegmentId;
use crate::storage::index::OpenIndex;
use crate::storage::layout::FilePlace;
use crate::storage::sample::{KEY, TIME, stamped};
use crate::storage::segment::{FIRST_BATCH_POSITION, aligned_bytes};

const SEGMENT: SegmentRef = SegmentRef {
    id: SegmentId(5),
    shared: false,
};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A segment of [`KEY`] with one batch of two records for each length of a value.
struct World {
    executor: SimExecutor,
    disk: SimDisk,
    run: Run,
    /// The batches as they were written, and where each begins.
    batches: Vec<(u64, Vec<u8>)>,
}

/// What reading a run to its end gave: each batch's first offset, and the fences between them.
type Outcome = (Vec<u64>, Vec<Fence>);

impl World {
    fn new(values: &[usize]) -> Self {
        let batches = (0u64..)
            .zip(values)
            .map(|(index, value_bytes)| stamped(2, *value_bytes, 2 * index).to_vec());
        Self::of(batches.map(|batch| (batch, false)).collect())
    }

    /// Batches of two records, and whether a write ends behind each.
    fn of(batches: Vec<(Vec<u8>, bool)>) -> Self {
        let executor = SimExecutor::new(1);
        let disk = SimDisk::new(&executor);
        let mut bytes = vec![0; BLOCK_BYTES];
        SegmentHeader {
            id: SEGMENT.id,
            owner: Some(KEY),
        }
        .write(&mut bytes);
        let mut placed = Vec::new();
        let mut end = 0;
        for (batch, ends_write) in batches {
            placed.push((bytes.len() as u64, batch.clone()));
            bytes.extend_from_slice(&batch);
            bytes.resize(aligned_bytes(bytes.len()), 0);
            end = bytes.len() as u64;
            if ends_write {
                bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
            }
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        disk.write_file(&path(), &bytes);
        let run = Run {
            segment: SEGMENT,
            base_offset: Offset(0),
            next_offset: Offset(2 * placed.len() as u64),
            position: FIRST_BATCH_POSITION,
            end,
            max_timestamp: TIME,
            append_time: TIME,
        };
        Self {
            executor,
            disk,
            run,
            batches: placed,
        }
    }

    /// Writes the index beside the segment.
    fn with_index(self) -> Self {
        let mut index = OpenIndex::default();
        for (number, (position, _)) in (0u64..).zip(&self.batches) {
            let offsets = Offset(2 * number)..Offset(2 * number + 2);
            index.push(KEY, offsets, *position, TIME);
        }
        let index_path = DataDir::new("/data").index(Some(KEY), SEGMENT.id);
        let mut bytes = index.index().encode(FilePlace::of(&index_path));
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        self.disk.write_file(&index_path, &bytes);
        self
    }

    fn reader(&self) -> SegmentReader<SimDisk> {
        self.reader_of(64 << 10, 1 << 20)
    }

    fn reader_of(&self, chunk_bytes: usize, cache_bytes: usize) -> SegmentReader<SimDisk> {
        let data = DataDir::new("/data");
        SegmentReader::new(self.disk.clone(), data, chunk_bytes, cache_bytes, 4)
    }

    fn start(&self) -> ReadFrom<'static> {
        ReadFrom {
            place: Place::start_of(&self.run),
            offset: self.run.base_offset,
            in_sequence: false,
            behind: &[],
        }
    }

    /// Reads everything from `offset` on with a reader that knows nothing yet. All that it gives must be what was written.
    fn read_from(&self, offset: u64) -> Outcome {
        self.read_with(&self.reader(), offset, usize::MAX)
    }

    fn read_with(&self, reader: &SegmentReader<SimDisk>, offset: u64, bytes_max: usize) -> Outcome {
        let (mut bases, mut fences) = (Vec::new(), Vec::new());
        let mut from = ReadFrom {
            offset: Offset(offset),
            ..self.start()
        };
        while from.offset < self.run.next_offset {
            let read = reader.read(KEY, &self.run, from, bytes_max);
            match self.executor.block_on(read) {
                Ok(read) => {
                    for batch in &read.batches {
                        let header = verify_stamped(&batch.bytes, KEY.topic, KEY.partition);
                        let base = header.unwrap().base_offset().0;
                        let (_, written) = &self.batches[base as usize / 2];
                        assert!(batch.bytes[..] == written[..], "it is the one of {base}");
                        bases.push(base);
                    }
                    assert!(read.next.offset > from.offset, "a read goes on");
                    from = ReadFrom {
                        place: read.next,
                        offset: read.next.offset,
                        in_sequence: true,
                        behind: &[],
                    };
                }
                Err(ReadFault::Damaged(fence)) => {
                    assert!(fence.from == from.offset && fence.to > fence.from);
                    fences.push(fence);
                    // As a reader that comes again: it begins anew, and meets the same damage.
                    from = ReadFrom {
                        offset: fence.to,
                        ..self.start()
                    };
                }
                Err(error) => panic!("{error}"),
            }
        }
        (bases, fences)
    }

    fn block(&self, position: u64) -> Vec<u8> {
        let segment = self.disk.read_file(&path()).unwrap();
        segment[position as usize..][..BLOCK_BYTES].to_vec()
    }

    /// Changes bytes behind the reader's back; returns what stood there.
    fn overwrite(&self, position: u64, bytes: &[u8]) -> Vec<u8> {
        let segment = self.disk.read_file(&path()).unwrap();
        self.disk.overwrite(&path(), position, bytes);
        segment[position as usize..][..bytes.len()].to_vec()
    }

    /// Reads what is damaged from `bytes` on: all is there but the batches that have some of these bytes.
    fn assert_only_lost(&self, damaged: Range<u64>, what: &str) {
        self.assert_lost(&damaged, &(0..0), what);
    }

    /// The same with batches that have some of the bytes in `perhaps`, which may be there or not.
    fn assert_lost(&self, damaged: &Range<u64>, perhaps: &Range<u64>, what: &str) {
        let numbers = |bytes: &Range<u64>| -> Vec<u64> {
            let has = |(_, (at, batch)): &(u64, &(u64, Vec<u8>))| {
                *at < bytes.end && bytes.start < at + batch.len() as u64
            };
            let numbered = (0u64..).zip(&self.batches).filter(has);
            numbered.map(|(number, _)| 2 * number).collect()
        };
        let (lost, perhaps) = (numbers(damaged), numbers(perhaps));
        let (bases, fences) = self.read_from(0);
        let (found, certain): (Vec<u64>, Vec<u64>) =
            bases.iter().partition(|base| perhaps.contains(base));
        let kept: Vec<u64> = (0u64..)
            .zip(&self.batches)
            .map(|(number, _)| 2 * number)
            .filter(|base| !lost.contains(base) && !perhaps.contains(base))
            .collect();
        assert_eq!(certain, kept, "{what}");
        let fenced: u64 = fences.iter().map(|fence| fence.to.0 - fence.from.0).sum();
        let expected = 2 * (self.batches.len() - kept.len() - found.len()) as u64;
        assert_eq!(fenced, expected, "{what}: {fences:?}");
    }
}

fn path() -> std::path::PathBuf {
    DataDir::new("/data").segment(Some(KEY), SEGMENT.id)
}

fn fence(from: u64, to: u64) -> Fence {
    Fence {
        from: Offset(from),
        to: Offset(to),
    }
}

#[test]
fn batches_are_read_in_order() {
    assert_eq!(
        World::new(&[10, 3_000, 10]).read_from(0),
        (vec![0, 2, 4], vec![])
    );
}

#[test]
fn reading_begins_with_the_batch_that_holds_the_offset() {
    assert_eq!(World::new(&[10, 10, 10]).read_from(3), (vec![2, 4], vec![]));
}

#[test]
fn batches_that_lie_in_several_chunks_are_read_whole() {
    assert_eq!(
        World::new(&[10, 200_000, 10, 40_000, 40_000]).read_from(0),
        (vec![0, 2, 4, 6, 8], vec![])
    );
}

#[test]
fn a_read_returns_no_more_than_it_may_but_one_batch_at_least() {
    let world = World::new(&[1_000; 20]);
    let batch_bytes = world.batches[0].1.len();
    let reader = world.reader();
    for (bytes_max, count) in [(1, 1), (3 * batch_bytes, 3), (4 * batch_bytes - 1, 3)] {
        let read = reader.read(KEY, &world.run, world.start(), bytes_max);
        let read = world.executor.block_on(read).unwrap();
        assert_eq!(read.batches.len(), count);
        assert_eq!(read.next.offset, Offset(2 * count as u64));
    }
}

#[test]
fn a_damaged_batch_costs_nothing_but_itself() {
    let world = World::new(&[10, 10, 10]);
    world.disk.flip_bit(&path(), world.batches[1].0 + 90, 0);
    assert_eq!(world.read_from(0), (vec![0, 4], vec![fence(2, 4)]));
    assert_eq!(world.read_from(3), (vec![4], vec![fence(3, 4)]));
    assert_eq!(world.read_from(4), (vec![4], vec![]));
}

#[test]
fn no_flipped_bit_costs_a_neighbour_or_gives_a_wrong_record() {
    // A length with a single bit set can become that of filler.
    let round = (1..400)
        .map(|value| stamped(2, value, 2).to_vec())
        .find(|batch| batch.len() == 256);
    let batches = vec![
        (stamped(2, 9, 0).to_vec(), false),
        (round.unwrap(), false),
        (stamped(2, 30, 4).to_vec(), true),
        (stamped(2, 11, 6).to_vec(), false),
        (stamped(2, 12, 8).to_vec(), false),
    ];
    for world in [World::of(batches.clone()), World::of(batches).with_index()] {
        for position in FIRST_BATCH_POSITION..world.run.end {
            for bit in 0..8 {
                world.disk.flip_bit(&path(), position, bit);
                let what = format!("bit {bit} of the byte at {position}");
                world.assert_only_lost(position..position + 1, &what);
                world.disk.flip_bit(&path(), position, bit);
            }
        }
    }
}

#[test]
fn two_damaged_batches_do_not_cost_the_one_between_them() {
    let world = World::new(&[10; 5]);
    for batch in [1, 3] {
        // The length: nothing says where the next one begins.
        world.disk.flip_bit(&path(), world.batches[batch].0, 3);
    }
    assert_eq!(
        world.read_from(0),
        (vec![0, 4, 8], vec![fence(2, 4), fence(6, 8)])
    );
}

#[test]
fn no_sector_that_cannot_be_read_costs_more_than_the_batches_in_it() {
    let values = [1_000, 3_000, 10, 9_000, 10, 40_000, 2_000, 10, 30_000, 500];
    let blocks = World::new(&values).run.end / BLOCK_BYTES as u64;
    for block in 1..=blocks {
        let world = World::new(&values);
        let position = block * BLOCK_BYTES as u64;
        world.disk.fail_sector(&path(), position);
        let what = format!("the sector at {position}");
        // Nothing smaller than a block can be asked for.
        world.assert_only_lost(position..position + BLOCK_BYTES as u64, &what);
    }
}

/// From the first to the last byte at `position` that is another one now; `None` when all are the same.
fn changed(position: u64, before: &[u8], after: &[u8]) -> Option<Range<u64>> {
    let mut differ = (position..)
        .zip(before.iter().zip(after))
        .filter(|(_, (before, after))| before != after)
        .map(|(at, _)| at);
    let first = differ.next()?;
    Some(first..differ.last().unwrap_or(first) + 1)
}

#[test]
fn no_sector_that_was_never_written_costs_more_than_the_batches_in_it() {
    // Several batches in the last block, and filler behind a write in the middle.
    let batch = |number: u64, value| stamped(2, value, 2 * number).to_vec();
    let values = [1_000, 300, 10, 9_000, 100, 200, 100, 10, 200, 10];
    let batches: Vec<_> = (0u64..)
        .zip(values)
        .map(|(number, value)| (batch(number, value), number == 4))
        .collect();
    for world in [World::of(batches.clone()), World::of(batches).with_index()] {
        for position in (FIRST_BATCH_POSITION..world.run.end).step_by(SECTOR_BYTES) {
            let sector = world.overwrite(position, &[0; SECTOR_BYTES]);
            let Some(changed) = changed(position, &sector, &[0; SECTOR_BYTES]) else {
                continue;
            };
            world.assert_only_lost(changed, &format!("the sector at {position}"));
            world.overwrite(position, &sector);
        }
    }
}

#[test]
fn no_block_that_was_written_for_another_place_costs_more_than_the_batches_in_it() {
    // Short and long ones, of which each begins a block.
    let values = [300, 300, 5_000, 300, 9_000, 300, 300, 5_000, 300];
    let batches: Vec<_> = (0u64..)
        .zip(values)
        .map(|(number, value)| (stamped(2, value, 2 * number).to_vec(), true))
        .collect();
    for world in [World::of(batches.clone()), World::of(batches).with_index()] {
        let blocks = (FIRST_BATCH_POSITION..world.run.end).step_by(BLOCK_BYTES);
        for from in blocks.clone() {
            for to in blocks.clone().filter(|to| *to != from) {
                let misdirected = world.block(from);
                let block = world.overwrite(to, &misdirected);
                let Some(changed) = changed(to, &block, &misdirected) else {
                    continue;
                };
                world.assert_only_lost(changed, &format!("the block at {to} is that of {from}"));
                world.overwrite(to, &block);
            }
        }
    }
}

#[test]
fn what_a_damaged_batch_holds_in_its_last_block_never_passes_for_the_one_that_follows() {
    let values = [300, 9_000, 300, 300];
    let batches = (0u64..)
        .zip(values)
        .map(|(number, value)| (stamped(2, value, 2 * number).to_vec(), true))
        .collect();
    let world = World::of(batches);
    let (at, batch) = world.batches[1].clone();
    let last_block = (at + batch.len() as u64) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    assert!(
        last_block > at,
        "it ends in a block that it does not begin in"
    );
    // With whatever base offset, and nothing behind it.
    for base_offset in [2, 4, 6] {
        let mut held = stamped(2, 40, base_offset).to_vec();
        held.resize(BLOCK_BYTES, 0);
        world.disk.overwrite(&path(), last_block, &held);
        assert_eq!(world.read_from(0), (vec![0, 4, 6], vec![fence(2, 4)]));
    }
}

#[test]
fn a_write_that_went_astray_costs_what_it_covers_and_no_more() {
    // Each batch is a write of its own, but for the last three, which are one.
    let values = [300, 5_000, 300, 9_000, 300, 2_000, 7_000, 300, 40, 40, 40];
    let single = (0u64..)
        .zip(values)
        .map(|(number, value)| (stamped(2, value, 2 * number).to_vec(), number < 8))
        .collect();
    costs_what_it_covers(single, false);
}

#[test]
fn a_write_of_several_batches_that_went_astray_costs_what_lies_between_and_no_more() {
    // The last one of each is so long that the next write may cut it off wherever it stands.
    let values = [300, 300, 9_000, 300, 40, 7_000, 5_000, 40, 40, 12_000];
    let several = (0u64..)
        .zip(values)
        .map(|(number, value)| (stamped(2, value, 2 * number).to_vec(), value > 5_000))
        .collect();
    costs_what_it_covers(several, true);
}

/// Batches, and whether a write ends behind each. Every write goes to every other place. `leads_on`: whether one has batches before its last that are whole wherever they
/// stand, and lead to it.
fn costs_what_it_covers(batches: Vec<(Vec<u8>, bool)>, leads_on: bool) {
    for world in [World::of(batches.clone()), World::of(batches).with_index()] {
        let whole = world.disk.read_file(&path()).unwrap();
        let file_bytes = whole.len() as u64;
        let mut writes: Vec<u64> = world
            .batches
            .iter()
            .map(|(at, _)| *at)
            .filter(|at| at.is_multiple_of(BLOCK_BYTES as u64))
            .collect();
        writes.push(file_bytes);
        for (write, next) in writes.iter().zip(&writes[1..]) {
            let strayed = &whole[*write as usize..*next as usize];
            let last = file_bytes - strayed.len() as u64;
            for to in (FIRST_BATCH_POSITION..=last).step_by(BLOCK_BYTES) {
                if to == *write {
                    continue;
                }
                let covered = to..to + strayed.len() as u64;
                world
                    .disk
                    .overwrite(&path(), *write, &vec![0; strayed.len()]);
                world.disk.overwrite(&path(), to, strayed);
                let what = format!("the write at {write} went to {to}");
                if to < *write {
                    // The offsets may tell that it is whole where it is.
                    world.assert_lost(&covered, &(*write..*next), &what);
                } else {
                    // Nothing tells whether it went astray, or what lies between.
                    world.assert_lost(&(0..0), &(*write..covered.end), &what);
                }
                // What was in flight with it may have come later.
                world
                    .disk
                    .overwrite(&path(), *next, &whole[*next as usize..]);
                let what = format!("{what}, and what is behind it came later");
                let covered_before = if to < *write { covered.clone() } else { 0..0 };
                // What came later has cut off its last batch, whose length is believed where the others led to it.
                let believed = if leads_on && to > *write {
                    covered.end
                } else {
                    0
                };
                let perhaps = *write..(*next).max(believed);
                world.assert_lost(&covered_before, &perhaps, &what);
                world.disk.overwrite(&path(), 0, &whole);
            }
        }
    }
}

#[test]
fn a_read_that_fails_once_costs_nothing() {
    let world = World::new(&[1_000; 20]);
    for after in 0..3 {
        let fault = Fault::new(FaultKind::Read).after(after);
        world.disk.inject(fault);
        assert_eq!(world.read_from(0).1, vec![], "read {after}");
    }
}

#[test]
fn what_the_machine_lacks_is_no_damage_and_passes() {
    let world = World::new(&[10, 10]);
    let reader = world.reader();
    let errno = libc::EMFILE;
    world.disk.inject(Fault::new(FaultKind::Open { errno }));
    let read = reader.read(KEY, &world.run, world.start(), usize::MAX);
    let fault = world.executor.block_on(read).unwrap_err();
    assert!(matches!(fault, ReadFault::Storage(_)), "{fault}");
    assert_eq!(
        world.read_with(&reader, 0, usize::MAX),
        (vec![0, 2], vec![])
    );
}

#[test]
fn an_index_that_cannot_be_opened_for_now_is_not_made_again() {
    let world = World::new(&[70_000; 3]).with_index();
    let reader = world.reader();
    let errno = libc::EMFILE;
    world.disk.inject(Fault::new(FaultKind::Open { errno }));
    let sought = reader.seek(KEY, &world.run, Offset(4), None);
    assert!(matches!(
        world.executor.block_on(sought),
        Err(ReadFault::Storage(_))
    ));
    let sought = reader.seek(KEY, &world.run, Offset(4), None);
    let place = world.executor.block_on(sought).unwrap();
    assert_eq!(place.position, world.batches[2].0);
}

#[test]
fn a_length_that_reaches_behind_the_run_ends_the_read() {
    // Any bit of the last batch's length: the read must neither go on for ever nor leave the run.
    for bit in 0..32 {
        let world = World::new(&[10, 10]);
        let position = world.batches[1].0 + bit / 8;
        world.disk.flip_bit(&path(), position, (bit % 8) as u32);
        let expected = (vec![0], vec![fence(2, 4)]);
        assert_eq!(world.read_from(0), expected, "bit {bit}");
    }
}

#[test]
fn a_segment_cut_short_ends_the_read() {
    let world = World::new(&[10, 9_000]);
    world.disk.set_file_bytes(&path(), 2 * BLOCK_BYTES as u64);
    assert_eq!(world.read_from(0), (vec![0], vec![fence(2, 4)]));
}

/// A batch of two records from `base` on, of which the second is what looks like a batch of this very partition; and where its first record is.
fn carrier(forged: &[u8], base: u64) -> (Vec<u8>, usize) {
    let of = |padding: usize| {
        let mut builder = gannet_wire::batch::BatchBuilder::new(Default::default());
        for value in [&[7; 3 + 8][..3 + padding], forged] {
            builder.push(TIME, None, Some(value), &[]).unwrap();
        }
        builder
            .build(gannet_wire::batch::Compression::None, None)
            .to_vec()
    };
    let place = |bytes: &[u8], of: &[u8]| {
        let mut windows = bytes.windows(of.len());
        windows.position(|bytes| bytes == of).unwrap()
    };
    // Where it lies is the publisher's choice as well.
    let mut bytes = of((8 - place(&of(0), &forged[..80]) % 8) % 8);
    assert!(place(&bytes, &forged[..80]).is_multiple_of(8));
    let epoch = gannet_wire::LeaderEpoch(0);
    gannet_wire::batch::stamp(
        &mut bytes,
        KEY.topic,
        KEY.partition,
        Offset(base),
        TIME,
        epoch,
    );
    let first_record = place(&bytes, &[7; 3]);
    (bytes, first_record)
}

#[test]
fn a_batch_that_a_record_carries_never_passes_for_one_of_the_log() {
    // With offsets further on.
    let (carrier, _) = carrier(&stamped(2, 10, 6), 2);
    let world = World::of(vec![
        (stamped(2, 10, 0).to_vec(), false),
        (carrier, false),
        (stamped(2, 10, 4).to_vec(), false),
        (stamped(2, 11, 6).to_vec(), false),
    ]);
    world.disk.flip_bit(&path(), world.batches[1].0, 0);
    assert_eq!(world.read_from(0), (vec![0, 4, 6], vec![fence(2, 4)]));
}

#[test]
fn nothing_inside_a_damaged_batch_whose_header_is_whole_passes_for_a_batch() {
    // With offsets of the carrier's own, and nothing whole right behind it that could contradict.
    let (carrier, first_record) = carrier(&stamped(1, 10, 3), 2);
    let before = (stamped(2, 10, 0).to_vec(), false);
    let last = World::of(vec![before.clone(), (carrier.clone(), false)]);
    let neighbours = World::of(vec![
        before,
        (carrier, false),
        (stamped(2, 10, 4).to_vec(), false),
        (stamped(2, 11, 6).to_vec(), false),
    ]);
    let first_record = first_record as u64;
    for world in [&last, &neighbours] {
        world
            .disk
            .flip_bit(&path(), world.batches[1].0 + first_record, 0);
    }
    assert_eq!(last.read_from(0), (vec![0], vec![fence(2, 4)]));
    neighbours
        .disk
        .flip_bit(&path(), neighbours.batches[2].0, 0);
    assert_eq!(neighbours.read_from(0), (vec![0, 6], vec![fence(2, 6)]));
}

#[test]
fn a_batch_of_another_partition_is_not_read() {
    let world = World::new(&[10]);
    let other = PartitionKey {
        partition: gannet_wire::PartitionIndex(KEY.partition.0 + 1),
        ..KEY
    };
    let bytes = world.disk.read_file(&path()).unwrap();
    world.disk.write_file(
        &DataDir::new("/data").segment(Some(other), SEGMENT.id),
        &bytes,
    );
    let reader = world.reader();
    let read = reader.read(other, &world.run, world.start(), usize::MAX);
    assert!(matches!(
        world.executor.block_on(read),
        Err(ReadFault::Damaged(_))
    ));
}

#[test]
fn a_missing_index_is_made_again_from_the_batches() {
    let world = World::new(&[70_000, 70_000, 70_000]);
    let reader = world.reader();
    let sought = reader.seek(KEY, &world.run, Offset(4), None);
    let place = world.executor.block_on(sought).unwrap();
    assert_eq!(place.position, world.batches[2].0);
}

#[test]
fn an_index_is_made_again_of_what_stands_behind_damage_too() {
    let world = World::new(&[70_000; 5]);
    world.disk.flip_bit(&path(), world.batches[1].0 + 90, 0);
    let reader = world.reader();
    let sought = reader.seek(KEY, &world.run, Offset(8), None);
    let place = world.executor.block_on(sought).unwrap();
    assert_eq!(place.position, world.batches[4].0);
}

#[test]
fn an_index_made_again_for_one_run_leaves_those_of_the_others() {
    let world = World::new(&[70_000; 6]);
    let reader = world.reader_of(64 << 10, 0);
    let middle = world.batches[3].0;
    let halves = [
        Run {
            next_offset: Offset(6),
            end: middle,
            ..world.run
        },
        Run {
            base_offset: Offset(6),
            position: middle,
            ..world.run
        },
    ];
    let seek = |run: &Run| {
        let last = Offset(run.next_offset.0 - 1);
        let sought = reader.seek(KEY, run, last, None);
        world.executor.block_on(sought).unwrap();
    };
    halves.iter().for_each(seek);
    let reads = world.disk.counts().reads;
    halves.iter().for_each(seek);
    assert_eq!(world.disk.counts().reads, reads, "both are known");
}

#[test]
fn small_reads_take_each_chunk_from_the_disk_once() {
    let world = World::new(&[1_000; 200]);
    let reader = world.reader();
    let (bases, fences) = world.read_with(&reader, 0, 4_000);
    assert_eq!((bases.len(), fences.len()), (200, 0));
    let chunks = world.run.end.div_ceil(64 << 10);
    let header = 1;
    assert_eq!(world.disk.counts().reads, chunks + header);
}

#[test]
fn runs_that_follow_one_another_in_a_segment_take_each_chunk_from_the_disk_once() {
    let world = World::new(&[1_000; 200]);
    let runs: Vec<Run> = (0..10)
        .map(|number| {
            let (first, behind) = (20 * number, 20 * number + 20);
            let end = world.batches.get(behind).map(|(position, _)| *position);
            Run {
                base_offset: Offset(2 * first as u64),
                next_offset: Offset(2 * behind as u64),
                position: world.batches[first].0,
                end: end.unwrap_or(world.run.end),
                ..world.run
            }
        })
        .collect();
    let reader = world.reader();
    let mut bases = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let mut place = Place::start_of(run);
        while place.offset < run.next_offset {
            let from = ReadFrom {
                place,
                offset: place.offset,
                in_sequence: number > 0,
                // Not many more than the chunks that are read ahead need.
                behind: &runs[number + 1..runs.len().min(number + 9)],
            };
            let read = reader.read(KEY, run, from, 8_000);
            let read = world.executor.block_on(read).unwrap();
            bases.extend(read.batches.iter().map(|batch| batch.position));
            place = read.next;
        }
    }
    assert!(
        bases
            .iter()
            .eq(world.batches.iter().map(|(position, _)| position))
    );
    let chunks = world.run.end.div_ceil(64 << 10);
    let header = 1;
    assert_eq!(world.disk.counts().reads, chunks + header);
}

#[test]
fn a_reader_that_goes_on_finds_the_beginning_of_the_next_run_read() {
    let world = World::new(&[20_000; 20]);
    let reader = world.reader();
    let middle = world.batches[10].0;
    let first = Run {
        next_offset: Offset(20),
        end: middle,
        ..world.run
    };
    let second = Run {
        base_offset: Offset(20),
        position: middle,
        ..world.run
    };
    let from = ReadFrom {
        place: Place {
            offset: Offset(18),
            position: world.batches[9].0,
        },
        offset: Offset(18),
        in_sequence: true,
        behind: &[second],
    };
    let read = reader.read(KEY, &first, from, 1);
    world.executor.block_on(read).unwrap();
    world.executor.run_until_idle();
    let reads = world.disk.counts().reads;
    let from = ReadFrom {
        place: Place::start_of(&second),
        offset: Offset(20),
        in_sequence: true,
        behind: &[],
    };
    reader.set_writes_wait(true);
    // The second batch lies in a chunk of which the first run has nothing.
    let read = reader.read(KEY, &second, from, 100_000);
    let read = world.executor.block_on(read).unwrap();
    assert_eq!(read.batches.len(), 2);
    assert_eq!(world.disk.counts().reads, reads, "it is in memory");
}

#[test]
fn readers_who_want_the_same_chunk_at_once_share_one_read() {
    let world = World::new(&[1_000; 20]);
    let reader = world.reader();
    // The file is open, so that only the chunk is to be read.
    let file = reader.file(KEY, SEGMENT);
    world.executor.block_on(file).unwrap();
    let reads = world.disk.counts().reads;
    let read = || reader.read(KEY, &world.run, world.start(), 1);
    let both = futures_util::future::join(read(), read());
    let (one, other) = world.executor.block_on(both);
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(world.disk.counts().reads, reads + 1);
}

#[test]
fn a_reader_that_goes_on_finds_the_next_chunks_read() {
    let world = World::new(&[20_000; 20]);
    let reader = world.reader();
    let first = reader.read(KEY, &world.run, world.start(), 1);
    let first = world.executor.block_on(first).unwrap();
    let reads = world.disk.counts().reads;
    let from = ReadFrom {
        place: first.next,
        offset: first.next.offset,
        in_sequence: true,
        behind: &[],
    };
    let second = reader.read(KEY, &world.run, from, 1);
    world.executor.block_on(second).unwrap();
    world.executor.run_until_idle();
    // The batch reaches into the second chunk, and behind that three are on their way.
    assert_eq!(world.disk.counts().reads - reads, 4);
}

#[test]
fn reading_ahead_takes_no_more_than_half_of_the_cache() {
    let world = World::new(&[20_000; 20]);
    let reader = world.reader_of(64 << 10, 4 * (64 << 10));
    let from = ReadFrom {
        in_sequence: true,
        ..world.start()
    };
    let read = reader.read(KEY, &world.run, from, 1);
    world.executor.block_on(read).unwrap();
    world.executor.run_until_idle();
    let header_and_chunk = 2;
    assert_eq!(world.disk.counts().reads - header_and_chunk, 2);
}

#[test]
fn while_writes_wait_nothing_is_read_ahead() {
    let world = World::new(&[20_000; 20]);
    let reader = world.reader_of(64 << 10, 16 * (64 << 10));
    let from = ReadFrom {
        in_sequence: true,
        ..world.start()
    };
    let reads = |writes_wait| {
        reader.set_writes_wait(writes_wait);
        let before = world.disk.counts().reads;
        let read = reader.read(KEY, &world.run, from, 1);
        world.executor.block_on(read).unwrap();
        world.executor.run_until_idle();
        world.disk.counts().reads - before
    };
    let header_and_chunk = 2;
    assert_eq!(reads(true), header_and_chunk);
    let ahead = READ_AHEAD_CHUNKS;
    assert_eq!(reads(false), ahead as u64, "the chunk itself is known");
}

#[test]
fn a_run_that_has_grown_is_read_to_its_new_end() {
    let world = World::new(&[10, 10, 10]);
    let grown = world.disk.read_file(&path()).unwrap();
    let short = Run {
        next_offset: Offset(2),
        end: world.batches[1].0,
        ..world.run
    };
    // What is not durable yet may read as anything.
    let behind = vec![0xAA; grown.len() - short.end as usize];
    world.disk.overwrite(&path(), short.end, &behind);
    let reader = world.reader();
    let read = reader.read(KEY, &short, world.start(), usize::MAX);
    let read = world.executor.block_on(read).unwrap();
    assert_eq!(read.next.offset, Offset(2));
    world
        .disk
        .overwrite(&path(), short.end, &grown[short.end as usize..]);
    assert_eq!(
        world.read_with(&reader, 0, usize::MAX),
        (vec![0, 2, 4], vec![])
    );
}

#[test]
fn a_look_up_by_append_time_reads_a_few_batches_only() {
    let world = World::of(
        (0u64..64)
            .map(|number| {
                let mut batch = stamped(2, 40_000, 2 * number).to_vec();
                let epoch = gannet_wire::LeaderEpoch(0);
                let (offset, time) = (Offset(2 * number), Timestamp(number as i64));
                gannet_wire::batch::stamp(
                    &mut batch,
                    KEY.topic,
                    KEY.partition,
                    offset,
                    time,
                    epoch,
                );
                (batch, false)
            })
            .collect(),
    )
    .with_index();
    for wanted in [0, 1, 17, 63] {
        let reader = world.reader();
        let reads = world.disk.counts().reads;
        let sought = reader.seek_append_time(KEY, &world.run, Timestamp(wanted), None);
        let place = world.executor.block_on(sought).unwrap();
        // A point for each batch here: the last one before the first that is wanted.
        assert_eq!(place.offset, Offset(2 * (wanted as u64).saturating_sub(1)));
        assert!(world.disk.counts().reads - reads < 20, "far from 80 chunks");
    }
}
