//! What Gannet costs: criterion benches of the hot path (`benches/`), `gannet-numbers`, which sets a broker's figures against the limits of the machine it runs on,
//! and `gannet-race`, which sets them beside those of Kafka, RabbitMQ and NATS.
//!
//! [`subject`] makes what the benches work on; [`numbers`] and [`race`] are the programs.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        reason = "a test that unwraps fails where it should"
    )
)]

pub mod numbers;
pub mod race;
pub mod subject;
