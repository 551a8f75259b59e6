//! One measured phase.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::{DRAIN_IDLE_MAX, Run, RunError, client_error, goals};
use crate::latency::{LatencyHistogram, nanoseconds};
use crate::options::Rate;
use crate::plan::PhasePlan;
use crate::report::{
    BrokerReport, EndToEndReport, FlowReport, GeneratorReport, GroupReport, PhaseReport,
    PublishReport,
};
use crate::usage::{MachineUsage, ProcessUsage};
use crate::worker::port::Connect;
use crate::worker::{ConsumedPhase, ConsumerWorker, PublishedPhase, SharedPhase};

/// The first record is due a moment after the threads are told, so that all are there.
const START_DELAY_NS: u64 = 50_000_000;
/// How often the watching thread looks: what it samples at the edges of the measured time is off by at most this.
const LOOK: Duration = Duration::from_millis(20);

/// What the processes had used at one moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    broker: Option<ProcessUsage>,
    generator: ProcessUsage,
    machine: MachineUsage,
}

/// The samples at both edges of the measured time, and the most memory between.
#[derive(Default)]
struct Samples {
    first: Option<Sample>,
    last: Option<Sample>,
    rss_bytes: u64,
}

impl<C: Connect> Run<'_, C> {
    /// Runs one phase and adds it to the outcome.
    pub(super) fn run_phase(
        &mut self,
        plan: &PhasePlan,
        consumers: &mut [ConsumerWorker],
        inlets: &mut [C::Inlet],
    ) -> Result<(), RunError> {
        self.progress.step(plan.name);
        let mut outlets = self.outlets(plan)?;
        let phase = SharedPhase::new(
            self.clock,
            self.clock.now_ns() + START_DELAY_NS,
            nanoseconds(plan.warm_up),
            nanoseconds(plan.duration),
            plan.bytes_max,
        );
        let records_in_turn = plan.batching.records_in_turn(self.plan.record_bytes());
        let goal_of: Vec<OnceLock<u64>> = consumers.iter().map(|_| OnceLock::new()).collect();
        let mut producers = std::mem::take(&mut self.producers);
        let mut samples = Samples::default();

        let (published, consumed) = std::thread::scope(|scope| {
            let phase = &phase;
            let consuming: Vec<_> = consumers
                .iter_mut()
                .zip(inlets)
                .zip(&goal_of)
                .map(|((worker, inlet), goal)| {
                    scope.spawn(move || worker.run_phase(phase, goal, DRAIN_IDLE_MAX, inlet))
                })
                .collect();
            let published: Vec<PublishedPhase> = std::thread::scope(|scope| {
                let publishing: Vec<_> = producers
                    .iter_mut()
                    .zip(&mut outlets)
                    .map(|(worker, outlet)| {
                        scope.spawn(move || {
                            worker.run_phase(phase, plan.rate, records_in_turn, outlet)
                        })
                    })
                    .collect();
                self.watch(phase, &mut samples, &publishing);
                joined(publishing)
            });
            let goals = goals(&producers, self.connect.partitions(), self.plan.consumers);
            // Each group has the same ones.
            for (goal_of, goal) in goal_of.iter().zip(goals.into_iter().cycle()) {
                // Set once, here.
                let _ = goal_of.set(goal);
            }
            self.watch(phase, &mut samples, &consuming);
            (published, joined::<ConsumedPhase>(consuming))
        });
        self.producers = producers;

        for published in &published {
            self.outcome
                .failures
                .extend(published.failures.iter().cloned());
        }
        self.outcome.failures.extend(
            consumed
                .iter()
                .filter_map(|consumed| consumed.failure.clone()),
        );
        let groups: Vec<Group> = consumed
            .chunks(self.plan.consumers.max(1) as usize)
            .map(Group::of)
            .collect();
        self.outcome
            .phases
            .push(report(plan, &phase, &published, &groups, &samples));
        Ok(())
    }

    /// A producer's side for each producer.
    pub(super) fn outlets(&self, plan: &PhasePlan) -> Result<Vec<C::Outlet>, RunError> {
        let partitions = self.connect.partitions();
        let buffer_bytes = self.plan.buffer_bytes(&plan.batching, partitions);
        (0..self.plan.producers)
            .map(|_| {
                self.connect
                    .outlet(&plan.batching, buffer_bytes)
                    .map_err(client_error("connecting a producer"))
            })
            .collect()
    }

    /// Shows the progress and takes samples until all of `workers` have ended; ends the phase when the broker dies.
    fn watch<T>(
        &mut self,
        phase: &SharedPhase,
        samples: &mut Samples,
        workers: &[ScopedJoinHandle<'_, T>],
    ) {
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            std::thread::sleep(LOOK);
            let now_ns = phase.clock.now_ns();
            if samples.first.is_none() && now_ns >= phase.measure_from_ns {
                samples.first = self.sample();
            }
            if samples.last.is_none() && phase.stopped_ns().is_some() {
                samples.last = self.sample();
            }
            if samples.first.is_some()
                && samples.last.is_none()
                && let Some(usage) = self.broker.as_ref().and_then(|broker| broker.usage().ok())
            {
                samples.rss_bytes = samples.rss_bytes.max(usage.rss_bytes);
            }
            if let Some(Err(error)) = self.broker.as_ref().map(|broker| broker.check())
                && !phase.aborted()
            {
                self.outcome.failures.push(error.to_string());
                phase.abort();
            }
            let progress = &phase.progress;
            self.progress.counts(
                progress.sent.load(Relaxed),
                progress.acked.load(Relaxed),
                progress.consumed.load(Relaxed),
            );
        }
    }

    fn sample(&self) -> Option<Sample> {
        Some(Sample {
            at: Instant::now(),
            broker: self.broker.as_ref().and_then(|broker| broker.usage().ok()),
            generator: ProcessUsage::of_this_process().ok()?,
            machine: MachineUsage::now().ok()?,
        })
    }
}

/// The results of threads; a panic in one goes on in the caller.
pub(super) fn joined<T>(workers: Vec<ScopedJoinHandle<'_, T>>) -> Vec<T> {
    workers
        .into_iter()
        .map(|worker| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .collect()
}

/// What one group of consumers measured.
struct Group {
    records: u64,
    bytes: u64,
    latency: LatencyHistogram,
}

impl Group {
    fn of(consumed: &[ConsumedPhase]) -> Self {
        Self {
            records: consumed.iter().map(|consumed| consumed.records).sum(),
            bytes: consumed.iter().map(|consumed| consumed.bytes).sum(),
            latency: merged(consumed.iter().map(|consumed| &consumed.latency)),
        }
    }

    fn report(&self, seconds: f64) -> GroupReport {
        GroupReport {
            consume: FlowReport::of_bytes(self.records, self.bytes, seconds),
            end_to_end: EndToEndReport {
                latency_us: self.latency.summary(),
            },
        }
    }
}

fn report(
    plan: &PhasePlan,
    phase: &SharedPhase,
    published: &[PublishedPhase],
    groups: &[Group],
    samples: &Samples,
) -> PhaseReport {
    let seconds = phase.measured_s();
    let publish = FlowReport::of_bytes(
        published.iter().map(|published| published.acked).sum(),
        published
            .iter()
            .map(|published| published.acked_bytes)
            .sum(),
        seconds,
    );
    let all = Group {
        records: groups.iter().map(|group| group.records).sum(),
        bytes: groups.iter().map(|group| group.bytes).sum(),
        latency: merged(groups.iter().map(|group| &group.latency)),
    }
    .report(seconds);
    let waiting: Vec<f64> = published
        .iter()
        .filter_map(|published| published.waiting)
        .collect();
    PhaseReport {
        name: plan.name.to_owned(),
        rate: match plan.rate {
            Rate::PerSecond(rate) => Some(rate),
            Rate::Max => None,
        },
        seconds,
        publish: PublishReport {
            flow: publish,
            latency_us: merged(published.iter().map(|published| &published.latency)).summary(),
            durability: published
                .iter()
                .filter_map(|published| published.durability)
                .min(),
        },
        consume: all.consume,
        end_to_end: all.end_to_end,
        groups: match groups {
            [_] => Vec::new(),
            several => several.iter().map(|group| group.report(seconds)).collect(),
        },
        broker: samples.broker(publish.records_per_s),
        generator: GeneratorReport {
            late_us: merged(published.iter().map(|published| &published.late)).summary(),
            producers_waiting: (!waiting.is_empty())
                .then(|| waiting.iter().sum::<f64>() / waiting.len() as f64),
            ..samples.generator()
        },
    }
}

fn merged<'a>(histograms: impl Iterator<Item = &'a LatencyHistogram>) -> LatencyHistogram {
    histograms.fold(LatencyHistogram::default(), |mut merged, histogram| {
        merged.merge(histogram);
        merged
    })
}

impl Samples {
    fn broker(&self, records_per_s: f64) -> Option<BrokerReport> {
        let (first, last, seconds) = self.edges()?;
        let (first, last) = first.broker.zip(last.broker)?;
        let cpu_cores = last.cpu.saturating_sub(first.cpu).as_secs_f64() / seconds;
        Some(BrokerReport {
            cpu_cores,
            cpu_us_per_record: if records_per_s > 0.0 {
                cpu_cores * 1e6 / records_per_s
            } else {
                0.0
            },
            rss_bytes: self.rss_bytes.max(last.rss_bytes),
            rss_peak_bytes: last.rss_peak_bytes,
        })
    }

    fn generator(&self) -> GeneratorReport {
        let Some((first, last, seconds)) = self.edges() else {
            return GeneratorReport::default();
        };
        GeneratorReport {
            cpu_cores: last
                .generator
                .cpu
                .saturating_sub(first.generator.cpu)
                .as_secs_f64()
                / seconds,
            machine_busy: last.machine.busy_since(&first.machine),
            ..GeneratorReport::default()
        }
    }

    fn edges(&self) -> Option<(&Sample, &Sample, f64)> {
        let (first, last) = self.first.as_ref().zip(self.last.as_ref())?;
        Some((first, last, (last.at - first.at).as_secs_f64().max(1e-3)))
    }
}
