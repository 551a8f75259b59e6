//! Memory of a broker that does nothing, with more and more partitions, and then connections, that do nothing.

use std::time::Duration;

use gannet_wire::client::ClientConfig;
use gannet_wire::client::blocking::Client;
use gannet_wire::frame::TopicOptions;

use crate::race::broker::Broker;
use crate::race::session::RaceError;

use super::limits::Needs;
use super::{IdleFigure, IdleMemory};

/// Partitions there are in the end.
const PARTITIONS: [u64; 6] = [0, 100, 1_000, 10_000, 50_000, 100_000];
const CONNECTIONS: [u64; 5] = [0, 10, 100, 500, 1_000];
const TINY: usize = 3;

/// What a broker does after it was asked to hold something is over in this time.
const SETTLED: Duration = Duration::from_secs(2);
const TINY_SETTLED: Duration = Duration::from_millis(100);

/// What its broker must take.
pub(super) fn needs() -> Needs {
    Needs {
        partitions: added_partitions(false).into_iter().max().unwrap_or(0),
        ..Needs::default()
    }
}

/// With more and more partitions, in a new topic for each step. `enter` gets each figure as soon as it is known, and that of a step that failed too: the next one is tried all the same.
pub(super) fn partitions(
    broker: &Broker,
    tiny: bool,
    mut enter: impl FnMut(IdleFigure) -> Result<(), RaceError>,
) -> Result<(), RaceError> {
    let client = connect(broker);
    let mut there = 0;
    for count in partitions_of(tiny) {
        let created = match &client {
            Ok(_) if count == there => Ok(()),
            Ok(client) => create(client, count, count - there),
            Err(reason) => Err(reason.clone()),
        };
        if created.is_ok() {
            there = count;
        }
        enter(figure(broker, count, created, tiny))?;
    }
    Ok(())
}

/// How many each step adds.
pub(super) fn added_partitions(tiny: bool) -> Vec<u64> {
    let mut there = 0;
    let added = |count: u64| count - std::mem::replace(&mut there, count);
    partitions_of(tiny).into_iter().map(added).collect()
}

/// With more and more clients that have said who they are, and nothing since. `enter` as with partitions.
pub(super) fn connections(
    broker: &Broker,
    tiny: bool,
    mut enter: impl FnMut(IdleFigure) -> Result<(), RaceError>,
) -> Result<(), RaceError> {
    let mut clients = Vec::new();
    for count in connections_of(tiny) {
        let mut connected = Ok(());
        while connected.is_ok() && (clients.len() as u64) < count {
            connected = connect(broker).map(|client| clients.push(client));
        }
        enter(figure(broker, count, connected, tiny))?;
    }
    Ok(())
}

/// How many partitions there are after each step.
pub(super) fn partitions_of(tiny: bool) -> Vec<u64> {
    steps(&PARTITIONS, tiny)
}

/// How many connections there are after each step.
pub(super) fn connections_of(tiny: bool) -> Vec<u64> {
    steps(&CONNECTIONS, tiny)
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

fn create(client: &Client, count: u64, added: u64) -> Result<(), String> {
    let added = u32::try_from(added).map_err(|error| error.to_string())?;
    client
        .create_topic(&format!("idle-{count}"), added, TopicOptions::default())
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Resident memory once what was going on has had its time.
fn figure(broker: &Broker, count: u64, reached: Result<(), String>, tiny: bool) -> IdleFigure {
    let settled = reached.and_then(|()| {
        std::thread::sleep(if tiny { TINY_SETTLED } else { SETTLED });
        broker.usage().map_err(|error| error.to_string())
    });
    IdleFigure {
        count,
        memory: match settled {
            Ok(usage) => IdleMemory::Bytes(usage.rss_bytes),
            Err(reason) => IdleMemory::Failed(reason),
        },
    }
}
