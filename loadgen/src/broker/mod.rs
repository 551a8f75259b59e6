//! A broker of the run's own: a child process with a data directory, so that its CPU and memory are its own.

/// The hidden subcommand with which this program hosts a broker.
pub const HOST_COMMAND: &str = "host-broker";
