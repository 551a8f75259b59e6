//! How Gannet's figures change with what there is much of: partitions, subscribers, producers, bytes in a record, idle partitions and connections, and a greedy neighbour.
//!
//! Each point is a run of the load generator of its own, with a broker of its own on an empty directory; so every record is verified here too.

mod idle;
mod limits;
mod points;
mod sections;
mod session;

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::machine::MachineInfo;
use super::session::{RaceError, io_error};

pub use sections::sections;
pub use session::session;

/// What is varied.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Partitions that are written in turn, the same bytes over all of them.
    Partitions,
    /// Idle partitions and idle connections.
    Idle,
    /// A producer at a fixed rate, alone and beside one that sends as fast as it goes.
    Neighbours,
    /// Times that every record is consumed.
    FanOut,
    /// Bytes of a record.
    RecordSize,
    /// Producers.
    Producers,
}

impl Axis {
    /// All, in their order.
    pub const ALL: [Self; 6] = [
        Self::Partitions,
        Self::Idle,
        Self::Neighbours,
        Self::FanOut,
        Self::RecordSize,
        Self::Producers,
    ];
}

/// The paced producer without a neighbour, in [`Point::at`].
pub const ALONE: f64 = 0.0;
/// Beside the greedy one.
pub const BESIDE: f64 = 1.0;
/// Without one once more: what differs between both times alone is the machine's doing.
pub const ALONE_AGAIN: f64 = 2.0;

/// How a point's load is paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// As fast as it goes: for throughput.
    Saturated,
    /// At a rate that is no strain: for latency.
    Paced,
}

/// One point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What is varied.
    pub axis: Axis,
    /// How it is paced.
    pub pace: Pace,
    /// How much of it; of neighbours [`ALONE`], [`BESIDE`] and [`ALONE_AGAIN`].
    pub at: f64,
    /// What was measured; the reason when nothing was.
    pub outcome: Result<PointFigures, String>,
}

/// What is measured at a point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PointFigures {
    /// Records acknowledged a second.
    pub publish_records_per_s: f64,
    /// MB (10^6) acknowledged a second.
    pub publish_mb_per_s: f64,
    /// From when a record should have been sent until its acknowledgement, in microseconds.
    pub publish_p50_us: f64,
    /// Likewise.
    pub publish_p99_us: f64,
    /// MB (10^6) delivered a second, to all consumers together.
    pub consume_mb_per_s: f64,
    /// From when a record should have been sent until a consumer had it, in microseconds; 0 without consumers.
    pub end_to_end_p99_us: f64,
    /// The broker's CPU for a record, in microseconds.
    pub broker_cpu_us_per_record: f64,
    /// The most resident memory of the broker while it was measured.
    pub broker_rss_bytes: u64,
    /// Bytes acknowledged in all, warm-up included.
    pub acked_bytes: u64,
    /// Why the figures may be the generator's more than the broker's: a sentence. `None` when nothing says so, and in results of before it was kept.
    pub limited_by_generator: Option<String>,
}

/// A broker with so many idle things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdleFigure {
    /// How many.
    pub count: u64,
    /// Its resident memory.
    #[serde(rename = "rss_bytes")]
    pub memory: IdleMemory,
}

/// Memory of a broker with idle things: a number in JSON, or a sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IdleMemory {
    /// So much.
    Bytes(u64),
    /// Why it could not hold them.
    Failed(String),
}

/// Everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScaleReport {
    /// Where it was measured.
    pub machine: Option<MachineInfo>,
    /// The points, in the order in which they were measured.
    pub points: Vec<Point>,
    /// Memory with idle partitions.
    pub idle_partitions: Vec<IdleFigure>,
    /// Memory with idle connections.
    pub idle_connections: Vec<IdleFigure>,
    /// Whether the figures mean nothing.
    pub tiny: bool,
    /// What went wrong with the brokers of idle things: a sentence each.
    pub failures: Vec<String>,
}

const FILE: &str = "scale.json";

/// What was kept, if anything was.
pub(super) fn read(results_dir: &Path) -> Result<Option<ScaleReport>, RaceError> {
    let path = results_dir.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path);
    text.and_then(|text| Ok(serde_json::from_str(&text)?))
        .map_err(io_error(format!("reading {}", path.display())))
}

fn keep(results_dir: &Path, report: &ScaleReport) -> Result<(), RaceError> {
    let path = results_dir.join(FILE);
    let written = path.with_extension("part");
    std::fs::create_dir_all(results_dir)
        .and_then(|()| serde_json::to_vec_pretty(report).map_err(Into::into))
        .and_then(|text| std::fs::write(&written, text))
        // Whole, or as it was.
        .and_then(|()| std::fs::rename(&written, path))
        .map_err(io_error("keeping the figures about scale"))
}

impl ScaleReport {
    /// What this point came to, if that was a figure.
    fn measured(&self, axis: Axis, pace: Pace, at: f64) -> Option<&PointFigures> {
        self.points
            .iter()
            .find(|point| point.is(axis, pace, at))
            .and_then(|point| point.outcome.as_ref().ok())
    }

    /// Takes in what a point came to, in the place of what it came to before.
    fn enter(&mut self, point: Point) {
        self.points
            .retain(|known| !known.is(point.axis, point.pace, point.at));
        self.points.push(point);
    }

    /// Forgets all that is known of an axis.
    fn forget(&mut self, axis: Axis) {
        self.points.retain(|point| point.axis != axis);
        if axis == Axis::Idle {
            self.idle_partitions.clear();
            self.idle_connections.clear();
            self.failures.clear();
        }
    }
}

impl Point {
    fn is(&self, axis: Axis, pace: Pace, at: f64) -> bool {
        self.axis == axis && self.pace == pace && self.at.total_cmp(&at).is_eq()
    }
}

#[cfg(test)]
mod tests;
