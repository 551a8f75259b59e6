//! The steps of a run: phases, the kill, the reading of everything, and what they add up to.

mod generator;
mod kill;
mod phase;
mod referee;
mod reread;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use crate::broker::{BrokerError, OwnBroker};
use crate::clock::RunClock;
use crate::latency::LatencySummary;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::progress::ProgressLine;
use crate::report::{KillReport, PhaseReport, RereadReport};
use crate::verify::{Filler, Findings, RecordShape, Verifier};
use crate::worker::port::{Connect, From, PortError};
use crate::worker::{ConsumerWorker, ProducerWorker};

pub use generator::{limited_by_generator, reread_limited_by_generator};
pub use referee::{Referee, Seen};
pub use verdict::{failures, notes};

/// How long consumers wait for what was acknowledged before it counts as lost.
const DRAIN_IDLE_MAX: Duration = Duration::from_secs(10);
/// How long single publishes are measured with `--limits`.
const ALONE: Duration = Duration::from_secs(3);

/// Why a run could not be made. That records were lost is no such reason: it is a result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The client could not do what it must before anything is measured.
    #[error("{what}: {source}")]
    Client {
        /// What it should do.
        what: &'static str,
        /// What it said.
        source: PortError,
    },
    /// The broker of this run.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

fn client_error(what: &'static str) -> impl FnOnce(PortError) -> RunError {
    move |source| RunError::Client { what, source }
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All phases, in order.
    pub phases: Vec<PhaseReport>,
    /// What was wrong with the records.
    pub findings: Findings,
    /// The same for each group of consumers, as far as it was published to them meanwhile; empty unless there are several.
    pub group_findings: Vec<Findings>,
    /// Records sent.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records sent but not acknowledged.
    pub unacked: u64,
    /// The reading of everything.
    pub reread: Option<RereadReport>,
    /// The kill.
    pub kill: Option<KillReport>,
    /// Single publishes, with `--limits`.
    pub publish_alone: Option<LatencySummary>,
    /// What failed on the way: a sentence each.
    pub failures: Vec<String>,
}

/// A run in progress.
pub struct Run<'a, C> {
    plan: &'a Plan,
    connect: &'a C,
    broker: Option<&'a mut OwnBroker>,
    progress: &'a mut ProgressLine,
    clock: RunClock,
    run: u32,
    filler: Arc<Filler>,
    shape: Arc<RecordShape>,
    producers: Vec<ProducerWorker>,
    referee: Option<Referee<'a>>,
    outcome: Outcome,
}

impl<'a, C: Connect> Run<'a, C> {
    /// A run by that plan; `run` tells its records from those of others, `seed` fills them.
    pub fn new(
        plan: &'a Plan,
        connect: &'a C,
        broker: Option<&'a mut OwnBroker>,
        progress: &'a mut ProgressLine,
        run: u32,
        seed: u64,
    ) -> Self {
        let filler = Arc::new(Filler::new(seed, plan.record_sizes.max()));
        let shape = Arc::new(RecordShape::new(
            plan.record_sizes.clone(),
            plan.keys,
            connect.partitions(),
            seed,
        ));
        let producers = (0..plan.producers)
            .map(|producer| {
                ProducerWorker::new(run, producer, plan.producers, filler.clone(), shape.clone())
            })
            .collect();
        Self {
            plan,
            connect,
            broker,
            progress,
            clock: RunClock::start(),
            run,
            filler,
            shape,
            producers,
            referee: None,
            outcome: Outcome::default(),
        }
    }

    /// Has its phases watched by one who may end them early. What was sent until then is acknowledged, consumed and verified as always.
    #[must_use]
    pub fn watched_by(mut self, referee: Referee<'a>) -> Self {
        self.referee = Some(referee);
        self
    }

    /// Does all of it.
    ///
    /// # Errors
    /// [`RunError`] when there is nothing to report.
    pub fn execute(mut self) -> Result<Outcome, RunError> {
        if self.plan.limits {
            self.publish_alone()?;
        }
        self.run_phases()?;
        // What was measured and verified by now is a result, whatever fails from here on.
        if self.plan.kill && !self.has_failed() {
            let killed = self.kill_under_load();
            self.outcome
                .failures
                .extend(killed.err().map(|error| error.to_string()));
        }
        if self.plan.reread && !self.has_failed() {
            let reread = self.reread();
            self.outcome
                .failures
                .extend(reread.err().map(|error| error.to_string()));
        }
        let ledgers = self.producers.iter().map(ProducerWorker::ledger);
        for ledger in ledgers {
            self.outcome.sent += ledger.sent_total();
            self.outcome.acked += ledger.acked_total();
            self.outcome.unacked += ledger.unacked_total();
        }
        Ok(self.outcome)
    }

    fn publish_alone(&mut self) -> Result<(), RunError> {
        self.progress.step("publishing with none other in flight");
        let mut record = vec![0; self.plan.record_bytes()];
        let head = crate::verify::RecordHead {
            run: self.run,
            producer: u32::MAX,
            partition: 0,
            sequence: 0,
            intended_ns: 0,
        };
        head.write(&self.filler, &mut record);
        let latency = self
            .connect
            .publish_alone(&record, ALONE)
            .map_err(client_error("publishing one by one"))?;
        self.outcome.publish_alone = Some(latency.summary());
        Ok(())
    }

    fn run_phases(&mut self) -> Result<(), RunError> {
        let consumers = self.plan.consumers;
        // The consumers of one group after those of another.
        let mut workers = self.consumer_workers(self.plan.fan_out * consumers);
        let mut inlets = Vec::new();
        for group in 0..self.plan.fan_out {
            // What another run left in the topic is passed over, by beginning behind it and by its run's number.
            inlets.extend(self.inlets(group, consumers, From::Now)?);
        }
        for phase in &self.plan.phases {
            match self.run_phase(phase, &mut workers, &mut inlets) {
                // The phases before it have results.
                Err(error) if !self.outcome.phases.is_empty() => {
                    self.outcome.failures.push(error.to_string());
                }
                done => done?,
            }
            if self.has_failed() {
                break;
            }
        }
        let groups: Vec<Findings> = workers
            .chunks(consumers.max(1) as usize)
            .map(|group| self.findings(group))
            .collect();
        for findings in &groups {
            self.outcome.findings.merge(findings);
        }
        if self.plan.fan_out > 1 {
            self.outcome.group_findings = groups;
        }
        Ok(())
    }

    fn consumer_workers(&self, consumers: u32) -> Vec<ConsumerWorker> {
        let verifier = || {
            Verifier::new(
                self.run,
                self.plan.producers,
                self.filler.clone(),
                self.shape.clone(),
            )
        };
        (0..consumers)
            .map(|_| ConsumerWorker::new(verifier()))
            .collect()
    }

    /// One for each consumer of the group, with its share of the partitions.
    fn inlets(&self, group: u32, consumers: u32, from: From) -> Result<Vec<C::Inlet>, RunError> {
        (0..consumers)
            .map(|consumer| {
                let partitions = (0..self.connect.partitions())
                    .filter(|partition| owner(*partition, consumers) == consumer);
                self.connect
                    .inlet(group, partitions.collect(), from)
                    .map_err(client_error("subscribing"))
            })
            .collect()
    }

    /// What the consumers of one group found, together responsible for all partitions.
    fn findings(&self, workers: &[ConsumerWorker]) -> Findings {
        // A run that failed midway did not wait for its consumers: what they had not got yet says nothing.
        let drained = !self.has_failed();
        let ledger = |producer: u32| {
            self.producers
                .get(producer as usize)
                .map(ProducerWorker::ledger)
        };
        let acked = |producer, partition| {
            ledger(producer)
                .filter(|_| drained)
                .map_or(0, |ledger| ledger.acked(partition))
        };
        let sent =
            |producer, partition| ledger(producer).map_or(0, |ledger| ledger.sent(partition));
        let mut all = Findings::default();
        let consumers = workers.len() as u32;
        for (worker, consumer) in workers.iter().zip(0..) {
            let owned = |partition| owner(partition, consumers) == consumer;
            all.merge(&worker.verifier().findings(owned, acked, sent));
        }
        all
    }

    fn has_failed(&self) -> bool {
        !self.outcome.failures.is_empty()
    }
}

/// Which of several consumers a partition belongs to.
fn owner(partition: u32, consumers: u32) -> u32 {
    partition % consumers.max(1)
}

/// How many records acknowledged so far each consumer must get.
fn goals(producers: &[ProducerWorker], partitions: u32, consumers: u32) -> Vec<u64> {
    let mut goals = vec![0; consumers as usize];
    for partition in 0..partitions {
        let acked: u64 = producers
            .iter()
            .map(ProducerWorker::ledger)
            .map(|ledger: &Ledger| ledger.acked(partition))
            .sum();
        if let Some(goal) = goals.get_mut(owner(partition, consumers) as usize) {
            *goal += acked;
        }
    }
    goals
}

#[cfg(test)]
mod tests;
