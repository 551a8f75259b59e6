//! What proves that a run lost nothing: self-describing records, and the checks that a consumer makes on every one.

mod filler;
mod record;
mod sequence;
mod shape;
mod verifier;

pub use filler::Filler;
pub use record::{CorruptRecord, RECORD_BYTES_MIN, RecordHead};
pub use sequence::{SequenceChecker, Sequenced};
pub use shape::{Key, RecordShape};
pub use verifier::{Findings, Observed, Verifier};

#[cfg(test)]
mod tests;
