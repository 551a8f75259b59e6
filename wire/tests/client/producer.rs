//! Producers: batching, order, resending, refusals, back-pressure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gannet_wire::batch::{Compression, Records};
use gannet_wire::client::blocking::{Client, Producer};
use gannet_wire::client::{ClientError, DeliveryReport, ProducerConfig};
use gannet_wire::frame::Durability;
use gannet_wire::{ErrorCode, Offset, PartitionIndex, ShardIndex};

use crate::broker::{Broker, Fate, Options, lingering, one_by_one, quick};

fn open(broker: &Broker, partitions: u32, config: ProducerConfig) -> Producer {
    broker.create("t", partitions);
    Client::connect(broker.address, quick())
        .unwrap()
        .producer("t", config)
        .unwrap()
}

fn send(producer: &Producer, numbers: std::ops::Range<u32>) {
    for number in numbers {
        send_to(producer, 0, number);
    }
}

fn send_to(producer: &Producer, partition: u32, number: u32) {
    let value = number.to_string();
    let partition = Some(PartitionIndex(partition));
    producer
        .send(partition, None, Some(value.as_bytes()), &[], None)
        .unwrap();
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Sends `count` records one by one while each publish in `fates` has its fate, and looks at what is stored.
fn survives(fates: &[(u64, Fate)], count: u32) {
    let broker = Broker::start(Options::default());
    broker.state().fates.extend(fates.iter().copied());
    let producer = open(&broker, 1, one_by_one());
    send(&producer, 0..count);
    producer.close().unwrap();
    assert_eq!(broker.values("t", 0), numbers(0..count));
    assert!(
        broker.state().fates.is_empty(),
        "every scripted failure happened"
    );
}

#[test]
fn records_are_stored_in_the_order_they_were_sent() {
    survives(&[], 1000);
}

#[test]
fn a_batch_lost_with_its_connection_is_sent_again() {
    survives(&[(3, Fate::LoseBatch)], 50);
}

#[test]
fn a_batch_whose_ack_was_lost_is_stored_once() {
    survives(&[(3, Fate::LoseAck)], 50);
}

#[test]
fn the_order_survives_one_lost_connection_after_another() {
    let fates: Vec<(u64, Fate)> = (1..30)
        .map(|number| {
            (
                number * 4,
                if number % 2 == 0 {
                    Fate::LoseAck
                } else {
                    Fate::LoseBatch
                },
            )
        })
        .collect();
    survives(&fates, 300);
}

#[test]
fn a_batch_refused_for_now_goes_again_before_its_successors() {
    survives(
        &[
            (2, Fate::Refuse(ErrorCode::ServerBusy)),
            (9, Fate::Refuse(ErrorCode::DiskFull)),
        ],
        60,
    );
}

#[test]
fn a_producer_that_the_broker_has_forgotten_gets_a_new_id_and_loses_nothing() {
    let broker = Broker::start(Options::default());
    let producer = open(&broker, 1, one_by_one());
    send(&producer, 0..3);
    producer.flush().unwrap();
    {
        // The next one and those right behind it are refused, as by a broker that knows nothing of the producer.
        let mut state = broker.state();
        state.is_mute = true;
        for publish in 4..7 {
            let refusal = Fate::Refuse(ErrorCode::ProducerUnknown);
            state.fates.insert(publish, refusal);
        }
    }
    send(&producer, 3..6);
    broker.state().is_mute = false;
    send(&producer, 6..60);
    producer.close().unwrap();
    assert_eq!(broker.values("t", 0), numbers(0..60));
    assert_eq!(broker.state().producers, 2);
}

#[test]
fn a_batch_that_may_be_stored_already_is_not_sent_under_a_new_id() {
    let broker = Broker::start(Options::default());
    broker.state().fates.extend([
        (1, Fate::LoseAck),
        (2, Fate::Refuse(ErrorCode::ProducerUnknown)),
    ]);
    let producer = open(&broker, 1, one_by_one());
    send(&producer, 0..1);
    producer.flush().unwrap_err();
    assert_eq!(broker.values("t", 0), ["0"]);
}

#[test]
fn a_producer_outlives_the_shard_it_was_connected_to() {
    let broker = Broker::start(Options {
        shards: 2,
        ..Options::default()
    });
    let producer = open(&broker, 2, one_by_one());
    send_to(&producer, 1, 0);
    producer.flush().unwrap();
    broker.state().shards = Some(1);
    broker.hang_up();
    send_to(&producer, 1, 1);
    producer.close().unwrap();
    assert_eq!(broker.values("t", 1), ["0", "1"]);
}

#[test]
fn a_batch_refused_for_now_without_idempotence_goes_again_too() {
    let broker = Broker::start(Options::default());
    broker
        .state()
        .fates
        .insert(2, Fate::Refuse(ErrorCode::ServerBusy));
    let config = ProducerConfig {
        idempotent: false,
        ..one_by_one()
    };
    let producer = open(&broker, 1, config);
    send(&producer, 0..20);
    producer.close().unwrap();
    let mut stored = broker.values("t", 0);
    stored.sort_by_key(|value| value.parse::<u32>().unwrap());
    assert_eq!(stored, numbers(0..20));
}

#[test]
fn what_was_sent_behind_a_refused_batch_fails_and_what_is_sent_afterwards_does_not() {
    let broker = Broker::start(Options::default());
    let producer = open(&broker, 1, one_by_one());
    send(&producer, 0..3);
    producer.flush().unwrap();
    {
        let mut state = broker.state();
        state.is_mute = true;
        state
            .fates
            .insert(4, Fate::Refuse(ErrorCode::BatchMalformed));
    }
    send(&producer, 3..6);
    broker.state().is_mute = false;
    let error = producer.flush().unwrap_err();
    let ClientError::Undelivered { records: 3, cause } = error else {
        panic!("{error:?}")
    };
    let ClientError::Server(body) = *cause else {
        panic!("{cause:?}")
    };
    assert_eq!(body.code, ErrorCode::BatchMalformed);

    send(&producer, 6..9);
    producer.close().unwrap();
    assert_eq!(broker.values("t", 0), ["0", "1", "2", "6", "7", "8"]);
    assert_eq!(
        broker.state().producers,
        2,
        "a new producer id was asked for"
    );
}

#[test]
fn reports_come_in_the_order_of_sending_with_token_offset_and_result() {
    let broker = Broker::start(Options::default());
    broker.state().fates.insert(2, Fate::LoseAck);
    let producer = open(&broker, 1, one_by_one());
    for token in 0..6 {
        let partition = Some(PartitionIndex(0));
        producer
            .send_with(partition, None, Some(b"v"), &[], None, 100 + token)
            .unwrap();
    }
    producer.flush().unwrap();
    let mut reports: Vec<DeliveryReport> = Vec::new();
    producer.acks(&mut reports);
    let tokens: Vec<u64> = reports
        .iter()
        .map(|report| report.first_token.unwrap())
        .collect();
    assert_eq!(tokens, [100, 101, 102, 103, 104, 105]);
    for (report, offset) in reports.iter().zip(0..) {
        let delivered = report.result.as_ref().unwrap();
        assert_eq!(delivered.base_offset, Offset(offset));
        assert_eq!(delivered.durability, Durability::Durable);
        assert_eq!(report.records, 1);
        assert!(report.settled_at >= report.sent_at);
    }
    assert!(
        reports[1].result.as_ref().unwrap().duplicate,
        "stored before its ack was lost"
    );
}

#[test]
fn records_without_a_token_are_not_reported() {
    let broker = Broker::start(Options::default());
    let producer = open(&broker, 1, one_by_one());
    send(&producer, 0..3);
    producer.flush().unwrap();
    let mut reports = Vec::new();
    producer.acks(&mut reports);
    assert!(reports.is_empty());
}

#[test]
fn no_more_batches_are_under_way_than_the_server_remembers() {
    let broker = Broker::start(Options {
        producer_inflight_max: 3,
        ..Options::default()
    });
    broker.state().holds_acks = true;
    let producer = open(&broker, 1, one_by_one());
    send(&producer, 0..20);
    broker.wait_for(|state| state.unanswered == 3);
    broker.state().holds_acks = false;
    producer.close().unwrap();
    assert_eq!(broker.state().unanswered_max, 3);
    assert_eq!(broker.values("t", 0), numbers(0..20));
}

#[test]
fn a_record_that_fits_no_batch_is_refused_and_leaves_the_producer_as_it_was() {
    let broker = Broker::start(Options::default());
    let config = ProducerConfig {
        linger: Duration::from_secs(3600),
        delivery_timeout: Duration::from_secs(5),
        ..ProducerConfig::default()
    };
    let producer = open(&broker, 1, config);
    send(&producer, 0..1);
    let large = vec![0; 2 << 20];
    let refused = producer.send(Some(PartitionIndex(0)), None, Some(&large), &[], None);
    assert!(
        matches!(refused, Err(ClientError::Record(_))),
        "{refused:?}"
    );
    producer.flush().unwrap();
    send(&producer, 1..2);
    producer.flush().unwrap();
    send(&producer, 2..3);
    producer.close().unwrap();
    assert_eq!(broker.values("t", 0), numbers(0..3));
}

#[test]
fn send_waits_while_the_buffer_is_full_and_goes_on_when_there_is_room() {
    let broker = Broker::start(Options::default());
    broker.state().holds_acks = true;
    let config = ProducerConfig {
        buffer_bytes_max: 4096,
        ..one_by_one()
    };
    let producer = open(&broker, 1, config);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            send(&producer, 0..200);
            done.store(true, Ordering::SeqCst);
        });
        broker.wait_for(|state| state.unanswered == 5);
        while producer.buffered_bytes() < 4096 {
            thread::yield_now();
        }
        assert!(!done.load(Ordering::SeqCst));
        assert!(
            producer.buffered_bytes() < 4096 + 200,
            "at most one small batch beyond the limit"
        );
        broker.state().holds_acks = false;
    });
    producer.close().unwrap();
    assert_eq!(broker.values("t", 0), numbers(0..200));
}

#[test]
fn batches_that_linger_are_bounded_by_the_buffer_as_well() {
    let broker = Broker::start(Options::default());
    broker.state().holds_acks = true;
    let producer = open(&broker, 1, lingering());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..60 {
                producer
                    .send(Some(PartitionIndex(0)), None, Some(&[7; 1000]), &[], None)
                    .unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        // Three records each: three batches fill it, and the fourth was begun before.
        broker.wait_for(|state| state.unanswered >= 4);
        let held = (
            done.load(Ordering::SeqCst),
            producer.buffered_bytes(),
            broker.state().unanswered,
        );
        broker.state().holds_acks = false;
        let (all_taken, bytes, batches) = held;
        assert!(!all_taken);
        assert_eq!(batches, 4);
        assert!(bytes < 8192 + 2 * 4096, "{bytes}");
    });
    producer.close().unwrap();
    let state = broker.state();
    let batches = &state.topics[0].partitions[0].batches;
    let counts = batches
        .iter()
        .map(|batch| Records::open(batch.clone()).unwrap().len());
    assert_eq!(counts.sum::<usize>(), 60);
}

#[test]
fn a_batch_holds_as_many_records_as_fit_its_bytes() {
    let broker = Broker::start(Options::default());
    let config = ProducerConfig {
        batch_bytes: 4096,
        linger: Duration::from_secs(60),
        ..ProducerConfig::default()
    };
    let producer = open(&broker, 1, config);
    let value = [7; 1000];
    for _ in 0..9 {
        producer
            .send(Some(PartitionIndex(0)), None, Some(&value), &[], None)
            .unwrap();
    }
    producer.close().unwrap();
    let state = broker.state();
    let counts: Vec<usize> = state.topics[0].partitions[0]
        .batches
        .iter()
        .map(|batch| Records::open(batch.clone()).unwrap().len())
        .collect();
    assert_eq!(counts, [3, 3, 3]);
}

#[test]
fn a_lingering_batch_leaves_by_itself() {
    let broker = Broker::start(Options::default());
    let config = ProducerConfig {
        linger: Duration::from_millis(20),
        ..ProducerConfig::default()
    };
    let producer = open(&broker, 1, config);
    let sent_at = Instant::now();
    send(&producer, 0..10);
    broker.wait_for(|state| state.publishes == 1);
    assert!(sent_at.elapsed() >= Duration::from_millis(20));
    broker.wait_for(|state| state.topics[0].partitions[0].next_offset == 10);
    drop(producer);
}

#[test]
fn without_linger_everything_leaves_by_itself() {
    let broker = Broker::start(Options::default());
    let producer = open(&broker, 1, ProducerConfig::default());
    send(&producer, 0..5000);
    broker.wait_for(|state| state.topics[0].partitions[0].next_offset == 5000);
    assert_eq!(broker.values("t", 0), numbers(0..5000));
    drop(producer);
}

#[test]
fn a_record_larger_than_a_batch_goes_alone_up_to_the_servers_limit() {
    let broker = Broker::start(Options {
        batch_bytes_max: 100_000,
        ..Options::default()
    });
    let producer = open(&broker, 1, ProducerConfig::default());
    let send = |bytes: usize| {
        let value = vec![b'x'; bytes];
        producer.send(Some(PartitionIndex(0)), None, Some(&value), &[], None)
    };
    send(10).unwrap();
    send(90_000).unwrap();
    let refused = send(100_000).unwrap_err();
    assert!(matches!(refused, ClientError::Record(_)), "{refused:?}");
    send(10).unwrap();
    producer.close().unwrap();
    let lengths: Vec<usize> = broker.values("t", 0).iter().map(String::len).collect();
    assert_eq!(lengths, [10, 90_000, 10]);
}

#[test]
fn compressed_batches_arrive() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let broker = Broker::start(Options::default());
        let config = ProducerConfig {
            compression,
            ..ProducerConfig::default()
        };
        let producer = open(&broker, 1, config);
        send(&producer, 0..1000);
        producer.close().unwrap();
        assert_eq!(broker.values("t", 0), numbers(0..1000));
    }
}

#[test]
fn records_with_the_same_key_go_to_the_same_partition_and_others_spread() {
    let broker = Broker::start(Options::default());
    let producer = open(&broker, 4, one_by_one());
    for number in 0..40 {
        let value = format!("{}", number % 4);
        producer
            .send(
                None,
                Some(value.as_bytes()),
                Some(value.as_bytes()),
                &[],
                None,
            )
            .unwrap();
        producer.send(None, None, Some(b"none"), &[], None).unwrap();
    }
    producer.close().unwrap();
    let mut homes = std::collections::HashMap::new();
    let mut without_key = [0; 4];
    for (partition, without_key) in without_key.iter_mut().enumerate() {
        for value in broker.values("t", partition) {
            if value == "none" {
                *without_key += 1;
            } else {
                assert_eq!(*homes.entry(value).or_insert(partition), partition);
            }
        }
    }
    assert_eq!(without_key, [10; 4]);
}

#[test]
fn each_shard_is_published_to_over_a_connection_of_its_own() {
    let broker = Broker::start(Options {
        shards: 2,
        ..Options::default()
    });
    let producer = open(&broker, 4, one_by_one());
    for number in 0..100 {
        send_to(&producer, number % 4, number);
    }
    producer.flush().unwrap();
    let mut asked: Vec<ShardIndex> = broker.state().hellos.iter().flatten().copied().collect();
    asked.sort();
    assert_eq!(asked, [ShardIndex(0), ShardIndex(1)]);
    for partition in 0..4 {
        assert_eq!(broker.values("t", partition).len(), 25);
    }
}

#[test]
fn threads_share_a_producer_and_each_keeps_its_order() {
    let broker = Broker::start(Options::default());
    broker.state().fates.insert(20, Fate::LoseAck);
    let producer = open(
        &broker,
        1,
        ProducerConfig {
            batch_records_max: 7,
            ..one_by_one()
        },
    );
    thread::scope(|scope| {
        for thread in 0..4 {
            let producer = &producer;
            scope.spawn(move || send(producer, thread * 1000..thread * 1000 + 500));
        }
    });
    producer.close().unwrap();
    let stored: Vec<u32> = broker
        .values("t", 0)
        .iter()
        .map(|value| value.parse().unwrap())
        .collect();
    for thread in 0..4 {
        let own: Vec<u32> = stored
            .iter()
            .copied()
            .filter(|number| number / 1000 == thread)
            .collect();
        assert_eq!(
            own,
            (thread * 1000..thread * 1000 + 500).collect::<Vec<u32>>()
        );
    }
    assert_eq!(stored.len(), 2000);
}

#[test]
fn what_is_held_fails_when_there_is_no_connection_for_too_long() {
    let broker = Broker::start(Options::default());
    broker.create("t", 1);
    let mut config = quick();
    config.reconnect.give_up_after = Duration::from_millis(30);
    let client = Client::connect(broker.address, config).unwrap();
    let producer = client.producer("t", one_by_one()).unwrap();
    send(&producer, 0..2);
    producer.flush().unwrap();
    {
        let mut state = broker.state();
        state.holds_acks = true;
        state.refuses_connections = true;
    }
    send(&producer, 2..4);
    broker.wait_for(|state| state.unanswered == 2);
    broker.hang_up();
    let error = producer.flush().unwrap_err();
    let ClientError::Undelivered { records: 2, cause } = error else {
        panic!("{error:?}")
    };
    assert!(matches!(*cause, ClientError::GaveUp { .. }), "{cause:?}");
    let refused = producer
        .send(None, None, Some(b"x"), &[], None)
        .unwrap_err();
    assert!(matches!(refused, ClientError::GaveUp { .. }), "{refused:?}");

    {
        let mut state = broker.state();
        state.holds_acks = false;
        state.refuses_connections = false;
    }
    // The producer comes back by itself, under a new id.
    while producer.send(None, None, Some(b"4"), &[], None).is_err() {
        thread::yield_now();
    }
    producer.close().unwrap();
    assert_eq!(broker.values("t", 0), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_record_not_acknowledged_in_time_fails() {
    let broker = Broker::start(Options::default());
    broker.state().holds_acks = true;
    let config = ProducerConfig {
        delivery_timeout: Duration::from_millis(50),
        ..one_by_one()
    };
    let producer = open(&broker, 1, config);
    send(&producer, 0..1);
    let error = producer.flush().unwrap_err();
    let ClientError::Undelivered { records: 1, cause } = error else {
        panic!("{error:?}")
    };
    assert!(matches!(*cause, ClientError::TimedOut(_)), "{cause:?}");
}

#[test]
fn a_record_refused_until_its_time_is_up_fails_with_the_last_refusal() {
    let broker = Broker::start(Options::default());
    let refused = (1..100_000).map(|publish| (publish, Fate::Refuse(ErrorCode::DiskFull)));
    broker.state().fates.extend(refused);
    let config = ProducerConfig {
        delivery_timeout: Duration::from_millis(200),
        ..one_by_one()
    };
    let producer = open(&broker, 1, config);
    send(&producer, 0..1);
    let error = producer.flush().unwrap_err();
    let ClientError::Undelivered { records: 1, cause } = &error else {
        panic!("{error:?}")
    };
    let ClientError::HeldUp { cause, .. } = &**cause else {
        panic!("{error:?}")
    };
    assert!(
        matches!(&**cause, ClientError::Server(body) if body.code == ErrorCode::DiskFull),
        "{error:?}"
    );
    assert!(error.to_string().contains("disk_full"), "{error}");
}

#[test]
fn what_stands_in_the_way_can_be_asked_until_it_is_gone() {
    let broker = Broker::start(Options::default());
    let refused = (1..100_000).map(|publish| (publish, Fate::Refuse(ErrorCode::DiskFull)));
    broker.state().fates.extend(refused);
    let producer = open(&broker, 1, one_by_one());
    assert_eq!(producer.obstacle(), None);
    send(&producer, 0..1);
    let refusal = await_obstacle(&producer);
    assert!(
        matches!(&refusal, ClientError::Server(body) if body.code == ErrorCode::DiskFull),
        "{refusal:?}"
    );
    broker.state().fates.clear();
    producer.flush().unwrap();
    assert_eq!(producer.obstacle(), None);

    broker.state().refuses_connections = true;
    broker.hang_up();
    let outage = await_obstacle(&producer);
    assert!(
        matches!(outage, ClientError::ConnectionLost(_)),
        "{outage:?}"
    );
    broker.state().refuses_connections = false;
    send(&producer, 1..2);
    producer.flush().unwrap();
    assert_eq!(producer.obstacle(), None);
}

fn await_obstacle(producer: &Producer) -> ClientError {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(obstacle) = producer.obstacle() {
            return obstacle;
        }
        assert!(Instant::now() < deadline, "nothing stands in the way");
        thread::yield_now();
    }
}
