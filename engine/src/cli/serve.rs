//! `gannet serve`: the broker, until a signal or a failure ends it.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;

use clap::Args;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::exit::{ExitStatus, Failure};
use super::signals::StopSignals;
use crate::control::Config;
use crate::control::config::{FlagSetting, example_toml, help_text};
use crate::control::machine::{raise_descriptor_limit, refuse_huge_pages};
use crate::{Engine, Stopper};

/// Runs the broker in the foreground until SIGTERM or SIGINT.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Configuration file, in TOML
    #[arg(long, value_name = "FILE", env = "GANNET_CONFIG")]
    config: Option<PathBuf>,
    /// Directory of everything stored [default: ./gannet-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address and port of the native protocol [default: 127.0.0.1:7470]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Shards, one core each: a number, or auto [default: auto]
    #[arg(long, value_name = "N|auto")]
    shards: Option<String>,
    /// Believes the machine's clock although the broker's own is behind it, as after a long stop: retention goes by it at once, and not after an hour
    #[arg(long)]
    trust_wall_clock: bool,
    /// Sets any configuration key, such as journal.file_bytes=128MiB; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints a commented configuration file with every key at its default, and exits
    #[arg(long, conflicts_with = "help_config")]
    print_config: bool,
    /// Prints what each configuration key does, trades and bounds, and exits
    #[arg(long)]
    help_config: bool,
}

pub(super) fn run(args: ServeArgs) -> Result<ExitStatus, Failure> {
    if args.print_config {
        return print(&example_toml());
    }
    if args.help_config {
        return print(&help_text());
    }
    let config = load(&args)?;
    serve(config)
}

fn load(args: &ServeArgs) -> Result<Config, Failure> {
    let flags = flag_settings(args)?;
    Ok(Config::load(args.config.as_deref(), flags)?)
}

/// `--set` comes first, so that a flag of its own wins over it.
fn flag_settings(args: &ServeArgs) -> Result<Vec<FlagSetting>, Failure> {
    let mut flags = Vec::new();
    for setting in &args.set {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "`--set {setting}` has no value: write --set KEY=VALUE, such as --set journal.file_bytes=128MiB"
                ),
            ));
        };
        flags.push(FlagSetting {
            flag: "--set".to_owned(),
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
        });
    }
    let trust_wall_clock = args.trust_wall_clock.then(|| "true".to_owned());
    for (flag, key, value) in [
        (
            "--trust-wall-clock",
            "storage.trust_wall_clock",
            &trust_wall_clock,
        ),
        ("--data-dir", "data_dir", &args.data_dir),
        ("--listen", "listen", &args.listen),
        ("--shards", "shards", &args.shards),
    ] {
        if let Some(value) = value {
            flags.push(FlagSetting {
                flag: flag.to_owned(),
                key: key.to_owned(),
                value: value.clone(),
            });
        }
    }
    Ok(flags)
}

fn print(text: &str) -> Result<ExitStatus, Failure> {
    super::quiet_when_the_reader_left(std::io::stdout().write_all(text.as_bytes()))
}

fn serve(config: Config) -> Result<ExitStatus, Failure> {
    start_log();
    raise_descriptor_limit();
    let signals = StopSignals::block().map_err(|error| {
        Failure::new(
            ExitStatus::Environment,
            format!("signals could not be set up: {error}"),
        )
    })?;
    let stopper = Arc::new(OnceLock::new());
    thread::Builder::new()
        .name("gannet-signals".to_owned())
        .spawn({
            let stopper = stopper.clone();
            move || stop_at_signal(&signals, &stopper)
        })
        .map_err(|error| {
            Failure::new(
                ExitStatus::Environment,
                format!("a thread could not be started: {error}"),
            )
        })?;
    let data_dir = config.data_dir.clone();
    refuse_huge_pages();
    let engine = Engine::start(config)?;
    // It is empty: only this sets it.
    let _ = stopper.set(engine.stopper());
    tracing::info!(
        address = %engine.local_addr(),
        shards = engine.shards(),
        data_dir = %data_dir.display(),
        "serving"
    );
    engine.wait()?;
    tracing::info!("stopped");
    Ok(ExitStatus::Success)
}

/// The first signal stops cleanly. A second one does not wait for that: what was acknowledged is on the disk, and the next start
/// replays it. Nor does one during the start, which may take long and has accepted nothing.
fn stop_at_signal(signals: &StopSignals, stopper: &OnceLock<Stopper>) {
    if let Ok(signal) = signals.wait() {
        let Some(stopper) = stopper.get() else {
            tracing::info!(signal, "stopping during the start");
            std::process::exit(ExitStatus::Interrupted.code().into());
        };
        tracing::info!(signal, "stopping; once more to stop at once");
        stopper.stop();
    }
    if signals.wait().is_ok() {
        std::process::exit(ExitStatus::Interrupted.code().into());
    }
}

/// Events go to the standard error, from INFO on unless GANNET_LOG says otherwise.
fn start_log() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("GANNET_LOG")
        .from_env_lossy();
    // There is another one already when a program that embeds the command line made it: then that one counts.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
