//! Stored files for the tests: a data directory as a broker leaves it, written by the broker's own encoders.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use gannet_wire::batch::{BatchBuilder, BatchLimits, Compression, stamp};
use gannet_wire::frame::TopicSettings;
use gannet_wire::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, DECOMPRESSED_BYTES_MAX};
use gannet_wire::{LeaderEpoch, Offset, PartitionIndex, ShardIndex, Timestamp, TopicId};

use super::disk::now;
use crate::control::catalogue::{Catalogue, Layout};
use crate::io::{BLOCK_BYTES, DirEntry, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode};
use crate::limits::DISK_BLOCK_BYTES;
use crate::storage::checkpoint::{
    CHECKPOINT_VERSION, CheckpointRecord, PartitionRecord, RunRecord,
};
use crate::storage::commit::{BatchStamp, CommitIdentity, CommitWriter, commit_bytes};
use crate::storage::journal_file::{FIRST_COMMIT_POSITION, JournalHeader};
use crate::storage::layout::{CHECKPOINT_NAME, DataDir, FilePlace};
use crate::storage::record_log::RecordLog;
use crate::storage::segment::{BATCH_ALIGNMENT, FIRST_BATCH_POSITION, SegmentHeader};
use crate::storage::{Generation, Lsn, PartitionKey, SegmentId};

pub(crate) const KEY: PartitionKey = PartitionKey {
    topic: TopicId(1),
    partition: PartitionIndex(0),
};
pub(crate) const GENERATION: Generation = Generation(3);
pub(crate) const SEGMENT: SegmentId = SegmentId(7);
const TIME: Timestamp = Timestamp(1_000);
const JOURNAL_FILE_BYTES: u64 = 256 * 1024;

/// A batch of `count` records as a producer sends it.
pub(crate) fn batch(count: usize) -> Bytes {
    let mut builder = BatchBuilder::new(BatchLimits {
        batch_bytes_max: BATCH_BYTES_MAX,
        batch_records_max: BATCH_RECORDS_MAX,
        decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
    });
    for index in 0..count {
        let value = format!("value {index}");
        builder
            .push(TIME, None, Some(value.as_bytes()), &[])
            .expect("room");
    }
    builder.build(Compression::None, None)
}

/// The same as the broker stores it.
pub(crate) fn stamped(count: usize, base_offset: u64) -> Bytes {
    let mut batch = BytesMut::from(&batch(count)[..]);
    stamp(
        &mut batch,
        KEY.topic,
        KEY.partition,
        Offset(base_offset),
        TIME,
        LeaderEpoch(0),
    );
    batch.freeze()
}

/// A segment of [`KEY`] with batches of these record counts from offset 0; returns where each begins, and the end of the last.
pub(crate) fn write_segment(path: &Path, counts: &[usize]) -> Vec<u64> {
    let mut bytes = vec![0; BLOCK_BYTES];
    SegmentHeader {
        id: SEGMENT,
        owner: Some(KEY),
    }
    .write(&mut bytes);
    let mut positions = Vec::new();
    let mut base_offset = 0;
    for count in counts {
        positions.push(bytes.len() as u64);
        bytes.extend_from_slice(&stamped(*count, base_offset));
        bytes.resize(bytes.len().next_multiple_of(BATCH_ALIGNMENT), 0);
        base_offset += *count as u64;
    }
    positions.push(bytes.len() as u64);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    fs::create_dir_all(path.parent().expect("a directory")).expect("created");
    fs::write(path, bytes).expect("written");
    positions
}

/// A journal file with one commit of one batch of [`KEY`] for each count, the first one commit `first_lsn` and offset
/// `base_offset`; returns where each commit begins.
pub(crate) fn write_journal(
    path: &Path,
    first_lsn: u64,
    base_offset: u64,
    counts: &[usize],
) -> Vec<u64> {
    let mut bytes = vec![0; FIRST_COMMIT_POSITION as usize];
    JournalHeader {
        generation: GENERATION,
        first_lsn: Lsn(first_lsn),
        file_bytes: JOURNAL_FILE_BYTES,
        file: FilePlace::NONE,
    }
    .write(&mut bytes);
    let mut positions = Vec::new();
    let mut base_offset = base_offset;
    let mut previous_checksum = 0;
    for (lsn, count) in (first_lsn..).zip(counts) {
        let batch = batch(*count);
        let identity = CommitIdentity {
            generation: GENERATION,
            lsn: Lsn(lsn),
            position: bytes.len() as u64,
            durable_lsn: Lsn(lsn - 1),
            append_time: TIME,
            previous_checksum,
            file: FilePlace::NONE,
        };
        let mut commit = vec![0; commit_bytes(1, batch.len())];
        let mut writer = CommitWriter::new(&mut commit, identity, 1);
        writer.batch(
            &batch,
            &BatchStamp {
                key: KEY,
                base_offset: Offset(base_offset),
                record_count: *count as u32,
                append_time: TIME,
                leader_epoch: LeaderEpoch(0),
            },
        );
        previous_checksum = writer.finish();
        positions.push(bytes.len() as u64);
        bytes.extend_from_slice(&commit);
        base_offset += *count as u64;
    }
    bytes.resize(JOURNAL_FILE_BYTES as usize, 0);
    fs::create_dir_all(path.parent().expect("a directory")).expect("created");
    fs::write(path, bytes).expect("written");
    positions
}

/// Flips one bit of a file.
pub(crate) fn flip(path: &Path, position: u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position)
        .expect("long enough");
    file.write_all_at(&[byte[0] ^ 1], position)
        .expect("writable");
}

/// A data directory with one topic of one partition: offsets 0..5 in a segment (two batches), 5..9 in the journal (two commits).
pub(crate) struct Stored {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) segment: PathBuf,
    pub(crate) journal: PathBuf,
    /// Where each batch of the segment begins, and the end.
    pub(crate) batches: Vec<u64>,
    /// Where each commit of the journal begins.
    pub(crate) commits: Vec<u64>,
}

impl Stored {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::new(dir.path());
        let disk = WritableDisk;
        let layout = Layout {
            number: 1,
            shards: 1,
            incarnation: 1,
        };
        let mut catalogue = now(Catalogue::open(&disk, &data.catalogue(), 1)).expect("a catalogue");
        now(catalogue.lay_out(layout)).expect("laid out");
        let topic = now(catalogue.create("orders".to_owned(), 1, TopicSettings::default()))
            .expect("a topic");
        assert_eq!(topic.id, KEY.topic);

        let segment = data.segment(Some(KEY), SEGMENT);
        let batches = write_segment(&segment, &[2, 3]);
        let shard = ShardIndex(0);
        let journal = data.journal(1, shard).join("0.gnj");
        let commits = write_journal(&journal, 11, 5, &[1, 3]);
        let run = RunRecord {
            segment: SEGMENT.0,
            shared: false,
            base_offset: 0,
            next_offset: 5,
            position: FIRST_BATCH_POSITION,
            end: *batches.last().expect("an end"),
            max_timestamp: TIME.0,
            append_time: TIME.0,
        };
        let checkpoint = CheckpointRecord {
            version: CHECKPOINT_VERSION,
            flushed_lsn: 10,
            durable_lsn: 10,
            generation: GENERATION.0,
            append_clock_ms: TIME.0,
            partitions: vec![PartitionRecord {
                topic: KEY.topic.0,
                next_offset: 5,
                runs: vec![run],
                ..PartitionRecord::default()
            }],
            ..CheckpointRecord::default()
        };
        now(RecordLog::start(
            &disk,
            &data.shard(1, shard),
            CHECKPOINT_NAME,
            1,
            &checkpoint.encode(),
        ))
        .expect("a checkpoint");
        Self {
            dir,
            segment,
            journal,
            batches,
            commits,
        }
    }
}

/// A disk for writing what the tests examine: plain files, every call done at once.
#[derive(Clone)]
struct WritableDisk;

struct WritableFile(fs::File);

impl Disk for WritableDisk {
    type File = WritableFile;

    fn buffer(&self, bytes: usize) -> DiskBufferMut {
        DiskBufferMut::heap(bytes)
    }
    async fn open(&self, path: &Path, mode: OpenMode) -> std::io::Result<WritableFile> {
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(mode != OpenMode::Read)
            .create_new(mode == OpenMode::CreateNew);
        options.open(path).map(WritableFile)
    }
    async fn list(&self, dir: &Path) -> std::io::Result<Vec<DirEntry>> {
        super::disk::ReadOnlyDisk.list(dir).await
    }
    async fn create_dir_all(&self, dir: &Path) -> std::io::Result<()> {
        fs::create_dir_all(dir)
    }
    async fn remove(&self, path: &Path) -> std::io::Result<()> {
        fs::remove_file(path)
    }
    async fn remove_dir_all(&self, dir: &Path) -> std::io::Result<()> {
        fs::remove_dir_all(dir)
    }
    async fn sync_dir(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
    async fn available_bytes(&self, _: &Path) -> std::io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for WritableFile {
    async fn write_at(&self, position: u64, buffer: &DiskBuffer) -> std::io::Result<()> {
        self.0.write_all_at(buffer, position)
    }
    async fn read_at(&self, position: u64, bytes: usize) -> std::io::Result<DiskBuffer> {
        let mut buffer = DiskBufferMut::heap(bytes);
        let read = self.0.read_at(&mut buffer, position)?;
        assert!(read == 0 || read.is_multiple_of(DISK_BLOCK_BYTES as usize));
        Ok(if read == 0 {
            DiskBuffer::empty()
        } else {
            buffer.freeze()
        })
    }
    async fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
    async fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        self.0.set_len(bytes)
    }
    async fn truncate(&self, bytes: u64) -> std::io::Result<()> {
        self.0.set_len(bytes)
    }
    async fn bytes(&self) -> std::io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    async fn close(mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
