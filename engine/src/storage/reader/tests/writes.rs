//! Writes that never reached the disk, or reached another place: they cost what they should have written and what they cover.

use super::*;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

impl World {
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

    /// While `bytes` stand at `position`, all is there but the batches that have some of the bytes that are other ones now.
    fn assert_overwriting_costs(&self, position: u64, bytes: &[u8], what: &str) {
        let before = self.overwrite(position, bytes);
        let Some(changed) = changed(position, &before, bytes) else {
            return;
        };
        self.assert_only_lost(changed, what);
        self.overwrite(position, &before);
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
    let values = [1_000, 300, 10, 9_000, 100, 200, 100, 10, 200, 10];
    let batches = batches_of(&values, |number, _| number == 4);
    for world in World::without_and_with_index(batches) {
        for position in (FIRST_BATCH_POSITION..world.run.end).step_by(SECTOR_BYTES) {
            let what = format!("the sector at {position}");
            world.assert_overwriting_costs(position, &[0; SECTOR_BYTES], &what);
        }
    }
}

#[test]
fn no_block_that_was_written_for_another_place_costs_more_than_the_batches_in_it() {
    // Short and long ones, of which each begins a block.
    let values = [300, 300, 5_000, 300, 9_000, 300, 300, 5_000, 300];
    let batches = batches_of(&values, |_, _| true);
    for world in World::without_and_with_index(batches) {
        let blocks = (FIRST_BATCH_POSITION..world.run.end).step_by(BLOCK_BYTES);
        for from in blocks.clone() {
            for to in blocks.clone().filter(|to| *to != from) {
                let what = format!("the block at {to} is that of {from}");
                world.assert_overwriting_costs(to, &world.block(from), &what);
            }
        }
    }
}

#[test]
fn a_write_that_went_astray_costs_what_it_covers_and_no_more() {
    // Each batch is a write of its own, but for the last three, which are one.
    let values = [300, 5_000, 300, 9_000, 300, 2_000, 7_000, 300, 40, 40, 40];
    let single = batches_of(&values, |number, _| number < 8);
    costs_what_it_covers(single, false);
}

#[test]
fn a_write_of_several_batches_that_went_astray_costs_what_lies_between_and_no_more() {
    // The last one of each is so long that the next write may cut it off wherever it stands.
    let values = [300, 300, 9_000, 300, 40, 7_000, 5_000, 40, 40, 12_000];
    let several = batches_of(&values, |_, value_bytes| value_bytes > 5_000);
    costs_what_it_covers(several, true);
}

/// Every write goes to every other place. `leads_on`: whether one has batches before its last that are whole wherever they stand, and lead to it.
fn costs_what_it_covers(batches: Written, leads_on: bool) {
    for world in World::without_and_with_index(batches) {
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
