//! The child's side: hosts the engine until the parent says so or is gone.

use std::io::{self, Write};
use std::thread;

use gannet_engine::control::Config;
use gannet_engine::control::config::ConfigError;
use gannet_engine::control::machine::{raise_descriptor_limit, refuse_huge_pages};
use gannet_engine::{Engine, EngineError, StartError};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tracing_subscriber::EnvFilter;

use super::interrupt::wait_for_signal;
use super::{BrokerSettings, LISTENING};
use crate::options::HostOptions;

/// Why no broker could be hosted.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The operating system's refusal.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The parent ended first.
    #[error("the process that started this broker is gone")]
    Orphaned,
    /// The engine's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The engine.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine, later.
    #[error(transparent)]
    Ended(#[from] EngineError),
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError::Io { what, source }
}

/// Starts an engine, prints its address on stdout, and stops it when told to by SIGTERM.
///
/// # Errors
/// [`HostError`].
pub fn host(options: &HostOptions) -> Result<(), HostError> {
    // A broker that outlived its run would keep a directory that nobody removes.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| io_error("asking to end with the parent")(errno.into()))?;
    // The parent may have ended before that.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(options.parent) {
        return Err(HostError::Orphaned);
    }
    log_to_stderr();
    // As a broker by itself does.
    raise_descriptor_limit();
    refuse_huge_pages();
    let settings = BrokerSettings {
        shards: options.shards.map(Into::into),
        config: options.config.clone(),
    };
    let config = Config {
        listen: options.listen,
        data_dir: options.data_dir.clone(),
        ..settings.load()?
    };
    let engine = Engine::start(config)?;
    let (stopper, address) = (engine.stopper(), engine.local_addr());
    thread::spawn(move || {
        let waited = wait_for_signal(|| {
            // Only now: a SIGTERM sent on reading this must find the handler.
            let announced =
                writeln!(io::stdout(), "{LISTENING}{address}").and_then(|()| io::stdout().flush());
            // A parent that does not listen is gone, and its death ends this process.
            let _ = announced;
        });
        if let Err(error) = waited {
            tracing::error!(%error, "signals cannot be waited for: stopping");
        }
        stopper.stop();
    });
    // Also when the broker ends by itself, because its disk failed.
    Ok(engine.wait()?)
}

/// The parent has sent stderr to a file, whose end it shows when something goes wrong. `RUST_LOG` widens or narrows it.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_env_filter(filter)
        .init();
}
