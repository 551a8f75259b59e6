//! A stretch of a shared disk buffer: how a batch is held by the tail, by readers and by connections without copying it.

use std::fmt;
use std::ops::{Deref, Range};

use crate::io::DiskBuffer;

/// Bytes inside a [`DiskBuffer`] that stay alive as long as this does.
#[derive(Clone)]
pub struct Slice {
    buffer: DiskBuffer,
    start: u32,
    end: u32,
}

impl Slice {
    /// The stretch `range` of `buffer`.
    #[must_use]
    pub fn new(buffer: DiskBuffer, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= buffer.len(),
            "a slice lies inside its buffer"
        );
        let end = u32::try_from(range.end).expect("buffers are below 4 GiB");
        Self {
            buffer,
            start: range.start as u32,
            end,
        }
    }

    /// What it keeps alive: all of its buffer.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.buffer.allocated_bytes()
    }

    /// Whether both lie in the same buffer.
    #[must_use]
    pub fn shares_buffer(&self, other: &Self) -> bool {
        self.buffer.is_same(&other.buffer)
    }

    /// A part of this slice, `range` counted from its start.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        let start = self.start as usize;
        assert!(range.end <= self.len(), "a part lies inside its slice");
        Self::new(self.buffer.clone(), start + range.start..start + range.end)
    }
}

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.len())
    }
}
