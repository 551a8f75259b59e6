//! Which partition a record goes to when the sender does not say.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::ids::PartitionIndex;

/// Records with a key: by the key's hash, the one Kafka's producers use, so that a key has the same partition whichever
/// protocol it comes by. Records without: one partition until its batch is full, then the next.
#[derive(Debug)]
pub(crate) struct Partitioner {
    partitions: u32,
    sticky: AtomicU32,
}

impl Partitioner {
    pub(crate) const fn new(partitions: u32) -> Self {
        Self {
            partitions,
            sticky: AtomicU32::new(0),
        }
    }

    pub(crate) fn partition(&self, key: Option<&[u8]>) -> PartitionIndex {
        PartitionIndex(match key {
            Some(key) => (murmur2(key) & 0x7fff_ffff) % self.partitions,
            None => self.sticky.load(Ordering::Relaxed) % self.partitions,
        })
    }

    /// The batch of a record without a key is under way.
    pub(crate) fn handle_sealed(&self, partition: PartitionIndex) {
        // Only if nobody else went on already.
        let _ = self.sticky.compare_exchange(
            partition.0,
            (partition.0 + 1) % self.partitions,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
}

/// Austin Appleby's MurmurHash2 with the seed Kafka uses (`Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_kafkas() {
        // From the tests of Kafka's clients, org.apache.kafka.common.utils.UtilsTest.
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn records_without_a_key_go_on_to_the_next_partition_when_a_batch_is_full() {
        let partitioner = Partitioner::new(2);
        assert_eq!(partitioner.partition(None), PartitionIndex(0));
        assert_eq!(partitioner.partition(None), PartitionIndex(0));
        partitioner.handle_sealed(PartitionIndex(0));
        assert_eq!(partitioner.partition(None), PartitionIndex(1));
        partitioner.handle_sealed(PartitionIndex(0));
        assert_eq!(partitioner.partition(None), PartitionIndex(1));
        partitioner.handle_sealed(PartitionIndex(1));
        assert_eq!(partitioner.partition(None), PartitionIndex(0));
    }
}
