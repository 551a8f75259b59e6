//! The broker killed under load and started again.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::phase::joined;
use super::{Run, RunError, client_error};
use crate::latency::nanoseconds;
use crate::options::Rate;
use crate::report::KillReport;
use crate::worker::port::{Connect, PortError};
use crate::worker::{PublishedPhase, SharedPhase};

/// How long producers send before the kill.
const BEFORE_KILL: Duration = Duration::from_millis(700);
/// How long they go on once the new process has acknowledged something.
const AFTER_KILL: Duration = Duration::from_millis(300);
/// A broker that does not serve again in this time has failed.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// A client that has not reconnected in this time has failed.
const RECONNECT_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);
/// At most so many bytes are sent before and after: the reading of everything follows.
const BYTES_MAX: u64 = 2 << 30;

impl<C: Connect> Run<'_, C> {
    /// Kills the broker while producers send as fast as it goes, starts it again, and lets them finish against the new process: what was in flight they send again.
    pub(super) fn kill_under_load(&mut self) -> Result<(), RunError> {
        let (Some(last), true) = (self.plan.phases.last(), self.broker.is_some()) else {
            return Ok(());
        };
        self.progress
            .step("publishing, to kill the broker meanwhile");
        let mut outlets = self.outlets(last)?;
        let records_in_turn = last.batching.records_in_turn(self.plan.record_bytes());
        let duration = BEFORE_KILL + RECOVERY_MAX + RECONNECT_MAX + AFTER_KILL;
        let phase = SharedPhase::new(
            self.clock,
            self.clock.now_ns(),
            0,
            nanoseconds(duration),
            Some(BYTES_MAX),
        );
        let acked_before: u64 = self
            .producers
            .iter()
            .map(|producer| producer.ledger().acked_total())
            .sum();
        let mut producers = std::mem::take(&mut self.producers);

        let (published, killed) = std::thread::scope(|scope| {
            let phase = &phase;
            let publishing: Vec<_> = producers
                .iter_mut()
                .zip(&mut outlets)
                .map(|(worker, outlet)| {
                    scope.spawn(move || worker.run_phase(phase, Rate::Max, records_in_turn, outlet))
                })
                .collect();
            std::thread::sleep(BEFORE_KILL);
            let killed = self.kill_and_start_again(phase, acked_before);
            match killed {
                Ok(_) => phase.stop(phase.clock.now_ns()),
                // The producers must not wait for a broker that is not there.
                Err(_) => phase.abort(),
            }
            (joined::<PublishedPhase>(publishing), killed)
        });
        self.producers = producers;
        for published in published {
            self.outcome.failures.extend(
                published
                    .failures
                    .into_iter()
                    .map(|failure| format!("after the kill: {failure}")),
            );
        }
        let (mut report, acked_at_kill) = killed?;
        let acked: u64 = self
            .producers
            .iter()
            .map(|producer| producer.ledger().acked_total())
            .sum();
        report.acked_after = acked.saturating_sub(acked_before + acked_at_kill);
        self.outcome.kill = Some(report);
        Ok(())
    }

    /// The report but for what was acknowledged afterwards, and what this phase had acknowledged at the kill.
    fn kill_and_start_again(
        &mut self,
        phase: &SharedPhase,
        acked_before: u64,
    ) -> Result<(KillReport, u64), RunError> {
        let Some(broker) = self.broker.as_mut() else {
            return Ok((KillReport::default(), 0));
        };
        broker.kill()?;
        let acked = phase.progress.acked.load(Relaxed);
        let in_flight = phase.progress.sent.load(Relaxed).saturating_sub(acked);
        let stored_bytes = (acked_before + acked) * self.plan.record_bytes() as u64;
        self.progress.step("starting the killed broker again");
        let started = Instant::now();
        broker.start_again()?;
        self.until_serving(started)
            .map_err(client_error("reaching the broker after the kill"))?;
        let recovery_ms = started.elapsed().as_secs_f64() * 1e3;
        let serving = Instant::now();
        while phase.progress.acked.load(Relaxed) <= acked
            && !phase.aborted()
            && serving.elapsed() < RECONNECT_MAX
        {
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(AFTER_KILL);
        Ok((
            KillReport {
                stored_bytes,
                in_flight,
                recovery_ms,
                acked_after: 0,
            },
            acked,
        ))
    }

    fn until_serving(&self, started: Instant) -> Result<(), PortError> {
        loop {
            match self.connect.probe() {
                Ok(()) => return Ok(()),
                Err(error) if started.elapsed() >= RECOVERY_MAX => return Err(error),
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }
}
