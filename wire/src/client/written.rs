//! How frames are laid out for the kernel.

use std::io::IoSlice;

use super::hub::OutFrame;

/// The frames in order as few slices: small ones are copied together into `scratch`, large batches stay where they are.
pub(crate) fn gathered<'a>(frames: &'a [OutFrame], scratch: &'a mut Vec<u8>) -> Vec<IoSlice<'a>> {
    scratch.clear();
    // Where in `scratch` a large batch is to be put in between.
    let mut cuts = Vec::new();
    for frame in frames {
        scratch.extend_from_slice(frame.head());
        if frame.tail.len() <= GATHERED_BYTES_MAX {
            scratch.extend_from_slice(&frame.tail);
        } else {
            cuts.push((scratch.len(), &frame.tail));
        }
    }
    let mut slices = Vec::with_capacity(cuts.len() * 2 + 1);
    let mut rest = scratch.as_slice();
    let mut taken = 0;
    for (end, tail) in cuts {
        let (before, behind) = rest.split_at(end - taken);
        if !before.is_empty() {
            slices.push(IoSlice::new(before));
        }
        slices.push(IoSlice::new(tail));
        (rest, taken) = (behind, end);
    }
    if !rest.is_empty() {
        slices.push(IoSlice::new(rest));
    }
    slices
}

/// Batches up to this size are copied next to their heads: cheaper than a slice of their own for the kernel.
const GATHERED_BYTES_MAX: usize = 8 * 1024;
