//! Memory of a broker that does nothing, with more and more partitions, and then connections, that do nothing.

use std::time::Duration;

use gannet_wire::client::ClientConfig;
use gannet_wire::client::blocking::Client;
use gannet_wire::frame::TopicOptions;

use crate::race::broker::Broker;

use super::IdleFigure;

/// Partitions there are in the end; a broker bounds them.
const PARTITIONS: [u64; 6] = [0, 100, 1_000, 10_000, 50_000, 99_000];
const CONNECTIONS: [u64; 5] = [0, 10, 100, 500, 1_000];
const TINY: usize = 3;

/// What a broker does after it was asked to hold something is over in this time.
const SETTLED: Duration = Duration::from_secs(2);
const TINY_SETTLED: Duration = Duration::from_millis(100);

/// With more and more partitions, in a new topic for each step.
pub(super) fn partitions(broker: &Broker, tiny: bool) -> Result<Vec<IdleFigure>, String> {
    let client = connect(broker)?;
    let mut figures = Vec::new();
    let mut there = 0;
    for count in steps(&PARTITIONS, tiny) {
        if count > there {
            let more = u32::try_from(count - there).map_err(|error| error.to_string())?;
            client
                .create_topic(&format!("idle-{count}"), more, TopicOptions::default())
                .map_err(|error| error.to_string())?;
            there = count;
        }
        figures.push(settled(broker, count, tiny)?);
    }
    Ok(figures)
}

/// With more and more clients that have said who they are, and nothing since.
pub(super) fn connections(broker: &Broker, tiny: bool) -> Result<Vec<IdleFigure>, String> {
    let mut clients = Vec::new();
    let mut figures = Vec::new();
    for count in steps(&CONNECTIONS, tiny) {
        while (clients.len() as u64) < count {
            clients.push(connect(broker)?);
        }
        figures.push(settled(broker, count, tiny)?);
    }
    Ok(figures)
}

fn steps(all: &[u64], tiny: bool) -> Vec<u64> {
    all.iter()
        .copied()
        .take(if tiny { TINY } else { all.len() })
        .collect()
}

fn connect(broker: &Broker) -> Result<Client, String> {
    Client::connect(broker.address().as_str(), ClientConfig::default())
        .map_err(|error| error.to_string())
}

/// Resident memory once what was going on has had its time.
fn settled(broker: &Broker, count: u64, tiny: bool) -> Result<IdleFigure, String> {
    std::thread::sleep(if tiny { TINY_SETTLED } else { SETTLED });
    let usage = broker.usage().map_err(|error| error.to_string())?;
    Ok(IdleFigure {
        count,
        rss_bytes: usage.rss_bytes,
    })
}
