//! What is acknowledged survives `kill -9`, in order, once; what was delivered never changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gannet_tests::{Server, client, data_dir};
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientConfig, ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{Start, TopicSettings};
use gannet_wire::{Offset, PartitionIndex};

/// What each partition holds: value by offset.
type Contents = BTreeMap<(PartitionIndex, Offset), Vec<u8>>;

fn connect(address: SocketAddr) -> Client {
    Client::connect(address, ClientConfig::default()).expect("the server serves")
}

/// Everything durable as of now.
fn read_all(client: &Client, topic: &str) -> Contents {
    let described = client.describe_topic(topic).expect("the topic exists");
    let mut left: BTreeMap<PartitionIndex, Offset> = described
        .partitions
        .iter()
        .filter(|partition| partition.next_offset > partition.log_start)
        .map(|partition| (partition.partition, partition.next_offset))
        .collect();
    let mut contents = Contents::new();
    let mut consumer = client
        .consumer(
            topic,
            Partitions::All,
            Start::Earliest,
            ConsumerConfig::default(),
        )
        .expect("the topic can be read");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "not everything comes: {left:?}");
        let delivery = consumer
            .next(Duration::from_secs(1))
            .expect("reading goes on");
        let Some(delivery) = delivery else { continue };
        for (offset, record) in delivery.iter() {
            let value = record.value.unwrap_or_default().to_vec();
            let other = contents.insert((delivery.partition, offset), value);
            assert_eq!(other, None, "an offset is delivered once");
        }
        if left
            .get(&delivery.partition)
            .is_some_and(|end| delivery.position() >= *end)
        {
            left.remove(&delivery.partition);
        }
    }
    contents
}

/// Publishes `numbers` as values over the topic's partitions and waits until all are acknowledged.
fn publish(client: &Client, topic: &str, numbers: std::ops::Range<u64>) {
    let producer = client
        .producer(topic, ProducerConfig::default())
        .expect("the topic exists");
    let partitions = u64::from(producer.partition_count());
    for number in numbers {
        let partition = PartitionIndex(u32::try_from(number % partitions).expect("few partitions"));
        let value = number.to_string();
        producer
            .send(Some(partition), None, Some(value.as_bytes()), &[], None)
            .expect("the server takes it");
    }
    producer.close().expect("everything is acknowledged");
}

fn numbers(contents: &Contents, partition: u32) -> Vec<u64> {
    contents
        .iter()
        .filter(|((of, _), _)| *of == PartitionIndex(partition))
        .map(|(_, value)| {
            String::from_utf8_lossy(value)
                .parse()
                .expect("values are numbers")
        })
        .collect()
}

#[test]
fn a_real_file_comes_back_byte_for_byte_across_kill_9() {
    let dir = data_dir();
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../LICENSE-APACHE"))
        .expect("the licence is part of the repository");
    let server = Server::start(dir.path(), 1);
    assert!(
        client(server.address(), &["topic", "create", "licence"], b"")
            .status
            .success()
    );
    let published = client(server.address(), &["publish", "licence"], &file);
    assert!(published.status.success(), "{published:?}");
    server.kill();
    let server = Server::start(dir.path(), 1);
    let consumed = client(server.address(), &["consume", "licence"], b"");
    assert!(consumed.status.success(), "{consumed:?}");
    assert!(consumed.stdout == file, "the bytes differ");
}

#[test]
fn what_was_acknowledged_survives_ten_kills_under_load_in_order_and_once() {
    const PARTITIONS: u32 = 4;
    let dir = data_dir();
    let mut acknowledged: Vec<u64> = vec![0; PARTITIONS as usize];
    let mut seen = Contents::new();
    let mut next: Vec<u64> = vec![0; PARTITIONS as usize];
    for round in 0..10u32 {
        let server = Server::start(dir.path(), 2);
        let client = connect(server.address());
        if round == 0 {
            client
                .create_topic("load", PARTITIONS, &TopicSettings::default())
                .expect("the topic is new");
        }
        let found = read_all(&client, "load");
        for (place, value) in &seen {
            assert_eq!(
                found.get(place),
                Some(value),
                "what was delivered from {place:?} changed"
            );
        }
        for partition in 0..PARTITIONS {
            let values = numbers(&found, partition);
            let at = partition as usize;
            // What was sent into a kill may be there or not.
            let acked: Vec<u64> = values
                .into_iter()
                .filter(|value| *value < UNACKNOWLEDGED)
                .collect();
            let expected: Vec<u64> = (0..acknowledged[at]).collect();
            assert!(
                acked == expected,
                "partition {partition} does not hold each acknowledged record once, in order"
            );
        }
        seen = found;

        // Flushed pieces are acknowledged for certain; the kill comes in the middle of one.
        let producer = client
            .producer("load", ProducerConfig::default())
            .expect("the topic exists");
        let deadline = Instant::now() + Duration::from_millis(200 + 60 * u64::from(round));
        while Instant::now() < deadline {
            for _ in 0..500 {
                for partition in 0..PARTITIONS {
                    let at = partition as usize;
                    let value = next[at].to_string();
                    next[at] += 1;
                    producer
                        .send(
                            Some(PartitionIndex(partition)),
                            None,
                            Some(value.as_bytes()),
                            &[],
                            None,
                        )
                        .expect("the server takes it");
                }
            }
            producer.flush().expect("everything is acknowledged");
            acknowledged.copy_from_slice(&next);
        }
        let killer = std::thread::spawn(move || server.kill());
        // Sent into the kill: not counted as acknowledged, and never sent again under the same number.
        for partition in 0..PARTITIONS {
            let value = UNACKNOWLEDGED + u64::from(round);
            let _ = producer.send(
                Some(PartitionIndex(partition)),
                None,
                Some(value.to_string().as_bytes()),
                &[],
                None,
            );
        }
        killer.join().expect("the server was killed");
        // The producer would go on trying; what it still holds goes with it.
        std::mem::forget(producer);
    }
}

/// Values from here on were sent into a kill.
const UNACKNOWLEDGED: u64 = 1 << 40;

#[test]
fn a_topic_made_again_never_shows_the_records_of_the_one_before() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    let client = connect(server.address());
    client
        .create_topic("phoenix", 3, &TopicSettings::default())
        .expect("new");
    publish(&client, "phoenix", 0..3_000);
    client.delete_topic("phoenix").expect("it exists");
    client
        .create_topic("phoenix", 3, &TopicSettings::default())
        .expect("the name is free");
    assert!(read_all(&client, "phoenix").is_empty());
    publish(&client, "phoenix", 10_000..10_300);
    server.kill();
    let server = Server::start(dir.path(), 2);
    let contents = read_all(&connect(server.address()), "phoenix");
    assert_eq!(contents.len(), 300);
    for partition in 0..3 {
        assert!(
            numbers(&contents, partition)
                .iter()
                .all(|number| *number >= 10_000)
        );
    }
}

#[test]
fn data_and_committed_offsets_move_to_another_number_of_shards_and_back() {
    let dir = data_dir();
    let mut written = 0;
    for (round, shards) in [1u16, 2, 1].into_iter().enumerate() {
        let server = Server::start(dir.path(), shards);
        let client = connect(server.address());
        if round == 0 {
            client
                .create_topic("moving", 5, &TopicSettings::default())
                .expect("new");
        }
        let described = client.describe_topic("moving").expect("it exists");
        if round > 0 {
            let all: Vec<PartitionIndex> = (0..5).map(PartitionIndex).collect();
            let offsets = client
                .fetch_offsets("group", &described, &all)
                .expect("they are there");
            assert!(
                offsets
                    .iter()
                    .all(|one| one.offset == Some(Offset(round as u64))),
                "{offsets:?}"
            );
        }
        publish(&client, "moving", written..written + 5_000);
        written += 5_000;
        let commits: Vec<(PartitionIndex, Offset)> = (0..5)
            .map(|partition| (PartitionIndex(partition), Offset(round as u64 + 1)))
            .collect();
        client
            .commit_offsets("group", &described, &commits)
            .expect("they are taken");
        // Once by a crash, once cleanly.
        if round == 0 {
            server.kill();
        } else {
            assert!(server.stop().success());
        }
    }
    let server = Server::start(dir.path(), 2);
    let contents = read_all(&connect(server.address()), "moving");
    for partition in 0..5u32 {
        let expected: Vec<u64> = (0..written)
            .filter(|number| number % 5 == u64::from(partition))
            .collect();
        assert_eq!(numbers(&contents, partition), expected);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    let client = connect(server.address());
    client
        .create_topic("clean", 4, &TopicSettings::default())
        .expect("new");
    publish(&client, "clean", 0..20_000);
    assert!(server.stop().success());
    let server = Server::start(dir.path(), 2);
    let recovered: Vec<String> = server
        .log()
        .into_iter()
        .filter(|line| line.contains("the shard has recovered"))
        .collect();
    assert_eq!(recovered.len(), 2, "{recovered:?}");
    assert!(
        recovered.iter().all(|line| line.contains("batches=0 ")),
        "{recovered:?}"
    );
    assert_eq!(read_all(&connect(server.address()), "clean").len(), 20_000);
}
