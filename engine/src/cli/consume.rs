//! `gannet consume`: records as lines of the standard output.

mod damage;
mod ends;
mod places;
mod reading;
mod start;

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use clap::Args;
use gannet_wire::client::blocking::{Client, Consumer};
use gannet_wire::client::{ClientError, ConsumerConfig, Delivery};
use gannet_wire::frame::{PartitionDescription, Start, TopicDescription};
use gannet_wire::{Offset, PartitionIndex};

use self::damage::Damage;
use self::reading::Reading;
use super::connect::ServerArgs;
use super::exit::{ExitStatus, Failure};
use super::output;
use super::waiting::Waiting;

/// Writes each record's value and a newline to the standard output.
///
/// Ends at the durable end that the topic had at the start, unless told to follow. A partition that is damaged on the server's disk is given up
/// there, unless told to go on behind it; the others are read to their end.
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
    /// Says what is damaged on the server's disk and goes on behind it, instead of giving up that partition; the exit status is 20 then
    #[arg(long)]
    skip_damaged: bool,
    #[command(flatten)]
    server: ServerArgs,
}

const OUTPUT_BUFFER_BYTES: usize = 256 * 1024;
/// How long one wait for records lasts before it is looked whether something stands in their way.
const WAIT: Duration = Duration::from_millis(500);

pub(super) fn run(args: ConsumeArgs) -> Result<ExitStatus, Failure> {
    let client = args.server.connect()?;
    let topic = client
        .describe_topic(&args.topic)
        .map_err(|error| args.failure(&error))?;
    let mut reading = Reading::new(&args.reaches(&client, &topic)?, args.follow, args.count);
    if reading.is_done() {
        return Ok(ExitStatus::Success);
    }
    let mut consumer = args.consumer(&client, &topic, &reading)?;
    let mut waiting = Waiting::new(args.server.name());
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let written = loop {
        match next_delivery(&mut consumer, &mut waiting, &mut out) {
            Ok(Some(delivery)) => {
                if let Err(error) = reading.write(&delivery, &mut out) {
                    break Err(error);
                }
            }
            Ok(None) => {}
            Err(End::Output(error)) => break Err(error),
            Err(End::Client(error)) => {
                // What came before it is worth having.
                if let Err(error) = out.flush() {
                    break Err(error);
                }
                let goes_on_behind = args.handle_failure(&error, &mut reading)?;
                if goes_on_behind && !reading.is_done() {
                    consumer = args.consumer(&client, &topic, &reading)?;
                }
            }
        }
        if reading.is_done() {
            break out.flush();
        }
    };
    let status = super::quiet_when_the_reader_left(written)?;
    match reading.verdict(&topic.name)? {
        ExitStatus::Success => Ok(status),
        other => Ok(other),
    }
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

impl ConsumeArgs {
    /// Says what damage withholds, and tells whether to go on behind it. Everything else that was wanted and does not come ends the reading.
    fn handle_failure(&self, error: &ClientError, reading: &mut Reading) -> Result<bool, Failure> {
        let Some(damage) = Damage::of(error) else {
            return Err(self.failure(error));
        };
        // What lies behind the end of this reading is not its matter.
        if !reading.wants(damage.partition) {
            return Ok(false);
        }
        if let (true, Some((from, behind))) = (self.skip_damaged, damage.range) {
            super::complain(&format!(
                "topic {}: offsets {from} to {behind} of partition {} are damaged on the server's disk and left out; reading goes on at {behind}",
                self.topic, damage.partition
            ));
            reading.skip_to(damage.partition, behind);
            return Ok(true);
        }
        let mut sentence = self.failure(error).sentence;
        if let Some((_, behind)) = damage.range {
            sentence.push_str(&format!(
                "; to read only what lies behind it: --partition {} --from {behind}",
                damage.partition
            ));
        }
        super::complain(&sentence);
        reading.give_up(damage.partition);
        Ok(false)
    }

    /// With the topic's name, which a subscription does not know.
    fn failure(&self, error: &ClientError) -> Failure {
        let mut failure = self.server.failure(error);
        if matches!(error, ClientError::SubscriptionEnded { .. }) {
            failure.sentence = format!("topic {}: {}", self.topic, failure.sentence);
        }
        failure
    }

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
        reading: &Reading,
    ) -> Result<Consumer, Failure> {
        client
            .consumer_at(topic, &reading.starts(), ConsumerConfig::default())
            .map_err(|error| self.failure(&error))
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
