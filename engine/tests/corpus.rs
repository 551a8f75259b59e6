//! A corpus for every decoder of what lies on the disk and of the configuration, as files: what is sound, what lies in one way each, and what was
//! ever found. Each is decoded as its name says, and properties begin from them.
//!
//! A file lies in `corpus/<decoder>/` and its name begins with what the decoder must make of it, `taken-` or `refused-`. A finding is added as such a
//! file. `cargo test -p gannet-engine --test corpus -- --ignored` writes those of [`corpus_cases`] that are missing, named by what becomes of them now:
//! look at the names before they are kept.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod corpus_cases;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use gannet_engine::control::Config;
use gannet_engine::control::catalogue::Catalogue;
use gannet_engine::control::config::{Layers, keys, parse_bytes, parse_cores, parse_milliseconds};
use gannet_engine::cursor::CommittedOffset;
use gannet_engine::io::sim::{SimDisk, SimExecutor};
use gannet_engine::io::{BLOCK_BYTES, DiskBuffer, DiskBufferMut};
use gannet_engine::storage::checkpoint::{CheckpointRecord, CheckpointState};
use gannet_engine::storage::commit::CommitHead;
use gannet_engine::storage::index::SegmentIndex;
use gannet_engine::storage::journal_file::{FIRST_COMMIT_POSITION, HeaderState, JournalHeader};
use gannet_engine::storage::layout::{CATALOGUE_NAME, DataDir, FilePlace};
use gannet_engine::storage::reader::{Place, ReadFrom, SegmentReader};
use gannet_engine::storage::record_log::RecordLog;
use gannet_engine::storage::scan::{Found, Scanner};
use gannet_engine::storage::segment::{
    DirectRun, FIRST_BATCH_POSITION, Run, SegmentHeader, SegmentRef,
};
use gannet_engine::storage::{Generation, PartitionKey, SegmentId};
use gannet_wire::{Offset, PartitionIndex, Timestamp, TopicId};
use proptest::prelude::*;

/// A decoder: its folder, and whether it takes bytes.
type Decoder = (&'static str, fn(&[u8]) -> bool);

const DECODERS: [Decoder; 12] = [
    ("commit", commit),
    ("journal-header", journal_header),
    ("journal", journal),
    ("segment-header", segment_header),
    ("segment", segment),
    ("index", index),
    ("checkpoint", checkpoint),
    ("record-log", record_log),
    ("catalogue", catalogue),
    ("committed-offset", committed_offset),
    ("direct-run", direct_run),
    ("configuration", configuration),
];

fn commit(bytes: &[u8]) -> bool {
    let end = FIRST_COMMIT_POSITION.saturating_add(bytes.len() as u64);
    let _ = CommitHead::read_foot(bytes, end);
    CommitHead::read(bytes, FIRST_COMMIT_POSITION).is_ok_and(|head| head.check(bytes).is_ok())
}

fn journal_header(bytes: &[u8]) -> bool {
    matches!(
        JournalHeader::read(bytes, None),
        HeaderState::Valid(_) | HeaderState::Blank
    )
}

/// Takes a file in which there is a whole commit.
fn journal(bytes: &[u8]) -> bool {
    let generation =
        bytes
            .get(..2 * BLOCK_BYTES)
            .and_then(|blocks| match JournalHeader::read(blocks, None) {
                HeaderState::Valid(header) => Some(header.generation),
                _ => None,
            });
    let whole = scan(bytes, generation) > 0;
    let _ = scan(bytes, None);
    whole
}

/// The whole commits that a scan finds; it ends within a bound of reads.
fn scan(file: &[u8], generation: Option<Generation>) -> usize {
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
        scanner.handle_read(position, &buffer(&file[start..end]));
    }
    let found = scanner.into_found();
    found
        .iter()
        .filter(|found| matches!(found, Found::Commit(_)))
        .count()
}

fn buffer(bytes: &[u8]) -> DiskBuffer {
    if bytes.is_empty() {
        return DiskBuffer::empty();
    }
    let mut buffer = DiskBufferMut::heap(bytes.len().next_multiple_of(BLOCK_BYTES));
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer.freeze()
}

fn segment_header(bytes: &[u8]) -> bool {
    SegmentHeader::read(bytes).is_ok()
}

/// Takes a file that gives all records of the run that the fixtures have.
fn segment(bytes: &[u8]) -> bool {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    let data = DataDir::new("/data");
    disk.write_file(&data.segment(Some(KEY), SEGMENT), bytes);
    let reader = SegmentReader::new(disk, data, BLOCK_BYTES, 1 << 20, 4);
    let run = Run {
        segment: SegmentRef {
            id: SEGMENT,
            shared: false,
        },
        base_offset: OFFSETS.start,
        next_offset: OFFSETS.end,
        position: FIRST_BATCH_POSITION,
        end: (bytes.len() as u64).max(FIRST_BATCH_POSITION),
        max_timestamp: Timestamp(i64::MAX),
        append_time: Timestamp(i64::MAX),
    };
    executor.block_on(async {
        let mut place = Place::start_of(&run);
        let mut reads = 0;
        while place.offset < run.next_offset {
            reads += 1;
            assert!(reads < 100, "reading goes round in circles");
            let from = ReadFrom {
                place,
                offset: place.offset,
                in_sequence: false,
                behind: &[],
            };
            match reader.read(KEY, &run, from, 1).await {
                Ok(read) => place = read.next,
                Err(_) => return false,
            }
        }
        true
    })
}

fn index(bytes: &[u8]) -> bool {
    let Some(index) = SegmentIndex::decode(bytes, FilePlace::NONE) else {
        return false;
    };
    for run in &index.runs {
        let _ = run.seek_offset(Offset(3));
        let _ = run.seek_timestamp(Timestamp(3));
        let _ = run.first_behind(3);
    }
    true
}

fn checkpoint(bytes: &[u8]) -> bool {
    let Ok(record) = CheckpointRecord::decode(bytes) else {
        return false;
    };
    let mut state = CheckpointState::default();
    state.apply(record);
    // What was loaded is written again at every start.
    let again = state.to_record().encode_in_parts();
    assert!(CheckpointState::load(&again).is_ok());
    true
}

/// Both copies of a log hold these bytes.
fn record_log(bytes: &[u8]) -> bool {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    for copy in ["a", "b"] {
        disk.write_file(&Path::new("/log").join(format!("log-2.{copy}")), bytes);
    }
    let loaded = executor.block_on(RecordLog::load(&disk, Path::new("/log"), "log"));
    loaded.is_ok_and(|loaded| loaded.is_some())
}

/// The catalogue's log holds this record behind a sound snapshot, or as the snapshot itself.
fn catalogue(bytes: &[u8]) -> bool {
    let alone = load_catalogue(&[bytes]);
    let snapshot = corpus_cases::catalogue_records().swap_remove(0);
    load_catalogue(&[&snapshot, bytes]) || alone
}

fn load_catalogue(records: &[&[u8]]) -> bool {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    let dir = Path::new("/log");
    executor.block_on(async {
        let (first, others) = records.split_first().unwrap();
        let mut log = RecordLog::start(&disk, dir, CATALOGUE_NAME, 2, first)
            .await
            .unwrap();
        for record in others {
            log.append(record).await.unwrap();
        }
        Catalogue::load(&disk, dir)
            .await
            .is_ok_and(|loaded| loaded.is_some())
    })
}

fn committed_offset(bytes: &[u8]) -> bool {
    CommittedOffset::decode(bytes).is_some_and(|offset| offset.encode() == bytes)
}

fn direct_run(bytes: &[u8]) -> bool {
    rkyv::from_bytes::<DirectRun, rkyv::rancor::Error>(bytes).is_ok()
}

fn configuration(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    match Config::from_toml(Path::new("gannet.toml"), &text) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "a refusal has a sentence");
            false
        }
    }
}

fn corpus(decoder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(decoder)
}

/// The files of a decoder: their names and their bytes.
fn files(decoder: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(corpus(decoder))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_file_of_the_corpus_is_what_its_name_says() {
    for (decoder, takes) in DECODERS {
        for (name, bytes) in files(decoder) {
            let expected = match name.split('-').next() {
                Some("taken") => true,
                Some("refused") => false,
                _ => panic!("{name} does not say what becomes of it"),
            };
            assert_eq!(takes(&bytes), expected, "{decoder}/{name}");
        }
    }
}

#[test]
fn every_decoder_has_something_that_it_takes_and_something_that_it_refuses() {
    for (decoder, _) in DECODERS {
        for word in ["taken-", "refused-"] {
            assert!(
                files(decoder)
                    .iter()
                    .any(|(name, _)| name.starts_with(word)),
                "{decoder} has nothing {word}"
            );
        }
    }
}

#[derive(Clone, Debug)]
struct Changes {
    bytes: Vec<(prop::sample::Index, u8)>,
    cut: Option<prop::sample::Index>,
}

fn changes() -> impl Strategy<Value = Changes> {
    let byte = prop_oneof![
        Just(0),
        Just(1),
        Just(0x7F),
        Just(0x80),
        Just(0xFF),
        any::<u8>()
    ];
    let bytes = prop::collection::vec((any::<prop::sample::Index>(), byte), 1..8);
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    (bytes, cut).prop_map(|(bytes, cut)| Changes { bytes, cut })
}

impl Changes {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return bytes;
        }
        for (at, byte) in &self.bytes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

    #[test]
    fn a_changed_file_of_the_corpus_is_taken_or_refused_and_never_a_panic(
        decoder in 0..DECODERS.len(),
        which in any::<prop::sample::Index>(),
        changes in changes(),
    ) {
        let (name, takes) = DECODERS[decoder];
        let files = files(name);
        let (_, bytes) = &files[which.index(files.len())];
        let _ = takes(&changes.apply(bytes.clone()));
    }

    #[test]
    fn any_value_of_any_key_is_taken_or_refused_with_a_sentence_and_never_a_panic(
        key in 0..keys().len(),
        value in ".{0,40}",
    ) {
        let key = keys()[key].name;
        let mut layers = Layers::default();
        let set = layers.flag("--set", key, &value).map(|()| layers.build());
        if let Err(error) | Ok(Err(error)) = set {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_text_in_place_of_a_number_is_taken_or_refused_with_a_sentence_and_never_a_panic(text in "[0-9a-zA-Z., -]{0,24}") {
        for refusal in [
            parse_bytes(&text).err(),
            parse_milliseconds(&text).err(),
            parse_cores(&text).err(),
        ].into_iter().flatten() {
            prop_assert!(!refusal.is_empty());
        }
    }
}

#[test]
#[ignore = "writes into the sources"]
fn write_missing_files() {
    for (decoder, takes) in DECODERS {
        fs::create_dir_all(corpus(decoder)).unwrap();
        for (what, bytes) in corpus_cases::of(decoder) {
            let verdict = if takes(&bytes) { "taken" } else { "refused" };
            let path = corpus(decoder).join(format!("{verdict}-{what}"));
            if !path.exists() {
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

const KEY: PartitionKey = PartitionKey {
    topic: TopicId(7),
    partition: PartitionIndex(3),
};
const SEGMENT: SegmentId = SegmentId(0x0000_0002_0100_0005);
const OFFSETS: Range<Offset> = Offset(20)..Offset(25);
