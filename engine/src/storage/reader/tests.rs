//! Reading from a segment on the simulated disk.

#![allow(clippy::unwrap_used, reason = "tests")]

mod damage;
mod forged;
mod look_up;
mod order;
mod read_ahead;
mod sharing;
mod writes;

use std::ops::Range;

use gannet_wire::batch::verify_stamped;

use super::*;
use crate::io::sim::{SimDisk, SimExecutor};
use crate::storage::SegmentId;
use crate::storage::index::OpenIndex;
use crate::storage::layout::FilePlace;
use crate::storage::sample::{KEY, TIME, stamped};
use crate::storage::segment::{FIRST_BATCH_POSITION, aligned_bytes};

const SEGMENT: SegmentRef = SegmentRef {
    id: SegmentId(5),
    shared: false,
};

/// Of every reader here.
const CHUNK_BYTES: usize = 64 << 10;

/// A segment of [`KEY`] with one batch of two records for each length of a value.
struct World {
    executor: SimExecutor,
    disk: SimDisk,
    run: Run,
    /// The batches as they were written, and where each begins.
    batches: Vec<(u64, Vec<u8>)>,
}

/// Batches of two records, and whether a write ends behind each.
type Written = Vec<(Vec<u8>, bool)>;

/// What reading a run to its end gave: each batch's first offset, and the fences between them.
type Outcome = (Vec<u64>, Vec<Fence>);

impl World {
    fn new(values: &[usize]) -> Self {
        Self::of(batches_of(values, |_, _| false))
    }

    fn of(batches: Written) -> Self {
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

    /// Batches that are one write.
    fn of_one_write(batches: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self::of(batches.into_iter().map(|batch| (batch, false)).collect())
    }

    /// The same batches without an index and with one.
    fn without_and_with_index(batches: Written) -> [Self; 2] {
        [Self::of(batches.clone()), Self::of(batches).with_index()]
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
        self.reader_of(1 << 20)
    }

    fn reader_of(&self, cache_bytes: usize) -> SegmentReader<SimDisk> {
        let data = DataDir::new("/data");
        SegmentReader::new(self.disk.clone(), data, CHUNK_BYTES, cache_bytes, 4)
    }

    /// A run with these of the batches only.
    fn run_of(&self, batches: Range<usize>) -> Run {
        let behind = self.batches.get(batches.end);
        Run {
            base_offset: Offset(2 * batches.start as u64),
            next_offset: Offset(2 * batches.end as u64),
            position: self.batches[batches.start].0,
            end: behind.map_or(self.run.end, |(position, _)| *position),
            ..self.run
        }
    }

    fn start(&self) -> ReadFrom<'static> {
        ReadFrom {
            in_sequence: false,
            ..reading_on(Place::start_of(&self.run), &[])
        }
    }

    /// Reads once.
    fn read(
        &self,
        reader: &SegmentReader<SimDisk>,
        run: &Run,
        from: ReadFrom<'_>,
        bytes_max: usize,
    ) -> Result<SegmentRead, ReadFault> {
        self.executor
            .block_on(reader.read(KEY, run, from, bytes_max))
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
            match self.read(reader, &self.run, from, bytes_max) {
                Ok(read) => {
                    for batch in &read.batches {
                        let header = verify_stamped(&batch.bytes, KEY.topic, KEY.partition);
                        let base = header.unwrap().base_offset().0;
                        let (_, written) = &self.batches[base as usize / 2];
                        assert!(batch.bytes[..] == written[..], "it is the one of {base}");
                        bases.push(base);
                    }
                    assert!(read.next.offset > from.offset, "a read goes on");
                    from = reading_on(read.next, &[]);
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

    /// How often the disk was read so far.
    fn disk_reads(&self) -> u64 {
        self.disk.counts().reads
    }

    /// How often it is read for the whole run, each chunk once.
    fn reads_of_all(&self) -> u64 {
        let header = 1;
        header + self.run.end.div_ceil(CHUNK_BYTES as u64)
    }

    /// Flips a bit of that byte of a batch.
    fn flip(&self, batch: usize, byte: u64, bit: u32) {
        self.disk
            .flip_bit(&path(), self.batches[batch].0 + byte, bit);
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

/// A batch of two records.
fn pair(value_bytes: usize, base_offset: u64) -> Vec<u8> {
    stamped(2, value_bytes, base_offset).to_vec()
}

/// A batch for each length of a value. `ends_write`: whether a write ends behind the one with this number and length.
fn batches_of(values: &[usize], ends_write: impl Fn(usize, usize) -> bool) -> Written {
    let numbered = values.iter().enumerate();
    numbered
        .map(|(number, value_bytes)| {
            let batch = pair(*value_bytes, 2 * number as u64);
            (batch, ends_write(number, *value_bytes))
        })
        .collect()
}

/// From a place that a reader has come to by reading.
fn reading_on(place: Place, behind: &[Run]) -> ReadFrom<'_> {
    ReadFrom {
        place,
        offset: place.offset,
        in_sequence: true,
        behind,
    }
}

fn fence(from: u64, to: u64) -> Fence {
    Fence {
        from: Offset(from),
        to: Offset(to),
    }
}
