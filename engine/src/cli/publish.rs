//! `gannet publish`: lines of the standard input as records.

mod lines;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use gannet_wire::PartitionIndex;
use gannet_wire::batch::{BatchError, Compression};
use gannet_wire::client::blocking::Producer;
use gannet_wire::client::{ClientError, DeliveryReport, ProducerConfig};
use gannet_wire::limits::BATCH_BYTES_MAX;

use self::lines::{LineError, Lines};
use super::connect::ServerArgs;
use super::exit::{ExitStatus, Failure};
use super::signals::StopSignals;
use super::topic::DurabilityArg;
use super::waiting::Waiting;
use crate::control::config::{parse_bytes, parse_milliseconds};

/// Publishes each line of the standard input as a record, byte for byte, without its newline.
///
/// A last line that has no newline is a record too. How many records were acknowledged is said at the end; the exit status is
/// not 0 unless all were.
#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// Name of the topic
    topic: String,
    /// Key of every record [default: none]
    #[arg(long)]
    key: Option<String>,
    /// Partition of every record [default: by the key's hash, else in turn]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    partition: Option<u32>,
    /// When a record is acknowledged [default: the topic's]
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = CompressionArg::None)]
    compression: CompressionArg,
    /// How much is gathered into one batch, at most
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_batch_bytes)]
    batch_bytes: u32,
    /// How long a record waits for others to share its batch
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = parse_linger)]
    linger: Duration,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompressionArg {
    /// Not at all
    None,
    /// Fast
    Lz4,
    /// Small
    Zstd,
}

/// Reports are taken once so many records were sent, so that they do not gather for a long input.
const RECORDS_PER_TALLY: u64 = 1024;
/// Every record has a token, since only what has one is reported; which one does not matter here.
const TOKEN: u64 = 0;

/// How often the watching thread looks whether something stands in the way.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is under way: one thread sends, another one watches.
struct Publishing {
    producer: Producer,
    topic: String,
    tally: Mutex<Tally>,
}

pub(super) fn run(args: PublishArgs) -> Result<ExitStatus, Failure> {
    let publishing = Arc::new(OnceLock::new());
    watch(&publishing, Waiting::new(args.server.name()))?;
    let client = args.server.connect()?;
    let producer = client
        .producer(&args.topic, args.producer_config())
        .map_err(|error| args.server.failure(&error))?;
    args.check_partition(producer.partition_count())?;
    publish(
        &args,
        publishing.get_or_init(|| Publishing {
            producer,
            topic: args.topic.clone(),
            tally: Mutex::default(),
        }),
    )
}

fn publish(args: &PublishArgs, publishing: &Publishing) -> Result<ExitStatus, Failure> {
    let sent = send_lines(args, publishing);
    // What was sent before a failure may still be acknowledged: wait for it, so that the numbers are true.
    let flushed = publishing.producer.flush();
    let mut sentence = publishing.sentence();
    if !matches!(sent, Ok(Input::Whole)) {
        sentence.push_str("; the rest of the input was not sent");
    }
    super::complain(&sentence);
    sent?;
    let tally = publishing.tally();
    match flushed {
        Ok(()) if tally.acked == tally.sent => Ok(ExitStatus::Success),
        Ok(()) => Err(Failure::new(
            ExitStatus::NotAcked,
            "not every record was acknowledged; those that were not may or may not be stored",
        )),
        Err(error) => Err(args.not_acked(&error)),
    }
}

/// How far the input was sent.
enum Input {
    Whole,
    /// To where a record failed: what follows it would be out of place.
    Cut,
}

fn send_lines(args: &PublishArgs, publishing: &Publishing) -> Result<Input, Failure> {
    let partition = args.partition.map(PartitionIndex);
    let key = args.key.as_deref().map(str::as_bytes);
    let mut lines = Lines::new(io::stdin().lock(), BATCH_BYTES_MAX as usize);
    let mut number = 0_u64;
    while let Some(line) = lines.next().map_err(input_failure)? {
        number += 1;
        publishing
            .producer
            .send_with(partition, key, Some(line), &[], None, TOKEN)
            .map_err(|error| args.send_failure(number, &error))?;
        let mut tally = publishing.tally();
        tally.sent += 1;
        if tally.sent.is_multiple_of(RECORDS_PER_TALLY) {
            tally.take_reports(&publishing.producer);
            if tally.failed > 0 {
                // The flush says why.
                return Ok(Input::Cut);
            }
        }
    }
    Ok(Input::Whole)
}

fn input_failure(error: LineError) -> Failure {
    match error {
        LineError::Input(error) => Failure::new(
            ExitStatus::Environment,
            format!("the standard input could not be read: {error}"),
        ),
        LineError::TooLong {
            line,
            line_bytes_max,
        } => Failure::new(
            ExitStatus::NotAcked,
            format!(
                "line {line} of the input has more than {line_bytes_max} bytes, more than any record can have: split it"
            ),
        ),
    }
}

/// In a thread of its own, to the end of the program: says why it waits, and how far it came when a signal ends it.
fn watch(publishing: &Arc<OnceLock<Publishing>>, mut waiting: Waiting) -> Result<(), Failure> {
    let failed = |error| {
        Failure::new(
            ExitStatus::Environment,
            format!("signals could not be set up: {error}"),
        )
    };
    let signals = StopSignals::block().map_err(failed)?;
    let publishing = Arc::clone(publishing);
    let watching = move || {
        while let Ok(signal) = signals.wait_for(LOOK_EVERY) {
            let publishing = publishing.get();
            if let Some(signal) = signal {
                if let Some(publishing) = publishing {
                    super::complain(&format!(
                        "{signal}: {}; what was not may or may not be stored",
                        publishing.sentence()
                    ));
                }
                std::process::exit(ExitStatus::Interrupted.code().into());
            }
            let obstacle = publishing.and_then(|publishing| publishing.producer.obstacle());
            if let Some(sentence) = waiting.look(obstacle.as_ref(), Instant::now()) {
                super::complain(&sentence);
            }
        }
    };
    thread::Builder::new()
        .name("gannet-watch".to_owned())
        .spawn(watching)
        .map_err(failed)?;
    Ok(())
}

impl Publishing {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Whoever panicked with it left it whole: it is only counted up.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many records were sent and acknowledged by now.
    fn sentence(&self) -> String {
        let mut tally = self.tally();
        tally.take_reports(&self.producer);
        tally.sentence(&self.topic)
    }
}

impl PublishArgs {
    /// Before anything is read.
    fn check_partition(&self, partitions: u32) -> Result<(), Failure> {
        match self.partition {
            Some(partition) if partition >= partitions => Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "the topic {} has no partition {partition}: it has {partitions}, counted from 0",
                    self.topic
                ),
            )),
            _ => Ok(()),
        }
    }

    fn send_failure(&self, line: u64, error: &ClientError) -> Failure {
        let ClientError::Record(BatchError::TooLarge { size, limit, .. }) = error else {
            return self.not_acked(error);
        };
        let compression = match self.compression {
            CompressionArg::None => "",
            CompressionArg::Lz4 | CompressionArg::Zstd => {
                "; compression does not help, since a batch has to fit without it"
            }
        };
        Failure::new(
            ExitStatus::NotAcked,
            format!(
                "line {line} of the input makes a batch of {size} bytes by itself, and the server takes {limit}: split it, or raise the server's network.batch_bytes_max{compression}"
            ),
        )
    }

    fn not_acked(&self, error: &ClientError) -> Failure {
        let failure = self.server.failure(error);
        Failure::new(ExitStatus::NotAcked, failure.sentence)
    }

    fn producer_config(&self) -> ProducerConfig {
        ProducerConfig {
            batch_bytes: self.batch_bytes,
            linger: self.linger,
            compression: match self.compression {
                CompressionArg::None => Compression::None,
                CompressionArg::Lz4 => Compression::Lz4,
                CompressionArg::Zstd => Compression::Zstd,
            },
            durability: self.durability.map(Into::into),
            ..ProducerConfig::default()
        }
    }
}

fn parse_batch_bytes(text: &str) -> Result<u32, String> {
    let bytes = parse_bytes(text)?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (1..=BATCH_BYTES_MAX).contains(bytes))
        .ok_or_else(|| format!("a batch has from 1 to {BATCH_BYTES_MAX} bytes"))
}

fn parse_linger(text: &str) -> Result<Duration, String> {
    u64::try_from(parse_milliseconds(text)?)
        .map(Duration::from_millis)
        .map_err(|_| "a duration is not negative".to_owned())
}

/// What became of the records.
#[derive(Debug, Default)]
struct Tally {
    sent: u64,
    acked: u64,
    failed: u64,
    duplicates: u64,
    reports: Vec<DeliveryReport>,
}

impl Tally {
    /// Counts the reports that have come in.
    fn take_reports(&mut self, producer: &Producer) {
        producer.acks(&mut self.reports);
        let mut reports = std::mem::take(&mut self.reports);
        for report in reports.drain(..) {
            self.count(&report);
        }
        self.reports = reports;
    }

    fn count(&mut self, report: &DeliveryReport) {
        let records = u64::from(report.records);
        match &report.result {
            Ok(delivered) => {
                self.acked += records;
                if delivered.duplicate {
                    self.duplicates += records;
                }
            }
            Err(_) => self.failed += records,
        }
    }

    fn sentence(&self, topic: &str) -> String {
        let mut sentence = format!(
            "{} of {} records acknowledged by {topic}",
            self.acked, self.sent
        );
        if self.duplicates > 0 {
            sentence.push_str(&format!(
                ", {} of them stored by an earlier attempt",
                self.duplicates
            ));
        }
        sentence
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
