//! Batches are read whole and in order, from the offset that is wanted to the end of the run, and no further.

use super::*;

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
        let read = world.read(&reader, &world.run, world.start(), bytes_max);
        let read = read.unwrap();
        assert_eq!(read.batches.len(), count);
        assert_eq!(read.next.offset, Offset(2 * count as u64));
    }
}

#[test]
fn a_run_that_has_grown_is_read_to_its_new_end() {
    let world = World::new(&[10, 10, 10]);
    let grown = world.disk.read_file(&path()).unwrap();
    let short = world.run_of(0..1);
    // What is not durable yet may read as anything.
    let behind = vec![0xAA; grown.len() - short.end as usize];
    world.disk.overwrite(&path(), short.end, &behind);
    let reader = world.reader();
    let read = world.read(&reader, &short, world.start(), usize::MAX);
    assert_eq!(read.unwrap().next.offset, Offset(2));
    world
        .disk
        .overwrite(&path(), short.end, &grown[short.end as usize..]);
    assert_eq!(
        world.read_with(&reader, 0, usize::MAX),
        (vec![0, 2, 4], vec![])
    );
}
