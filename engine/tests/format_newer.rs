//! Files of a version to come: each is refused by name, with its version and what to do, and nothing of it is changed. An index is the exception: it only
//! speeds up, so one that this program does not know is made again.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::path::{Path, PathBuf};

use gannet_engine::control::catalogue::Catalogue;
use gannet_engine::io::BLOCK_BYTES;
use gannet_engine::io::sim::{SimDisk, SimExecutor};
use gannet_engine::storage::checkpoint::{
    CHECKPOINT_VERSION, CheckpointFault, CheckpointRecord, CheckpointState,
};
use gannet_engine::storage::index::SegmentIndex;
use gannet_engine::storage::journal::JournalContents;
use gannet_engine::storage::layout::{CATALOGUE_NAME, DataDir, FilePlace};
use gannet_engine::storage::reader::{Place, ReadFault, ReadFrom, SegmentReader};
use gannet_engine::storage::record_log::RecordLog;
use gannet_engine::storage::segment::{FIRST_BATCH_POSITION, Run, SegmentRef};
use gannet_engine::storage::{Lsn, PartitionKey, SegmentId, StorageError};
use gannet_wire::{Offset, PartitionIndex, Timestamp, TopicId};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/v1")
        .join(name);
    std::fs::read(path).unwrap()
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn assert_refused<T>(result: Result<T, StorageError>, path: &str, version: u32) {
    let error = result.map(drop).unwrap_err();
    assert!(matches!(error, StorageError::Newer { .. }), "{error:?}");
    let sentence = error.to_string();
    assert!(sentence.starts_with(path), "{sentence}");
    let says = format!("has format version {version}");
    assert!(sentence.contains(&says), "{sentence}");
    assert!(sentence.ends_with("start a newer gannet"), "{sentence}");
}

/// A block or more whose header has its version at 8 and its checksum at 12.
fn with_newer_header(mut bytes: Vec<u8>, blocks: usize) -> Vec<u8> {
    for block in bytes.chunks_mut(BLOCK_BYTES).take(blocks) {
        put_u32(block, 8, 2);
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..40]);
        put_u32(block, 12, checksum);
    }
    bytes
}

fn scan(file: &[u8]) -> Result<JournalContents, StorageError> {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    let dir = Path::new("/journal");
    disk.write_file(&dir.join("00000000.gnj"), file);
    executor.block_on(JournalContents::scan(&disk, dir, Lsn(0)))
}

#[test]
fn a_newer_journal_file_is_refused() {
    let file = with_newer_header(fixture("journal.gnj"), 2);
    assert_refused(scan(&file), "/journal/00000000.gnj", 2);
}

#[test]
fn a_newer_commit_is_refused() {
    let mut file = fixture("journal.gnj");
    let head = &mut file[2 * BLOCK_BYTES..][..80];
    head[4] = 2;
    let checksum = crc32c::crc32c(&head[4..76]);
    put_u32(head, 76, checksum);
    assert_refused(scan(&file), "/journal/00000000.gnj", 2);
}

/// A log whose two copies hold `bytes`.
fn log_of(executor: &SimExecutor, name: &str, bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(executor);
    for copy in ["a", "b"] {
        let path = PathBuf::from("/log").join(format!("{name}-2.{copy}"));
        disk.write_file(&path, bytes);
    }
    disk
}

/// The first record of a log with a change, sealed again.
fn with_first_record(mut log: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let length = u32::from_le_bytes(log[24..28].try_into().unwrap()) as usize;
    change(&mut log[..32 + length]);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&log[..28]), &log[32..32 + length]);
    put_u32(&mut log, 28, checksum);
    log
}

#[test]
fn a_newer_record_log_is_refused() {
    let executor = SimExecutor::new(1);
    let newer = with_first_record(fixture("checkpoint-2.a"), |record| put_u32(record, 4, 2));
    let disk = log_of(&executor, "log", &newer);
    let loaded = executor.block_on(RecordLog::load(&disk, Path::new("/log"), "log"));
    assert_refused(loaded, "/log/log-2.a", 2);
}

#[test]
fn a_newer_checkpoint_is_refused() {
    let newer = CheckpointRecord {
        version: CHECKPOINT_VERSION + 1,
        ..CheckpointRecord::default()
    };
    let fault = CheckpointState::load(&[newer.encode()]).unwrap_err();
    assert_eq!(fault, CheckpointFault::Newer(CHECKPOINT_VERSION + 1));
    let error: Result<(), StorageError> = Err(fault.of(Path::new("/shard-0/checkpoint")));
    assert_refused(error, "/shard-0/checkpoint", CHECKPOINT_VERSION + 1);
}

#[test]
fn a_newer_catalogue_is_refused() {
    let executor = SimExecutor::new(1);
    // The snapshot's version is found by what it is the only one to change.
    let log = fixture("topics-2.a");
    let length = u32::from_le_bytes(log[24..28].try_into().unwrap()) as usize;
    let refused = (32..=28 + length).find_map(|at| {
        let newer = with_first_record(log.clone(), |record| put_u32(record, at, 2));
        let disk = log_of(&executor, CATALOGUE_NAME, &newer);
        let loaded = executor.block_on(Catalogue::load(&disk, Path::new("/log")));
        loaded
            .map(drop)
            .err()
            .filter(|error| matches!(error, StorageError::Newer { .. }))
    });
    assert_refused(Err::<(), _>(refused.unwrap()), "/log", 2);
}

const KEY: PartitionKey = PartitionKey {
    topic: TopicId(7),
    partition: PartitionIndex(3),
};
const SEGMENT: SegmentId = SegmentId(0x0000_0002_0100_0005);

#[test]
fn a_newer_segment_is_refused_when_it_is_read() {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    let data = DataDir::new("/data");
    let path = data.segment(Some(KEY), SEGMENT);
    let bytes = with_newer_header(fixture("segment.seg"), 1);
    disk.write_file(&path, &bytes);
    let reader = SegmentReader::new(disk, data, BLOCK_BYTES, 1 << 20, 4);
    let run = Run {
        segment: SegmentRef {
            id: SEGMENT,
            shared: false,
        },
        base_offset: Offset(20),
        next_offset: Offset(25),
        position: FIRST_BATCH_POSITION,
        end: bytes.len() as u64,
        max_timestamp: Timestamp(0),
        append_time: Timestamp(0),
    };
    let from = ReadFrom {
        place: Place::start_of(&run),
        offset: run.base_offset,
        in_sequence: false,
        behind: &[],
    };
    let read = executor.block_on(reader.read(KEY, &run, from, 1));
    let read = read.map_err(|fault| match fault {
        ReadFault::Storage(error) => error,
        ReadFault::Damaged(fence) => panic!("{fence:?} is no damage"),
    });
    assert_refused(read, &path.display().to_string(), 2);
}

#[test]
fn a_newer_index_is_not_believed() {
    let mut newer = fixture("segment.idx");
    assert!(SegmentIndex::decode(&newer, FilePlace::NONE).is_some());
    newer[8] = 2;
    assert_eq!(SegmentIndex::decode(&newer, FilePlace::NONE), None);
}
