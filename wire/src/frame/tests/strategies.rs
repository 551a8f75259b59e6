//! Any message, within what its fields may hold.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn text(bytes_max: usize) -> impl Strategy<Value = String> {
    "[a-zä€]{0,60}".prop_map(move |mut text| {
        while text.len() > bytes_max {
            text.pop();
        }
        text
    })
}

fn offset() -> impl Strategy<Value = Offset> {
    any::<u64>().prop_map(Offset)
}

fn stored() -> impl Strategy<Value = u64> {
    0..=i64::MAX as u64
}

fn range() -> impl Strategy<Value = (Offset, Offset)> {
    (any::<u64>(), any::<u64>()).prop_map(|(a, b)| (Offset(a.min(b)), Offset(a.max(b))))
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Accepted), Just(Durability::Durable)]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Earliest),
        Just(Start::Latest),
        offset().prop_map(Start::Offset),
        any::<i64>().prop_map(|at| Start::Timestamp(Timestamp(at))),
    ]
}

fn settings() -> impl Strategy<Value = TopicSettings> {
    (
        durability(),
        prop_oneof![Just(TopicCheck::Full), Just(TopicCheck::HeaderOnly)],
        prop_oneof![
            Just(TimestampSource::Producer),
            Just(TimestampSource::Append)
        ],
        option::of(stored()),
        option::of(stored()),
    )
        .prop_map(
            |(durability, check, timestamps, retention_ms, retention_bytes)| TopicSettings {
                durability,
                check,
                timestamps,
                retention_ms,
                retention_bytes,
            },
        )
}

fn options() -> impl Strategy<Value = TopicOptions> {
    let retention = || option::of(option::of(stored()).prop_map(Retention::from));
    (
        option::of(settings()),
        option::of(durability()),
        retention(),
        retention(),
    )
        .prop_map(
            |(settings, durability, retention_ms, retention_bytes)| TopicOptions {
                durability,
                check: settings.map(|settings| settings.check),
                timestamps: settings.map(|settings| settings.timestamps),
                retention_ms,
                retention_bytes,
            },
        )
}

fn partition_description() -> impl Strategy<Value = PartitionDescription> {
    (
        any::<u32>(),
        any::<u16>(),
        offset(),
        offset(),
        any::<u32>(),
        any::<u64>(),
        vec(range(), 0..3),
    )
        .prop_map(
            |(partition, shard, log_start, next_offset, epoch, stored_bytes, fences)| {
                PartitionDescription {
                    partition: PartitionIndex(partition),
                    shard: ShardIndex(shard),
                    log_start,
                    next_offset,
                    leader_epoch: LeaderEpoch(epoch),
                    stored_bytes,
                    fences,
                }
            },
        )
}

fn error_body() -> impl Strategy<Value = ErrorBody> {
    (
        any::<u16>(),
        prop_oneof![
            Just(Fault::Caller),
            Just(Fault::Environment),
            Just(Fault::Peer),
            Just(Fault::Bug)
        ],
        prop_oneof![Just(Retry::No), Just(Retry::Later), Just(Retry::Refresh)],
        option::of(range().prop_filter("(0, 0) is none", |range| range.1 > Offset(0))),
        text(SENTENCE_BYTES_MAX),
    )
        .prop_map(|(code, fault, retry, range, sentence)| ErrorBody {
            code: ErrorCode::from_u16(code),
            fault,
            retry,
            range,
            sentence,
        })
}

fn publish_ack() -> impl Strategy<Value = PublishAck> {
    (
        any::<u64>(),
        offset(),
        any::<i64>(),
        durability(),
        any::<bool>(),
    )
        .prop_map(
            |(correlation, base_offset, append_time, durability, duplicate)| PublishAck {
                correlation: CorrelationId(correlation),
                base_offset,
                append_time: Timestamp(append_time),
                durability,
                duplicate,
            },
        )
}

fn batches() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn handshake_message() -> impl Strategy<Value = Message> {
    let hello = (
        any::<(u16, u16)>(),
        any::<u64>(),
        option::of(0..u16::MAX),
        text(PEER_NAME_BYTES_MAX),
    )
        .prop_map(|((a, b), features, shard, client_name)| {
            Message::Hello(Hello {
                protocol_min: a.min(b),
                protocol_max: a.max(b),
                features,
                shard: shard.map(ShardIndex),
                client_name,
            })
        });
    let reply = (
        any::<(u16, u16, u16, u64)>(),
        any::<(u32, u32, u32, u32)>(),
        HEARTBEAT_MS_MIN..,
        any::<u64>(),
        text(PEER_NAME_BYTES_MAX),
    )
        .prop_map(|(first, limits, heartbeat_ms, broker_id, server_name)| {
            Message::HelloReply(HelloReply {
                protocol: first.0,
                shard: ShardIndex(first.1),
                shards: first.2,
                features: first.3,
                frame_bytes_max: limits.0,
                batch_bytes_max: limits.1,
                batch_records_max: limits.2,
                producer_inflight_max: limits.3,
                heartbeat_ms,
                broker_id,
                server_name,
            })
        });
    let goodbye = (any::<u16>(), text(SENTENCE_BYTES_MAX)).prop_map(|(code, sentence)| {
        Message::Goodbye(Goodbye {
            code: ErrorCode::from_u16(code),
            sentence,
        })
    });
    prop_oneof![
        hello,
        reply,
        goodbye,
        any::<u64>().prop_map(Message::Ping),
        any::<u64>().prop_map(Message::Pong),
        Just(Message::Ok),
        error_body().prop_map(Message::Error),
    ]
}

fn topic_message() -> impl Strategy<Value = Message> {
    let name = || text(TOPIC_NAME_BYTES_MAX);
    let create = (name(), any::<u32>(), options()).prop_map(|(name, partitions, options)| {
        Message::TopicCreate(TopicCreate {
            name,
            partitions,
            options,
        })
    });
    let reply = (
        any::<u64>(),
        name(),
        settings(),
        vec(partition_description(), 0..4),
    )
        .prop_map(|(topic, name, settings, partitions)| {
            Message::TopicReply(TopicDescription {
                topic: TopicId(topic),
                name,
                settings,
                partitions,
            })
        });
    let list = (name(), any::<u32>())
        .prop_map(|(after, topics_max)| Message::TopicList(TopicList { after, topics_max }));
    let entry =
        (any::<u64>(), name(), any::<u32>()).prop_map(|(topic, name, partitions)| TopicEntry {
            topic: TopicId(topic),
            name,
            partitions,
        });
    let list_reply = (any::<bool>(), vec(entry, 0..4))
        .prop_map(|(more, topics)| Message::TopicListReply(TopicListReply { more, topics }));
    prop_oneof![
        create,
        reply,
        list,
        list_reply,
        name().prop_map(Message::TopicDescribe),
        name().prop_map(Message::TopicDelete),
    ]
}

fn record_message() -> impl Strategy<Value = Message> {
    let publish = (
        any::<u64>(),
        any::<u32>(),
        option::of(durability()),
        batches(),
    )
        .prop_map(|(topic, partition, durability, batch)| {
            Message::Publish(Publish {
                topic: TopicId(topic),
                partition: PartitionIndex(partition),
                durability,
                batch,
            })
        });
    let subscribe = (any::<(u64, u64, u32, u64)>(), start()).prop_map(|(ids, start)| {
        Message::Subscribe(Subscribe {
            subscription: SubscriptionId(ids.0),
            topic: TopicId(ids.1),
            partition: PartitionIndex(ids.2),
            start,
            credit: ids.3,
        })
    });
    let subscribed = (any::<u64>(), offset(), offset(), offset()).prop_map(
        |(subscription, start_offset, log_start, next_offset)| {
            Message::Subscribed(Subscribed {
                subscription: SubscriptionId(subscription),
                start_offset,
                log_start,
                next_offset,
            })
        },
    );
    let deliver =
        (any::<u64>(), offset(), batches()).prop_map(|(subscription, next_offset, batches)| {
            Message::Deliver(Deliver {
                subscription: SubscriptionId(subscription),
                next_offset,
                batches,
            })
        });
    let end = (any::<u64>(), error_body()).prop_map(|(subscription, error)| {
        Message::SubscriptionEnd(SubscriptionEnd {
            subscription: SubscriptionId(subscription),
            error,
        })
    });
    let producer = (0..u64::MAX, any::<u32>()).prop_map(|(producer, epoch)| {
        Message::ProducerReply(ProducerReply {
            producer: ProducerId(producer),
            epoch: ProducerEpoch(epoch),
        })
    });
    prop_oneof![
        publish,
        vec(publish_ack(), 0..6).prop_map(Message::PublishAcks),
        subscribe,
        subscribed,
        deliver,
        end,
        producer,
        Just(Message::ProducerInit),
        any::<(u64, u64)>().prop_map(|(id, bytes)| Message::Credit(SubscriptionId(id), bytes)),
        any::<u64>().prop_map(|id| Message::Unsubscribe(SubscriptionId(id))),
    ]
}

fn offset_message() -> impl Strategy<Value = Message> {
    let group = || text(GROUP_NAME_BYTES_MAX);
    let to_commit = (any::<u32>(), stored(), text(OFFSET_METADATA_BYTES_MAX)).prop_map(
        |(partition, offset, metadata)| OffsetToCommit {
            partition: PartitionIndex(partition),
            offset: Offset(offset),
            metadata,
        },
    );
    let commit =
        (group(), any::<u64>(), vec(to_commit, 0..4)).prop_map(|(group, topic, offsets)| {
            Message::OffsetsCommit(OffsetsCommit {
                group,
                topic: TopicId(topic),
                offsets,
            })
        });
    let fetch =
        (group(), any::<u64>(), vec(any::<u32>(), 0..9)).prop_map(|(group, topic, partitions)| {
            let partitions = partitions.into_iter().map(PartitionIndex).collect();
            Message::OffsetsFetch(OffsetsFetch {
                group,
                topic: TopicId(topic),
                partitions,
            })
        });
    let committed = (
        any::<u32>(),
        option::of(stored()),
        text(OFFSET_METADATA_BYTES_MAX),
    )
        .prop_map(|(partition, offset, metadata)| CommittedOffset {
            partition: PartitionIndex(partition),
            offset: offset.map(Offset),
            metadata,
        });
    let reply =
        vec(committed, 0..4).prop_map(|offsets| Message::OffsetsReply(OffsetsReply { offsets }));
    let lookup = (any::<(u64, u32)>(), start()).prop_map(|((topic, partition), start)| {
        Message::OffsetLookup(OffsetLookup {
            topic: TopicId(topic),
            partition: PartitionIndex(partition),
            start,
        })
    });
    let lookup_reply =
        (offset(), offset(), offset()).prop_map(|(offset, log_start, next_offset)| {
            Message::OffsetLookupReply(OffsetLookupReply {
                offset,
                log_start,
                next_offset,
            })
        });
    prop_oneof![commit, fetch, reply, lookup, lookup_reply]
}

pub(super) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        handshake_message(),
        topic_message(),
        record_message(),
        offset_message()
    ]
}
