//! What version 1 left on the disk when it was killed, frozen: every version of the broker starts on it and has all of it.
//!
//! `fixtures/data-v1` is such a data directory, each file compressed by zstd and otherwise where it lay; it is never changed. `fixtures/data-v1-named` is one of
//! since files say which one they are. The programs of their times wrote them with `TESTS_WRITE_FIXTURES=1 cargo test -p gannet-tests --test old_data`, which is for a version that has no such directory yet (a broker would take `GANNET_...` for its configuration). What is in a single
//! file, `engine/tests/format_v1.rs` asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gannet_engine::storage::PartitionKey;
use gannet_engine::storage::layout::DataDir;
use gannet_tests::{Server, client, connect, data_dir};
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientError, ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{
    Durability, Start, TimestampSource, TopicCheck, TopicEntry, TopicSettings,
};
use gannet_wire::{ErrorCode, Offset, PartitionIndex, Timestamp, TopicId};

const TOPIC: &str = "orders";
/// The topic that was deleted; it was the last one made.
const DELETED: &str = "drafts";
const GROUP: &str = "billing";
const PARTITIONS: [PartitionIndex; 2] = [PartitionIndex(0), PartitionIndex(1)];
/// Offsets of each partition that were in segments when the broker was killed, and those that stood in the journal alone.
const FLUSHED: Range<u64> = 0..60;
const UNFLUSHED: Range<u64> = 60..80;
/// What the group had committed: one flushed, the other not.
const COMMITTED: [Option<Offset>; 2] = [Some(Offset(7)), Some(Offset(70))];
const SHARDS: u16 = 2;
/// Data directories, and what `gannet check` says of each.
const FIXTURES: [(&str, &str); 2] = [
    (
        "data-v1",
        "2 partitions, 122 batches in segments (181.5 KiB), 57 commits to replay: clean",
    ),
    (
        "data-v1-named",
        "2 partitions, 122 batches in segments (181.5 KiB), 41 commits to replay: clean",
    ),
];

fn settings() -> TopicSettings {
    TopicSettings {
        durability: Durability::Durable,
        check: TopicCheck::Full,
        timestamps: TimestampSource::Producer,
        // Nothing in it ever expires.
        retention_ms: None,
        retention_bytes: Some(1 << 40),
    }
}

/// A record but for its header, which says its partition.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: Timestamp,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What each place of the topic holds. Every 20th record is so large that it went straight to a segment, every 7th has no key.
fn stored(partition: PartitionIndex, offset: u64) -> Stored {
    let mut value = format!("record {offset} of partition {partition}").into_bytes();
    if offset % 20 == 11 {
        value.resize(20_000, b'.');
    }
    Stored {
        key: (offset % 7 != 3).then(|| format!("key {}", offset % 5).into_bytes()),
        value: Some(value),
        timestamp: Timestamp(1_700_000_000_000 + i64::try_from(offset).expect("small")),
        headers: vec![
            ("partition".into(), Some(vec![partition.0 as u8])),
            ("null".into(), None),
        ],
    }
}

/// A directory of version 1 as a broker finds it. Where there is no such fixture yet, it is written if that is asked for.
fn data_of_version_1(fixture: &str) -> tempfile::TempDir {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(fixture);
    if !fixture.exists() && std::env::var_os("TESTS_WRITE_FIXTURES").is_some() {
        write_fixture(&fixture);
    }
    let dir = data_dir();
    for packed in files(&fixture) {
        let place = packed.strip_prefix(&fixture).expect("it lies there");
        let path = dir.path().join(place.with_extension(""));
        let bytes = std::fs::read(&packed).expect("it was just listed");
        let bytes = zstd::decode_all(&bytes[..]).expect("it was compressed by zstd");
        write(&path, &bytes);
    }
    dir
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("it lies in a directory"))
        .expect("it can be made");
    std::fs::write(path, bytes).expect("it can be written");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("it is a directory");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

/// Two lives of a broker whose files are as small as they may be: the first one ends as it should, the second one by a kill.
fn write_fixture(fixture: &Path) {
    const SMALL: [&str; 7] = [
        "journal.file_bytes=1MiB",
        "journal.commit_bytes_max=64KiB",
        "network.batch_bytes_max=64KiB",
        "storage.segment_bytes_max=1MiB",
        "storage.own_segment_bytes_min=16KiB",
        "storage.direct_bytes_min=16KiB",
        "storage.unflushed_bytes_max=4MiB",
    ];
    let dir = data_dir();
    let server = Server::start_with(dir.path(), SHARDS, &SMALL);
    let client = connect(server.address());
    for topic in [TOPIC, DELETED] {
        client.create_topic(topic, 2, &settings()).expect("new");
        publish(&client, topic, FLUSHED);
    }
    commit(&client, PARTITIONS[0], COMMITTED[0]);
    // Overtaken by the one in the journal.
    commit(&client, PARTITIONS[1], Some(Offset(3)));
    client.delete_topic(DELETED).expect("it exists");
    assert!(server.stop().success());

    let settings = [&SMALL[..], &["storage.flush_interval_ms=1h"]].concat();
    let server = Server::start_with(dir.path(), SHARDS, &settings);
    let client = connect(server.address());
    publish(&client, TOPIC, UNFLUSHED);
    commit(&client, PARTITIONS[1], COMMITTED[1]);
    server.kill();
    for path in files(dir.path()) {
        let place = path.strip_prefix(dir.path()).expect("it lies there");
        let bytes = std::fs::read(&path).expect("it was just listed");
        let packed = zstd::encode_all(&bytes[..], 19).expect("memory is enough");
        let mut packed_path = fixture.join(place).into_os_string();
        packed_path.push(".zst");
        write(Path::new(&packed_path), &packed);
    }
}

/// Each record in a batch and a commit of its own.
fn publish(client: &Client, topic: &str, offsets: Range<u64>) {
    let producer = client
        .producer(topic, ProducerConfig::default())
        .expect("it exists");
    for offset in offsets {
        for partition in PARTITIONS {
            let record = stored(partition, offset);
            let headers: Vec<(&str, Option<&[u8]>)> = record
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            producer
                .send(
                    Some(partition),
                    key,
                    value,
                    &headers,
                    Some(record.timestamp),
                )
                .expect("it is taken");
            producer.flush().expect("it is acknowledged");
        }
    }
    producer.close().expect("all are acknowledged");
}

fn commit(client: &Client, partition: PartitionIndex, offset: Option<Offset>) {
    let topic = client.describe_topic(TOPIC).expect("it exists");
    let offset = offset.expect("there is one");
    client
        .commit_offsets(GROUP, &topic, &[(partition, offset)])
        .expect("it is taken");
}

/// That the broker has all that version 1 left, and nothing else.
fn assert_has_everything(address: SocketAddr) {
    let client = connect(address);
    let topics = client.list_topics().expect("they can be listed");
    let expected = TopicEntry {
        topic: TopicId(1),
        name: TOPIC.into(),
        partitions: 2,
    };
    assert_eq!(topics, [expected]);
    let error = client.describe_topic(DELETED).expect_err("it was deleted");
    assert!(
        matches!(&error, ClientError::Server(error) if error.code == ErrorCode::TopicUnknown),
        "{error}"
    );
    let topic = client.describe_topic(TOPIC).expect("it exists");
    assert_eq!((topic.topic, topic.settings), (TopicId(1), settings()));
    for partition in &topic.partitions {
        assert_eq!(partition.log_start, Offset(FLUSHED.start));
        assert_eq!(partition.next_offset, Offset(UNFLUSHED.end));
        assert_eq!(partition.fences, []);
    }
    let committed = client
        .fetch_offsets(GROUP, &topic, &PARTITIONS)
        .expect("they can be asked for");
    let committed: Vec<_> = committed.iter().map(|one| one.offset).collect();
    assert_eq!(committed, COMMITTED);

    let found = read(&client);
    assert_eq!(found.len(), 2 * 80);
    for ((partition, offset), record) in &found {
        let expected = stored(*partition, offset.0);
        assert_eq!(*record, expected, "partition {partition}, offset {offset}");
    }
}

/// Every record of the topic by its place.
fn read(client: &Client) -> BTreeMap<(PartitionIndex, Offset), Stored> {
    let config = ConsumerConfig::default();
    let mut consumer = client
        .consumer(TOPIC, Partitions::All, Start::Earliest, config)
        .expect("it can be read");
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while found.len() < 2 * 80 {
        assert!(Instant::now() < deadline, "only {} came", found.len());
        let delivery = consumer.next(Duration::from_secs(1));
        let Some(delivery) = delivery.expect("reading goes on") else {
            continue;
        };
        for (offset, record) in delivery.iter() {
            let record = Stored {
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                timestamp: record.timestamp,
                headers: record
                    .headers
                    .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                    .collect(),
            };
            let other = found.insert((delivery.partition, offset), record);
            assert_eq!(other, None, "an offset is delivered once");
        }
    }
    found
}

/// What `gannet check` finds: its lines. There is only one where nothing is missing, and no file is anything but what it was.
fn checked(dir: &Path) -> Vec<String> {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let dir = dir.to_str().expect("a path of this build");
    let output = client(nobody, &["check", dir], b"");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{output:?}");
    said.lines().map(str::to_owned).collect()
}

#[test]
fn a_broker_has_everything_that_version_1_left_when_it_was_killed() {
    for (fixture, said) in FIXTURES {
        let dir = data_of_version_1(fixture);
        assert_eq!(checked(dir.path()), [said], "{fixture}");
        let server = Server::start(dir.path(), SHARDS);
        assert_has_everything(server.address());
        assert!(server.stop().success());
        assert_eq!(checked(dir.path()).len(), 1, "{fixture}");

        let server = Server::start(dir.path(), SHARDS);
        assert_has_everything(server.address());
        // Topics and records go on behind what there was.
        let client = connect(server.address());
        publish(&client, TOPIC, UNFLUSHED.end..UNFLUSHED.end + 1);
        let topic = client.describe_topic(TOPIC).expect("it exists");
        assert_eq!(topic.partitions[0].next_offset, Offset(UNFLUSHED.end + 1));
        let made = client
            .create_topic(DELETED, 2, &settings())
            .expect("its name is free");
        assert_eq!(made.topic, TopicId(3));
        assert_eq!(made.partitions[0].next_offset, Offset(0));
        assert!(server.stop().success());
    }
}

#[test]
fn a_broker_with_another_number_of_shards_has_everything_that_version_1_left() {
    for (fixture, _) in FIXTURES {
        let dir = data_of_version_1(fixture);
        let server = Server::start(dir.path(), 1);
        assert_has_everything(server.address());
        assert!(server.stop().success());
        assert_eq!(checked(dir.path()).len(), 1, "{fixture}");
    }
}

/// A broker makes an index again that it does not find, so that nothing else would tell.
#[test]
fn the_indexes_of_version_1_lie_where_they_are_looked_for() {
    for (fixture, _) in FIXTURES {
        let dir = data_of_version_1(fixture);
        let data = DataDir::new(dir.path());
        let mut indexes = 0;
        for path in files(dir.path()) {
            let Some(stem) = path.to_str().and_then(|path| path.strip_suffix(".idx")) else {
                continue;
            };
            let name = path.file_name().and_then(|name| name.to_str());
            let id = name.and_then(DataDir::segment_of_name).expect("an id");
            let owner = PARTITIONS
                .map(|partition| PartitionKey {
                    topic: TopicId(1),
                    partition,
                })
                .into_iter()
                .find(|key| path.starts_with(data.partition(*key)));
            assert_eq!(data.index(owner, id), path);
            assert!(Path::new(&format!("{stem}.seg")).exists(), "{stem}");
            indexes += 1;
        }
        assert_eq!(indexes, 4, "{fixture}");
    }
}
