//! What the benches work on: batches as a producer sends them, and a shard's log on whatever disk.

mod batch;
mod log;
mod null_disk;

pub use batch::{PARTITION, batch_of, checked, published_frames, value};
pub use log::{AckCounter, OneLog, quiet};
pub use null_disk::{NullDisk, null_disk_is_at_work};
