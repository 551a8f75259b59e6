//! The command line.

use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gannet_loadgen::options::HostOptions;
use gannet_loadgen::units::{parse_bytes, parse_duration};

/// Measures what this machine's loopback and disk can do, then a Gannet broker on it, and prints the ratios with the bar that each is to reach.
///
/// It starts brokers of its own, each on a new directory of a real disk, and removes everything it wrote. Nothing else should run on the machine meanwhile.
///
/// The exit status is 0 when everything was measured, whether the bars were reached or not; 1 when a record was lost or changed on the way; 2 when something could not be measured;
/// 130 when interrupted.
#[derive(Debug, Parser)]
#[command(name = "gannet-numbers", version, max_term_width = 110)]
pub struct CommandLine {
    /// What to do other than to measure.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to measure.
    #[command(flatten)]
    pub options: Options,
}

/// What this program does other than to measure; for itself only.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Hosts a broker until the parent ends it or dies.
    #[command(hide = true, name = gannet_loadgen::broker::HOST_COMMAND)]
    HostBroker(HostOptions),
}

/// The options of a run.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How long each figure is measured.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub seconds: Duration,
    /// How much is stored before the broker is killed and started again. Several amounts, as in 1GiB,5GiB,10GiB: a kill and a start at each; what is stored in the end is read.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_delimiter = ',', value_parser = parse_bytes)]
    pub stored: Vec<u64>,
    /// How many partitions stand for many.
    #[arg(long, default_value_t = 10_000)]
    pub partitions: u32,
    /// Largest batch of the saturated load; the bar is for 64 KiB or more.
    #[arg(long, value_name = "BYTES", default_value = "256KiB", value_parser = parse_bytes)]
    pub batch_bytes: u64,
    /// Producers of the saturated loads, each with a thread and a connection of its own.
    #[arg(long, default_value_t = 1)]
    pub producers: u32,
    /// Most bytes of records in a row that keeps them all, and most that is kept in any other, so that the disk does not fill up. Never more than a quarter of what is free.
    #[arg(long, value_name = "BYTES", default_value = "8GiB", value_parser = parse_bytes)]
    pub bytes_max: u64,
    /// About how much of each partition is kept in the saturated rows and at the tail, so that they end with their time and retention is at work, however long that is. 0: everything. Rows that send
    /// the same bytes to few and to many partitions, and what is stored for a start and for reading from the disk, keep all anyway.
    #[arg(long, value_name = "BYTES", default_value = "512MiB", value_parser = parse_bytes)]
    pub retention_bytes: u64,
    /// Shards (cores) of the broker; its own default without.
    #[arg(long)]
    pub shards: Option<NonZeroU16>,
    /// Where the brokers keep their data: in a new directory in here, removed afterwards. Without: $TMPDIR, /var/tmp or beside this program, whichever is on a real disk.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Write the report to this file as JSON.
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
    /// Everything in a few seconds, to see that it works: the figures mean nothing. Overrides --seconds, --stored, --partitions, --bytes-max and --retention-bytes.
    #[arg(long)]
    pub tiny: bool,
}

/// How much is done for each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Scale {
    /// How long a figure is measured, in milliseconds.
    pub row_ms: u64,
    /// How much is stored before the last kill.
    pub stored_bytes: u64,
    /// How many partitions stand for many.
    pub partitions: u32,
    /// Most bytes of records in a row that keeps them all, and most that is kept in any other.
    pub bytes_max: u64,
    /// About how much of each partition is kept where retention is at work; 0: nowhere.
    pub retention_bytes: u64,
}

impl Scale {
    /// What the options ask for, within what the disk has room for.
    #[must_use]
    pub fn new(options: &Options, free_bytes: u64) -> Self {
        let asked = if options.tiny {
            Self::TINY
        } else {
            Self {
                row_ms: u64::try_from(options.seconds.as_millis())
                    .unwrap_or(u64::MAX)
                    .max(ROW_MS_MIN),
                stored_bytes: options.stored.iter().copied().max().unwrap_or(0),
                partitions: options.partitions.max(1),
                bytes_max: options.bytes_max,
                retention_bytes: options.retention_bytes,
            }
        };
        // Every byte may lie in the journal and in a segment for a while.
        let room = free_bytes / 4;
        Self {
            bytes_max: asked.bytes_max.min(room),
            ..asked
        }
    }

    /// How much is stored before each kill, rising to [`Scale::stored_bytes`].
    #[must_use]
    pub fn stored_steps(&self, options: &Options) -> Vec<u64> {
        let mut steps: Vec<u64> = options
            .stored
            .iter()
            .copied()
            .filter(|bytes| *bytes < self.stored_bytes)
            .chain([self.stored_bytes])
            .collect();
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// About how much of each of so many partitions is kept where retention is at work. `None`: everything, up to [`Scale::bytes_max`].
    #[must_use]
    pub fn kept_of(&self, partitions: u32) -> Option<NonZeroU64> {
        let room = self.bytes_max / u64::from(partitions.max(1));
        NonZeroU64::new(self.retention_bytes.min(room))
    }

    /// How long a figure is measured.
    #[must_use]
    pub fn row(&self) -> Duration {
        Duration::from_millis(self.row_ms)
    }

    /// How much of a load is not measured: nothing where a load has so few bytes that a fast disk takes them before that is over.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        if self.bytes_max <= Self::TINY.bytes_max {
            Duration::ZERO
        } else {
            (self.row() / 4).min(WARM_UP_MAX)
        }
    }

    const TINY: Self = Self {
        row_ms: 400,
        stored_bytes: 16 << 20,
        partitions: 200,
        bytes_max: 64 << 20,
        retention_bytes: 0,
    };
}

const WARM_UP_MAX: Duration = Duration::from_secs(1);
/// Below this a load is over before it has begun.
const ROW_MS_MIN: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(arguments: &[&str], free_bytes: u64) -> Scale {
        let line = CommandLine::try_parse_from([&["gannet-numbers"], arguments].concat()).unwrap();
        Scale::new(&line.options, free_bytes)
    }

    #[test]
    fn a_load_of_few_bytes_has_no_warm_up_in_which_they_could_all_go() {
        assert_eq!(scale(&["--tiny"], u64::MAX).warm_up(), Duration::ZERO);
        let quarter = scale(&["--seconds", "2s"], u64::MAX).warm_up();
        assert_eq!(quarter, Duration::from_millis(500));
        let most = scale(&["--seconds", "1m"], u64::MAX).warm_up();
        assert_eq!(most, WARM_UP_MAX);
    }

    #[test]
    fn a_tiny_run_overrides_what_else_is_asked_for() {
        let tiny = scale(&["--tiny", "--seconds", "1h", "--stored", "1GiB"], u64::MAX);
        assert_eq!(tiny, Scale::TINY);
    }

    #[test]
    fn the_broker_is_killed_once_at_each_amount_in_rising_order() {
        let steps = |arguments: &[&str]| {
            let line =
                CommandLine::try_parse_from([&["gannet-numbers"], arguments].concat()).unwrap();
            Scale::new(&line.options, u64::MAX).stored_steps(&line.options)
        };
        let gib = 1 << 30;
        assert_eq!(
            steps(&["--stored", "5GiB,1GiB,10GiB,1GiB"]),
            [gib, 5 * gib, 10 * gib]
        );
        assert_eq!(steps(&[]), [gib]);
        assert_eq!(steps(&["--tiny"]), [Scale::TINY.stored_bytes]);
    }

    #[test]
    fn a_nearly_full_disk_bounds_every_row() {
        assert_eq!(scale(&[], 4 << 30).bytes_max, 1 << 30);
        assert_eq!(scale(&[], u64::MAX).bytes_max, 8 << 30);
    }

    #[test]
    fn what_is_kept_of_all_partitions_has_room() {
        let kept = |arguments: &[&str], free_bytes, partitions| {
            let kept = scale(arguments, free_bytes).kept_of(partitions);
            kept.map(NonZeroU64::get)
        };
        assert_eq!(kept(&[], u64::MAX, 2), Some(512 << 20));
        // 7.5 GiB over 16.
        assert_eq!(kept(&[], 30 << 30, 16), Some(480 << 20));
        assert_eq!(kept(&["--retention-bytes", "0"], u64::MAX, 2), None);
        assert_eq!(kept(&["--tiny"], u64::MAX, 2), None);
    }

    #[test]
    fn no_time_at_all_is_still_some() {
        assert_eq!(scale(&["--seconds", "0"], u64::MAX).row_ms, ROW_MS_MIN);
    }
}
