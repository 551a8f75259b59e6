//! Who reads on and on finds the next chunks read, in bounds.

use super::*;

impl World {
    /// How often the disk is read for a batch of the run, with what is read ahead of it.
    fn reads_for(&self, reader: &SegmentReader<SimDisk>, from: ReadFrom<'_>) -> u64 {
        let before = self.disk_reads();
        self.read(reader, &self.run, from, 1).unwrap();
        self.executor.run_until_idle();
        self.disk_reads() - before
    }

    /// From the first batch, by who comes from before it.
    fn start_in_sequence(&self) -> ReadFrom<'static> {
        reading_on(Place::start_of(&self.run), &[])
    }
}

#[test]
fn a_reader_that_goes_on_finds_the_next_chunks_read() {
    let world = World::new(&[20_000; 20]);
    let reader = world.reader();
    let first = world.read(&reader, &world.run, world.start(), 1).unwrap();
    // The batch reaches into the second chunk, and behind that three are on their way.
    assert_eq!(world.reads_for(&reader, reading_on(first.next, &[])), 4);
}

#[test]
fn a_reader_that_goes_on_finds_the_beginning_of_the_next_run_read() {
    let world = World::new(&[20_000; 20]);
    let reader = world.reader();
    let (first, second) = (world.run_of(0..10), world.run_of(10..20));
    let last = Place::start_of(&world.run_of(9..10));
    world
        .read(&reader, &first, reading_on(last, &[second]), 1)
        .unwrap();
    world.executor.run_until_idle();
    let reads = world.disk_reads();
    reader.set_writes_wait(true);
    // The second batch lies in a chunk of which the first run has nothing.
    let from = reading_on(Place::start_of(&second), &[]);
    let read = world.read(&reader, &second, from, 100_000).unwrap();
    assert_eq!(read.batches.len(), 2);
    assert_eq!(world.disk_reads(), reads, "it is in memory");
}

#[test]
fn reading_ahead_takes_no_more_than_half_of_the_cache() {
    let world = World::new(&[20_000; 20]);
    let reader = world.reader_of(4 * CHUNK_BYTES);
    let header_and_chunk = 2;
    let reads = world.reads_for(&reader, world.start_in_sequence());
    assert_eq!(reads - header_and_chunk, 2);
}

#[test]
fn while_writes_wait_nothing_is_read_ahead() {
    let world = World::new(&[20_000; 20]);
    let reader = world.reader_of(16 * CHUNK_BYTES);
    let reads = |writes_wait| {
        reader.set_writes_wait(writes_wait);
        world.reads_for(&reader, world.start_in_sequence())
    };
    let header_and_chunk = 2;
    assert_eq!(reads(true), header_and_chunk);
    let ahead = READ_AHEAD_CHUNKS;
    assert_eq!(reads(false), ahead as u64, "the chunk itself is known");
}
