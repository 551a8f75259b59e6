//! Batches that arrived damaged: they are asked for again, more and more seldom, and each is told once.

use std::collections::HashMap;
use std::time::Duration;

use super::config::{Backoff, ReconnectConfig};
use crate::ids::{Offset, PartitionIndex};

/// What is damaged among the partitions of one reader.
pub(crate) struct Damage {
    reconnect: ReconnectConfig,
    backoff: Backoff,
    /// Where reading stands still.
    positions: HashMap<PartitionIndex, Offset>,
}

impl Damage {
    pub(crate) fn new(reconnect: &ReconnectConfig) -> Self {
        Self {
            reconnect: *reconnect,
            backoff: Backoff::new(reconnect),
            positions: HashMap::new(),
        }
    }

    /// A batch at or behind `position` was damaged; whether that is new.
    pub(crate) fn note(&mut self, partition: PartitionIndex, position: Offset) -> bool {
        self.positions.insert(partition, position) != Some(position)
    }

    /// How long to wait before asking for it again. Other frames come in the meantime, so those of a reconnect do not serve.
    pub(crate) fn next_pause(&mut self) -> Duration {
        self.backoff.next_pause()
    }

    /// A partition has been delivered up to `position`.
    pub(crate) fn handle_delivery(&mut self, partition: PartitionIndex, position: Offset) {
        let overcome = self
            .positions
            .get(&partition)
            .is_some_and(|damaged| position > *damaged);
        if overcome {
            self.positions.remove(&partition);
            if self.positions.is_empty() {
                self.backoff = Backoff::new(&self.reconnect);
            }
        }
    }
}
