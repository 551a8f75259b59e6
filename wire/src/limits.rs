//! Every limit of the formats, with its name. Relations between limits are checked when this crate is compiled.

// ---- Batches ----------------------------------------------------------------------------------------------------

/// The most bytes of a whole batch, header included, that any broker may be set to accept: 16 MiB.
pub const BATCH_BYTES_MAX: u32 = 16 << 20;

/// The most bytes of a whole batch that a broker accepts unless it is configured otherwise: 1 MiB. What a broker in
/// fact accepts stands in its HelloReply.
pub const BATCH_BYTES_DEFAULT: u32 = 1 << 20;

/// The most records of a batch.
pub const BATCH_RECORDS_MAX: u32 = 4 * 65_536;

/// The most headers of one record.
pub const HEADERS_MAX: u32 = 1_024;

/// The most bytes of a body after decompression: 32 MiB.
pub const DECOMPRESSED_BYTES_MAX: u32 = 32 << 20;

/// A body may be at most this many times as large as its compressed form, plus [`DECOMPRESSION_SLACK_BYTES`]. No
/// block of lz4 can grow by more than 255; zstd could, so this bounds the work that a received byte can cause.
pub const DECOMPRESSION_RATIO_MAX: u32 = 255;

/// What a body may have beyond [`DECOMPRESSION_RATIO_MAX`] times its compressed form, so that tiny bodies are not
/// refused for the fixed cost of their archive.
pub const DECOMPRESSION_SLACK_BYTES: u32 = 4_096;

/// A [`CheckScratch`](crate::batch::CheckScratch) keeps at most this much memory between two checks.
pub const CHECK_SCRATCH_KEPT_BYTES_MAX: u32 = 4 << 20;

/// The latest timestamp of a record: the last millisecond of the year 9999. The earliest is 0.
pub const TIMESTAMP_MAX: i64 = 253_402_300_799_999;

/// The highest base offset of a batch, so that no sum of an offset and a count overflows.
pub const OFFSET_MAX: u64 = i64::MAX as u64;

const _: () = {
    use crate::batch::{ARCHIVE_ROOT_BYTES, BATCH_HEADER_BYTES};

    // A batch with one empty record fits under every limit.
    let smallest = (BATCH_HEADER_BYTES + ARCHIVE_ROOT_BYTES + 4) as u32;
    assert!(smallest <= BATCH_BYTES_DEFAULT);
    assert!(BATCH_BYTES_DEFAULT <= BATCH_BYTES_MAX);
    // What a batch may hold uncompressed, it may hold compressed.
    assert!(BATCH_BYTES_MAX <= DECOMPRESSED_BYTES_MAX);
    // Bit 31 of an end says "null", and the archive's pointers are signed 32-bit.
    assert!(DECOMPRESSED_BYTES_MAX < 1 << 31);
    // As many records as may be are possible, even each with a timestamp, a key end and a value end of its own.
    assert!(BATCH_RECORDS_MAX as u64 * 16 + ARCHIVE_ROOT_BYTES as u64 <= BATCH_BYTES_MAX as u64);
    // Headers are counted in 32 bits, twice (a name and a value each).
    assert!(BATCH_RECORDS_MAX as u64 * HEADERS_MAX as u64 * 2 < 1 << 31);
    // An uncompressed batch of default size compresses under the ratio even when it is all zeros.
    assert!(DECOMPRESSION_RATIO_MAX >= 255);
    assert!(CHECK_SCRATCH_KEPT_BYTES_MAX <= DECOMPRESSED_BYTES_MAX);
    assert!(OFFSET_MAX.checked_add(BATCH_RECORDS_MAX as u64).is_some());
};

// ---- end of batches ---------------------------------------------------------------------------------------------
