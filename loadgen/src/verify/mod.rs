//! What proves that a run lost nothing: self-describing records, and the checks that a consumer makes on every one.

mod filler;
mod record;
mod sequence;
mod shape;
mod tiny;
mod verifier;

pub use filler::Filler;
pub use record::{CorruptRecord, HEAD_BYTES, RecordHead};
pub use sequence::{SequenceChecker, Sequenced};
pub use shape::{Key, RecordShape};
pub use tiny::{RECORD_BYTES_MIN, TINY_DURATION_MAX, TINY_PRODUCERS_MAX};
pub use verifier::{Findings, Observed, Verifier};

#[cfg(test)]
mod tests;
