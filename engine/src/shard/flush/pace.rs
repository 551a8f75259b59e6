//! The flusher's share of the device.

use std::time::Duration;

use super::super::log::ShardLog;
use crate::io::{Clock, Disk};
use crate::storage::open_segment::{OpenSegment, SegmentWriter};

/// The flusher's share of the device during one stream of writes.
pub(in crate::shard) struct Pace {
    /// How long it pauses behind each write, in hundredths of what that took.
    pause_percent: u64,
    /// When the last pause ended ...
    since: Duration,
    /// ... and where the stream stood then.
    position: u64,
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// How much of the device the flusher takes: a quarter of its time while little waits, all of it when publishers are about to wait.
    pub(in crate::shard) fn flush_pace(&self) -> Pace {
        let most = (self.config.unflushed_bytes_max / 2).max(1);
        let waiting = self.recent.unflushed_bytes().min(most);
        Pace {
            pause_percent: PAUSE_PERCENT_MAX - PAUSE_PERCENT_MAX * waiting / most,
            since: self.clock.monotonic(),
            position: 0,
        }
    }

    /// Paced behind the commits; when publishers are about to wait larger writes, more at once, and one sync at the end.
    pub(in crate::shard) fn segment_writer(
        &self,
        segment: &OpenSegment<D>,
        pace: &Pace,
    ) -> SegmentWriter<D> {
        let factor = if pace.pause_percent == 0 { 4 } else { 1 };
        segment.writer(
            self.config.flush_write_bytes * factor,
            self.config.flush_writes_in_flight_max * factor,
            (factor == 1).then_some(SYNC_BYTES),
        )
    }

    /// Pauses when a write's worth has gone out since the last time.
    pub(in crate::shard) async fn keep_pace(&self, pace: &mut Pace, position: u64) {
        if pace.pause_percent == 0
            || position.saturating_sub(pace.position) < self.config.flush_write_bytes as u64
        {
            return;
        }
        let took = self.clock.monotonic().saturating_sub(pace.since);
        let pause = took * u32::try_from(pace.pause_percent).unwrap_or(0) / 100;
        self.clock.sleep(pause.min(PAUSE_MAX)).await;
        *pace = Pace {
            position,
            since: self.clock.monotonic(),
            ..*pace
        };
    }
}

/// Three times as long as it writes.
const PAUSE_PERCENT_MAX: u64 = 300;
/// A write that took long was waiting for others: no reason to wait as long again.
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// Bytes that the flusher lets gather in the device's cache.
const SYNC_BYTES: u64 = 2 << 20;
