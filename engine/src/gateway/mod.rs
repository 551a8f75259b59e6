//! Protocols: frames in, shard requests out. No knowledge of storage.

pub mod native;
