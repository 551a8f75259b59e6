//! What a lane is told once, and how its requests are known by their correlations.

use std::time::Duration;

use super::config::ProducerConfig;
use crate::batch::{BatchLimits, Compression};
use crate::frame::{Durability, HelloReply};
use crate::ids::{CorrelationId, PartitionIndex, TopicId};
use crate::limits::DATA_HEAD_BYTES;

/// What a lane is told once.
#[derive(Clone, Debug)]
pub(crate) struct LaneConfig {
    pub(crate) lane: LaneId,
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionIndex,
    /// The server's; a record larger than `batch_bytes` may use it all.
    pub(crate) limits: BatchLimits,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) compression: Compression,
    pub(crate) durability: Option<Durability>,
    pub(crate) inflight_max: usize,
    pub(crate) delivery_timeout: Duration,
    pub(crate) retry_pause: Duration,
    /// Keep the builder's memory between batches: right unless there are very many lanes.
    pub(crate) keeps_builder: bool,
}

impl LaneConfig {
    /// What the producer was told, within what the server takes; for the caller to complete.
    pub(crate) fn of(config: &ProducerConfig, hello: &HelloReply) -> Self {
        let batch_bytes_max = hello
            .batch_bytes_max
            .min(hello.frame_bytes_max.saturating_sub(DATA_HEAD_BYTES as u32));
        let limits = BatchLimits {
            batch_bytes_max,
            batch_records_max: config.batch_records_max.min(hello.batch_records_max).max(1),
            ..BatchLimits::FORMAT
        };
        let mut inflight_max = config.inflight_max;
        if config.idempotent {
            // Beyond this the server does not recognise duplicates.
            inflight_max = inflight_max.min(hello.producer_inflight_max.max(1));
        }
        Self {
            lane: LaneId(1),
            topic: TopicId(0),
            partition: PartitionIndex(0),
            limits: limits.within_format(),
            batch_bytes: config.batch_bytes.min(batch_bytes_max) as usize,
            linger: config.linger,
            compression: config.compression,
            durability: config.durability,
            inflight_max: inflight_max as usize,
            delivery_timeout: config.delivery_timeout,
            retry_pause: Duration::from_millis(50),
            keeps_builder: true,
        }
    }
}

/// Names a lane on its connection: the upper half of its correlations. Never 0, so that other requests have those.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(crate) u32);

impl LaneId {
    /// The lane a correlation belongs to, if it is a lane's.
    pub(crate) fn of(correlation: CorrelationId) -> Option<Self> {
        let lane = (correlation.0 >> 32) as u32;
        (lane != 0).then_some(Self(lane))
    }

    /// The correlation of a lane's request for a producer id.
    pub(crate) fn identity_correlation(self) -> CorrelationId {
        CorrelationId(u64::from(self.0) << 32)
    }

    /// The correlation of a batch.
    pub(crate) fn correlation(self, ordinal: u64) -> CorrelationId {
        CorrelationId(u64::from(self.0) << 32 | (ordinal & u64::from(u32::MAX)))
    }
}
