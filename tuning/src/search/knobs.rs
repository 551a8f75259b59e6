//! The knobs of a Gannet broker and its client, and what settings of them mean to each.

use gannet_engine::control::config::{Config, ConfigKey, keys};
use gannet_engine::control::{Budgets, Machine};

use super::space::{Knob, Point, Space};
use crate::goal::Goal;

/// Names of the client's knobs begin so: they are not keys of the broker's configuration.
pub const CLIENT: &str = "client.";
/// The client's default for batches in flight: as many as the broker takes.
const UNBOUNDED: &str = "unbounded";
const MIB: u64 = 1 << 20;
/// With more values a knob would take most of the time for itself.
const SHARDS_TRIED_MAX: u16 = 8;

/// A knob whose values do not depend on the machine.
struct Plain {
    name: &'static str,
    values: &'static [&'static str],
}

const fn plain(name: &'static str, values: &'static [&'static str]) -> Plain {
    Plain { name, values }
}

const COMMIT_INTERVAL: Plain = plain(
    "journal.commit_interval_us",
    &["0", "100", "250", "500", "1000", "2000", "4000"],
);
const COMMITS_IN_FLIGHT: Plain =
    plain("journal.commits_in_flight_max", &["1", "2", "4", "8", "16"]);
const COMMIT_BYTES: Plain = plain(
    "journal.commit_bytes_max",
    &["\"512 KiB\"", "\"1 MiB\"", "\"2 MiB\""],
);
const BUSY_POLL: Plain = plain("runtime.busy_poll_us", &["0", "50", "200", "1000"]);
const PIN: Plain = plain("runtime.pin", &["true", "false"]);
const DIRECT_BYTES: Plain = plain(
    "storage.direct_bytes_min",
    &["\"256 KiB\"", "\"512 KiB\"", "\"1 MiB\""],
);
const FLUSH_WRITES: Plain = plain("storage.flush_writes_in_flight_max", &["1", "2", "4", "8"]);
const FLUSH_WRITE_BYTES: Plain = plain(
    "storage.flush_write_bytes",
    &[
        "\"128 KiB\"",
        "\"256 KiB\"",
        "\"512 KiB\"",
        "\"1 MiB\"",
        "\"2 MiB\"",
    ],
);
const JOURNAL_FILE: Plain = plain(
    "journal.file_bytes",
    &["\"32 MiB\"", "\"64 MiB\"", "\"128 MiB\"", "\"256 MiB\""],
);
const SEGMENT_BYTES: Plain = plain(
    "storage.segment_bytes_max",
    &["\"128 MiB\"", "\"256 MiB\"", "\"512 MiB\""],
);
const READ_QUANTUM: Plain = plain(
    "network.read_quantum_bytes",
    &["\"64 KiB\"", "\"256 KiB\"", "\"1 MiB\""],
);
const CONNECTION_BUFFER: Plain = plain(
    "network.connection_buffer_bytes_max",
    &["\"2 MiB\"", "\"4 MiB\"", "\"16 MiB\""],
);

/// What can be tried on this machine, those knobs first that promise most for the goal.
#[must_use]
pub fn space(goal: &Goal, machine: &Machine, record_bytes: u64) -> Space {
    let commits = [COMMIT_INTERVAL, COMMITS_IN_FLIGHT, COMMIT_BYTES].map(|plain| plain.knob());
    let client = [linger(), in_flight(), batch_bytes(record_bytes)];
    let cores = [
        shards(machine),
        Some(BUSY_POLL.knob()),
        chosen_cores(machine),
        Some(PIN.knob()),
    ];
    let flushing = [FLUSH_WRITES, FLUSH_WRITE_BYTES, DIRECT_BYTES].map(|plain| plain.knob());
    let budgets = [flush_bytes(machine), unflushed_bytes(machine)];
    let others =
        [JOURNAL_FILE, SEGMENT_BYTES, READ_QUANTUM, CONNECTION_BUFFER].map(|plain| plain.knob());
    let (commits, client) = (commits.to_vec(), client.to_vec());
    let first = match goal {
        Goal::Latency { .. } => [commits, client],
        // How much goes into one batch comes before how it is committed.
        Goal::Throughput { .. } => [client.into_iter().rev().collect(), commits],
    };
    let knobs = first.into_iter().flatten();
    let knobs = knobs.chain(cores.into_iter().flatten()).chain(flushing);
    Space::new(
        knobs
            .chain(budgets.into_iter().flatten())
            .chain(others)
            .collect(),
    )
}

/// The text of a configuration file for the broker: what is not at its default, a line each.
#[must_use]
pub fn broker_toml(space: &Space, point: &Point) -> String {
    space
        .changes(point)
        .filter(|(name, _)| !name.starts_with(CLIENT))
        .map(|(name, value)| format!("{name} = {value}\n"))
        .collect()
}

/// Options of the load generator for the client.
#[must_use]
pub fn client_arguments(space: &Space, point: &Point) -> Vec<String> {
    space
        .settings(point)
        .filter_map(|(name, value)| {
            let option = match name.strip_prefix(CLIENT)? {
                "batch_bytes" => "--batch-bytes",
                "linger_us" => "--linger-us",
                "inflight" if value == UNBOUNDED => return None,
                "inflight" => "--inflight",
                _ => return None,
            };
            Some([option.to_owned(), value.to_owned()])
        })
        .flatten()
        .collect()
}

/// What a client's setting is called where a program sets it, and what it trades.
#[must_use]
pub fn client_trades(name: &str) -> &'static str {
    match name {
        "client.batch_bytes" => {
            "ProducerConfig::batch_bytes: the largest batch. Larger costs less for each record; smaller waits less to be full."
        }
        "client.linger_us" => {
            "ProducerConfig::linger: how long a batch waits for more records. Longer makes larger batches, and every record waits so long at most."
        }
        "client.inflight" => {
            "ProducerConfig::inflight_max: batches of a partition that are not acknowledged yet. More fill a longer way; fewer make larger batches while the broker is busy."
        }
        _ => "",
    }
}

impl Plain {
    fn knob(&self) -> Knob {
        let values = self
            .values
            .iter()
            .map(|value| (*value).to_owned())
            .collect();
        with_default(self.name, values)
    }
}

/// A knob that is a key of the configuration; its default is the key's.
fn with_default(name: &'static str, values: Vec<String>) -> Knob {
    let default = keys().iter().find(|key| key.name == name);
    let is_default = |value: &String| default.is_some_and(|key: &ConfigKey| key.default == value);
    Knob {
        // A default that is not among the values leaves the knob out, and a test says so.
        default: values.iter().position(is_default).unwrap_or(usize::MAX),
        name,
        values,
    }
}

fn linger() -> Knob {
    Knob {
        name: "client.linger_us",
        values: ["0", "100", "250", "500", "1000", "2000"]
            .map(str::to_owned)
            .to_vec(),
        default: 0,
    }
}

fn in_flight() -> Knob {
    Knob {
        name: "client.inflight",
        values: ["1", "2", "4", "8", "16", UNBOUNDED]
            .map(str::to_owned)
            .to_vec(),
        default: 5,
    }
}

/// Batches that have room for a record at least; the default is the load generator's.
fn batch_bytes(record_bytes: u64) -> Knob {
    const DEFAULT: u64 = 128 << 10;
    let least = record_bytes.saturating_add(1 << 10);
    let values: Vec<u64> = [
        16 << 10,
        32 << 10,
        64 << 10,
        DEFAULT,
        256 << 10,
        512 << 10,
        1 << 20,
    ]
    .into_iter()
    .filter(|bytes| *bytes >= least || *bytes == DEFAULT)
    .collect();
    Knob {
        name: "client.batch_bytes",
        default: values
            .iter()
            .position(|bytes| *bytes == DEFAULT)
            .unwrap_or(usize::MAX),
        values: values.iter().map(u64::to_string).collect(),
    }
}

fn budgets(machine: &Machine) -> Option<Budgets> {
    Config::default().budgets(machine).ok()
}

/// One shard, two, and so on to one for each core; what "auto" would be is called that.
fn shards(machine: &Machine) -> Option<Knob> {
    let auto = budgets(machine)?.shards;
    let cores = u16::try_from(machine.cores.len()).unwrap_or(u16::MAX);
    let mut counts: Vec<u16> = (1..=cores.min(SHARDS_TRIED_MAX))
        .chain([auto, cores])
        .collect();
    counts.sort_unstable();
    counts.dedup();
    let written = |count: u16| {
        if count == auto {
            "\"auto\"".to_owned()
        } else {
            count.to_string()
        }
    };
    Some(with_default(
        "shards",
        counts.into_iter().map(written).collect(),
    ))
}

/// The cores from the first on, or from the last on, where clients, the kernel and most interrupts are not.
fn chosen_cores(machine: &Machine) -> Option<Knob> {
    (machine.cores.len() > 1).then(|| {
        let last_first: Vec<String> = machine.cores.iter().rev().map(u16::to_string).collect();
        let reversed = format!("[{}]", last_first.join(", "));
        with_default("runtime.cores", vec!["\"auto\"".to_owned(), reversed])
    })
}

fn flush_bytes(machine: &Machine) -> Option<Knob> {
    let budgets = budgets(machine)?;
    around_auto(
        "storage.flush_bytes",
        budgets.flush_bytes,
        &[4, 2],
        &[2, 4],
        |bytes| bytes <= budgets.shard_unflushed_bytes_max / 2,
    )
}

fn unflushed_bytes(machine: &Machine) -> Option<Knob> {
    let auto = budgets(machine)?.unflushed_bytes_max;
    // More than a quarter of the memory is nobody's to take by default.
    around_auto(
        "storage.unflushed_bytes_max",
        auto,
        &[4, 2],
        &[2],
        |bytes| bytes <= machine.memory_bytes / 4,
    )
}

/// Parts and multiples of what "auto" is, in whole MiB.
fn around_auto(
    name: &'static str,
    auto: u64,
    parts: &[u64],
    times: &[u64],
    fits: impl Fn(u64) -> bool,
) -> Option<Knob> {
    let whole = |bytes: u64| Some(bytes / MIB).filter(|whole| *whole > 0 && fits(whole * MIB));
    let written = |whole: u64| format!("\"{whole} MiB\"");
    let smaller = parts
        .iter()
        .filter_map(|part| whole(auto / part))
        .map(written);
    let larger = times
        .iter()
        .filter_map(|times| whole(auto.checked_mul(*times)?))
        .map(written);
    let values = smaller.chain(["\"auto\"".to_owned()]).chain(larger);
    Some(with_default(name, values.collect()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gannet_engine::control::config::Auto;

    use super::*;
    use crate::search::space::KnobIndex;

    fn machine(cores: u16) -> Machine {
        Machine {
            cores: (0..cores).collect(),
            memory_bytes: 16 << 30,
            descriptors_max: 1 << 20,
        }
    }

    fn goals() -> [Goal; 2] {
        ["p99 < 2ms at 1 MB/s", "max throughput"].map(|goal| goal.parse().unwrap())
    }

    #[test]
    fn every_knob_is_offered_with_its_default() {
        for goal in goals() {
            let names: Vec<_> = space(&goal, &machine(4), 1000)
                .knobs()
                .iter()
                .map(|knob| knob.name)
                .collect();
            assert_eq!(names.len(), 19, "{names:?}");
        }
    }

    #[test]
    fn the_broker_takes_every_value_beside_the_defaults() {
        for cores in [1, 2, 3, 4, 64] {
            let machine = machine(cores);
            let space = space(&goals()[0], &machine, 1000);
            let default = space.default_point();
            for (knob, index) in space.knobs().iter().zip(space.indexes()) {
                for value in 0..knob.values.len() {
                    let text = broker_toml(&space, &default.with(index, value));
                    let config = Config::from_toml(Path::new("gannet.toml"), &text);
                    let budgets = config.and_then(|config| config.budgets(&machine));
                    // A larger backlog goes straight to a segment than a smaller commit has room for: the engine says no to that beside some defaults.
                    if let Err(error) = budgets {
                        panic!("{cores} cores: {text}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_defaults_need_no_configuration_at_all() {
        let space = space(&goals()[0], &machine(2), 1000);
        assert_eq!(broker_toml(&space, &space.default_point()), "");
    }

    #[test]
    fn on_two_cores_auto_stands_for_one_shard() {
        let knob = shards(&machine(2)).unwrap();
        assert_eq!(knob.values, ["\"auto\"", "2"]);
        assert_eq!(Config::default().shards, Auto::Auto);
    }

    #[test]
    fn a_machine_with_one_core_offers_nothing_about_cores() {
        let space = space(&goals()[0], &machine(1), 1000);
        let names: Vec<_> = space.knobs().iter().map(|knob| knob.name).collect();
        assert!(
            !names.contains(&"shards") && !names.contains(&"runtime.cores"),
            "{names:?}"
        );
    }

    #[test]
    fn the_client_gets_its_settings_as_options() {
        let space = space(&goals()[0], &machine(2), 1000);
        let default = space.default_point();
        assert_eq!(
            client_arguments(&space, &default),
            ["--linger-us", "0", "--batch-bytes", "131072"]
        );
        let inflight = space
            .knobs()
            .iter()
            .position(|knob| knob.name == "client.inflight");
        let one = default.with(KnobIndex(inflight.unwrap()), 0);
        assert!(client_arguments(&space, &one).ends_with(&["131072".to_owned()]));
        assert!(client_arguments(&space, &one).contains(&"--inflight".to_owned()));
        assert_eq!(broker_toml(&space, &one), "");
    }

    #[test]
    fn batches_have_room_for_a_record() {
        let knob = batch_bytes(100_000);
        assert_eq!(knob.values, ["131072", "262144", "524288", "1048576"]);
        assert_eq!(knob.default, 0);
    }
}
