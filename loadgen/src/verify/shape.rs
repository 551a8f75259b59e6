//! What each record of a run is like, beside its bytes: its size and its key.

use std::ops::Range;

use super::filler::mix;
use crate::sizes::RecordSizes;

/// The sizes and the keys of a run's records: pure functions of the seed and of which record it is, so that the same seed gives the same load whatever the
/// broker does, and that a consumer knows the key to expect.
#[derive(Clone, Debug)]
pub struct RecordShape {
    sizes: RecordSizes,
    keys: u32,
    partitions: u32,
    seed: u64,
}

/// A record's key: `key-` and its number in eight hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; KEY_BYTES]);

const KEY_PREFIX: &[u8; 4] = b"key-";
const KEY_BYTES: usize = KEY_PREFIX.len() + 8;
/// What tells the draw of a key from that of a size.
const KEY_SALT: u64 = 0x6B65_7973;

impl RecordShape {
    /// Records of these sizes with one of that many keys, or without keys for 0, in a topic of that many partitions.
    #[must_use]
    pub fn new(sizes: RecordSizes, keys: u32, partitions: u32, seed: u64) -> Self {
        Self {
            sizes,
            keys,
            partitions,
            seed,
        }
    }

    /// The topic's partitions.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The partitions that get records: the first ones, when there are fewer keys than partitions.
    #[must_use]
    pub fn partitions_used(&self) -> u32 {
        match self.keys {
            0 => self.partitions,
            keys => keys.min(self.partitions),
        }
    }

    /// The largest record.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.sizes.max()
    }

    /// The size to expect, a whole number of bytes.
    #[must_use]
    pub fn bytes_mean(&self) -> u64 {
        self.sizes.mean_bytes() as u64
    }

    /// How large that record is.
    #[must_use]
    #[inline]
    pub fn bytes(&self, producer: u32, partition: u32, sequence: u64) -> usize {
        match self.sizes {
            RecordSizes::Fixed(size) => size,
            _ => self.sizes.draw(self.word(producer, partition, sequence)),
        }
    }

    /// How large these records are together.
    #[must_use]
    pub fn bytes_of(&self, producer: u32, partition: u32, sequences: Range<u64>) -> u64 {
        match self.sizes {
            RecordSizes::Fixed(size) => {
                (size as u64).saturating_mul(sequences.end.saturating_sub(sequences.start))
            }
            _ => sequences
                .map(|sequence| self.bytes(producer, partition, sequence) as u64)
                .sum(),
        }
    }

    /// The key of that record. Key number `k` belongs to partition `k % partitions`: always the same.
    #[must_use]
    #[inline]
    pub fn key(&self, producer: u32, partition: u32, sequence: u64) -> Option<Key> {
        if partition >= self.keys {
            return None;
        }
        // Those of the partition: it, and each that many partitions further on.
        let of_partition = (self.keys - partition).div_ceil(self.partitions);
        let word = mix(self.word(producer, partition, sequence) ^ KEY_SALT);
        let drawn = ((u128::from(word) * u128::from(of_partition)) >> 64) as u32;
        Some(Key::new(partition + drawn * self.partitions))
    }

    #[inline]
    fn word(&self, producer: u32, partition: u32, sequence: u64) -> u64 {
        let place = (u64::from(producer) << 32) | u64::from(partition);
        mix(mix(mix(self.seed) ^ place).wrapping_add(sequence))
    }
}

impl Key {
    fn new(number: u32) -> Self {
        let mut bytes = [0; KEY_BYTES];
        let (prefix, digits) = bytes.split_at_mut(KEY_PREFIX.len());
        prefix.copy_from_slice(KEY_PREFIX);
        for (digit, place) in digits.iter_mut().zip((0..8).rev()) {
            *digit = match (number >> (place * 4)) as u8 & 0xF {
                value @ 0..10 => b'0' + value,
                value => b'a' + value - 10,
            };
        }
        Self(bytes)
    }

    /// Its bytes: ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn shape(sizes: RecordSizes, keys: u32, partitions: u32, seed: u64) -> RecordShape {
        RecordShape::new(sizes, keys, partitions, seed)
    }

    fn text(key: Key) -> String {
        String::from_utf8(key.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_key_is_its_number_in_hexadecimal() {
        assert_eq!(text(Key::new(0)), "key-00000000");
        assert_eq!(text(Key::new(0xDEAD_BEEF)), "key-deadbeef");
    }

    #[test]
    fn the_same_seed_gives_the_same_sizes_and_keys_and_another_seed_others() {
        let sizes = RecordSizes::Uniform {
            min: 40,
            max: 4_000,
        };
        let of_seed = |seed| {
            let shape = shape(sizes.clone(), 50, 3, seed);
            (0..100)
                .map(|sequence| {
                    (
                        shape.bytes(1, 2, sequence),
                        shape.key(1, 2, sequence).map(text),
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(of_seed(7), of_seed(7));
        assert_ne!(of_seed(7), of_seed(8));
    }

    #[test]
    fn each_key_is_used_and_always_in_the_same_partition() {
        for (keys, partitions) in [(7, 3), (3, 3), (2, 5), (1, 1)] {
            let shape = shape(RecordSizes::Fixed(40), keys, partitions, 1);
            let mut partition_of = BTreeMap::new();
            for producer in 0..3 {
                for partition in 0..shape.partitions_used() {
                    for sequence in 0..200 {
                        let key = text(shape.key(producer, partition, sequence).unwrap());
                        assert_eq!(*partition_of.entry(key).or_insert(partition), partition);
                    }
                }
            }
            assert_eq!(
                partition_of.len(),
                keys as usize,
                "{keys} over {partitions}"
            );
            let used: BTreeSet<_> = partition_of.into_values().collect();
            assert_eq!(used.len() as u32, keys.min(partitions));
        }
    }

    #[test]
    fn without_keys_no_record_has_one_and_all_partitions_are_used() {
        let shape = shape(RecordSizes::Fixed(40), 0, 4, 1);
        assert_eq!(shape.partitions_used(), 4);
        assert!((0..4).all(|partition| shape.key(0, partition, 9).is_none()));
    }

    #[test]
    fn the_bytes_of_several_records_are_those_of_each() {
        for sizes in [
            RecordSizes::Fixed(70),
            RecordSizes::Uniform { min: 40, max: 900 },
        ] {
            let shape = shape(sizes, 0, 2, 3);
            let each: usize = (5..25).map(|sequence| shape.bytes(1, 0, sequence)).sum();
            assert_eq!(shape.bytes_of(1, 0, 5..25), each as u64);
        }
    }
}
