//! Consumers: starts, order, reconnecting, credit, endings.

use std::time::{Duration, Instant};

use gannet_wire::client::blocking::{Client, Consumer};
use gannet_wire::client::{
    ClientConfig, ClientError, ConsumerConfig, Delivery, Partitions, ProducerConfig,
};
use gannet_wire::frame::Start;
use gannet_wire::{ErrorCode, Offset, PartitionIndex};

use crate::broker::{Broker, Options, quick};

const SOON: Duration = Duration::from_secs(10);

/// A topic `t` with `count` records in each partition, ten to a batch.
fn filled(options: Options, partitions: u32, count: u32) -> (Broker, Client) {
    let broker = Broker::start(options);
    broker.create("t", partitions);
    let client = Client::connect(broker.address, quick()).unwrap();
    publish(&client, partitions, 0..count);
    (broker, client)
}

fn publish(client: &Client, partitions: u32, numbers: std::ops::Range<u32>) {
    let config = ProducerConfig {
        batch_records_max: 10,
        linger: Duration::from_secs(60),
        ..ProducerConfig::default()
    };
    let producer = client.producer("t", config).unwrap();
    for number in numbers {
        for partition in 0..partitions {
            let value = format!("{partition}/{number}");
            let partition = Some(PartitionIndex(partition));
            producer
                .send(partition, None, Some(value.as_bytes()), &[], None)
                .unwrap();
        }
    }
    producer.close().unwrap();
}

fn consume(client: &Client, start: Start) -> Consumer {
    client
        .consumer("t", Partitions::All, start, ConsumerConfig::default())
        .unwrap()
}

fn values(delivery: &Delivery) -> Vec<(u64, String)> {
    delivery
        .iter()
        .map(|(offset, record)| {
            (
                offset.0,
                String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
            )
        })
        .collect()
}

fn read(consumer: &mut Consumer, count: usize) -> Vec<(u64, String)> {
    let mut read = Vec::new();
    while read.len() < count {
        let delivery = consumer.next(SOON).unwrap().expect("there is more to read");
        read.extend(values(&delivery));
    }
    read
}

fn expected(partition: u32, numbers: std::ops::Range<u32>) -> Vec<(u64, String)> {
    numbers
        .map(|number| (u64::from(number), format!("{partition}/{number}")))
        .collect()
}

#[test]
fn everything_stored_is_delivered_in_order() {
    let (_broker, client) = filled(Options::default(), 1, 95);
    assert_eq!(
        read(&mut consume(&client, Start::Earliest), 95),
        expected(0, 0..95)
    );
}

#[test]
fn records_before_the_start_are_skipped() {
    let (_broker, client) = filled(Options::default(), 1, 30);
    let mut consumer = consume(&client, Start::Offset(Offset(13)));
    let first = consumer.next(SOON).unwrap().unwrap();
    assert_eq!(first.records.base_offset(), Offset(10));
    assert_eq!(first.skip_before, Offset(13));
    assert_eq!(values(&first), expected(0, 13..20));
    assert_eq!(first.next_offset, Offset(30));
}

#[test]
fn latest_begins_behind_what_is_stored() {
    let (_broker, client) = filled(Options::default(), 1, 10);
    let mut consumer = consume(&client, Start::Latest);
    assert!(consumer.next(Duration::from_millis(5)).unwrap().is_none());
    publish(&client, 1, 10..20);
    assert_eq!(read(&mut consumer, 10), expected(0, 10..20));
}

#[test]
fn what_is_published_after_a_consumer_was_made_at_latest_comes() {
    let (broker, client) = filled(
        Options {
            shards: 2,
            ..Options::default()
        },
        2,
        10,
    );
    broker.state().subscribe_delay = Duration::from_millis(100);
    let mut consumer = consume(&client, Start::Latest);
    publish(&client, 2, 10..20);
    let mut all = read(&mut consumer, 20);
    all.sort();
    let mut both: Vec<_> = (0..2)
        .flat_map(|partition| expected(partition, 10..20))
        .collect();
    both.sort();
    assert_eq!(all, both);
}

#[test]
fn a_consumer_is_not_made_while_the_broker_does_not_say_where_it_begins() {
    let (broker, _) = filled(Options::default(), 1, 10);
    broker.state().subscribe_delay = SOON;
    let impatient = ClientConfig {
        request_timeout: Duration::from_secs(2),
        ..quick()
    };
    let client = Client::connect(broker.address, impatient).unwrap();
    let made = client.consumer(
        "t",
        Partitions::All,
        Start::Latest,
        ConsumerConfig::default(),
    );
    assert!(matches!(made, Err(ClientError::TimedOut(_))), "{made:?}");
}

#[test]
fn a_consumer_that_lost_its_connection_goes_on_behind_what_it_delivered() {
    let (broker, client) = filled(Options::default(), 1, 100);
    let mut consumer = consume(&client, Start::Earliest);
    let mut all = Vec::new();
    for _ in 0..10 {
        broker.hang_up();
        let delivery = consumer.next(SOON).unwrap().unwrap();
        all.extend(values(&delivery));
    }
    assert_eq!(all, expected(0, 0..100));
}

#[test]
fn partitions_of_several_shards_come_over_a_connection_each() {
    let (broker, client) = filled(
        Options {
            shards: 2,
            ..Options::default()
        },
        4,
        50,
    );
    broker.state().hellos.clear();
    let mut consumer = consume(&client, Start::Earliest);
    assert_eq!(broker.state().hellos.iter().flatten().count(), 2);
    let mut all: Vec<Vec<(u64, String)>> = vec![Vec::new(); 4];
    while all.iter().map(Vec::len).sum::<usize>() < 200 {
        let delivery = consumer.next(SOON).unwrap().expect("there is more to read");
        all[delivery.partition.0 as usize].extend(values(&delivery));
    }
    for partition in 0..4 {
        assert_eq!(all[partition as usize], expected(partition, 0..50));
    }
}

#[test]
fn only_the_partitions_asked_for_are_delivered() {
    let (_broker, client) = filled(Options::default(), 3, 10);
    let only = Partitions::Only(vec![1]);
    let mut consumer = client
        .consumer("t", only, Start::Earliest, ConsumerConfig::default())
        .unwrap();
    assert_eq!(read(&mut consumer, 10), expected(1, 0..10));
    assert!(consumer.next(Duration::from_millis(5)).unwrap().is_none());
    assert_eq!(consumer.positions(), [(PartitionIndex(1), Offset(10))]);
}

#[test]
fn a_consumer_holds_no_more_than_its_credit_and_one_batch() {
    let (broker, client) = filled(Options::default(), 1, 0);
    let producer = client
        .producer(
            "t",
            ProducerConfig {
                batch_records_max: 1,
                ..ProducerConfig::default()
            },
        )
        .unwrap();
    let value = vec![1; 10_000];
    for _ in 0..40 {
        producer.send(None, None, Some(&value), &[], None).unwrap();
    }
    producer.close().unwrap();
    let config = ConsumerConfig {
        credit_bytes: 65_536,
    };
    let mut consumer = client
        .consumer("t", Partitions::All, Start::Earliest, config)
        .unwrap();
    let mut held = Vec::new();
    while let Some(delivery) = consumer.next(Duration::from_millis(50)).unwrap() {
        held.push(delivery);
    }
    assert_eq!(
        held.len(),
        7,
        "65,536 bytes are spent by the seventh batch of 10,000"
    );
    {
        let state = broker.state();
        assert_eq!(state.granted_bytes, 65_536);
        assert!(state.delivered_bytes < 65_536 + 11_000);
    }
    held.clear();
    let mut rest = 0;
    while rest < 33 {
        consumer
            .next(SOON)
            .unwrap()
            .expect("dropped deliveries are granted again");
        rest += 1;
    }
    let state = broker.state();
    assert!(
        state.granted_bytes <= 65_536 + state.delivered_bytes,
        "only what was dropped"
    );
}

#[test]
fn what_is_held_over_a_reconnect_counts_against_the_new_credit() {
    let (broker, client) = filled(Options::default(), 1, 0);
    let producer = client
        .producer(
            "t",
            ProducerConfig {
                batch_records_max: 1,
                ..ProducerConfig::default()
            },
        )
        .unwrap();
    producer
        .send(None, None, Some(&[1; 10_000]), &[], None)
        .unwrap();
    producer.flush().unwrap();
    let config = ConsumerConfig {
        credit_bytes: 65_536,
    };
    let mut consumer = client
        .consumer("t", Partitions::All, Start::Earliest, config)
        .unwrap();
    let held = consumer.next(SOON).unwrap().unwrap();
    broker.hang_up();
    assert!(consumer.next(Duration::from_millis(100)).unwrap().is_none());
    let again = *broker.state().subscribes.last().unwrap();
    assert_eq!(again.start, Start::Offset(Offset(1)));
    assert_eq!(
        again.credit,
        65_536 - held.records.header().batch_bytes() as u64
    );
}

#[test]
fn an_ended_subscription_is_a_typed_error_with_the_position() {
    let (broker, client) = filled(Options::default(), 1, 10);
    let mut consumer = consume(&client, Start::Earliest);
    read(&mut consumer, 10);
    broker.state().topics[0].ended = Some(ErrorCode::TopicDeleted);
    let error = consumer.next(SOON).unwrap_err();
    let ClientError::SubscriptionEnded {
        partition,
        position,
        error,
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(partition, PartitionIndex(0));
    assert_eq!(position, Some(Offset(10)));
    assert_eq!(error.code, ErrorCode::TopicDeleted);
    assert_eq!(consumer.next(SOON).unwrap_err(), ClientError::Closed);
}

#[test]
fn a_start_out_of_range_is_a_typed_error_with_the_range() {
    let (_broker, client) = filled(Options::default(), 1, 10);
    let mut consumer = consume(&client, Start::Offset(Offset(99)));
    let error = consumer.next(SOON).unwrap_err();
    let ClientError::SubscriptionEnded { error, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.code, ErrorCode::OffsetOutOfRange);
    assert_eq!(error.range, Some((Offset(0), Offset(10))));
}

#[test]
fn a_batch_damaged_on_the_way_is_refused_and_asked_for_again() {
    let (broker, client) = filled(Options::default(), 1, 30);
    let whole = broker.state().topics[0].partitions[0].batches[1].clone();
    let mut damaged = whole.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    broker.state().topics[0].partitions[0].batches[1] = damaged.into();
    let mut consumer = consume(&client, Start::Earliest);
    let first = consumer.next(SOON);
    let error = first.and_then(|_| consumer.next(SOON)).unwrap_err();
    let ClientError::BatchDamaged { position, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(position, Offset(10));
    broker.state().topics[0].partitions[0].batches[1] = whole;
    let mut rest = Vec::new();
    while rest.last() != Some(&(29, "0/29".to_owned())) {
        rest.extend(values(&consumer.next(SOON).unwrap().unwrap()));
    }
    assert_eq!(
        rest.last_chunk::<20>().unwrap().as_slice(),
        expected(0, 10..30)
    );
}

/// Damages the second batch of partition 0.
fn damage(broker: &Broker) {
    let mut state = broker.state();
    let batch = &mut state.topics[0].partitions[0].batches[1];
    let mut damaged = batch.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    *batch = damaged.into();
}

fn of_two_shards() -> Options {
    Options {
        shards: 2,
        ..Options::default()
    }
}

/// How often shard 0 was asked for partitions.
fn asked_of_shard_0(broker: &Broker) -> usize {
    let subscribes = &broker.state().subscribes;
    let of_partition_0 = subscribes
        .iter()
        .filter(|subscribe| subscribe.partition == PartitionIndex(0));
    of_partition_0.count()
}

#[test]
fn a_consumer_over_several_shards_tells_of_a_damaged_batch_once() {
    let (broker, client) = filled(of_two_shards(), 2, 30);
    damage(&broker);
    let mut consumer = consume(&client, Start::Earliest);
    broker.wait_for(|state| state.subscribes.len() >= 12);
    drop(client);
    let mut damaged = 0;
    // Of partition 0 there is one batch before the damage, of partition 1 there are three.
    for _ in 0..5 {
        match consumer.next(SOON) {
            Err(ClientError::BatchDamaged { .. }) => damaged += 1,
            other => assert!(other.unwrap().is_some()),
        }
    }
    assert_eq!(damaged, 1);
    assert!(consumer.next(Duration::ZERO).unwrap().is_none());
}

#[test]
fn a_consumer_over_several_shards_pauses_before_it_asks_for_a_damaged_batch_again() {
    let (broker, _) = filled(of_two_shards(), 2, 30);
    damage(&broker);
    let mut config = quick();
    config.reconnect.backoff_min = Duration::from_secs(3600);
    config.reconnect.backoff_max = Duration::from_secs(3600);
    let client = Client::connect(broker.address, config).unwrap();
    let mut consumer = consume(&client, Start::Earliest);
    while !matches!(consumer.next(SOON), Err(ClientError::BatchDamaged { .. })) {}
    // In the time this takes it would ask many times.
    publish(&client, 2, 30..200);
    assert_eq!(asked_of_shard_0(&broker), 1);
}

#[test]
fn a_batch_stamped_for_another_partition_is_refused() {
    let (broker, client) = filled(Options::default(), 2, 10);
    {
        let mut state = broker.state();
        let other = state.topics[0].partitions[1].batches[0].clone();
        state.topics[0].partitions[0].batches[0] = other;
    }
    let only = Partitions::Only(vec![0]);
    let mut consumer = client
        .consumer("t", only, Start::Earliest, ConsumerConfig::default())
        .unwrap();
    let error = consumer.next(SOON).unwrap_err();
    assert!(
        matches!(error, ClientError::BatchDamaged { .. }),
        "{error:?}"
    );
}

#[test]
fn a_call_gives_up_when_there_is_no_connection_for_too_long() {
    let broker = Broker::start(Options::default());
    broker.create("t", 1);
    let mut config = quick();
    config.reconnect.give_up_after = Duration::from_millis(20);
    let client = Client::connect(broker.address, config).unwrap();
    let mut consumer = consume(&client, Start::Earliest);
    broker.state().refuses_connections = true;
    broker.hang_up();
    let error = consumer.next(SOON).unwrap_err();
    assert!(matches!(error, ClientError::GaveUp { .. }), "{error:?}");
    broker.state().refuses_connections = false;
    assert!(consumer.next(Duration::from_millis(50)).unwrap().is_none());
}

#[test]
fn an_outage_is_told_however_short_the_calls_are() {
    let broker = Broker::start(Options::default());
    broker.create("t", 1);
    let mut config = quick();
    config.reconnect.give_up_after = Duration::from_millis(200);
    let client = Client::connect(broker.address, config).unwrap();
    let mut consumer = consume(&client, Start::Earliest);
    broker.state().refuses_connections = true;
    broker.hang_up();
    let mut calls = (0..5_000).map(|_| consumer.next(Duration::from_millis(1)));
    let error = calls.find_map(Result::err).expect("the outage is told");
    assert!(matches!(error, ClientError::GaveUp { .. }), "{error:?}");
}

#[test]
fn a_consumer_over_several_shards_gives_up_when_there_is_no_connection_for_too_long() {
    let broker = Broker::start(Options {
        shards: 2,
        ..Options::default()
    });
    broker.create("t", 2);
    let mut config = quick();
    // Longer than the threads wait before they look whether they are still wanted.
    config.reconnect.give_up_after = Duration::from_millis(1_200);
    let client = Client::connect(broker.address, config).unwrap();
    let mut consumer = consume(&client, Start::Earliest);
    broker.state().refuses_connections = true;
    broker.hang_up();
    for shard in 0..2 {
        let error = consumer.next(SOON).unwrap_err();
        assert!(
            matches!(error, ClientError::GaveUp { .. }),
            "{shard}: {error:?}"
        );
    }
}

#[test]
fn why_nothing_comes_can_be_asked_until_there_is_a_connection_again() {
    for shards in [1, 2] {
        let broker = Broker::start(Options {
            shards,
            ..Options::default()
        });
        broker.create("t", u32::from(shards));
        let client = Client::connect(broker.address, quick()).unwrap();
        let mut consumer = consume(&client, Start::Earliest);
        assert_eq!(consumer.obstacle(), None);
        broker.state().refuses_connections = true;
        broker.hang_up();
        let deadline = Instant::now() + SOON;
        while consumer.obstacle().is_none() {
            assert!(consumer.next(Duration::from_millis(1)).unwrap().is_none());
            assert!(Instant::now() < deadline, "nothing stands in the way");
        }
        broker.state().refuses_connections = false;
        while consumer.obstacle().is_some() {
            assert!(consumer.next(Duration::from_millis(1)).unwrap().is_none());
            assert!(Instant::now() < deadline, "it does not come back");
        }
    }
}

#[test]
fn each_partition_can_start_at_its_own_place() {
    let (_broker, client) = filled(Options::default(), 2, 20);
    let topic = client.describe_topic("t").unwrap();
    let starts = [
        (PartitionIndex(0), Start::Offset(Offset(15))),
        (PartitionIndex(1), Start::Latest),
    ];
    let mut consumer = client
        .consumer_at(&topic, &starts, ConsumerConfig::default())
        .unwrap();
    assert_eq!(read(&mut consumer, 5), expected(0, 15..20));
    assert!(consumer.next(Duration::from_millis(5)).unwrap().is_none());
}

#[test]
fn a_consumer_outlives_the_shard_it_was_connected_to() {
    let shards = Options {
        shards: 2,
        ..Options::default()
    };
    let (broker, client) = filled(shards, 2, 10);
    let partition = Partitions::Only(vec![1]);
    let mut consumer = client
        .consumer("t", partition, Start::Earliest, ConsumerConfig::default())
        .unwrap();
    assert_eq!(read(&mut consumer, 10), expected(1, 0..10));
    broker.state().shards = Some(1);
    broker.hang_up();
    publish(&client, 2, 10..20);
    assert_eq!(read(&mut consumer, 10), expected(1, 10..20));
}
