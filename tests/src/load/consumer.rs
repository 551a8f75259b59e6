//! A consumer that takes everything from the beginning on until it is told to stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientError, ConsumerConfig, Partitions};
use gannet_wire::frame::Start;

use super::stored::Identity;
use super::{LoadPlan, Shared};

/// How soon an end is noticed.
const WAIT: Duration = Duration::from_millis(50);

pub(super) fn consume(shared: &Shared, plan: &LoadPlan, number: u32, client: &Client) {
    let mut consumer = client
        .consumer(
            &plan.topic,
            Partitions::All,
            Start::Earliest,
            ConsumerConfig::default(),
        )
        .expect("the topic exists");
    while !shared.consumers_stop.load(Ordering::Relaxed) {
        match consumer.next(WAIT) {
            Ok(Some(delivery)) => {
                let partition = delivery.partition;
                let records: Vec<_> = delivery
                    .iter()
                    .map(|(offset, record)| {
                        let value = record.value.unwrap_or_default();
                        (offset.0, Identity::of(value, partition, &shared.filler))
                    })
                    .collect();
                shared.history().delivered(number, partition.0, &records);
                shared
                    .delivered_records
                    .fetch_add(records.len() as u64, Ordering::Relaxed);
            }
            Ok(None) => {}
            // A further call tries again.
            Err(error @ ClientError::GaveUp { .. }) => {
                shared
                    .history()
                    .trouble(format!("consumer {number}: {error}"));
            }
            Err(error) => {
                shared
                    .history()
                    .trouble(format!("consumer {number}: {error}"));
                return;
            }
        }
    }
}
