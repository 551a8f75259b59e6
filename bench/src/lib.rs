//! Criterion benches of Gannet's hot path.
