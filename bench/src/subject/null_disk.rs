//! A disk that takes everything at once and keeps hardly anything: what is left is the engine's own cost.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gannet_engine::io::{
    BLOCK_BYTES, DirEntry, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode,
};
use gannet_engine::storage::layout::JOURNAL_DIR;

/// Every operation succeeds when it is first polled. A log can be started on it and written to; of journals and segments nothing is kept and nothing can be read back.
/// The small files that a start reads (the catalogue, a shard's checkpoint) are. One that is made by [`NullDisk::keeping`] keeps everything, so that segments can be read.
#[derive(Clone, Debug, Default)]
pub struct NullDisk {
    files: Rc<RefCell<BTreeMap<PathBuf, Kept>>>,
    keeps_all: bool,
}

type Kept = Rc<RefCell<Vec<u8>>>;

/// A file of a [`NullDisk`]; with contents if it is one of those that are kept.
#[derive(Debug)]
pub struct NullFile(Option<Kept>);

thread_local! {
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread moves bytes in the place of a disk, which costs a broker nothing.
#[must_use]
pub fn null_disk_is_at_work() -> bool {
    AT_WORK.get()
}

/// What a disk would do by itself.
fn at_work<T>(work: impl FnOnce() -> T) -> T {
    AT_WORK.set(true);
    let output = work();
    AT_WORK.set(false);
    output
}

impl NullDisk {
    /// One that keeps journals and segments too.
    #[must_use]
    pub fn keeping() -> Self {
        Self {
            keeps_all: true,
            ..Self::default()
        }
    }

    fn is_kept(&self, path: &Path) -> bool {
        if self.keeps_all {
            return true;
        }
        let in_journal = path
            .parent()
            .is_some_and(|dir| dir.file_name().is_some_and(|name| name == JOURNAL_DIR));
        let of_segment = path
            .extension()
            .is_some_and(|extension| extension == "seg" || extension == "idx");
        !in_journal && !of_segment
    }
}

impl Disk for NullDisk {
    type File = NullFile;

    fn buffer(&self, bytes: usize) -> DiskBufferMut {
        DiskBufferMut::heap(bytes)
    }

    async fn open(&self, path: &Path, _mode: OpenMode) -> io::Result<NullFile> {
        if !self.is_kept(path) {
            return Ok(NullFile(None));
        }
        let mut kept = self.files.borrow_mut();
        Ok(NullFile(Some(
            kept.entry(path.to_owned()).or_default().clone(),
        )))
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let kept = self.files.borrow();
        let files = kept.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(files
            .filter_map(|(path, contents)| {
                Some(DirEntry {
                    name: path.file_name()?.to_string_lossy().into_owned(),
                    is_dir: false,
                    bytes: contents.borrow().len() as u64,
                })
            })
            .collect())
    }

    async fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.borrow_mut().remove(path);
        Ok(())
    }

    async fn remove_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for NullFile {
    async fn write_at(&self, position: u64, buffer: &DiskBuffer) -> io::Result<()> {
        if let Some(kept) = &self.0 {
            let begin = usize::try_from(position).map_err(io::Error::other)?;
            let mut kept = kept.borrow_mut();
            let end = begin + buffer.len();
            at_work(|| {
                if kept.len() < end {
                    kept.resize(end, 0);
                }
                kept[begin..end].copy_from_slice(buffer);
            });
        }
        Ok(())
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<DiskBuffer> {
        let Some(kept) = &self.0 else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a file of which nothing is kept was read",
            ));
        };
        let kept = kept.borrow();
        let begin = usize::try_from(position).map_err(io::Error::other)?;
        let there = kept.get(begin..).unwrap_or_default();
        let whole = there.len().min(bytes) / BLOCK_BYTES * BLOCK_BYTES;
        if whole == 0 {
            return Ok(DiskBuffer::empty());
        }
        let mut buffer = DiskBufferMut::heap(whole);
        at_work(|| buffer.copy_from_slice(&there[..whole]));
        Ok(buffer.freeze())
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    async fn truncate(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    async fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    async fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.as_ref().map_or(0, |kept| kept.borrow().len() as u64))
    }

    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}
