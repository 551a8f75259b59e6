//! A chunk is taken from the disk once, whoever wants it and however often.

use super::*;

#[test]
fn small_reads_take_each_chunk_from_the_disk_once() {
    let world = World::new(&[1_000; 200]);
    let reader = world.reader();
    let (bases, fences) = world.read_with(&reader, 0, 4_000);
    assert_eq!((bases.len(), fences.len()), (200, 0));
    assert_eq!(world.disk_reads(), world.reads_of_all());
}

#[test]
fn runs_that_follow_one_another_in_a_segment_take_each_chunk_from_the_disk_once() {
    let world = World::new(&[1_000; 200]);
    let runs: Vec<Run> = (0..10)
        .map(|number| world.run_of(20 * number..20 * number + 20))
        .collect();
    let reader = world.reader();
    let mut positions = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        // Not many more than the chunks that are read ahead need.
        let behind = &runs[number + 1..runs.len().min(number + 9)];
        let mut place = Place::start_of(run);
        while place.offset < run.next_offset {
            let from = ReadFrom {
                in_sequence: number > 0,
                ..reading_on(place, behind)
            };
            let read = world.read(&reader, run, from, 8_000).unwrap();
            positions.extend(read.batches.iter().map(|batch| batch.position));
            place = read.next;
        }
    }
    assert!(
        positions
            .iter()
            .eq(world.batches.iter().map(|(position, _)| position))
    );
    assert_eq!(world.disk_reads(), world.reads_of_all());
}

#[test]
fn readers_who_want_the_same_chunk_at_once_share_one_read() {
    let world = World::new(&[1_000; 20]);
    let reader = world.reader();
    // The file is open, so that only the chunk is to be read.
    let file = reader.file(KEY, SEGMENT);
    world.executor.block_on(file).unwrap();
    let reads = world.disk_reads();
    let read = || reader.read(KEY, &world.run, world.start(), 1);
    let both = futures_util::future::join(read(), read());
    let (one, other) = world.executor.block_on(both);
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(world.disk_reads(), reads + 1);
}
