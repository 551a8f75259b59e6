//! What Gannet costs: criterion benches of the hot path (`benches/`), and `gannet-numbers`, which sets a broker's figures against the limits of the machine it runs on.
//!
//! [`subject`] makes what the benches work on; [`numbers`] is the program.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that unwraps fails where it should"
    )
)]

pub mod numbers;
pub mod subject;
