//! A broker of the run's own: a child process with a data directory, so that its CPU and memory are its own.

mod child;
mod host;
mod interrupt;
mod settings;

pub use child::{BrokerError, OwnBroker};
pub use host::{HostError, host};
pub use interrupt::{
    Interrupted, RemovedWhenInterrupted, end_when_interrupted, kill_group, told_when_interrupted,
};
pub use settings::BrokerSettings;

/// The hidden subcommand with which this program hosts a broker.
pub const HOST_COMMAND: &str = "host-broker";

/// How the hosting child says that it serves; an address follows, then the end of the line.
const LISTENING: &str = "listening on ";
