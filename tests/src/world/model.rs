//! What must be true of the broker, kept beside it: what was sent, acknowledged and delivered, and what a restart may have taken away.
//!
//! A partition's offsets are given out in the order of publishes, so its log is known exactly: the batches that were appended, of which a
//! restart may cut an end that nobody was told of. Everything that is read must be what the model has there.

use std::collections::BTreeMap;

use bytes::Bytes;
use gannet_engine::io::sim::SimDisk;
use gannet_engine::storage::PartitionKey;
use gannet_wire::batch::{STAMP_BYTES, verify_stamped};
use gannet_wire::frame::TopicSettings;
use gannet_wire::{Offset, PartitionIndex, TopicId};

use super::append_clock::AppendClockBounds;
use super::damages::Hit;

/// A batch as a client sent it, once or several times.
pub(super) struct Attempt {
    pub(super) key: PartitionKey,
    pub(super) bytes: Bytes,
    pub(super) records: u32,
    /// The records' timestamps: the first, and how much later each next one is.
    pub(super) timestamps: (i64, i64),
    /// Where it lies; `None` while it is nowhere.
    placed: Option<u64>,
}

/// A partition's log as it must be.
#[derive(Default)]
pub(super) struct PartitionModel {
    /// Attempts by the offset of their first record.
    log: BTreeMap<u64, Placed>,
    /// The offset that the next record gets.
    end: u64,
    /// Everything before it was acknowledged as durable or delivered: no crash may take it.
    durable_end: u64,
    log_start: u64,
    groups: BTreeMap<String, GroupModel>,
    /// Offsets that rot took, and that were reported.
    fenced: Vec<(u64, u64)>,
}

#[derive(Clone, Copy)]
struct Placed {
    attempt: u64,
    next_offset: u64,
    /// The earliest that it can be stamped with; see [`AppendClockBounds`].
    stamp_ms_min: i64,
}

#[derive(Default)]
struct GroupModel {
    /// The offsets sent, in order.
    sent: Vec<u64>,
    /// The newest that was acknowledged or seen, counted from 1; none older may be found.
    floor: usize,
}

/// How far a topic's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for, not confirmed.
    Creating,
    Live,
    /// Its deletion was asked for, not confirmed.
    Deleting,
    Deleted,
}

pub(super) struct TopicModel {
    pub(super) name: String,
    pub(super) id: Option<TopicId>,
    pub(super) partitions: u32,
    pub(super) settings: TopicSettings,
    pub(super) phase: Phase,
}

/// What a restart found of a partition.
pub(super) struct FoundPartition {
    /// Ranges that it reports as lost.
    pub(super) fences: Vec<(u64, u64)>,
    pub(super) log_start: u64,
    pub(super) end: u64,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Model {
    pub(super) topics: Vec<TopicModel>,
    pub(super) partitions: BTreeMap<PartitionKey, PartitionModel>,
    pub(super) attempts: BTreeMap<u64, Attempt>,
    next_attempt: u64,
    /// Bytes on the disk were changed behind the broker's back: ranges may be fenced.
    pub(super) rot: bool,
    /// It knows where: no other records may be fenced, and no other group's offset be gone.
    disk: Option<SimDisk>,
    pub(super) append_clock: AppendClockBounds,
    violation: Option<String>,
    pub(super) acked_batches: u64,
    pub(super) delivered_batches: u64,
    /// Times that a client found a log start ahead of where it was.
    pub(super) expiries: u64,
}

impl Model {
    /// Something happened that must not.
    pub(super) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(super) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub(super) fn attempt(
        &mut self,
        key: PartitionKey,
        timestamps: (i64, i64),
        make: impl FnOnce(u64) -> (Bytes, u32),
    ) -> u64 {
        let id = self.next_attempt;
        self.next_attempt += 1;
        let (bytes, records) = make(id);
        self.attempts.insert(
            id,
            Attempt {
                key,
                bytes,
                records,
                timestamps,
                placed: None,
            },
        );
        id
    }

    /// The broker gave an attempt the offsets from `base` on.
    pub(super) fn appended(&mut self, id: u64, base: u64, now_ms: u64) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        let key = attempt.key;
        let Some(partition) = self.partitions.get_mut(&key) else {
            // Its topic was deleted meanwhile.
            return;
        };
        let next_offset = base + u64::from(attempt.records);
        let stamp_ms_min = self.append_clock.stamp_ms_min(now_ms);
        match attempt.placed {
            None if base == partition.end => {
                attempt.placed = Some(base);
                partition.end = next_offset;
                partition.log.insert(
                    base,
                    Placed {
                        attempt: id,
                        next_offset,
                        stamp_ms_min,
                    },
                );
            }
            None => {
                let end = partition.end;
                self.violate(format!(
                    "batch {id} got offset {base} of {key}, where {end} comes next"
                ));
            }
            Some(placed) if placed == base => {}
            Some(placed) => {
                self.violate(format!(
                    "batch {id} lies at {placed} of {key} and was appended again at {base}"
                ));
            }
        }
    }

    /// An attempt was acknowledged as durable at `base`.
    pub(super) fn acked_durable(&mut self, id: u64, base: u64, duplicate: bool) {
        self.acked_batches += 1;
        let Some(attempt) = self.attempts.get(&id) else {
            return;
        };
        let (key, placed, records) = (attempt.key, attempt.placed, attempt.records);
        let Some(partition) = self.partitions.get_mut(&key) else {
            return;
        };
        if placed != Some(base) {
            self.violate(format!(
                "batch {id} of {key} lies at {placed:?} and was acknowledged at {base} (duplicate: {duplicate})"
            ));
            return;
        }
        partition.durable_end = partition.durable_end.max(base + u64::from(records));
    }

    /// A reader was given a batch; returns its first offset and the one behind its last record.
    pub(super) fn delivered(&mut self, key: PartitionKey, bytes: &[u8]) -> Option<(u64, u64)> {
        self.delivered_batches += 1;
        let header = match verify_stamped(bytes, key.topic, key.partition) {
            Ok(header) => header,
            Err(error) => {
                self.violate(format!("a batch of {key} was delivered damaged: {error}"));
                return None;
            }
        };
        let (base, next) = (header.base_offset().0, header.next_offset().0);
        let partition = self.partitions.get_mut(&key)?;
        let known = partition.log.get(&base).copied();
        let attempt = known.and_then(|known| self.attempts.get(&known.attempt));
        let same = match (known, attempt) {
            (Some(known), Some(attempt)) => {
                known.next_offset == next
                    && attempt.bytes.get(STAMP_BYTES..) == bytes.get(STAMP_BYTES..)
            }
            _ => false,
        };
        if !same {
            let what = known.map(|known| (known.attempt, known.next_offset));
            let end = partition.end;
            self.violate(format!(
                "{key} delivered a batch at {base}..{next} that is not the one sent: there lies {what:?}, the log ends at {end}"
            ));
            return None;
        }
        partition.durable_end = partition.durable_end.max(next);
        Some((base, next))
    }

    /// Whether a client ever sent these bytes to a partition.
    pub(super) fn was_sent(&self, key: PartitionKey, bytes: &[u8]) -> bool {
        self.attempts.values().any(|attempt| {
            attempt.key == key && attempt.bytes.get(STAMP_BYTES..) == bytes.get(STAMP_BYTES..)
        })
    }

    pub(super) fn durable_end(&self, key: PartitionKey) -> u64 {
        self.partitions
            .get(&key)
            .map_or(0, |partition| partition.durable_end)
    }

    /// The first record at or behind `from` with a timestamp at or after `timestamp`, among those that are known to be durable.
    pub(super) fn first_at_time(
        &self,
        key: PartitionKey,
        from: u64,
        timestamp: i64,
    ) -> Option<u64> {
        let partition = self.partitions.get(&key)?;
        partition
            .log
            .iter()
            .filter(|(_, placed)| placed.next_offset <= partition.durable_end)
            .find_map(|(base, placed)| {
                let attempt = self.attempts.get(&placed.attempt)?;
                let (first, step) = attempt.timestamps;
                (0..attempt.records)
                    .find(|record| {
                        base + u64::from(*record) >= from
                            && first + step * i64::from(*record) >= timestamp
                    })
                    .map(|record| base + u64::from(record))
            })
    }

    /// Of a broker on that disk.
    pub(super) fn on(disk: SimDisk) -> Self {
        Self {
            disk: Some(disk),
            ..Self::default()
        }
    }

    /// All that damage to the disk may have taken.
    fn hit(&self) -> Hit {
        let keys: Vec<PartitionKey> = self.partitions.keys().copied().collect();
        let mut all = Hit::default();
        if let Some(disk) = &self.disk {
            let damages = disk.damages();
            let mut before = None;
            for damage in &damages {
                let now = disk.read_file(&damage.path);
                all.add(damage, before.replace(damage), now.as_deref(), &keys);
            }
        }
        all
    }

    /// The newest commit of a group up to `floor` that rot cannot have taken; 0 when there is none.
    fn newest_spared(&self, key: PartitionKey, group: &str, floor: usize) -> usize {
        let hit = if self.rot { self.hit().groups } else { vec![] };
        let is_hit = |number: usize| {
            let mut hit = hit.iter();
            hit.any(|(of, name, hit)| *of == key && name == group && *hit == number)
        };
        (1..=floor)
            .rev()
            .find(|number| !is_hit(*number))
            .unwrap_or(0)
    }

    /// Offsets that cannot be read: only rot may do that, and only to what it has hit.
    pub(super) fn fenced(&mut self, key: PartitionKey, from: u64, to: u64) {
        let fenced: Vec<(u64, u64)> = self.partitions.get(&key).map_or(vec![], |partition| {
            let below = partition.log.range(..to).rev();
            below
                .map(|(base, placed)| (*base, placed.next_offset))
                .take_while(|(_, next)| *next > from)
                // What nobody was told of may go in a crash besides.
                .filter(|(base, _)| *base < partition.durable_end)
                .collect()
        });
        let spared = (!fenced.is_empty() && self.rot)
            .then(|| self.hit())
            .and_then(|hit| {
                let is_hit = |base: u64| {
                    let mut records = hit.records.iter();
                    records.any(|(of, offsets)| *of == key && offsets.contains(&base))
                };
                fenced.into_iter().find(|(base, _)| !is_hit(*base))
            });
        if let Some((base, next)) = spared {
            let damages = self.disk.as_ref().map_or(vec![], SimDisk::damages);
            let damages: Vec<_> = damages
                .iter()
                .map(|damage| (&damage.path, &damage.bytes))
                .collect();
            self.violate(format!(
                "offsets {from} to {to} of {key} are fenced, and nothing of the batch at {base}..{next} was changed on the disk: {damages:?}"
            ));
        }
        if !self.rot {
            self.violate(format!(
                "offsets {from} to {to} of {key} are fenced, and nothing on the disk was changed"
            ));
        }
        if let Some(partition) = self.partitions.get_mut(&key) {
            partition.fenced.push((from, to));
        }
    }

    /// The log start a client was shown.
    pub(super) fn saw_log_start(&mut self, key: PartitionKey, log_start: u64, now_ms: u64) {
        let settings = self
            .topics
            .iter()
            .find(|topic| topic.id == Some(key.topic))
            .map(|topic| topic.settings);
        let (Some(partition), Some(settings)) = (self.partitions.get_mut(&key), settings) else {
            return;
        };
        let known = partition.log_start;
        if log_start < known {
            self.violate(format!(
                "the log start of {key} went from {known} back to {log_start}"
            ));
            return;
        }
        if log_start == known {
            return;
        }
        partition.log_start = log_start;
        self.expiries += 1;
        let kept_bytes: u64 = partition
            .log
            .range(log_start..)
            .filter_map(|(_, placed)| self.attempts.get(&placed.attempt))
            .map(|attempt| attempt.bytes.len().next_multiple_of(4096) as u64 + 4096)
            .sum();
        let by_size = settings
            .retention_bytes
            .is_some_and(|bytes| kept_bytes >= bytes);
        let newest_gone = partition
            .log
            .range(..log_start)
            .map(|(_, placed)| placed.stamp_ms_min)
            .max();
        let age_ms_max = newest_gone.map_or(i64::MAX, |stamp_ms| {
            self.append_clock.now_ms_max(now_ms) - stamp_ms
        });
        let by_time = settings
            .retention_ms
            .is_some_and(|ms| i128::from(age_ms_max) >= i128::from(ms));
        // Rot may take what would have shown that it was time, but nothing of a topic that keeps everything.
        let expires = settings.retention_bytes.is_some() || settings.retention_ms.is_some();
        let by_rot = self.rot && expires;
        if !by_size && !by_time && !by_rot {
            self.violate(format!(
                "{key} was expired up to {log_start} too early: {kept_bytes} bytes are left, the newest one gone is {age_ms_max} ms old at the most, and its retention is {settings:?}"
            ));
        }
    }

    /// What a restart found. Whatever was appended and not told to anyone may be gone, from some batch on; nothing else may.
    pub(super) fn restarted(&mut self, key: PartitionKey, found: &FoundPartition) {
        let rot = self.rot;
        let Some(partition) = self.partitions.get_mut(&key) else {
            return;
        };
        let (end, durable_end, model_end) = (found.end, partition.durable_end, partition.end);
        if end < durable_end {
            self.violate(format!(
                "{key} ended at {durable_end} by acknowledgement or delivery and ends at {end} after the restart: records are lost"
            ));
            return;
        }
        let boundary = end == 0
            || partition
                .log
                .range(..end)
                .next_back()
                .is_some_and(|(_, placed)| placed.next_offset == end)
            || partition.fenced.iter().any(|(_, to)| *to == end);
        if !boundary && !rot {
            self.violate(format!(
                "{key} ends at {end} after the restart, which is no batch's end; it ended at {model_end}"
            ));
            return;
        }
        let partition = self
            .partitions
            .get_mut(&key)
            .expect("it was there a moment ago");
        let mut gone = partition.log.split_off(&end);
        // What is fenced is lost, and was said to be: sent again it may be appended again.
        for (from, to) in &found.fences {
            let mut rest = partition.log.split_off(from);
            partition.log.append(&mut rest.split_off(to));
            gone.append(&mut rest);
        }
        for placed in gone.values() {
            if let Some(attempt) = self.attempts.get_mut(&placed.attempt) {
                attempt.placed = None;
            }
        }
        partition.end = end;
        partition.durable_end = end;
    }

    // Groups

    /// A group sends an offset; returns the note to send with it.
    pub(super) fn commit_sent(&mut self, key: PartitionKey, group: &str, offset: u64) -> usize {
        let Some(partition) = self.partitions.get_mut(&key) else {
            return 0;
        };
        let group = partition.groups.entry(group.to_owned()).or_default();
        group.sent.push(offset);
        group.sent.len()
    }

    pub(super) fn commit_acked(&mut self, key: PartitionKey, group: &str, number: usize) {
        if let Some(group) = self
            .partitions
            .get_mut(&key)
            .and_then(|partition| partition.groups.get_mut(group))
        {
            group.floor = group.floor.max(number);
        }
    }

    /// What a group finds committed: the note and the offset.
    pub(super) fn commit_found(
        &mut self,
        key: PartitionKey,
        group: &str,
        found: Option<(usize, Offset)>,
    ) {
        let known = |model: &Self| {
            let partition = model.partitions.get(&key);
            partition.and_then(|partition| Some(partition.groups.get(group)?.floor))
        };
        let Some(floor) = known(self) else {
            if let Some(found) = found {
                self.violate(format!(
                    "{key} has {found:?} of group {group}, which never committed"
                ));
            }
            return;
        };
        let number = found.map_or(0, |(number, _)| number);
        if number < floor && number < self.newest_spared(key, group, floor) {
            self.violate(format!(
                "group {group} of {key} finds commit {number} after commit {floor} was acknowledged or seen"
            ));
            return;
        }
        let known = self
            .partitions
            .get_mut(&key)
            .and_then(|partition| partition.groups.get_mut(group));
        let Some(known) = known else { return };
        known.floor = number;
        if let Some((number, offset)) = found
            && number
                .checked_sub(1)
                .and_then(|index| known.sent.get(index))
                != Some(&offset.0)
        {
            self.violate(format!(
                "group {group} of {key} finds {offset} as commit {number}, which it never sent"
            ));
        }
    }

    pub(super) fn groups(&self, key: PartitionKey) -> Vec<String> {
        self.partitions
            .get(&key)
            .map(|partition| partition.groups.keys().cloned().collect())
            .unwrap_or_default()
    }

    // Topics

    pub(super) fn topic_created(&mut self, index: usize, id: TopicId) {
        let used = self.topics.iter().any(|topic| topic.id == Some(id));
        let Some(topic) = self.topics.get_mut(index) else {
            return;
        };
        topic.id = Some(id);
        topic.phase = Phase::Live;
        let partitions = topic.partitions;
        if used {
            self.violate(format!("topic id {id} was given out twice"));
        }
        for partition in (0..partitions).map(PartitionIndex) {
            let key = PartitionKey {
                topic: id,
                partition,
            };
            self.partitions.insert(key, PartitionModel::default());
        }
    }

    pub(super) fn topic_deleted(&mut self, index: usize) {
        let Some(topic) = self.topics.get_mut(index) else {
            return;
        };
        topic.phase = Phase::Deleted;
        if let Some(id) = topic.id {
            self.partitions.retain(|key, _| key.topic != id);
            self.attempts.retain(|_, attempt| attempt.key.topic != id);
        }
    }

    /// The partitions of topics that are certainly there.
    pub(super) fn live_keys(&self) -> Vec<PartitionKey> {
        let live = |key: &&PartitionKey| {
            self.topics
                .iter()
                .any(|topic| topic.id == Some(key.topic) && topic.phase == Phase::Live)
        };
        self.partitions.keys().filter(live).copied().collect()
    }
}
