//! The workers against a broker in memory, sound and faulty.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::port::{Answer, Delivered, Delivery, Inlet, Outlet, PortError};
use super::*;
use crate::clock::RunClock;
use crate::options::Rate;
use crate::report::Durability;
use crate::sizes::RecordSizes;
use crate::verify::{Filler, Findings, RecordShape, Verifier};

/// What the broker in memory does wrong to the record with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Lose(u64),
    Double(u64),
    SwapWithNext(u64),
    FlipBit(u64),
    WrongPartition(u64),
    DropKey(u64),
    Refuse(u64),
    AckAsAccepted,
    AckWithoutWord,
}

#[derive(Clone)]
struct Record {
    partition: u32,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

type Stored = Arc<Mutex<VecDeque<Record>>>;

struct MemoryOutlet {
    stored: Stored,
    fault: Fault,
    answers: Vec<Answer>,
    taken: u64,
    held_back: Option<Record>,
    stall: Option<(u64, Duration)>,
}

impl MemoryOutlet {
    fn new(stored: &Stored, fault: Fault) -> Self {
        Self {
            stored: stored.clone(),
            fault,
            answers: Vec::new(),
            taken: 0,
            held_back: None,
            stall: None,
        }
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
        let number = self.taken;
        self.taken += 1;
        if let Some((at, stall)) = self.stall
            && at == number
        {
            std::thread::sleep(stall);
        }
        let mut stored = self.stored.lock().unwrap();
        let mut record = Record {
            partition,
            key: key.map(<[u8]>::to_vec),
            value: value.to_vec(),
        };
        match self.fault {
            Fault::Lose(at) | Fault::Refuse(at) if at == number => {}
            Fault::Double(at) if at == number => {
                stored.push_back(record.clone());
                stored.push_back(record);
            }
            Fault::SwapWithNext(at) if at == number => self.held_back = Some(record),
            Fault::FlipBit(at) if at == number => {
                record.value[50] ^= 1;
                stored.push_back(record);
            }
            Fault::WrongPartition(at) if at == number => {
                record.partition = 1 - partition;
                stored.push_back(record);
            }
            Fault::DropKey(at) if at == number => {
                record.key = None;
                stored.push_back(record);
            }
            _ => {
                stored.push_back(record);
                stored.extend(self.held_back.take());
            }
        }
        drop(stored);
        self.answers.push(Answer {
            partition,
            first_token: token,
            records: 1,
            answered_at: Instant::now(),
            result: match self.fault {
                Fault::Refuse(at) if at == number => Err("no".to_owned()),
                Fault::AckAsAccepted => Ok(Some(Durability::Accepted)),
                Fault::AckWithoutWord => Ok(None),
                _ => Ok(Some(Durability::Durable)),
            },
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

struct MemoryInlet {
    stored: Stored,
    next_offsets: [u64; 2],
}

struct MemoryDelivery {
    offset: u64,
    record: Record,
}

impl Inlet for MemoryInlet {
    type Delivery = MemoryDelivery;

    fn next(&mut self, timeout: Duration) -> Result<Option<MemoryDelivery>, PortError> {
        let Some(record) = self.stored.lock().unwrap().pop_front() else {
            std::thread::sleep(timeout.min(Duration::from_millis(1)));
            return Ok(None);
        };
        let offset = &mut self.next_offsets[record.partition as usize];
        *offset += 1;
        Ok(Some(MemoryDelivery {
            offset: *offset - 1,
            record,
        }))
    }
}

impl Delivery for MemoryDelivery {
    fn partition(&self) -> u32 {
        self.record.partition
    }

    fn for_each(&self, mut take: impl FnMut(Delivered<'_>)) -> Result<(), PortError> {
        take(Delivered {
            offset: self.offset,
            key: self.record.key.as_deref(),
            value: Some(&self.record.value),
        });
        Ok(())
    }
}

struct Outcome {
    published: PublishedPhase,
    consumed: ConsumedPhase,
    findings: Findings,
    unacked: u64,
    sent: u64,
}

/// A run of one producer, one consumer and two partitions that sends 200 records of 100 bytes.
fn run(fault: Fault) -> Outcome {
    run_of(fault, RecordSizes::Fixed(100), 0)
}

/// The same with records of these sizes and so many keys, and as many records as make 20,000 bytes.
fn run_of(fault: Fault, sizes: RecordSizes, keys: u32) -> Outcome {
    run_at(
        Rate::Max,
        Some(20_000),
        Duration::from_secs(60),
        fault,
        None,
        RecordShape::new(sizes, keys, 2, 1),
    )
}

fn run_at(
    rate: Rate,
    bytes_max: Option<u64>,
    duration: Duration,
    fault: Fault,
    stall: Option<(u64, Duration)>,
    shape: RecordShape,
) -> Outcome {
    let filler = Arc::new(Filler::new(1, shape.bytes_max()));
    let shape = Arc::new(shape);
    let stored = Stored::default();
    let clock = RunClock::start();
    let phase = SharedPhase::new(clock, 0, 0, duration.as_nanos() as u64, bytes_max);
    let mut producer = ProducerWorker::new(7, 0, 1, filler.clone(), shape.clone());
    let mut consumer = ConsumerWorker::new(Verifier::new(7, 1, filler, shape));
    let mut outlet = MemoryOutlet {
        stall,
        ..MemoryOutlet::new(&stored, fault)
    };
    let mut inlet = MemoryInlet {
        stored,
        next_offsets: [0; 2],
    };
    let goal = OnceLock::new();
    let (published, consumed) = std::thread::scope(|scope| {
        let consuming = scope
            .spawn(|| consumer.run_phase(&phase, &goal, Duration::from_millis(50), &mut inlet));
        let published = producer.run_phase(&phase, rate, 10, &mut outlet);
        goal.set(producer.ledger().acked_total()).unwrap();
        (published, consuming.join().unwrap())
    });
    let ledger = producer.ledger();
    let findings = consumer.verifier().findings(
        |_| true,
        |_, partition| ledger.acked(partition),
        |_, partition| ledger.sent(partition),
    );
    Outcome {
        published,
        consumed,
        findings,
        unacked: ledger.unacked_total(),
        sent: ledger.sent_total(),
    }
}

#[test]
fn a_sound_broker_passes_and_every_record_is_counted() {
    let outcome = run(Fault::None);
    assert!(outcome.findings.is_clean());
    assert_eq!(
        (
            outcome.sent,
            outcome.unacked,
            outcome.consumed.records_total
        ),
        (200, 0, 200)
    );
    assert!(outcome.published.failures.is_empty());
    assert_eq!(outcome.published.durability, Some(Durability::Durable));
}

#[test]
fn a_broker_that_loses_a_record_is_found_out() {
    assert_eq!(
        run(Fault::Lose(100)).findings,
        Findings {
            lost: 1,
            reordered: 0,
            ..Findings::default()
        }
    );
}

#[test]
fn a_broker_that_loses_the_last_record_is_found_out() {
    assert_eq!(run(Fault::Lose(199)).findings.lost, 1);
}

#[test]
fn a_broker_that_doubles_a_record_is_found_out() {
    assert_eq!(
        run(Fault::Double(100)).findings,
        Findings {
            duplicated: 1,
            ..Findings::default()
        }
    );
}

#[test]
fn a_broker_that_doubles_the_last_record_is_found_out() {
    assert_eq!(run(Fault::Double(199)).findings.duplicated, 1);
}

#[test]
fn a_broker_that_swaps_two_records_is_found_out() {
    assert_eq!(
        run(Fault::SwapWithNext(100)).findings,
        Findings {
            reordered: 1,
            ..Findings::default()
        }
    );
}

#[test]
fn a_broker_that_flips_a_bit_is_found_out() {
    let findings = run(Fault::FlipBit(100)).findings;
    assert_eq!((findings.corrupt, findings.lost), (1, 1));
}

#[test]
fn a_broker_that_mixes_up_partitions_is_found_out() {
    let findings = run(Fault::WrongPartition(100)).findings;
    assert_eq!((findings.corrupt, findings.lost), (1, 1));
}

#[test]
fn a_refused_record_fails_the_run() {
    let outcome = run(Fault::Refuse(100));
    assert!(!outcome.published.failures.is_empty());
    assert!(outcome.unacked >= 1);
}

#[test]
fn an_ack_that_means_less_than_durable_is_reported_as_such() {
    assert_eq!(
        run(Fault::AckAsAccepted).published.durability,
        Some(Durability::Accepted)
    );
}

#[test]
fn an_ack_that_says_nothing_about_durability_is_reported_as_none() {
    let outcome = run(Fault::AckWithoutWord);
    assert_eq!(outcome.published.durability, None);
    assert_eq!((outcome.unacked, outcome.sent), (0, 200));
}

#[test]
fn records_of_drawn_sizes_under_keys_are_sent_checked_and_counted_by_their_bytes() {
    let sizes = RecordSizes::Uniform { min: 60, max: 200 };
    let outcome = run_of(Fault::None, sizes, 9);
    assert!(outcome.findings.is_clean(), "{:?}", outcome.findings);
    assert!(outcome.published.failures.is_empty());
    let bytes = outcome.published.acked_bytes;
    assert_eq!(outcome.consumed.bytes_total, bytes);
    // The bytes are taken by chunks of ten records, and the one that does not fit is not sent.
    assert!((18_000..=20_000).contains(&bytes), "{bytes}");
    assert_ne!(bytes, outcome.sent * 130);
}

#[test]
fn a_broker_that_drops_a_key_is_found_out() {
    let findings = run_of(Fault::DropKey(100), RecordSizes::Fixed(100), 9).findings;
    assert_eq!((findings.corrupt, findings.lost), (1, 1));
}

#[test]
fn a_stall_shows_in_the_latency_of_every_record_due_during_it() {
    let stall = Duration::from_millis(100);
    let outcome = run_at(
        Rate::PerSecond(1000),
        None,
        Duration::from_millis(300),
        Fault::None,
        Some((100, stall)),
        RecordShape::new(RecordSizes::Fixed(100), 0, 2, 1),
    );
    assert_eq!(outcome.sent, 300, "a stall drops nothing from the schedule");
    let latency = outcome.published.latency.summary();
    assert_eq!(latency.count, 300);
    // 100 of 300 records were due during the stall; half of those waited 50 ms or more.
    assert!(latency.max >= 99_000.0, "{latency:?}");
    assert!(latency.p90 >= 50_000.0, "{latency:?}");
    assert!(outcome.published.late.summary().max >= 90_000.0);
}
