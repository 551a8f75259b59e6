//! A client that does not read costs a bounded piece of memory, and the others nothing.

use std::time::{Duration, Instant};

use gannet_tests::{RawPeer, Server, connect, data_dir, numbers, publish_numbers, read_all};
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{Message, Start, Subscribe, TopicSettings};
use gannet_wire::{PartitionIndex, SubscriptionId};

const MIB: u64 = 1 << 20;
/// A broker that holds little, so that what a stalled client adds can be seen.
const SMALL: [&str; 4] = [
    "storage.unflushed_bytes_max=32MiB",
    "storage.read_cache_bytes=4MiB",
    "network.connection_buffer_bytes_max=2MiB",
    "journal.file_bytes=32MiB",
];

/// Publishes and reads back, and says how long that took.
fn round_trip(client: &Client, topic: &str, numbers_to_send: std::ops::Range<u64>) -> Duration {
    let began = Instant::now();
    publish_numbers(client, topic, numbers_to_send);
    began.elapsed()
}

fn publish_bytes(client: &Client, topic: &str, bytes: u64) {
    const RECORD_BYTES: u64 = 10_000;
    let producer = client
        .producer(topic, ProducerConfig::default())
        .expect("it exists");
    let value = vec![b'v'; usize::try_from(RECORD_BYTES).expect("small")];
    for _ in 0..bytes / RECORD_BYTES {
        producer
            .send(None, None, Some(&value), &[], None)
            .expect("it is taken");
    }
    producer.close().expect("all are acknowledged");
}

#[test]
fn subscribers_that_never_read_stop_nobody_and_hold_a_bounded_piece_of_memory() {
    const STALLED: usize = 16;
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 2, &SMALL);
    let client = connect(server.address());
    let topic = client
        .create_topic("wide", 2, &TopicSettings::default())
        .expect("new");
    client
        .create_topic("aside", 2, &TopicSettings::default())
        .expect("new");
    publish_bytes(&client, "wide", 64 * MIB);
    let before = server.memory_peak_bytes();

    let stalled: Vec<RawPeer> = (0..STALLED)
        .map(|_| {
            let mut peer = RawPeer::greeted(server.address());
            for partition in 0..2 {
                peer.send(&Message::Subscribe(Subscribe {
                    subscription: SubscriptionId(u64::from(partition)),
                    topic: topic.topic,
                    partition: PartitionIndex(partition),
                    start: Start::Earliest,
                    credit: u64::MAX,
                }));
            }
            peer
        })
        .collect();
    publish_bytes(&client, "wide", 64 * MIB);
    let aside = round_trip(&client, "aside", 0..2_000);
    assert!(
        aside < Duration::from_secs(20),
        "the others wait: {aside:?}"
    );
    assert_eq!(read_all(&client, "aside").len(), 2_000);

    // A subscriber that reads gets all of it meanwhile.
    let mut consumer = client
        .consumer(
            "wide",
            Partitions::All,
            Start::Earliest,
            ConsumerConfig::default(),
        )
        .expect("it exists");
    let mut records = 0;
    while records < 2 * (64 * MIB / 10_000) {
        let delivery = consumer
            .next(Duration::from_secs(30))
            .expect("nothing is wrong")
            .expect("there is more");
        records += delivery.iter().count() as u64;
    }
    let grown = server.memory_peak_bytes().saturating_sub(before);
    // 2 MiB waits on each connection, and a frame more; each of the two subscriptions reads ahead by two chunks.
    let bound = STALLED as u64 * (2 + 2 + 1) * MIB + 64 * MIB;
    assert!(
        grown < bound,
        "memory grew by {} MiB for {STALLED} stalled subscribers",
        grown / MIB
    );
    drop(stalled);
}

#[test]
fn a_client_that_asks_and_never_reads_the_answers_is_read_no_further() {
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 2, &SMALL);
    let client = connect(server.address());
    client
        .create_topic("asked", 64, &TopicSettings::default())
        .expect("new");
    let before = server.memory_peak_bytes();
    let mut asks = bytes::BytesMut::new();
    for _ in 0..100_000 {
        gannet_wire::frame::encode(
            gannet_wire::CorrelationId(1),
            &Message::TopicDescribe("asked".to_owned()),
            &mut asks,
        );
    }
    let mut peer = RawPeer::greeted(server.address());
    let mut taken = 0;
    // Answers are a hundred times as long as the questions: a server that went on would hold all of them.
    for _ in 0..8 {
        let sent = peer.send_until_full(&asks, Duration::from_millis(500));
        taken += sent;
        if sent < asks.len() {
            break;
        }
    }
    assert!(
        taken < 8 * asks.len(),
        "the server read {taken} bytes of questions without an answer being taken"
    );
    publish_numbers(&client, "asked", 0..6_400);
    assert_eq!(numbers(&read_all(&client, "asked"), 0).len(), 100);
    let grown = server.memory_peak_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
}

#[test]
fn a_stalled_client_is_closed_and_what_it_held_is_freed() {
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 1, &["network.heartbeat_ms=200"]);
    let client = connect(server.address());
    client
        .create_topic("one", 1, &TopicSettings::default())
        .expect("new");
    publish_numbers(&client, "one", 0..10);
    let descriptors = server.open_descriptors();
    let stalled: Vec<RawPeer> = (0..20)
        .map(|_| RawPeer::greeted(server.address()))
        .collect();
    assert!(server.open_descriptors() > descriptors + 10);
    // They do not answer the heartbeat.
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.open_descriptors() > descriptors + 4 {
        assert!(
            Instant::now() < deadline,
            "{} descriptors are open",
            server.open_descriptors()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(stalled);
}
