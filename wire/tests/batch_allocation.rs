//! What the hot paths must not allocate.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use gannet_wire::Timestamp;
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, CheckDepth, CheckScratch, Compression, Records, check_batch,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        ALLOCATED_BYTES.set(ALLOCATED_BYTES.get() + layout.size());
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

/// Allocations, and the bytes of them all, that `work` makes.
fn allocations<T>(work: impl FnOnce() -> T) -> (usize, usize) {
    let before = (ALLOCATIONS.get(), ALLOCATED_BYTES.get());
    let result = work();
    let after = (ALLOCATIONS.get(), ALLOCATED_BYTES.get());
    drop(result);
    (after.0 - before.0, after.1 - before.1)
}

fn push_some(builder: &mut BatchBuilder) {
    for i in 0..50 {
        let headers: [(&str, Option<&[u8]>); 1] = [("name", Some(b"value"))];
        builder
            .push(Timestamp(i), Some(b"key"), Some(&[1; 1_000]), &headers)
            .unwrap();
    }
}

fn batch(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    push_some(&mut builder);
    builder.build(compression, None)
}

#[test]
fn pushing_into_a_used_builder_allocates_nothing() {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    push_some(&mut builder);
    builder.build(Compression::None, None);
    assert_eq!(allocations(|| push_some(&mut builder)).0, 0);
}

#[test]
fn building_allocates_the_batch_and_nothing_else() {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        push_some(&mut builder);
        builder.build(compression, None);
        push_some(&mut builder);
        let mut bytes = 0;
        let (count, allocated) = allocations(|| {
            let batch = builder.build(compression, None);
            bytes = batch.len();
            batch
        });
        // lz4 takes a table of its own each time.
        let table_bytes = if compression == Compression::Lz4 {
            32 << 10
        } else {
            0
        };
        assert!(
            count <= 1 + usize::from(table_bytes > 0),
            "{compression:?}: {count}"
        );
        assert!(
            allocated <= bytes + table_bytes,
            "{compression:?}: {allocated} for {bytes}"
        );
    }
}

#[test]
fn checking_an_uncompressed_batch_allocates_nothing() {
    let batch = batch(Compression::None);
    let mut scratch = CheckScratch::new();
    let limits = BatchLimits::default();
    let check = || check_batch(&batch, &limits, CheckDepth::Full, &mut scratch).unwrap();
    assert_eq!(allocations(check).0, 0);
}

#[test]
fn checking_with_a_used_scratch_allocates_nothing() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let batch = batch(compression);
        let mut scratch = CheckScratch::new();
        let limits = BatchLimits::default();
        let mut check = || check_batch(&batch, &limits, CheckDepth::Full, &mut scratch).unwrap();
        check();
        assert_eq!(allocations(check).0, 0, "{compression:?}");
    }
}

#[test]
fn reading_an_uncompressed_batch_allocates_nothing_a_record() {
    let batch = batch(Compression::None);
    let (count, _) = allocations(|| {
        let records = Records::open(batch.clone()).unwrap();
        for (_, record) in &records {
            assert_eq!(record.headers.count(), 1);
        }
        records
    });
    // The first clone of a batch's bytes makes their shared count.
    assert!(count <= 1, "{count}");
}

#[test]
fn a_body_length_that_lies_reserves_nothing() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut batch = batch(compression).to_vec();
        batch[72..76].copy_from_slice(&(31_u32 << 20).to_le_bytes());
        let crc = crc32c::crc32c(&batch[32..]);
        batch[4..8].copy_from_slice(&crc.to_le_bytes());
        let batch = Bytes::from(batch);
        let mut scratch = CheckScratch::new();
        let limits = BatchLimits::default();
        let check = || check_batch(&batch, &limits, CheckDepth::Full, &mut scratch).unwrap_err();
        assert_eq!(allocations(check).1, 0);
        let (_, bytes) = allocations(|| Records::open(batch.clone()).unwrap_err());
        assert!(bytes < 100, "{bytes}");
    }
}

#[test]
fn a_scratch_does_not_keep_a_large_body() {
    let limits = BatchLimits::FORMAT;
    let mut builder = BatchBuilder::new(limits);
    builder
        .push(Timestamp(1), None, Some(&vec![7; 6 << 20]), &[])
        .unwrap();
    let batch = builder.build(Compression::Lz4, None);
    let mut scratch = CheckScratch::new();
    let mut check = || check_batch(&batch, &limits, CheckDepth::Full, &mut scratch).unwrap();
    check();
    assert!(allocations(check).1 > 6 << 20);
}
