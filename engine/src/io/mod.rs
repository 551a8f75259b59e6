//! The rim: disk, clock, sockets and executors. The only folder that names the runtime, compio.
//!
//! What stores and recovers is generic over [`Disk`] and [`Clock`], so that the very same code runs on the simulated disk
//! in [`sim`]. Futures stay on the thread that made them: nothing here is `Send`.

mod buffer;
pub mod local;
pub mod preflight;
pub mod sim;
pub mod spare_descriptors;
pub mod uring;
pub mod uring_exec;
pub mod uring_mailbox;
pub mod uring_net;
mod uring_work;

use std::io;
use std::path::Path;
use std::time::Duration;

pub use buffer::{BLOCK_BYTES, DiskBuffer, DiskBufferMut};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only; the file exists.
    Read,
    /// Reading and writing; a write is durable only after [`DiskFile::sync`]. The file exists.
    Write,
    /// Reading and writing; the file must not exist yet. Durable as a name only after [`Disk::sync_dir`].
    CreateNew,
    /// Reading and writing; a write that returned is durable (O_DSYNC), provided its blocks were written before. The file exists.
    WriteDurable,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The last component of its path.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its length in bytes; 0 for a directory.
    pub bytes: u64,
}

/// A disk: a tree of files whose contents are moved in blocks of [`BLOCK_BYTES`].
///
/// What is not synced may be lost, wholly or in part and in any order, at a crash: contents by [`DiskFile::sync`] (or
/// [`OpenMode::WriteDurable`]), names by [`Disk::sync_dir`] of the directory that holds them.
#[allow(
    async_fn_in_trait,
    reason = "single-threaded by design: no Send bound is wanted"
)]
pub trait Disk: Clone + 'static {
    /// An open file of this disk.
    type File: DiskFile;

    /// An aligned buffer of exactly `bytes`, which must be a multiple of [`BLOCK_BYTES`]. Contents are unspecified.
    fn buffer(&self, bytes: usize) -> DiskBufferMut;
    /// Opens a file.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;
    /// Lists a directory, in no order. `NotFound` when there is none.
    async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes a directory and its parents, and syncs those it made names in; fine when it exists.
    async fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Unlinks a file; durable after [`Disk::sync_dir`].
    async fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it; fine when there is none.
    async fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    async fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes an ordinary user can still write.
    async fn available_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. Positions and lengths of reads and writes are multiples of [`BLOCK_BYTES`].
#[allow(
    async_fn_in_trait,
    reason = "single-threaded by design: no Send bound is wanted"
)]
pub trait DiskFile: 'static {
    /// Writes the whole buffer at `position`. A short write is an error. Several may be in flight at once.
    async fn write_at(&self, position: u64, buffer: &DiskBuffer) -> io::Result<()>;
    /// Reads up to `bytes` from `position`: fewer only at the end of the file, none behind it.
    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<DiskBuffer>;
    /// Makes the contents written so far durable (fdatasync). A failure is final: never call it again on this file.
    async fn sync(&self) -> io::Result<()>;
    /// Reserves space so that the file is at least `bytes` long; what was not written reads as zeros.
    async fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Gives back what was reserved behind `bytes`; a file that is shorter stays as it is. What is written before it is not touched.
    async fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Length in bytes.
    async fn bytes(&self) -> io::Result<u64>;
    /// Closes the file; dropping it closes as well, but later.
    async fn close(self) -> io::Result<()>;
}

/// Time. Monotonic for every decision; the wall clock only feeds the append clock.
#[allow(
    async_fn_in_trait,
    reason = "single-threaded by design: no Send bound is wanted"
)]
pub trait Clock: Clone + 'static {
    /// Time since some fixed point of this run; never goes back.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since the Unix epoch, as the machine believes; may jump either way.
    fn wall_ms(&self) -> i64;
    /// Sleeps.
    async fn sleep(&self, duration: Duration);
}

/// Starts tasks on the executor of this thread.
pub trait Spawn: Clone + 'static {
    /// Runs `future` to its end, concurrently, on this thread.
    fn spawn(&self, future: impl Future<Output = ()> + 'static);
}
