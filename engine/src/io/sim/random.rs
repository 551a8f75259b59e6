//! Reproducible randomness.

/// A small generator (SplitMix64): the same seed gives the same numbers for ever, on every machine.
///
/// The algorithm is Sebastiano Vigna's, <https://prng.di.unimi.it/splitmix64.c>, in the public domain.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that `seed` determines.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another generator, independent of what this one gives next.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// Any number.
    #[allow(
        clippy::should_implement_trait,
        reason = "endless: an Option would only be unwrapped"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "nothing is below 0");
        // The top bits of a product; the bias is far below what a test could notice.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// An index of a list of `len`, which is not 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        match (to - from).checked_add(1) {
            Some(width) => from + self.below(width),
            None => self.next(),
        }
    }

    /// True `numerator` times in `denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }
}
