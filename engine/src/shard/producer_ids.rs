//! Ids for idempotent producers: unique over shards and restarts, nearly always without asking anybody.

use std::cell::Cell;
use std::rc::Rc;

use gannet_wire::frame::{Message, ProducerReply};
use gannet_wire::{ErrorBody, ProducerEpoch, ProducerId, ShardIndex};

use super::catalogue_changes::CATALOGUE_OWNER;
use super::mail::{Answer, Ask};
use super::questions::unexpected;
use super::requests::Shard;
use crate::io::{Clock, Disk, Spawn};

/// Ids that one shard gives out in one incarnation: what the counter has room for.
const IDS_MAX: u32 = 1 << 24;

/// Gives out ids: an incarnation of the broker, the shard, and a counter.
pub(super) struct ProducerIds {
    shard: ShardIndex,
    incarnation: Cell<u32>,
    next: Cell<u32>,
}

impl ProducerIds {
    pub(super) fn new(incarnation: u32, shard: ShardIndex) -> Self {
        Self {
            shard,
            incarnation: Cell::new(incarnation),
            next: Cell::new(0),
        }
    }

    /// The next id; `None` when those of the incarnation are used up.
    pub(super) fn next_id(&self) -> Option<ProducerId> {
        let number = self.next.get();
        if number >= IDS_MAX {
            return None;
        }
        self.next.set(number + 1);
        let id = u64::from(self.incarnation.get()) << 32
            | u64::from(self.shard.0) << 24
            | u64::from(number);
        Some(ProducerId(id))
    }

    /// Goes on with an incarnation that nobody else has.
    fn begin(&self, incarnation: u32) {
        self.incarnation.set(incarnation);
        self.next.set(0);
    }
}

impl<D: Disk, C: Clock, S: Spawn> Shard<D, C, S> {
    /// An id for a new producer.
    pub(super) async fn new_producer(self: &Rc<Self>) -> Result<Message, ErrorBody> {
        let producer = loop {
            if let Some(id) = self.producer_ids.next_id() {
                break id;
            }
            match self.ask(CATALOGUE_OWNER, Ask::NewIncarnation).await {
                Ok(Answer::Incarnation(incarnation)) => self.producer_ids.begin(incarnation),
                other => return Err(unexpected(other)),
            }
        };
        Ok(Message::ProducerReply(ProducerReply {
            producer,
            epoch: ProducerEpoch(0),
        }))
    }
}
