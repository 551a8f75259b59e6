//! The consumer's thread.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::phase::SharedPhase;
use super::port::{Delivery, Inlet};
use crate::latency::LatencyHistogram;
use crate::verify::{Observed, Verifier};

/// How long one wait for a delivery is: how soon an end is noticed.
const WAIT: Duration = Duration::from_millis(50);
/// When all is there, a moment more: what comes twice may come last.
const LINGER: Duration = Duration::from_millis(100);

/// One consumer: what it has seen, over all phases.
#[derive(Debug)]
pub struct ConsumerWorker {
    verifier: Verifier,
}

/// What a consumer measured in one phase.
#[derive(Debug, Default)]
pub struct ConsumedPhase {
    /// Sound records delivered in the measured time.
    pub records: u64,
    /// The bytes of their values.
    pub bytes: u64,
    /// Sound records delivered in the phase.
    pub records_total: u64,
    /// The bytes of their values.
    pub bytes_total: u64,
    /// Of the records due in the measured time.
    pub latency: LatencyHistogram,
    /// Why it ended early: a sentence.
    pub failure: Option<String>,
}

impl ConsumerWorker {
    /// A consumer that has seen nothing.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier }
    }

    /// What it has seen.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Consumes until the producers are done (then `goal` holds how many records there are for this consumer, since the run began) and all is there, or until nothing more has come for
    /// `idle_max`.
    pub fn run_phase(
        &mut self,
        phase: &SharedPhase,
        goal: &OnceLock<u64>,
        idle_max: Duration,
        inlet: &mut impl Inlet,
    ) -> ConsumedPhase {
        let mut consumed = ConsumedPhase::default();
        // When something last came, or the producers were still at it.
        let mut last_seen = Instant::now();
        while !phase.aborted() {
            let delivered_all = goal
                .get()
                .is_some_and(|&goal| self.verifier.delivered() >= goal);
            let wait = if delivered_all { LINGER } else { WAIT };
            match inlet.next(wait) {
                Ok(Some(delivery)) => {
                    last_seen = Instant::now();
                    if let Err(sentence) = self.take(phase, &delivery, &mut consumed) {
                        consumed.failure = Some(sentence);
                        phase.abort();
                    }
                }
                Ok(None) if delivered_all => break,
                Ok(None) => match goal.get() {
                    None => last_seen = Instant::now(),
                    Some(_) if last_seen.elapsed() >= idle_max => break,
                    Some(_) => {}
                },
                Err(error) => {
                    consumed.failure = Some(format!("a consumer: {error}"));
                    phase.abort();
                }
            }
        }
        consumed
    }

    fn take(
        &mut self,
        phase: &SharedPhase,
        delivery: &impl Delivery,
        consumed: &mut ConsumedPhase,
    ) -> Result<(), String> {
        let now_ns = phase.clock.now_ns();
        let partition = delivery.partition();
        // Records due at the same time are counted in one go: as fast as it goes, many are.
        let (mut due_ns, mut due_records) = (0, 0_u64);
        let (mut sound, mut sound_bytes) = (0_u64, 0_u64);
        let latency = &mut consumed.latency;
        let mut count = |due_ns: u64, records: u64| {
            if records > 0 && phase.is_measured(due_ns) {
                latency.record_many(now_ns.saturating_sub(due_ns), records);
            }
        };
        let read = delivery.for_each(|record| {
            let observed = match record.value {
                Some(value) => self
                    .verifier
                    .observe(partition, record.offset, record.key, value),
                None => self.verifier.observe_null(),
            };
            if let Observed::Sound { intended_ns } = observed {
                sound += 1;
                sound_bytes += record.value.map_or(0, <[u8]>::len) as u64;
                if intended_ns != due_ns {
                    count(due_ns, due_records);
                    (due_ns, due_records) = (intended_ns, 0);
                }
                due_records += 1;
            }
        });
        count(due_ns, due_records);
        consumed.records_total += sound;
        consumed.bytes_total += sound_bytes;
        if phase.is_measured(now_ns) {
            consumed.records += sound;
            consumed.bytes += sound_bytes;
        }
        phase.progress.consumed.fetch_add(sound, Relaxed);
        read.map_err(|error| format!("a consumer, partition {partition}: {error}"))
    }
}
