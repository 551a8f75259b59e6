//! Messages about topics.

#![warn(clippy::indexing_slicing)]

use bytes::{BufMut, BytesMut};

use super::error::FrameErrorKind;
use super::field::{FieldReader, put_count, put_string};
use crate::batch::CheckDepth;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, ShardIndex, TopicId};
use crate::limits::{
    FENCES_MAX, PARTITION_BYTES, TOPIC_LIST_MAX, TOPIC_NAME_BYTES_MAX, TOPIC_PARTITIONS_MAX,
};

/// When a publish is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Durability {
    /// The broker has it in memory and writes it with the next commit: a crash can lose it.
    Accepted = 1,
    /// It is on the disk.
    Durable = 2,
}

impl Durability {
    /// The durability a byte on the wire stands for.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Accepted),
            2 => Some(Self::Durable),
            _ => None,
        }
    }
}

/// How much of a batch the broker checks before it stores it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum TopicCheck {
    /// The header, the checksum and the whole body.
    Full = 1,
    /// The header and the checksum: a producer can store a body that no consumer can read.
    HeaderOnly = 2,
}

impl TopicCheck {
    /// The check a byte on the wire stands for.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Full),
            2 => Some(Self::HeaderOnly),
            _ => None,
        }
    }
}

impl From<TopicCheck> for CheckDepth {
    fn from(check: TopicCheck) -> Self {
        match check {
            TopicCheck::Full => Self::Full,
            TopicCheck::HeaderOnly => Self::HeaderOnly,
        }
    }
}

/// Which timestamp lookups by time go by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum TimestampSource {
    /// The producer's.
    Producer = 1,
    /// The broker's at the append.
    Append = 2,
}

impl TimestampSource {
    /// The source a byte on the wire stands for.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Producer),
            2 => Some(Self::Append),
            _ => None,
        }
    }
}

/// What a topic is created with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TopicSettings {
    /// When a publish that does not ask otherwise is acknowledged.
    pub durability: Durability,
    /// How much of a batch is checked before it is stored.
    pub check: TopicCheck,
    /// Which timestamp lookups by time go by.
    pub timestamps: TimestampSource,
    /// Milliseconds after its append that a record is kept at least. `None`: for ever. At most `i64::MAX`.
    pub retention_ms: Option<u64>,
    /// Bytes of each partition that are kept at least. `None`: all. At most `i64::MAX`.
    pub retention_bytes: Option<u64>,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            check: TopicCheck::Full,
            timestamps: TimestampSource::Producer,
            retention_ms: None,
            retention_bytes: None,
        }
    }
}

/// How long, or how much, a new topic keeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Retention {
    /// Everything.
    Unlimited,
    /// Up to this limit, at most `i64::MAX`.
    Limit(u64),
}

impl Retention {
    /// The limit, if there is one.
    #[must_use]
    pub const fn limit(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::Limit(limit) => Some(limit),
        }
    }
}

impl From<Option<u64>> for Retention {
    fn from(limit: Option<u64>) -> Self {
        limit.map_or(Self::Unlimited, Self::Limit)
    }
}

/// What a new topic shall be like. What is `None` is as the broker is configured to make topics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TopicOptions {
    /// When a publish that does not ask otherwise is acknowledged.
    pub durability: Option<Durability>,
    /// How much of a batch is checked before it is stored.
    pub check: Option<TopicCheck>,
    /// Which timestamp lookups by time go by.
    pub timestamps: Option<TimestampSource>,
    /// Milliseconds after its append that a record is kept at least.
    pub retention_ms: Option<Retention>,
    /// Bytes of each partition that are kept at least.
    pub retention_bytes: Option<Retention>,
}

impl TopicOptions {
    /// The settings they lead to.
    #[must_use]
    pub fn resolve(&self, defaults: &TopicSettings) -> TopicSettings {
        let retention =
            |option: Option<Retention>, default| option.map_or(default, Retention::limit);
        TopicSettings {
            durability: self.durability.unwrap_or(defaults.durability),
            check: self.check.unwrap_or(defaults.check),
            timestamps: self.timestamps.unwrap_or(defaults.timestamps),
            retention_ms: retention(self.retention_ms, defaults.retention_ms),
            retention_bytes: retention(self.retention_bytes, defaults.retention_bytes),
        }
    }
}

impl From<&Self> for TopicOptions {
    fn from(options: &Self) -> Self {
        *options
    }
}

impl From<&TopicSettings> for TopicOptions {
    /// Leaves nothing to the broker.
    fn from(settings: &TopicSettings) -> Self {
        Self {
            durability: Some(settings.durability),
            check: Some(settings.check),
            timestamps: Some(settings.timestamps),
            retention_ms: Some(settings.retention_ms.into()),
            retention_bytes: Some(settings.retention_bytes.into()),
        }
    }
}

/// As a number of partitions: as many as the broker is configured to give new topics.
pub const PARTITIONS_DEFAULT: u32 = 0;

/// Asks for a topic to be created. Answered by [`TopicDescription`], which has what the broker's defaults came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicCreate {
    /// The new topic's name.
    pub name: String,
    /// How many partitions it has, or [`PARTITIONS_DEFAULT`].
    pub partitions: u32,
    /// What it is like.
    pub options: TopicOptions,
}

/// A topic and its partitions: the body of TopicReply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDescription {
    /// The topic's id, which no other topic ever has.
    pub topic: TopicId,
    /// The topic's name.
    pub name: String,
    /// What it was created with.
    pub settings: TopicSettings,
    /// Its partitions, in the order of their indexes.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as it was when the broker answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionDescription {
    /// Its index in the topic.
    pub partition: PartitionIndex,
    /// The shard that owns it.
    pub shard: ShardIndex,
    /// The offset of the oldest record kept.
    pub log_start: Offset,
    /// Just behind the last durable record.
    pub next_offset: Offset,
    /// The term of its last append.
    pub leader_epoch: LeaderEpoch,
    /// Bytes of its batches kept on the disk.
    pub stored_bytes: u64,
    /// Ranges that are damaged and withheld, each from its first offset to just behind its last.
    pub fences: Vec<(Offset, Offset)>,
}

/// Asks for a page of the topics, in the order of their names. Answered by [`TopicListReply`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicList {
    /// The page begins behind this name; empty: at the beginning.
    pub after: String,
    /// The most topics the page may have. The server may give fewer.
    pub topics_max: u32,
}

/// A page of the topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicListReply {
    /// Whether there are topics behind the last of this page.
    pub more: bool,
    /// The page.
    pub topics: Vec<TopicEntry>,
}

/// A topic in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicEntry {
    /// The topic's id.
    pub topic: TopicId,
    /// The topic's name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
}

impl TopicSettings {
    fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let durability = Durability::from_u8(body.u8()?).ok_or_else(|| body.wrong("durability"))?;
        let check = TopicCheck::from_u8(body.u8()?).ok_or_else(|| body.wrong("check"))?;
        let timestamps =
            TimestampSource::from_u8(body.u8()?).ok_or_else(|| body.wrong("timestamps"))?;
        body.reserved::<1>()?;
        let retention_ms = decode_retention(body, "retention_ms")?;
        let retention_bytes = decode_retention(body, "retention_bytes")?;
        Ok(Self {
            durability,
            check,
            timestamps,
            retention_ms,
            retention_bytes,
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.durability as u8);
        out.put_u8(self.check as u8);
        out.put_u8(self.timestamps as u8);
        out.put_u8(0);
        out.put_i64_le(retention_on_wire(self.retention_ms));
        out.put_i64_le(retention_on_wire(self.retention_bytes));
    }
}

impl TopicOptions {
    fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let durability = decode_option(body, "durability", Durability::from_u8)?;
        let check = decode_option(body, "check", TopicCheck::from_u8)?;
        let timestamps = decode_option(body, "timestamps", TimestampSource::from_u8)?;
        body.reserved::<1>()?;
        let retention_ms = decode_retention_option(body, "retention_ms")?;
        let retention_bytes = decode_retention_option(body, "retention_bytes")?;
        Ok(Self {
            durability,
            check,
            timestamps,
            retention_ms,
            retention_bytes,
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(
            self.durability
                .map_or(DEFAULT, |durability| durability as u8),
        );
        out.put_u8(self.check.map_or(DEFAULT, |check| check as u8));
        out.put_u8(
            self.timestamps
                .map_or(DEFAULT, |timestamps| timestamps as u8),
        );
        out.put_u8(0);
        for retention in [self.retention_ms, self.retention_bytes] {
            out.put_i64_le(retention.map_or(RETENTION_DEFAULT, |retention| {
                retention_on_wire(retention.limit())
            }));
        }
    }
}

/// In place of a choice: the broker's default.
const DEFAULT: u8 = 0;
/// In place of a retention: the broker's default.
const RETENTION_DEFAULT: i64 = -2;

fn decode_option<T>(
    body: &mut FieldReader<'_>,
    field: &'static str,
    choice: fn(u8) -> Option<T>,
) -> Result<Option<T>, FrameErrorKind> {
    match body.u8()? {
        DEFAULT => Ok(None),
        byte => choice(byte).map(Some).ok_or_else(|| body.wrong(field)),
    }
}

fn decode_retention_option(
    body: &mut FieldReader<'_>,
    field: &'static str,
) -> Result<Option<Retention>, FrameErrorKind> {
    match body.i64()? {
        RETENTION_DEFAULT => Ok(None),
        retention => read_retention(body, retention, field).map(|limit| Some(limit.into())),
    }
}

fn decode_retention(
    body: &mut FieldReader<'_>,
    field: &'static str,
) -> Result<Option<u64>, FrameErrorKind> {
    let retention = body.i64()?;
    read_retention(body, retention, field)
}

fn read_retention(
    body: &FieldReader<'_>,
    retention: i64,
    field: &'static str,
) -> Result<Option<u64>, FrameErrorKind> {
    match retention {
        -1 => Ok(None),
        retention => u64::try_from(retention)
            .map(Some)
            .map_err(|_| body.wrong(field)),
    }
}

fn retention_on_wire(retention: Option<u64>) -> i64 {
    match retention {
        None => -1,
        Some(retention) => {
            i64::try_from(retention).expect("a retention is documented to be at most i64::MAX")
        }
    }
}

pub(super) fn decode_name(body: &mut FieldReader<'_>) -> Result<String, FrameErrorKind> {
    Ok(body.string("name", TOPIC_NAME_BYTES_MAX)?.to_owned())
}

pub(super) fn encode_name(name: &str, out: &mut BytesMut) {
    put_string(out, "name", name, TOPIC_NAME_BYTES_MAX);
}

impl TopicCreate {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        Ok(Self {
            name: decode_name(body)?,
            partitions: body.u32()?,
            options: TopicOptions::decode(body)?,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        encode_name(&self.name, out);
        out.put_u32_le(self.partitions);
        self.options.encode(out);
    }
}

impl TopicDescription {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let topic = TopicId(body.u64()?);
        let name = decode_name(body)?;
        let settings = TopicSettings::decode(body)?;
        let count = body.u32()? as usize;
        let count = body.count(
            "count",
            count,
            TOPIC_PARTITIONS_MAX as usize,
            PARTITION_BYTES,
        )?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            partitions.push(PartitionDescription::decode(body)?);
        }
        Ok(Self {
            topic,
            name,
            settings,
            partitions,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.topic.0);
        encode_name(&self.name, out);
        self.settings.encode(out);
        put_count(out, "count", self.partitions.len(), TOPIC_PARTITIONS_MAX);
        for partition in &self.partitions {
            partition.encode(out);
        }
    }
}

impl PartitionDescription {
    fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let partition = PartitionIndex(body.u32()?);
        let shard = ShardIndex(body.u16()?);
        body.reserved::<2>()?;
        let log_start = Offset(body.u64()?);
        let next_offset = Offset(body.u64()?);
        let leader_epoch = LeaderEpoch(body.u32()?);
        let stored_bytes = body.u64()?;
        let count = usize::from(body.u16()?);
        let count = body.count("fences", count, FENCES_MAX, 16)?;
        let mut fences = Vec::with_capacity(count);
        for _ in 0..count {
            fences.push(body.range("to")?);
        }
        Ok(Self {
            partition,
            shard,
            log_start,
            next_offset,
            leader_epoch,
            stored_bytes,
            fences,
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.partition.0);
        out.put_u16_le(self.shard.0);
        out.put_u16_le(0);
        out.put_u64_le(self.log_start.0);
        out.put_u64_le(self.next_offset.0);
        out.put_u32_le(self.leader_epoch.0);
        out.put_u64_le(self.stored_bytes);
        assert!(
            self.fences.len() <= FENCES_MAX,
            "fences has {} entries",
            self.fences.len()
        );
        out.put_u16_le(self.fences.len() as u16);
        for (from, to) in &self.fences {
            out.put_u64_le(from.0);
            out.put_u64_le(to.0);
        }
    }
}

impl TopicList {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let after = body.string("after", TOPIC_NAME_BYTES_MAX)?.to_owned();
        Ok(Self {
            after,
            topics_max: body.u32()?,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_string(out, "after", &self.after, TOPIC_NAME_BYTES_MAX);
        out.put_u32_le(self.topics_max);
    }
}

impl TopicListReply {
    pub(super) fn decode(body: &mut FieldReader<'_>) -> Result<Self, FrameErrorKind> {
        let more = match body.u8()? {
            0 => false,
            1 => true,
            _ => return Err(body.wrong("more")),
        };
        let count = body.u32()? as usize;
        let count = body.count("count", count, TOPIC_LIST_MAX as usize, 14)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(TopicEntry {
                topic: TopicId(body.u64()?),
                name: decode_name(body)?,
                partitions: body.u32()?,
            });
        }
        Ok(Self { more, topics })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u8(u8::from(self.more));
        put_count(out, "count", self.topics.len(), TOPIC_LIST_MAX);
        for entry in &self.topics {
            out.put_u64_le(entry.topic.0);
            encode_name(&entry.name, out);
            out.put_u32_le(entry.partitions);
        }
    }
}
