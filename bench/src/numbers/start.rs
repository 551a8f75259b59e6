//! Rows about starting after `kill -9`: with next to nothing stored, and with much, or with ever more.

use std::time::{Duration, Instant};

use gannet_loadgen::broker::OwnBroker;
use gannet_loadgen::driver::native::WireConnect;
use gannet_loadgen::worker::port::Connect;

use super::row::{Bar, Row};
use super::session::NumbersError;
use super::workbench::{Load, Workbench};

/// The directory and the topic of what is stored.
pub(super) const STORED: &str = "stored";
pub(super) const STORED_PARTITIONS: u32 = 2;

/// What "next to nothing" is.
const LITTLE_BYTES: u64 = 1 << 20;
/// Storing may take this long; a disk that is slower stores less.
const STORING_MAX: Duration = Duration::from_secs(900);
/// A broker that does not serve again in this time has failed.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);
const GIB: f64 = (1 << 30) as f64;

/// What is stored when the rows are measured, for who reads it.
pub(super) struct Stored {
    pub(super) bytes: u64,
    pub(super) rows: Vec<Row>,
}

/// Stores, kills and starts again, with ever more, and stops. The directory stays.
pub(super) fn after_kill(bench: &mut Workbench<'_>) -> Result<Stored, NumbersError> {
    let mut broker = bench.start(STORED)?;
    let little = store(bench, &mut broker, LITTLE_BYTES)?;
    let little_ms = kill_and_start(bench, &mut broker)?;
    let mut bytes = little;
    let mut rows = Vec::new();
    for step in bench.scale.stored_steps(bench.options) {
        bytes += store(bench, &mut broker, step.saturating_sub(bytes))?;
        let much_ms = kill_and_start(bench, &mut broker)?;
        rows.extend(start_rows(bytes, much_ms, little_ms)?);
    }
    bench.stop(broker)?;
    Ok(Stored { bytes, rows })
}

fn start_rows(bytes: u64, much_ms: f64, little_ms: f64) -> Result<[Row; 2], NumbersError> {
    let stored_gib = bytes as f64 / GIB;
    Ok([
        Row::new(
            format!("start after kill -9 with {stored_gib:.2} GiB stored"),
            (much_ms / 1e3, "s"),
            Bar::AtMost(2.0),
            [("stored_bytes", bytes as f64)],
        )?,
        Row::new(
            format!(
                "start with {stored_gib:.2} GiB stored / with {} MiB",
                LITTLE_BYTES >> 20
            ),
            (much_ms / little_ms, "x"),
            Bar::Reported,
            [("much_ms", much_ms), ("little_ms", little_ms)],
        )?,
    ])
}

/// Publishes so many bytes, as fast as it goes; gives how many it were.
fn store(
    bench: &mut Workbench<'_>,
    broker: &mut OwnBroker,
    bytes: u64,
) -> Result<u64, NumbersError> {
    let load = Load {
        producers: 1,
        duration: STORING_MAX,
        warm_up: Duration::ZERO,
        ..bench.saturated(STORED, STORED_PARTITIONS, bench.options.batch_bytes)
    };
    let load = load.kept_up_to(bytes);
    Ok(bench.load(broker, &load)?.acked_bytes)
}

/// Milliseconds from starting the killed broker again until it answers about the topic.
fn kill_and_start(bench: &mut Workbench<'_>, broker: &mut OwnBroker) -> Result<f64, NumbersError> {
    bench
        .progress
        .step("killing the broker and starting it again");
    let connect = bench.connect(broker, STORED, STORED_PARTITIONS)?;
    broker.kill()?;
    let started = Instant::now();
    broker.start_again()?;
    until_serving(&connect, started)?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn until_serving(connect: &WireConnect, started: Instant) -> Result<(), NumbersError> {
    loop {
        match connect.probe() {
            Ok(()) => return Ok(()),
            Err(error) if started.elapsed() >= RECOVERY_MAX => {
                return Err(NumbersError::port("reaching the broker after the kill")(
                    error,
                ));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
