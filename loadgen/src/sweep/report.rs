//! The result of a sweep, as `gannet-loadgen sweep --report FILE.json` writes it. Every field is documented here; fields are added, never renamed, and one that a
//! report of another version does not have is read as empty or zero.

use serde::{Deserialize, Serialize};

use super::search::{End, Verdict};
use crate::driver::DriverKind;
use crate::report::{Machine, Report, Settings};

/// A whole sweep.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepReport {
    /// The version of the generator.
    pub version: String,
    /// The name of the scenario; absent without `--scenario`.
    pub scenario: Option<String>,
    /// The client library: `native`, `kafka`, `amqp` or `nats`.
    pub driver: DriverKind,
    /// What the sweep is to be called, from `--label`; else the driver's name.
    pub label: String,
    /// What filled the records.
    pub seed: u64,
    /// What was asked for, of the first step; the others differ in their topic.
    pub settings: Settings,
    /// Where it ran.
    pub machine: Machine,
    /// The steps, in the order in which they were made.
    pub sweep: Vec<SweepStep>,
    /// Where the broker stopped keeping up; absent when that was not found.
    pub knee: Option<Knee>,
    /// The p99 of the lowest rate that was kept up with, in microseconds; of the slower side, as in each step.
    pub low_load_p99_us: f64,
    /// The share of a rate that must be reached.
    pub kept_up_min: f64,
    /// How many times `low_load_p99_us` a p99 may be.
    pub p99_times: f64,
    /// How the search ended: `found`, `reached_highest`, `nothing_kept_up`, `budget`, `no_room` or `failed`.
    pub end: Option<End>,
    /// How long all of it took.
    pub seconds: f64,
    /// Whether nothing was wrong in any step.
    pub passed: bool,
    /// What was wrong: a sentence each.
    pub failures: Vec<String>,
}

/// One rate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SweepStep {
    /// Records a second that were to be sent.
    pub offered_records_per_s: u64,
    /// Records a second that were acknowledged, or delivered to each group of consumers if those were fewer.
    pub achieved_records_per_s: f64,
    /// The larger of the p99 of publishing and of end to end, in microseconds.
    pub p99_us: f64,
    /// `kept_up`, `slow` (reached, but its p99 was beyond the bound) or `fell_behind`.
    pub verdict: Option<Verdict>,
    /// The run at this rate, with all its figures. Records that were due but not sent, since the broker was too far behind, are in none of its latencies.
    pub report: Report,
}

/// Where a broker stops keeping up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Knee {
    /// The highest rate that was kept up with.
    pub records_per_s: u64,
    /// The p99 there, in microseconds.
    pub p99_us: f64,
    /// The lowest rate that was too high; it failed twice.
    pub too_high_records_per_s: u64,
    /// How it failed.
    pub verdict: Option<Verdict>,
    /// Why it may be the generator that did not keep up: a sentence; absent when nothing says so.
    pub limited_by_generator: Option<String>,
}

impl SweepReport {
    /// Adds what went wrong, if anything did.
    pub fn fail(&mut self, failures: impl IntoIterator<Item = String>) {
        self.failures.extend(failures);
        self.passed &= self.failures.is_empty();
    }
}
