//! What a restart makes of the journal. Pure: from what the checkpoint says and what the scan found to what is replayed, what is
//! fenced and where the log ends. Each commit falls into one named row of [`Row`].
//!
//! | row | when | what happens |
//! |---|---|---|
//! | `Flushed` | LSN at or below the checkpoint's | nothing: segments have it |
//! | `CutBefore` | behind a cut that an earlier recovery decided, or a newer life has the same LSN | nothing: it was never acknowledged |
//! | `Replay` | whole, and the next LSN | its entries go to their partitions |
//! | `Rot` | not whole (or missing), at or below `Dur` | fenced: whole entries are salvaged, the others' offsets are reported |
//! | `TornTail` | not whole (or missing), above `Dur` | the log ends before it |
//! | `Unchained` | whole, and the next LSN, but written behind another commit than the one found before it | as `Replay`, and reported |
//! | `Vanished` | above `Dur`, where a file, or the end of one, is gone that was there | as `Rot`, for as many commits as it may have held |
//! | `BehindCut` | whole, behind a torn tail | nothing: with several writes in flight it was never acknowledged |
//!
//! `Dur` is the largest LSN that anything valid says was durable.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::commit;
use super::scan::{Found, FoundCommit, FoundDamage};
use super::slice::Slice;
use super::{Generation, Lsn};
use crate::storage::commit::CommitHead;

/// An earlier recovery's decision: in lives up to `generation`, nothing behind `end_lsn` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The newest life the decision is about.
    pub generation: Generation,
    /// The last commit that counts.
    pub end_lsn: Lsn,
    /// The last commit that was seen: the cut can be forgotten once this is flushed.
    pub seen_lsn: Lsn,
}

/// What the checkpoint says about the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalState {
    /// Everything up to here is in segments.
    pub flushed_lsn: Lsn,
    /// Everything up to here was durable when the checkpoint was written.
    pub durable_lsn: Lsn,
    /// The newest life that was begun when the checkpoint was written, at least.
    pub generation: Generation,
    /// Earlier decisions.
    pub cuts: Vec<Cut>,
}

/// Where a commit falls; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the module's table says it")]
pub enum Row {
    Flushed,
    CutBefore,
    Replay,
    Rot,
    TornTail,
    Unchained,
    Vanished,
    BehindCut,
}

/// One step of the replay, in the order of LSNs.
#[derive(Debug)]
pub enum Step {
    /// Apply all of it.
    Replay(FoundCommit),
    /// Apply the entries that are whole, fence the others.
    Salvage {
        /// The commit's place.
        lsn: Lsn,
        /// Its head, as far as it is known.
        head: CommitHead,
        /// Entries that are whole.
        whole: Vec<commit::Entry>,
        /// Entries that are not.
        lost: Vec<commit::Entry>,
        /// Its bytes.
        bytes: Slice,
    },
    /// Nothing is left of these: any partition may have lost records.
    Lost {
        /// The first that is gone.
        first: Lsn,
        /// The last that is gone.
        last: Lsn,
    },
}

/// What recovery does.
#[derive(Debug)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// The last commit that counts; the next one follows it.
    pub end_lsn: Lsn,
    /// The newest life seen anywhere: the next file's is above it.
    pub generation: Generation,
    /// The cuts to keep from now on, this recovery's among them.
    pub cuts: Vec<Cut>,
    /// How many commits fell into each row, for the log and for tests.
    pub rows: BTreeMap<Row, u64>,
}

/// What is known of the files beside what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    /// The lives that headers claim.
    pub generations: Vec<Generation>,
    /// Whether there is a file whose header is lost: any life may be its.
    pub any_unknown: bool,
    /// Files that are shorter than their header says: their life, and how many blocks are not there.
    pub shortened: Vec<(Generation, u64)>,
    /// Blocks of a whole file: as many commits it can hold at most.
    pub file_blocks: u64,
}

impl Lives {
    /// How many commits may be gone with files, or ends of files, that were there. `newest_found`: the newest life of which there is a commit;
    /// `newest_replayed`: that of the last one that counts.
    fn commits_gone(
        &self,
        noted: Generation,
        newest_found: Generation,
        newest_replayed: Generation,
    ) -> u64 {
        let newest = self.generations.iter().copied().max().unwrap_or_default();
        let noted_is_gone = !self.any_unknown && newest.max(newest_found) < noted;
        let whole = if noted_is_gone { self.file_blocks } else { 0 };
        let ends = self.shortened.iter();
        let ends: u64 = ends
            .filter(|(life, _)| *life >= newest_replayed)
            .map(|(_, blocks)| blocks)
            .sum();
        whole + ends
    }
}

/// Decides. `found` is what the scans of all files of the shard found, in any order.
#[must_use]
pub fn plan(state: &JournalState, lives: &Lives, found: Vec<Found>) -> Plan {
    let mut rows = BTreeMap::new();
    let mut count = |row: Row| *rows.entry(row).or_insert(0u64) += 1;
    let mut newest_found = Generation::default();
    let mut durable = state.durable_lsn.max(state.flushed_lsn);
    let mut seen = state.flushed_lsn;
    let mut met: BTreeMap<Lsn, Found> = BTreeMap::new();

    for item in found {
        let head = match &item {
            Found::Commit(commit) => &commit.head,
            Found::Damaged(damage) => &damage.head,
            Found::Unreadable { .. } => continue,
        };
        let id = head.identity;
        newest_found = newest_found.max(id.generation);
        if id.lsn <= state.flushed_lsn {
            count(Row::Flushed);
            continue;
        }
        if state
            .cuts
            .iter()
            .any(|cut| id.generation <= cut.generation && id.lsn > cut.end_lsn)
        {
            count(Row::CutBefore);
            continue;
        }
        seen = seen.max(id.lsn);
        // A commit's word on what was durable before it counts even if it is damaged itself: its head has its own checksum.
        durable = durable.max(id.durable_lsn);
        // Of two commits with one LSN the newer life's is the one that may have been acknowledged, whole or not; of one met twice,
        // by its head and by its foot, the one that tells more counts.
        match met.entry(id.lsn) {
            Entry::Vacant(place) => {
                place.insert(item);
            }
            Entry::Occupied(mut place) => {
                let (known, new) = (standing(place.get()), standing(&item));
                if known.0 != new.0 {
                    count(Row::CutBefore);
                }
                if known < new {
                    place.insert(item);
                }
            }
        }
    }

    let generation = lives
        .generations
        .iter()
        .copied()
        .fold(state.generation.max(newest_found), Generation::max);
    let mut gone = None;
    let mut newest_replayed = Generation::default();
    let mut steps = Vec::new();
    let mut end = state.flushed_lsn;
    let mut previous: Option<CommitHead> = None;
    loop {
        let expected = end.next();
        let found = match met.remove(&expected) {
            Some(Found::Commit(commit)) => {
                newest_replayed = commit.head.identity.generation;
                let before = previous.replace(commit.head);
                if before.is_none_or(|before| follows(&commit.head, &before)) {
                    count(Row::Replay);
                } else {
                    tracing::error!(
                        lsn = expected.0,
                        "a commit of the journal was written behind another one than stands before it: the disk or this program mixed them up"
                    );
                    count(Row::Unchained);
                }
                steps.push(Step::Replay(commit));
                end = expected;
                continue;
            }
            other => other,
        };
        if expected > durable && gone.is_none() {
            let commits = lives.commits_gone(state.generation, newest_found, newest_replayed);
            gone = Some(commits);
            if commits > 0 {
                count(Row::Vanished);
                // What stands behind them was acknowledged with them.
                let behind = met.first_key_value().map_or(u64::MAX, |(lsn, _)| lsn.0);
                let last = Lsn(end
                    .0
                    .saturating_add(commits)
                    .min(behind - 1)
                    .max(expected.0));
                steps.push(Step::Lost {
                    first: expected,
                    last,
                });
                previous = None;
                end = last;
                continue;
            }
        }
        if expected > durable {
            if found.is_some() {
                count(Row::TornTail);
            }
            break;
        }
        count(Row::Rot);
        previous = None;
        match found {
            Some(Found::Damaged(FoundDamage {
                head,
                entries: Some(entries),
                bytes,
                ..
            })) => {
                let (kept, lost) = entries
                    .into_iter()
                    .partition(|entry| head.entry_is_whole(&bytes, entry));
                steps.push(Step::Salvage {
                    lsn: expected,
                    head,
                    whole: kept,
                    lost,
                    bytes,
                });
            }
            _ => match steps.last_mut() {
                Some(Step::Lost { last, .. }) => *last = expected,
                _ => steps.push(Step::Lost {
                    first: expected,
                    last: expected,
                }),
            },
        }
        end = expected;
    }
    for found in met.into_values() {
        if matches!(found, Found::Commit(_)) {
            count(Row::BehindCut);
        }
    }
    let mut cuts: Vec<Cut> = state
        .cuts
        .iter()
        .copied()
        .filter(|cut| cut.seen_lsn > state.flushed_lsn)
        .collect();
    if seen > end {
        cuts.push(Cut {
            generation,
            end_lsn: end,
            seen_lsn: seen,
        });
    }
    Plan {
        steps,
        end_lsn: end,
        generation,
        cuts,
        rows,
    }
}

/// Whether a commit was written behind `before`. The first one of a file names none.
fn follows(head: &CommitHead, before: &CommitHead) -> bool {
    head.identity.generation != before.identity.generation
        || head.identity.previous_checksum == 0
        || head.identity.previous_checksum == before.checksum
}

/// How much a find counts against another one of the same LSN: its life first, then how much of it is there.
fn standing(found: &Found) -> (Generation, u8) {
    match found {
        Found::Commit(commit) => (commit.head.identity.generation, 2),
        Found::Damaged(damage) => (
            damage.head.identity.generation,
            u8::from(damage.entries.is_some()),
        ),
        Found::Unreadable { .. } => (Generation::default(), 0),
    }
}

#[cfg(test)]
mod tests;
