//! Cursors: where consumers are. For now the offsets that groups commit; they live with their partition, in its shard's journal
//! and checkpoint, and are as durable as data.

use std::collections::BTreeMap;

use gannet_wire::{Offset, limits};

use crate::storage::Lsn;
use crate::storage::checkpoint::CommittedRecord;

/// Groups that may commit offsets for one partition.
pub const GROUPS_MAX: usize = 10_000;

/// Bytes of one committed offset in the journal, at most.
pub const COMMITTED_ENTRY_BYTES_MAX: usize =
    12 + limits::GROUP_NAME_BYTES_MAX + limits::OFFSET_METADATA_BYTES_MAX;

/// A group's committed offset in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next record the group wants.
    pub offset: Offset,
    /// The consumer's own note.
    pub metadata: String,
    /// The commit that made it durable: an older one never replaces it.
    pub lsn: Lsn,
}

/// The committed offsets of one partition by group. Takes no memory while it is empty.
#[derive(Debug, Default)]
pub struct CommittedOffsets {
    groups: BTreeMap<String, Committed>,
}

impl CommittedOffsets {
    /// What a group committed.
    #[must_use]
    pub fn fetch(&self, group: &str) -> Option<&Committed> {
        self.groups.get(group)
    }

    /// Whether `group` may commit: it did before, or there is room for one more.
    #[must_use]
    pub fn accepts(&self, group: &str) -> bool {
        self.groups.contains_key(group) || self.groups.len() < GROUPS_MAX
    }

    /// A commit became durable at `lsn`.
    pub fn apply(&mut self, commit: CommittedOffset, lsn: Lsn) {
        if self
            .groups
            .get(&commit.group)
            .is_some_and(|known| known.lsn > lsn)
        {
            return;
        }
        self.groups.insert(
            commit.group,
            Committed {
                offset: commit.offset,
                metadata: commit.metadata,
                lsn,
            },
        );
    }

    /// Groups whose offset lies beyond the end of the partition.
    pub fn beyond(&self, end: Offset) -> impl Iterator<Item = (&str, Offset)> {
        self.groups
            .iter()
            .filter(move |(_, committed)| committed.offset > end)
            .map(|(group, committed)| (group.as_str(), committed.offset))
    }

    /// For a checkpoint.
    #[must_use]
    pub fn records(&self) -> Vec<CommittedRecord> {
        self.groups
            .iter()
            .map(|(group, committed)| CommittedRecord {
                group: group.clone(),
                offset: committed.offset.0,
                metadata: committed.metadata.clone(),
                lsn: committed.lsn.0,
            })
            .collect()
    }

    /// From a checkpoint.
    #[must_use]
    pub fn restore(records: &[CommittedRecord]) -> Self {
        let groups = records
            .iter()
            .map(|record| {
                let committed = Committed {
                    offset: Offset(record.offset),
                    metadata: record.metadata.clone(),
                    lsn: Lsn(record.lsn),
                };
                (record.group.clone(), committed)
            })
            .collect();
        Self { groups }
    }
}

/// A group's commit on its way through the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The group.
    pub group: String,
    /// The next record it wants.
    pub offset: Offset,
    /// The consumer's own note.
    pub metadata: String,
}

impl CommittedOffset {
    /// The journal entry: offset u64, length of the group u32, group, metadata.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12 + self.group.len() + self.metadata.len());
        bytes.extend_from_slice(&self.offset.0.to_le_bytes());
        bytes.extend_from_slice(
            &u32::try_from(self.group.len())
                .expect("group names are short")
                .to_le_bytes(),
        );
        bytes.extend_from_slice(self.group.as_bytes());
        bytes.extend_from_slice(self.metadata.as_bytes());
        bytes
    }

    /// Reads a journal entry; `None` when it is not one.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (group, metadata) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some(Self {
            offset: Offset(u64::from_le_bytes(*offset)),
            group: std::str::from_utf8(group).ok()?.to_owned(),
            metadata: std::str::from_utf8(metadata).ok()?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
