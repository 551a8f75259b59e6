//! The program `gannet` with a bug: the shard whose connection is reset panics. The rest is the product's own, its command line and how it ends.
//!
//! A shard notes a reset by an event, in the task that serves the connection. Whoever embeds the command line may listen to events, so the panic comes from
//! within that task, and the product holds nothing for it.

use std::fmt;
use std::process::ExitCode;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// What the product says of a connection that is reset.
const RESET: &str = "a connection ended";

fn main() -> ExitCode {
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(log)
        .with(PanicAtReset.with_filter(LevelFilter::DEBUG))
        .init();
    gannet_engine::cli::run()
}

struct PanicAtReset;

impl<S: Subscriber> Layer<S> for PanicAtReset {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut what = IsReset(false);
        event.record(&mut what);
        assert!(!what.0, "injected: a connection was reset");
    }
}

/// Whether an event's message is [`RESET`].
struct IsReset(bool);

impl Visit for IsReset {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}") == RESET;
        }
    }
}
