//! Where reading begins, what retention leaves to read, and when records were appended.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use gannet_tests::{
    RawPeer, Server, client, connect, data_dir, numbers, publish_numbers, read_all, read_kept,
};
use gannet_wire::batch::{BatchBuilder, BatchLimits, Compression};
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{Message, Publish, Start, Subscribe, TimestampSource, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex, SubscriptionId, Timestamp};

const ZERO: PartitionIndex = PartitionIndex(0);
/// The timestamp of record 0; each further one is a second later. 2026-05-01T12:00:00Z.
const FIRST_MS: i64 = 1_777_636_800_000;
const RECORDS: i64 = 1_000;

/// A topic `timed` of one partition with the numbers from 0, a second apart by the producer's word.
fn publish_timed(client: &Client) {
    client
        .create_topic("timed", 1, &TopicSettings::default())
        .expect("new");
    let producer = client
        .producer(
            "timed",
            ProducerConfig {
                // Many batches, so that a start lies within one.
                batch_records_max: 64,
                ..ProducerConfig::default()
            },
        )
        .expect("it exists");
    for number in 0..RECORDS {
        let value = number.to_string();
        producer
            .send(
                Some(ZERO),
                None,
                Some(value.as_bytes()),
                &[],
                Some(Timestamp(FIRST_MS + number * 1_000)),
            )
            .expect("it is taken");
    }
    producer.close().expect("all are acknowledged");
}

/// The first number that a consumer is given.
fn first_from(client: &Client, start: Start) -> u64 {
    let mut consumer = client
        .consumer("timed", Partitions::All, start, ConsumerConfig::default())
        .expect("it exists");
    let delivery = consumer
        .next(Duration::from_secs(10))
        .expect("nothing is wrong")
        .expect("there is something from there on");
    let (offset, record) = delivery.iter().next().expect("no delivery is empty");
    let number = String::from_utf8_lossy(record.value.unwrap_or_default())
        .parse()
        .expect("values are numbers");
    assert_eq!(offset, Offset(number));
    number
}

fn consumed(address: SocketAddr, arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["consume", "timed"];
    all.extend_from_slice(arguments);
    let output = client(address, &all, b"");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn assert_starts(server: &Server) {
    let client = connect(server.address());
    assert_eq!(first_from(&client, Start::Earliest), 0);
    for number in [0, 1, 63, 64, 500, 999] {
        assert_eq!(first_from(&client, Start::Offset(Offset(number))), number);
    }
    for (timestamp, number) in [
        (0, 0),
        (FIRST_MS, 0),
        (FIRST_MS + 1, 1),
        (FIRST_MS + 500_000, 500),
        (FIRST_MS + 999_000, 999),
    ] {
        let found = client
            .lookup_offset(
                client.describe_topic("timed").expect("it exists").topic,
                ZERO,
                Start::Timestamp(Timestamp(timestamp)),
            )
            .expect("it can be asked");
        assert_eq!(found.offset, Offset(number), "for {timestamp}");
        assert_eq!(
            first_from(&client, Start::Timestamp(Timestamp(timestamp))),
            number
        );
    }
    let address = server.address();
    assert_eq!(
        consumed(
            address,
            &["--from", "@2026-05-01T12:08:20Z", "--count", "2"]
        ),
        ["500", "501"]
    );
    assert_eq!(consumed(address, &["--from", "997"]), ["997", "998", "999"]);
    assert_eq!(
        consumed(address, &["--from", "earliest", "--partition", "0"]).len(),
        1_000
    );
    assert!(consumed(address, &["--from", "latest"]).is_empty());
    assert!(consumed(address, &["--from", "1000"]).is_empty());
    assert!(consumed(address, &["--from", "@2027-01-01T00:00:00Z"]).is_empty());
}

#[test]
fn reading_begins_at_earliest_an_offset_or_a_time_from_memory_and_from_segments() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    publish_timed(&connect(server.address()));
    assert_starts(&server);
    assert!(server.stop().success());
    // Nothing is in memory now.
    let server = Server::start(dir.path(), 2);
    assert_starts(&server);
}

#[test]
fn a_start_by_time_finds_what_is_in_memory_before_what_went_straight_to_a_segment() {
    let dir = data_dir();
    // What is in memory stays there.
    let settings = ["storage.flush_interval_ms=3600000"];
    let server = Server::start_with(dir.path(), 1, &settings);
    let client = connect(server.address());
    let topic = client
        .create_topic("mixed", 1, &TopicSettings::default())
        .expect("new");
    let config = ProducerConfig::default();
    let producer = client.producer("mixed", config).expect("it exists");
    let send = |timestamp: i64, bytes: usize| {
        let value = vec![1; bytes];
        producer
            .send(
                Some(ZERO),
                None,
                Some(&value),
                &[],
                Some(Timestamp(timestamp)),
            )
            .expect("it is taken");
    };
    send(FIRST_MS, 10);
    producer.flush().expect("it is journaled");
    for _ in 0..64 {
        send(FIRST_MS + 1_000, 256 << 10);
    }
    producer.flush().expect("most go straight to a segment");
    send(FIRST_MS + 2_000, 10);
    producer.close().expect("all are acknowledged");
    for (timestamp, offset) in [
        (0, 0),
        (FIRST_MS, 0),
        (FIRST_MS + 1, 1),
        (FIRST_MS + 1_001, 65),
    ] {
        let start = Start::Timestamp(Timestamp(timestamp));
        let found = client
            .lookup_offset(topic.topic, ZERO, start)
            .expect("it can be asked");
        assert_eq!(found.offset, Offset(offset), "for {timestamp}");
    }
}

#[test]
fn reading_from_latest_gives_what_is_published_from_then_on() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    let client = connect(server.address());
    client
        .create_topic("news", 1, &TopicSettings::default())
        .expect("new");
    publish_numbers(&client, "news", 0..100);
    let mut peer = RawPeer::greeted(server.address());
    let reply = peer.ask(&Message::Subscribe(Subscribe {
        subscription: SubscriptionId(5),
        topic: client.describe_topic("news").expect("it exists").topic,
        partition: ZERO,
        start: Start::Latest,
        credit: 1 << 20,
    }));
    assert!(
        matches!(&reply, Some(Message::Subscribed(one)) if one.start_offset == Offset(100)),
        "{reply:?}"
    );
    publish_numbers(&client, "news", 100..101);
    let frame = peer.receive().expect("the connection stands");
    let Message::Deliver(deliver) = frame.message else {
        panic!("{frame:?}")
    };
    let header = gannet_wire::batch::BatchHeader::read_from_prefix_of(&deliver.batches)
        .expect("a batch was delivered");
    assert_eq!(header.base_offset(), Offset(100));
    assert_eq!(deliver.next_offset, Offset(101));
}

#[test]
fn following_a_topic_gives_what_is_there_and_what_comes() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 2);
    let broker = connect(server.address());
    broker
        .create_topic("timed", 1, &TopicSettings::default())
        .expect("new");
    publish_numbers(&broker, "timed", 0..3);
    let address = server.address();
    let follower = std::thread::spawn(move || consumed(address, &["--follow", "--count", "5"]));
    publish_numbers(&broker, "timed", 3..5);
    let lines = follower.join().expect("it ends after five");
    assert_eq!(lines, ["0", "1", "2", "3", "4"]);
}

#[test]
fn records_are_stamped_with_the_time_of_day_they_were_appended() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    assert_eq!(server.log_with("WARN"), Vec::<String>::new());
    let settings = TopicSettings {
        timestamps: TimestampSource::Append,
        ..TopicSettings::default()
    };
    let topic = connect(server.address())
        .create_topic("stamped", 1, &settings)
        .expect("new");
    let mut builder = BatchBuilder::new(BatchLimits::default());
    builder
        .push(Timestamp(1), None, Some(b"long ago"), &[])
        .expect("it fits");
    let mut peer = RawPeer::greeted(server.address());
    let answer = peer.ask(&Message::Publish(Publish {
        topic: topic.topic,
        partition: ZERO,
        durability: None,
        batch: builder.build(Compression::None, None),
    }));
    let Some(Message::PublishAcks(acks)) = answer else {
        panic!("{answer:?}")
    };
    #[allow(
        clippy::disallowed_methods,
        reason = "the test compares with the machine's clock"
    )]
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("the clock is set");
    let now_ms = i64::try_from(now.as_millis()).expect("it is not that late yet");
    let off_ms = (acks[0].append_time.0 - now_ms).abs();
    assert!(off_ms < 60_000, "off by {off_ms} ms");
}

/// Small enough for a test to fill several segments.
const SMALL: [&str; 7] = [
    "network.batch_bytes_max=64KiB",
    "storage.segment_bytes_max=1MiB",
    "storage.own_segment_bytes_min=64KiB",
    "storage.direct_bytes_min=64KiB",
    "storage.unflushed_bytes_max=16MiB",
    "storage.flush_bytes=1MiB",
    "storage.flush_interval_ms=50",
];
const RECORD_BYTES: usize = 1_000;

/// Publishes `numbers`, each padded with spaces in front to 1,000 bytes.
fn publish_wide(client: &Client, topic: &str, numbers: std::ops::Range<u64>) {
    let producer = client
        .producer(
            topic,
            ProducerConfig {
                batch_bytes: 32 << 10,
                ..ProducerConfig::default()
            },
        )
        .expect("it exists");
    for number in numbers {
        let value = format!("{number:>RECORD_BYTES$}");
        producer
            .send(Some(ZERO), None, Some(value.as_bytes()), &[], None)
            .expect("it is taken");
    }
    producer.close().expect("all are acknowledged");
}

/// Waits until the topic's first partition begins where it should; returns log start and end.
fn wait_for_log_start(
    client: &Client,
    topic: &str,
    enough: impl Fn(Offset, Offset) -> bool,
) -> (Offset, Offset) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let described = client.describe_topic(topic).expect("it exists");
        let one = &described.partitions[0];
        if enough(one.log_start, one.next_offset) {
            return (one.log_start, one.next_offset);
        }
        assert!(Instant::now() < deadline, "nothing expires: {one:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stored_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => stored_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// `text` stripped of the padding.
fn wide_numbers(contents: &gannet_tests::Contents) -> Vec<u64> {
    let trimmed = contents
        .iter()
        .map(|(place, value)| (*place, value.trim_ascii_start().to_vec()))
        .collect();
    numbers(&trimmed, 0)
}

#[test]
fn retention_by_size_drops_the_oldest_frees_the_disk_and_survives_a_kill() {
    const KEPT_BYTES: u64 = 4 << 20;
    const RECORDS: u64 = 24_000;
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 2, &SMALL);
    let client = connect(server.address());
    let settings = TopicSettings {
        retention_bytes: Some(KEPT_BYTES),
        ..TopicSettings::default()
    };
    let topic = client.create_topic("short", 1, &settings).expect("new");
    publish_wide(&client, "short", 0..RECORDS);
    let kept_records_max = 2 * KEPT_BYTES / RECORD_BYTES as u64;
    let (log_start, end) = wait_for_log_start(&client, "short", |start, end| {
        end.0 - start.0 <= kept_records_max
    });
    assert_eq!(end, Offset(RECORDS));
    assert!(
        end.0 - log_start.0 >= KEPT_BYTES / 2 / RECORD_BYTES as u64,
        "more was dropped than the topic may keep: {log_start}"
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while stored_bytes(&dir.path().join("topics")) + stored_bytes(&dir.path().join("shared"))
        > 4 * KEPT_BYTES
    {
        assert!(
            Instant::now() < deadline,
            "the disk is not freed: {} bytes",
            stored_bytes(&dir.path().join("topics"))
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let found = wide_numbers(&read_kept(&client, "short"));
    assert_eq!(found.last(), Some(&(RECORDS - 1)));
    assert!(
        found
            .iter()
            .copied()
            .eq(RECORDS - found.len() as u64..RECORDS)
    );

    let mut peer = RawPeer::greeted(server.address());
    let error = peer.refusal(&Message::Subscribe(Subscribe {
        subscription: SubscriptionId(1),
        topic: topic.topic,
        partition: ZERO,
        start: Start::Offset(Offset(0)),
        credit: 1,
    }));
    assert_eq!(error.code, ErrorCode::OffsetOutOfRange, "{error:?}");
    server.kill();

    let server = Server::start_with(dir.path(), 2, &SMALL);
    let client = connect(server.address());
    let (after, end) = wait_for_log_start(&client, "short", |_, _| true);
    assert!(
        after >= log_start,
        "{after} < {log_start}: what expired came back"
    );
    assert_eq!(end, Offset(RECORDS));
    let found = wide_numbers(&read_kept(&client, "short"));
    assert!(
        found
            .iter()
            .copied()
            .eq(RECORDS - found.len() as u64..RECORDS)
    );
}

#[test]
fn a_partition_emptied_by_age_goes_on_at_its_next_offset_also_after_a_kill() {
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 2, &SMALL);
    let client = connect(server.address());
    let settings = TopicSettings {
        retention_ms: Some(300),
        ..TopicSettings::default()
    };
    client.create_topic("brief", 1, &settings).expect("new");
    publish_wide(&client, "brief", 0..3_000);
    wait_for_log_start(&client, "brief", |start, end| {
        start == end && end == Offset(3_000)
    });
    assert!(read_all(&client, "brief").is_empty());
    server.kill();
    let server = Server::start_with(dir.path(), 2, &SMALL);
    let client = connect(server.address());
    let described = client.describe_topic("brief").expect("it exists");
    assert_eq!(described.partitions[0].next_offset, Offset(3_000));
    let mut peer = RawPeer::greeted(server.address());
    let mut builder = BatchBuilder::new(BatchLimits::default());
    builder
        .push(Timestamp(1), None, Some(b"new"), &[])
        .expect("it fits");
    let answer = peer.ask(&Message::Publish(Publish {
        topic: described.topic,
        partition: ZERO,
        durability: None,
        batch: builder.build(Compression::None, None),
    }));
    assert!(
        matches!(&answer, Some(Message::PublishAcks(acks)) if acks[0].base_offset == Offset(3_000)),
        "{answer:?}"
    );
}
