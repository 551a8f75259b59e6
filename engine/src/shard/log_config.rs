//! What a shard's log is tuned by.

use std::time::Duration;

use crate::partition::ProducerLimits;

/// What a shard's log is tuned by. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A journal file.
    pub journal_file_bytes: u64,
    /// A commit, at most.
    pub commit_bytes_max: usize,
    /// Journal writes in flight, at most.
    pub commits_in_flight_max: usize,
    /// While a write is in flight, the next one waits until so much has gathered.
    pub commit_gather_bytes: usize,
    /// While commits follow each other, a small one waits until so long after the last one began; a quarter of it where somebody waits for it.
    pub commit_interval: Duration,
    /// How long an acknowledged commit may stand without a mark above it.
    pub mark_interval: Duration,
    /// What is in memory and not in segments, at most; beyond it publishers wait.
    pub unflushed_bytes_max: u64,
    /// A flush starts when so much is not in segments.
    pub flush_bytes: u64,
    /// ... or when something has not been there for so long.
    pub flush_interval: Duration,
    /// A flush covers at most about so much.
    pub flush_round_bytes_max: u64,
    /// A partition with so much to flush gets a segment of its own.
    pub own_segment_bytes_min: u64,
    /// A partition with so much waiting goes straight to a segment.
    pub direct_bytes_min: usize,
    /// ... in pieces of at most so much.
    pub direct_chunk_bytes_max: usize,
    /// ... with so many pieces on their way.
    pub directs_in_flight_max: usize,
    /// A segment is sealed at this size.
    pub segment_bytes_max: u64,
    /// So many shared segments of about the same size are merged.
    pub merge_segments_min: usize,
    /// So much lies between two looks at what there is to merge.
    pub merge_interval: Duration,
    /// A checkpoint's log begins anew once more than this, and more than twice its snapshot, was appended.
    pub checkpoint_bytes_min: u64,
    /// One write of the flusher.
    pub flush_write_bytes: usize,
    /// Writes of the flusher in flight.
    pub flush_writes_in_flight_max: usize,
    /// Flushed batches kept in memory for readers.
    pub tail_cache_bytes: u64,
    /// A read from a segment.
    pub read_chunk_bytes: usize,
    /// Chunks of segments kept in memory.
    pub read_cache_bytes: usize,
    /// Open segments, for reading and for writing together.
    pub open_files_max: usize,
    /// Publishes are refused while the disk has less room than this.
    pub disk_reserve_bytes: u64,
    /// The operator says that the wall clock is right, however far the append clock is behind it.
    pub trust_wall_clock: bool,
    /// Bounds of the producers' table.
    pub producers: ProducerLimits,
}
