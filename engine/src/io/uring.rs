//! The real disk, clock, sockets and executors, on io_uring by compio.
//!
//! Everything here belongs to the executor it was made on, except what says that it is `Send`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use compio::BufResult;
use compio::buf::{IntoInner, IoBuf, IoBufMut, SetLen};
use compio::driver::op::{ReadAt, Sync, WriteAt};

use super::{
    BLOCK_BYTES, Clock, DirEntry, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode, Spawn,
};

use super::spare_descriptors::{try_with_spares, with_spares};
pub use super::uring_exec::{
    ExecutorConfig, ExecutorHandle, SHARD_PANIC_EXIT_STATUS, start_executor,
};
pub use super::uring_mailbox::{
    Inlet, InletReceiver, Mailbox, MailboxSeat, PeerReceiver, SendError, TrySendError, inlet,
    mailboxes,
};
pub use super::uring_net::{Connection, ConnectionOptions, SEND_SLICES_MAX};
use super::uring_work::{blocking, operate};

/// The disk under a data directory.
#[derive(Clone, Debug, Default)]
pub struct UringDisk;

/// An open file, read and written by direct I/O.
#[derive(Debug)]
pub struct UringFile {
    /// Shared with the operations in flight: the kernel may use it until the last one has ended.
    file: Rc<File>,
}

/// A buffer that the kernel writes to a file.
struct Written(DiskBuffer);

/// A buffer that the kernel reads a file into.
struct ReadInto {
    buffer: DiskBufferMut,
    filled: usize,
}

impl Disk for UringDisk {
    type File = UringFile;

    fn buffer(&self, bytes: usize) -> DiskBufferMut {
        DiskBufferMut::pooled(bytes)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<UringFile> {
        let path = path.to_owned();
        let file = blocking(move || with_spares(|| open(&path, mode))).await?;
        Ok(UringFile {
            file: Rc::new(file),
        })
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = dir.to_owned();
        blocking(move || with_spares(|| list(&dir))).await
    }

    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        blocking(move || with_spares(|| create_dirs(&dir))).await
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
        blocking(move || with_spares(|| sync_dir(&dir))).await
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
        let write = WriteAt::new(self.file.clone(), position, Written(buffer.clone()));
        let BufResult(result, _) = operate(write).await;
        let written = result?;
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
        let into = ReadInto {
            buffer: DiskBufferMut::pooled(bytes),
            filled: 0,
        };
        let BufResult(result, read) = operate(ReadAt::new(self.file.clone(), position, into)).await;
        Ok(read.into_inner().buffer.freeze().cut_to(result?))
    }

    async fn sync(&self) -> io::Result<()> {
        let BufResult(result, _) = operate(Sync::new(self.file.clone(), true)).await;
        result.map(|_| ())
    }

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        // A second descriptor for the other thread.
        let file = try_with_spares(|| self.file.try_clone())?;
        blocking(move || {
            Ok(rustix::fs::fallocate(
                file,
                rustix::fs::FallocateFlags::empty(),
                0,
                bytes,
            )?)
        })
        .await
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        let file = try_with_spares(|| self.file.try_clone())?;
        blocking(move || {
            if file.metadata()?.len() > bytes {
                file.set_len(bytes)?;
            }
            Ok(())
        })
        .await
    }

    async fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    async fn close(self) -> io::Result<()> {
        let file = self.file;
        // Operations in flight hold it too, and the last of them closes it.
        match Rc::try_unwrap(file) {
            Ok(file) => {
                blocking(move || {
                    drop(file);
                    Ok(())
                })
                .await
            }
            Err(_) => Ok(()),
        }
    }
}

impl IoBuf for Written {
    fn as_init(&self) -> &[u8] {
        &self.0
    }
}

impl IoBuf for ReadInto {
    fn as_init(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

#[allow(unsafe_code, reason = "the runtime's contract for buffers")]
impl SetLen for ReadInto {
    unsafe fn set_len(&mut self, len: usize) {
        self.filled = len;
    }
}

#[allow(unsafe_code, reason = "the runtime's contract for buffers")]
impl IoBufMut for ReadInto {
    fn as_uninit(&mut self) -> &mut [std::mem::MaybeUninit<u8>] {
        let bytes: &mut [u8] = &mut self.buffer;
        // SAFETY: the same memory; the kernel, which is given it, writes only initialised bytes.
        unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [std::mem::MaybeUninit<u8>]) }
    }
}

/// The machine's clocks. Monotonic times of two of them do not compare: each begins with its own making.
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
        compio::time::sleep(duration).await;
    }
}

/// Starts tasks on the executor of the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct UringSpawn;

impl Spawn for UringSpawn {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        compio::runtime::spawn(future).detach();
    }
}

fn check_aligned(position: u64, bytes: usize) {
    assert!(
        position.is_multiple_of(BLOCK_BYTES as u64) && bytes.is_multiple_of(BLOCK_BYTES),
        "unaligned access to {bytes} bytes at {position}"
    );
}

fn open(path: &Path, mode: OpenMode) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).mode(FILE_MODE);
    let mut flags = libc::O_DIRECT;
    match mode {
        OpenMode::Read => {}
        OpenMode::Write => {
            options.write(true);
        }
        OpenMode::CreateNew => {
            options.write(true).create_new(true);
        }
        OpenMode::WriteDurable => {
            options.write(true);
            flags |= libc::O_DSYNC;
        }
    }
    options.custom_flags(flags).open(path)
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

/// Makes a directory and its parents. The names it makes are durable when it returns; of one that is there already it says nothing.
pub(super) fn create_dirs(dir: &Path) -> io::Result<()> {
    let is_there = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir();
    match std::fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if is_there(&error) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().filter(|parent| *parent != Path::new(""));
            create_dirs(parent.ok_or(error)?)?;
            // IMPORTANT: another thread may make the same parent, or this directory, at any moment: that it is there says nothing of who made it. But
            // only once more: /proc answers so under a parent that is there.
            match std::fs::create_dir(dir) {
                Err(error) if is_there(&error) => return Ok(()),
                made => made?,
            }
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
const FILE_MODE: u32 = 0o640;

#[cfg(test)]
mod tests;
