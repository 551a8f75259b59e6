//! Aligned memory for direct I/O, shared by the disk write and by the readers of the tail.
//!
//! Every commit takes a large buffer and gives it back once readers have let go of it. Fresh memory would have to be zeroed
//! each time, so what is given back is kept by its thread, up to a limit, and handed out again as it is.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

/// The unit of direct I/O: every position, length and address is a multiple of it.
pub const BLOCK_BYTES: usize = 4096;

/// Memory that one owner may still change. [`DiskBufferMut::freeze`] makes it shareable.
pub struct DiskBufferMut {
    memory: Memory,
    bytes: usize,
}

/// Memory that nobody changes any more; cloning shares it. Lives until its last holder lets go.
#[derive(Clone)]
pub struct DiskBuffer {
    /// `None` when empty.
    memory: Option<Rc<Memory>>,
    /// The first so many bytes of it: a read at the end of a file fills less than it asked for.
    bytes: usize,
}

/// Aligned, initialised memory. Goes back to its thread's [`Pool`] where it came from there.
struct Memory {
    allocation: Allocation,
    pooled: bool,
}

/// What an allocation is known by. Whoever holds it last frees it.
#[derive(Clone, Copy)]
struct Allocation {
    data: NonNull<u8>,
    layout: Layout,
}

/// Memory of one thread that waits for its next use, by its size.
#[derive(Default)]
struct Pool {
    sizes: BTreeMap<usize, OfOneSize>,
    free_bytes: usize,
    /// How often something was asked for.
    asked: u64,
}

#[derive(Default)]
struct OfOneSize {
    free: Vec<Allocation>,
    /// Which of the pool's questions was the newest for this size.
    asked_at: u64,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

impl DiskBufferMut {
    /// Zeroed aligned memory; `bytes` is a multiple of [`BLOCK_BYTES`] and not 0.
    #[must_use]
    pub fn heap(bytes: usize) -> Self {
        check_whole_blocks(bytes);
        Self {
            memory: Memory {
                allocation: Allocation::zeroed(bytes),
                pooled: false,
            },
            bytes,
        }
    }

    /// Aligned memory with any contents; `bytes` is a multiple of [`BLOCK_BYTES`] and not 0.
    #[must_use]
    pub fn pooled(bytes: usize) -> Self {
        check_whole_blocks(bytes);
        let size = size_class(bytes);
        let known = POOL.try_with(|pool| pool.borrow_mut().take(size));
        let allocation = known
            .ok()
            .flatten()
            .unwrap_or_else(|| Allocation::zeroed(size));
        Self {
            memory: Memory {
                allocation,
                pooled: true,
            },
            bytes,
        }
    }

    /// No more changes: from now on it can be shared.
    #[must_use]
    pub fn freeze(self) -> DiskBuffer {
        DiskBuffer {
            memory: Some(Rc::new(self.memory)),
            bytes: self.bytes,
        }
    }
}

impl Deref for DiskBufferMut {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[..self.bytes]
    }
}

impl DerefMut for DiskBufferMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.bytes]
    }
}

impl DiskBuffer {
    /// Hides what lies behind the first `bytes`.
    pub(super) fn cut_to(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.min(bytes),
            ..self
        }
    }

    /// An empty buffer, as a read behind the end of a file returns.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            memory: None,
            bytes: 0,
        }
    }

    /// What it holds of memory: a little more than its length, since sizes are rounded up to be of use again.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.memory
            .as_ref()
            .map_or(0, |memory| memory.allocation.layout.size())
    }

    /// Whether both are the same memory.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.memory, &other.memory) {
            (Some(one), Some(other)) => Rc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Gives back the memory that this thread keeps for its next buffers.
    pub fn release_kept() {
        // Without a pool, at the end of a thread, nothing is kept.
        let _ = POOL.try_with(|pool| pool.take());
    }
}

impl Deref for DiskBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.memory
            .as_ref()
            .map_or(&[], |memory| &memory[..self.bytes])
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

impl Pool {
    fn take(&mut self, size: usize) -> Option<Allocation> {
        self.asked += 1;
        let of_size = self.sizes.entry(size).or_default();
        of_size.asked_at = self.asked;
        let allocation = of_size.free.pop()?;
        self.free_bytes -= size;
        Some(allocation)
    }

    /// Keeps memory for its next use, if need be in the place of sizes that nobody has asked for since.
    fn keep(&mut self, allocation: Allocation) -> bool {
        let size = allocation.layout.size();
        let of_size = self.sizes.entry(size).or_default();
        if (of_size.free.len() + 1) * size > KEPT_OF_ONE_SIZE_BYTES_MAX {
            return false;
        }
        let asked_at = of_size.asked_at;
        // Else what a thread did first, such as to write commits, keeps out what it does now, such as to read.
        while self.free_bytes + size > KEPT_BYTES_MAX {
            if !self.free_one_older_than(asked_at) {
                return false;
            }
        }
        self.free_bytes += size;
        self.sizes.entry(size).or_default().free.push(allocation);
        true
    }

    /// Frees memory of the size that was not asked for the longest. `false`: there is none that was asked for before this.
    fn free_one_older_than(&mut self, asked_at: u64) -> bool {
        let oldest = self
            .sizes
            .iter_mut()
            .filter(|(_, of_size)| of_size.asked_at < asked_at && !of_size.free.is_empty())
            .min_by_key(|(_, of_size)| of_size.asked_at);
        let Some((size, of_size)) = oldest else {
            return false;
        };
        if let Some(allocation) = of_size.free.pop() {
            self.free_bytes -= size;
            allocation.free();
        }
        true
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for allocation in self.sizes.values().flat_map(|of_size| &of_size.free) {
            allocation.free();
        }
    }
}

impl Deref for Memory {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.allocation.as_bytes()
    }
}

impl DerefMut for Memory {
    #[allow(unsafe_code, reason = "aligned allocation has no safe form in std")]
    fn deref_mut(&mut self) -> &mut [u8] {
        let Allocation { data, layout } = self.allocation;
        // SAFETY: `data` is valid for `layout.size()` initialised bytes while `self` lives, and `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let allocation = self.allocation;
        // There is no pool any more at the end of a thread.
        let kept = self.pooled
            && POOL
                .try_with(|pool| pool.borrow_mut().keep(allocation))
                .unwrap_or(false);
        if !kept {
            allocation.free();
        }
    }
}

#[allow(unsafe_code, reason = "aligned allocation has no safe form in std")]
impl Allocation {
    fn zeroed(bytes: usize) -> Self {
        let Ok(layout) = Layout::from_size_align(bytes, BLOCK_BYTES) else {
            panic!("a buffer of {bytes} bytes cannot be laid out");
        };
        // SAFETY: the layout's size is not 0 (asserted by the callers).
        let data = unsafe { alloc_zeroed(layout) };
        let Some(data) = NonNull::new(data) else {
            handle_alloc_error(layout)
        };
        Self { data, layout }
    }

    /// Only its holder calls this: the memory must not have been freed.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: valid for `layout.size()` initialised bytes until it is freed, which its holder does last.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.layout.size()) }
    }

    /// Called once, by the last holder.
    fn free(self) {
        // SAFETY: allocated by `zeroed` with this very layout. It is either with a `Memory` or in a `Pool`, each of which frees
        // it once, when it is dropped.
        unsafe { dealloc(self.data.as_ptr(), self.layout) };
    }
}

/// What a buffer of `bytes` takes: one of 8 to 16 sizes between a power of two and the next, so that few sizes are of use again, and at most an
/// eighth is in vain.
fn size_class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(BLOCK_BYTES);
    bytes.next_multiple_of(step)
}

fn check_whole_blocks(bytes: usize) {
    assert!(
        bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES),
        "unaligned buffer of {bytes} bytes"
    );
}

/// Memory that a thread keeps for its next buffers ...
const KEPT_BYTES_MAX: usize = 32 << 20;
/// ... and of one size: what is given back many at once does not take the place of everything else.
const KEPT_OF_ONE_SIZE_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_handed_out_again_for_a_like_size() {
        let mut first = DiskBufferMut::pooled(17 * BLOCK_BYTES);
        first.fill(7);
        let address = first.as_ptr();
        drop(first.freeze());
        let second = DiskBufferMut::pooled(18 * BLOCK_BYTES);
        assert_eq!((second.as_ptr(), second.len()), (address, 18 * BLOCK_BYTES));
        let third = DiskBufferMut::pooled(18 * BLOCK_BYTES);
        assert_ne!(third.as_ptr(), address);
    }

    /// Gives back `count` buffers at once.
    fn give_back(bytes: usize, count: usize) {
        let many: Vec<_> = (0..count)
            .map(|_| DiskBufferMut::pooled(bytes).freeze())
            .collect();
        drop(many);
    }

    fn free_of(bytes: usize) -> usize {
        POOL.with_borrow(|pool| {
            pool.sizes
                .get(&bytes)
                .map_or(0, |of_size| of_size.free.len())
        })
    }

    #[test]
    fn a_thread_keeps_a_bounded_piece_of_memory() {
        DiskBuffer::release_kept();
        for size in [1 << 20, 2 << 20, 4 << 20] {
            give_back(size, 100);
        }
        POOL.with_borrow(|pool| assert_eq!(pool.free_bytes, KEPT_BYTES_MAX));
        DiskBuffer::release_kept();
        POOL.with_borrow(|pool| assert_eq!(pool.free_bytes, 0));
    }

    #[test]
    fn what_is_asked_for_now_is_kept_in_the_place_of_what_was_before() {
        DiskBuffer::release_kept();
        give_back(1 << 20, 16);
        give_back(2 << 20, 8);
        assert_eq!((free_of(1 << 20), free_of(2 << 20)), (16, 8));
        give_back(4 << 20, 1);
        assert_eq!(
            (free_of(1 << 20), free_of(2 << 20), free_of(4 << 20)),
            (12, 8, 1)
        );
        DiskBuffer::release_kept();
    }

    #[test]
    fn what_is_given_back_late_does_not_displace_what_was_asked_for_since() {
        DiskBuffer::release_kept();
        let early = DiskBufferMut::pooled(4 << 20);
        give_back(1 << 20, 16);
        give_back(2 << 20, 8);
        drop(early);
        assert_eq!(
            (free_of(1 << 20), free_of(2 << 20), free_of(4 << 20)),
            (16, 8, 0)
        );
        DiskBuffer::release_kept();
    }

    #[test]
    fn one_size_does_not_take_all_of_it() {
        DiskBuffer::release_kept();
        give_back(1 << 20, 100);
        assert_eq!(free_of(1 << 20), 16);
        // Nor does one that can never be kept displace anything.
        give_back(32 << 20, 1);
        assert_eq!(free_of(1 << 20), 16);
        DiskBuffer::release_kept();
    }

    #[test]
    fn sizes_lose_at_most_an_eighth() {
        for blocks in 1..5_000 {
            let bytes = blocks * BLOCK_BYTES;
            let class = size_class(bytes);
            assert!(class >= bytes && class.is_multiple_of(BLOCK_BYTES));
            assert!(class - bytes <= bytes / 8, "{bytes} takes {class}");
        }
    }
}
