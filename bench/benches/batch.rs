//! Batches: checksum, building, checking, reading, stamping.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gannet_bench::subject::{PARTITION, batch_of, value};
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, CheckDepth, CheckScratch, Compression, Records, check_batch, stamp,
};
use gannet_wire::{LeaderEpoch, Offset, Timestamp};

/// Records of about 64 KiB together: (how many, bytes of each).
const SHAPES: [(u32, usize); 2] = [(64, 1000), (640, 100)];
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

fn name((records, value_bytes): (u32, usize), compression: Compression) -> String {
    format!("{records}x{value_bytes}B/{compression:?}").to_lowercase()
}

fn checksum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for bytes in [1 << 10, 64 << 10, 1 << 20] {
        let data = value(1, bytes);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &data, |bench, data| {
            bench.iter(|| crc32c::crc32c(black_box(data)));
        });
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch-build");
    for shape in SHAPES {
        let (records, value_bytes) = shape;
        let values: Vec<Vec<u8>> = (0..records)
            .map(|number| value(u64::from(number), value_bytes))
            .collect();
        for compression in COMPRESSIONS {
            let mut builder = BatchBuilder::new(BatchLimits::default());
            group.throughput(Throughput::Bytes(u64::from(records) * value_bytes as u64));
            group.bench_function(name(shape, compression), |bench| {
                bench.iter(|| {
                    for value in &values {
                        builder
                            .push(Timestamp(1), None, Some(black_box(value)), &[])
                            .expect("the batch has room");
                    }
                    builder.build(compression, None)
                });
            });
        }
    }
    group.finish();
}

fn check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch-check");
    for shape in SHAPES {
        let (records, value_bytes) = shape;
        for compression in COMPRESSIONS {
            let batch = batch_of(records, value_bytes, compression);
            // Of what is stored, so that it compares with what the disk and the network carry.
            group.throughput(Throughput::Bytes(batch.len() as u64));
            for depth in [CheckDepth::Full, CheckDepth::HeaderOnly] {
                let mut scratch = CheckScratch::new();
                let id = format!("{}/{depth:?}", name(shape, compression)).to_lowercase();
                group.bench_function(id, |bench| {
                    bench.iter(|| {
                        check_batch(
                            black_box(&batch),
                            &BatchLimits::default(),
                            depth,
                            &mut scratch,
                        )
                    });
                });
            }
        }
    }
    group.finish();
}

/// As a consumer does: check once, then touch each record.
fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch-read");
    for shape in SHAPES {
        let (records, value_bytes) = shape;
        for compression in COMPRESSIONS {
            let batch = batch_of(records, value_bytes, compression);
            let mut scratch = CheckScratch::new();
            group.throughput(Throughput::Elements(u64::from(records)));
            group.bench_function(format!("open/{}", name(shape, compression)), |bench| {
                bench.iter(|| {
                    Records::open_with(batch.clone(), &BatchLimits::default(), &mut scratch)
                });
            });
        }
        let opened = Records::open(batch_of(records, value_bytes, Compression::None))
            .expect("the batch was just built");
        group.bench_function(
            format!("iterate/{}", name(shape, Compression::None)),
            |bench| {
                bench.iter(|| {
                    black_box(&opened)
                        .iter()
                        .map(|(offset, record)| {
                            offset.0 + record.value.map_or(0, <[u8]>::len) as u64
                        })
                        .sum::<u64>()
                });
            },
        );
    }
    group.finish();
}

fn stamping(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch-stamp");
    group.throughput(Throughput::Elements(1));
    let batch = batch_of(64, 1000, Compression::None);
    group.bench_function("64x1000b", |bench| {
        bench.iter_batched_ref(
            || BytesMut::from(&batch[..]),
            |batch| {
                stamp(
                    batch,
                    PARTITION.topic,
                    PARTITION.partition,
                    Offset(12_345),
                    Timestamp(1),
                    LeaderEpoch(0),
                );
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, checksum, build, check, read, stamping);
criterion_main!(benches);
