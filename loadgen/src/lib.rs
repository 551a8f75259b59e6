//! Open-loop load generator and verifier for Gannet.
//!
//! A run publishes self-describing records and consumes them, measures both, and proves that every acknowledged record came out once, unchanged, in order. What
//! decides is pure and tested: the [`schedule`], the [`verify`] checks, the [`ledger`] of what was acknowledged, the [`scenario`] and the [`plan`]; the rest is a thin rim around the client, of
//! which there are several: see [`driver`].

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that unwraps fails where it should"
    )
)]

pub mod broker;
pub mod clock;
pub mod comparison;
pub mod driver;
pub mod filesystem;
pub mod latency;
pub mod ledger;
mod machine;
pub mod measure;
pub mod options;
pub mod page;
pub mod plan;
pub mod progress;
pub mod report;
pub mod report_file;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod session;
pub mod sizes;
pub mod sweep;
pub mod table;
pub mod units;
pub mod usage;
pub mod verify;
pub mod worker;
