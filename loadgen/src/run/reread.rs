//! Everything read again, from the oldest record.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::phase::joined;
use super::{DRAIN_IDLE_MAX, Run, RunError, goals};
use crate::progress::TICK;
use crate::report::{FlowReport, RereadReport};
use crate::usage::{self, MachineUsage, ProcessUsage};
use crate::worker::port::{Connect, From};
use crate::worker::{ConsumedPhase, SharedPhase};

impl<C: Connect> Run<'_, C> {
    /// Reads the whole topic with consumers that have seen nothing, and checks every record.
    pub(super) fn reread(&mut self) -> Result<(), RunError> {
        self.progress.step("reading everything from the start");
        let consumers = self.plan.consumers.max(self.connect.consumers_min());
        let mut workers = self.consumer_workers(consumers);
        let began = Began::now();
        let mut inlets = self.inlets(0, consumers, From::Start)?;
        let phase = SharedPhase::new(self.clock, self.clock.now_ns(), 0, 0, None);
        let goals: Vec<OnceLock<u64>> =
            goals(&self.producers, self.connect.partitions(), consumers)
                .into_iter()
                .map(OnceLock::from)
                .collect();
        let sent: u64 = self
            .producers
            .iter()
            .map(|producer| producer.ledger().acked_total())
            .sum();

        let (consumed, took) = std::thread::scope(|scope| {
            let phase = &phase;
            let reading: Vec<_> = workers
                .iter_mut()
                .zip(&mut inlets)
                .zip(&goals)
                .map(|((worker, inlet), goal)| {
                    scope.spawn(move || {
                        let consumed = worker.run_phase(phase, goal, DRAIN_IDLE_MAX, inlet);
                        (consumed, usage::thread_ran_and_waited())
                    })
                })
                .collect();
            // What comes after the last record is a wait for doubles: it is not reading time.
            let mut read_all = None;
            while !reading.iter().all(ScopedJoinHandle::is_finished) {
                std::thread::sleep(TICK / 10);
                let consumed = phase.progress.consumed.load(Relaxed);
                if consumed >= sent && read_all.is_none() {
                    read_all = Some(began.took());
                }
                self.progress.counts(sent, sent, consumed);
            }
            (
                joined::<(ConsumedPhase, _)>(reading),
                read_all.unwrap_or_else(|| began.took()),
            )
        });
        let (consumed, ran): (Vec<_>, Vec<_>) = consumed.into_iter().unzip();
        self.outcome.failures.extend(
            consumed
                .iter()
                .filter_map(|consumed| consumed.failure.clone()),
        );
        let records = consumed.iter().map(|consumed| consumed.records_total).sum();
        let bytes = consumed.iter().map(|consumed| consumed.bytes_total).sum();
        self.outcome.reread = Some(RereadReport {
            flow: FlowReport::of_bytes(records, bytes, took.seconds),
            seconds: took.seconds,
            consumers,
            consumers_waiting: waiting(&ran, took.seconds),
            generator_cpu_cores: took
                .generator_cpu
                .map(|cpu| cpu.as_secs_f64() / took.seconds.max(1e-9)),
            machine_busy: took.machine_busy,
        });
        let findings = self.findings(&workers);
        self.outcome.findings.merge(&findings);
        Ok(())
    }
}

/// The mean share of `seconds` in which threads that ran and waited for a core for so long did neither. `None` where the kernel did not count one.
fn waiting(threads: &[Option<(Duration, Duration)>], seconds: f64) -> Option<f64> {
    let shares: Option<Vec<f64>> = threads
        .iter()
        .map(|thread| {
            let (ran, waited) = (*thread)?;
            let busy = (ran + waited).as_secs_f64() / seconds.max(1e-9);
            Some((1.0 - busy).clamp(0.0, 1.0))
        })
        .collect();
    let shares = shares?;
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

/// When reading began, and what had been used by then.
struct Began {
    at: Instant,
    generator: Option<ProcessUsage>,
    machine: Option<MachineUsage>,
}

/// What was used since; absent where `/proc` does not tell.
struct Took {
    seconds: f64,
    generator_cpu: Option<Duration>,
    machine_busy: Option<f64>,
}

impl Began {
    fn now() -> Self {
        Self {
            generator: ProcessUsage::of_this_process().ok(),
            machine: MachineUsage::now().ok(),
            at: Instant::now(),
        }
    }

    fn took(&self) -> Took {
        let seconds = self.at.elapsed().as_secs_f64();
        let used = ProcessUsage::of_this_process().ok();
        let machine = MachineUsage::now().ok();
        Took {
            seconds,
            generator_cpu: used
                .zip(self.generator)
                .map(|(now, before)| now.cpu.saturating_sub(before.cpu)),
            machine_busy: machine
                .zip(self.machine)
                .map(|(now, before)| now.busy_since(&before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_wait_while_they_neither_run_nor_want_to() {
        let ms = Duration::from_millis;
        let threads = [Some((ms(500), ms(250))), Some((ms(1_000), ms(500)))];
        assert_eq!(waiting(&threads, 1.0), Some(0.125));
        assert_eq!(waiting(&[threads[0], None], 1.0), None);
        assert_eq!(waiting(&[], 1.0), None);
    }
}
