//! A client that does not read, or reads or sends a byte at a time, costs a bounded piece of memory for a bounded time, and the others nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use gannet_tests::{RawPeer, Server, connect, data_dir, numbers, publish_numbers, read_all};
use gannet_wire::batch::{BatchHeader, Records};
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{Message, Publish, Start, TopicSettings, encode};
use gannet_wire::{CorrelationId, Offset, PartitionIndex, TopicId};

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
                peer.subscribe_to_all(topic.topic, PartitionIndex(partition));
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

/// Sends a question again and again without reading an answer, until the server takes no more of them.
fn ask_and_never_read(server: &Server, question: &Message) -> RawPeer {
    // The sockets' buffers take some megabytes of questions, and of answers.
    const TAKEN_MAX: usize = 64 << 20;
    let before = server.memory_peak_bytes();
    let mut asks = BytesMut::new();
    for _ in 0..100_000 {
        encode(CorrelationId(1), question, &mut asks);
    }
    let mut peer = RawPeer::greeted(server.address());
    let (mut taken, mut stalls) = (0, 0);
    loop {
        let rest = asks.get(taken % asks.len()..).unwrap_or_default();
        let sent = peer.send_until_full(rest, Duration::from_millis(500));
        taken += sent;
        let grown = server.memory_peak_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB, "memory grew by {} MiB", grown / MIB);
        assert!(
            taken < TAKEN_MAX,
            "the server read {taken} bytes of questions without an answer being taken"
        );
        // A machine that stood still is no server that reads no further.
        stalls = if sent == 0 { stalls + 1 } else { 0 };
        if stalls == 3 {
            assert!(taken > 0, "the server read nothing at all");
            return peer;
        }
    }
}

#[test]
fn a_client_that_asks_and_never_reads_the_answers_is_read_no_further() {
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 2, &SMALL);
    let client = connect(server.address());
    client
        .create_topic("asked", 64, &TopicSettings::default())
        .expect("new");
    // Answers are a hundred times as long as the questions: a server that went on would hold all of them.
    let mut peer = ask_and_never_read(&server, &Message::TopicDescribe("asked".to_owned()));
    publish_numbers(&client, "asked", 0..6_400);
    assert_eq!(numbers(&read_all(&client, "asked"), 0).len(), 100);
    let answer = peer.receive().map(|frame| frame.message);
    assert!(matches!(answer, Some(Message::TopicReply(_))), "{answer:?}");
}

/// What is answered at once takes no room before.
#[test]
fn a_client_that_pings_and_never_reads_the_pongs_is_read_no_further() {
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 1, &SMALL);
    let mut peer = ask_and_never_read(&server, &Message::Ping(7));
    assert!(connect(server.address()).ping().is_ok());
    let answer = peer.receive().map(|frame| frame.message);
    assert_eq!(answer, Some(Message::Pong(7)));
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
    // They do not answer the heartbeat: three of them, and what a busy machine may take longer, well below ten times that.
    let deadline = Instant::now() + Duration::from_millis(3 * 200) + Duration::from_secs(5);
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

/// The beginning of a Publish of so many bytes, as many as are sent in 40 s with these pauses: a server that waits for the rest of it is found out.
fn endless_frame(batch_bytes: usize, pause: Duration) -> Vec<u8> {
    const FOUND_OUT_AFTER: Duration = Duration::from_secs(40);
    let mut frame = BytesMut::new();
    let publish = Message::Publish(Publish {
        topic: TopicId(1),
        partition: PartitionIndex(0),
        durability: None,
        batch: Bytes::from(vec![0; batch_bytes]),
    });
    encode(CorrelationId(1), &publish, &mut frame);
    frame.truncate(FOUND_OUT_AFTER.div_duration_f64(pause) as usize);
    frame.to_vec()
}

#[test]
fn a_frame_that_trickles_ends_its_connection_after_six_heartbeats_and_the_others_are_served_meanwhile()
 {
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 1, &["network.heartbeat_ms=1s"]);
    let client = connect(server.address());
    client
        .create_topic("aside", 1, &TopicSettings::default())
        .expect("new");
    // One does not come beyond the frame's header, the next one draws on the receive budget, the last one need not.
    let tricklers = [(1_000, 1 << 20), (20, 1 << 20), (20, 32 << 10)];
    let mut served_meanwhile = false;
    let pings = std::thread::scope(|scope| {
        let tricklers = tricklers.map(|(pause_ms, batch_bytes)| {
            let pause = Duration::from_millis(pause_ms);
            let mut peer = RawPeer::greeted(server.address());
            scope.spawn(move || peer.trickle(&endless_frame(batch_bytes, pause), pause))
        });
        let mut published = 0;
        while !tricklers.iter().all(|trickler| trickler.is_finished()) {
            publish_numbers(&client, "aside", published..published + 10);
            published += 10;
            assert_eq!(read_all(&client, "aside").len() as u64, published);
            served_meanwhile |= !tricklers.iter().any(|trickler| trickler.is_finished());
        }
        tricklers.map(|trickler| trickler.join().expect("its connection is closed"))
    });
    assert!(served_meanwhile, "the others had to wait");
    assert_eq!(server.log_with("did not finish a frame in time").len(), 3);
    // By the server's own count of heartbeats: it looks once in each, and pings at most twice.
    assert!(pings.iter().all(|pings| *pings <= 2 * 7), "{pings:?}");
}

#[test]
fn frames_that_trickle_give_back_the_memory_they_keep_from_the_others() {
    // More than the budget has room for.
    const TRICKLERS: usize = 72;
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 1, &["network.heartbeat_ms=500ms"]);
    let client = connect(server.address());
    client
        .create_topic("wide", 1, &TopicSettings::default())
        .expect("new");
    let mut tricklers: Vec<RawPeer> = (0..TRICKLERS)
        .map(|_| RawPeer::greeted(server.address()))
        .collect();
    let pause = Duration::from_millis(100);
    let frame = endless_frame(1 << 20, pause);
    let (beginning, rest) = frame.split_at(32);
    for peer in &mut tricklers {
        peer.send_bytes(beginning);
    }
    let served = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (served, client) = (&served, &client);
        scope.spawn(move || {
            for byte in rest {
                for peer in &mut tricklers {
                    peer.send_bytes(&[*byte]);
                }
                if served.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(pause);
            }
            panic!("nobody closes them");
        });
        let producer = client
            .producer("wide", ProducerConfig::default())
            .expect("it exists");
        producer
            .send(None, None, Some(&[7; 500 << 10]), &[], None)
            .expect("it is taken");
        producer.close().expect("it is acknowledged");
        served.store(true, Ordering::Relaxed);
    });
    let closed = server.log_with("did not finish a frame in time").len();
    assert!(closed > 0, "nothing was kept from anybody");
}

/// Stops a thread beside this one, whichever way this one ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn subscribers_that_read_a_byte_at_a_time_stop_nobody_and_get_everything_once_they_read_faster() {
    const SLOW: u64 = 16;
    const RECORD_BYTES: u64 = 10_000;
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 2, &SMALL);
    let client = connect(server.address());
    let topic = client
        .create_topic("wide", 1, &TopicSettings::default())
        .expect("new")
        .topic;
    client
        .create_topic("aside", 1, &TopicSettings::default())
        .expect("new");
    publish_bytes(&client, "wide", 32 * MIB);
    let before = server.memory_peak_bytes();
    // Half of them on the shard that has not the partition: what goes there is copied, and not one piece of memory for all.
    let mut slow: Vec<RawPeer> = (0..SLOW)
        .map(|_| {
            let mut peer = RawPeer::greeted(server.address());
            peer.subscribe_to_all(topic, PartitionIndex(0));
            peer
        })
        .collect();

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, slow) = (&stop, &mut slow);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                slow.iter_mut().for_each(RawPeer::take_byte);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _stop = Stop(stop);
        publish_bytes(&client, "wide", 32 * MIB);
        publish_numbers(&client, "aside", 0..2_000);
        assert_eq!(read_all(&client, "aside").len(), 2_000);
    });
    let grown = server.memory_peak_bytes().saturating_sub(before);
    // As for those that never read; all of it for each of them would be a gibibyte.
    let bound = SLOW * (2 + 2 + 1) * MIB + 64 * MIB;
    assert!(grown < bound, "memory grew by {} MiB", grown / MIB);

    let mut peer = slow.swap_remove(0);
    drop(slow);
    let mut next = Offset(0);
    while next < Offset(2 * (32 * MIB / RECORD_BYTES)) {
        let frame = peer.receive().expect("it is served");
        let Message::Deliver(deliver) = frame.message else {
            continue;
        };
        let mut batches = deliver.batches;
        while !batches.is_empty() {
            let header = BatchHeader::read_from_prefix_of(&batches).expect("it is whole");
            let batch_bytes = header.batch_bytes();
            let records = Records::open(batches.split_to(batch_bytes)).expect("it is whole");
            for (offset, record) in records.iter() {
                assert_eq!(offset, next);
                assert_eq!(record.value.map(<[u8]>::len), Some(RECORD_BYTES as usize));
                next = Offset(offset.0 + 1);
            }
        }
    }
}
