//! The head of a record that has no room for a whole one.
#![warn(clippy::indexing_slicing)]

use std::time::Duration;

use super::filler::Filler;
use super::record::{CorruptRecord, RecordHead, checksum};

/// The smallest record: the head alone.
pub const RECORD_BYTES_MIN: usize = 16;
/// How many producers such heads can tell apart.
pub const TINY_PRODUCERS_MAX: u32 = 1 << PRODUCER_BITS;
/// How long a run can be so that its times fit such heads.
pub const TINY_DURATION_MAX: Duration = Duration::from_micros(INTENDED_US_MASK);

const PRODUCER_BITS: u32 = 16;
const SEQUENCE_BITS: u32 = 40;
const INTENDED_BITS: u32 = 40;
const SEQUENCE_AT: u32 = PRODUCER_BITS;
const INTENDED_AT: u32 = SEQUENCE_AT + SEQUENCE_BITS;
const CHECKSUM_AT: u32 = INTENDED_AT + INTENDED_BITS;
const PRODUCER_MASK: u32 = TINY_PRODUCERS_MAX - 1;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
const INTENDED_US_MASK: u64 = (1 << INTENDED_BITS) - 1;

const _: () = assert!(CHECKSUM_AT + u32::BITS == RECORD_BYTES_MIN as u32 * u8::BITS);

/// The head of a record of less than [`HEAD_BYTES`](super::HEAD_BYTES), 16 bytes, little endian; the rest is [`Filler`].
///
/// ```text
///  0 u16 producer
///  2 u40 sequence
///  7 u40 intended_us    intended_ns in whole microseconds
/// 12 u32 checksum       the low half of that of a whole head of the same values
/// ```
///
/// What is left out is known to who reads it, or seen: run, partition and length. The checksum covers them all the same, so a record of another partition, of another length or of another run is
/// found, as one that was changed. Such a record does not say by itself that it is another run's, so a run with tiny records has a topic to itself.
impl RecordHead {
    /// What of this a tiny head can hold. The plan of a run has checked that nothing is cut off but parts of a microsecond; as many records of one producer as it would take for that do not fit a disk.
    fn to_tiny(self) -> Self {
        Self {
            producer: self.producer & PRODUCER_MASK,
            sequence: self.sequence & SEQUENCE_MASK,
            intended_ns: ((self.intended_ns / 1000) & INTENDED_US_MASK) * 1000,
            ..self
        }
    }

    /// Fills a record that is too short for a whole head.
    ///
    /// # Panics
    /// When `record` is shorter than [`RECORD_BYTES_MIN`].
    #[inline]
    pub(super) fn write_tiny(&self, filler: &Filler, record_bytes: u32, record: &mut [u8]) {
        let tiny = self.to_tiny();
        let checksum = checksum(tiny.words(record_bytes));
        let word = u128::from(tiny.producer)
            | u128::from(tiny.sequence) << SEQUENCE_AT
            | u128::from(tiny.intended_ns / 1000) << INTENDED_AT
            | u128::from(checksum as u32) << CHECKSUM_AT;
        let (head, body) = record
            .split_first_chunk_mut::<RECORD_BYTES_MIN>()
            .expect("the plan allows no record shorter than its head");
        *head = word.to_le_bytes();
        let filling = filler
            .body(checksum, body.len())
            .expect("the filler was made for the plan's record size");
        body.copy_from_slice(filling);
    }

    /// Reads and checks a record that is too short for a whole head: of that run, out of that partition.
    ///
    /// # Errors
    /// [`CorruptRecord`] when it is not what [`RecordHead::write`] gave for that run and partition.
    #[inline]
    pub fn check_tiny(
        record: &[u8],
        filler: &Filler,
        run: u32,
        partition: u32,
    ) -> Result<Self, CorruptRecord> {
        let (head, body) = record
            .split_first_chunk::<RECORD_BYTES_MIN>()
            .ok_or(CorruptRecord::TooShort(record.len()))?;
        let record_bytes = u32::try_from(record.len()).map_err(|_| CorruptRecord::Head)?;
        let word = u128::from_le_bytes(*head);
        let head = Self {
            run,
            producer: word as u32 & PRODUCER_MASK,
            partition,
            sequence: (word >> SEQUENCE_AT) as u64 & SEQUENCE_MASK,
            intended_ns: ((word >> INTENDED_AT) as u64 & INTENDED_US_MASK) * 1000,
        };
        let checksum = checksum(head.words(record_bytes));
        if (word >> CHECKSUM_AT) as u32 != checksum as u32 {
            return Err(CorruptRecord::Head);
        }
        if filler.body(checksum, body.len()) != Some(body) {
            return Err(CorruptRecord::Body);
        }
        Ok(head)
    }
}
