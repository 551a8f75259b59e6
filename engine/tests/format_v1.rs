//! The first version's bytes on disk, frozen: every version of the program opens them and finds every field.
//!
//! The files under `fixtures/v1` are never changed. They were written by this program with `GANNET_WRITE_FIXTURES=1`, which is for
//! a version that has no fixtures yet.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use gannet_engine::control::catalogue::{Catalogue, Layout, TopicLife};
use gannet_engine::cursor::CommittedOffset;
use gannet_engine::io::BLOCK_BYTES;
use gannet_engine::io::sim::{SimDisk, SimExecutor};
use gannet_engine::storage::append_clock::{Behind, Jump};
use gannet_engine::storage::checkpoint::{
    CheckpointRecord, CheckpointState, ClockRecord, CommittedRecord, PartitionRecord,
    ProducerRecord, RunRecord, WindowRecord,
};
use gannet_engine::storage::commit::{
    BatchStamp, CommitHead, CommitIdentity, CommitWriter, EntryKind, commit_bytes,
};
use gannet_engine::storage::index::{OpenIndex, SegmentIndex};
use gannet_engine::storage::journal::JournalContents;
use gannet_engine::storage::journal_file::{FIRST_COMMIT_POSITION, HeaderState, JournalHeader};
use gannet_engine::storage::layout::{CATALOGUE_NAME, CHECKPOINT_NAME, DataDir, FilePlace};
use gannet_engine::storage::record_log::RecordLog;
use gannet_engine::storage::recovery::{Cut, JournalState, Lives, Row, plan};
use gannet_engine::storage::segment::{
    DirectProducer, DirectRun, FIRST_BATCH_POSITION, Framed, SegmentHeader, aligned_bytes, frame_at,
};
use gannet_engine::storage::{Generation, Lsn, PartitionKey, SegmentId};
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, Compression, ProducerStamp, Records, stamp, verify_stamped,
};
use gannet_wire::frame::{Durability, TimestampSource, TopicCheck, TopicSettings};
use gannet_wire::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};

const KEY: PartitionKey = PartitionKey {
    topic: TopicId(7),
    partition: PartitionIndex(3),
};
const NEIGHBOUR: PartitionKey = PartitionKey {
    topic: TopicId(8),
    partition: PartitionIndex(0),
};
const TIME: Timestamp = Timestamp(1_700_000_000_000);
const PRODUCER: ProducerStamp = ProducerStamp {
    id: ProducerId(11),
    epoch: ProducerEpoch(2),
    base_sequence: Sequence(40),
};
const SEGMENT: SegmentId = SegmentId(0x0000_0002_0100_0005);
const IDENTITY: CommitIdentity = CommitIdentity {
    generation: Generation(4),
    lsn: Lsn(12),
    position: FIRST_COMMIT_POSITION,
    durable_lsn: Lsn(10),
    append_time: TIME,
    previous_checksum: 0x0102_0304,
    file: FilePlace::NONE,
};
const JOURNAL: JournalHeader = JournalHeader {
    generation: Generation(4),
    first_lsn: Lsn(12),
    file_bytes: 64 << 20,
    file: FilePlace::NONE,
};
const LAYOUT: Layout = Layout {
    number: 3,
    shards: 2,
    incarnation: 1,
};

/// A file of the fixtures. What is not there yet is written, when that is asked for.
fn fixture(name: &str, made: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/v1")
        .join(name);
    if !path.exists() && std::env::var_os("GANNET_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, made()).unwrap();
    }
    std::fs::read(&path).unwrap()
}

fn batch(count: u8, base_offset: u64) -> Bytes {
    batch_of(KEY, count, base_offset)
}

fn batch_of(key: PartitionKey, count: u8, base_offset: u64) -> Bytes {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    for record in 0..count {
        builder
            .push(
                Timestamp(TIME.0 + i64::from(record)),
                Some(b"key"),
                Some(&[record; 5]),
                &[("header", Some(b"value"))],
            )
            .unwrap();
    }
    let mut batch = BytesMut::from(&builder.build(Compression::None, Some(PRODUCER))[..]);
    stamp(
        &mut batch,
        key.topic,
        key.partition,
        Offset(base_offset),
        TIME,
        LeaderEpoch(6),
    );
    batch.freeze()
}

fn check_batch(bytes: &[u8], count: u8, base_offset: u64) {
    let header = verify_stamped(bytes, KEY.topic, KEY.partition).unwrap();
    assert_eq!(header.base_offset(), Offset(base_offset));
    assert_eq!(header.record_count(), u32::from(count));
    assert_eq!(header.append_time(), TIME);
    assert_eq!(header.leader_epoch(), LeaderEpoch(6));
    assert_eq!(header.producer(), Some(PRODUCER));
    let batch = Bytes::copy_from_slice(&bytes[..header.batch_bytes()]);
    let records = Records::open(batch).unwrap();
    for (index, (offset, record)) in (0u8..).zip(records.iter()) {
        assert_eq!(offset, Offset(base_offset + u64::from(index)));
        assert_eq!(record.timestamp, Timestamp(TIME.0 + i64::from(index)));
        assert_eq!(record.key, Some(&b"key"[..]));
        assert_eq!(record.value, Some(&[index; 5][..]));
        let headers: Vec<_> = record.headers.collect();
        assert_eq!(headers, [("header", Some(&b"value"[..]))]);
    }
    assert_eq!(records.len(), usize::from(count));
}

fn direct_run() -> DirectRun {
    DirectRun {
        segment: SEGMENT.0,
        position: FIRST_BATCH_POSITION,
        end: 2 * BLOCK_BYTES as u64,
        max_timestamp: TIME.0 + 9,
        append_time: TIME.0,
        producers: vec![DirectProducer {
            id: 11,
            epoch: 2,
            base_sequence: 42,
            base_offset: 22,
            record_count: 5,
            append_time: TIME.0,
        }],
    }
}

fn committed_offset() -> CommittedOffset {
    CommittedOffset {
        group: "group".into(),
        offset: Offset(21),
        metadata: "note".into(),
    }
}

fn write_commit(identity: CommitIdentity) -> Vec<u8> {
    let batch = batch(2, 20);
    let run = rkyv::to_bytes::<rkyv::rancor::Error>(&direct_run()).unwrap();
    let offset = committed_offset().encode();
    let mut bytes = vec![0; commit_bytes(3, batch.len() + run.len() + offset.len())];
    let mut writer = CommitWriter::new(&mut bytes, identity, 3);
    writer.batch(
        &batch,
        &BatchStamp {
            key: KEY,
            base_offset: Offset(20),
            record_count: 2,
            append_time: TIME,
            leader_epoch: LeaderEpoch(6),
        },
    );
    writer.entry(EntryKind::DirectRun, KEY, Offset(22), 5, &run);
    writer.entry(EntryKind::CommittedOffset, KEY, Offset(0), 0, &offset);
    let _ = writer.finish();
    bytes
}

#[test]
fn a_commit_of_version_1_opens() {
    let bytes = fixture("commit.bin", || write_commit(IDENTITY));
    let head = CommitHead::read(&bytes, FIRST_COMMIT_POSITION).unwrap();
    assert_eq!(head.identity, IDENTITY);
    assert_eq!((head.commit_bytes, head.entries), (bytes.len(), 3));
    let entries = head.check(&bytes).unwrap();
    let lines: Vec<_> = entries
        .iter()
        .map(|entry| (entry.kind, entry.key, entry.base_offset, entry.record_count))
        .collect();
    assert_eq!(
        lines,
        [
            (EntryKind::Batch, KEY, Offset(20), 2),
            (EntryKind::DirectRun, KEY, Offset(22), 5),
            (EntryKind::CommittedOffset, KEY, Offset(0), 0),
        ]
    );
    check_batch(entries[0].bytes_in(&bytes).unwrap(), 2, 20);
    let run =
        rkyv::from_bytes::<DirectRun, rkyv::rancor::Error>(entries[1].bytes_in(&bytes).unwrap());
    assert_eq!(run.unwrap(), direct_run());
    assert_eq!(
        CommittedOffset::decode(entries[2].bytes_in(&bytes).unwrap()),
        Some(committed_offset())
    );
    let end = FIRST_COMMIT_POSITION + bytes.len() as u64;
    assert_eq!(CommitHead::read_foot(&bytes, end), Ok(head));
}

#[test]
fn a_journal_header_of_version_1_opens() {
    let bytes = fixture("journal-header.bin", || {
        let mut blocks = vec![0; FIRST_COMMIT_POSITION as usize];
        JOURNAL.write(&mut blocks);
        blocks
    });
    assert_eq!(
        JournalHeader::read(&bytes, None),
        HeaderState::Valid(JOURNAL)
    );
}

fn write_segment() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_BYTES];
    SegmentHeader {
        id: SEGMENT,
        owner: Some(KEY),
    }
    .write(&mut bytes);
    for (count, base_offset) in [(2, 20), (3, 22)] {
        bytes.extend_from_slice(&batch(count, base_offset));
        bytes.resize(aligned_bytes(bytes.len()), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

/// A segment of many partitions: the same batches, and between them one of a neighbour.
fn write_shared_segment() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_BYTES];
    SegmentHeader {
        id: SEGMENT,
        owner: None,
    }
    .write(&mut bytes);
    let neighbour = batch_of(NEIGHBOUR, 1, 70);
    for batch in [batch(2, 20), neighbour, batch(3, 22)] {
        bytes.extend_from_slice(&batch);
        bytes.resize(aligned_bytes(bytes.len()), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

#[test]
fn a_segment_of_many_partitions_and_its_index_of_version_1_open() {
    let bytes = fixture("shared.seg", write_shared_segment);
    let header = SegmentHeader {
        id: SEGMENT,
        owner: None,
    };
    assert_eq!(SegmentHeader::read(&bytes), Ok(header));
    let mut places = Vec::new();
    let mut at = BLOCK_BYTES;
    while let Framed::Batch(length) = frame_at(&bytes[at..]) {
        places.push(at);
        at += aligned_bytes(length);
    }
    let [first, between, last] = places.try_into().unwrap();
    check_batch(&bytes[first..between], 2, 20);
    check_batch(&bytes[last..at], 3, 22);
    verify_stamped(&bytes[between..], NEIGHBOUR.topic, NEIGHBOUR.partition).unwrap();

    let [first, between, last] = [first, between, last].map(|at| at as u64);
    let index = fixture("shared.idx", || {
        let mut index = OpenIndex::default();
        index.push(KEY, Offset(20)..Offset(22), first, Timestamp(TIME.0 + 1));
        index.push(NEIGHBOUR, Offset(70)..Offset(71), between, TIME);
        index.push(KEY, Offset(22)..Offset(25), last, Timestamp(TIME.0 + 2));
        index.index().encode(FilePlace::NONE)
    });
    let index = SegmentIndex::decode(&index, FilePlace::NONE).unwrap();
    for (key, base, position) in [(KEY, 20, first), (NEIGHBOUR, 70, between), (KEY, 22, last)] {
        let run = &index.runs[index.find(key, Offset(base)).unwrap()];
        assert_eq!(run.seek_offset(Offset(base)).unwrap().position, position);
    }
}

/// The beginning of the journal file `file`: a commit, and the mark above it.
fn write_journal(file: FilePlace) -> Vec<u8> {
    let mut bytes = vec![0; FIRST_COMMIT_POSITION as usize];
    JournalHeader { file, ..JOURNAL }.write(&mut bytes);
    let identity = CommitIdentity { file, ..IDENTITY };
    let commit = write_commit(identity);
    let above = CommitIdentity {
        lsn: Lsn(13),
        position: (bytes.len() + commit.len()) as u64,
        durable_lsn: Lsn(12),
        previous_checksum: CommitHead::read(&commit, FIRST_COMMIT_POSITION)
            .unwrap()
            .checksum,
        ..identity
    };
    bytes.extend(commit);
    let mut mark = vec![0; commit_bytes(0, 0)];
    let _ = CommitWriter::new(&mut mark, above, 0).finish();
    bytes.extend(mark);
    bytes.resize(bytes.len() + BLOCK_BYTES, 0);
    bytes
}

fn scan(path: &Path, file: &[u8]) -> JournalContents {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    disk.write_file(path, file);
    executor
        .block_on(JournalContents::scan(
            &disk,
            path.parent().unwrap(),
            Lsn(11),
        ))
        .unwrap()
}

fn check_journal(found: JournalContents) {
    // The fixture is the beginning of a file of 64 MiB: what it leaves out is missed.
    assert_eq!(found.lives.shortened.len(), 1);
    let lives = Lives {
        generations: vec![Generation(4)],
        ..Lives::default()
    };
    assert_eq!(found.lives.generations, lives.generations);
    let decision = plan(
        &JournalState {
            flushed_lsn: Lsn(11),
            ..JournalState::default()
        },
        &lives,
        found.found,
    );
    assert_eq!(decision.end_lsn, Lsn(13));
    assert_eq!(decision.rows, BTreeMap::from([(Row::Replay, 2)]));
}

#[test]
fn a_journal_file_of_version_1_is_read_with_its_commit_and_the_mark_above_it() {
    let file = fixture("journal.gnj", || write_journal(FilePlace::NONE));
    check_journal(scan(Path::new("/journal/00000000.gnj"), &file));
}

#[test]
fn a_journal_file_that_names_itself_is_read_where_it_belongs_and_nowhere_else() {
    let home = Path::new("/data/layout-3/shard-1/journal/00000002.gnj");
    let file = fixture("journal-named.gnj", || write_journal(FilePlace::of(home)));
    check_journal(scan(home, &file));
    // The data directory may have moved.
    check_journal(scan(
        &Path::new("/mnt/old").join(home.strip_prefix("/").unwrap()),
        &file,
    ));
    for other in [
        "/data/layout-3/shard-0/journal/00000002.gnj",
        "/data/layout-3/shard-1/journal/00000001.gnj",
    ] {
        let found = scan(Path::new(other), &file);
        assert!(found.found.is_empty() && found.lives.any_unknown, "{other}");
    }
}

/// Where the two batches of the segment begin.
fn batches_of(segment: &[u8]) -> [usize; 2] {
    let first = BLOCK_BYTES;
    let Framed::Batch(bytes) = frame_at(&segment[first..]) else {
        panic!("a batch begins behind the header");
    };
    [first, first + aligned_bytes(bytes)]
}

#[test]
fn a_segment_of_version_1_opens() {
    let bytes = fixture("segment.seg", write_segment);
    assert_eq!(
        SegmentHeader::read(&bytes),
        Ok(SegmentHeader {
            id: SEGMENT,
            owner: Some(KEY)
        })
    );
    let [first, second] = batches_of(&bytes);
    check_batch(&bytes[first..][..second - first], 2, 20);
    let Framed::Batch(length) = frame_at(&bytes[second..]) else {
        panic!("a second batch follows");
    };
    check_batch(&bytes[second..second + length], 3, 22);
    assert_eq!(
        frame_at(&bytes[second + aligned_bytes(length)..]),
        Framed::Filler
    );
}

fn write_index(place: FilePlace) -> Vec<u8> {
    let [first, second] = batches_of(&fixture("segment.seg", write_segment)).map(|at| at as u64);
    let mut index = OpenIndex::default();
    index.push(KEY, Offset(20)..Offset(22), first, Timestamp(TIME.0 + 1));
    index.push(KEY, Offset(22)..Offset(25), second, Timestamp(TIME.0 + 2));
    index.index().encode(place)
}

fn check_index(index: &SegmentIndex) {
    assert_eq!(index.runs.len(), 1);
    let run = &index.runs[index.find(KEY, Offset(20)).unwrap()];
    let point = run.seek_offset(Offset(24)).unwrap();
    assert_eq!(
        (point.offset, point.position, point.max_timestamp_before),
        (20, FIRST_BATCH_POSITION, i64::MIN)
    );
    assert_eq!(run.seek_timestamp(Timestamp(TIME.0 + 2)), Some(point));
}

#[test]
fn an_index_of_version_1_opens() {
    let bytes = fixture("segment.idx", || write_index(FilePlace::NONE));
    let anywhere = FilePlace::of(Path::new("/data/shared/1.idx"));
    check_index(&SegmentIndex::decode(&bytes, anywhere).unwrap());
}

#[test]
fn an_index_that_names_itself_opens_where_it_belongs_and_nowhere_else() {
    let data = DataDir::new("/data");
    let home = FilePlace::of(&data.index(Some(KEY), SEGMENT));
    let bytes = fixture("segment-named.idx", || write_index(home));
    check_index(&SegmentIndex::decode(&bytes, home).unwrap());
    let next = FilePlace::of(&data.index(Some(KEY), SegmentId(SEGMENT.0 + 1)));
    assert_eq!(SegmentIndex::decode(&bytes, next), None);
}

/// A simulated disk with the two files of a log, written by `write` if they are not there yet.
fn log_fixture(name: &str, sequence: u64, write: impl AsyncFn(&SimDisk)) -> (SimExecutor, SimDisk) {
    let executor = SimExecutor::new(1);
    let written = SimDisk::new(&executor);
    executor.block_on(write(&written));
    let disk = SimDisk::new(&executor);
    for copy in ["a", "b"] {
        let file = format!("{name}-{sequence}.{copy}");
        let path = PathBuf::from("/log").join(&file);
        let bytes = fixture(&file, || written.read_file(&path).unwrap());
        disk.write_file(&path, &bytes);
    }
    (executor, disk)
}

fn run_record() -> RunRecord {
    RunRecord {
        segment: SEGMENT.0,
        shared: true,
        base_offset: 20,
        next_offset: 25,
        position: FIRST_BATCH_POSITION,
        end: 4_500,
        max_timestamp: TIME.0 + 2,
        append_time: TIME.0,
    }
}

fn partition_record() -> PartitionRecord {
    PartitionRecord {
        topic: KEY.topic.0,
        partition: KEY.partition.0,
        log_start: 20,
        next_offset: 25,
        leader_epoch: 6,
        fences: vec![(18, 20)],
        runs: vec![run_record()],
        producers: vec![ProducerRecord {
            id: 11,
            epoch: 2,
            last_append: TIME.0,
            window: vec![WindowRecord {
                base_sequence: 40,
                record_count: 2,
                base_offset: 20,
                append_time: TIME.0,
            }],
        }],
        committed: vec![CommittedRecord {
            group: "group".into(),
            offset: 21,
            metadata: "note".into(),
            lsn: 9,
        }],
    }
}

fn checkpoint_record(version: u32, partitions: Vec<PartitionRecord>) -> CheckpointRecord {
    CheckpointRecord {
        version,
        flushed_lsn: 9,
        durable_lsn: 10,
        generation: 4,
        append_clock_ms: TIME.0,
        cuts: vec![(3, 8, 11)],
        partitions,
        topics_dropped: vec![5],
        clock: match version {
            1 => ClockRecord::default(),
            _ => ClockRecord {
                behind_from_ms: Some(TIME.0 + 7),
                jumps: vec![(TIME.0, TIME.0 + 5, 86_400_000)],
            },
        },
    }
}

/// What the two checkpoints of a version hold together, from the log of this sequence.
fn check_checkpoint(version: u32, sequence: u64) -> CheckpointState {
    let (executor, disk) = log_fixture(CHECKPOINT_NAME, sequence, async |disk| {
        let dir = Path::new("/log");
        let gone = PartitionRecord {
            topic: 5,
            ..PartitionRecord::default()
        };
        let mut snapshot = checkpoint_record(version, vec![gone]);
        snapshot.topics_dropped = Vec::new();
        let mut log = RecordLog::start(disk, dir, CHECKPOINT_NAME, sequence, &snapshot.encode())
            .await
            .unwrap();
        let change = checkpoint_record(version, vec![partition_record()]);
        log.append(&change.encode()).await.unwrap();
    });
    let loaded = executor
        .block_on(RecordLog::load(&disk, Path::new("/log"), CHECKPOINT_NAME))
        .unwrap()
        .unwrap();
    assert_eq!((loaded.sequence, loaded.records.len()), (sequence, 2));
    let state = CheckpointState::load(&loaded.records).unwrap();
    let journal = JournalState {
        flushed_lsn: Lsn(9),
        durable_lsn: Lsn(10),
        generation: Generation(4),
        cuts: vec![Cut {
            generation: Generation(3),
            end_lsn: Lsn(8),
            seen_lsn: Lsn(11),
        }],
    };
    assert_eq!(state.journal, journal);
    assert_eq!(state.append_clock_ms, Some(TIME.0));
    assert_eq!(
        state.partitions.iter().collect::<Vec<_>>(),
        [(&KEY, &partition_record())]
    );
    state
}

#[test]
fn a_checkpoint_of_version_1_opens() {
    let state = check_checkpoint(1, 2);
    assert_eq!(state.behind, Behind::default());
}

#[test]
fn a_checkpoint_of_version_2_opens_with_what_the_clock_remembers() {
    let state = check_checkpoint(2, 3);
    let behind = Behind {
        from_ms: Some(TIME.0 + 7),
        jumps: vec![Jump {
            from_ms: TIME.0,
            to_ms: TIME.0 + 5,
            by_ms: 86_400_000,
        }],
    };
    assert_eq!(state.behind, behind);
}

fn settings() -> TopicSettings {
    TopicSettings {
        durability: Durability::Accepted,
        check: TopicCheck::HeaderOnly,
        timestamps: TimestampSource::Append,
        retention_ms: Some(86_400_000),
        retention_bytes: None,
    }
}

#[test]
fn a_catalogue_of_version_1_opens() {
    let dir = Path::new("/log");
    let (executor, disk) = log_fixture(CATALOGUE_NAME, 2, async |disk| {
        Catalogue::open(disk, dir, 77).await.map(drop).unwrap();
        let mut catalogue = Catalogue::open(disk, dir, 77).await.unwrap();
        catalogue.lay_out(LAYOUT).await.unwrap();
        for name in ["deleted", "orders"] {
            catalogue.create(name.into(), 3, settings()).await.unwrap();
        }
        catalogue.delete("deleted").await.unwrap();
    });
    let (state, sequence) = executor
        .block_on(Catalogue::load(&disk, dir))
        .unwrap()
        .unwrap();
    assert_eq!((sequence, state.incarnation, state.broker_id), (2, 2, 77));
    assert_eq!(state.layout, LAYOUT);
    assert_eq!(state.next_topic, TopicId(3));
    assert_eq!(state.life(TopicId(1)), TopicLife::Deleted);
    let topic = state.named("orders").unwrap();
    assert_eq!((topic.id, topic.partitions), (TopicId(2), 3));
    assert_eq!(topic.settings, settings());
    assert_eq!(state.topics.len(), 1);
}

#[test]
fn a_log_that_names_itself_is_read_where_it_belongs_and_nowhere_else() {
    const RECORDS: [&[u8]; 2] = [b"a snapshot", b"and a change"];
    let home = Path::new("/data/layout-3/shard-1");
    let executor = SimExecutor::new(1);
    let written = |dir: &Path, name: &str| {
        let disk = SimDisk::new(&executor);
        executor.block_on(async {
            let log = RecordLog::start(&disk, dir, name, 2, RECORDS[0]);
            log.await.unwrap().append(RECORDS[1]).await.unwrap();
        });
        disk.read_file(&dir.join(format!("{name}-2.a"))).unwrap()
    };
    for (fixed, dir, name) in [
        ("checkpoint-named-2.a", home, CHECKPOINT_NAME),
        (
            "topics-named-2.a",
            Path::new("/data/catalogue"),
            CATALOGUE_NAME,
        ),
    ] {
        let now = written(dir, name);
        assert_eq!(fixture(fixed, || now.clone()), now, "{fixed}");
    }
    let file = written(home, CHECKPOINT_NAME);
    let load = |dir: &str, name: &str| {
        let disk = SimDisk::new(&executor);
        for copy in ["a", "b"] {
            let path = Path::new(dir).join(format!("{name}-2.{copy}"));
            disk.write_file(&path, &file);
        }
        executor.block_on(RecordLog::load(&disk, Path::new(dir), name))
    };
    for dir in ["/data/layout-3/shard-1", "/moved/layout-3/shard-1"] {
        let loaded = load(dir, CHECKPOINT_NAME).unwrap().unwrap();
        assert_eq!(
            (loaded.sequence, &loaded.records[..]),
            (2, &RECORDS.map(<[u8]>::to_vec)[..])
        );
    }
    for (dir, name) in [
        ("/data/layout-3/shard-0", CHECKPOINT_NAME),
        ("/data/layout-2/shard-1", CHECKPOINT_NAME),
        ("/data/catalogue", CATALOGUE_NAME),
    ] {
        assert!(load(dir, name).is_err(), "{dir}");
    }
}
