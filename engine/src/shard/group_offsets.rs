//! Offsets that groups committed: stored and fetched by the partitions' owners.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use futures_util::future::join_all;
use gannet_wire::frame::{CommittedOffset as WireOffset, Message, OffsetsReply};
use gannet_wire::{ErrorBody, PartitionIndex, ShardIndex, TopicId};

use super::mail::{Answer, Ask};
use super::questions::unexpected;
use super::requests::{Shard, unknown_here};
use super::slot::{Completion, CompletionSink, Outcome};
use crate::cursor::CommittedOffset;
use crate::io::local::Signal;
use crate::io::{Clock, Disk, Spawn};
use crate::storage::PartitionKey;

impl<D: Disk, C: Clock, S: Spawn> Shard<D, C, S> {
    pub(super) async fn commit_offsets(
        self: &Rc<Self>,
        offsets: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<Message, ErrorBody> {
        let mut by_owner: BTreeMap<ShardIndex, Vec<(PartitionKey, CommittedOffset)>> =
            BTreeMap::new();
        for (key, offset) in offsets {
            self.topic_of(key)?;
            by_owner
                .entry(self.owner(key))
                .or_default()
                .push((key, offset));
        }
        for answer in join_all(
            by_owner
                .into_iter()
                .map(|(owner, offsets)| self.ask(owner, Ask::CommitOffsets(offsets))),
        )
        .await
        {
            answer?;
        }
        Ok(Message::Ok)
    }

    pub(super) async fn store_offsets(
        &self,
        offsets: Vec<(PartitionKey, CommittedOffset)>,
    ) -> Result<(), ErrorBody> {
        let gate = Rc::new(Gate {
            left: Cell::new(offsets.len()),
            failed: RefCell::new(None),
            changed: Signal::new(),
        });
        for (key, offset) in offsets {
            let completion = Completion::new(gate.clone(), 0);
            match self.local_slot(key) {
                Some(slot) => self.log.commit_offset(&slot, offset, completion),
                None => completion.complete(Outcome::Failed(unknown_here(key))),
            }
        }
        loop {
            let seen = gate.changed.version();
            if gate.left.get() == 0 {
                return gate.failed.borrow_mut().take().map_or(Ok(()), Err);
            }
            gate.changed.changed_since(seen).await;
        }
    }

    pub(super) async fn fetch_offsets(
        self: &Rc<Self>,
        group: String,
        topic: TopicId,
        partitions: Vec<PartitionIndex>,
    ) -> Result<Message, ErrorBody> {
        let keys: Vec<PartitionKey> = partitions
            .iter()
            .map(|partition| PartitionKey {
                topic,
                partition: *partition,
            })
            .collect();
        for key in &keys {
            self.topic_of(*key)?;
        }
        let mut known: HashMap<PartitionIndex, WireOffset> = HashMap::new();
        for (owner, keys) in self.by_owner(keys.into_iter()) {
            match self
                .ask(owner, Ask::FetchOffsets(group.clone(), keys))
                .await
            {
                Ok(Answer::Offsets(offsets)) => {
                    known.extend(offsets.into_iter().map(|offset| (offset.partition, offset)))
                }
                other => return Err(unexpected(other)),
            }
        }
        let offsets = partitions
            .iter()
            .filter_map(|partition| known.get(partition).cloned())
            .collect();
        Ok(Message::OffsetsReply(OffsetsReply { offsets }))
    }

    /// What a group committed to partitions of this shard.
    pub(super) fn known_offsets(
        &self,
        group: &str,
        keys: Vec<PartitionKey>,
    ) -> Result<Vec<WireOffset>, ErrorBody> {
        let fetch = |key: PartitionKey| {
            let slot = self.local_slot(key).ok_or_else(|| unknown_here(key))?;
            let state = slot.state.borrow();
            let known = state.committed.fetch(group);
            Ok(WireOffset {
                partition: key.partition,
                offset: known.map(|known| known.offset),
                metadata: known
                    .map(|known| known.metadata.clone())
                    .unwrap_or_default(),
            })
        };
        keys.into_iter().map(fetch).collect()
    }
}

/// Opens when all of a number of requests are done.
struct Gate {
    left: Cell<usize>,
    failed: RefCell<Option<ErrorBody>>,
    changed: Signal,
}

impl CompletionSink for Gate {
    fn complete(&self, _token: u64, outcome: Outcome) {
        if let Outcome::Failed(error) = outcome {
            self.failed.borrow_mut().get_or_insert(error);
        }
        self.left.set(self.left.get() - 1);
        self.changed.notify_all();
    }
}
