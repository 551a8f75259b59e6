//! A whole shard's log: publish, commit, acknowledge; and reading at the tail. On the simulated disk without latency, whose own cost is in
//! the figures, and on a disk that keeps nothing, where only the engine's is left. No system call is made in either.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gannet_bench::subject::{NullDisk, OneLog, batch_of, checked};
use gannet_engine::io::Spawn;
use gannet_engine::io::sim::{SimDisk, SimExecutor};
use gannet_engine::shard::log::CheckedBatch;
use gannet_engine::shard::read::ReadCursor;
use gannet_wire::Offset;
use gannet_wire::batch::Compression;

/// The broker's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// (records of a batch of 1,000 bytes each, batches published together).
const SHAPES: [(u32, u64); 4] = [(1, 1), (1, 64), (64, 1), (64, 8)];
/// A log takes at most this and is then thrown away, so that neither its journal file nor the memory that stands for the disk runs full.
const LOG_BYTES_MAX: usize = 8 << 20;

fn rounds_max(batch: &Bytes, count: u64) -> u64 {
    // A commit is rounded up to blocks.
    let round = (batch.len() * count as usize).next_multiple_of(4096) + 4096;
    (LOG_BYTES_MAX / round).max(1) as u64
}

fn publish_simulated(rounds: u64, batch: &Bytes, count: u64) -> Duration {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    disk.set_latency(Duration::ZERO, Duration::ZERO);
    let one = executor
        .block_on(OneLog::start(disk, executor.clock()))
        .expect("nothing is wrong with the disk");
    let log = one.log.clone();
    executor.spawner().spawn(async move {
        if let Err(error) = log.run_commits().await {
            panic!("the log failed: {error}");
        }
    });
    let proof = checked(batch);
    let began = Instant::now();
    for round in 0..rounds {
        for token in 0..count {
            one.publish(again(&proof), token);
        }
        executor.block_on(one.acks.reached((round + 1) * count));
    }
    began.elapsed()
}

fn publish_to_nowhere(rounds: u64, batch: &Bytes, count: u64) -> Duration {
    let executor = SimExecutor::new(1);
    let one = executor
        .block_on(OneLog::start(NullDisk::default(), executor.clock()))
        .expect("nothing can be wrong with this disk");
    let log = one.log.clone();
    let mut commits = Box::pin(async move { log.run_commits().await });
    let proof = checked(batch);
    let began = Instant::now();
    for round in 0..rounds {
        for token in 0..count {
            one.publish(again(&proof), token);
        }
        while one.acks.acked() < (round + 1) * count {
            poll(commits.as_mut());
        }
    }
    began.elapsed()
}

fn again(batch: &CheckedBatch) -> CheckedBatch {
    CheckedBatch {
        bytes: batch.bytes.clone(),
        header: batch.header,
    }
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) {
    let polled = future.poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "the log ended");
}

fn publish(criterion: &mut Criterion) {
    type Publish = fn(u64, &Bytes, u64) -> Duration;
    let disks: [(&str, Publish); 2] = [
        ("simulated-disk", publish_simulated),
        ("no-disk", publish_to_nowhere),
    ];
    for (disk, publish) in disks {
        let mut group = criterion.benchmark_group(format!("log-publish/{disk}"));
        // Each sample starts logs of its own, which is not measured but takes its time.
        group.sample_size(10);
        for (records, count) in SHAPES {
            let batch = batch_of(records, 1000, Compression::None);
            let most = rounds_max(&batch, count);
            group.throughput(Throughput::Bytes(batch.len() as u64 * count));
            group.bench_function(format!("{count}-batches-of-{records}x1000b"), |bench| {
                bench.iter_custom(|iterations| {
                    let mut left = iterations;
                    let mut took = Duration::ZERO;
                    while left > 0 {
                        let rounds = left.min(most);
                        took += publish(rounds, &batch, count);
                        left -= rounds;
                    }
                    took
                });
            });
        }
        group.finish();
    }
}

fn tail(criterion: &mut Criterion) {
    const BATCHES: u64 = 1_000;
    let executor = SimExecutor::new(1);
    let one = executor
        .block_on(OneLog::start(NullDisk::default(), executor.clock()))
        .expect("nothing can be wrong with this disk");
    let log = one.log.clone();
    let mut commits = Box::pin(async move { log.run_commits().await });
    let proof = checked(&batch_of(1, 1000, Compression::None));
    for token in 0..BATCHES {
        one.publish(again(&proof), token);
    }
    while one.acks.acked() < BATCHES {
        poll(commits.as_mut());
    }
    let mut group = criterion.benchmark_group("tail-read");
    for bytes_max in [1_usize, 64 << 10, 512 << 10] {
        let read = || {
            let mut cursor = ReadCursor::at(Offset(BATCHES / 4));
            executor.block_on(one.log.read(&one.slot, &mut cursor, bytes_max))
        };
        let bytes: usize = read()
            .expect("it is in memory")
            .iter()
            .map(|batch| batch.len())
            .sum();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("1x1000b-batches", bytes_max), |bench| {
            bench.iter(read);
        });
    }
    group.finish();
}

criterion_group!(benches, publish, tail);
criterion_main!(benches);
