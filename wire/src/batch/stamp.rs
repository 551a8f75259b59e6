//! What the broker writes into a batch, and the proof of it.

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, Unaligned};

use super::check::check_crc;
use super::header::BrokerRegion;
use super::{BatchError, BatchHeader, ProducerStamp, STAMP_BYTES};
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use crate::limits::OFFSET_MAX;

/// Stamps a batch that was checked: where it now lies and since when. Only the first 32 bytes are touched, and the
/// batch's own checksum stays right. A batch can be stamped again.
///
/// # Panics
/// When `batch_prefix` is shorter than 32 bytes, or the offset is beyond the format's.
pub fn stamp(
    batch_prefix: &mut [u8],
    topic: TopicId,
    partition: PartitionIndex,
    base_offset: Offset,
    append_time: Timestamp,
    epoch: LeaderEpoch,
) {
    assert!(
        base_offset.0 <= OFFSET_MAX,
        "a partition never grows beyond the last offset"
    );
    let (region, _) =
        BrokerRegion::mut_from_prefix(batch_prefix).expect("a batch is longer than its stamps");
    region.base_offset = base_offset.0.into();
    region.append_time = append_time.0.into();
    region.leader_epoch = epoch.0.into();
    region.stamp_crc = stamp_crc(region, topic, partition).into();
}

/// Makes a batch that was never stored another producer's, or gives it another sequence: the producer's checksum is written again.
///
/// # Panics
/// When `batch` is not a whole batch as [`BatchBuilder::build`](super::BatchBuilder::build) returns it.
pub(crate) fn change_producer(batch: &mut [u8], producer: ProducerStamp) {
    let (header, body) =
        BatchHeader::mut_from_prefix(batch).expect("a batch is not shorter than its header");
    header.set_producer(producer);
    header.sign(body);
}

/// Proves that the batch at the front of `bytes` is what a broker stored for this topic and partition: both checksums
/// and the length. What is in the body is not looked at. `bytes` may go on behind the batch.
///
/// # Errors
/// What is wrong, as a [`BatchError`].
pub fn verify_stamped(
    bytes: &[u8],
    topic: TopicId,
    partition: PartitionIndex,
) -> Result<&BatchHeader, BatchError> {
    let header = verify_stamp_only(bytes, topic, partition)?;
    check_crc(header, bytes)?;
    Ok(header)
}

/// Proves the header's broker region alone, for this topic and partition. The body is not read and need not be there,
/// so neither it nor the producer's part of the header is proven.
///
/// # Errors
/// [`BatchError::StampChecksum`], or what is wrong with the header.
pub fn verify_stamp_only(
    bytes: &[u8],
    topic: TopicId,
    partition: PartitionIndex,
) -> Result<&BatchHeader, BatchError> {
    let header = BatchHeader::read_from_prefix_of(bytes)?;
    let computed = stamp_crc(&header.broker, topic, partition);
    if computed != header.stamp_crc() {
        return Err(BatchError::StampChecksum {
            found: header.stamp_crc(),
            computed,
        });
    }
    Ok(header)
}

fn stamp_crc(region: &BrokerRegion, topic: TopicId, partition: PartitionIndex) -> u32 {
    let covered = StampCovered {
        topic: topic.0.into(),
        partition: partition.0.into(),
        batch_bytes: region.batch_bytes,
        crc: region.crc,
        base_offset: region.base_offset,
        append_time: region.append_time,
        leader_epoch: region.leader_epoch,
    };
    crc32c::crc32c(covered.as_bytes())
}

/// What a stamp's CRC covers: the place of the batch, which is not in its bytes, and the stamps without that CRC.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct StampCovered {
    topic: U64,
    partition: U32,
    batch_bytes: U32,
    crc: U32,
    base_offset: U64,
    append_time: I64,
    leader_epoch: U32,
}

const _: () = assert!(
    size_of::<StampCovered>()
        == size_of::<TopicId>() + size_of::<PartitionIndex>() + STAMP_BYTES - size_of::<u32>()
);
