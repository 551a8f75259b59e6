//! What stood where a disk did damage: all that may be lost by it, and nothing else.

use std::ops::Range;

use gannet_engine::cursor::CommittedOffset;
use gannet_engine::io::BLOCK_BYTES;
use gannet_engine::io::sim::Damage;
use gannet_engine::storage::PartitionKey;
use gannet_engine::storage::commit::{CommitHead, DirectoryCopy, Entry, EntryKind};
use gannet_engine::storage::journal_file::FIRST_COMMIT_POSITION;
use gannet_engine::storage::layout::{JOURNAL_SUFFIX, SEGMENT_SUFFIX};
use gannet_engine::storage::segment::{
    BATCH_ALIGNMENT, FIRST_BATCH_POSITION, Framed, frame_at, header_at,
};
use gannet_wire::batch::{BATCH_HEADER_BYTES, verify_stamp_only};

/// See the module's text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hit {
    /// Records, by their offsets.
    pub(super) records: Vec<(PartitionKey, Range<u64>)>,
    /// Offsets that groups committed, by the number of each among those of the group.
    pub(super) groups: Vec<(PartitionKey, String, usize)>,
}

/// A batch in a segment.
struct Stored {
    bytes: Range<u64>,
    key: PartitionKey,
    offsets: Range<u64>,
}

fn overlap(this: &Range<u64>, other: &Range<u64>) -> bool {
    this.start < other.end && other.start < this.end
}

impl Hit {
    /// Adds what a damage hits. `before`: the one before it. `now`: what the file holds now, if it is there. `keys`: all partitions that may have something in it.
    pub(super) fn add(
        &mut self,
        damage: &Damage,
        before: Option<&Damage>,
        now: Option<&[u8]>,
        keys: &[PartitionKey],
    ) {
        let name = damage.path.to_string_lossy();
        if name.ends_with(JOURNAL_SUFFIX) {
            // It may have been used again since.
            self.add_commits(damage);
        } else if name.ends_with(SEGMENT_SUFFIX) {
            self.add_batches(damage, keys);
            // Several writes of it may have been in flight, and what began in one of them goes on in another.
            self.extend_by(damage, now, keys);
            if let (true, Some(lost)) = (damage.strayed, before) {
                self.add_given_up(lost, damage, now, keys);
            }
        }
        // An index is made again, and catalogue and checkpoint have a second copy.
    }

    fn extend_by(&mut self, damage: &Damage, now: Option<&[u8]>, keys: &[PartitionKey]) {
        let Some(now) = now else { return };
        let bytes = damage.bytes.start as usize..damage.bytes.end as usize;
        let mut meant = now.to_vec();
        meant.resize(meant.len().max(damage.meant.len()).max(bytes.end), 0);
        for (at, byte) in meant
            .iter_mut()
            .enumerate()
            .take(bytes.end)
            .skip(bytes.start)
        {
            *byte = damage.meant.get(at).copied().unwrap_or(0);
        }
        let damage = Damage {
            meant,
            ..damage.clone()
        };
        self.add_batches(&damage, keys);
    }

    /// A write of a segment that went further behind gives up what lies between its two places: nothing tells it from a publisher's trick. So does its last batch with what begins
    /// before its end, which the next write may have cut off.
    fn add_given_up(
        &mut self,
        lost: &Damage,
        strayed: &Damage,
        now: Option<&[u8]>,
        keys: &[PartitionKey],
    ) {
        let (Some(now), true) = (now, lost.bytes.start < strayed.bytes.start) else {
            return;
        };
        let last = batches(&lost.meant, lost.bytes.end, keys).pop();
        let more = last.map_or(0, |last| last.bytes.end.saturating_sub(lost.bytes.end));
        let given_up = lost.bytes.start..strayed.bytes.end + more;
        // Within one that was cut off others begin.
        for position in (FIRST_BATCH_POSITION..given_up.end).step_by(BATCH_ALIGNMENT) {
            let batch = batch_at(now, position, keys);
            if let Some(batch) = batch.filter(|batch| overlap(&given_up, &batch.bytes)) {
                self.records.push((batch.key, batch.offsets));
            }
        }
    }

    /// The entries of commits that are hit themselves; all of them where both directories are.
    fn add_commits(&mut self, damage: &Damage) {
        let mut position = FIRST_COMMIT_POSITION;
        while let Some(rest) = bytes_from(&damage.meant, position) {
            let (Ok(head), here) = (CommitHead::read(rest, position), position) else {
                position += BLOCK_BYTES as u64;
                continue;
            };
            position += head.commit_bytes as u64;
            let (Some(commit), true) = (
                rest.get(..head.commit_bytes),
                overlap(&damage.bytes, &(here..position)),
            ) else {
                continue;
            };
            let Ok(entries) = head.directory(commit, DirectoryCopy::Head) else {
                continue;
            };
            let is_beyond_knowing = damage.bytes.start < here + head_and_directory(&entries)
                && damage.bytes.end > position - head_and_directory(&entries);
            for entry in &entries {
                let start = here + u64::from(entry.start);
                let bytes = start..start + u64::from(entry.length);
                if is_beyond_knowing || overlap(&damage.bytes, &bytes) {
                    self.add_entry(entry, commit);
                }
            }
        }
    }

    fn add_entry(&mut self, entry: &Entry, commit: &[u8]) {
        match entry.kind {
            EntryKind::Batch | EntryKind::DirectRun => {
                let offsets = entry.base_offset.0..entry.next_offset().0;
                self.records.push((entry.key, offsets));
            }
            EntryKind::CommittedOffset => {
                let offset = entry.bytes_in(commit).and_then(CommittedOffset::decode);
                self.groups.extend(offset.and_then(|offset| {
                    let number = offset.metadata.parse().ok()?;
                    Some((entry.key, offset.group, number))
                }));
            }
        }
    }

    /// The batches of a segment that are hit.
    fn add_batches(&mut self, damage: &Damage, keys: &[PartitionKey]) {
        for batch in batches(&damage.meant, damage.bytes.end, keys) {
            if overlap(&damage.bytes, &batch.bytes) {
                self.records.push((batch.key, batch.offsets));
            }
        }
    }
}

/// The batches of a segment that begin before `until`, one behind the other.
fn batches(segment: &[u8], until: u64, keys: &[PartitionKey]) -> Vec<Stored> {
    let mut found = Vec::new();
    let mut position = FIRST_BATCH_POSITION;
    while position < until {
        match batch_at(segment, position, keys) {
            Some(batch) => {
                position = batch.bytes.end.next_multiple_of(BATCH_ALIGNMENT as u64);
                found.push(batch);
            }
            None => position += BATCH_ALIGNMENT as u64,
        }
    }
    found
}

/// The batch that begins at `position` of a segment. Of one that is still being written, or was written over, the header says how long it is.
fn batch_at(segment: &[u8], position: u64, keys: &[PartitionKey]) -> Option<Stored> {
    let rest = bytes_from(segment, position)?;
    let (Framed::Batch(length) | Framed::Partial(length)) = frame_at(rest) else {
        return None;
    };
    let stamp = rest.get(..BATCH_HEADER_BYTES)?;
    let is_of = |key: &&PartitionKey| verify_stamp_only(stamp, key.topic, key.partition).is_ok();
    let key = *keys.iter().find(is_of)?;
    let header = header_at(rest)?;
    Some(Stored {
        bytes: position..position + length as u64,
        key,
        offsets: header.base_offset().0..header.next_offset().0,
    })
}

/// The bytes at either end of a commit without which its entries cannot be told.
fn head_and_directory(entries: &[Entry]) -> u64 {
    use gannet_engine::storage::commit::{ENTRY_BYTES, HEAD_BYTES};
    (HEAD_BYTES + entries.len() * ENTRY_BYTES) as u64
}

fn bytes_from(file: &[u8], position: u64) -> Option<&[u8]> {
    let at = usize::try_from(position).ok()?;
    file.get(at..).filter(|rest| !rest.is_empty())
}
