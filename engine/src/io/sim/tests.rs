#![allow(clippy::unwrap_used, reason = "tests")]

mod contents;
mod executor;
mod faults;
mod length;
mod lives;
mod names;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::*;
use crate::io::{BLOCK_BYTES, Clock, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode, Spawn};

const SEEDS: std::ops::Range<u64> = 0..64;

fn filled(byte: u8, blocks: usize) -> DiskBuffer {
    let mut buffer = DiskBufferMut::heap(blocks * BLOCK_BYTES);
    buffer.fill(byte);
    buffer.freeze()
}

fn world(seed: u64) -> (SimExecutor, SimDisk) {
    let executor = SimExecutor::new(seed);
    let disk = SimDisk::new(&executor);
    (executor, disk)
}

fn a() -> &'static Path {
    Path::new("/data/a")
}

/// A world with a durable file of two blocks of ones at [`a`].
fn world_with_file(seed: u64) -> (SimExecutor, SimDisk) {
    let (executor, disk) = world(seed);
    disk.write_file(a(), &[1; 2 * BLOCK_BYTES]);
    (executor, disk)
}

async fn write(disk: &SimDisk, mode: OpenMode, position: u64, buffer: &DiskBuffer) -> SimFile {
    let file = disk.open(a(), mode).await.unwrap();
    file.write_at(position, buffer).await.unwrap();
    file
}

fn errno(result: std::io::Result<()>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// What the first block holds after a power cut, over all seeds.
fn outcomes(run: impl AsyncFn(&SimDisk)) -> BTreeSet<Vec<u8>> {
    SEEDS
        .map(|seed| {
            let (executor, disk) = world_with_file(seed);
            executor.block_on(run(&disk));
            executor.crash();
            disk.crash(CrashPolicy::Any);
            let mut sectors = disk.read_file(a()).unwrap();
            sectors.truncate(BLOCK_BYTES);
            let sectors: Vec<u8> = sectors
                .chunks(512)
                .map(|sector| {
                    assert!(
                        sector.iter().all(|byte| *byte == sector[0]),
                        "a torn sector"
                    );
                    sector[0]
                })
                .collect();
            sectors
        })
        .collect()
}
