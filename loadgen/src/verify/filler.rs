//! Seeded pseudo-random bytes that fill a record behind its head.

/// Where in the block a record's filler may start. Small enough to stay in a core's first cache beside the record itself; a power of two.
const STARTS: usize = 16 * 1024;

/// One block of pseudo-random bytes, made once: a record's filler is a slice of it, so that filling is a `memcpy` and checking a `memcmp`.
///
/// Where the slice starts follows from the checksum of the record's head, so that the body of another record is noticed.
#[derive(Debug)]
pub struct Filler {
    block: Box<[u8]>,
}

impl Filler {
    /// A block for records of up to `record_bytes_max` bytes.
    #[must_use]
    pub fn new(seed: u64, record_bytes_max: usize) -> Self {
        let mut state = seed;
        let words = (STARTS + record_bytes_max).div_ceil(8);
        let block = (0..words)
            .flat_map(|_| {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                mix(state).to_le_bytes()
            })
            .collect();
        Self { block }
    }

    /// The filler of a record whose head has this checksum. `None` when the record is larger than the block was made for.
    #[must_use]
    #[inline]
    pub fn body(&self, checksum: u64, body_bytes: usize) -> Option<&[u8]> {
        let start = (checksum >> 32) as usize % STARTS;
        self.block.get(start..start.checked_add(body_bytes)?)
    }
}

/// The finalizer of splitmix64: every bit of the input moves about half of the output's.
#[inline]
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}
