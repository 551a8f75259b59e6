//! The disk's synced write and its sequential bandwidth, past the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::latency::{LatencyHistogram, LatencySummary, nanoseconds};

const BLOCK_BYTES: usize = 4096;
const LARGE_BLOCK_BYTES: usize = 1 << 20;
/// Room for synced writes one behind the other; they start over at its end.
const SYNC_FILE_BYTES: u64 = 64 << 20;
/// Writes in flight when the bandwidth is measured.
const BANDWIDTH_DEPTH: u64 = 4;
/// ... and transfers in flight when it is measured both ways.
const SEQUENTIAL_DEPTH: u64 = 8;

/// Why the disk could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The filesystem refuses O_DIRECT.
    #[error(
        "{directory} does not take O_DIRECT writes, which the broker needs: put the data on a disk with ext4 or xfs"
    )]
    NoDirect {
        /// The directory.
        directory: PathBuf,
    },
    /// Anything else.
    #[error("measuring the disk in {directory}: {source}")]
    Io {
        /// The directory.
        directory: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// One 4 KiB O_DIRECT + O_DSYNC write after the other, over blocks written before, in a temporary file in `directory`.
///
/// # Errors
/// [`DiskError`].
pub fn sync_write_latency(
    directory: &Path,
    duration: Duration,
) -> Result<LatencyHistogram, DiskError> {
    measured_in(directory, |file_path| {
        write_ahead(file_path, SYNC_FILE_BYTES)?;
        let file = open_direct(file_path, OFlags::DSYNC)?;
        let block = AlignedBlock::new(BLOCK_BYTES);
        let mut histogram = LatencyHistogram::default();
        let start = Instant::now();
        let mut position = 0;
        while start.elapsed() < duration {
            let started = Instant::now();
            file.write_all_at(block.bytes(), position)?;
            histogram.record(nanoseconds(started.elapsed()));
            position = (position + BLOCK_BYTES as u64) % SYNC_FILE_BYTES;
        }
        Ok(histogram)
    })
}

/// How a disk takes synced writes of one size, so many at once.
#[derive(Clone, Debug)]
pub struct SyncWrites {
    /// The length of each.
    pub block_bytes: u64,
    /// How many were under way.
    pub depth: u32,
    /// How long each took.
    pub latency_us: LatencySummary,
    /// How many there were a second.
    pub writes_per_s: f64,
}

impl SyncWrites {
    /// Bytes a second.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        self.writes_per_s * self.block_bytes as f64
    }
}

/// O_DIRECT + O_DSYNC writes of each of these sizes (multiples of 4 KiB, 1 MiB at most) and with each of these numbers under way, over blocks written before, in a temporary file in `directory`;
/// each for about that long.
///
/// # Errors
/// [`DiskError`].
pub fn sync_writes(
    directory: &Path,
    blocks_bytes: &[u64],
    depths: &[u32],
    each: Duration,
) -> Result<Vec<SyncWrites>, DiskError> {
    measured_in(directory, |file_path| {
        write_ahead(file_path, SYNC_FILE_BYTES)?;
        let mut measured = Vec::new();
        for &block_bytes in blocks_bytes {
            for &depth in depths {
                measured.push(sync_writes_of(file_path, block_bytes, depth, each)?);
            }
        }
        Ok(measured)
    })
}

fn sync_writes_of(
    file_path: &Path,
    block_bytes: u64,
    depth: u32,
    each: Duration,
) -> io::Result<SyncWrites> {
    let blocks = (SYNC_FILE_BYTES / block_bytes.max(1)).max(1);
    let next = AtomicU64::new(0);
    let start = Instant::now();
    let write_some = || -> io::Result<LatencyHistogram> {
        let file = open_direct(file_path, OFlags::DSYNC)?;
        let block = AlignedBlock::new(usize::try_from(block_bytes).unwrap_or(BLOCK_BYTES));
        let mut histogram = LatencyHistogram::default();
        // One at least, so that there is a figure however little time there is.
        while histogram.is_empty() || start.elapsed() < each {
            let position = next.fetch_add(1, Ordering::Relaxed) % blocks * block_bytes;
            let started = Instant::now();
            file.write_all_at(block.bytes(), position)?;
            histogram.record(nanoseconds(started.elapsed()));
        }
        Ok(histogram)
    };
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..depth).map(|_| scope.spawn(write_some)).collect();
        threads
            .into_iter()
            .try_fold(LatencyHistogram::default(), |mut all, thread| {
                let one = thread
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a thread at the disk panicked")));
                all.merge(&one?);
                Ok::<_, io::Error>(all)
            })
    })?;
    let latency_us = all.summary();
    Ok(SyncWrites {
        block_bytes,
        depth,
        writes_per_s: latency_us.count as f64 / start.elapsed().as_secs_f64(),
        latency_us,
    })
}

/// Writes `file_bytes` in blocks of 1 MiB with O_DIRECT, one behind the other with several in flight, over blocks written before; gives bytes a second, the sync at the end included.
///
/// # Errors
/// [`DiskError`].
pub fn write_bandwidth(directory: &Path, file_bytes: u64) -> Result<f64, DiskError> {
    let blocks = (file_bytes / LARGE_BLOCK_BYTES as u64).max(BANDWIDTH_DEPTH);
    measured_in(directory, |file_path| {
        write_ahead(file_path, blocks * LARGE_BLOCK_BYTES as u64)?;
        let start = Instant::now();
        write_blocks(file_path, blocks)?;
        open_direct(file_path, OFlags::empty())?.sync_data()?;
        Ok((blocks * LARGE_BLOCK_BYTES as u64) as f64 / start.elapsed().as_secs_f64())
    })
}

/// How fast the disk takes and gives large blocks in order, in bytes a second.
#[derive(Clone, Copy, Debug)]
pub struct SequentialBandwidth {
    /// Writes over blocks written before, the sync at the end included.
    pub write: f64,
    /// Reads of the same blocks.
    pub read: f64,
}

/// Writes and then reads a file of `file_bytes` in blocks of 1 MiB with O_DIRECT, in order, eight in flight, over and over for `duration` each way.
///
/// # Errors
/// [`DiskError`].
pub fn sequential_bandwidth(
    directory: &Path,
    file_bytes: u64,
    duration: Duration,
) -> Result<SequentialBandwidth, DiskError> {
    let blocks = (file_bytes / LARGE_BLOCK_BYTES as u64).max(SEQUENTIAL_DEPTH);
    measured_in(directory, |file_path| {
        write_ahead(file_path, blocks * LARGE_BLOCK_BYTES as u64)?;
        let start = Instant::now();
        // At least one transfer, so that there is a figure however little time there is.
        let on_time = |index: u64| index == 0 || start.elapsed() < duration;
        let written = transfer_blocks(file_path, blocks, SEQUENTIAL_DEPTH, on_time, write_block)?;
        open_direct(file_path, OFlags::empty())?.sync_data()?;
        let write = bandwidth(written, start);
        let start = Instant::now();
        let on_time = |index: u64| index == 0 || start.elapsed() < duration;
        let read = transfer_blocks(file_path, blocks, SEQUENTIAL_DEPTH, on_time, read_block)?;
        Ok(SequentialBandwidth {
            write,
            read: bandwidth(read, start),
        })
    })
}

fn bandwidth(blocks: u64, since: Instant) -> f64 {
    (blocks * LARGE_BLOCK_BYTES as u64) as f64 / since.elapsed().as_secs_f64()
}

/// All blocks, in order, several in flight.
fn write_blocks(file_path: &Path, blocks: u64) -> io::Result<()> {
    let once = |index| index < blocks;
    transfer_blocks(file_path, blocks, BANDWIDTH_DEPTH, once, write_block).map(|_| ())
}

fn write_block(file: &File, block: &mut AlignedBlock, position: u64) -> io::Result<()> {
    file.write_all_at(block.bytes(), position)
}

fn read_block(file: &File, block: &mut AlignedBlock, position: u64) -> io::Result<()> {
    file.read_exact_at(block.bytes_mut(), position)
}

/// Transfers one block after the other with `depth` in flight, from the first again behind the last, as long as `goes_on` says of the next one's number; gives how many there were.
fn transfer_blocks(
    file_path: &Path,
    blocks: u64,
    depth: u64,
    goes_on: impl Fn(u64) -> bool + Sync,
    transfer: impl Fn(&File, &mut AlignedBlock, u64) -> io::Result<()> + Sync,
) -> io::Result<u64> {
    let next = AtomicU64::new(0);
    let transfer_some = || -> io::Result<u64> {
        let file = open_direct(file_path, OFlags::empty())?;
        let mut block = AlignedBlock::new(LARGE_BLOCK_BYTES);
        let mut done = 0;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if !goes_on(index) {
                return Ok(done);
            }
            transfer(&file, &mut block, index % blocks * LARGE_BLOCK_BYTES as u64)?;
            done += 1;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..depth).map(|_| scope.spawn(transfer_some)).collect();
        threads.into_iter().try_fold(0, |sum, thread| {
            let done = thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread at the disk panicked")));
            Ok(sum + done?)
        })
    })
}

/// Writes the file once, so that what is measured allocates nothing.
fn write_ahead(file_path: &Path, file_bytes: u64) -> io::Result<()> {
    File::create(file_path)?;
    write_blocks(file_path, file_bytes / LARGE_BLOCK_BYTES as u64)?;
    File::open(file_path)?.sync_all()
}

fn measured_in<T>(
    directory: &Path,
    measure: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, DiskError> {
    let temporary = tempfile::Builder::new()
        .prefix("gannet-measure-")
        .tempdir_in(directory);
    temporary
        .and_then(|temporary| measure(&temporary.path().join("blocks")))
        .map_err(|source| match source.raw_os_error() {
            Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() => DiskError::NoDirect {
                directory: directory.to_owned(),
            },
            _ => DiskError::Io {
                directory: directory.to_owned(),
                source,
            },
        })
}

fn open_direct(file_path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = (OFlags::DIRECT | flags).bits();
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.cast_signed())
        .open(file_path)
}

/// Bytes at an address that O_DIRECT takes.
struct AlignedBlock {
    room: Vec<u8>,
    start: usize,
    block_bytes: usize,
}

impl AlignedBlock {
    fn new(block_bytes: usize) -> Self {
        // Not zeros: a device may store those without writing.
        let room = vec![0xA5; block_bytes + BLOCK_BYTES];
        let start = room.as_ptr().align_offset(BLOCK_BYTES);
        Self {
            room,
            start,
            block_bytes,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.start + self.block_bytes]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.block_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_for_direct_writes() {
        for _ in 0..16 {
            let block = AlignedBlock::new(BLOCK_BYTES);
            assert_eq!(block.bytes().as_ptr().addr() % BLOCK_BYTES, 0);
            assert_eq!(block.bytes().len(), BLOCK_BYTES);
        }
    }

    #[test]
    fn synced_writes_are_measured_for_each_size_and_depth() {
        // Beside the test's program: /tmp may be memory, which takes no direct writes.
        let program = std::env::current_exe().unwrap();
        let directory = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let measured =
            sync_writes(directory.path(), &[4096, 1 << 20], &[1, 3], Duration::ZERO).unwrap();
        let of: Vec<_> = measured
            .iter()
            .map(|of| (of.block_bytes, of.depth))
            .collect();
        assert_eq!(of, [(4096, 1), (4096, 3), (1 << 20, 1), (1 << 20, 3)]);
        for of in measured {
            // Without time, one of each thread.
            assert_eq!(of.latency_us.count, u64::from(of.depth));
            assert!(of.writes_per_s > 0.0 && of.latency_us.max > 0.0);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_does_not_exist_is_an_error_that_names_it() {
        let error = sync_write_latency(Path::new("/does/not/exist"), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist"), "{error}");
    }
}
