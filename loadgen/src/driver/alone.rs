//! Publishing one record at a time, with a driver that has no way of its own.

use std::time::{Duration, Instant};

use crate::latency::{LatencyHistogram, nanoseconds};
use crate::plan::Batching;
use crate::worker::port::{Outlet, PortError};

/// Nothing waits for anything.
pub(super) const BATCHING: Batching = Batching {
    batch_bytes: 128 << 10,
    batch_records: None,
    linger: Duration::ZERO,
    inflight: None,
    buffer_bytes: None,
};
/// Room for any record.
pub(super) const BUFFER_BYTES: u64 = 64 << 20;

/// Publishes the record again and again to partition 0, each time when the one before is acknowledged. Gives the times from call to acknowledgement.
pub(super) fn measure(
    mut outlet: impl Outlet,
    value: &[u8],
    duration: Duration,
) -> Result<LatencyHistogram, PortError> {
    let mut histogram = LatencyHistogram::default();
    let mut answers = Vec::new();
    let began = Instant::now();
    for token in 0.. {
        if began.elapsed() >= duration {
            break;
        }
        let started = Instant::now();
        outlet.send(0, None, value, token)?;
        outlet.flush()?;
        let took = started.elapsed();
        answers.clear();
        outlet.answers(&mut answers);
        if let Some(Err(sentence)) = answers.last().map(|answer| &answer.result) {
            return Err(PortError(sentence.clone()));
        }
        // The first quarter warms up.
        if began.elapsed() > duration / 4 {
            histogram.record(nanoseconds(took));
        }
    }
    Ok(histogram)
}
