//! Commits: staging one for the disk, and what a start makes of those it finds. And looking up an offset in an index.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gannet_bench::subject::{PARTITION, batch_of};
use gannet_engine::io::{DiskBuffer, DiskBufferMut};
use gannet_engine::storage::commit::{
    BatchStamp, CommitHead, CommitIdentity, CommitWriter, commit_bytes,
};
use gannet_engine::storage::index::OpenIndex;
use gannet_engine::storage::layout::FilePlace;
use gannet_engine::storage::recovery::{JournalState, Lives, plan};
use gannet_engine::storage::scan::{Found, FoundCommit};
use gannet_engine::storage::slice::Slice;
use gannet_engine::storage::{Generation, Lsn, PartitionKey};
use gannet_wire::batch::Compression;
use gannet_wire::{LeaderEpoch, Offset, PartitionIndex, Timestamp};

const GENERATION: Generation = Generation(3);
const POSITION: u64 = 8192;

fn identity(lsn: u64) -> CommitIdentity {
    CommitIdentity {
        generation: GENERATION,
        lsn: Lsn(lsn),
        position: POSITION,
        durable_lsn: Lsn(lsn - 1),
        append_time: Timestamp(1),
        previous_checksum: 0,
        file: FilePlace::NONE,
    }
}

/// Fills `buffer` with a commit of `count` times the same batch.
fn stage(buffer: &mut [u8], lsn: u64, batch: &[u8], records: u32, count: usize) -> u32 {
    let mut writer = CommitWriter::new(buffer, identity(lsn), count);
    let mut base_offset = Offset(0);
    for _ in 0..count {
        let stamp = BatchStamp {
            key: PARTITION,
            base_offset,
            record_count: records,
            append_time: Timestamp(1),
            leader_epoch: LeaderEpoch(0),
        };
        writer.batch(batch, &stamp);
        base_offset.0 += u64::from(records);
    }
    writer.finish()
}

fn buffer_for(batch: &Bytes, count: usize) -> DiskBufferMut {
    DiskBufferMut::heap(commit_bytes(count, batch.len() * count))
}

/// Commits as they come: (records of a batch of 1,000 bytes each, batches).
const SHAPES: [(u32, usize); 5] = [(1, 1), (1, 64), (1, 512), (64, 1), (64, 15)];

fn staging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit-stage");
    for (records, count) in SHAPES {
        let batch = batch_of(records, 1000, Compression::None);
        let mut buffer = buffer_for(&batch, count);
        group.throughput(Throughput::Bytes((batch.len() * count) as u64));
        group.bench_function(format!("{count}-batches-of-{records}x1000b"), |bench| {
            bench.iter(|| stage(&mut buffer, 9, black_box(&batch), records, count));
        });
    }
    group.finish();
}

fn checking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit-check");
    for (records, count) in SHAPES {
        let batch = batch_of(records, 1000, Compression::None);
        let mut buffer = buffer_for(&batch, count);
        let _ = stage(&mut buffer, 9, &batch, records, count);
        group.throughput(Throughput::Bytes((batch.len() * count) as u64));
        group.bench_function(format!("{count}-batches-of-{records}x1000b"), |bench| {
            bench.iter(|| {
                let head = CommitHead::read(black_box(&buffer), POSITION)?;
                head.check(&buffer)
            });
        });
    }
    group.finish();
}

fn found(lsn: u64, batch: &Bytes) -> Found {
    let mut buffer = buffer_for(batch, 1);
    let _ = stage(&mut buffer, lsn, batch, 1, 1);
    let buffer: DiskBuffer = buffer.freeze();
    let head = CommitHead::read(&buffer, POSITION).expect("the commit was just written");
    let entries = head.check(&buffer).expect("the commit was just written");
    let length = buffer.len();
    Found::Commit(FoundCommit {
        head,
        entries,
        bytes: Slice::new(buffer, 0..length),
    })
}

fn recovery(criterion: &mut Criterion) {
    const COMMITS: u64 = 10_000;
    let batch = batch_of(1, 100, Compression::None);
    let commits: Vec<Found> = (1..=COMMITS).map(|lsn| found(lsn, &batch)).collect();
    let state = JournalState::default();
    let lives = Lives {
        generations: vec![GENERATION],
        ..Lives::default()
    };
    let mut group = criterion.benchmark_group("recovery-plan");
    group.throughput(Throughput::Elements(COMMITS));
    group.bench_function("10000-commits", |bench| {
        bench.iter_batched(
            || commits.clone(),
            |commits| plan(&state, &lives, commits),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index-seek");
    group.throughput(Throughput::Elements(1));
    // A full segment of one partition, and one shared by many.
    let mut long = OpenIndex::default();
    for number in 0..16_384 {
        let offsets = Offset(number * 64)..Offset((number + 1) * 64);
        long.push(PARTITION, offsets, number << 16, Timestamp(1));
    }
    let mut shared = OpenIndex::default();
    for partition in 0..10_000 {
        let key = PartitionKey {
            partition: PartitionIndex(partition),
            ..PARTITION
        };
        let position = u64::from(partition) << 13;
        shared.push(key, Offset(500)..Offset(508), position, Timestamp(1));
    }
    let last = PartitionKey {
        partition: PartitionIndex(9_876),
        ..PARTITION
    };
    for (name, index, key, base, offset) in [
        (
            "one-run-of-1GiB",
            &long,
            PARTITION,
            Offset(0),
            Offset(777_777),
        ),
        ("10000-runs", &shared, last, Offset(500), Offset(505)),
    ] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let run = black_box(index).run(black_box(key), base)?;
                run.seek_offset(black_box(offset))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, staging, checking, recovery, index);
criterion_main!(benches);
