//! Allocations and copies on a record's way through the broker: how many a batch and a record cost, and the proof that no allocation is made for each record, and that its bytes are copied once.
//!
//! Every step is given batches of the very same size that hold ever more records. What it allocates may depend on batches, commits and
//! bytes; as soon as it depends on the records, this program panics. So it does where a step copies the batches' bytes more or less often than it should.
#![allow(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait, and so is a memcpy that does"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gannet_bench::subject::{NullDisk, OneLog, PARTITION, checked, published_frames, value};
use gannet_engine::gateway::native::outbox::Outbox;
use gannet_engine::io::DiskBufferMut;
use gannet_engine::io::sim::{SimClock, SimExecutor};
use gannet_engine::shard::log::CheckedBatch;
use gannet_engine::shard::read::ReadCursor;
use gannet_engine::shard::subscribe::Peer;
use gannet_engine::storage::commit::{BatchStamp, CommitIdentity, CommitWriter, commit_bytes};
use gannet_engine::storage::layout::FilePlace;
use gannet_engine::storage::slice::Slice;
use gannet_engine::storage::{Generation, Lsn};
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, CheckDepth, CheckScratch, Compression, Records, check_batch,
};
use gannet_wire::frame::{FrameDecoder, FrameLimits};
use gannet_wire::{LeaderEpoch, Offset, SubscriptionId, Timestamp};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static COPIED_BYTES: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged. What is not forwarded here comes to `alloc`, and is counted so.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

unsafe extern "C" {
    fn memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void;
}

/// In the place of the C library's: whatever copies bytes whose number is not known to the compiler calls it.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    COPIED_BYTES.set(COPIED_BYTES.get() + bytes as u64);
    // SAFETY: what may be copied may be moved.
    unsafe { memmove(to, from, bytes) }
}

/// What a step costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    allocations: u64,
    copied_bytes: u64,
}

impl Cost {
    /// How often the bytes of all batches were copied.
    fn copies(&self) -> f64 {
        self.copied_bytes as f64 / (BODY_BYTES * BATCHES) as f64
    }
}

/// What this thread allocates and copies in `work`.
fn cost<T>(work: impl FnOnce() -> T) -> (Cost, T) {
    let before = (ALLOCATIONS.get(), COPIED_BYTES.get());
    let output = work();
    let cost = Cost {
        allocations: ALLOCATIONS.get() - before.0,
        copied_bytes: COPIED_BYTES.get() - before.1,
    };
    (cost, output)
}

/// Records of a batch, from few to many.
const RECORDS: [u32; 4] = [1, 10, 100, 1000];
/// Bytes of the values of a batch and of what a record adds to them: the same for all.
const BODY_BYTES: usize = 16 << 10;
/// A record adds one end to its value.
const END_BYTES: usize = 4;
/// Batches in each step.
const BATCHES: usize = 32;

fn batch(records: u32, compression: Compression) -> Bytes {
    let count = records as usize;
    let values_bytes = BODY_BYTES - END_BYTES * count;
    let mut builder = BatchBuilder::new(BatchLimits::default());
    for number in 0..count {
        // The last one takes what the division leaves.
        let bytes = if number + 1 == count {
            values_bytes - values_bytes / count * number
        } else {
            values_bytes / count
        };
        builder
            .push(Timestamp(1), None, Some(&value(number as u64, bytes)), &[])
            .expect("the batch has room");
    }
    builder.build(compression, None)
}

/// A step: its name, how often it copies the bytes of batches (not said where it decompresses them), and what it costs with ever more records.
type Step = (&'static str, Option<u32>, [Cost; 4]);

fn main() {
    let steps: [Step; 9] = [
        ("frame decode", Some(0), costs(decode)),
        (
            "check, full",
            Some(0),
            costs(|records| check(records, Compression::None)),
        ),
        (
            "check, full, lz4",
            None,
            costs(|records| check(records, Compression::Lz4)),
        ),
        (
            "check, full, zstd",
            None,
            costs(|records| check(records, Compression::Zstd)),
        ),
        (
            "append",
            Some(0),
            costs(|records| Journey::of(records).append),
        ),
        ("commit staging", Some(1), costs(stage)),
        (
            "commit, write and release",
            Some(1),
            costs(|records| Journey::of(records).commit),
        ),
        (
            "tail read",
            Some(0),
            costs(|records| Journey::of(records).read),
        ),
        (
            "deliver slices",
            Some(0),
            costs(|records| Journey::of(records).deliver),
        ),
    ];
    // A consumer that copies each record: it must show, or nothing above would either.
    let canary: Step = ("(copying every record)", Some(1), costs(copy_records));
    print(&steps, &canary).expect("there is a standard output");
    for (step, copies, costs) in &steps {
        let allocations = costs.map(|cost| cost.allocations);
        assert!(
            allocations.iter().all(|count| *count == allocations[0]),
            "{step}: allocations for {BATCHES} batches of {RECORDS:?} records are {allocations:?}, and must not grow with the records"
        );
        for cost in costs {
            assert!(
                copies.is_none_or(|copies| (cost.copies() - f64::from(copies)).abs() < COPIES_OFF_MAX),
                "{step}: the batches' bytes are copied {:.2} times, not {copies:?}",
                cost.copies()
            );
        }
    }
    let [few, .., many] = canary.2;
    assert!(
        many.allocations - few.allocations >= u64::from(RECORDS[3] - RECORDS[0]) * BATCHES as u64,
        "copying every record was not counted: {canary:?}"
    );
    assert!(
        many.copies() > 1.0 - COPIES_OFF_MAX,
        "the bytes of every record were not counted: {canary:?}"
    );
}

/// Heads, directories and the values that are moved about are copied too; of a thousand records a quarter are the ends.
const COPIES_OFF_MAX: f64 = 0.3;

fn costs(step: impl Fn(u32) -> Cost) -> [Cost; 4] {
    RECORDS.map(step)
}

fn print(steps: &[Step], canary: &Step) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "for each batch of {} KiB: allocations (for each record), and how often its bytes are copied; {BATCHES} batches together\n",
        BODY_BYTES >> 10
    )?;
    write!(out, "{:<28}", "records in a batch")?;
    for records in RECORDS {
        write!(out, "{records:>26}")?;
    }
    writeln!(out)?;
    for (step, _, costs) in steps.iter().chain([canary]) {
        write!(out, "{step:<28}")?;
        for (cost, records) in costs.iter().zip(RECORDS) {
            let batch = cost.allocations as f64 / BATCHES as f64;
            let cell = format!(
                "{batch:.2} ({:.4}), {:.3} x",
                batch / f64::from(records),
                cost.copies()
            );
            write!(out, "{cell:>26}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn decode(records: u32) -> Cost {
    let mut received = published_frames(&batch(records, Compression::None), BATCHES as u64);
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let (count, decoded) = cost(|| {
        let mut decoded = 0;
        while let Some(_frame) = decoder
            .decode(&mut received)
            .expect("the frames were just encoded")
        {
            decoded += 1;
        }
        decoded
    });
    assert_eq!(decoded, BATCHES);
    count
}

fn check(records: u32, compression: Compression) -> Cost {
    let batch = batch(records, compression);
    let mut scratch = CheckScratch::new();
    let mut check = || {
        check_batch(
            &batch,
            &BatchLimits::default(),
            CheckDepth::Full,
            &mut scratch,
        )
        .expect("the batch was just built")
    };
    // The scratch grows with the first one, and is a shard's for ever.
    check();
    cost(|| {
        for _ in 0..BATCHES {
            check();
        }
    })
    .0
}

fn stage(records: u32) -> Cost {
    let batch = batch(records, Compression::None);
    let mut buffer = DiskBufferMut::heap(commit_bytes(BATCHES, BATCHES * batch.len()));
    let identity = CommitIdentity {
        generation: Generation(1),
        lsn: Lsn(1),
        position: 8192,
        durable_lsn: Lsn(0),
        append_time: Timestamp(1),
        previous_checksum: 0,
        file: FilePlace::NONE,
    };
    cost(|| {
        let mut writer = CommitWriter::new(&mut buffer, identity, BATCHES);
        let mut base_offset = Offset(0);
        for _ in 0..BATCHES {
            let stamp = BatchStamp {
                key: PARTITION,
                base_offset,
                record_count: records,
                append_time: Timestamp(1),
                leader_epoch: LeaderEpoch(0),
            };
            writer.batch(&batch, &stamp);
            base_offset.0 += u64::from(records);
        }
        writer.finish()
    })
    .0
}

/// What the batches cost on their way through a shard, from the check behind them to the system call before them.
struct Journey {
    append: Cost,
    commit: Cost,
    read: Cost,
    deliver: Cost,
}

impl Journey {
    fn of(records: u32) -> Self {
        let batch = batch(records, Compression::None);
        let executor = SimExecutor::new(1);
        let one: OneLog<NullDisk, SimClock> = executor
            .block_on(OneLog::start(NullDisk::default(), executor.clock()))
            .expect("nothing can be wrong with this disk");
        let log = one.log.clone();
        let mut commits = Box::pin(async move { log.run_commits().await });
        // Once before: the first commit is what queues grow at.
        publish(&one, arrivals(&batch));
        commit(&one, commits.as_mut(), BATCHES as u64);

        let arrivals = arrivals(&batch);
        let (append, ()) = cost(|| publish(&one, arrivals));
        let (commit, ()) = cost(|| commit(&one, commits.as_mut(), 2 * BATCHES as u64));
        let from = Offset(BATCHES as u64 * u64::from(records));
        let (read, slices) = cost(|| {
            let mut cursor = ReadCursor::at(from);
            now(one.log.read(&one.slot, &mut cursor, usize::MAX)).expect("it is in memory")
        });
        assert_eq!(slices.len(), BATCHES);
        Self {
            append,
            commit,
            read,
            deliver: deliver(slices),
        }
    }
}

fn arrivals(batch: &Bytes) -> Vec<CheckedBatch> {
    (0..BATCHES).map(|_| checked(batch)).collect()
}

fn publish(one: &OneLog<NullDisk, SimClock>, arrivals: Vec<CheckedBatch>) {
    for (token, batch) in (0..).zip(arrivals) {
        one.publish(batch, token);
    }
}

/// Lets the log commit until so many batches are acknowledged.
fn commit<T>(
    one: &OneLog<NullDisk, SimClock>,
    mut commits: Pin<&mut impl Future<Output = T>>,
    acked: u64,
) {
    while one.acks.acked() < acked {
        let polled = commits
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "the log ended");
    }
}

fn deliver(slices: Vec<Slice>) -> Cost {
    let outbox = Outbox::new(usize::MAX, 1);
    let (count, parts) = cost(|| {
        outbox.deliver(SubscriptionId(1), Offset(0), slices);
        let parcel = now(outbox.next_parcel()).expect("a delivery was pushed");
        let parts = parcel.slices().len();
        outbox.sent(&parcel);
        parts
    });
    // The head, and each batch where it lies.
    assert_eq!(parts, 1 + BATCHES);
    count
}

fn copy_records(records: u32) -> Cost {
    let opened = Records::open(batch(records, Compression::None)).expect("it was just built");
    cost(|| {
        for _ in 0..BATCHES {
            for (_, record) in &opened {
                std::hint::black_box(record.value.map(<[u8]>::to_vec));
            }
        }
    })
    .0
}

/// The output of a future that is ready when it is first polled.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something"),
    }
}
