//! The command line of a search.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use gannet_loadgen::report::Durability;
use gannet_loadgen::units::{parse_bytes, parse_duration};

use super::workload::Workload;
use crate::goal::Goal;

/// Less time is not enough for a single trial.
const BUDGET_MIN: Duration = Duration::from_secs(5);

/// What to search for, and with what.
#[derive(Clone, Debug, Args)]
pub struct SearchOptions {
    /// What to reach: "p99 < 2ms at 100 MB/s" or "max throughput with p99 < 10ms". Latencies are p50, p90, p99, p99.9 or max, of publishing or, with "end to end" before them, to a consumer; loads
    /// are in MB/s or records/s.
    #[arg(long)]
    pub goal: Goal,
    /// How long the search may take. It ends earlier when there is nothing more to try.
    #[arg(long, value_name = "TIME", default_value = "8m", value_parser = parse_budget)]
    pub budget: Duration,
    /// Where the configuration that was found goes.
    #[arg(long, value_name = "FILE", default_value = "gannet.toml")]
    pub output: PathBuf,
    /// Replace the files that are there already.
    #[arg(long)]
    pub force: bool,
    /// Write every trial to this file as JSON. Its fields are documented in tuning/src/search/report.rs.
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
    /// Where the page with plots of what was tried goes; beside the configuration without, with the ending `.html`.
    #[arg(long, value_name = "FILE.html")]
    pub page: Option<PathBuf>,
    /// Producers, each with a thread and a connection of its own.
    #[arg(long, default_value = "1")]
    pub producers: NonZeroU32,
    /// Consumers, each with a thread and a connection of its own. Every record is verified by one.
    #[arg(long, default_value = "1")]
    pub consumers: NonZeroU32,
    /// Partitions of the topic.
    #[arg(long, default_value = "2")]
    pub partitions: NonZeroU32,
    /// Bytes of each record's value.
    #[arg(long, value_name = "BYTES", default_value = "1000", value_parser = parse_bytes)]
    pub record_size: u64,
    /// What an acknowledgement must mean.
    #[arg(long, value_enum, default_value_t = Durability::Durable)]
    pub durability: Durability,
    /// Where the brokers keep their data: in a new directory in this one, which must exist, removed afterwards. Without: $TMPDIR, /var/tmp or beside this program, whichever is on a real disk.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// What the order of trials and the records' bytes come from; drawn without.
    #[arg(long)]
    pub seed: Option<u64>,
}

impl SearchOptions {
    /// Where the page goes.
    #[must_use]
    pub fn page_path(&self) -> PathBuf {
        self.page
            .clone()
            .unwrap_or_else(|| self.output.with_extension("html"))
    }

    /// What is put on the brokers.
    #[must_use]
    pub fn workload(&self) -> Workload {
        Workload {
            producers: self.producers.get(),
            consumers: self.consumers.get(),
            partitions: self.partitions.get(),
            record_bytes: self.record_size,
            durability: self.durability,
        }
    }
}

fn parse_budget(text: &str) -> Result<Duration, String> {
    let budget = parse_duration(text)?;
    if budget < BUDGET_MIN {
        return Err(format!(
            "a search needs {} s at least, and minutes to find anything",
            BUDGET_MIN.as_secs()
        ));
    }
    Ok(budget)
}
