//! What lies inside a damaged batch never passes for a batch of the log, whatever it looks like: a publisher chooses it.

use gannet_wire::LeaderEpoch;
use gannet_wire::batch::{BatchBuilder, BatchLimits, Compression, stamp};

use super::*;

/// A batch of two records from `base` on, of which the second is what looks like a batch of this very partition; and where its first record is.
fn carrier(forged: &[u8], base: u64) -> (Vec<u8>, u64) {
    let of = |padding: usize| {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        for value in [&[7; 3 + 8][..3 + padding], forged] {
            builder.push(TIME, None, Some(value), &[]).unwrap();
        }
        builder.build(Compression::None, None).to_vec()
    };
    let place = |bytes: &[u8], of: &[u8]| {
        let mut windows = bytes.windows(of.len());
        windows.position(|bytes| bytes == of).unwrap()
    };
    // Where it lies is the publisher's choice as well.
    let mut bytes = of((8 - place(&of(0), &forged[..80]) % 8) % 8);
    assert!(place(&bytes, &forged[..80]).is_multiple_of(8));
    let epoch = LeaderEpoch(0);
    stamp(
        &mut bytes,
        KEY.topic,
        KEY.partition,
        Offset(base),
        TIME,
        epoch,
    );
    let first_record = place(&bytes, &[7; 3]);
    (bytes, first_record as u64)
}

#[test]
fn what_a_damaged_batch_holds_in_its_last_block_never_passes_for_the_one_that_follows() {
    let world = World::of(batches_of(&[300, 9_000, 300, 300], |_, _| true));
    let (at, batch) = world.batches[1].clone();
    let last_block = (at + batch.len() as u64) / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    assert!(
        last_block > at,
        "it ends in a block that it does not begin in"
    );
    // With whatever base offset, and nothing behind it.
    for base_offset in [2, 4, 6] {
        let mut held = pair(40, base_offset);
        held.resize(BLOCK_BYTES, 0);
        world.disk.overwrite(&path(), last_block, &held);
        assert_eq!(world.read_from(0), (vec![0, 4, 6], vec![fence(2, 4)]));
    }
}

#[test]
fn a_batch_that_a_record_carries_never_passes_for_one_of_the_log() {
    // With offsets further on.
    let (carrier, _) = carrier(&pair(10, 6), 2);
    let world = World::of_one_write([pair(10, 0), carrier, pair(10, 4), pair(11, 6)]);
    world.flip(1, 0, 0);
    assert_eq!(world.read_from(0), (vec![0, 4, 6], vec![fence(2, 4)]));
}

#[test]
fn nothing_inside_a_damaged_batch_whose_header_is_whole_passes_for_a_batch() {
    // With offsets of the carrier's own, and nothing whole right behind it that could contradict.
    let (carrier, first_record) = carrier(&stamped(1, 10, 3), 2);
    let last = World::of_one_write([pair(10, 0), carrier.clone()]);
    let neighbours = World::of_one_write([pair(10, 0), carrier, pair(10, 4), pair(11, 6)]);
    for world in [&last, &neighbours] {
        world.flip(1, first_record, 0);
    }
    assert_eq!(last.read_from(0), (vec![0], vec![fence(2, 4)]));
    neighbours.flip(2, 0, 0);
    assert_eq!(neighbours.read_from(0), (vec![0, 6], vec![fence(2, 6)]));
}
