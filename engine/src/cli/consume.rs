//! `gannet consume`: records as lines of the standard output.

mod ends;
mod start;

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use clap::Args;
use gannet_wire::batch::Records;
use gannet_wire::client::blocking::{Client, Consumer};
use gannet_wire::client::{ConsumerConfig, Delivery, Partitions};
use gannet_wire::frame::{PartitionDescription, Start, TopicDescription};
use gannet_wire::{Offset, PartitionIndex};

use self::ends::Ends;
use super::connect::ServerArgs;
use super::exit::{ExitStatus, Failure};

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
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
    /// Goes on with what is published from now on
    #[arg(long)]
    follow: bool,
    /// Ends after so many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    server: ServerArgs,
}

const OUTPUT_BUFFER_BYTES: usize = 256 * 1024;
/// How long one wait for records lasts before the next begins. Nothing depends on it.
const WAIT: Duration = Duration::from_secs(60);

pub(super) fn run(args: ConsumeArgs) -> Result<ExitStatus, Failure> {
    let client = args.server.connect()?;
    let (partitions, mut ends) = if args.follow {
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
    let mut left = args.count.unwrap_or(u64::MAX);
    let done =
        |ends: &Option<Ends>, left: u64| left == 0 || ends.as_ref().is_some_and(Ends::all_reached);
    if done(&ends, left) {
        return Ok(ExitStatus::Success);
    }
    let mut consumer = client
        .consumer(
            &args.topic,
            partitions,
            args.from,
            ConsumerConfig::default(),
        )
        .map_err(|error| args.server.failure(&error))?;
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let written = loop {
        let delivery = match next_delivery(&args, &mut consumer, &mut out) {
            Ok(Some(delivery)) => delivery,
            Ok(None) => continue,
            Err(End::Output(error)) => break Err(error),
            // What came before the failure is worth having.
            Err(End::Client(failure)) => {
                let _ = out.flush();
                return Err(failure);
            }
        };
        if let Err(error) = write_records(
            delivery.partition,
            &delivery.records,
            delivery.skip_before,
            &mut ends,
            &mut left,
            &mut out,
        ) {
            break Err(error);
        }
        if done(&ends, left) {
            break out.flush();
        }
    };
    super::quiet_when_the_reader_left(written)
}

enum End {
    Output(io::Error),
    Client(Failure),
}

/// What is there already, else what comes within a while; before waiting, what was written leaves the buffer.
fn next_delivery(
    args: &ConsumeArgs,
    consumer: &mut Consumer,
    out: &mut impl Write,
) -> Result<Option<Delivery>, End> {
    let failed = |error| End::Client(args.server.failure(&error));
    if let Some(delivery) = consumer.next(Duration::ZERO).map_err(failed)? {
        return Ok(Some(delivery));
    }
    out.flush().map_err(End::Output)?;
    consumer.next(WAIT).map_err(failed)
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
                .map_err(|error| self.server.failure(&error)),
        }
    }
}

#[cfg(test)]
#[path = "consume_tests.rs"]
mod tests;
