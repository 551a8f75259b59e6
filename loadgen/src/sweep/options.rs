//! The command line of a sweep.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;

use crate::options::Options;
use crate::units::parse_duration;

/// What a sweep is asked for: a run's options, each step being such a run, and where to look for the knee.
#[derive(Clone, Debug, Args)]
pub struct SweepOptions {
    /// The first rate, in records a second of all producers together.
    #[arg(long, value_name = "RECORDS/S", default_value = "1000")]
    pub from: NonZeroU64,
    /// The highest rate to try. Without, whatever the broker takes.
    #[arg(long, value_name = "RECORDS/S")]
    pub to: Option<NonZeroU64>,
    /// How much larger each rate is than the one before it, until one is too high.
    #[arg(long, default_value = "2", value_parser = parse_factor)]
    pub factor: f64,
    /// A rate is too high when less than 97 % of it is reached, or when its p99 is more than so many times that of the lowest rate.
    #[arg(long, value_name = "TIMES", default_value = "10", value_parser = parse_factor)]
    pub p99_times: f64,
    /// No step is begun that would end later than this, if it took as long as the longest one. The first is made in any case.
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = parse_duration)]
    pub budget: Duration,
    /// What each step is.
    #[command(flatten)]
    pub run: Options,
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.05..=1000.0).contains(&factor) => Ok(factor),
        _ => Err(format!(
            "{text:?} is no factor: give a number from 1.05 to 1000"
        )),
    }
}
