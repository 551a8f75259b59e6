//! `gannet-numbers`: a broker's figures as ratios to the limits of the machine it runs on, both measured in the same run.
//!
//! An absolute figure says as much about the machine as about the broker. So each row stands against what the loopback and the disk can do
//! by themselves, or against the broker's own figure under another load. What needs another broker beside this one is not measured here.

mod consume;
mod idle;
mod limits;
mod options;
mod publish;
mod report;
mod row;
mod session;
mod start;
mod table;
mod tools;
mod workbench;

pub use limits::MachineLimits;
pub use options::{Command, CommandLine, Options, Scale};
pub use report::Report;
pub use row::{Bar, NoFigure, Row};
pub use session::{NumbersError, session};
pub use table::render;
pub use tools::{Fio, Iperf3, ToolRun};

/// Bytes of the value of every record: the table of the bars speaks of 1 KB records.
const RECORD_BYTES: usize = 1_000;
/// Room in a batch for a record beside its value.
const RECORD_OVERHEAD_BYTES: u32 = 16;
