//! A deleted topic leaves nothing behind, on the disk or to read.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gannet_tests::{Server, connect, data_dir, numbers, publish_numbers, read_all};
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientError, ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{Start, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex};

/// What is published moves to segments soon.
const SETTINGS: [&str; 1] = ["storage.flush_interval_ms=200"];

/// Segments and indexes below a directory of the data.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let nested = paths.map(|path| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    });
    nested.flatten().collect()
}

fn waits_for(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn create(client: &Client, name: &str) {
    client
        .create_topic(name, 2, &TopicSettings::default())
        .expect("the name is free");
}

/// Partition 0 gets 8 MiB, partition 1 some numbers.
fn publish_much_and_little(client: &Client, topic: &str) {
    publish_numbers(client, topic, 0..100);
    let producer = client
        .producer(topic, ProducerConfig::default())
        .expect("it exists");
    for _ in 0..128 {
        producer
            .send(
                Some(PartitionIndex(0)),
                None,
                Some(&[7; 64 << 10]),
                &[],
                None,
            )
            .expect("it is taken");
    }
    producer.close().expect("all are acknowledged");
}

/// A server with topics `goes` and `stays`, which both have records in segments of both kinds.
fn with_two_topics(dir: &Path) -> Server {
    let server = Server::start_with(dir, 2, &SETTINGS);
    let client = connect(server.address());
    for topic in ["goes", "stays"] {
        create(&client, topic);
        publish_much_and_little(&client, topic);
    }
    waits_for("a flush", || {
        files(&dir.join("topics")).len() >= 2 && !files(&dir.join("shared")).is_empty()
    });
    server
}

fn topic_dir(dir: &Path, client: &Client, topic: &str) -> PathBuf {
    let id = client.describe_topic(topic).expect("it exists").topic;
    dir.join("topics").join(format!("{:016x}", id.0))
}

/// Makes the topic again: it starts at offset 0 and shows nothing old. The other one has all it had.
fn assert_made_again_empty(server: &Server) {
    let client = connect(server.address());
    create(&client, "goes");
    let described = client.describe_topic("goes").expect("it is there again");
    for partition in &described.partitions {
        assert_eq!(
            (partition.log_start, partition.next_offset),
            (Offset(0), Offset(0))
        );
    }
    assert!(read_all(&client, "goes").is_empty());
    publish_numbers(&client, "goes", 500..510);
    let contents = read_all(&client, "goes");
    assert_eq!(numbers(&contents, 0), [500, 502, 504, 506, 508]);
    assert_eq!(numbers(&contents, 1), [501, 503, 505, 507, 509]);
    assert_eq!(read_all(&client, "stays").len(), 228);
}

#[test]
fn the_files_of_a_deleted_topic_are_unlinked_while_the_broker_serves() {
    let dir = data_dir();
    let server = with_two_topics(dir.path());
    let client = connect(server.address());
    let gone = topic_dir(dir.path(), &client, "goes");
    let kept = topic_dir(dir.path(), &client, "stays");
    assert!(gone.exists() && kept.exists());
    client.delete_topic("goes").expect("it exists");
    waits_for("the removal", || !gone.exists());
    assert!(kept.exists());
    assert_made_again_empty(&server);
    for topic in ["goes", "stays"] {
        client.delete_topic(topic).expect("it exists");
    }
    waits_for("the removal of shared segments", || {
        files(&dir.path().join("topics")).is_empty() && files(&dir.path().join("shared")).is_empty()
    });
    assert!(server.stop().success());
}

#[test]
fn a_kill_right_after_the_answer_to_a_deletion_leaves_the_rest_to_the_next_start() {
    let dir = data_dir();
    let server = with_two_topics(dir.path());
    let client = connect(server.address());
    let gone = topic_dir(dir.path(), &client, "goes");
    client.delete_topic("goes").expect("it exists");
    server.kill();
    // Whatever the kill left: once more, so that there is always something to finish.
    std::fs::create_dir_all(gone.join("0")).expect("it can be made");
    std::fs::write(gone.join("0").join("0000000100000007.seg"), [0; 4096]).expect("it can be made");
    let server = Server::start_with(dir.path(), 2, &SETTINGS);
    waits_for("the end of the removal", || !gone.exists());
    assert_made_again_empty(&server);
    assert!(server.stop().success());
}

#[test]
fn a_consumer_of_a_deleted_topic_is_told_so() {
    let dir = data_dir();
    let server = with_two_topics(dir.path());
    let client = connect(server.address());
    let mut consumer = client
        .consumer(
            "goes",
            Partitions::All,
            Start::Latest,
            ConsumerConfig::default(),
        )
        .expect("it exists");
    client.delete_topic("goes").expect("it exists");
    let error = consumer
        .next(Duration::from_secs(30))
        .expect_err("nothing comes any more");
    assert!(
        matches!(&error, ClientError::SubscriptionEnded { error, .. } if error.code == ErrorCode::TopicDeleted),
        "{error}"
    );
}
