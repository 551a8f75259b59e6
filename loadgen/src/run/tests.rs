//! Whole runs against a topic in memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;

use super::*;
use crate::latency::LatencyHistogram;
use crate::options::CommandLine;
use crate::plan::Batching;
use crate::report::Durability;
use crate::worker::port::{Answer, Delivered, Delivery, Inlet, Outlet};

type Log = Arc<Mutex<Vec<Vec<Record>>>>;

#[derive(Clone)]
struct Record {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

/// A topic in memory.
struct Memory {
    log: Log,
    partitions: u32,
    /// Nobody can read from the start.
    is_gone: bool,
    /// This group gets the first records of each partition twice.
    twice_served: Option<u32>,
    /// No consumer may have more partitions.
    partitions_of_one_max: u32,
}

struct MemoryOutlet {
    log: Log,
    answers: Vec<Answer>,
}

struct MemoryInlet {
    log: Log,
    /// Partition and next offset.
    positions: Vec<(u32, usize)>,
    /// Of these partitions, what is delivered first comes once more.
    to_double: BTreeSet<u32>,
}

struct MemoryDelivery {
    partition: u32,
    first: usize,
    records: Vec<Record>,
}

impl Connect for Memory {
    type Outlet = MemoryOutlet;
    type Inlet = MemoryInlet;

    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn consumers_min(&self) -> u32 {
        self.partitions.div_ceil(self.partitions_of_one_max)
    }

    fn outlet(&self, _batching: &Batching, _buffer_bytes: u64) -> Result<MemoryOutlet, PortError> {
        Ok(MemoryOutlet {
            log: self.log.clone(),
            answers: Vec::new(),
        })
    }

    fn inlet(
        &self,
        group: u32,
        partitions: Vec<u32>,
        from: From,
    ) -> Result<MemoryInlet, PortError> {
        if self.is_gone && from == From::Start {
            return Err(PortError("the broker is gone".to_owned()));
        }
        if partitions.len() > self.partitions_of_one_max as usize {
            return Err(PortError("too many partitions for one".to_owned()));
        }
        let log = self.log.lock().unwrap();
        let position = |partition: u32| match from {
            From::Start => 0,
            From::Now => log[partition as usize].len(),
        };
        let doubled = partitions
            .iter()
            .copied()
            .filter(|_| self.twice_served == Some(group));
        let positions = partitions
            .iter()
            .map(|&partition| (partition, position(partition)))
            .collect();
        Ok(MemoryInlet {
            log: self.log.clone(),
            positions,
            to_double: doubled.collect(),
        })
    }

    fn probe(&self) -> Result<(), PortError> {
        Ok(())
    }

    fn publish_alone(
        &self,
        _value: &[u8],
        _duration: Duration,
    ) -> Result<LatencyHistogram, PortError> {
        Ok(LatencyHistogram::default())
    }
}

impl Outlet for MemoryOutlet {
    fn send(
        &mut self,
        partition: u32,
        key: Option<&[u8]>,
        value: &[u8],
        token: u64,
    ) -> Result<(), PortError> {
        self.log.lock().unwrap()[partition as usize].push(Record {
            key: key.map(<[u8]>::to_vec),
            value: value.to_vec(),
        });
        self.answers.push(Answer {
            partition,
            first_token: token,
            records: 1,
            answered_at: Instant::now(),
            result: Ok(Some(Durability::Durable)),
        });
        Ok(())
    }

    fn answers(&mut self, into: &mut Vec<Answer>) {
        into.append(&mut self.answers);
    }

    fn flush(&mut self) -> Result<(), PortError> {
        Ok(())
    }
}

impl Inlet for MemoryInlet {
    type Delivery = MemoryDelivery;

    fn next(&mut self, timeout: Duration) -> Result<Option<MemoryDelivery>, PortError> {
        {
            let log = self.log.lock().unwrap();
            for (partition, position) in &mut self.positions {
                let records = &log[*partition as usize];
                if *position < records.len() {
                    let first = *position;
                    *position = records.len();
                    if self.to_double.remove(partition) {
                        *position = first;
                    }
                    return Ok(Some(MemoryDelivery {
                        partition: *partition,
                        first,
                        records: records[first..].to_vec(),
                    }));
                }
            }
        }
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
        Ok(None)
    }
}

impl Delivery for MemoryDelivery {
    fn partition(&self) -> u32 {
        self.partition
    }

    fn for_each(&self, mut take: impl FnMut(Delivered<'_>)) -> Result<(), PortError> {
        for (record, offset) in self.records.iter().zip(self.first..) {
            take(Delivered {
                offset: offset as u64,
                key: record.key.as_deref(),
                value: Some(&record.value),
            });
        }
        Ok(())
    }
}

fn memory(partitions: u32) -> Memory {
    Memory {
        log: Arc::new(Mutex::new(vec![Vec::new(); partitions as usize])),
        partitions,
        is_gone: false,
        twice_served: None,
        partitions_of_one_max: u32::MAX,
    }
}

fn run(connect: &Memory, arguments: &[&str]) -> Outcome {
    let line = CommandLine::try_parse_from([&["gannet-loadgen"], arguments].concat()).unwrap();
    let plan = Plan::new(&line.options).unwrap();
    let mut progress = ProgressLine::new();
    Run::new(&plan, connect, None, &mut progress, 1, 2)
        .execute()
        .unwrap()
}

#[test]
fn a_paced_run_sends_what_its_rate_says_and_all_comes_out() {
    let outcome = run(
        &memory(3),
        &[
            "--rate",
            "2000",
            "--duration",
            "500ms",
            "--producers",
            "2",
            "--consumers",
            "2",
            "--reread",
        ],
    );
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
    assert_eq!(outcome.sent, 1000);
    let reread = outcome.reread.unwrap();
    assert_eq!((reread.flow.records, reread.consumers), (1000, 2));
    assert!(reread.generator_cpu_cores.is_some_and(f64::is_finite));
    assert!(reread.machine_busy.is_some());
    let phase = &outcome.phases[0];
    // A quarter is the warm-up.
    assert_eq!(phase.publish.latency_us.count, 750);
    assert_eq!(phase.end_to_end.latency_us.count, 750);
    assert!((phase.seconds - 0.375).abs() < 0.001, "{}", phase.seconds);
}

#[test]
fn a_saturated_run_ends_at_its_bytes() {
    let outcome = run(
        &memory(2),
        &["--rate", "max", "--duration", "30s", "--bytes-max", "10MB"],
    );
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
    // Bytes are taken in chunks of 16 records; what does not fill the last is not sent.
    assert!(
        outcome.sent > 9_900 && outcome.sent <= 10_000,
        "{}",
        outcome.sent
    );
}

#[test]
fn without_consumers_everything_is_read_afterwards() {
    let outcome = run(
        &memory(2),
        &["--rate", "1000", "--duration", "200ms", "--consumers", "0"],
    );
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
    assert_eq!(outcome.phases[0].consume.records, 0);
    assert_eq!(outcome.reread.unwrap().flow.records, 200);
}

#[test]
fn what_was_measured_is_a_result_although_the_broker_goes_before_everything_is_read() {
    let gone = Memory {
        is_gone: true,
        ..memory(2)
    };
    let outcome = run(
        &gone,
        &["--rate", "1000", "--duration", "200ms", "--reread"],
    );
    assert_eq!((outcome.acked, outcome.phases.len()), (200, 1));
    let failures = failures(&outcome, Durability::Durable);
    assert!(failures[0].contains("the broker is gone"), "{failures:?}");
}

#[test]
fn what_another_run_left_in_the_topic_is_passed_over() {
    let memory = memory(2);
    let line = CommandLine::try_parse_from([
        "gannet-loadgen",
        "--rate",
        "1000",
        "--duration",
        "200ms",
        "--reread",
    ])
    .unwrap();
    let plan = Plan::new(&line.options).unwrap();
    for run in [1, 2] {
        let mut progress = ProgressLine::new();
        let outcome = Run::new(&plan, &memory, None, &mut progress, run, 2)
            .execute()
            .unwrap();
        assert_eq!(
            failures(&outcome, Durability::Durable),
            Vec::<String>::new()
        );
        assert_eq!(outcome.reread.unwrap().flow.records, 200);
    }
}

#[test]
fn more_consumers_than_partitions_is_no_problem() {
    let outcome = run(
        &memory(1),
        &["--rate", "1000", "--duration", "200ms", "--consumers", "3"],
    );
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
}

/// Two groups of two consumers, over three partitions.
const FAN_OUT: [&str; 8] = [
    "--rate",
    "1000",
    "--duration",
    "400ms",
    "--fan-out",
    "2",
    "--consumers",
    "2",
];

#[test]
fn each_group_gets_every_record_and_has_its_own_figures() {
    let outcome = run(&memory(3), &FAN_OUT);
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
    let phase = &outcome.phases[0];
    let counted: Vec<_> = phase
        .groups
        .iter()
        .map(|group| group.end_to_end.latency_us.count)
        .collect();
    // Of 400 records, a quarter is the warm-up.
    assert_eq!(counted, [300, 300]);
    assert_eq!(phase.end_to_end.latency_us.count, 600);
    assert_eq!(outcome.group_findings, [Findings::default(); 2]);
}

#[test]
fn what_one_of_several_groups_got_twice_is_doubled_for_that_group() {
    let memory = Memory {
        twice_served: Some(1),
        ..memory(3)
    };
    let outcome = run(&memory, &FAN_OUT);
    let [first, second] = outcome.group_findings[..] else {
        panic!("two groups: {:?}", outcome.group_findings);
    };
    assert_eq!(first, Findings::default());
    // At least the first record of each partition.
    assert!(second.duplicated >= 3, "{second:?}");
    assert_eq!(outcome.findings, second);
    assert!(!failures(&outcome, Durability::Durable).is_empty());
}

#[test]
fn a_single_group_has_no_figures_of_its_own() {
    let outcome = run(&memory(2), &["--rate", "1000", "--duration", "200ms"]);
    assert!(outcome.phases[0].groups.is_empty());
    assert!(outcome.group_findings.is_empty());
}

#[test]
fn keys_and_sizes_that_are_drawn_come_out_as_they_were_sent() {
    let line = CommandLine::try_parse_from([
        "gannet-loadgen",
        "--rate",
        "2000",
        "--duration",
        "300ms",
        "--reread",
        "--keys",
        "5",
    ])
    .unwrap();
    let mut plan = Plan::new(&line.options).unwrap();
    plan.record_sizes = crate::sizes::RecordSizes::Uniform { min: 40, max: 900 };
    let memory = memory(8);
    let mut progress = ProgressLine::new();
    let outcome = Run::new(&plan, &memory, None, &mut progress, 1, 2)
        .execute()
        .unwrap();
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
    let log = memory.log.lock().unwrap();
    let keyed = log
        .iter()
        .filter(|records| !records.is_empty() && records.iter().all(|one| one.key.is_some()));
    // As many partitions as keys get records.
    assert_eq!(keyed.count(), 5);
    let bytes: usize = log.iter().flatten().map(|one| one.value.len()).sum();
    let reread = outcome.reread.unwrap().flow;
    let mb = reread.mb_per_s * outcome.reread.unwrap().seconds;
    assert!((mb - bytes as f64 / 1e6).abs() < 1e-6, "{mb} MB of {bytes}");
}

#[test]
fn a_phase_that_its_referee_ends_sends_no_more_and_is_verified() {
    let memory = memory(2);
    let line = CommandLine::try_parse_from([
        "gannet-loadgen",
        "--rate",
        "2000",
        "--duration",
        "1h",
        "--reread",
    ])
    .unwrap();
    let plan = Plan::new(&line.options).unwrap();
    let mut progress = ProgressLine::new();
    let mut looks = 0;
    let mut ends = |seen: &Seen| {
        looks += 1;
        // In the warm-up, which is a second: nothing is measured yet.
        assert_eq!((seen.measured, seen.published), (Duration::ZERO, (0, 0)));
        looks == 5
    };
    let referee = Referee {
        slow: Duration::ZERO,
        ends: &mut ends,
    };
    let outcome = Run::new(&plan, &memory, None, &mut progress, 1, 2)
        .watched_by(referee)
        .execute()
        .unwrap();
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
    assert!(
        outcome.sent < 10_000,
        "what was due after the end was sent: {}",
        outcome.sent
    );
    assert_eq!(outcome.sent, outcome.reread.unwrap().flow.records);
}

#[test]
fn records_of_the_smallest_size_are_all_sent_consumed_and_read_again() {
    let arguments = ["--rate", "2000", "--duration", "200ms", "--reread"];
    let outcome = run(
        &memory(2),
        &[&arguments[..], &["--record-size", "16"]].concat(),
    );
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
    assert_eq!((outcome.sent, outcome.acked), (400, 400));
    assert_eq!(outcome.reread.unwrap().flow.records, 400);
    // Its time is in it too, so its way to the consumer is known.
    assert!(outcome.phases[0].end_to_end.latency_us.count > 0);
}

#[test]
fn everything_is_read_again_by_as_many_consumers_as_that_takes() {
    let memory = Memory {
        partitions_of_one_max: 2,
        ..memory(5)
    };
    let arguments = ["--rate", "2000", "--duration", "200ms", "--consumers", "0"];
    let outcome = run(&memory, &arguments);
    assert_eq!(
        failures(&outcome, Durability::Durable),
        Vec::<String>::new()
    );
    assert_eq!(outcome.reread.unwrap().flow.records, outcome.acked);
}

#[test]
fn a_referee_sees_how_many_records_were_slow() {
    let plan = |duration| {
        let line = CommandLine::try_parse_from([
            "gannet-loadgen",
            "--rate",
            "2000",
            "--duration",
            duration,
        ])
        .unwrap();
        Plan::new(&line.options).unwrap()
    };
    for (slow, is_slow) in [(Duration::ZERO, true), (Duration::MAX, false)] {
        let mut progress = ProgressLine::new();
        let mut last = None;
        let mut ends = |seen: &Seen| {
            last = Some(*seen);
            seen.published.0 >= 100 && seen.consumed.0 >= 100
        };
        let referee = Referee {
            slow,
            ends: &mut ends,
        };
        Run::new(&plan("1h"), &memory(2), None, &mut progress, 1, 2)
            .watched_by(referee)
            .execute()
            .unwrap();
        let seen = last.unwrap();
        for (measured, slow) in [seen.published, seen.consumed] {
            assert_eq!(slow, if is_slow { measured } else { 0 }, "{seen:?}");
        }
    }
}
