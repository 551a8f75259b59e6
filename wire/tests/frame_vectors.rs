//! The bytes of every kind of frame, kept as files: what was once written stays readable, and a client in another
//! language has something to compare with. The files were not made by this crate's encoder.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::path::Path;

use bytes::{Bytes, BytesMut};
use gannet_wire::frame::*;
use gannet_wire::*;

fn settings() -> TopicSettings {
    TopicSettings {
        durability: Durability::Durable,
        check: TopicCheck::Full,
        timestamps: TimestampSource::Append,
        retention_ms: Some(604_800_000),
        retention_bytes: None,
    }
}

fn ack(correlation: u64, offset: u64, time: i64, durability: Durability) -> PublishAck {
    PublishAck {
        correlation: CorrelationId(correlation),
        base_offset: Offset(offset),
        append_time: Timestamp(time),
        durability,
        duplicate: durability == Durability::Accepted,
    }
}

fn partition(
    index: u32,
    log_start: u64,
    next_offset: u64,
    stored_bytes: u64,
) -> PartitionDescription {
    PartitionDescription {
        partition: PartitionIndex(index),
        shard: ShardIndex(index as u16),
        log_start: Offset(log_start),
        next_offset: Offset(next_offset),
        leader_epoch: LeaderEpoch(3),
        stored_bytes,
        fences: if index == 0 {
            vec![(Offset(20), Offset(30))]
        } else {
            vec![]
        },
    }
}

/// Name of the file, correlation, message.
fn vectors() -> Vec<(&'static str, u64, Message)> {
    let data = || (0..80).collect::<Bytes>();
    let name = || "orders".to_owned();
    let (topic, p1) = (TopicId(9), PartitionIndex(1));
    let entry = |topic, name: &str, partitions| TopicEntry {
        topic: TopicId(topic),
        name: name.into(),
        partitions,
    };
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        features: 0,
        shard: None,
        client_name: "client".into(),
    };
    let hello_reply = HelloReply {
        protocol: 1,
        shard: ShardIndex(3),
        shards: 4,
        features: 0,
        frame_bytes_max: 16_842_752,
        batch_bytes_max: 1_048_576,
        batch_records_max: 262_144,
        producer_inflight_max: 64,
        heartbeat_ms: 10_000,
        broker_id: 0x1122_3344_5566_7788,
        server_name: "gannet".into(),
    };
    let description = TopicDescription {
        topic,
        name: name(),
        settings: settings(),
        partitions: vec![partition(0, 10, 500, 65_536), partition(1, 0, 0, 0)],
    };
    let fenced = ErrorBody::new(ErrorCode::RangeFenced, "offsets 20 to 30 are damaged")
        .with_range(Offset(20), Offset(30));
    let range = ErrorBody::new(ErrorCode::OffsetOutOfRange, "offset 5 is not stored")
        .with_range(Offset(10), Offset(500));
    let to_commit = |index, offset, metadata: &str| OffsetToCommit {
        partition: PartitionIndex(index),
        offset: Offset(offset),
        metadata: metadata.into(),
    };
    let committed = |index, offset: Option<u64>, metadata: &str| CommittedOffset {
        partition: PartitionIndex(index),
        offset: offset.map(Offset),
        metadata: metadata.into(),
    };
    vec![
        ("hello", 1, Message::Hello(hello)),
        ("hello_reply", 1, Message::HelloReply(hello_reply)),
        ("ping", 5, Message::Ping(0x0102_0304_0506_0708)),
        ("pong", 5, Message::Pong(0x0102_0304_0506_0708)),
        (
            "topic_create",
            6,
            Message::TopicCreate(TopicCreate {
                name: name(),
                partitions: 12,
                options: TopicOptions::from(&settings()),
            }),
        ),
        (
            "topic_create_defaults",
            6,
            Message::TopicCreate(TopicCreate {
                name: name(),
                partitions: PARTITIONS_DEFAULT,
                options: TopicOptions::default(),
            }),
        ),
        ("topic_describe", 7, Message::TopicDescribe(name())),
        ("topic_reply", 7, Message::TopicReply(description)),
        ("topic_delete", 8, Message::TopicDelete(name())),
        (
            "topic_list",
            9,
            Message::TopicList(TopicList {
                after: "m".into(),
                topics_max: 100,
            }),
        ),
        (
            "topic_list_reply",
            9,
            Message::TopicListReply(TopicListReply {
                more: true,
                topics: vec![entry(9, "orders", 12), entry(11, "pröbe", 1)],
            }),
        ),
        ("producer_init", 10, Message::ProducerInit),
        (
            "producer_reply",
            10,
            Message::ProducerReply(ProducerReply {
                producer: ProducerId(77),
                epoch: ProducerEpoch(2),
            }),
        ),
        (
            "publish",
            11,
            Message::Publish(Publish {
                topic,
                partition: p1,
                durability: Some(Durability::Durable),
                batch: data(),
            }),
        ),
        (
            "publish_acks",
            0,
            Message::PublishAcks(vec![
                ack(11, 500, 1_700_000_000_000, Durability::Durable),
                ack(12, 510, 1_700_000_000_001, Durability::Accepted),
            ]),
        ),
        (
            "subscribe",
            12,
            Message::Subscribe(Subscribe {
                subscription: SubscriptionId(1),
                topic,
                partition: p1,
                start: Start::Timestamp(Timestamp(1_700_000_000_000)),
                credit: 1_048_576,
            }),
        ),
        (
            "subscribed",
            12,
            Message::Subscribed(Subscribed {
                subscription: SubscriptionId(1),
                start_offset: Offset(450),
                log_start: Offset(10),
                next_offset: Offset(500),
            }),
        ),
        ("credit", 0, Message::Credit(SubscriptionId(1), 262_144)),
        (
            "deliver",
            0,
            Message::Deliver(Deliver {
                subscription: SubscriptionId(1),
                next_offset: Offset(500),
                batches: data(),
            }),
        ),
        ("unsubscribe", 13, Message::Unsubscribe(SubscriptionId(1))),
        (
            "subscription_end",
            0,
            Message::SubscriptionEnd(SubscriptionEnd {
                subscription: SubscriptionId(1),
                error: fenced,
            }),
        ),
        (
            "offsets_commit",
            14,
            Message::OffsetsCommit(OffsetsCommit {
                group: "billing".into(),
                topic,
                offsets: vec![to_commit(0, 42, "note"), to_commit(1, 0, "")],
            }),
        ),
        (
            "offsets_fetch",
            15,
            Message::OffsetsFetch(OffsetsFetch {
                group: "billing".into(),
                topic,
                partitions: vec![PartitionIndex(0), PartitionIndex(7)],
            }),
        ),
        (
            "offsets_reply",
            15,
            Message::OffsetsReply(OffsetsReply {
                offsets: vec![committed(0, Some(42), "note"), committed(7, None, "")],
            }),
        ),
        (
            "offset_lookup",
            16,
            Message::OffsetLookup(OffsetLookup {
                topic,
                partition: p1,
                start: Start::Offset(Offset(450)),
            }),
        ),
        (
            "offset_lookup_reply",
            16,
            Message::OffsetLookupReply(OffsetLookupReply {
                offset: Offset(450),
                log_start: Offset(10),
                next_offset: Offset(500),
            }),
        ),
        ("ok", 13, Message::Ok),
        ("error", 11, Message::Error(range)),
        (
            "goodbye",
            0,
            Message::Goodbye(Goodbye {
                code: ErrorCode::ServerStopping,
                sentence: "restarting".into(),
            }),
        ),
    ]
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/frame")
}

/// The bytes of a file: hexadecimal, `#` begins a comment.
fn read(name: &str) -> Bytes {
    let text = std::fs::read_to_string(directory().join(format!("{name}.hex"))).unwrap();
    text.lines()
        .flat_map(|line| {
            line.split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
        })
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn every_kind_has_a_vector_and_every_vector_a_test() {
    let mut tested: Vec<String> = vectors()
        .iter()
        .map(|(name, ..)| format!("{name}.hex"))
        .collect();
    tested.sort();
    let mut files: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(tested, files);
    let mut kinds: Vec<u8> = vectors()
        .iter()
        .map(|(.., message)| message.kind() as u8)
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    let all: Vec<u8> = FrameKind::ALL.iter().map(|kind| *kind as u8).collect();
    assert_eq!(kinds, all);
}

#[test]
fn every_vector_decodes_to_its_message() {
    for (name, correlation, message) in vectors() {
        let frame = decode(read(name), &FrameLimits::default()).unwrap();
        assert_eq!(
            frame,
            Frame {
                correlation: CorrelationId(correlation),
                message
            },
            "{name}"
        );
    }
}

#[test]
fn every_message_encodes_to_its_vector() {
    for (name, correlation, message) in vectors() {
        let mut out = BytesMut::new();
        encode(CorrelationId(correlation), &message, &mut out);
        assert_eq!(out, read(name), "{name}");
    }
}
