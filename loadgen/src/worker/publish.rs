//! The producer's thread.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::phase::SharedPhase;
use super::port::{Answer, Outlet};
use crate::latency::LatencyHistogram;
use crate::ledger::Ledger;
use crate::options::Rate;
use crate::report::Durability;
use crate::schedule::Schedule;
use crate::usage;
use crate::verify::{Filler, Key, RecordHead, RecordShape};

/// The clock is read, and answers are taken, about every so many bytes when sending as fast as it goes.
const CHUNK_BYTES: u64 = 16 * 1024;
/// At a fixed rate a sleep is at most this, so that answers are counted and an end is noticed.
const SLEEP_NS_MAX: u64 = 50_000_000;
/// While records are due, answers are taken after this many at the latest.
const SENT_UNTIL_ANSWERS: u32 = 64;
const FAILURES_KEPT: usize = 3;

/// One producer: its number, its books, and its way of filling records.
#[derive(Debug)]
pub struct ProducerWorker {
    run: u32,
    producer: u32,
    producers: u32,
    filler: Arc<Filler>,
    shape: Arc<RecordShape>,
    /// As large as the largest; each record is its beginning.
    record: Vec<u8>,
    ledger: Ledger,
    next_partition: u32,
}

/// What a producer measured in one phase.
#[derive(Debug, Default)]
pub struct PublishedPhase {
    /// Records acknowledged in the measured time.
    pub acked: u64,
    /// The bytes of their values.
    pub acked_bytes: u64,
    /// Of the records due in the measured time.
    pub latency: LatencyHistogram,
    /// How late records were handed to the client.
    pub late: LatencyHistogram,
    /// The lowest durability that an answer stated.
    pub durability: Option<Durability>,
    /// The share of the time this thread had nothing to do.
    pub waiting: Option<f64>,
    /// What failed, the first few: a sentence each.
    pub failures: Vec<String>,
}

impl ProducerWorker {
    /// Producer `producer` of `producers`.
    #[must_use]
    pub fn new(
        run: u32,
        producer: u32,
        producers: u32,
        filler: Arc<Filler>,
        shape: Arc<RecordShape>,
    ) -> Self {
        Self {
            run,
            producer,
            producers,
            filler,
            record: vec![0; shape.bytes_max()],
            ledger: Ledger::new(shape.partitions()),
            // Producers start at different partitions.
            next_partition: producer % shape.partitions_used().max(1),
            shape,
        }
    }

    /// Its books.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Sends until the phase ends, then waits for the answers.
    pub fn run_phase(
        &mut self,
        phase: &SharedPhase,
        rate: Rate,
        records_in_turn: u64,
        outlet: &mut impl Outlet,
    ) -> PublishedPhase {
        let mut sending = Sending {
            worker: self,
            phase,
            outlet,
            answers: Vec::new(),
            published: PublishedPhase::default(),
        };
        phase.clock.sleep_until_ns(phase.start_ns);
        let before = usage::thread_ran_and_waited();
        let began_ns = phase.clock.now_ns();
        match rate {
            Rate::PerSecond(records_per_s) => sending.keep_schedule(records_per_s),
            Rate::Max => sending.send_all_it_takes(records_in_turn),
        }
        let elapsed = Duration::from_nanos(phase.clock.now_ns() - began_ns);
        sending.published.waiting =
            before
                .zip(usage::thread_ran_and_waited())
                .map(|(before, after)| {
                    let busy = (after.0 - before.0) + (after.1 - before.1);
                    (1.0 - busy.as_secs_f64() / elapsed.as_secs_f64().max(1e-9)).clamp(0.0, 1.0)
                });
        sending.finish()
    }
}

struct Sending<'a, O> {
    worker: &'a mut ProducerWorker,
    phase: &'a SharedPhase,
    outlet: &'a mut O,
    answers: Vec<Answer>,
    published: PublishedPhase,
}

impl<O: Outlet> Sending<'_, O> {
    /// Open loop: each record at its time, and as soon as possible when that has passed.
    fn keep_schedule(&mut self, records_per_s: u64) {
        // A sleep that ends 50 us late, as is the default, would count as the broker's latency. Where it cannot be set, what is sent late is reported all the same.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let schedule = Schedule::new(
            self.phase.start_ns,
            records_per_s,
            self.worker.producers,
            self.worker.producer,
        );
        let mut since_answers = 0;
        for index in 0.. {
            let intended_ns = schedule.intended_ns(index);
            let mut now_ns = self.phase.clock.now_ns();
            while now_ns < intended_ns && self.phase.may_send(now_ns) {
                self.take_answers();
                since_answers = 0;
                self.phase
                    .clock
                    .sleep_until_ns(intended_ns.min(now_ns + SLEEP_NS_MAX));
                now_ns = self.phase.clock.now_ns();
            }
            // What is due before the end is sent, however late: else a stall near the end would not show.
            let sent = intended_ns < self.phase.end_ns
                && !self.phase.aborted()
                && self.phase.take_bytes(self.worker.bytes_of_next(1), now_ns)
                && self.send(self.worker.next_partition, intended_ns);
            if !sent {
                break;
            }
            if self.phase.is_measured(intended_ns) {
                self.published
                    .late
                    .record(now_ns.saturating_sub(intended_ns));
            }
            self.worker.turn();
            since_answers += 1;
            if since_answers == SENT_UNTIL_ANSWERS {
                self.take_answers();
                since_answers = 0;
            }
        }
        self.phase
            .stop(self.phase.end_ns.min(self.phase.clock.now_ns()));
    }

    /// As fast as the client takes them: a batch to each partition in turn.
    fn send_all_it_takes(&mut self, records_in_turn: u64) {
        // As many as are alike to the clock.
        let chunk = (CHUNK_BYTES / self.worker.shape.bytes_mean()).max(1);
        loop {
            let mut left = records_in_turn;
            while left > 0 {
                let now_ns = self.phase.clock.now_ns();
                let records = left.min(chunk);
                if !self.phase.may_send(now_ns)
                    || !self
                        .phase
                        .take_bytes(self.worker.bytes_of_next(records), now_ns)
                {
                    return;
                }
                for _ in 0..records {
                    if !self.send(self.worker.next_partition, now_ns) {
                        return;
                    }
                }
                left -= records;
                self.take_answers();
            }
            self.worker.turn();
        }
    }

    /// Whether the client took it. When not, the run is over.
    #[inline]
    fn send(&mut self, partition: u32, intended_ns: u64) -> bool {
        let worker = &mut *self.worker;
        let sequence = worker.ledger.next_sequence(partition);
        let head = RecordHead {
            run: worker.run,
            producer: worker.producer,
            partition,
            sequence,
            intended_ns,
        };
        let bytes = worker.shape.bytes(worker.producer, partition, sequence);
        let key = worker.shape.key(worker.producer, partition, sequence);
        let record = &mut worker.record[..bytes];
        head.write(&worker.filler, record);
        worker.ledger.book_sent(partition, intended_ns);
        self.phase.progress.sent.fetch_add(1, Relaxed);
        let key = key.as_ref().map(Key::as_bytes);
        match self.outlet.send(partition, key, record, sequence) {
            Ok(()) => true,
            Err(error) => {
                worker.ledger.unbook(partition);
                self.fail(format!("producer {}: {error}", self.worker.producer));
                false
            }
        }
    }

    fn take_answers(&mut self) {
        self.outlet.answers(&mut self.answers);
        let mut answers = std::mem::take(&mut self.answers);
        for answer in answers.drain(..) {
            self.take_answer(answer);
        }
        self.answers = answers;
    }

    fn take_answer(&mut self, answer: Answer) {
        let answered_ns = self.phase.clock.at_ns(answer.answered_at);
        let latency = &mut self.published.latency;
        let phase = self.phase;
        let booked = self.worker.ledger.book_answer(
            answer.partition,
            answer.first_token,
            answer.records,
            answer.result.is_ok(),
            |intended_ns, count| {
                if phase.is_measured(intended_ns) {
                    latency.record_many(answered_ns.saturating_sub(intended_ns), count);
                }
            },
        );
        if let Err(fault) = booked {
            self.fail(format!("producer {}: {fault}", self.worker.producer));
            return;
        }
        match answer.result {
            Ok(durability) => {
                self.phase.progress.acked.fetch_add(answer.records, Relaxed);
                if self.phase.is_measured(answered_ns) {
                    let answered =
                        answer.first_token..answer.first_token.saturating_add(answer.records);
                    self.published.acked += answer.records;
                    self.published.acked_bytes += self.worker.shape.bytes_of(
                        self.worker.producer,
                        answer.partition,
                        answered,
                    );
                }
                let lowest = &mut self.published.durability;
                *lowest = [*lowest, durability].into_iter().flatten().min();
            }
            Err(sentence) => self.fail(format!(
                "producer {}: {} record(s) to partition {} were refused: {sentence}",
                self.worker.producer, answer.records, answer.partition
            )),
        }
    }

    fn fail(&mut self, sentence: String) {
        if self.published.failures.len() < FAILURES_KEPT {
            self.published.failures.push(sentence);
        }
        self.phase.abort();
    }

    fn finish(mut self) -> PublishedPhase {
        if !self.phase.aborted()
            && let Err(error) = self.outlet.flush()
        {
            self.fail(format!("producer {}: {error}", self.worker.producer));
        }
        self.take_answers();
        self.published
    }
}

impl ProducerWorker {
    fn turn(&mut self) {
        self.next_partition = (self.next_partition + 1) % self.shape.partitions_used();
    }

    /// The bytes of the next `records` to the partition whose turn it is.
    fn bytes_of_next(&self, records: u64) -> u64 {
        let next = self.ledger.next_sequence(self.next_partition);
        self.shape
            .bytes_of(self.producer, self.next_partition, next..next + records)
    }
}
