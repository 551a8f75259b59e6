//! What `--report FILE.json` writes. Fields are added, never renamed.

use gannet_loadgen::report::Machine;
use serde::Serialize;

use super::limits::MachineLimits;
use super::options::Scale;
use super::row::Row;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of the program, which is the broker's too.
    pub version: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// How much was done.
    pub scale: Scale,
    /// What the machine can do by itself.
    pub limits: MachineLimits,
    /// The figures, each with its bar.
    pub rows: Vec<Row>,
    /// What went wrong with records and brokers: a sentence each. The figures are worth nothing then.
    pub failures: Vec<String>,
    /// What a reader of the figures should know: a sentence each.
    pub notes: Vec<String>,
}
