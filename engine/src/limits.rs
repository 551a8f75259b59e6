//! Every limit of the engine, and the relations between them that must hold.

/// Shards of one broker: a shard's number has 8 bits in a segment's id.
pub const SHARDS_MAX: usize = 256;
/// All bytes of one commit, head, directories and filler included. A batch larger than what is left goes straight to a segment.
pub const COMMIT_BYTES_MAX: usize = 2 << 20;
