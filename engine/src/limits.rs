//! The engine's hard limits: what no configuration can exceed. Relations between them are checked when this compiles.
//!
//! The limits of the formats are in `gannet_wire::limits`; what an operator may choose below these is in
//! [`control::config`](crate::control::config).

use gannet_wire::limits as wire;

use crate::io::BLOCK_BYTES;

/// One kibibyte.
pub const KIB: u64 = 1 << 10;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;
/// One tebibyte.
pub const TIB: u64 = 1 << 40;

/// The unit of direct I/O, as a length on the disk.
pub const DISK_BLOCK_BYTES: u64 = BLOCK_BYTES as u64;

/// Shards of one broker: a shard's number has 8 bits in a segment's id. The index 0xFFFF means "any shard" on the wire, so it
/// must stay free.
pub const SHARDS_MAX: usize = 256;
/// Highest processor number that can be named in `runtime.cores`.
pub const CORE_INDEX_MAX: u16 = 4095;

/// Bytes of one encoded batch, header included: the ceiling of `network.batch_bytes_max`.
pub const BATCH_BYTES_MAX: u64 = wire::BATCH_BYTES_MAX as u64;
/// The smallest `network.batch_bytes_max` that is any use.
pub const BATCH_BYTES_MAX_MIN: u64 = 4 * KIB;
/// Bytes of one batch's body, decompressed: the ceiling of `network.decompressed_bytes_max`.
pub const DECOMPRESSED_BYTES_MAX: u64 = wire::DECOMPRESSED_BYTES_MAX as u64;
/// Records of one batch: the ceiling of `network.batch_records_max`.
pub const BATCH_RECORDS_MAX: u64 = wire::BATCH_RECORDS_MAX as u64;
/// Bytes of one frame: the ceiling of `network.frame_bytes_max`.
pub const FRAME_BYTES_MAX: u64 = wire::FRAME_BYTES_MAX as u64;
/// What `network.frame_bytes_max` leaves at least beside the largest batch.
pub const FRAME_OVERHEAD_BYTES_MIN: u64 = 4 * KIB;
/// What one partition may take in a description of its topic, its share of the fences included.
pub const PARTITION_DESCRIPTION_BYTES: u64 = 64;

/// The smallest journal file.
pub const JOURNAL_FILE_BYTES_MIN: u64 = MIB;
/// The largest journal file: positions in it fit 32 bits with room to spare.
pub const JOURNAL_FILE_BYTES_MAX: u64 = 2 * GIB;
/// The smallest `journal.commit_bytes_max`.
pub const COMMIT_BYTES_MAX_MIN: u64 = 16 * KIB;
/// All bytes of one commit, head, directories and filler included: the ceiling of `journal.commit_bytes_max`. A batch larger
/// than what is left goes straight to a segment.
pub const COMMIT_BYTES_MAX: usize = 2 << 20;
/// The smallest `storage.direct_bytes_min`: it is at most `journal.commit_bytes_max`.
pub const DIRECT_BYTES_MIN_MIN: u64 = 16 * KIB;
/// A journal file holds at least so many of the largest commits, or recycling would wait on every one.
pub const COMMITS_PER_JOURNAL_FILE_MIN: u64 = 4;
/// Commits of one shard being written at once.
pub const COMMITS_IN_FLIGHT_MAX: u64 = 64;
/// The longest time that a publish may wait for others to share its commit.
pub const COMMIT_INTERVAL_US_MAX: u64 = 100_000;
/// The longest time between the last ack and the mark that proves it.
pub const MARK_INTERVAL_MS_MAX: u64 = 1_000;

/// Indexes of segments that each shard keeps in memory.
pub const INDEX_CACHE_BYTES: usize = 8 << 20;

/// The smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = MIB;
/// The largest segment: positions in it fit 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 2 * GIB;
/// Flush writes of one shard at once.
pub const FLUSH_WRITES_IN_FLIGHT_MAX: u64 = 64;
/// The largest write of a flush, and the largest read of a segment.
pub const DISK_TRANSFER_BYTES_MAX: u64 = 8 * MIB;
/// Open segments a broker keeps, at most.
pub const OPEN_FILES_MAX: u64 = 1 << 20;
/// Descriptors that are neither a connection's nor a segment's of [`OPEN_FILES_MAX`]: journal, checkpoints, rings, chunks on their way, indexes.
/// A shard needs so many of its own.
pub const DESCRIPTORS_PER_SHARD: u64 = 16;

/// Connections of one broker.
pub const CONNECTIONS_MAX: u64 = 1 << 20;
/// Publishes of one producer and partition in flight; as many batches are remembered to recognize a duplicate.
pub const PRODUCER_INFLIGHT_MAX: u64 = 1024;
/// Producers remembered for one partition.
pub const PRODUCERS_MAX: usize = 10_000;
/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_MAX: u64 = 65_536;
/// The largest per-connection buffer and read quantum.
pub const CONNECTION_BUFFER_BYTES_MAX: u64 = 256 * MIB;

/// Partitions of one topic.
pub const PARTITIONS_MAX: u64 = wire::TOPIC_PARTITIONS_MAX as u64;

/// The shortest `network.heartbeat_ms`.
pub const HEARTBEAT_MS_MIN: u64 = 100;

/// The smallest budget of data that is only in the journal and in memory.
pub const UNFLUSHED_BYTES_MIN: u64 = 4 * MIB;
/// What `storage.unflushed_bytes_max = "auto"` never exceeds.
pub const UNFLUSHED_BYTES_AUTO_MAX: u64 = GIB;
/// `storage.unflushed_bytes_max = "auto"` takes this share of memory.
pub const UNFLUSHED_MEMORY_SHARE: u64 = 8;
/// What `storage.flush_bytes = "auto"` never exceeds.
pub const FLUSH_BYTES_AUTO_MAX: u64 = 64 * MIB;
/// `storage.flush_bytes = "auto"` takes this share of a shard's unflushed budget.
pub const FLUSH_UNFLUSHED_SHARE: u64 = 4;

/// The longest busy poll before a core parks.
pub const BUSY_POLL_US_MAX: u64 = 1_000_000;

const _: () = {
    assert!(
        SHARDS_MAX <= 1 << 8,
        "a shard's number has 8 bits in a segment's id"
    );
    assert!(
        SHARDS_MAX < u16::MAX as usize,
        "the index 0xFFFF means any shard"
    );
    assert!(DISK_BLOCK_BYTES.is_power_of_two());
    assert!(BATCH_BYTES_MAX_MIN < BATCH_BYTES_MAX);
    assert!(BATCH_BYTES_MAX + FRAME_OVERHEAD_BYTES_MIN <= FRAME_BYTES_MAX);
    assert!(FRAME_OVERHEAD_BYTES_MIN >= wire::DATA_HEAD_BYTES as u64);
    assert!(HEARTBEAT_MS_MIN >= wire::HEARTBEAT_MS_MIN as u64);
    assert!(
        FRAME_BYTES_MAX <= u32::MAX as u64,
        "lengths of frames and batches have 32 bits on the wire"
    );
    assert!(BATCH_RECORDS_MAX <= u32::MAX as u64);
    assert!(CONNECTION_BUFFER_BYTES_MAX >= 2 * FRAME_BYTES_MAX);
    assert!(
        JOURNAL_FILE_BYTES_MAX / COMMITS_PER_JOURNAL_FILE_MIN >= COMMIT_BYTES_MAX as u64,
        "the largest commit has its place in the largest journal file"
    );
    assert!(COMMIT_BYTES_MAX.is_multiple_of(BLOCK_BYTES));
    assert!(DIRECT_BYTES_MIN_MIN <= COMMIT_BYTES_MAX_MIN);
    assert!(
        crate::storage::commit::commit_bytes(1, crate::cursor::COMMITTED_ENTRY_BYTES_MAX) as u64
            <= COMMIT_BYTES_MAX_MIN,
        "a committed offset has its place in the smallest commit"
    );
    assert!(COMMIT_BYTES_MAX_MIN <= COMMIT_BYTES_MAX as u64);
    assert!(JOURNAL_FILE_BYTES_MIN / COMMITS_PER_JOURNAL_FILE_MIN >= COMMIT_BYTES_MAX_MIN);
    assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64 && JOURNAL_FILE_BYTES_MAX <= u32::MAX as u64);
    assert!(SEGMENT_BYTES_MAX >= 2 * BATCH_BYTES_MAX);
    assert!(SEGMENT_BYTES_MIN.is_multiple_of(DISK_BLOCK_BYTES));
    assert!(JOURNAL_FILE_BYTES_MIN.is_multiple_of(DISK_BLOCK_BYTES));
    assert!(DISK_TRANSFER_BYTES_MAX.is_multiple_of(DISK_BLOCK_BYTES));
    assert!(
        PARTITIONS_MAX * PARTITION_DESCRIPTION_BYTES < FRAME_BYTES_MAX,
        "the largest topic can be described in one frame"
    );
    assert!(UNFLUSHED_BYTES_AUTO_MAX >= UNFLUSHED_BYTES_MIN);
};
