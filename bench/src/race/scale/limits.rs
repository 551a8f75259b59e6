//! What a point asks of the broker's limits, and the configuration that raises those which would refuse it.

use gannet_engine::control::Config;
use gannet_engine::limits::{
    FRAME_OVERHEAD_BYTES_MIN, PARTITION_DESCRIPTION_BYTES, SUBSCRIPTIONS_MAX,
};

/// What a broker must take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Partitions of one topic.
    pub(super) partitions: u64,
    /// Bytes of a batch.
    pub(super) batch_bytes: u64,
    /// Partitions that are consumed over one connection.
    pub(super) subscriptions: u64,
}

impl Needs {
    /// A topic of so many partitions, all of them consumed by as few connections as may be.
    pub(super) fn of_partitions(partitions: u64) -> Self {
        Self {
            partitions,
            subscriptions: partitions.min(SUBSCRIPTIONS_MAX),
            ..Self::default()
        }
    }

    /// The broker's configuration, as TOML: what it is by default but for limits that are too low. Empty where none is.
    pub(super) fn configuration(self) -> String {
        let Config {
            network, topics, ..
        } = Config::default();
        // A topic is described in one frame, and a batch is sent in one.
        let frame_bytes = (self.batch_bytes + FRAME_OVERHEAD_BYTES_MIN)
            .max(self.partitions * PARTITION_DESCRIPTION_BYTES)
            .max(network.frame_bytes_max.into());
        [
            (
                "topics.partitions_max",
                u64::from(topics.partitions_max),
                self.partitions,
            ),
            (
                "network.subscriptions_max",
                network.subscriptions_max.into(),
                self.subscriptions,
            ),
            (
                "network.batch_bytes_max",
                network.batch_bytes_max.into(),
                self.batch_bytes,
            ),
            (
                "network.decompressed_bytes_max",
                network.decompressed_bytes_max.into(),
                self.batch_bytes,
            ),
            (
                "network.frame_bytes_max",
                network.frame_bytes_max.into(),
                frame_bytes,
            ),
            (
                "network.connection_buffer_bytes_max",
                network.connection_buffer_bytes_max,
                frame_bytes,
            ),
        ]
        .into_iter()
        .filter(|(_, default, needed)| needed > default)
        .map(|(key, _, needed)| format!("{key} = {needed}\n"))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use gannet_engine::control::Machine;
    use gannet_loadgen::driver::native::consumers_min;
    use gannet_loadgen::options::CommandLine;
    use gannet_loadgen::plan::Plan;

    use super::super::points::{greedy_neighbour, paced_neighbour, points, retention};
    use super::super::{Axis, idle};
    use super::*;

    /// The broker's configuration, as it takes it.
    fn configured(needs: Needs) -> Config {
        let text = needs.configuration();
        let config = Config::from_toml(Path::new("scale.toml"), &text)
            .unwrap_or_else(|error| panic!("{needs:?}: {error}"));
        let small = Machine {
            cores: vec![0, 1],
            memory_bytes: 4 << 30,
            descriptors_max: 1 << 20,
        };
        config
            .budgets(&small)
            .unwrap_or_else(|error| panic!("{needs:?}: {error}"));
        config
    }

    /// The run, as the generator takes it.
    fn planned(arguments: &[String]) -> Plan {
        let told = ["gannet-loadgen", "--duration", "10s"].map(str::to_owned);
        let line = CommandLine::try_parse_from([&told[..], arguments].concat())
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        Plan::new(&line.options).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    fn assert_taken(plan: &Plan, config: &Config) {
        plan.check_records(config.network.batch_bytes_max).unwrap();
        for phase in &plan.phases {
            assert!(phase.batching.batch_bytes <= config.network.batch_bytes_max);
        }
        assert!(plan.partitions <= config.topics.partitions_max);
        // Nobody may consume more of them over one connection, neither meanwhile nor when all is read again.
        let readers = plan.consumers.max(consumers_min(plan.partitions));
        if plan.consumers > 0 {
            assert!(plan.partitions.div_ceil(plan.consumers) <= config.network.subscriptions_max);
        }
        assert!(plan.partitions.div_ceil(readers) <= config.network.subscriptions_max);
        let clients = plan.producers + plan.fan_out * plan.consumers.max(readers);
        assert!(clients * 2 <= config.network.connections_max);
    }

    #[test]
    fn every_planned_point_is_taken_by_the_generator_and_by_the_broker_it_has() {
        for tiny in [false, true] {
            for axis in Axis::ALL {
                for point in points(axis, tiny) {
                    let mut arguments = point.arguments;
                    if let Some(partitions) = point.retained_partitions {
                        arguments.extend(retention(partitions, 1 << 30));
                    }
                    assert_taken(&planned(&arguments), &configured(point.needs));
                }
            }
        }
    }

    #[test]
    fn the_neighbours_are_taken_by_a_broker_as_it_is_by_default() {
        for arguments in [paced_neighbour(), greedy_neighbour(1 << 30)] {
            assert_taken(&planned(&arguments), &Config::default());
        }
    }

    #[test]
    fn every_topic_of_idle_partitions_and_every_idle_connection_is_taken() {
        let config = configured(idle::needs());
        for tiny in [false, true] {
            for added in idle::added_partitions(tiny) {
                assert!(added <= u64::from(config.topics.partitions_max));
            }
            for connections in idle::connections_of(tiny) {
                assert!(connections < u64::from(config.network.connections_max));
            }
        }
    }

    #[test]
    fn what_the_defaults_take_needs_no_configuration() {
        let needs = Needs {
            batch_bytes: 128 << 10,
            ..Needs::of_partitions(1_000)
        };
        assert_eq!(needs.configuration(), "");
    }

    #[test]
    fn only_the_limits_that_are_too_low_are_raised() {
        let large = Needs {
            batch_bytes: 2 << 20,
            ..Needs::default()
        };
        assert_eq!(
            large.configuration(),
            "network.batch_bytes_max = 2097152\nnetwork.frame_bytes_max = 2101248\n"
        );
    }

    #[test]
    fn as_many_partitions_and_as_large_a_batch_as_a_broker_can_take_are_configured() {
        use gannet_engine::limits::{BATCH_BYTES_MAX, PARTITIONS_MAX};
        let most = Needs {
            batch_bytes: BATCH_BYTES_MAX,
            ..Needs::of_partitions(PARTITIONS_MAX)
        };
        let config = configured(most);
        assert_eq!(u64::from(config.topics.partitions_max), PARTITIONS_MAX);
        assert_eq!(u64::from(config.network.batch_bytes_max), BATCH_BYTES_MAX);
    }
}
