//! The self-describing record: who sent it, where to, which one it is, and when it should have left.
#![warn(clippy::indexing_slicing)]

use super::filler::{Filler, mix};

/// The smallest record that says all about itself. One that is smaller has a head as in `tiny.rs`.
pub const HEAD_BYTES: usize = 40;

/// The head of every record that has room for it, 40 bytes, little endian; the rest is [`Filler`].
///
/// ```text
///  0 u32 run            tells this run's records from others in the same topic
///  4 u32 producer
///  8 u32 partition
/// 12 u32 record_bytes   head included
/// 16 u64 sequence       counts up by one, for each producer and partition, from 0
/// 24 u64 intended_ns    when it should have been sent, since the run began
/// 32 u64 checksum       of the 32 bytes before
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// The run it belongs to.
    pub run: u32,
    /// Who sent it.
    pub producer: u32,
    /// The partition it was sent to.
    pub partition: u32,
    /// Its number among what this producer sent to this partition.
    pub sequence: u64,
    /// When it should have been sent: nanoseconds since the run began.
    pub intended_ns: u64,
}

/// Why a record is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptRecord {
    /// Too short to have a head.
    #[error("a record of {0} bytes is too short to hold its head")]
    TooShort(usize),
    /// The head's checksum does not match.
    #[error("the record's head was changed")]
    Head,
    /// The length in the head is not the record's.
    #[error("the record was cut or extended: its head says {expected} bytes, it has {found}")]
    Length {
        /// As the head says.
        expected: u32,
        /// As it is.
        found: usize,
    },
    /// The body is not the filler that belongs to the head.
    #[error("the record's body was changed")]
    Body,
}

impl RecordHead {
    /// Fills `record`, head and body.
    ///
    /// # Panics
    /// When `record` is shorter than [`RECORD_BYTES_MIN`](super::RECORD_BYTES_MIN) or longer than what `filler` was made for: the plan of a run has checked both.
    #[inline]
    pub fn write(&self, filler: &Filler, record: &mut [u8]) {
        let record_bytes = u32::try_from(record.len()).expect("a record is far below 4 GiB");
        if record.len() < HEAD_BYTES {
            return self.write_tiny(filler, record_bytes, record);
        }
        let words = self.words(record_bytes);
        let checksum = checksum(words);
        let (head, body) = record
            .split_at_mut_checked(HEAD_BYTES)
            .expect("a shorter record has been dealt with");
        for (field, word) in head
            .chunks_exact_mut(8)
            .zip(words.into_iter().chain([checksum]))
        {
            field.copy_from_slice(&word.to_le_bytes());
        }
        let filling = filler
            .body(checksum, body.len())
            .expect("the filler was made for the plan's record size");
        body.copy_from_slice(filling);
    }

    /// Reads and checks a record that has a whole head.
    ///
    /// # Errors
    /// [`CorruptRecord`] when any byte differs from what [`RecordHead::write`] gave.
    #[inline]
    pub fn check(record: &[u8], filler: &Filler) -> Result<Self, CorruptRecord> {
        let (head, body) = record
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(CorruptRecord::TooShort(record.len()))?;
        let mut words = [0_u64; 5];
        for (word, field) in words.iter_mut().zip(head.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*field);
        }
        let [who, place, sequence, intended_ns, stated] = words;
        if stated != checksum([who, place, sequence, intended_ns]) {
            return Err(CorruptRecord::Head);
        }
        let (partition, expected) = halves(place);
        if usize::try_from(expected) != Ok(record.len()) {
            return Err(CorruptRecord::Length {
                expected,
                found: record.len(),
            });
        }
        if filler.body(stated, body.len()) != Some(body) {
            return Err(CorruptRecord::Body);
        }
        let (run, producer) = halves(who);
        Ok(Self {
            run,
            producer,
            partition,
            sequence,
            intended_ns,
        })
    }

    pub(super) fn words(&self, record_bytes: u32) -> [u64; 4] {
        [
            u64::from(self.run) | u64::from(self.producer) << 32,
            u64::from(self.partition) | u64::from(record_bytes) << 32,
            self.sequence,
            self.intended_ns,
        ]
    }
}

/// The low and the high half.
fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

#[inline]
pub(super) fn checksum(words: [u64; 4]) -> u64 {
    // Chained, so that swapped words do not cancel out.
    words.into_iter().fold(0x6761_6E6E_6574, |state, word| {
        mix(state ^ word).wrapping_add(word.rotate_left(17))
    })
}
