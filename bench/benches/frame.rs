//! Frames: what a connection does for each publish, acknowledgement and delivery, but for the system calls.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gannet_bench::subject::{batch_of, published_frames};
use gannet_engine::gateway::native::outbox::Outbox;
use gannet_engine::io::{BLOCK_BYTES, DiskBufferMut};
use gannet_engine::shard::subscribe::Peer;
use gannet_engine::storage::slice::Slice;
use gannet_wire::batch::Compression;
use gannet_wire::frame::{
    Durability, FrameDecoder, FrameLimits, PublishAck, PublishAcksWriter, encode_deliver_head,
};
use gannet_wire::{CorrelationId, Offset, SubscriptionId, Timestamp};

/// The broker's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame-decode");
    for (records, count) in [(1, 64), (64, 4)] {
        let batch = batch_of(records, 1000, Compression::None);
        let received = published_frames(&batch, count);
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count}-publishes-of-{records}x1000b"), |bench| {
            bench.iter_batched(
                || (FrameDecoder::new(FrameLimits::default()), received.clone()),
                |(mut decoder, mut received)| {
                    let mut bytes = 0;
                    while let Ok(Some(frame)) = decoder.decode(&mut received) {
                        bytes += frame.correlation.0;
                        black_box(&frame);
                    }
                    (bytes, received)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame-encode");
    for count in [1, 1000] {
        let acks: Vec<PublishAck> = (0..count)
            .map(|number| PublishAck {
                correlation: CorrelationId(number),
                base_offset: Offset(number),
                append_time: Timestamp(1),
                durability: Durability::Durable,
                duplicate: false,
            })
            .collect();
        let mut out = BytesMut::new();
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count}-acks"), |bench| {
            bench.iter(|| {
                out.clear();
                let mut writer = PublishAcksWriter::new(&mut out);
                for ack in &acks {
                    writer.push(black_box(ack));
                }
                writer.finish();
                out.len()
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("deliver-head", |bench| {
        bench.iter(|| {
            encode_deliver_head(black_box(SubscriptionId(1)), black_box(Offset(7)), 64 << 10)
        });
    });
    group.finish();
}

/// From batches in memory to what one system call takes.
fn deliver(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deliver-slices");
    let buffer = DiskBufferMut::heap(64 * BLOCK_BYTES).freeze();
    for count in [1_usize, 64] {
        let batches: Vec<Slice> = (0..count)
            .map(|number| {
                Slice::new(
                    buffer.clone(),
                    number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES,
                )
            })
            .collect();
        let outbox = Outbox::new(usize::MAX, 1);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("{count}-batches"), |bench| {
            bench.iter(|| {
                outbox.deliver(SubscriptionId(1), Offset(7), batches.clone());
                let parcel = now(outbox.next_parcel()).expect("a delivery was pushed");
                let slices = parcel.slices().len();
                outbox.sent(&parcel);
                slices
            });
        });
    }
    group.finish();
}

/// The output of a future that is ready when it is first polled.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it waits for something"),
    }
}

criterion_group!(benches, decode, encode, deliver);
criterion_main!(benches);
