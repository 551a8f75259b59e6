//! The batch: records encoded together, the unit of checksum, of storage and of delivery.
//!
//! A producer fills a [`BatchBuilder`] and sends what [`BatchBuilder::build`] returns. The broker proves it with
//! [`check_batch`], writes its own words into the first 32 bytes with [`stamp`], and the very same bytes then lie in the
//! journal and the segment and reach the consumer, who opens them with [`Records::open`]. Whoever reads a batch back
//! from a disk or a network proves it with [`verify_stamped`].
//!
//! The bytes are specified in the chapter "Batch" of `wire/PROTOCOL.md`.
#![warn(clippy::indexing_slicing)]

mod builder;
mod check;
mod columns;
mod compress;
mod error;
mod header;
mod records;
mod stamp;

pub use builder::BatchBuilder;
pub use check::{BatchLimits, CheckDepth, CheckScratch, CheckedHeader, check_batch, split_batch};
pub use columns::{ARCHIVE_ROOT_BYTES, HeadersRef, RecordRef};
pub use compress::Compression;
pub use error::BatchError;
pub use header::{
    BATCH_HEADER_BYTES, BatchHeader, FORMAT_COLUMNS, FORMAT_KAFKA_V2, ProducerStamp, STAMP_BYTES,
};
pub use records::{RecordIter, Records};
pub(crate) use stamp::change_producer;
pub use stamp::{stamp, verify_stamp_only, verify_stamped};
