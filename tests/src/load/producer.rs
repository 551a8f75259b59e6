//! A producer that sends pieces of drawn sizes to each partition in turn until it is told to stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gannet_engine::io::sim::Random;
use gannet_loadgen::verify::{HEAD_BYTES, RecordHead};
use gannet_wire::PartitionIndex;
use gannet_wire::client::blocking::{Client, Producer};
use gannet_wire::client::{DeliveryReport, ProducerConfig};

use super::history::{Acked, Refused};
use super::{LoadPlan, Shared};

/// The largest record.
pub(super) const RECORD_BYTES_MAX: usize = 16 << 10;
/// A pause between two rounds over all partitions, so that a load of some seconds stays one of some megabytes.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a producer rests that could not hand over a record.
const REST: Duration = Duration::from_millis(20);
/// What may wait in a client: a broker that is gone for long must not be followed by a flood.
const BUFFER_BYTES_MAX: usize = 4 << 20;

pub(super) fn produce(shared: &Shared, plan: &LoadPlan, number: u32, client: &Client) {
    let config = ProducerConfig {
        buffer_bytes_max: BUFFER_BYTES_MAX,
        ..ProducerConfig::default()
    };
    let producer = client
        .producer(&plan.topic, config)
        .expect("the topic exists");
    let mut random = Random::new(plan.seed ^ u64::from(number) << 32);
    let mut sent = vec![0; plan.partitions as usize];
    let mut reports = Vec::new();
    let mut value = vec![0; RECORD_BYTES_MAX];
    while !shared.producers_stop.load(Ordering::Relaxed) {
        for (partition, sent) in (0..).zip(&mut sent) {
            let (records, record_bytes) = piece(&mut random);
            for _ in 0..records {
                let record = value
                    .get_mut(..record_bytes)
                    .expect("no record is larger than the largest");
                let head = RecordHead {
                    run: 0,
                    producer: number,
                    partition,
                    sequence: *sent,
                    intended_ns: 0,
                };
                head.write(&shared.filler, record);
                let partition = Some(PartitionIndex(partition));
                if let Err(error) =
                    producer.send_with(partition, None, Some(record), &[], None, *sent)
                {
                    // It was not taken, and goes again.
                    shared
                        .history()
                        .trouble(format!("producer {number}: {error}"));
                    std::thread::sleep(REST);
                    break;
                }
                *sent += 1;
            }
        }
        enter_reports(shared, number, &producer, &mut reports);
        std::thread::sleep(PAUSE);
    }
    if let Err(error) = producer.flush() {
        shared
            .history()
            .trouble(format!("producer {number}: {error}"));
    }
    enter_reports(shared, number, &producer, &mut reports);
    assert_eq!(producer.reports_lost(), 0, "reports are fetched in time");
    shared.history().sent(number, &sent);
}

/// How many records of which size: mostly a few small ones, now and then as much as a broker writes to a segment at once.
fn piece(random: &mut Random) -> (u64, usize) {
    if random.chance(1, 200) {
        return (64, RECORD_BYTES_MAX);
    }
    let record_bytes = match random.below(4) {
        0 => HEAD_BYTES,
        1 => 4 << 10,
        _ => random.between(HEAD_BYTES as u64, 1_000) as usize,
    };
    (random.between(1, 8), record_bytes)
}

fn enter_reports(
    shared: &Shared,
    number: u32,
    producer: &Producer,
    reports: &mut Vec<DeliveryReport>,
) {
    producer.acks(reports);
    if reports.is_empty() {
        return;
    }
    let mut history = shared.history();
    let mut acked_records = 0;
    for report in reports.drain(..) {
        let first = report.first_token.expect("every record has a token");
        let records = u64::from(report.records);
        match report.result {
            Ok(delivered) => {
                acked_records += records;
                history.acked(Acked {
                    producer: number,
                    partition: report.partition.0,
                    first,
                    records,
                    base_offset: delivered.base_offset.0,
                });
            }
            Err(error) => history.refused(Refused {
                producer: number,
                partition: report.partition.0,
                first,
                records,
                why: error.to_string(),
            }),
        }
    }
    drop(history);
    shared
        .acked_records
        .fetch_add(acked_records, Ordering::Relaxed);
}
