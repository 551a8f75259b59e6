//! The real disk, clock, sockets and executors, on io_uring by glommio.
//!
//! Everything here belongs to the executor it was made on, except what says that it is `Send`.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};

use super::local::Signal;
use super::{
    BLOCK_BYTES, Clock, DirEntry, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode, Spawn,
};

pub use super::uring_exec::{
    ExecutorConfig, ExecutorHandle, SHARD_PANIC_EXIT_STATUS, start_executor,
};
pub use super::uring_mailbox::{
    Inlet, InletReceiver, Mailbox, MailboxSeat, PeerReceiver, SendError, TrySendError, inlet,
    mailboxes,
};
pub use super::uring_net::{Connection, ConnectionOptions, SEND_SLICES_MAX};

/// The disk under a data directory. Made anew on each executor by [`UringDisk::prepare`].
#[derive(Clone, Debug)]
pub struct UringDisk {
    _prepared: (),
}

/// An open file, read and written by direct I/O.
#[derive(Debug)]
pub struct UringFile {
    file: DmaFile,
}

impl UringDisk {
    /// Gets the disk ready for the executor that runs this. `data_dir` exists.
    ///
    /// glommio decides at the first file it opens on a device, once for each executor, whether the device can be polled,
    /// by reading from that file. An empty file reads nothing, which passes for "can be polled", and every later read
    /// then fails with EOPNOTSUPP. So the first file is one with contents, which has no name any more.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub async fn prepare(data_dir: &Path) -> io::Result<Self> {
        let data_dir = data_dir.to_owned();
        let probe = blocking(move || nameless_file(&data_dir)).await?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", probe.as_raw_fd()));
        let file = OpenOptions::new()
            .read(true)
            .dma_open(&path)
            .await
            .map_err(plain_error)?;
        let read = file
            .read_at_aligned(0, BLOCK_BYTES)
            .await
            .map_err(plain_error)?;
        file.close().await.map_err(plain_error)?;
        if read.len() != BLOCK_BYTES {
            return Err(io::Error::other(format!(
                "a direct read of the probe file gave {} bytes instead of {BLOCK_BYTES}",
                read.len()
            )));
        }
        Ok(Self { _prepared: () })
    }
}

impl Disk for UringDisk {
    type File = UringFile;

    fn buffer(&self, bytes: usize) -> DiskBufferMut {
        assert!(
            bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES),
            "unaligned buffer of {bytes} bytes"
        );
        // From the allocator, not from the memory registered with the ring: a buffer may live in the tail for long, and
        // would keep that small memory from everybody else.
        DiskBufferMut::from_dma(glommio::allocate_dma_buffer_global(bytes))
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<UringFile> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::WriteDurable => {
                options.write(true).custom_flags(libc::O_DSYNC);
            }
        }
        let file = options.dma_open(path).await.map_err(plain_error)?;
        Ok(UringFile { file })
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = dir.to_owned();
        blocking(move || list(&dir)).await
    }

    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        blocking(move || create_dirs(&dir)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || std::fs::remove_file(path)).await
    }

    async fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        blocking(move || match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        })
        .await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        blocking(move || sync_dir(&dir)).await
    }

    async fn available_bytes(&self, dir: &Path) -> io::Result<u64> {
        let dir = dir.to_owned();
        blocking(move || {
            let stat = rustix::fs::statvfs(dir)?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        })
        .await
    }
}

impl DiskFile for UringFile {
    async fn write_at(&self, position: u64, buffer: &DiskBuffer) -> io::Result<()> {
        check_aligned(position, buffer.len());
        if buffer.is_empty() {
            return Ok(());
        }
        let written = match buffer.as_dma() {
            Some(dma) => self.file.write_rc_at(dma.clone(), position).await,
            None => {
                let mut copy = glommio::allocate_dma_buffer_global(buffer.len());
                copy.as_bytes_mut().copy_from_slice(buffer);
                self.file.write_at(copy, position).await
            }
        }
        .map_err(plain_error)?;
        if written != buffer.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!(
                    "only {written} of {} bytes were written at {position}",
                    buffer.len()
                ),
            ));
        }
        Ok(())
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<DiskBuffer> {
        check_aligned(position, bytes);
        if bytes == 0 {
            return Ok(DiskBuffer::empty());
        }
        let read = self
            .file
            .read_at_aligned(position, bytes)
            .await
            .map_err(plain_error)?;
        Ok(DiskBuffer::from_read(read))
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.fdatasync().await.map_err(plain_error)
    }

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file
            .pre_allocate(bytes, false)
            .await
            .map_err(plain_error)
    }

    async fn bytes(&self) -> io::Result<u64> {
        self.file.file_size().await.map_err(plain_error)
    }

    async fn close(self) -> io::Result<()> {
        self.file.close().await.map_err(plain_error)
    }
}

/// The machine's clocks. `Copy` and `Send`: hand the same one to all shards, so that their monotonic times compare.
#[derive(Clone, Copy, Debug)]
pub struct UringClock {
    start: Instant,
}

impl UringClock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for UringClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for UringClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that asks for the wall clock"
    )]
    fn wall_ms(&self) -> i64 {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }
}

/// Starts tasks on the executor of the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct UringSpawn;

impl Spawn for UringSpawn {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(future).detach();
    }
}

/// The operating system's error where there is one: storage decides by its number, and names the path itself.
pub(super) fn plain_error(error: GlommioError<()>) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => error.into(),
    }
}

/// Runs what would block off the shard. What has begun is seen to its end, even if nobody waits for it any more: glommio's thread panics
/// when its executor is gone before the answer.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let in_flight = BLOCKING.with(Rc::clone);
    if in_flight.ending.get() {
        // The executor is about to end, and whoever asked with it.
        return std::future::pending().await;
    }
    in_flight.count.set(in_flight.count.get() + 1);
    let done = glommio::spawn_local(async move {
        let result = glommio::executor().spawn_blocking(work).await;
        in_flight.count.set(in_flight.count.get() - 1);
        in_flight.changed.notify_all();
        result
    });
    let cancelled = || Err(io::Error::other("the executor is ending"));
    done.detach().await.unwrap_or_else(cancelled)
}

/// Waits until no blocking work is under way on this executor, and lets none begin any more.
pub(super) async fn end_blocking() {
    let in_flight = BLOCKING.with(Rc::clone);
    in_flight.ending.set(true);
    loop {
        let seen = in_flight.changed.version();
        if in_flight.count.get() == 0 {
            return;
        }
        in_flight.changed.changed_since(seen).await;
    }
}

/// Blocking work of the executor of this thread.
#[derive(Default)]
struct Blocking {
    count: Cell<usize>,
    ending: Cell<bool>,
    changed: Signal,
}

thread_local! {
    static BLOCKING: Rc<Blocking> = Rc::default();
}

fn check_aligned(position: u64, bytes: usize) {
    assert!(
        position.is_multiple_of(BLOCK_BYTES as u64) && bytes.is_multiple_of(BLOCK_BYTES),
        "unaligned access to {bytes} bytes at {position}"
    );
}

/// A file with contents and no name: nothing is left behind, whatever happens.
fn nameless_file(dir: &Path) -> io::Result<std::fs::File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = dir.join(format!(
        ".probe-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    file.write_all(&[0; 2 * BLOCK_BYTES])?;
    file.sync_data()?;
    Ok(file)
}

fn list(dir: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let is_dir = metadata.is_dir();
        entries.push(DirEntry {
            name: entry
                .file_name()
                .into_string()
                .unwrap_or_else(|name: OsString| name.to_string_lossy().into_owned()),
            is_dir,
            bytes: if is_dir { 0 } else { metadata.len() },
        });
    }
    Ok(entries)
}

/// Makes a directory and its parents, with durable names.
pub(super) fn create_dirs(dir: &Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // /proc answers so under a parent that is there: making that parent again would never end.
            let missing = |parent: &&Path| *parent != Path::new("") && !parent.exists();
            let Some(parent) = dir.parent().filter(missing) else {
                return Err(error);
            };
            create_dirs(parent)?;
            return create_dirs(dir);
        }
        Err(error) => return Err(error),
    }
    match dir.parent() {
        Some(parent) if parent != Path::new("") => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

/// Records are nobody else's business.
const FILE_MODE: libc::mode_t = 0o640;
