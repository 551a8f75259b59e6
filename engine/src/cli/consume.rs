//! `gannet consume`: records as lines of the standard output.

mod ends;
mod start;

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use clap::Args;
use gannet_wire::batch::Records;
use gannet_wire::client::blocking::{Client, Consumer};
use gannet_wire::client::{ClientError, ConsumerConfig, Delivery, Partitions};
use gannet_wire::frame::{PartitionDescription, Start, TopicDescription};
use gannet_wire::{ErrorCode, Offset, PartitionIndex};

use self::ends::Ends;
use super::connect::ServerArgs;
use super::exit::{ExitStatus, Failure};
use super::output;
use super::waiting::Waiting;

/// Writes each record's value and a newline to the standard output.
///
/// Ends at the durable end that the topic had at the start, unless told to follow.
#[derive(Debug, Args)]
pub(super) struct ConsumeArgs {
    /// Name of the topic
    topic: String,
    /// Where to begin: earliest, latest, an offset, or @ and a time such as @2026-05-01T12:00:00Z
    #[arg(long, value_name = "PLACE", default_value = "earliest", value_parser = start::parse)]
    from: Start,
    /// Only this partition [default: all, each in its order]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    partition: Option<u32>,
    /// Goes on with what is published from now on
    #[arg(long)]
    follow: bool,
    /// Ends after so many records
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    count: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

const OUTPUT_BUFFER_BYTES: usize = 256 * 1024;
/// How long one wait for records lasts before it is looked whether something stands in their way.
const WAIT: Duration = Duration::from_millis(500);

pub(super) fn run(args: ConsumeArgs) -> Result<ExitStatus, Failure> {
    let client = args.server.connect()?;
    let (partitions, ends) = if args.follow {
        let only = args
            .partition
            .map(|partition| Partitions::Only(vec![partition]));
        (only.unwrap_or(Partitions::All), None)
    } else {
        let ends = args.ends_now(&client)?;
        let unfinished = ends
            .unfinished()
            .iter()
            .map(|partition| partition.0)
            .collect();
        (Partitions::Only(unfinished), Some(ends))
    };
    let mut reading = Reading {
        ends,
        left: args.count.unwrap_or(u64::MAX),
        broken: BTreeSet::new(),
    };
    if reading.is_done() {
        return Ok(ExitStatus::Success);
    }
    let mut consumer = client
        .consumer(
            &args.topic,
            partitions,
            args.from,
            ConsumerConfig::default(),
        )
        .map_err(|error| args.failure(&error))?;
    let mut waiting = Waiting::new(args.server.name());
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let written = loop {
        let delivery = match next_delivery(&mut consumer, &mut waiting, &mut out) {
            Ok(Some(delivery)) => delivery,
            Ok(None) => continue,
            Err(End::Output(error)) => break Err(error),
            Err(End::Client(error)) => {
                // What came before the failure is worth having.
                if let Err(error) = out.flush() {
                    break Err(error);
                }
                args.handle_failure(&error, &mut reading)?;
                if reading.is_done() {
                    break Ok(());
                }
                continue;
            }
        };
        if let Err(error) = reading.write(&delivery, &mut out) {
            break Err(error);
        }
        if reading.is_done() {
            break out.flush();
        }
    };
    let status = super::quiet_when_the_reader_left(written)?;
    reading.verdict(&args.topic).map_or(Ok(status), Err)
}

/// How far the reading is.
struct Reading {
    /// Without them it goes on for ever.
    ends: Option<Ends>,
    /// Records still wanted.
    left: u64,
    /// Partitions that are damaged where the reading came to.
    broken: BTreeSet<PartitionIndex>,
}

enum End {
    Output(io::Error),
    Client(ClientError),
}

/// What is there already, else what comes within a while; before waiting, what was written leaves the buffer.
fn next_delivery(
    consumer: &mut Consumer,
    waiting: &mut Waiting,
    out: &mut impl Write,
) -> Result<Option<Delivery>, End> {
    if let Some(delivery) = consumer.next(Duration::ZERO).map_err(End::Client)? {
        return Ok(Some(delivery));
    }
    out.flush().map_err(End::Output)?;
    if output::reader_left(&io::stdout()) {
        return Err(End::Output(io::ErrorKind::BrokenPipe.into()));
    }
    let came = consumer.next(WAIT).map_err(End::Client);
    if let Some(sentence) = waiting.look(consumer.obstacle().as_ref(), Instant::now()) {
        super::complain(&sentence);
    }
    came
}

impl Reading {
    fn is_done(&self) -> bool {
        self.left == 0 || self.ends.as_ref().is_some_and(Ends::all_reached)
    }

    fn write(&mut self, delivery: &Delivery, out: &mut impl Write) -> io::Result<()> {
        write_records(
            delivery.partition,
            &delivery.records,
            delivery.skip_before,
            &mut self.ends,
            &mut self.left,
            out,
        )
    }

    /// No more comes of a damaged partition; the others are read on.
    fn handle_broken(&mut self, partition: PartitionIndex) {
        self.broken.insert(partition);
        if let Some(ends) = &mut self.ends {
            ends.give_up(partition);
        }
    }

    /// What is to be said when the reading is done, unless all is well.
    fn verdict(&self, topic: &str) -> Option<Failure> {
        if self.broken.is_empty() {
            return None;
        }
        let broken: Vec<String> = self.broken.iter().map(ToString::to_string).collect();
        Some(Failure::new(
            ExitStatus::Server,
            format!(
                "of the topic {topic}, what lies behind the damage was not read in {} of the partitions: {}",
                broken.len(),
                broken.join(", ")
            ),
        ))
    }
}

/// The values of a batch of `partition` from `begin` on, each with a newline, as far as they were asked for. A null value is an
/// empty line.
fn write_records(
    partition: PartitionIndex,
    records: &Records,
    begin: Offset,
    ends: &mut Option<Ends>,
    left: &mut u64,
    out: &mut impl Write,
) -> io::Result<()> {
    for (offset, record) in records.iter() {
        if *left == 0 {
            return Ok(());
        }
        let wanted = offset >= begin
            && ends
                .as_ref()
                .is_none_or(|ends| ends.includes(partition, offset));
        if wanted {
            out.write_all(record.value.unwrap_or_default())?;
            out.write_all(b"\n")?;
            *left -= 1;
        }
    }
    if let Some(ends) = ends {
        ends.advance(partition, records.next_offset());
    }
    Ok(())
}

impl ConsumeArgs {
    /// Says what a damaged partition withholds, and has the others read on. Everything else ends the reading.
    fn handle_failure(&self, error: &ClientError, reading: &mut Reading) -> Result<(), Failure> {
        match error {
            ClientError::SubscriptionEnded {
                partition,
                error: body,
                ..
            } if body.code == ErrorCode::RangeFenced => {
                let mut sentence = self.failure(error).sentence;
                if let Some((_, behind)) = body.range {
                    sentence.push_str(&format!(
                        "; to read what lies behind it: --partition {partition} --from {behind}"
                    ));
                }
                super::complain(&sentence);
                reading.handle_broken(*partition);
                Ok(())
            }
            // Every subscription has ended.
            ClientError::Closed if !reading.broken.is_empty() => {
                reading.left = 0;
                Ok(())
            }
            _ => Err(self.failure(error)),
        }
    }

    /// With the topic's name, which a subscription does not know.
    fn failure(&self, error: &ClientError) -> Failure {
        let mut failure = self.server.failure(error);
        if matches!(error, ClientError::SubscriptionEnded { .. }) {
            failure.sentence = format!("topic {}: {}", self.topic, failure.sentence);
        }
        failure
    }

    /// The end of each partition asked for, as it is now.
    fn ends_now(&self, client: &Client) -> Result<Ends, Failure> {
        let topic = client
            .describe_topic(&self.topic)
            .map_err(|error| self.server.failure(&error))?;
        let mut partitions = Vec::new();
        for partition in self.partitions_of(&topic)? {
            let begin = self.begin_of(client, &topic, partition)?;
            partitions.push((partition.partition, begin, partition.next_offset));
        }
        Ok(Ends::new(partitions))
    }

    fn partitions_of<'a>(
        &self,
        topic: &'a TopicDescription,
    ) -> Result<Vec<&'a PartitionDescription>, Failure> {
        let Some(wanted) = self.partition.map(PartitionIndex) else {
            return Ok(topic.partitions.iter().collect());
        };
        match topic
            .partitions
            .iter()
            .find(|partition| partition.partition == wanted)
        {
            Some(partition) => Ok(vec![partition]),
            None => Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "the topic {} has no partition {wanted}: it has {}, counted from 0",
                    topic.name,
                    topic.partitions.len()
                ),
            )),
        }
    }

    fn begin_of(
        &self,
        client: &Client,
        topic: &TopicDescription,
        partition: &PartitionDescription,
    ) -> Result<Offset, Failure> {
        match self.from {
            Start::Earliest => Ok(partition.log_start),
            Start::Latest => Ok(partition.next_offset),
            // The server says whether there is such an offset: without asking, one behind the end would read nothing in silence.
            Start::Offset(_) | Start::Timestamp(_) => client
                .lookup_offset(topic.topic, partition.partition, self.from)
                .map(|found| found.offset)
                .map_err(|error| {
                    let failure = self.server.failure(&error);
                    Failure::new(
                        failure.status,
                        format!(
                            "topic {}, partition {}: {}",
                            topic.name, partition.partition, failure.sentence
                        ),
                    )
                }),
        }
    }
}

#[cfg(test)]
#[path = "consume_tests.rs"]
mod tests;
