//! `gannet consume`: records as lines of the standard output.

mod damage;
mod ends;
mod places;
mod start;

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use clap::Args;
use gannet_wire::batch::Records;
use gannet_wire::client::blocking::{Client, Consumer};
use gannet_wire::client::{ClientError, ConsumerConfig, Delivery};
use gannet_wire::frame::{PartitionDescription, Start, TopicDescription};
use gannet_wire::{Offset, PartitionIndex};

use self::damage::Damage;
use self::ends::Ends;
use self::places::Places;
use super::connect::ServerArgs;
use super::exit::{ExitStatus, Failure};

/// Writes each record's value and a newline to the standard output.
///
/// Ends at the durable end that the topic had at the start, unless told to follow. Ends as well at records that are damaged on the server's disk,
/// unless told to go on behind them.
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
    /// Says what is damaged on the server's disk and goes on behind it, instead of ending there; the exit status is 20 then
    #[arg(long)]
    skip_damaged: bool,
    #[command(flatten)]
    server: ServerArgs,
}

const OUTPUT_BUFFER_BYTES: usize = 256 * 1024;
/// How long one wait for records lasts before the next begins. Nothing depends on it.
const WAIT: Duration = Duration::from_secs(60);

pub(super) fn run(args: ConsumeArgs) -> Result<ExitStatus, Failure> {
    let client = args.server.connect()?;
    let topic = client
        .describe_topic(&args.topic)
        .map_err(|error| args.server.failure(&error))?;
    let reaches = args.reaches(&client, &topic)?;
    let mut places = Places::new(&reaches);
    let mut ends = (!args.follow).then(|| Ends::new(reaches));
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut skipped = false;
    let done =
        |ends: &Option<Ends>, left: u64| left == 0 || ends.as_ref().is_some_and(Ends::all_reached);
    if done(&ends, left) {
        return Ok(ExitStatus::Success);
    }
    let mut consumer = args.consumer(&client, &topic, &places, &ends)?;
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let written = loop {
        let delivery = match next_delivery(&mut consumer, &mut out) {
            Ok(Some(delivery)) => delivery,
            Ok(None) => continue,
            Err(End::Output(error)) => break Err(error),
            Err(End::Client(error)) => {
                // What came before it is worth having.
                let flushed = out.flush();
                let Some(damage) = Damage::of(&error).filter(|_| args.skip_damaged) else {
                    return Err(args.server.failure(&error));
                };
                if let Err(error) = flushed {
                    break Err(error);
                }
                skipped = true;
                damage.say();
                places.go_on(damage.partition, damage.to);
                if let Some(ends) = &mut ends {
                    ends.advance(damage.partition, damage.to);
                }
                if done(&ends, left) {
                    break Ok(());
                }
                consumer = args.consumer(&client, &topic, &places, &ends)?;
                continue;
            }
        };
        places.go_on(delivery.partition, delivery.position());
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
    match super::quiet_when_the_reader_left(written)? {
        ExitStatus::Success if skipped => Ok(ExitStatus::Damaged),
        status => Ok(status),
    }
}

enum End {
    Output(io::Error),
    Client(ClientError),
}

/// What is there already, else what comes within a while; before waiting, what was written leaves the buffer.
fn next_delivery(consumer: &mut Consumer, out: &mut impl Write) -> Result<Option<Delivery>, End> {
    if let Some(delivery) = consumer.next(Duration::ZERO).map_err(End::Client)? {
        return Ok(Some(delivery));
    }
    out.flush().map_err(End::Output)?;
    consumer.next(WAIT).map_err(End::Client)
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
    /// Where each partition asked for begins and ends, as it is now.
    fn reaches(
        &self,
        client: &Client,
        topic: &TopicDescription,
    ) -> Result<Vec<(PartitionIndex, Offset, Offset)>, Failure> {
        let mut reaches = Vec::new();
        for partition in self.partitions_of(topic)? {
            let begin = self.begin_of(client, topic, partition)?;
            reaches.push((partition.partition, begin, partition.next_offset));
        }
        Ok(reaches)
    }

    /// Reads on in every partition that is not done.
    fn consumer(
        &self,
        client: &Client,
        topic: &TopicDescription,
        places: &Places,
        ends: &Option<Ends>,
    ) -> Result<Consumer, Failure> {
        let starts = places.starts(ends.as_ref().map(Ends::unfinished));
        client
            .consumer_at(topic, &starts, ConsumerConfig::default())
            .map_err(|error| self.server.failure(&error))
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
