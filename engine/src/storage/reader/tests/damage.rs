//! Damage costs the batches that have it and no others, and a failure that passes is none.

use super::*;
use crate::io::sim::{Fault, FaultKind};

#[test]
fn a_damaged_batch_costs_nothing_but_itself() {
    let world = World::new(&[10, 10, 10]);
    world.flip(1, 90, 0);
    assert_eq!(world.read_from(0), (vec![0, 4], vec![fence(2, 4)]));
    assert_eq!(world.read_from(3), (vec![4], vec![fence(3, 4)]));
    assert_eq!(world.read_from(4), (vec![4], vec![]));
}

#[test]
fn no_flipped_bit_costs_a_neighbour_or_gives_a_wrong_record() {
    // A length with a single bit set can become that of filler.
    let round = (1..400)
        .map(|value| pair(value, 2))
        .find(|batch| batch.len() == 256);
    let batches = vec![
        (pair(9, 0), false),
        (round.unwrap(), false),
        (pair(30, 4), true),
        (pair(11, 6), false),
        (pair(12, 8), false),
    ];
    for world in World::without_and_with_index(batches) {
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
        world.flip(batch, 0, 3);
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

#[test]
fn a_length_that_reaches_behind_the_run_ends_the_read() {
    // Any bit of the last batch's length: the read must neither go on for ever nor leave the run.
    for bit in 0..32 {
        let world = World::new(&[10, 10]);
        world.flip(1, bit / 8, (bit % 8) as u32);
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
    let read = world.read(&reader, &world.run, world.start(), usize::MAX);
    let fault = read.unwrap_err();
    assert!(matches!(fault, ReadFault::Storage(_)), "{fault}");
    assert_eq!(
        world.read_with(&reader, 0, usize::MAX),
        (vec![0, 2], vec![])
    );
}
