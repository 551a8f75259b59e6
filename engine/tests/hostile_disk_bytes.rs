//! Every decoder of what lies on the disk, against arbitrary bytes and against real ones that were changed: it ends in a typed
//! outcome, never in a panic, and never takes much more memory than the bytes it was given.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use gannet_engine::cursor::CommittedOffset;
use gannet_engine::io::sim::{SimDisk, SimExecutor};
use gannet_engine::io::{BLOCK_BYTES, DiskBuffer, DiskBufferMut};
use gannet_engine::storage::checkpoint::{
    CHECKPOINT_VERSION, CheckpointRecord, CheckpointState, ClockRecord, CommittedRecord,
    PartitionRecord, ProducerRecord, RunRecord, WindowRecord,
};
use gannet_engine::storage::commit::{
    CommitHead, CommitIdentity, CommitWriter, DirectoryCopy, EntryKind, commit_bytes,
};
use gannet_engine::storage::index::{OpenIndex, SegmentIndex};
use gannet_engine::storage::journal_file::{FIRST_COMMIT_POSITION, JournalHeader};
use gannet_engine::storage::layout::FilePlace;
use gannet_engine::storage::record_log::RecordLog;
use gannet_engine::storage::scan::Scanner;
use gannet_engine::storage::segment::{
    DirectProducer, DirectRun, SegmentHeader, frame_at, header_at,
};
use gannet_engine::storage::{Generation, Lsn, PartitionKey, SegmentId};
use gannet_wire::{Offset, PartitionIndex, Timestamp, TopicId};
use proptest::prelude::*;

thread_local! {
    static ALLOCATED_BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends may allocate after its counter is gone.
        let _ = ALLOCATED_BYTES.try_with(|bytes| bytes.set(bytes.get() + layout.size()));
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

/// What a decoder may allocate, in all, for bytes that claim to be more than they are.
const ALLOWED_BYTES: usize = 64 << 10;
const ALLOWED_TIMES: usize = 16;

/// Runs a decoder over bytes and checks what it allocates.
fn decode<T>(bytes: &[u8], decoder: impl FnOnce(&[u8]) -> T) -> T {
    let before = ALLOCATED_BYTES.get();
    let decoded = decoder(bytes);
    let allocated = ALLOCATED_BYTES.get() - before;
    assert!(
        allocated <= ALLOWED_BYTES + ALLOWED_TIMES * bytes.len(),
        "{allocated} bytes for {} bytes of input",
        bytes.len()
    );
    decoded
}

/// Every decoder that takes bytes as they are, whatever they are.
fn decode_everything(bytes: &[u8]) {
    decode(bytes, |bytes| {
        for position in [0, FIRST_COMMIT_POSITION] {
            if let Ok(head) = CommitHead::read(bytes, position) {
                inspect(&head, bytes);
            }
            if let Ok(head) = CommitHead::read_foot(bytes, position + bytes.len() as u64) {
                inspect(&head, bytes);
            }
        }
    });
    decode(bytes, |bytes| JournalHeader::read(bytes, None));
    decode(bytes, |bytes| SegmentHeader::read(bytes).is_ok());
    decode(bytes, |bytes| (frame_at(bytes), header_at(bytes).is_some()));
    decode(bytes, |bytes| {
        SegmentIndex::decode(bytes, FilePlace::NONE).is_some()
    });
    decode(bytes, |bytes| CommittedOffset::decode(bytes).is_some());
    decode(bytes, |bytes| {
        rkyv::from_bytes::<DirectRun, rkyv::rancor::Error>(bytes).is_ok()
    });
    decode(bytes, |bytes| {
        if let Ok(record) = CheckpointRecord::decode(bytes) {
            CheckpointState::default().apply(record);
        }
    });
}

fn inspect(head: &CommitHead, bytes: &[u8]) {
    let _ = head.check(bytes);
    for copy in [DirectoryCopy::Head, DirectoryCopy::Foot] {
        for entry in head.directory(bytes, copy).into_iter().flatten() {
            let _ = head.entry_is_whole(bytes, &entry);
            let _ = entry.next_offset();
        }
    }
}

const KEY: PartitionKey = PartitionKey {
    topic: TopicId(7),
    partition: PartitionIndex(3),
};

fn commit() -> Vec<u8> {
    let identity = CommitIdentity {
        generation: Generation(1),
        lsn: Lsn(1),
        position: FIRST_COMMIT_POSITION,
        durable_lsn: Lsn(0),
        append_time: Timestamp(5),
        previous_checksum: 0,
        file: FilePlace::NONE,
    };
    let offset = committed_offset();
    let run = direct_run();
    let mut bytes = vec![0; commit_bytes(2, offset.len() + run.len())];
    let mut writer = CommitWriter::new(&mut bytes, identity, 2);
    writer.entry(EntryKind::CommittedOffset, KEY, Offset(0), 0, &offset);
    writer.entry(EntryKind::DirectRun, KEY, Offset(10), 5, &run);
    let _ = writer.finish();
    bytes
}

fn committed_offset() -> Vec<u8> {
    CommittedOffset {
        group: "group".into(),
        offset: Offset(5),
        metadata: "note".into(),
    }
    .encode()
}

fn direct_run() -> Vec<u8> {
    let producer = DirectProducer {
        id: 1,
        epoch: 2,
        base_sequence: 3,
        base_offset: 10,
        record_count: 5,
        append_time: 6,
    };
    let run = DirectRun {
        segment: 9,
        position: 4_096,
        end: 8_192,
        max_timestamp: 5,
        append_time: 6,
        producers: vec![producer; 3],
    };
    rkyv::to_bytes::<rkyv::rancor::Error>(&run)
        .unwrap()
        .to_vec()
}

fn checkpoint() -> Vec<u8> {
    let run = RunRecord {
        segment: 1,
        shared: true,
        base_offset: 0,
        next_offset: 9,
        position: 4_096,
        end: 8_000,
        max_timestamp: 1,
        append_time: 2,
    };
    let window = WindowRecord {
        base_sequence: 0,
        record_count: 1,
        base_offset: 8,
        append_time: 2,
    };
    CheckpointRecord {
        version: CHECKPOINT_VERSION,
        cuts: vec![(1, 2, 3)],
        partitions: vec![PartitionRecord {
            topic: 7,
            fences: vec![(1, 2)],
            runs: vec![run; 2],
            producers: vec![ProducerRecord {
                id: 1,
                epoch: 0,
                last_append: 0,
                window: vec![window],
            }],
            committed: vec![CommittedRecord {
                group: "a group with a long name".into(),
                offset: 1,
                metadata: String::new(),
                lsn: 1,
            }],
            ..PartitionRecord::default()
        }],
        topics_dropped: vec![4],
        clock: ClockRecord {
            behind_from_ms: Some(7),
            jumps: vec![(1, 2, 3)],
        },
        ..CheckpointRecord::default()
    }
    .encode()
}

fn index() -> Vec<u8> {
    let mut index = OpenIndex::default();
    for batch in 0..8 {
        index.push(
            KEY,
            Offset(batch)..Offset(batch + 1),
            4_096 + (batch << 17),
            Timestamp(batch as i64),
        );
    }
    index.index().encode(FilePlace::NONE)
}

fn journal_header() -> Vec<u8> {
    let mut blocks = vec![0; 2 * BLOCK_BYTES];
    JournalHeader {
        generation: Generation(1),
        first_lsn: Lsn(1),
        file_bytes: 1 << 20,
        file: FilePlace::NONE,
    }
    .write(&mut blocks);
    blocks
}

fn segment_header() -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    SegmentHeader {
        id: SegmentId(1),
        owner: Some(KEY),
    }
    .write(&mut block);
    block
}

/// A change to bytes: at a place, to a value that tends to be an edge.
fn change() -> impl Strategy<Value = (prop::sample::Index, u8)> {
    let byte = prop_oneof![
        Just(0),
        Just(1),
        Just(0x7F),
        Just(0x80),
        Just(0xFF),
        any::<u8>()
    ];
    (any::<prop::sample::Index>(), byte)
}

fn changed(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)], from: usize) -> Vec<u8> {
    for (at, byte) in changes {
        let at = from + at.index(bytes.len() - from);
        bytes[at] = *byte;
    }
    bytes
}

/// Makes the checksum of a commit's head right again, so that what it claims is believed.
fn reseal_commit(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(&bytes[4..76]);
    bytes[76..80].copy_from_slice(&checksum.to_le_bytes());
}

/// ... and that of an index.
fn reseal_index(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(&bytes[24..]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
}

fn buffer(bytes: &[u8]) -> DiskBuffer {
    let mut buffer =
        DiskBufferMut::heap(bytes.len().next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES));
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer.freeze()
}

/// Scans a file to its end, within a bound on the reads.
fn scan(file: &[u8], generation: Option<Generation>) {
    let mut scanner = Scanner::new(None, generation, file.len() as u64);
    let mut reads = 0;
    while let Some((position, bytes)) = scanner.poll_read() {
        reads += 1;
        assert!(
            reads <= 4 + 3 * file.len() / BLOCK_BYTES,
            "the scan goes round in circles"
        );
        let start = (position as usize).min(file.len());
        let end = (start + bytes).min(file.len());
        let read = match &file[start..end] {
            [] => DiskBuffer::empty(),
            some => buffer(some),
        };
        scanner.handle_read(position, &read);
    }
    let _ = scanner.into_found();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn arbitrary_bytes_never_make_a_decoder_panic_or_take_much_memory(bytes in prop::collection::vec(any::<u8>(), 0..9_000)) {
        decode_everything(&bytes);
    }

    #[test]
    fn changed_bytes_never_make_a_decoder_panic_or_take_much_memory(
        which in 0usize..7,
        changes in prop::collection::vec(change(), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = [commit, committed_offset, direct_run, checkpoint, index, journal_header, segment_header][which]();
        let mut bytes = changed(whole, &changes, 0);
        decode_everything(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        decode_everything(&bytes);
    }

    #[test]
    fn a_commit_whose_head_lies_with_a_right_checksum_is_refused_or_read(changes in prop::collection::vec(change(), 1..8)) {
        let mut bytes = commit();
        let head = changed(bytes[..76].to_vec(), &changes, 4);
        bytes[..76].copy_from_slice(&head);
        reseal_commit(&mut bytes);
        decode(&bytes, |bytes| {
            let position = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
            if let Ok(head) = CommitHead::read(bytes, position) {
                inspect(&head, bytes);
            }
        });
    }

    #[test]
    fn an_index_that_lies_with_a_right_checksum_is_refused_or_read(changes in prop::collection::vec(change(), 1..8)) {
        let mut bytes = changed(index(), &changes, 24);
        reseal_index(&mut bytes);
        decode(&bytes, |bytes| {
            if let Some(index) = SegmentIndex::decode(bytes, FilePlace::NONE) {
                for run in &index.runs {
                    let _ = run.seek_offset(Offset(3));
                    let _ = run.seek_timestamp(Timestamp(3));
                }
            }
        });
    }

    #[test]
    fn a_scan_ends_whatever_the_file_holds(
        changes in prop::collection::vec(change(), 0..40),
        blocks in 0usize..6,
        header_lost in any::<bool>(),
    ) {
        let mut file = journal_header();
        for _ in 0..3 {
            file.extend(commit());
        }
        file.resize(file.len() + blocks * BLOCK_BYTES, 0);
        let file = changed(file, &changes, FIRST_COMMIT_POSITION as usize);
        scan(&file, (!header_lost).then_some(Generation(1)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_changed_record_log_ends_in_a_typed_outcome_and_never_in_a_wrong_record(
        changes in prop::collection::vec((any::<bool>(), change()), 1..12),
    ) {
        let executor = SimExecutor::new(1);
        let disk = SimDisk::new(&executor);
        let dir = Path::new("/log");
        let records: [&[u8]; 4] = [b"snapshot", &[1; 5_000], b"", b"last"];
        executor.block_on(async {
            let mut log = RecordLog::start(&disk, dir, "log", 1, records[0]).await.unwrap();
            for record in &records[1..] {
                log.append(record).await.unwrap();
            }
        });
        for (first, (at, byte)) in &changes {
            let path = dir.join(if *first { "log-1.a" } else { "log-1.b" });
            let bytes = disk.read_file(&path).unwrap().len();
            disk.overwrite(&path, at.index(bytes) as u64, &[*byte]);
        }
        if let Ok(Some(loaded)) = executor.block_on(RecordLog::load(&disk, dir, "log")) {
            let loaded: Vec<&[u8]> = loaded.records.iter().map(Vec::as_slice).collect();
            prop_assert!(records.starts_with(&loaded));
        }
    }
}

#[test]
fn the_counter_sees_what_a_decoder_allocates() {
    let caught = std::panic::catch_unwind(|| decode(&[], |_| Vec::<u8>::with_capacity(1 << 20)));
    assert!(caught.is_err());
}
