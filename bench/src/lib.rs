//! What Gannet costs: criterion benches of the hot path (`benches/`) and, in [`subject`], what they work on.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that unwraps fails where it should"
    )
)]

pub mod subject;
