//! What is looked at after a start: that everything is there that has to be, and is what it was.

use gannet_engine::shard::read::{ReadCursor, ReadError};
use gannet_engine::storage::PartitionKey;
use gannet_wire::Offset;
use gannet_wire::batch::verify_stamped;

use super::broker::Broker;
use super::clients::Client;
use super::model::{FoundPartition, Phase};
use super::shared::Shared;

/// Compares what the start found with the model, before anything is served: which topics there are, and where each partition's log ends.
pub(super) fn check_start(broker: &Broker, shared: &Shared, stopped_cleanly: bool) {
    check_topics(broker, shared);
    let keys = shared.model.borrow().live_keys();
    for key in keys {
        check_partition(broker, shared, key);
    }
    let replayed: u64 = broker
        .reports
        .iter()
        .map(|report| report.batches_replayed)
        .sum();
    if stopped_cleanly && replayed > 0 {
        shared.model.borrow_mut().violate(format!(
            "after a clean stop {replayed} batches were replayed"
        ));
    }
}

fn check_topics(broker: &Broker, shared: &Shared) {
    let catalogue = broker.catalogue.borrow();
    let Some(state) = catalogue.as_ref().map(|catalogue| catalogue.state()) else {
        return;
    };
    let mut model = shared.model.borrow_mut();
    for index in 0..model.topics.len() {
        let topic = &model.topics[index];
        let found = state
            .named(&topic.name)
            .filter(|found| topic.id.is_none_or(|id| id == found.id));
        let (phase, name) = (topic.phase, topic.name.clone());
        match (phase, found) {
            (Phase::Creating, Some(found)) => {
                // Another life of the name may have been made later.
                let is_known = model.topics.iter().any(|topic| topic.id == Some(found.id));
                if is_known {
                    model.topics[index].phase = Phase::Deleted;
                } else {
                    model.topic_created(index, found.id);
                }
            }
            (Phase::Creating, None) | (Phase::Deleting, None) => model.topic_deleted(index),
            (Phase::Deleting, Some(_)) => model.topics[index].phase = Phase::Live,
            (Phase::Live, Some(found)) => {
                if (found.partitions, found.settings) != (topic.partitions, topic.settings) {
                    model.violate(format!("topic {name} is another one after the restart"));
                }
            }
            (Phase::Live, None) => {
                model.violate(format!("topic {name} is gone after the restart"));
            }
            (Phase::Deleted, found) => {
                if topic.id.is_some() && found.is_some() {
                    model.violate(format!("topic {name} was deleted and is back"));
                }
            }
        }
    }
    for id in state.topics.keys() {
        let known = model
            .topics
            .iter()
            .any(|topic| topic.id == Some(*id) && topic.phase == Phase::Live);
        if !known {
            model.violate(format!(
                "topic {id} is there after the restart, and nobody made it"
            ));
        }
    }
}

fn check_partition(broker: &Broker, shared: &Shared, key: PartitionKey) {
    let owner = broker.owner(key).0;
    for (shard, log) in (0u16..).zip(&broker.logs) {
        let has = log.slot(key).is_some();
        if has != (shard == owner) {
            shared.model.borrow_mut().violate(format!(
                "shard {shard} has {key}: {has}, but shard {owner} owns it"
            ));
            return;
        }
    }
    let Some((_, slot)) = broker.slot(key) else {
        return;
    };
    let (found, next, fences) = {
        let state = slot.state.borrow();
        let found = FoundPartition {
            fences: state
                .fences()
                .iter()
                .map(|fence| (fence.from.0, fence.to.0))
                .collect(),
            log_start: state.log_start().0,
            end: state.durable_offset().0,
        };
        (found, state.next_offset().0, state.fences().to_vec())
    };
    shared.note(|| {
        format!(
            "after the start {key} has {} to {}, {fences:?}, runs {:?}",
            found.log_start,
            found.end,
            slot.state
                .borrow()
                .runs()
                .iter()
                .map(|run| (run.base_offset.0, run.next_offset.0))
                .collect::<Vec<_>>()
        )
    });
    let mut model = shared.model.borrow_mut();
    if next != found.end {
        model.violate(format!(
            "{key} starts with its next offset at {next} and its durable end at {}",
            found.end
        ));
    }
    for fence in fences {
        model.fenced(key, fence.from.0, fence.to.0);
    }
    model.restarted(key, &found);
    model.saw_log_start(key, found.log_start, shared.now_ms());
}

impl Client {
    /// Reads all there is from every partition, and asks for every group's offset.
    pub(super) async fn check_everything(&self) {
        let keys = self.shared.model.borrow().live_keys();
        for key in keys {
            self.check_log(key).await;
            let groups = self.shared.model.borrow().groups(key);
            for group in groups {
                self.check_group(key, &group);
            }
        }
    }

    async fn check_log(&self, key: PartitionKey) {
        let Some((log, slot)) = self.broker.slot(key) else {
            self.shared
                .model
                .borrow_mut()
                .violate(format!("nobody owns {key}"));
            return;
        };
        let (log_start, end) = {
            let state = slot.state.borrow();
            (state.log_start(), state.durable_offset())
        };
        let mut cursor = ReadCursor::at(log_start);
        let mut failures = 0;
        while cursor.offset < end {
            let wanted = cursor.offset;
            match log.read(&slot, &mut cursor, READ_BYTES).await {
                Ok(batches) => {
                    let next =
                        self.check_batches(key, wanted, batches.iter().map(|batch| &**batch));
                    if next != cursor.offset.0 || next <= wanted.0 {
                        self.shared.model.borrow_mut().violate(format!(
                            "reading {key} from {wanted} gave batches up to {next} and moved the cursor to {}",
                            cursor.offset
                        ));
                        return;
                    }
                }
                Err(ReadError::OutOfRange { log_start, .. }) if log_start > wanted => {
                    // Retention went on meanwhile.
                    cursor = ReadCursor::at(log_start);
                }
                Err(error) => {
                    self.check_read_error(key, &error, Some(wanted));
                    match error {
                        ReadError::Fenced(fence) => cursor = ReadCursor::at(fence.to),
                        // Another try finds it, and each file that could not be opened explains one that failed.
                        ReadError::Storage(_) if failures < self.opens_failed() => failures += 1,
                        ReadError::Storage(_) if self.broker.failure().is_none() => {
                            self.shared.model.borrow_mut().violate(format!(
                                "reading {key} at {wanted} fails again and again: {error}"
                            ));
                            return;
                        }
                        _ => return,
                    }
                }
            }
        }
        let log_start = slot.state.borrow().log_start().0;
        let now_ms = self.shared.now_ms();
        self.shared
            .model
            .borrow_mut()
            .saw_log_start(key, log_start, now_ms);
    }

    /// After syncs lied: anything may be missing, but what is delivered must be a batch that was sent to this partition.
    pub(super) async fn check_nothing_wrong(&self) {
        let keys = self.shared.model.borrow().live_keys();
        for key in keys {
            let Some((log, slot)) = self.broker.slot(key) else {
                continue;
            };
            let (log_start, end) = {
                let state = slot.state.borrow();
                (state.log_start(), state.durable_offset())
            };
            let mut cursor = ReadCursor::at(log_start);
            while cursor.offset < end {
                match log.read(&slot, &mut cursor, READ_BYTES).await {
                    Ok(batches) if batches.is_empty() => break,
                    Ok(batches) => {
                        for batch in &batches {
                            let known = verify_stamped(batch, key.topic, key.partition).is_ok()
                                && self.shared.model.borrow().was_sent(key, batch);
                            if !known {
                                self.shared.model.borrow_mut().violate(format!(
                                    "{key} delivered a batch near {} that nobody sent",
                                    cursor.offset
                                ));
                            }
                        }
                    }
                    Err(ReadError::Fenced(fence)) if fence.to > cursor.offset => {
                        cursor = ReadCursor::at(fence.to);
                    }
                    Err(ReadError::OutOfRange { log_start, .. }) if log_start > cursor.offset => {
                        cursor = ReadCursor::at(Offset(log_start.0));
                    }
                    Err(_) => break,
                }
            }
        }
    }
}

const READ_BYTES: usize = 100_000;
