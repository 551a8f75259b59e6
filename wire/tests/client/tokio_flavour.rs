//! What the tokio flavour does by itself: its sockets, tasks and waiting. The state machines are the blocking flavour's.

use std::time::Duration;

use ::tokio::time::timeout;
use gannet_wire::client::tokio::{Client, Producer};
use gannet_wire::client::{ClientError, ConsumerConfig, Partitions, ProducerConfig};
use gannet_wire::frame::{Start, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex};

use crate::broker::{Broker, Fate, Options, lingering, one_by_one, quick};

const SOON: Duration = Duration::from_secs(10);

async fn open(broker: &Broker, partitions: u32, config: ProducerConfig) -> (Client, Producer) {
    broker.create("t", partitions);
    let client = Client::connect(broker.address, quick()).await.unwrap();
    let producer = client.producer("t", config).await.unwrap();
    (client, producer)
}

async fn send(producer: &Producer, partition: u32, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let value = number.to_string();
        let partition = Some(PartitionIndex(partition));
        producer
            .send(partition, None, Some(value.as_bytes()), &[], None)
            .await
            .unwrap();
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[::tokio::test(flavor = "multi_thread")]
async fn requests_are_answered() {
    let broker = Broker::start(Options::default());
    let client = Client::connect(broker.address, quick()).await.unwrap();
    for name in ["c", "a", "b"] {
        client
            .create_topic(name, 2, &TopicSettings::default())
            .await
            .unwrap();
    }
    assert_eq!(client.list_topics().await.unwrap().len(), 3, "all pages");
    let topic = client.describe_topic("a").await.unwrap();
    client
        .commit_offsets("g", &topic, &[(PartitionIndex(1), Offset(7))])
        .await
        .unwrap();
    let fetched = client
        .fetch_offsets("g", &topic, &[PartitionIndex(1)])
        .await
        .unwrap();
    assert_eq!(fetched[0].offset, Some(Offset(7)));
    assert!(client.ping().await.unwrap() > Duration::ZERO);
    broker.hang_up();
    client
        .describe_topic("a")
        .await
        .expect("asked again over a new connection");
}

#[::tokio::test(flavor = "multi_thread")]
async fn the_order_survives_lost_connections_and_refusals() {
    let broker = Broker::start(Options::default());
    broker.state().fates.extend([
        (3, Fate::LoseBatch),
        (9, Fate::LoseAck),
        (20, Fate::Refuse(ErrorCode::ServerBusy)),
    ]);
    let (_client, producer) = open(&broker, 1, one_by_one()).await;
    send(&producer, 0, 0..200).await;
    producer.close().await.unwrap();
    assert_eq!(broker.values("t", 0), numbers(0..200));
}

#[::tokio::test(flavor = "multi_thread")]
async fn everything_leaves_by_itself() {
    let broker = Broker::start(Options::default());
    let (_client, producer) = open(&broker, 1, ProducerConfig::default()).await;
    send(&producer, 0, 0..500).await;
    let stored = |state: &crate::broker::State| state.topics[0].partitions[0].next_offset == 500;
    ::tokio::task::block_in_place(|| broker.wait_for(stored));
    drop(producer);
}

#[::tokio::test(flavor = "multi_thread")]
async fn a_record_that_fits_no_batch_is_refused_and_leaves_the_producer_as_it_was() {
    let broker = Broker::start(Options::default());
    let config = ProducerConfig {
        linger: Duration::from_secs(3600),
        delivery_timeout: Duration::from_secs(5),
        ..ProducerConfig::default()
    };
    let (_client, producer) = open(&broker, 1, config).await;
    send(&producer, 0, 0..1).await;
    let large = vec![0; 2 << 20];
    let refused = producer
        .send(Some(PartitionIndex(0)), None, Some(&large), &[], None)
        .await;
    assert!(
        matches!(refused, Err(ClientError::Record(_))),
        "{refused:?}"
    );
    producer.flush().await.unwrap();
    send(&producer, 0, 1..2).await;
    producer.flush().await.unwrap();
    send(&producer, 0, 2..3).await;
    producer.close().await.unwrap();
    assert_eq!(broker.values("t", 0), numbers(0..3));
}

#[::tokio::test(flavor = "multi_thread")]
async fn send_waits_while_the_buffer_is_full() {
    let broker = Broker::start(Options::default());
    broker.state().holds_acks = true;
    let config = ProducerConfig {
        buffer_bytes_max: 2048,
        ..one_by_one()
    };
    let (_client, producer) = open(&broker, 1, config).await;
    let waits = timeout(Duration::from_millis(100), send(&producer, 0, 0..100)).await;
    assert!(
        waits.is_err(),
        "nothing was acknowledged, and all was taken"
    );
    broker.state().holds_acks = false;
    producer.flush().await.unwrap();
    assert!(broker.values("t", 0).len() < 100);
}

#[::tokio::test(flavor = "multi_thread")]
async fn batches_that_linger_are_bounded_by_the_buffer_as_well() {
    let broker = Broker::start(Options::default());
    broker.state().holds_acks = true;
    let (_client, producer) = open(&broker, 1, lingering()).await;
    let send = async {
        for _ in 0..60 {
            producer
                .send(Some(PartitionIndex(0)), None, Some(&[7; 1000]), &[], None)
                .await
                .unwrap();
        }
    };
    let waits = timeout(Duration::from_millis(100), send).await;
    assert!(
        waits.is_err(),
        "nothing was acknowledged, and all was taken"
    );
    // All that was done went out, also what was done when there was no room any more.
    broker.wait_for(|state| state.unanswered == 4);
    broker.state().holds_acks = false;
    producer.flush().await.unwrap();
}

#[::tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_by_flush_and_by_the_report() {
    let broker = Broker::start(Options::default());
    broker
        .state()
        .fates
        .insert(1, Fate::Refuse(ErrorCode::BatchMalformed));
    let (_client, producer) = open(&broker, 1, one_by_one()).await;
    producer
        .send_with(None, None, Some(b"v"), &[], None, 9)
        .await
        .unwrap();
    assert!(producer.wait_for_acks(SOON).await);
    let mut reports = Vec::new();
    producer.acks(&mut reports);
    assert_eq!(reports[0].first_token, Some(9));
    assert!(reports[0].result.is_err());
    let error = producer.flush().await.unwrap_err();
    assert!(
        matches!(error, ClientError::Undelivered { records: 1, .. }),
        "{error:?}"
    );
}

#[::tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_several_shards_survives_lost_connections() {
    let broker = Broker::start(Options {
        shards: 2,
        ..Options::default()
    });
    let (client, producer) = open(&broker, 2, one_by_one()).await;
    send(&producer, 0, 0..50).await;
    send(&producer, 1, 0..50).await;
    producer.flush().await.unwrap();
    let config = ConsumerConfig { credit_bytes: 1 };
    let mut consumer = client
        .consumer("t", Partitions::All, Start::Earliest, config)
        .await
        .unwrap();
    let mut read = [Vec::new(), Vec::new()];
    for number in 0..100 {
        if number % 20 == 10 {
            broker.hang_up();
        }
        let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap();
        for (_, record) in delivery.iter() {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            read[delivery.partition.0 as usize].push(value);
        }
    }
    assert_eq!(read, [numbers(0..50), numbers(0..50)]);
}

#[::tokio::test(flavor = "multi_thread")]
async fn dropped_deliveries_are_granted_again() {
    let broker = Broker::start(Options::default());
    let (client, producer) = open(&broker, 1, one_by_one()).await;
    for _ in 0..60 {
        producer
            .send(None, None, Some(&[1; 10_000]), &[], None)
            .await
            .unwrap();
    }
    producer.flush().await.unwrap();
    let config = ConsumerConfig {
        credit_bytes: 65_536,
    };
    let mut consumer = client
        .consumer("t", Partitions::All, Start::Earliest, config)
        .await
        .unwrap();
    for _ in 0..60 {
        timeout(SOON, consumer.next()).await.unwrap().unwrap();
    }
    let state = broker.state();
    assert!(
        state.granted_bytes <= 65_536 + state.delivered_bytes,
        "only what was dropped"
    );
}

#[::tokio::test(flavor = "multi_thread")]
async fn an_ended_subscription_is_a_typed_error() {
    let broker = Broker::start(Options::default());
    let (client, _producer) = open(&broker, 1, one_by_one()).await;
    let config = ConsumerConfig::default();
    let mut consumer = client
        .consumer("t", Partitions::All, Start::Earliest, config)
        .await
        .unwrap();
    broker.state().topics[0].ended = Some(ErrorCode::TopicDeleted);
    let error = timeout(SOON, consumer.next()).await.unwrap().unwrap_err();
    assert!(
        matches!(error, ClientError::SubscriptionEnded { .. }),
        "{error:?}"
    );
    assert_eq!(
        timeout(SOON, consumer.next()).await.unwrap().unwrap_err(),
        ClientError::Closed
    );
}

#[::tokio::test(flavor = "multi_thread")]
async fn producers_and_consumers_outlive_the_shard_they_were_connected_to() {
    let broker = Broker::start(Options {
        shards: 2,
        ..Options::default()
    });
    let (client, producer) = open(&broker, 2, one_by_one()).await;
    let mut consumer = client
        .consumer(
            "t",
            Partitions::All,
            Start::Earliest,
            ConsumerConfig::default(),
        )
        .await
        .unwrap();
    send(&producer, 1, 0..1).await;
    producer.flush().await.unwrap();
    broker.state().shards = Some(1);
    broker.hang_up();
    send(&producer, 1, 1..2).await;
    producer.flush().await.unwrap();
    for offset in 0..2 {
        let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.records.base_offset(), Offset(offset));
    }
}

#[::tokio::test(flavor = "multi_thread")]
async fn what_is_published_after_a_consumer_was_made_at_latest_comes() {
    let broker = Broker::start(Options::default());
    let (client, producer) = open(&broker, 1, one_by_one()).await;
    send(&producer, 0, 0..10).await;
    producer.flush().await.unwrap();
    broker.state().subscribe_delay = Duration::from_millis(100);
    let mut consumer = client
        .consumer(
            "t",
            Partitions::All,
            Start::Latest,
            ConsumerConfig::default(),
        )
        .await
        .unwrap();
    send(&producer, 0, 10..20).await;
    producer.flush().await.unwrap();
    let mut values = Vec::new();
    while values.len() < 10 {
        let delivery = timeout(SOON, consumer.next()).await.unwrap().unwrap();
        let texts = delivery
            .iter()
            .map(|(_, record)| record.value.unwrap().to_vec());
        values.extend(texts.map(|text| String::from_utf8(text).unwrap()));
    }
    assert_eq!(values, numbers(10..20));
}
