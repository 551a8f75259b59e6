//! What can be wrong with a batch.

use crate::ids::Offset;

/// What is wrong with a batch, or why a record does not go into one.
///
/// All but [`Full`](Self::Full) are the fault of whoever made the bytes (the caller of the builder, or the peer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the header or the batch does.
    #[error("the bytes end early: {needed} needed, {found} found")]
    Truncated {
        /// Bytes needed to go on.
        needed: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The bytes break the format, or a record breaks one of its rules.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The CRC over everything that the producer wrote is wrong.
    #[error("the batch's checksum is {found:#010x}, its bytes give {computed:#010x}")]
    Checksum {
        /// As the header has it.
        found: u32,
        /// As the bytes give it.
        computed: u32,
    },
    /// The CRC over the broker's stamps is wrong: damaged, never stamped, or of another topic or partition.
    #[error("the batch's stamp checksum is {found:#010x}, expected {computed:#010x}")]
    StampChecksum {
        /// As the header has it.
        found: u32,
        /// As the bytes, the topic and the partition give it.
        computed: u32,
    },
    /// It is whole, and offsets are missing between it and the one before it.
    #[error("its first record has offset {found}, and {expected} was to come")]
    Misplaced {
        /// Where it begins.
        found: Offset,
        /// Where it may begin at the latest.
        expected: Offset,
    },
    /// A size is over its limit, and would be in an empty batch too.
    #[error("{what}: {size} is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The format is unknown, or known and not supported.
    #[error("batch format {0} is not supported")]
    FormatUnsupported(u8),
    /// The compression is unknown.
    #[error("batch compression {0} is not supported")]
    CompressionUnsupported(u8),
    /// The record does not fit any more: build the batch and push the record again.
    #[error("the batch is full")]
    Full,
}
