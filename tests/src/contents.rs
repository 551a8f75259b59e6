//! What a topic holds, read through the client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gannet_wire::batch::{BatchBuilder, Compression, ProducerStamp};
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientConfig, ClientError, ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{Message, Publish, Start};
use gannet_wire::{ErrorCode, Offset, PartitionIndex, Timestamp, TopicId};

/// What each partition holds: value by offset.
pub type Contents = BTreeMap<(PartitionIndex, Offset), Vec<u8>>;

/// A client of the server.
///
/// # Panics
/// When the server does not serve.
#[must_use]
pub fn connect(address: SocketAddr) -> Client {
    Client::connect(address, ClientConfig::default()).expect("the server serves")
}

/// Everything durable as of now.
///
/// # Panics
/// When an offset is delivered twice, or not everything comes.
#[must_use]
pub fn read_all(client: &Client, topic: &str) -> Contents {
    try_read_all(client, topic).expect("reading goes on")
}

/// Everything durable as of now, of a topic whose retention is at work: a reader that it overtakes is told so, with the new log start, and begins
/// again there.
///
/// # Panics
/// When a reader is told that it was overtaken though it was not, and as [`read_all`].
#[must_use]
pub fn read_kept(client: &Client, topic: &str) -> Contents {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match try_read_all(client, topic) {
            Ok(contents) => return contents,
            Err(ClientError::SubscriptionEnded {
                position: Some(position),
                error,
                ..
            }) if error.code == ErrorCode::OffsetOutOfRange => {
                let (log_start, _) = error.range.expect("the error states what is stored");
                assert!(position < log_start, "{position} is still kept: {error}");
                assert!(Instant::now() < deadline, "retention does not settle");
            }
            Err(error) => panic!("reading ended: {error}"),
        }
    }
}

fn try_read_all(client: &Client, topic: &str) -> Result<Contents, ClientError> {
    let mut contents = Contents::new();
    read_each(client, topic, |partition, offset, value| {
        let other = contents.insert((partition, offset), value.to_vec());
        assert_eq!(other, None, "an offset is delivered once");
    })?;
    Ok(contents)
}

/// Calls `take` with everything durable as of now, of each partition in order; a little of what comes later may be among it.
pub(crate) fn read_each(
    client: &Client,
    topic: &str,
    mut take: impl FnMut(PartitionIndex, Offset, &[u8]),
) -> Result<(), ClientError> {
    let described = client.describe_topic(topic).expect("the topic exists");
    let mut left: BTreeMap<PartitionIndex, Offset> = described
        .partitions
        .iter()
        .filter(|partition| partition.next_offset > partition.log_start)
        .map(|partition| (partition.partition, partition.next_offset))
        .collect();
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
        let delivery = consumer.next(Duration::from_secs(1))?;
        let Some(delivery) = delivery else { continue };
        for (offset, record) in delivery.iter() {
            take(delivery.partition, offset, record.value.unwrap_or_default());
        }
        if left
            .get(&delivery.partition)
            .is_some_and(|end| delivery.position() >= *end)
        {
            left.remove(&delivery.partition);
        }
    }
    Ok(())
}

/// The publish of one record to a topic's first partition, for a client that speaks in frames.
///
/// # Panics
/// When the value is larger than a batch may be.
#[must_use]
pub fn one_record(topic: TopicId, value: &[u8], producer: Option<ProducerStamp>) -> Message {
    let mut builder = BatchBuilder::new(Default::default());
    builder
        .push(Timestamp(1), None, Some(value), &[])
        .expect("it fits");
    Message::Publish(Publish {
        topic,
        partition: PartitionIndex(0),
        durability: None,
        batch: builder.build(Compression::None, producer),
    })
}

/// Publishes `numbers` as values, in turn over the topic's partitions, and waits until all are acknowledged.
///
/// # Panics
/// When one is not acknowledged.
pub fn publish_numbers(client: &Client, topic: &str, numbers: std::ops::Range<u64>) {
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

/// The numbers that a partition holds, in the order of their offsets, which have no gap.
///
/// # Panics
/// When there is a gap, or a value is no number.
#[must_use]
pub fn numbers(contents: &Contents, partition: u32) -> Vec<u64> {
    let mut expected = None;
    contents
        .iter()
        .filter(|((of, _), _)| *of == PartitionIndex(partition))
        .map(|((_, offset), value)| {
            assert!(
                expected.is_none_or(|expected| expected == *offset),
                "partition {partition} has a gap before offset {offset}"
            );
            expected = Some(Offset(offset.0 + 1));
            String::from_utf8_lossy(value)
                .parse()
                .expect("values are numbers")
        })
        .collect()
}
