//! Chunks of segments: read at aligned places, once for all who want them, and ahead of those who read on and on.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Waker};

use futures_util::FutureExt as _;
use futures_util::future::{LocalBoxFuture, Shared};

use super::cache::Cache;
use crate::io::{BLOCK_BYTES, Disk, DiskBuffer, DiskFile};
use crate::storage::segment::SegmentRef;

/// A stretch of a segment in memory.
pub(super) struct Chunk {
    start: u64,
    buffer: DiskBuffer,
    /// What is there: less than was asked for at the end of the file.
    bytes: usize,
    /// Where blocks begin that cannot be read, in order. They are zeros here.
    unreadable: Vec<u64>,
}

/// A chunk that is being read, or that was. Clones share the read.
pub(super) type Reading = Shared<LocalBoxFuture<'static, Result<Rc<Chunk>, Rc<io::Error>>>>;

/// The chunks of one shard that are in memory or on their way there.
pub(super) struct Chunks<D: Disk> {
    disk: D,
    chunk_bytes: usize,
    cache: RefCell<Cache<(SegmentRef, u64), Entry>>,
    /// How many were read ahead and not asked for yet.
    ahead: Rc<Cell<usize>>,
}

#[derive(Clone)]
struct Entry {
    reading: Reading,
    /// What lies behind it in the chunk was not durable yet when it was read.
    until: u64,
    ahead: Rc<Cell<Option<Ahead>>>,
}

/// Counts a chunk that was read ahead, until it is asked for or let go of.
struct Ahead(Rc<Cell<usize>>);

impl Chunk {
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn buffer(&self) -> &DiskBuffer {
        &self.buffer
    }

    /// Whether `bytes` from `at` on, counted from the chunk's start, are what the disk holds.
    pub(super) fn has(&self, at: usize, bytes: usize) -> bool {
        let begin = self.start + (at / BLOCK_BYTES * BLOCK_BYTES) as u64;
        let end = self.start + (at + bytes) as u64;
        let next = self.unreadable.partition_point(|block| *block < begin);
        at + bytes <= self.bytes && self.unreadable.get(next).is_none_or(|block| *block >= end)
    }
}

impl<D: Disk> Chunks<D> {
    pub(super) fn new(disk: D, chunk_bytes: usize, cache_bytes: usize) -> Self {
        Self {
            disk,
            chunk_bytes,
            cache: RefCell::new(Cache::new(cache_bytes)),
            ahead: Rc::default(),
        }
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Where the chunk with `position` begins.
    pub(super) fn start_of(&self, position: u64) -> u64 {
        position - position % self.chunk_bytes as u64
    }

    /// The chunk at `start`, if it is known at least up to `until`.
    pub(super) fn known(&self, segment: SegmentRef, start: u64, until: u64) -> Option<Reading> {
        let entry = self.cache.borrow_mut().get(&(segment, start))?;
        entry.ahead.take();
        (entry.until >= until).then_some(entry.reading)
    }

    /// Begins to read the chunk at `start` up to the end of `until`, unless somebody has, at least up to its start.
    pub(super) fn begin(
        &self,
        segment: SegmentRef,
        file: Rc<D::File>,
        start: u64,
        until: Range<u64>,
    ) -> Reading {
        self.known(segment, start, until.start)
            .unwrap_or_else(|| self.read(segment, file, start, until.end, None))
    }

    /// Begins to read a chunk that somebody will soon want, if there is room for it.
    pub(super) fn begin_ahead(
        &self,
        segment: SegmentRef,
        file: Rc<D::File>,
        start: u64,
        until: u64,
    ) {
        let bytes = (self.ahead.get() + 1) * self.chunk_bytes;
        // The other half is for those who share what they read, and must outlive what is read ahead for others.
        if bytes > self.cache.borrow().capacity() / 2 {
            return;
        }
        let known = self.cache.borrow().peek(&(segment, start)).is_some();
        if known {
            return;
        }
        self.ahead.set(self.ahead.get() + 1);
        let ahead = Ahead(self.ahead.clone());
        let reading = self.read(segment, file, start, until, Some(ahead));
        // To be looked at once is what submits it. Whoever wants it looks again.
        let _ = reading
            .clone()
            .poll_unpin(&mut Context::from_waker(Waker::noop()));
    }

    /// Forgets a read that failed, so that the next one tries again.
    pub(super) fn fail(&self, segment: SegmentRef, reading: &Reading, start: u64) {
        let mut cache = self.cache.borrow_mut();
        let is_it = cache
            .peek(&(segment, start))
            .is_some_and(|entry| entry.reading.ptr_eq(reading));
        if is_it {
            cache.remove(&(segment, start));
        }
    }

    pub(super) fn forget(&self, segment: SegmentRef) {
        self.cache
            .borrow_mut()
            .remove_where(|(of, _)| *of == segment);
    }

    pub(super) fn clear(&self) {
        self.cache.borrow_mut().remove_where(|_| true);
    }

    fn read(
        &self,
        segment: SegmentRef,
        file: Rc<D::File>,
        start: u64,
        until: u64,
        ahead: Option<Ahead>,
    ) -> Reading {
        let bytes = usize::try_from(until - start)
            .unwrap_or(usize::MAX)
            .next_multiple_of(BLOCK_BYTES)
            .min(self.chunk_bytes);
        let disk = self.disk.clone();
        let reading = async move {
            match read_chunk(&disk, &*file, start, bytes).await {
                Ok(chunk) => {
                    if !chunk.unreadable.is_empty() {
                        tracing::error!(segment = %segment.id, blocks = ?chunk.unreadable, "blocks of a segment cannot be read");
                    }
                    Ok(Rc::new(chunk))
                }
                Err(error) => Err(Rc::new(error)),
            }
        }
        .boxed_local()
        .shared();
        let entry = Entry {
            reading: reading.clone(),
            until,
            ahead: Rc::new(Cell::new(ahead)),
        };
        self.cache
            .borrow_mut()
            .insert((segment, start), entry, bytes);
        reading
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Reads a chunk. Where the medium fails, in ever smaller parts: one sector must not cost its neighbours.
async fn read_chunk<D: Disk>(
    disk: &D,
    file: &D::File,
    start: u64,
    bytes: usize,
) -> io::Result<Chunk> {
    match file.read_at(start, bytes).await {
        Ok(buffer) => Ok(Chunk {
            start,
            bytes: buffer.len(),
            buffer,
            unreadable: Vec::new(),
        }),
        Err(error) if is_of_medium(&error) => read_in_parts(disk, file, start, bytes).await,
        Err(error) => Err(error),
    }
}

async fn read_in_parts<D: Disk>(
    disk: &D,
    file: &D::File,
    start: u64,
    bytes: usize,
) -> io::Result<Chunk> {
    let mut whole = disk.buffer(bytes);
    whole.fill(0);
    let mut unreadable = Vec::new();
    let mut end = 0;
    let mut parts = vec![(0, bytes)];
    while let Some((from, to)) = parts.pop() {
        let part = from..to;
        match file.read_at(start + part.start as u64, part.len()).await {
            Ok(read) => {
                let to = part.start + read.len();
                whole[part.start..to].copy_from_slice(&read);
                end = end.max(to);
            }
            Err(error) if is_of_medium(&error) && part.len() > BLOCK_BYTES => {
                let middle = part.start + (part.len() / 2).next_multiple_of(BLOCK_BYTES);
                // The lower half comes first.
                parts.push((middle, part.end));
                parts.push((part.start, middle));
            }
            Err(error) if is_of_medium(&error) => {
                unreadable.push(start + part.start as u64);
                end = part.end;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Chunk {
        start,
        buffer: whole.freeze(),
        bytes: end,
        unreadable,
    })
}

/// Whether these bytes cannot be had, by anybody. All else (no memory, no descriptor) is the machine's state, and passes.
fn is_of_medium(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::ENODATA | libc::EILSEQ | libc::EBADMSG | libc::EUCLEAN)
    )
}
