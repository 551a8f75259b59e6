//! The search for a configuration that reaches a goal.
//!
//! [`knobs`] says what can be tried, [`descent`] what to try next and what it comes to, `bench` tries it on real brokers, [`session`] runs the whole and writes the files.

mod bench;
pub mod descent;
pub mod figures;
pub mod found;
pub mod history;
pub mod knobs;
mod ladder;
pub mod options;
pub mod output;
mod plot;
mod random;
pub mod report;
pub mod session;
pub mod space;
pub mod workload;
mod written;

pub use options::SearchOptions;
pub use session::{SearchError, search};
