//! `gannet-tune`: what a machine gives to a broker, in figures and sentences, and what a configuration means.
//!
//! `probe` looks and measures ([`facts`]), then says what will limit a broker here ([`advice`]); `search` tries configurations until one reaches a [`Goal`] ([`search`](mod@search)); `explain`
//! prints what each key of a configuration file trades ([`explain()`]).
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that unwraps fails where it should"
    )
)]

pub mod advice;
mod explain;
pub mod facts;
mod goal;
pub mod interrupts;
mod loopback;
mod ring;
pub mod search;
pub mod steadiness;
pub mod storage;
mod table;

pub use explain::{ExplainError, explain};
pub use goal::{Bound, Goal, GoalError, Load, Percentile, Way};
pub use ring::{Ring, RingFeatures};
pub use table::table;
