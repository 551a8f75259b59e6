//! What is acknowledged survives `kill -9`, in order, once; what was delivered never changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gannet_tests::load::{Load, LoadPlan};
use gannet_tests::{
    Contents, RawPeer, Server, client, connect, data_dir, numbers, one_record, publish_numbers,
    read_all, real_text_file,
};
use gannet_wire::batch::ProducerStamp;
use gannet_wire::client::{ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{Durability, Message, Start, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex, ProducerEpoch, Sequence};

#[test]
fn a_real_file_comes_back_byte_for_byte_across_kill_9() {
    let dir = data_dir();
    let file = real_text_file();
    let server = Server::start(dir.path(), 1);
    assert!(
        client(server.address(), &["topic", "create", "text"], b"")
            .status
            .success()
    );
    let published = client(server.address(), &["publish", "text"], &file);
    assert!(published.status.success(), "{published:?}");
    server.kill();
    let server = Server::start(dir.path(), 1);
    let consumed = client(server.address(), &["consume", "text"], b"");
    assert!(consumed.status.success(), "{consumed:?}");
    assert!(consumed.stdout == file, "the bytes differ");
}

#[test]
fn what_was_delivered_from_an_accepted_topic_is_what_its_offset_holds_after_a_crash() {
    const PARTITIONS: u32 = 2;
    let dir = data_dir();
    let mut given: BTreeMap<(PartitionIndex, Offset), Vec<u8>> = Contents::new();
    for round in 0..5u64 {
        let server = Server::start(dir.path(), 2);
        let client = connect(server.address());
        if round == 0 {
            let settings = TopicSettings {
                durability: Durability::Accepted,
                ..TopicSettings::default()
            };
            client
                .create_topic("fleeting", PARTITIONS, &settings)
                .expect("new");
        }
        let found = read_all(&client, "fleeting");
        for (place, value) in &given {
            assert_eq!(
                found.get(place),
                Some(value),
                "what was delivered from {place:?} before the crash changed"
            );
        }
        let mut consumer = client
            .consumer(
                "fleeting",
                Partitions::All,
                Start::Earliest,
                ConsumerConfig::default(),
            )
            .expect("the topic can be read");
        let stop = Arc::new(AtomicBool::new(false));
        let sender = std::thread::spawn({
            let (stop, client) = (stop.clone(), client.clone());
            move || {
                let producer = client
                    .producer("fleeting", ProducerConfig::default())
                    .expect("the topic exists");
                let mut number = round << 32;
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..20 {
                        let value = number.to_string();
                        let _ = producer.send(None, None, Some(value.as_bytes()), &[], None);
                        number += 1;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                // It would wait for a server that never comes back.
                std::mem::forget(producer);
            }
        });
        let deadline = std::time::Instant::now() + Duration::from_millis(300 + 50 * round);
        let mut server = Some(server);
        loop {
            if std::time::Instant::now() > deadline
                && let Some(server) = server.take()
            {
                server.kill();
            }
            // What was sent before the kill may still lie in the socket.
            match consumer.next(Duration::from_millis(50)) {
                Ok(Some(delivery)) => {
                    for (offset, record) in delivery.iter() {
                        let value = record.value.unwrap_or_default().to_vec();
                        given.insert((delivery.partition, offset), value);
                    }
                }
                Ok(None) if server.is_none() => break,
                Ok(None) => {}
                Err(_) => break,
            }
        }
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("the sender ends");
    }
    assert!(!given.is_empty(), "the consumer was given nothing");
}

#[test]
fn a_topic_made_again_never_shows_the_records_of_the_one_before() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    let client = connect(server.address());
    client
        .create_topic("phoenix", 3, &TopicSettings::default())
        .expect("new");
    publish_numbers(&client, "phoenix", 0..3_000);
    client.delete_topic("phoenix").expect("it exists");
    client
        .create_topic("phoenix", 3, &TopicSettings::default())
        .expect("the name is free");
    assert!(read_all(&client, "phoenix").is_empty());
    publish_numbers(&client, "phoenix", 10_000..10_300);
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
        publish_numbers(&client, "moving", written..written + 5_000);
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
    publish_numbers(&client, "clean", 0..20_000);
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

#[test]
fn a_topic_deleted_before_a_crash_stays_deleted_and_its_name_begins_anew() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    let client = connect(server.address());
    client
        .create_topic("gone", 2, &TopicSettings::default())
        .expect("new");
    publish_numbers(&client, "gone", 0..2_000);
    client.delete_topic("gone").expect("it exists");
    server.kill();
    let server = Server::start(dir.path(), 2);
    let client = connect(server.address());
    assert!(client.describe_topic("gone").is_err(), "it came back");
    client
        .create_topic("gone", 2, &TopicSettings::default())
        .expect("the name is free");
    assert!(read_all(&client, "gone").is_empty());
    publish_numbers(&client, "gone", 5_000..5_010);
    let contents = read_all(&client, "gone");
    assert_eq!(numbers(&contents, 0), [5_000, 5_002, 5_004, 5_006, 5_008]);
    assert!(contents.contains_key(&(PartitionIndex(0), Offset(0))));
}

#[test]
fn committed_offsets_survive_a_kill_and_the_last_one_wins() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    let client = connect(server.address());
    let topic = client
        .create_topic("read", 3, &TopicSettings::default())
        .expect("new");
    publish_numbers(&client, "read", 0..300);
    for offset in [10, 40, 30] {
        client
            .commit_offsets("group", &topic, &[(PartitionIndex(1), Offset(offset))])
            .expect("it is taken");
    }
    client
        .commit_offsets("other group", &topic, &[(PartitionIndex(1), Offset(7))])
        .expect("it is taken");
    server.kill();
    let server = Server::start(dir.path(), 2);
    let client = connect(server.address());
    let all = [PartitionIndex(0), PartitionIndex(1)];
    let offsets = |group| -> Vec<Option<Offset>> {
        client
            .fetch_offsets(group, &topic, &all)
            .expect("they can be asked for")
            .iter()
            .map(|one| one.offset)
            .collect()
    };
    assert_eq!(offsets("group"), [None, Some(Offset(30))]);
    assert_eq!(offsets("other group"), [None, Some(Offset(7))]);
    assert_eq!(offsets("unheard of"), [None, None]);
}

#[test]
fn producers_and_consumers_go_on_over_another_number_of_shards_and_back() {
    let dir = data_dir();
    let mut server = Server::start(dir.path(), 1);
    let address = server.address();
    let plan = LoadPlan {
        topic: "load".to_owned(),
        partitions: 5,
        producers: 2,
        consumers: 1,
        durability: Durability::Durable,
        seed: 1,
    };
    let load = Load::start(address, plan);
    for shards in [2, 1, 3] {
        load.until_acked(500);
        server.kill();
        server = Server::start_at(dir.path(), shards, address);
    }
    load.until_acked(500);
    let (history, stored) = load.finish(address);
    let findings = history.findings(&stored);
    assert!(findings.is_clean(), "{findings}");
}

#[test]
fn producers_and_consumers_outlive_the_shard_they_were_connected_to() {
    const PARTITIONS: u32 = 2;
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    let address = server.address();
    let client = connect(address);
    client
        .create_topic("moved", PARTITIONS, &TopicSettings::default())
        .expect("new");
    let producer = client
        .producer("moved", ProducerConfig::default())
        .expect("the topic exists");
    let mut consumer = client
        .consumer(
            "moved",
            Partitions::All,
            Start::Earliest,
            ConsumerConfig::default(),
        )
        .expect("the topic exists");
    let mut publish_and_read = |numbers: std::ops::Range<u64>| {
        for number in numbers.clone() {
            for partition in (0..PARTITIONS).map(PartitionIndex) {
                producer
                    .send(
                        Some(partition),
                        None,
                        Some(number.to_string().as_bytes()),
                        &[],
                        None,
                    )
                    .expect("a start is no reason to fail");
            }
        }
        producer.flush().expect("everything is acknowledged");
        let mut left = (numbers.end - numbers.start) * u64::from(PARTITIONS);
        while left > 0 {
            let delivery = consumer
                .next(Duration::from_secs(30))
                .expect("a start is no reason to fail")
                .expect("everything comes");
            left -= delivery.iter().count() as u64;
        }
    };
    publish_and_read(0..100);
    server.kill();
    let _server = Server::start_at(dir.path(), 1, address);
    publish_and_read(100..200);
    let found = read_all(&connect(address), "moved");
    let expected: Vec<u64> = (0..200).collect();
    for partition in 0..PARTITIONS {
        assert!(numbers(&found, partition) == expected, "in {partition}");
    }
}

#[test]
fn an_older_epoch_of_a_producer_is_fenced_and_stays_so_across_a_kill() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    let topic = connect(server.address())
        .create_topic("fenced", 1, &TopicSettings::default())
        .expect("new")
        .topic;
    let mut peer = RawPeer::greeted(server.address());
    let id = match peer.ask(&Message::ProducerInit) {
        Some(Message::ProducerReply(reply)) => reply.producer,
        other => panic!("{other:?}"),
    };
    let publish = |epoch, sequence| {
        let stamp = ProducerStamp {
            id,
            epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
        };
        one_record(topic, b"value", Some(stamp))
    };
    assert_eq!(stored_at(&mut peer, &publish(0, 0)), Offset(0));
    // Another process with the same id takes over.
    assert_eq!(stored_at(&mut peer, &publish(1, 0)), Offset(1));
    let refusal = peer.refusal(&publish(0, 1));
    assert_eq!(refusal.code, ErrorCode::ProducerFenced, "{refusal}");
    server.kill();
    let server = Server::start(dir.path(), 1);
    let mut peer = RawPeer::greeted(server.address());
    let refusal = peer.refusal(&publish(0, 1));
    assert_eq!(refusal.code, ErrorCode::ProducerFenced, "{refusal}");
    // Sent again, as it is by whoever had no answer before the kill.
    assert_eq!(stored_at(&mut peer, &publish(1, 0)), Offset(1));
    assert_eq!(stored_at(&mut peer, &publish(1, 1)), Offset(2));
    assert_eq!(read_all(&connect(server.address()), "fenced").len(), 3);
}

/// Publishes, and returns the offset that is acknowledged.
fn stored_at(peer: &mut RawPeer, publish: &Message) -> Offset {
    match peer.ask(publish) {
        Some(Message::PublishAcks(acks)) if acks.len() == 1 => acks[0].base_offset,
        other => panic!("{other:?}"),
    }
}
