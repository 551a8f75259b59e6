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
    // lz4 never shrinks further than this, so whatever a builder compresses with it is accepted.
    assert!(DECOMPRESSION_RATIO_MAX >= 255);
    assert!(CHECK_SCRATCH_KEPT_BYTES_MAX <= DECOMPRESSED_BYTES_MAX);
    assert!(OFFSET_MAX.checked_add(BATCH_RECORDS_MAX as u64).is_some());
};

// ---- end of batches ---------------------------------------------------------------------------------------------

// ---- Frames, names, sentences -----------------------------------------------------------------------------------

/// Bytes of the largest frame anybody may send: the largest batch and 64 KiB for what stands around it. A server may
/// state a lower one in its Hello.
pub const FRAME_BYTES_MAX: u32 = 16 * 1024 * 1024 + 64 * 1024;
/// Bytes of the header that begins every frame.
pub const FRAME_HEADER_BYTES: usize = 16;
/// Bytes that stand before the batch in a Publish, and before the batches in a Deliver; the frame's header included.
pub const DATA_HEAD_BYTES: usize = 32;
/// The version of the frame format.
pub const FRAME_VERSION: u8 = 1;
/// The oldest protocol this crate speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The newest protocol this crate speaks.
pub const PROTOCOL_MAX: u16 = 1;

/// Bytes of a topic's name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Bytes of the name of a consumer group.
pub const GROUP_NAME_BYTES_MAX: usize = 255;
/// Bytes of the name by which a client introduces itself, and of the server's.
pub const PEER_NAME_BYTES_MAX: usize = 255;
/// Bytes of the text that may stand beside a committed offset.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;
/// Bytes of the sentence in an error; longer ones are cut at a character's boundary when written.
pub const SENTENCE_BYTES_MAX: usize = 1024;

/// Partitions of one topic: all of them fit one TopicReply.
pub const TOPIC_PARTITIONS_MAX: u32 = 100_000;
/// Topics in one TopicListReply.
pub const TOPIC_LIST_MAX: u32 = 10_000;
/// Fenced ranges stated for one partition in a TopicReply.
pub const FENCES_MAX: usize = 1024;
/// Acknowledgements in one PublishAcks frame.
pub const PUBLISH_ACKS_MAX: u32 = 16_384;
/// Partitions in one OffsetsCommit, OffsetsFetch or OffsetsReply.
pub const OFFSETS_MAX: u32 = 4096;

/// The heartbeat interval a server may state, in milliseconds, at least.
pub const HEARTBEAT_MS_MIN: u32 = 10;
/// Silence longer than this many heartbeat intervals means that the peer is gone.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;

/// Bytes of one acknowledgement in a PublishAcks frame.
pub(crate) const PUBLISH_ACK_BYTES: usize = 32;
/// Bytes of a PublishAcks frame before its acknowledgements.
pub(crate) const PUBLISH_ACKS_HEAD_BYTES: usize = FRAME_HEADER_BYTES + 8;
/// Bytes of one partition in a TopicReply that has no fences.
pub(crate) const PARTITION_BYTES: usize = 38;

const _: () = {
    assert!(PROTOCOL_MIN <= PROTOCOL_MAX);
    assert!(DATA_HEAD_BYTES == FRAME_HEADER_BYTES + 16);
    assert!(
        PUBLISH_ACKS_HEAD_BYTES + PUBLISH_ACKS_MAX as usize * PUBLISH_ACK_BYTES
            <= FRAME_BYTES_MAX as usize
    );
    assert!(TOPIC_PARTITIONS_MAX as usize * PARTITION_BYTES + 1024 <= FRAME_BYTES_MAX as usize);
    assert!(
        TOPIC_LIST_MAX as usize * (8 + 2 + TOPIC_NAME_BYTES_MAX + 4) + 64
            <= FRAME_BYTES_MAX as usize
    );
    // A commit of as many offsets as allowed, each with as much metadata as allowed, just fits one frame.
    assert!(
        FRAME_HEADER_BYTES
            + (2 + GROUP_NAME_BYTES_MAX + 8 + 4)
            + OFFSETS_MAX as usize * (4 + 8 + 2 + OFFSET_METADATA_BYTES_MAX)
            <= FRAME_BYTES_MAX as usize
    );
    assert!(FENCES_MAX <= u16::MAX as usize);
    assert!(SENTENCE_BYTES_MAX <= u16::MAX as usize);
    assert!(OFFSET_METADATA_BYTES_MAX <= u16::MAX as usize);
};

const _: () = {
    // The largest batch, with what stands before it, is a frame.
    assert!(BATCH_BYTES_MAX as usize + DATA_HEAD_BYTES <= FRAME_BYTES_MAX as usize);
};
