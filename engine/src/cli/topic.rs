//! `gannet topic`: creating, listing, describing and deleting topics.

use std::io::{self, Write};

use clap::{Args, Subcommand, ValueEnum};
use gannet_wire::frame::{
    Durability, PARTITIONS_DEFAULT, Retention, TimestampSource, TopicCheck, TopicDescription,
    TopicEntry, TopicOptions,
};
use gannet_wire::limits::TOPIC_PARTITIONS_MAX;

use super::connect::ServerArgs;
use super::exit::{ExitStatus, Failure};
use super::table::{Align, Table, bytes_text, milliseconds_text};
use crate::control::config::{parse_bytes, parse_milliseconds};

/// Creates, lists, describes and deletes topics.
#[derive(Debug, Args)]
pub(super) struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    Create(CreateArgs),
    List(ListArgs),
    Describe(DescribeArgs),
    Delete(DeleteArgs),
}

/// Creates a topic. What is not given here is as the server is configured (topics.*); what that came to is printed.
#[derive(Debug, Args)]
struct CreateArgs {
    /// Name of the topic
    name: String,
    /// How many partitions it has, for ever
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=i64::from(TOPIC_PARTITIONS_MAX)))]
    partitions: Option<u32>,
    /// When a publish that does not ask otherwise is acknowledged
    #[arg(long, value_enum)]
    durability: Option<DurabilityArg>,
    /// How long a record is kept: 7d, 12h, 90s, a number of milliseconds, or none for ever
    #[arg(long, value_name = "DURATION", value_parser = parse_retention_ms)]
    retention: Option<Retention>,
    /// How much of each partition is kept: 10GiB, a number of bytes, or none for no limit
    #[arg(long, value_name = "SIZE", value_parser = parse_retention_bytes)]
    retention_bytes: Option<Retention>,
    /// How much of a batch is checked before it is stored. With header, a faulty producer can store what no consumer can read
    #[arg(long, value_enum)]
    check: Option<CheckArg>,
    /// Which timestamps lookups by time go by
    #[arg(long, value_enum)]
    timestamps: Option<TimestampsArg>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Lists all topics.
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// Describes a topic and each of its partitions.
#[derive(Debug, Args)]
struct DescribeArgs {
    /// Name of the topic
    name: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Deletes a topic with all its records.
#[derive(Debug, Args)]
struct DeleteArgs {
    /// Name of the topic
    name: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// When a publish is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DurabilityArg {
    /// When the server has it in memory: a crash can lose it
    Accepted,
    /// When it is on the disk
    Durable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CheckArg {
    /// Header, checksum and body
    Full,
    /// Header and checksum
    Header,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TimestampsArg {
    /// The producer's
    Producer,
    /// The server's at the append
    Append,
}

pub(super) fn run(args: TopicArgs) -> Result<ExitStatus, Failure> {
    match args.command {
        TopicCommand::Create(args) => create(&args),
        TopicCommand::List(args) => list(&args),
        TopicCommand::Describe(args) => describe(&args),
        TopicCommand::Delete(args) => delete(&args),
    }
}

fn create(args: &CreateArgs) -> Result<ExitStatus, Failure> {
    let client = args.server.connect()?;
    let topic = client
        .create_topic(
            &args.name,
            args.partitions.unwrap_or(PARTITIONS_DEFAULT),
            args.options(),
        )
        .map_err(|error| args.server.failure(&error))?;
    super::quiet_when_the_reader_left(write_description(&topic, &mut io::stdout().lock()))
}

fn list(args: &ListArgs) -> Result<ExitStatus, Failure> {
    let client = args.server.connect()?;
    let topics = client
        .list_topics()
        .map_err(|error| args.server.failure(&error))?;
    super::quiet_when_the_reader_left(write_list(&topics, &mut io::stdout().lock()))
}

fn describe(args: &DescribeArgs) -> Result<ExitStatus, Failure> {
    let client = args.server.connect()?;
    let topic = client
        .describe_topic(&args.name)
        .map_err(|error| args.server.failure(&error))?;
    super::quiet_when_the_reader_left(write_description(&topic, &mut io::stdout().lock()))
}

fn delete(args: &DeleteArgs) -> Result<ExitStatus, Failure> {
    let client = args.server.connect()?;
    client
        .delete_topic(&args.name)
        .map_err(|error| args.server.failure(&error))?;
    Ok(ExitStatus::Success)
}

impl CreateArgs {
    fn options(&self) -> TopicOptions {
        TopicOptions {
            durability: self.durability.map(Durability::from),
            check: self.check.map(|check| match check {
                CheckArg::Full => TopicCheck::Full,
                CheckArg::Header => TopicCheck::HeaderOnly,
            }),
            timestamps: self.timestamps.map(|timestamps| match timestamps {
                TimestampsArg::Producer => TimestampSource::Producer,
                TimestampsArg::Append => TimestampSource::Append,
            }),
            retention_ms: self.retention,
            retention_bytes: self.retention_bytes,
        }
    }
}

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Self {
        match arg {
            DurabilityArg::Accepted => Self::Accepted,
            DurabilityArg::Durable => Self::Durable,
        }
    }
}

fn parse_retention_ms(text: &str) -> Result<Retention, String> {
    parse_retention(text, parse_milliseconds)
}

fn parse_retention_bytes(text: &str) -> Result<Retention, String> {
    parse_retention(text, parse_bytes)
}

fn parse_retention(
    text: &str,
    parse: fn(&str) -> Result<i64, String>,
) -> Result<Retention, String> {
    if text == "none" {
        return Ok(Retention::Unlimited);
    }
    match u64::try_from(parse(text)?) {
        Ok(0) | Err(_) => Err("that would keep nothing; none keeps everything".to_owned()),
        Ok(limit) => Ok(Retention::Limit(limit)),
    }
}

fn write_list(topics: &[TopicEntry], out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("ID", Align::Right),
        ("PARTITIONS", Align::Right),
    ]);
    for topic in topics {
        table.row([
            topic.name.clone(),
            topic.topic.0.to_string(),
            topic.partitions.to_string(),
        ]);
    }
    table.write(out)
}

fn write_description(topic: &TopicDescription, out: &mut impl Write) -> io::Result<()> {
    let settings = &topic.settings;
    let durability = match settings.durability {
        Durability::Accepted => "accepted: acknowledged from memory",
        Durability::Durable => "durable: acknowledged from the disk",
    };
    let check = match settings.check {
        TopicCheck::Full => "full",
        TopicCheck::HeaderOnly => "header",
    };
    let timestamps = match settings.timestamps {
        TimestampSource::Producer => "producer",
        TimestampSource::Append => "append",
    };
    let age = settings
        .retention_ms
        .map_or_else(|| "for ever".to_owned(), milliseconds_text);
    let size = settings.retention_bytes.map_or_else(
        || "no size limit".to_owned(),
        |bytes| format!("{} a partition", bytes_text(bytes)),
    );
    writeln!(out, "topic       {} (id {})", topic.name, topic.topic.0)?;
    writeln!(out, "durability  {durability}")?;
    writeln!(out, "retention   {age}, {size}")?;
    writeln!(out, "check       {check}")?;
    writeln!(out, "timestamps  {timestamps}")?;
    writeln!(out)?;
    let mut table = Table::new([
        ("PARTITION", Align::Right),
        ("SHARD", Align::Right),
        ("START", Align::Right),
        ("NEXT", Align::Right),
        ("STORED", Align::Right),
        ("EPOCH", Align::Right),
        ("DAMAGED", Align::Left),
    ]);
    for partition in &topic.partitions {
        let fences: Vec<String> = partition
            .fences
            .iter()
            .map(|(from, to)| format!("{}..{}", from.0, to.0))
            .collect();
        table.row([
            partition.partition.0.to_string(),
            partition.shard.0.to_string(),
            partition.log_start.0.to_string(),
            partition.next_offset.0.to_string(),
            bytes_text(partition.stored_bytes),
            partition.leader_epoch.0.to_string(),
            fences.join(" "),
        ]);
    }
    table.write(out)
}

#[cfg(test)]
mod tests {
    use gannet_wire::frame::{PartitionDescription, TopicSettings};
    use gannet_wire::{LeaderEpoch, Offset, PartitionIndex, ShardIndex, TopicId};

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_list_has_a_line_for_each_topic() {
        let topics = [TopicEntry {
            topic: TopicId(12),
            name: "orders".to_owned(),
            partitions: 4,
        }];
        assert_eq!(
            written(|out| write_list(&topics, out)),
            "NAME    ID  PARTITIONS\norders  12           4\n"
        );
    }

    #[test]
    fn a_description_names_what_is_damaged() {
        let topic = TopicDescription {
            topic: TopicId(12),
            name: "orders".to_owned(),
            settings: TopicSettings {
                retention_ms: Some(604_800_000),
                ..TopicSettings::default()
            },
            partitions: vec![PartitionDescription {
                partition: PartitionIndex(0),
                shard: ShardIndex(1),
                log_start: Offset(5),
                next_offset: Offset(120),
                leader_epoch: LeaderEpoch(2),
                stored_bytes: 1536,
                fences: vec![(Offset(10), Offset(20)), (Offset(30), Offset(31))],
            }],
        };
        assert_eq!(
            written(|out| write_description(&topic, out)),
            "topic       orders (id 12)\n\
             durability  durable: acknowledged from the disk\n\
             retention   7 days, no size limit\n\
             check       full\n\
             timestamps  producer\n\
             \n\
             PARTITION  SHARD  START  NEXT   STORED  EPOCH  DAMAGED\n\
             \u{20}       0      1      5   120  1.5 KiB      2  10..20 30..31\n"
        );
    }

    #[test]
    fn retention_is_a_limit_or_none_and_never_nothing() {
        assert_eq!(parse_retention_ms("7d"), Ok(Retention::Limit(604_800_000)));
        assert_eq!(
            parse_retention_bytes("10GiB"),
            Ok(Retention::Limit(10 << 30))
        );
        assert_eq!(parse_retention_bytes("none"), Ok(Retention::Unlimited));
        assert!(parse_retention_ms("0").is_err());
        assert!(parse_retention_ms("soon").is_err());
    }
}
