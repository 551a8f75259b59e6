//! Prints a topic's records from where its group left off, and commits what it printed.
//!
//! `cargo run -p gannet-wire --example consumer -- 127.0.0.1:7470 orders printers`
#![allow(
    clippy::disallowed_macros,
    reason = "an example stays as short as it can be"
)]

use std::error::Error;
use std::time::Duration;

use gannet_wire::PartitionIndex;
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientConfig, ConsumerConfig};
use gannet_wire::frame::Start;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:7470".to_owned());
    let topic = arguments.next().unwrap_or_else(|| "orders".to_owned());
    let group = arguments.next().unwrap_or_else(|| "printers".to_owned());

    let client = Client::connect(address, ClientConfig::default())?;
    let described = client.describe_topic(&topic)?;
    let partitions: Vec<PartitionIndex> = described
        .partitions
        .iter()
        .map(|partition| partition.partition)
        .collect();
    let starts: Vec<(PartitionIndex, Start)> = client
        .fetch_offsets(&group, &described, &partitions)?
        .into_iter()
        .map(|one| {
            (
                one.partition,
                one.offset.map_or(Start::Earliest, Start::Offset),
            )
        })
        .collect();

    let mut consumer = client.consumer_at(&described, &starts, ConsumerConfig::default())?;
    loop {
        let Some(delivery) = consumer.next(Duration::from_secs(1))? else {
            continue;
        };
        for (offset, record) in delivery.iter() {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default());
            println!("{}/{offset}: {value}", delivery.partition);
        }
        // After a crash the group begins here again: a record may be printed twice, none is left out.
        client.commit_offsets(
            &group,
            &described,
            &[(delivery.partition, delivery.position())],
        )?;
    }
}
