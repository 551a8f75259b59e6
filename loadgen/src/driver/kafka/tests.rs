//! The driver against the cluster that librdkafka brings for tests: a broker's sockets and protocol without a broker's disk.

use clap::Parser;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::driver::AmqpQueue;
use crate::options::CommandLine;
use crate::plan::Plan;
use crate::progress::ProgressLine;
use crate::report::Durability;
use crate::run::{Outcome, Run, failures};
use crate::worker::port::{Delivery, Inlet, Outlet};

type Cluster = MockCluster<'static, DefaultProducerContext>;

const TOPIC: &str = "t";

/// A cluster of one broker with a topic: it makes none itself on request.
fn cluster(partitions: i32) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, partitions, 1).unwrap();
    cluster
}

fn plan(arguments: &[&str]) -> Plan {
    let line = CommandLine::try_parse_from([&["gannet-loadgen"], arguments].concat()).unwrap();
    Plan::new(&line.options).unwrap()
}

fn connect(cluster: &Cluster, plan: &Plan) -> KafkaConnect {
    KafkaConnect::connect(&Target {
        server: &cluster.bootstrap_servers(),
        topic: TOPIC,
        plan,
        amqp_queue: AmqpQueue::Quorum,
    })
    .unwrap()
}

fn run(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let plan = plan(arguments);
    let connect = connect(cluster, &plan);
    let mut progress = ProgressLine::new();
    Run::new(&plan, &connect, None, &mut progress, 1, 2)
        .execute()
        .unwrap()
}

#[test]
fn the_partitions_are_those_that_the_topic_has() {
    let cluster = cluster(3);
    let plan = plan(&["--partitions", "7"]);
    assert_eq!(connect(&cluster, &plan).partitions(), 3);
}

#[test]
fn a_paced_run_with_keys_and_groups_comes_out_whole_and_says_nothing_about_durability() {
    let outcome = run(
        &cluster(3),
        &[
            "--rate",
            "500",
            "--duration",
            "1s",
            "--producers",
            "2",
            "--consumers",
            "2",
            "--fan-out",
            "2",
            "--keys",
            "9",
            "--reread",
        ],
    );
    assert_eq!(
        failures(&outcome, Durability::Accepted),
        Vec::<String>::new()
    );
    assert_eq!((outcome.sent, outcome.acked), (500, 500));
    assert_eq!(outcome.reread.unwrap().flow.records, 500);
    let phase = &outcome.phases[0];
    assert_eq!(phase.publish.durability, None);
    // A quarter is the warm-up.
    assert_eq!(phase.publish.latency_us.count, 375);
    for group in &phase.groups {
        assert_eq!(group.end_to_end.latency_us.count, 375);
    }
}

#[test]
fn a_producer_whose_queue_is_full_waits_and_loses_nothing() {
    let outcome = run(
        &cluster(2),
        &[
            "--rate",
            "max",
            "--duration",
            "30s",
            "--bytes-max",
            "4MB",
            "--buffer-bytes",
            "16KiB",
        ],
    );
    assert_eq!(
        failures(&outcome, Durability::Accepted),
        Vec::<String>::new()
    );
    // The bytes are taken by chunks of 16 records.
    assert!((3_984..=4_000).contains(&outcome.sent), "{}", outcome.sent);
}

#[test]
fn a_consumer_from_now_misses_nothing_and_gets_nothing_older() {
    let cluster = cluster(1);
    let plan = plan(&[]);
    let connect = connect(&cluster, &plan);
    let mut outlet = connect.outlet(&plan.phases[0].batching, 1 << 20).unwrap();
    outlet.send(0, None, b"older", 0).unwrap();
    outlet.flush().unwrap();
    let mut inlet = connect.inlet(0, vec![0], From::Now).unwrap();
    outlet.send(0, Some(b"key"), b"newer", 1).unwrap();
    outlet.flush().unwrap();
    let mut got = Vec::new();
    let began = Instant::now();
    while got.is_empty() && began.elapsed() < REQUEST_MAX {
        if let Some(delivery) = inlet.next(LOOK).unwrap() {
            let take = |record: crate::worker::port::Delivered<'_>| {
                let copy = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
                got.push((record.offset, copy(record.key), copy(record.value)));
            };
            delivery.for_each(take).unwrap();
        }
    }
    let newer = (1, Some(b"key".to_vec()), Some(b"newer".to_vec()));
    assert_eq!(got, [newer]);
}

#[test]
fn a_record_that_the_broker_refuses_is_answered_with_the_reason() {
    let cluster = cluster(1);
    let plan = plan(&[]);
    let connect = connect(&cluster, &plan);
    let mut outlet = connect.outlet(&plan.phases[0].batching, 1 << 20).unwrap();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
    );
    outlet.send(0, None, b"value", 0).unwrap();
    outlet.flush().unwrap();
    let mut answers = Vec::new();
    outlet.answers(&mut answers);
    let refusal = answers[0].result.clone().unwrap_err();
    assert!(refusal.contains("uthorization"), "{refusal}");
}
