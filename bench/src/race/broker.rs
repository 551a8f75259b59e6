//! One broker that serves, Gannet's or a peer's.

use std::io;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use gannet_loadgen::broker::{BrokerSettings, OwnBroker, RemovedWhenInterrupted};

use super::entrant::Entrant;
use super::process_tree::Usage;
use super::script::{PeerScript, RunningPeer};

/// Lines of a broker's log that are repeated.
const LOGGED_ERRORS_MAX: usize = 3;

/// A running broker. It ends with this value.
pub(super) enum Broker {
    Gannet(OwnBroker),
    Peer(RunningPeer),
}

impl Broker {
    /// Gannet, as it is by default but for what stands in that file.
    pub(super) fn gannet(
        directory: &Path,
        shards: Option<NonZeroU16>,
        config: Option<PathBuf>,
        removed: &RemovedWhenInterrupted,
    ) -> Result<Self, String> {
        let settings = BrokerSettings {
            shards: shards.map(Into::into),
            config,
        };
        OwnBroker::start(directory, settings, removed.clone())
            .map(Self::Gannet)
            .map_err(|error| error.to_string())
    }

    /// Another one, by its script.
    pub(super) fn peer(
        script: &PeerScript,
        entrant: Entrant,
        directory: &Path,
    ) -> Result<Self, String> {
        script.start(entrant, directory).map(Self::Peer)
    }

    pub(super) fn address(&self) -> String {
        match self {
            Self::Gannet(broker) => broker.address().to_string(),
            Self::Peer(peer) => peer.address().to_owned(),
        }
    }

    /// What it has used so far, all its processes together.
    pub(super) fn usage(&self) -> io::Result<Usage> {
        match self {
            // It is one process.
            Self::Gannet(broker) => {
                let usage = broker.usage()?;
                Ok(Usage {
                    cpu_s: usage.cpu.as_secs_f64(),
                    rss_bytes: usage.rss_bytes,
                    disk_read_bytes: broker.disk_read_bytes().unwrap_or(0),
                })
            }
            Self::Peer(peer) => peer.usage(),
        }
    }

    /// Stops it.
    ///
    /// # Errors
    /// A sentence when it does not stop as it should, or Gannet's has logged errors.
    pub(super) fn stop(self) -> Result<(), String> {
        match self {
            Self::Gannet(broker) => {
                let errors = broker.logged_errors();
                broker.stop().map_err(|error| error.to_string())?;
                if errors.is_empty() {
                    return Ok(());
                }
                let shown: Vec<_> = errors.into_iter().take(LOGGED_ERRORS_MAX).collect();
                Err(format!("the broker logged errors: {}", shown.join("; ")))
            }
            Self::Peer(peer) => peer.stop(),
        }
    }
}
