//! What a client says wrongly is answered by a typed error or ends its connection; nothing of it is stored, and the others do not
//! notice.

use std::time::Duration;

use bytes::Bytes;
use gannet_tests::{
    RawPeer, Server, client, connect, data_dir, numbers, publish_numbers, read_all,
};
use gannet_wire::batch::{BatchBuilder, BatchLimits, Compression};
use gannet_wire::client::{ClientError, ConsumerConfig, Partitions};
use gannet_wire::frame::{
    Message, OffsetToCommit, OffsetsCommit, Publish, Start, Subscribe, TopicCreate, TopicOptions,
    TopicSettings,
};
use gannet_wire::{
    ErrorBody, ErrorCode, Fault, Offset, PartitionIndex, ShardIndex, SubscriptionId, Timestamp,
    TopicId,
};

const FRAME_HEADER_BYTES: u32 = 16;

/// A frame's header, with whatever length, kind and version.
fn header(frame_bytes: u32, kind: u8, version: u8) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&frame_bytes.to_le_bytes());
    header[4] = kind;
    header[5] = version;
    header[8] = 7;
    header
}

/// A server with a topic `sound` that holds 0 to 99, to be found unharmed later.
fn server_with_a_topic(dir: &std::path::Path) -> (Server, TopicId) {
    let server = Server::start(dir, 2);
    let client = connect(server.address());
    let topic = client
        .create_topic("sound", 2, &TopicSettings::default())
        .expect("new");
    publish_numbers(&client, "sound", 0..100);
    (server, topic.topic)
}

/// That the topic holds what it did, and more can be added.
fn assert_unharmed(server: &Server) {
    let client = connect(server.address());
    let found = read_all(&client, "sound");
    for partition in 0..2 {
        let expected: Vec<u64> = (0..100)
            .filter(|number| number % 2 == u64::from(partition))
            .collect();
        assert_eq!(numbers(&found, partition), expected);
    }
    publish_numbers(&client, "sound", 100..102);
}

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    for value in [b"one".as_slice(), b"two", b"three"] {
        builder
            .push(Timestamp(1_700_000_000_000), Some(b"key"), Some(value), &[])
            .expect("it fits");
    }
    builder.build(Compression::None, None).to_vec()
}

/// Makes the length and the checksum right again.
fn reseal(batch: &mut [u8]) {
    let length = u32::try_from(batch.len()).expect("small");
    batch[..4].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c(&batch[32..]);
    batch[4..8].copy_from_slice(&crc.to_le_bytes());
}

fn publish_to(topic: TopicId, partition: u32, batch: Vec<u8>) -> Message {
    Message::Publish(Publish {
        topic,
        partition: PartitionIndex(partition),
        durability: None,
        batch: Bytes::from(batch),
    })
}

fn assert_refused(error: &ErrorBody, code: ErrorCode) {
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.sentence.len() > 10, "no sentence: {error:?}");
}

#[test]
fn a_connection_that_does_not_begin_with_hello_is_told_so_and_closed() {
    let dir = data_dir();
    let (server, _) = server_with_a_topic(dir.path());
    let mut peer = RawPeer::connect(server.address());
    peer.send(&Message::Ping(1));
    let said = peer.farewell().expect("it is told why");
    assert_refused(&said, ErrorCode::HelloExpected);
    let mut peer = RawPeer::greeted(server.address());
    let again = peer.hello(1, 1, None);
    assert!(
        matches!(&again, Some(Message::Error(error)) if error.code == ErrorCode::HelloExpected),
        "{again:?}"
    );
    assert_eq!(peer.farewell(), None);
    assert_unharmed(&server);
}

#[test]
fn a_client_that_is_told_nothing_is_pinged_however_much_it_says_itself() {
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 1, &["network.heartbeat_ms=100"]);
    let mut peer = RawPeer::greeted(server.address());
    assert!(peer.is_pinged_while_it_talks(500, Duration::from_millis(20)));
}

#[test]
fn another_protocol_and_a_shard_that_is_not_there_are_refused_by_name() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    for (versions, shard, code) in [
        ((2, 9), None, ErrorCode::UnsupportedVersion),
        ((0, 0), None, ErrorCode::UnsupportedVersion),
        ((1, 1), Some(ShardIndex(1)), ErrorCode::ShardUnknown),
    ] {
        let mut peer = RawPeer::connect(server.address());
        match peer.hello(versions.0, versions.1, shard) {
            Some(Message::Error(error)) => assert_refused(&error, code),
            other => panic!("{versions:?} {shard:?} was answered by {other:?}"),
        }
        assert_eq!(peer.farewell(), None);
    }
}

#[test]
fn a_client_that_asks_much_and_reads_nothing_makes_the_server_hold_little() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    let other = connect(server.address());
    other
        .create_topic("wide", 16_384, &TopicSettings::default())
        .expect("new");
    let mut peer = RawPeer::greeted(server.address());
    let memory = server.memory_peak_bytes();
    let mut asked: std::collections::BTreeSet<_> = (0..300)
        .map(|_| peer.send(&Message::TopicDescribe("wide".into())))
        .collect();
    // One after the other, beside as many of the peer's: a server that goes on answering it has done so by then.
    for _ in 0..100 {
        other.describe_topic("wide").expect("it is there");
    }
    let grown = server.memory_peak_bytes().saturating_sub(memory);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
    // And all of them are answered once the peer does read.
    while !asked.is_empty() {
        let answer = peer.receive().expect("the connection stands");
        assert!(matches!(answer.message, Message::TopicReply(_)));
        assert!(asked.remove(&answer.correlation), "answered twice");
    }
}

#[test]
fn frames_of_impossible_lengths_are_refused_before_memory_is_reserved_for_them() {
    let dir = data_dir();
    let (server, _) = server_with_a_topic(dir.path());
    let limit = RawPeer::limits(server.address()).frame_bytes_max;
    let memory = server.memory_peak_bytes();
    for (length, code) in [
        (u32::MAX, ErrorCode::FrameTooLarge),
        (limit + 1, ErrorCode::FrameTooLarge),
        (0, ErrorCode::MalformedFrame),
        (FRAME_HEADER_BYTES - 1, ErrorCode::MalformedFrame),
    ] {
        for greeted in [false, true] {
            let mut peer = if greeted {
                RawPeer::greeted(server.address())
            } else {
                RawPeer::connect(server.address())
            };
            peer.send_bytes(&header(length, 16, 1));
            let said = peer.farewell().expect("it is told why");
            assert_refused(&said, code);
        }
    }
    let grown = server.memory_peak_bytes().saturating_sub(memory);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
    assert_unharmed(&server);
}

#[test]
fn unknown_kinds_and_versions_and_frames_that_only_servers_send_end_the_connection_with_a_typed_error()
 {
    let dir = data_dir();
    let (server, _) = server_with_a_topic(dir.path());
    for (kind, version, code) in [
        (200, 1, ErrorCode::UnknownKind),
        (0, 1, ErrorCode::UnknownKind),
        (3, 99, ErrorCode::UnsupportedVersion),
    ] {
        let mut peer = RawPeer::greeted(server.address());
        let mut frame = header(24, kind, version).to_vec();
        frame.extend_from_slice(&[0; 8]);
        peer.send_bytes(&frame);
        let said = peer.farewell().expect("it is told why");
        assert_refused(&said, code);
    }
    // Ok, HelloReply, PublishAcks and Deliver are the server's to say.
    for message in [Message::Ok, Message::PublishAcks(Vec::new())] {
        let mut peer = RawPeer::greeted(server.address());
        let error = peer.refusal(&message);
        assert_refused(&error, ErrorCode::UnknownKind);
    }
    assert_unharmed(&server);
}

#[test]
fn bytes_behind_a_message_and_a_message_that_ends_early_are_malformed() {
    let dir = data_dir();
    let (server, _) = server_with_a_topic(dir.path());
    for (body, code) in [
        (7_u32, ErrorCode::MalformedFrame),
        (0, ErrorCode::MalformedFrame),
        (9, ErrorCode::FrameTooLarge),
    ] {
        let mut peer = RawPeer::greeted(server.address());
        // A Ping has eight bytes.
        let mut frame = header(FRAME_HEADER_BYTES + body, 3, 1).to_vec();
        frame.resize(frame.len() + body as usize, 1);
        peer.send_bytes(&frame);
        let said = peer.farewell().expect("it is told why");
        assert_refused(&said, code);
    }
    // A name that states more bytes than the frame has.
    let mut peer = RawPeer::greeted(server.address());
    let mut frame = header(FRAME_HEADER_BYTES + 4, 6, 1).to_vec();
    frame.extend_from_slice(&[255, 255, b'a', b'b']);
    peer.send_bytes(&frame);
    let said = peer.farewell().expect("it is told why");
    assert_refused(&said, ErrorCode::MalformedFrame);
    assert_unharmed(&server);
}

#[test]
fn a_frame_may_come_a_byte_at_a_time_and_one_that_never_ends_holds_up_nobody() {
    let dir = data_dir();
    let (server, topic) = server_with_a_topic(dir.path());
    let mut silent = RawPeer::connect(server.address());
    silent.send_bytes(&header(40, 1, 1)[..5]);
    let mut half = RawPeer::greeted(server.address());
    half.send_bytes(&header(1 << 20, 16, 1));
    let mut slow = RawPeer::greeted(server.address());
    let mut bytes = bytes::BytesMut::new();
    gannet_wire::frame::encode(
        gannet_wire::CorrelationId(1),
        &publish_to(topic, 0, batch()),
        &mut bytes,
    );
    for byte in &bytes {
        slow.send_bytes(&[*byte]);
    }
    let answer = slow.receive().expect("it is answered");
    assert!(
        matches!(&answer.message, Message::PublishAcks(acks) if acks.len() == 1),
        "{answer:?}"
    );
    drop((silent, half));
}

#[test]
fn any_bytes_at_all_end_only_the_connection_they_came_on() {
    let dir = data_dir();
    let (server, _) = server_with_a_topic(dir.path());
    let descriptors = server.open_descriptors();
    let mut neighbour = RawPeer::greeted(server.address());
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..200 {
        let mut peer = if round % 2 == 0 {
            RawPeer::connect(server.address())
        } else {
            RawPeer::greeted(server.address())
        };
        let length = usize::try_from(random() % 2_000).expect("small");
        let mut bytes: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
        if round % 3 == 0 && bytes.len() >= 16 {
            // One that looks right from outside, so that the decoder behind the length has work.
            let whole = u32::try_from(bytes.len()).expect("small");
            let kind = u8::try_from(random() % 44).expect("small");
            bytes[..16].copy_from_slice(&header(whole, kind, 1));
        }
        peer.send_bytes(&bytes);
        drop(peer);
        let answer = neighbour.ask(&Message::Ping(round));
        assert_eq!(answer, Some(Message::Pong(round)));
    }
    assert_unharmed(&server);
    // Their ends are noticed: nothing of them stays.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while server.open_descriptors() > descriptors + 8 {
        assert!(
            std::time::Instant::now() < deadline,
            "{} descriptors are open, {descriptors} before",
            server.open_descriptors()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn batches_that_are_damaged_lie_or_point_elsewhere_are_refused_and_nothing_of_them_is_stored() {
    let dir = data_dir();
    let (server, topic) = server_with_a_topic(dir.path());
    let mut peer = RawPeer::greeted(server.address());
    let good = batch();
    let mut refused = 0;
    let mut refuse = |peer: &mut RawPeer, batch: Vec<u8>, code: ErrorCode| {
        for partition in 0..2 {
            let error = peer.refusal(&publish_to(topic, partition, batch.clone()));
            assert_refused(&error, code);
            refused += 1;
        }
    };
    // A flipped bit, where it makes no other rule fail first.
    for at in [48, 80, good.len() - 1] {
        let mut flipped = good.clone();
        flipped[at] ^= 4;
        refuse(&mut peer, flipped, ErrorCode::BatchChecksum);
    }
    // Every pointer and length of the archive's root, pointing elsewhere under a right checksum.
    for at in (good.len() - 64..good.len()).step_by(4) {
        for wild in [0_u32, u32::MAX, 0x8000_0000, 0x7FFF_FFFF, 0x0001_0000] {
            let mut batch = good.clone();
            if batch[at..at + 4] == wild.to_le_bytes() {
                continue;
            }
            batch[at..at + 4].copy_from_slice(&wild.to_le_bytes());
            reseal(&mut batch);
            refuse(&mut peer, batch, ErrorCode::BatchMalformed);
        }
    }
    // More records stated than there are, and none.
    for count in [0_u32, 2, 4, 60_000] {
        let mut batch = good.clone();
        batch[36..40].copy_from_slice(&count.to_le_bytes());
        reseal(&mut batch);
        refuse(&mut peer, batch, ErrorCode::BatchMalformed);
    }
    // Shorter than it says, cut under a right checksum, with something behind it.
    refuse(
        &mut peer,
        good[..good.len() - 1].to_vec(),
        ErrorCode::BatchMalformed,
    );
    refuse(&mut peer, good[..50].to_vec(), ErrorCode::BatchMalformed);
    refuse(&mut peer, Vec::new(), ErrorCode::BatchMalformed);
    let mut longer = good.clone();
    longer.push(0);
    refuse(&mut peer, longer.clone(), ErrorCode::BatchMalformed);
    reseal(&mut longer);
    refuse(&mut peer, longer, ErrorCode::BatchMalformed);
    // A format and a compression that are unknown.
    for at in [32, 33] {
        let mut batch = good.clone();
        batch[at] = 9;
        reseal(&mut batch);
        refuse(&mut peer, batch, ErrorCode::BatchFormatUnsupported);
    }
    // A body that is no lz4, and one that would grow without bound.
    let mut compressed = good.clone();
    compressed[33] = 1;
    reseal(&mut compressed);
    refuse(&mut peer, compressed.clone(), ErrorCode::BatchMalformed);
    compressed[72..76].copy_from_slice(&u32::MAX.to_le_bytes());
    reseal(&mut compressed);
    refuse(&mut peer, compressed, ErrorCode::BatchTooLarge);
    assert!(refused > 100);

    // The same connection goes on, and its next batch gets the next offset.
    match peer.ask(&publish_to(topic, 0, good)) {
        Some(Message::PublishAcks(acks)) => assert_eq!(acks[0].base_offset, Offset(50)),
        other => panic!("{other:?}"),
    }
    let described = connect(server.address())
        .describe_topic("sound")
        .expect("it exists");
    let ends: Vec<Offset> = described
        .partitions
        .iter()
        .map(|partition| partition.next_offset)
        .collect();
    assert_eq!(ends, [Offset(53), Offset(50)]);
}

#[test]
fn a_batch_over_the_servers_limit_is_refused_and_the_largest_is_taken() {
    let dir = data_dir();
    let (server, topic) = server_with_a_topic(dir.path());
    let mut peer = RawPeer::greeted(server.address());
    let limit = RawPeer::limits(server.address()).batch_bytes_max as usize;
    let of_bytes = |value_bytes: usize| {
        let mut builder = BatchBuilder::new(BatchLimits {
            batch_bytes_max: gannet_wire::limits::BATCH_BYTES_MAX,
            ..BatchLimits::default()
        });
        builder
            .push(Timestamp(1), None, Some(&vec![b'x'; value_bytes]), &[])
            .expect("it fits");
        builder.build(Compression::None, None).to_vec()
    };
    let overhead = of_bytes(1).len() - 1;
    let largest = of_bytes(limit - overhead);
    assert_eq!(largest.len(), limit);
    let error = peer.refusal(&publish_to(topic, 0, of_bytes(limit + 1 - overhead)));
    assert_refused(&error, ErrorCode::BatchTooLarge);
    let taken = peer.ask(&publish_to(topic, 0, largest));
    assert!(matches!(taken, Some(Message::PublishAcks(_))), "{taken:?}");
}

#[test]
fn a_small_batch_that_decompresses_to_more_than_the_server_takes_is_refused() {
    let dir = data_dir();
    let (server, topic) = server_with_a_topic(dir.path());
    let mut peer = RawPeer::greeted(server.address());
    let of_bytes = |value_bytes: usize| {
        let mut builder = BatchBuilder::new(BatchLimits {
            batch_bytes_max: gannet_wire::limits::BATCH_BYTES_MAX,
            ..BatchLimits::default()
        });
        builder
            .push(Timestamp(1), None, Some(&vec![b'x'; value_bytes]), &[])
            .expect("it fits");
        builder.build(Compression::Lz4, None).to_vec()
    };
    let larger = of_bytes(5 << 20);
    assert!(larger.len() < 64 << 10, "{}", larger.len());
    let error = peer.refusal(&publish_to(topic, 0, larger));
    assert_refused(&error, ErrorCode::BatchTooLarge);
    let taken = peer.ask(&publish_to(topic, 0, of_bytes(3 << 20)));
    assert!(matches!(taken, Some(Message::PublishAcks(_))), "{taken:?}");
}

#[test]
fn topics_partitions_offsets_and_groups_that_are_not_there_are_the_callers_typed_errors() {
    let dir = data_dir();
    let (server, topic) = server_with_a_topic(dir.path());
    let mut peer = RawPeer::greeted(server.address());
    let subscribe = |topic, partition, start| {
        Message::Subscribe(Subscribe {
            subscription: SubscriptionId(1),
            topic,
            partition: PartitionIndex(partition),
            start,
            credit: 1 << 20,
        })
    };
    let create = |name: &str, partitions| {
        Message::TopicCreate(TopicCreate {
            name: name.to_owned(),
            partitions,
            options: TopicOptions::default(),
        })
    };
    let commit = |group: &str, partition| {
        Message::OffsetsCommit(OffsetsCommit {
            group: group.to_owned(),
            topic,
            offsets: vec![OffsetToCommit {
                partition: PartitionIndex(partition),
                offset: Offset(1),
                metadata: String::new(),
            }],
        })
    };
    let nowhere = TopicId(topic.0 + 1_000);
    for (request, code) in [
        (publish_to(nowhere, 0, batch()), ErrorCode::TopicUnknown),
        (publish_to(topic, 2, batch()), ErrorCode::PartitionUnknown),
        (
            subscribe(nowhere, 0, Start::Earliest),
            ErrorCode::TopicUnknown,
        ),
        (
            subscribe(topic, 2, Start::Earliest),
            ErrorCode::PartitionUnknown,
        ),
        (
            subscribe(topic, 0, Start::Offset(Offset(51))),
            ErrorCode::OffsetOutOfRange,
        ),
        (
            subscribe(topic, 1, Start::Offset(Offset(u64::MAX))),
            ErrorCode::OffsetOutOfRange,
        ),
        (
            Message::TopicDescribe("nothing".to_owned()),
            ErrorCode::TopicUnknown,
        ),
        (
            Message::TopicDelete("nothing".to_owned()),
            ErrorCode::TopicUnknown,
        ),
        (create("sound", 2), ErrorCode::TopicExists),
        (create("", 1), ErrorCode::TopicNameInvalid),
        (create("..", 1), ErrorCode::TopicNameInvalid),
        (create("a/b", 1), ErrorCode::TopicNameInvalid),
        (create("line\nbreak", 1), ErrorCode::TopicNameInvalid),
        (create("many", 16_385), ErrorCode::TopicSettingsInvalid),
        (commit("", 0), ErrorCode::GroupInvalid),
        (commit("a\u{7}b", 0), ErrorCode::GroupInvalid),
        (commit("group", 9), ErrorCode::PartitionUnknown),
        (
            Message::Unsubscribe(SubscriptionId(77)),
            ErrorCode::SubscriptionUnknown,
        ),
    ] {
        let error = peer.refusal(&request);
        assert_refused(&error, code);
        assert_eq!(error.fault, Fault::Caller, "{error:?}");
    }
    let error = peer.refusal(&subscribe(topic, 0, Start::Offset(Offset(51))));
    assert_eq!(error.range, Some((Offset(0), Offset(50))), "{error:?}");
    let reply = peer.ask(&subscribe(topic, 0, Start::Offset(Offset(50))));
    assert!(matches!(reply, Some(Message::Subscribed(_))), "{reply:?}");
    let again = peer.refusal(&subscribe(topic, 1, Start::Earliest));
    assert_refused(&again, ErrorCode::SubscriptionExists);
    assert_unharmed(&server);
}

#[test]
fn a_name_of_the_greatest_length_is_taken_and_one_byte_more_refused() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    let client = connect(server.address());
    let longest = "n".repeat(gannet_wire::limits::TOPIC_NAME_BYTES_MAX);
    client
        .create_topic(&longest, 1, &TopicSettings::default())
        .expect("it is as long as it may be");
    let error = client
        .create_topic(&format!("{longest}n"), 1, &TopicSettings::default())
        .expect_err("it is too long");
    assert!(
        matches!(
            &error,
            ClientError::Server(ErrorBody {
                code: ErrorCode::TopicNameInvalid | ErrorCode::MalformedFrame,
                ..
            }) | ClientError::InvalidArgument(_)
        ),
        "{error:?}"
    );
    client.describe_topic(&longest).expect("it is still there");
}

#[test]
fn the_commands_say_what_is_wrong_in_a_sentence_and_by_their_status() {
    let dir = data_dir();
    let (server, _) = server_with_a_topic(dir.path());
    let address = server.address();
    for (arguments, status, words) in [
        (&["topic", "create", "sound"][..], 4, "already"),
        (&["topic", "create", "a b"], 4, "letters"),
        (&["topic", "delete", "nothing"], 4, "no topic nothing"),
        (
            &["topic", "describe", "nothing"],
            4,
            "gannet topic create nothing",
        ),
        (&["publish", "nothing"], 4, "no topic nothing"),
        (&["consume", "nothing"], 4, "no topic nothing"),
        (&["consume", "sound", "--from", "99"], 4, "99"),
        (
            &["consume", "sound", "--partition", "2"],
            2,
            "no partition 2",
        ),
        (
            &["publish", "sound", "--partition", "2"],
            2,
            "no partition 2: it has 2",
        ),
        (&["consume", "sound", "--from", "yesterday"], 2, "yesterday"),
        (&["topic", "create", "more", "--partitions", "0"], 2, "0"),
        (
            &["topic", "create", "more", "--partitions", "-1"],
            2,
            "-1 is not in",
        ),
        (
            &["consume", "sound", "--count", "-1"],
            2,
            "'-1' for '--count",
        ),
        (&["topic", "list", "--server", "127.0.0.1"], 2, "HOST:PORT"),
    ] {
        let output = client(address, arguments, b"a line\n");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    drop(server);
    let output = client(address, &["topic", "list"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("--server"), "{said}");
}

#[test]
fn a_consumer_of_a_topic_that_is_deleted_is_told_so() {
    let dir = data_dir();
    let (server, _) = server_with_a_topic(dir.path());
    let client = connect(server.address());
    let mut consumer = client
        .consumer(
            "sound",
            Partitions::All,
            Start::Latest,
            ConsumerConfig::default(),
        )
        .expect("it exists");
    assert!(
        consumer
            .next(Duration::from_millis(200))
            .expect("nothing is wrong yet")
            .is_none()
    );
    client.delete_topic("sound").expect("it exists");
    let error = loop {
        match consumer.next(Duration::from_secs(10)) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the consumer waits for ever"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, ClientError::SubscriptionEnded { error, .. }
            if matches!(error.code, ErrorCode::TopicDeleted | ErrorCode::TopicUnknown)),
        "{error:?}"
    );
}

#[test]
fn connections_that_say_nothing_make_room_for_those_that_speak() {
    let dir = data_dir();
    let server = Server::start_with(dir.path(), 1, &["network.connections_max=8"]);
    let silent: Vec<std::net::TcpStream> = (0..8)
        .map(|_| std::net::TcpStream::connect(server.address()).expect("it listens"))
        .collect();
    let client = connect(server.address());
    client
        .create_topic("heard", 1, &TopicSettings::default())
        .expect("new");
    assert!(!server.log_with("say nothing").is_empty());
    drop(silent);
}
