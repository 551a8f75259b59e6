//! Everything read again, from the oldest record.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use super::phase::joined;
use super::{DRAIN_IDLE_MAX, Run, RunError, goals};
use crate::progress::TICK;
use crate::report::{FlowReport, RereadReport};
use crate::worker::port::{Connect, From};
use crate::worker::{ConsumedPhase, SharedPhase};

impl<C: Connect> Run<'_, C> {
    /// Reads the whole topic with consumers that have seen nothing, and checks every record.
    pub(super) fn reread(&mut self) -> Result<(), RunError> {
        self.progress.step("reading everything from the start");
        let consumers = self.plan.consumers.max(self.connect.consumers_min());
        let mut workers = self.consumer_workers(consumers);
        let began = Instant::now();
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

        let (consumed, seconds) = std::thread::scope(|scope| {
            let phase = &phase;
            let reading: Vec<_> = workers
                .iter_mut()
                .zip(&mut inlets)
                .zip(&goals)
                .map(|((worker, inlet), goal)| {
                    scope.spawn(move || worker.run_phase(phase, goal, DRAIN_IDLE_MAX, inlet))
                })
                .collect();
            // What comes after the last record is a wait for doubles: it is not reading time.
            let mut read_all = None;
            while !reading.iter().all(ScopedJoinHandle::is_finished) {
                std::thread::sleep(TICK / 10);
                let consumed = phase.progress.consumed.load(Relaxed);
                if consumed >= sent && read_all.is_none() {
                    read_all = Some(began.elapsed());
                }
                self.progress.counts(sent, sent, consumed);
            }
            (
                joined::<ConsumedPhase>(reading),
                read_all.unwrap_or_else(|| began.elapsed()).as_secs_f64(),
            )
        });
        self.outcome.failures.extend(
            consumed
                .iter()
                .filter_map(|consumed| consumed.failure.clone()),
        );
        let records = consumed.iter().map(|consumed| consumed.records_total).sum();
        let bytes = consumed.iter().map(|consumed| consumed.bytes_total).sum();
        self.outcome.reread = Some(RereadReport {
            flow: FlowReport::of_bytes(records, bytes, seconds),
            seconds,
        });
        let findings = self.findings(&workers);
        self.outcome.findings.merge(&findings);
        Ok(())
    }
}
