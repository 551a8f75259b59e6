//! A scenario as a broker's own tool can be told it.

use gannet_loadgen::options::Rate;
use gannet_loadgen::scenario::Scenario;
use gannet_loadgen::sizes::RecordSizes;

/// Batches in flight for each producer and partition where the scenario leaves it to the client: what Kafka's client has, and what our drivers give the clients of AMQP and NATS.
/// Gannet's has up to what its server allows.
const INFLIGHT: u32 = 5;

/// What the tools understand of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) partitions: u32,
    pub(super) record_bytes: u64,
    /// `None`: as fast as it goes.
    pub(super) records_per_s: Option<u64>,
    pub(super) batch_bytes: u64,
    pub(super) batch_records: Option<u32>,
    pub(super) linger_us: u64,
    /// Batches.
    pub(super) inflight: u32,
    /// Whether it is consumed while it is published, or after.
    pub(super) consumed_meanwhile: bool,
}

impl Workload {
    /// `None` for what no tool can be told: several producers, several readers, records of several sizes.
    pub(super) fn of(scenario: &Scenario) -> Option<Self> {
        let RecordSizes::Fixed(record_bytes) = scenario.record_size else {
            return None;
        };
        let one_each = scenario.producers.get() == 1
            && scenario.consumers <= 1
            && scenario.fan_out.get() == 1
            && scenario.keys == 0;
        one_each.then(|| Self {
            partitions: scenario.partitions.get(),
            record_bytes: record_bytes as u64,
            records_per_s: match scenario.rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::Max => None,
            },
            batch_bytes: scenario.batch_bytes,
            batch_records: scenario.batch_records.map(Into::into),
            linger_us: scenario.linger_us,
            inflight: scenario.inflight.map_or(INFLIGHT, Into::into),
            consumed_meanwhile: scenario.consumers > 0,
        })
    }

    /// Records in flight, over all partitions: what a client that sends each record by itself is told.
    pub(super) fn records_in_flight(&self) -> u64 {
        let in_batch = (self.batch_bytes / self.record_bytes.max(1))
            .min(self.batch_records.map_or(u64::MAX, u64::from))
            .max(1);
        in_batch * u64::from(self.inflight) * u64::from(self.partitions)
    }

    /// The largest batch in bytes, also where the scenario bounds it by records.
    pub(super) fn batch_bytes(&self) -> u64 {
        self.batch_records.map_or(self.batch_bytes, |records| {
            // A client's own framing included; one more record does not fit.
            let whole = u64::from(records) * (self.record_bytes + RECORD_OVERHEAD_BYTES);
            self.batch_bytes.min(whole)
        })
    }
}

/// Less than a record, more than what goes around one.
const RECORD_OVERHEAD_BYTES: u64 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(text: &str) -> Option<Workload> {
        Workload::of(&Scenario::parse("test.toml", text).unwrap())
    }

    #[test]
    fn a_window_of_batches_is_one_of_records_too() {
        let large =
            workload("record_size = 1000\nbatch_bytes = \"128KiB\"\npartitions = 2").unwrap();
        assert_eq!(large.records_in_flight(), 131 * 5 * 2);
        let single = workload("batch_records = 1\ninflight = 62\npartitions = 16").unwrap();
        assert_eq!(single.records_in_flight(), 992);
    }

    #[test]
    fn a_batch_of_one_record_has_no_room_for_two() {
        let single = workload("record_size = 1000\nbatch_records = 1").unwrap();
        assert!(single.batch_bytes() > 1000 && single.batch_bytes() < 2000);
    }

    #[test]
    fn what_no_tool_can_be_told_is_not_asked_of_one() {
        assert_eq!(workload("fan_out = 10"), None);
        assert_eq!(workload("producers = 2"), None);
        assert_eq!(workload("record_size = { uniform = [100, 200] }"), None);
    }
}
