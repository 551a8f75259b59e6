//! Allocations and copies on a record's way through the broker: how many a batch and a record cost, and the proof that no allocation is made for each record, and that its bytes are copied once until
//! they are delivered, and once more when they are flushed.
//!
//! Every step is given batches of the very same size that hold ever more records. What it allocates may depend on batches, commits and
//! bytes; as soon as it depends on the records, this program panics. So it does where a step copies the batches' bytes more or less often than it should, and where
//! a batch of one record, which has all allocations to itself, costs more of them than [`STEP_MAX`], [`GATHERED_MAX`] or [`ALONE_MAX`].
#![allow(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait, and so are a memcpy and a memmove that do"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_void;
use std::io::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gannet_bench::subject::{
    NullDisk, OneLog, PARTITION, checked, null_disk_is_at_work, published_frames, quiet, value,
};
use gannet_engine::gateway::native::outbox::Outbox;
use gannet_engine::io::DiskBufferMut;
use gannet_engine::io::sim::{SimClock, SimExecutor};
use gannet_engine::shard::log::{CheckedBatch, LogConfig};
use gannet_engine::shard::read::ReadCursor;
use gannet_engine::shard::slot::{Completion, CompletionSink, Outcome};
use gannet_engine::shard::subscribe::Peer;
use gannet_engine::storage::commit::{BatchStamp, CommitIdentity, CommitWriter, commit_bytes};
use gannet_engine::storage::layout::FilePlace;
use gannet_engine::storage::slice::Slice;
use gannet_engine::storage::{Generation, Lsn, StorageError};
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, CheckDepth, CheckScratch, Compression, Records, check_batch,
};
use gannet_wire::frame::{Durability, FrameDecoder, FrameLimits};
use gannet_wire::{LeaderEpoch, Offset, SubscriptionId, Timestamp};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static COPIED_BYTES: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged. What is not forwarded here comes to `alloc`, and is counted so.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !null_disk_is_at_work() {
            ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        }
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

fn count_copied(bytes: usize) {
    if !null_disk_is_at_work() {
        COPIED_BYTES.set(COPIED_BYTES.get() + bytes as u64);
    }
}

/// In the place of the C library's: whatever copies bytes whose number is not known to the compiler calls it.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    count_copied(bytes);
    // SAFETY: what may be copied may be moved.
    unsafe { moved(to, from, bytes) }
}

/// In the place of the C library's too: it copies as well, where both places may overlap.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    count_copied(bytes);
    // SAFETY: the caller's promises are the same.
    unsafe { moved(to, from, bytes) }
}

/// Byte by byte, and volatile: the compiler would make a call of memmove of anything else.
///
/// # Safety
/// As memmove in C.
unsafe fn moved(to: *mut c_void, from: *const c_void, bytes: usize) -> *mut c_void {
    let (target, source) = (to.cast::<u8>(), from.cast::<u8>());
    // SAFETY: both places have so many bytes, says the caller.
    let copy = |at: usize| unsafe {
        target
            .add(at)
            .write_volatile(source.add(at).read_volatile())
    };
    if (target as usize) <= source as usize {
        (0..bytes).for_each(copy);
    } else {
        (0..bytes).rev().for_each(copy);
    }
    to
}

/// What a step costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    allocations: u64,
    copied_bytes: u64,
}

impl Cost {
    fn and(self, other: Self) -> Self {
        Self {
            allocations: self.allocations + other.allocations,
            copied_bytes: self.copied_bytes + other.copied_bytes,
        }
    }

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
/// Allocations of a batch of one record from its frame until it is delivered, at most, where batches come together: no step makes more than a few for all of them.
const GATHERED_MAX: f64 = 1.5;
/// ... and where it is alone on the whole way, and has a commit, an acknowledgement's frame and a delivery of its own.
const ALONE_MAX: f64 = 19.0;
/// ... and in each step, at most.
const STEP_MAX: f64 = 2.0;
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
    let journeys = RECORDS.map(Journey::of);
    let backlogs = RECORDS.map(Backlog::of);
    let steps: [Step; 14] = [
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
        ("append", Some(0), journeys.map(|journey| journey.append)),
        ("commit staging", Some(1), costs(stage)),
        (
            "commit, write and release",
            Some(1),
            journeys.map(|journey| journey.commit),
        ),
        ("acknowledgements", Some(0), costs(|_| acknowledge())),
        ("tail read", Some(0), journeys.map(|journey| journey.read)),
        (
            "deliver slices",
            Some(0),
            journeys.map(|journey| journey.deliver),
        ),
        ("direct chunk, to release", Some(1), costs(direct)),
        ("flush", Some(1), backlogs.map(|backlog| backlog.flush)),
        (
            "segment read",
            Some(0),
            backlogs.map(|backlog| backlog.read),
        ),
        (
            "segment read, from memory",
            Some(0),
            backlogs.map(|backlog| backlog.read_again),
        ),
    ];
    // A consumer that copies each record: it must show, or nothing above would either.
    let canary: Step = ("(copying every record)", Some(1), costs(copy_records));
    // And one that moves bytes within their buffer.
    let moving: Step = ("(moving every batch)", Some(1), costs(|_| move_batches()));
    let delivered = sums(
        &steps,
        &[
            "frame decode",
            "check, full",
            "append",
            "commit, write and release",
            "acknowledgements",
            "tail read",
            "deliver slices",
        ],
    );
    let flush = sums(&steps, &["flush"]);
    let ways = [
        ("until delivered", delivered),
        (
            "until flushed",
            [0, 1, 2, 3].map(|at: usize| delivered[at].and(flush[at])),
        ),
    ];
    let alone = alone();
    print(&steps, &[canary, moving], &ways, alone).expect("there is a standard output");
    for (step, copies, costs) in &steps {
        let allocations = costs.map(|cost| cost.allocations);
        assert!(
            allocations.iter().all(|count| *count == allocations[0]),
            "{step}: allocations for {BATCHES} batches of {RECORDS:?} records are {allocations:?}, and must not grow with the records"
        );
        let of_one = allocations[0] as f64 / BATCHES as f64;
        assert!(
            of_one <= STEP_MAX,
            "{step}: a batch costs {of_one:.2} allocations; at most {STEP_MAX} are right"
        );
        for cost in costs {
            assert!(
                copies.is_none_or(|copies| (cost.copies() - f64::from(copies)).abs() < COPIES_OFF_MAX),
                "{step}: the batches' bytes are copied {:.2} times, not {copies:?}",
                cost.copies()
            );
        }
    }
    let gathered = delivered[0].allocations as f64 / BATCHES as f64;
    assert!(
        gathered <= GATHERED_MAX,
        "a batch of one record costs {gathered:.2} allocations until it is delivered, beside others; at most {GATHERED_MAX} are right"
    );
    assert!(
        alone <= ALONE_MAX,
        "a batch of one record costs {alone:.2} allocations until it is delivered, alone; at most {ALONE_MAX} are right"
    );
    let [few, .., many] = canary.2;
    assert!(
        many.allocations - few.allocations >= u64::from(RECORDS[3] - RECORDS[0]) * BATCHES as u64,
        "copying every record was not counted: {canary:?}"
    );
    for (what, _, [.., counted]) in [canary, moving] {
        assert!(
            counted.copies() > 1.0 - COPIES_OFF_MAX,
            "the bytes of {what} were not counted: {counted:?}"
        );
    }
}

/// What several steps cost together.
fn sums(steps: &[Step], names: &[&str]) -> [Cost; 4] {
    let of_names: Vec<_> = steps
        .iter()
        .filter(|(name, ..)| names.contains(name))
        .collect();
    assert_eq!(of_names.len(), names.len(), "a step is missing");
    of_names
        .iter()
        .fold([Cost::default(); 4], |sum, (_, _, costs)| {
            [0, 1, 2, 3].map(|at: usize| sum[at].and(costs[at]))
        })
}

/// Heads, directories and the values that are moved about are copied too; of a thousand records a quarter are the ends.
const COPIES_OFF_MAX: f64 = 0.3;

fn costs(step: impl Fn(u32) -> Cost) -> [Cost; 4] {
    RECORDS.map(step)
}

fn print(
    steps: &[Step],
    canaries: &[Step],
    ways: &[(&str, [Cost; 4])],
    alone: f64,
) -> std::io::Result<()> {
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
    for (step, _, costs) in steps.iter().chain(canaries) {
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
    writeln!(
        out,
        "\nfor each record, on its way from its frame: bytes copied, of how many\n"
    )?;
    for (way, costs) in ways {
        write!(out, "{way:<28}")?;
        for (cost, records) in costs.iter().zip(RECORDS) {
            let all = (BATCHES * records as usize) as f64;
            let cell = format!(
                "{:.1} B of {:.1} B",
                cost.copied_bytes as f64 / all,
                BODY_BYTES as f64 / f64::from(records)
            );
            write!(out, "{cell:>26}")?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "\na batch of one record until it is delivered: {:.2} allocations beside others, {alone:.2} alone",
        ways.first()
            .map_or(0.0, |(_, costs)| costs[0].allocations as f64
                / BATCHES as f64)
    )
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

/// What the acknowledgements of that many publishes cost that leave together.
fn acknowledge() -> Cost {
    let outbox = Outbox::new(usize::MAX, 1);
    let all = || {
        for token in 0..BATCHES as u64 {
            outbox.complete(token, durable(token));
        }
        send(&outbox)
    };
    // The acknowledgements that wait are a connection's for ever.
    all();
    let (count, parts) = cost(all);
    // One frame.
    assert_eq!(parts, 1);
    count
}

fn durable(offset: u64) -> Outcome {
    Outcome::Published {
        base_offset: Offset(offset),
        append_time: Timestamp(1),
        durability: Durability::Durable,
        duplicate: false,
    }
}

/// Sends what waits, and says in how many parts.
fn send(outbox: &Outbox) -> usize {
    let parcel = now(outbox.next_parcel()).expect("something waits");
    let parts = parcel.slices().len();
    outbox.sent(&parcel);
    parts
}

/// The allocations of a batch of one record that is alone on its way: frame, check, commit, acknowledgement, read and delivery.
fn alone() -> f64 {
    let batch = batch(1, Compression::None);
    let Running { one, mut commits } = Running::start(NullDisk::default(), quiet());
    let outbox = Outbox::new(usize::MAX, 1);
    let sink: Rc<dyn CompletionSink> = outbox.clone();
    let mut received = published_frames(&batch, 2 * BATCHES as u64);
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let mut scratch = CheckScratch::new();
    let mut cursor = ReadCursor::at(Offset(0));
    let mut round = |token: u64| {
        let frame = decoder.decode(&mut received).expect("it was just encoded");
        assert!(frame.is_some());
        let limits = BatchLimits::default();
        let header = check_batch(&batch, &limits, CheckDepth::Full, &mut scratch)
            .expect("the batch was just built");
        let bytes = batch.clone();
        one.log.publish(
            &one.slot,
            CheckedBatch { bytes, header },
            Durability::Durable,
            Completion::new(sink.clone(), token),
        );
        while one.slot.state.borrow().durable_offset() <= Offset(token) {
            poll_once(commits.as_mut());
        }
        assert_eq!(send(&outbox), 1);
        let slices =
            now(one.log.read(&one.slot, &mut cursor, usize::MAX)).expect("it is in memory");
        assert_eq!(slices.len(), 1);
        outbox.deliver(SubscriptionId(1), Offset(token + 1), slices);
        assert_eq!(send(&outbox), 2);
    };
    (0..BATCHES as u64).for_each(&mut round);
    let (count, ()) = cost(|| (BATCHES as u64..2 * BATCHES as u64).for_each(&mut round));
    count.allocations as f64 / BATCHES as f64
}

/// What the batches cost on their way through a shard, from the check behind them to the system call before them.
#[derive(Clone, Copy)]
struct Journey {
    append: Cost,
    commit: Cost,
    read: Cost,
    deliver: Cost,
}

impl Journey {
    fn of(records: u32) -> Self {
        let batch = batch(records, Compression::None);
        let mut running = Running::start(NullDisk::default(), quiet());
        // Once before: the first commit is what queues grow at.
        running.publish(arrivals(&batch));
        running.commit(BATCHES as u64);

        let arrivals = arrivals(&batch);
        let (append, ()) = cost(|| running.publish(arrivals));
        let (commit, ()) = cost(|| running.commit(2 * BATCHES as u64));
        let one = &running.one;
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

/// What the batches cost that are flushed, and read by who comes late.
#[derive(Clone, Copy)]
struct Backlog {
    flush: Cost,
    read: Cost,
    read_again: Cost,
}

impl Backlog {
    fn of(records: u32) -> Self {
        let batch = batch(records, Compression::None);
        // A round begins with all batches in it, in a hurry, and nothing stays in memory behind it.
        let bytes = (BATCHES * BODY_BYTES) as u64;
        let config = LogConfig {
            flush_bytes: bytes,
            unflushed_bytes_max: bytes,
            tail_cache_bytes: 0,
            // In a hurry writes are four times as long. What does not fill the last one is copied once more, into a buffer of its size: here that is little of the whole.
            flush_write_bytes: BATCHES * BODY_BYTES / 4,
            ..quiet()
        };
        let mut running = Running::start(NullDisk::keeping(), config);
        let log = running.one.log.clone();
        let mut flushes = Box::pin(async move { log.run_flushes().await });
        // Once before: the first round makes the segment.
        running.publish(arrivals(&batch));
        running.commit(BATCHES as u64);
        poll_once(flushes.as_mut());
        running.publish(arrivals(&batch));
        running.commit(2 * BATCHES as u64);
        let (flush, ()) = cost(|| poll_once(flushes.as_mut()));
        let one = &running.one;
        assert!(one.slot.state.borrow().tail.base_offset().is_none());
        let from = Offset(BATCHES as u64 * u64::from(records));
        let read = || {
            let mut cursor = ReadCursor::at(from);
            let mut count = 0;
            while count < BATCHES {
                let slices = now(one.log.read(&one.slot, &mut cursor, usize::MAX))
                    .expect("it is in a segment");
                assert!(!slices.is_empty());
                count += slices.len();
            }
        };
        let (first, ()) = cost(read);
        // Its chunk is in memory now.
        let (read_again, ()) = cost(read);
        Self {
            flush,
            read: first,
            read_again,
        }
    }
}

/// Batches that go to their segment in one chunk, of which the journal only notes where.
fn direct(records: u32) -> Cost {
    let batch = batch(records, Compression::None);
    let config = LogConfig {
        direct_bytes_min: BATCHES * BODY_BYTES / 2,
        ..quiet()
    };
    let mut running = Running::start(NullDisk::keeping(), config);
    // Once before: the first chunk makes the segment.
    running.publish(arrivals(&batch));
    running.commit(BATCHES as u64);
    running.publish(arrivals(&batch));
    cost(|| running.commit(2 * BATCHES as u64)).0
}

/// A log, and what commits to its journal while it is polled.
struct Running {
    one: OneLog<NullDisk, SimClock>,
    commits: Pin<Box<dyn Future<Output = Result<(), StorageError>>>>,
}

impl Running {
    fn start(disk: NullDisk, config: LogConfig) -> Self {
        let executor = SimExecutor::new(1);
        let one = executor
            .block_on(OneLog::start_as(disk, executor.clock(), config))
            .expect("nothing can be wrong with this disk");
        let log = one.log.clone();
        let commits = Box::pin(async move { log.run_commits().await });
        Self { one, commits }
    }

    fn publish(&self, arrivals: Vec<CheckedBatch>) {
        for (token, batch) in (0..).zip(arrivals) {
            self.one.publish(batch, token);
        }
    }

    /// Lets the log commit until so many batches are acknowledged.
    fn commit(&mut self, acked: u64) {
        while self.one.acks.acked() < acked {
            poll_once(self.commits.as_mut());
        }
    }
}

fn arrivals(batch: &Bytes) -> Vec<CheckedBatch> {
    (0..BATCHES).map(|_| checked(batch)).collect()
}

fn poll_once<T>(run: Pin<&mut (impl Future<Output = T> + ?Sized)>) {
    let polled = run.poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "the log ended");
}

fn deliver(slices: Vec<Slice>) -> Cost {
    let outbox = Outbox::new(usize::MAX, 1);
    let (count, parts) = cost(|| {
        outbox.deliver(SubscriptionId(1), Offset(0), slices);
        send(&outbox)
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

fn move_batches() -> Cost {
    let mut buffer = vec![1_u8; 2 * BODY_BYTES];
    cost(|| {
        for _ in 0..BATCHES {
            // They overlap: memcpy may not do it.
            buffer.copy_within(..BODY_BYTES, BODY_BYTES / 2);
            std::hint::black_box(&mut buffer);
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
