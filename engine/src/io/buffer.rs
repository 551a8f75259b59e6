//! Aligned memory for direct I/O, shared by the disk write and by the readers of the tail.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

use glommio::io::{DmaBuffer, ReadResult};

/// The unit of direct I/O: every position, length and address is a multiple of it.
pub const BLOCK_BYTES: usize = 4096;

/// Memory that one owner may still change. [`DiskBufferMut::freeze`] makes it shareable.
pub struct DiskBufferMut(Memory);

/// Memory that nobody changes any more; cloning shares it. Lives until its last holder lets go.
#[derive(Clone)]
pub struct DiskBuffer(Shared);

#[derive(Clone)]
enum Shared {
    /// What io_uring writes.
    Dma(Rc<DmaBuffer>),
    /// What io_uring read.
    Read(ReadResult),
    /// The first so many bytes of it: a read at the end of a file fills less than it asked for.
    Heap(Rc<HeapBuffer>, usize),
    Empty,
}

enum Memory {
    Dma(DmaBuffer),
    Heap(HeapBuffer),
}

/// Aligned memory from the global allocator, for the simulated disk and for tests.
struct HeapBuffer {
    data: NonNull<u8>,
    layout: Layout,
}

impl DiskBufferMut {
    pub(super) fn from_dma(buffer: DmaBuffer) -> Self {
        Self(Memory::Dma(buffer))
    }

    /// Zeroed aligned memory from the global allocator; `bytes` is a multiple of [`BLOCK_BYTES`] and not 0.
    #[must_use]
    pub fn heap(bytes: usize) -> Self {
        assert!(
            bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES),
            "unaligned buffer of {bytes} bytes"
        );
        Self(Memory::Heap(HeapBuffer::zeroed(bytes)))
    }

    /// No more changes: from now on it can be shared.
    #[must_use]
    pub fn freeze(self) -> DiskBuffer {
        DiskBuffer(match self.0 {
            Memory::Dma(buffer) => Shared::Dma(Rc::new(buffer)),
            Memory::Heap(buffer) => {
                let bytes = buffer.layout.size();
                Shared::Heap(Rc::new(buffer), bytes)
            }
        })
    }
}

impl Deref for DiskBufferMut {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Memory::Dma(buffer) => buffer.as_bytes(),
            Memory::Heap(buffer) => buffer.as_bytes(),
        }
    }
}

impl DerefMut for DiskBufferMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Dma(buffer) => buffer.as_bytes_mut(),
            Memory::Heap(buffer) => buffer.as_bytes_mut(),
        }
    }
}

impl DiskBuffer {
    pub(super) fn from_read(read: ReadResult) -> Self {
        Self(Shared::Read(read))
    }

    /// The buffer as glommio writes it. `None` when it is memory of another kind.
    pub(super) fn as_dma(&self) -> Option<&Rc<DmaBuffer>> {
        match &self.0 {
            Shared::Dma(buffer) => Some(buffer),
            _ => None,
        }
    }

    /// Hides what lies behind the first `bytes` of a buffer from the heap.
    pub(super) fn cut_to(self, bytes: usize) -> Self {
        match self.0 {
            Shared::Heap(buffer, before) => Self(Shared::Heap(buffer, before.min(bytes))),
            other => Self(other),
        }
    }

    /// An empty buffer, as a read behind the end of a file returns.
    #[must_use]
    pub fn empty() -> Self {
        Self(Shared::Empty)
    }
}

impl Deref for DiskBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Shared::Dma(buffer) => buffer.as_bytes(),
            Shared::Read(read) => read,
            Shared::Heap(buffer, bytes) => &buffer.as_bytes()[..*bytes],
            Shared::Empty => &[],
        }
    }
}

impl fmt::Debug for DiskBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskBuffer({} bytes)", self.len())
    }
}

impl fmt::Debug for DiskBufferMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskBufferMut({} bytes)", self.len())
    }
}

#[allow(unsafe_code, reason = "aligned allocation has no safe form in std")]
impl HeapBuffer {
    fn zeroed(bytes: usize) -> Self {
        let Ok(layout) = Layout::from_size_align(bytes, BLOCK_BYTES) else {
            panic!("a buffer of {bytes} bytes cannot be laid out");
        };
        // SAFETY: the layout's size is not 0 (asserted by the one caller).
        let data = unsafe { alloc_zeroed(layout) };
        let Some(data) = NonNull::new(data) else {
            handle_alloc_error(layout)
        };
        Self { data, layout }
    }

    fn as_bytes(&self) -> &[u8] {
        // SAFETY: `data` is valid for `layout.size()` initialised bytes while `self` lives.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.layout.size()) }
    }

    fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.layout.size()) }
    }
}

#[allow(unsafe_code, reason = "aligned allocation has no safe form in std")]
impl Drop for HeapBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with this very layout.
        unsafe { dealloc(self.data.as_ptr(), self.layout) };
    }
}
