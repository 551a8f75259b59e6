//! Batches, commits and buffers for the tests of the storage.

use bytes::{Bytes, BytesMut};
use gannet_wire::batch::{BatchBuilder, BatchLimits, Compression, ProducerStamp, stamp};
use gannet_wire::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};

use super::commit::{BatchStamp, CommitIdentity, CommitWriter, commit_bytes};
use super::layout::FilePlace;
use super::{Generation, Lsn, PartitionKey};
use crate::io::{BLOCK_BYTES, DiskBuffer, DiskBufferMut};

pub(crate) const KEY: PartitionKey = PartitionKey {
    topic: TopicId(7),
    partition: PartitionIndex(3),
};
pub(crate) const OTHER_KEY: PartitionKey = PartitionKey {
    topic: TopicId(8),
    partition: PartitionIndex(0),
};
pub(crate) const TIME: Timestamp = Timestamp(1_000);

/// A batch as a producer sends it: `count` records of `value_bytes`.
pub(crate) fn batch_of(count: u32, value_bytes: usize, producer: Option<ProducerStamp>) -> Bytes {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    for index in 0..count {
        // Never zeros: a block that is missing must differ from one that is there.
        let value = vec![1 + index as u8; value_bytes];
        builder
            .push(TIME, None, Some(&value), &[])
            .expect("the batch has room");
    }
    builder.build(Compression::None, producer)
}

pub(crate) fn batch(count: u32) -> Bytes {
    batch_of(count, 10, None)
}

/// A batch of [`KEY`] as the broker stores it.
pub(crate) fn stamped(count: u32, value_bytes: usize, base_offset: u64) -> Bytes {
    let mut bytes = BytesMut::from(&batch_of(count, value_bytes, None)[..]);
    stamp(
        &mut bytes,
        KEY.topic,
        KEY.partition,
        Offset(base_offset),
        TIME,
        LeaderEpoch(0),
    );
    bytes.freeze()
}

pub(crate) fn batch_stamp(key: PartitionKey, base_offset: u64, record_count: u32) -> BatchStamp {
    BatchStamp {
        key,
        base_offset: Offset(base_offset),
        record_count,
        append_time: TIME,
        leader_epoch: LeaderEpoch(0),
    }
}

pub(crate) fn producer(id: u64, epoch: u32, base_sequence: u32) -> ProducerStamp {
    ProducerStamp {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(base_sequence),
    }
}

pub(crate) fn identity(generation: u64, lsn: u64, position: u64) -> CommitIdentity {
    CommitIdentity {
        generation: Generation(generation),
        lsn: Lsn(lsn),
        position,
        durable_lsn: Lsn(0),
        append_time: TIME,
        previous_checksum: 0,
        file: FilePlace::NONE,
    }
}

/// A commit with one batch of [`KEY`] for each pair of record count and bytes a value, from `base_offset` on.
pub(crate) fn commit_of(
    identity: CommitIdentity,
    base_offset: u64,
    batches: &[(u32, usize)],
) -> Vec<u8> {
    let encoded: Vec<Bytes> = batches
        .iter()
        .map(|(count, value_bytes)| batch_of(*count, *value_bytes, None))
        .collect();
    let payload = encoded.iter().map(Bytes::len).sum();
    let mut bytes = vec![0; commit_bytes(batches.len(), payload)];
    let mut writer = CommitWriter::new(&mut bytes, identity, batches.len());
    let mut base_offset = base_offset;
    for (batch, (count, _)) in encoded.iter().zip(batches) {
        writer.batch(batch, &batch_stamp(KEY, base_offset, *count));
        base_offset += u64::from(*count);
    }
    let _ = writer.finish();
    bytes
}

/// Bytes as a read from a disk gives them; whole blocks, or the end of a file.
pub(crate) fn disk_buffer(bytes: &[u8]) -> DiskBuffer {
    if bytes.is_empty() {
        return DiskBuffer::empty();
    }
    let mut buffer = DiskBufferMut::heap(bytes.len().next_multiple_of(BLOCK_BYTES));
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer.freeze()
}
