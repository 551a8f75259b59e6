#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::storage::commit::{CommitFault, CommitHead, Entry};
use crate::storage::sample::{commit_of, disk_buffer, identity};

/// What a commit of one batch in life `generation` says was durable before it.
#[derive(Clone, Copy)]
struct Sample {
    generation: u64,
    lsn: u64,
    durable: u64,
    previous: u32,
}

fn sample(generation: u64, lsn: u64) -> Sample {
    Sample {
        generation,
        lsn,
        durable: 0,
        previous: 0,
    }
}

impl Sample {
    fn behind(self, previous: Self) -> Self {
        Self {
            previous: previous.parts().0.checksum,
            ..self
        }
    }

    fn durable(self, durable: u64) -> Self {
        Self { durable, ..self }
    }

    fn whole(self) -> Found {
        let (head, entries, bytes) = self.parts();
        Found::Commit(FoundCommit {
            head,
            entries,
            bytes,
        })
    }

    /// Its directory is whole, its batch is not.
    fn damaged(self) -> Found {
        let (head, entries, bytes) = self.parts();
        let mut damaged = bytes.to_vec();
        damaged[entries[0].start as usize + 40] ^= 1;
        Found::Damaged(FoundDamage {
            head,
            entries: Some(entries),
            bytes: Slice::new(disk_buffer(&damaged), 0..damaged.len()),
            fault: CommitFault::Entry,
        })
    }

    /// Only its head is known.
    fn gutted(self) -> Found {
        let (head, _, bytes) = self.parts();
        Found::Damaged(FoundDamage {
            head,
            entries: None,
            bytes,
            fault: CommitFault::Directory,
        })
    }

    fn parts(self) -> (CommitHead, Vec<Entry>, Slice) {
        let mut identity = identity(self.generation, self.lsn, 8192);
        identity.durable_lsn = Lsn(self.durable);
        identity.previous_checksum = self.previous;
        let bytes = commit_of(identity, self.lsn * 10, &[(2, 10)]);
        let head = CommitHead::read(&bytes, 8192).unwrap();
        let entries = head.check(&bytes).unwrap();
        (
            head,
            entries,
            Slice::new(disk_buffer(&bytes), 0..bytes.len()),
        )
    }
}

fn state(flushed: u64, durable: u64) -> JournalState {
    JournalState {
        flushed_lsn: Lsn(flushed),
        durable_lsn: Lsn(durable),
        generation: Generation(1),
        cuts: Vec::new(),
    }
}

fn cut(generation: u64, end: u64, seen: u64) -> Cut {
    Cut {
        generation: Generation(generation),
        end_lsn: Lsn(end),
        seen_lsn: Lsn(seen),
    }
}

/// A file whose header claims this life.
fn claimed(generation: u64) -> Lives {
    Lives {
        generations: vec![Generation(generation)],
        ..Lives::default()
    }
}

/// One word for each step.
fn steps(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| match step {
            Step::Replay(commit) => format!(
                "replay {} of {}",
                commit.head.identity.lsn, commit.head.identity.generation
            ),
            Step::Salvage {
                lsn, whole, lost, ..
            } => format!("salvage {lsn}: {} whole, {} lost", whole.len(), lost.len()),
            Step::Lost { first, last } => format!("lost {first} to {last}"),
        })
        .collect()
}

fn count(plan: &Plan, row: Row) -> u64 {
    plan.rows.get(&row).copied().unwrap_or(0)
}

/// The state that a start writes to the checkpoint, as the shard's recovery does.
fn decided(before: &JournalState, plan: &Plan) -> JournalState {
    JournalState {
        durable_lsn: plan.end_lsn,
        generation: plan.generation,
        cuts: plan.cuts.clone(),
        ..before.clone()
    }
}

#[test]
fn an_empty_journal_ends_where_the_checkpoint_does() {
    let plan = plan(&state(7, 7), &Lives::default(), Vec::new());
    assert!(plan.steps.is_empty() && plan.rows.is_empty() && plan.cuts.is_empty());
    assert_eq!(plan.end_lsn, Lsn(7));
}

#[test]
fn flushed_commits_are_not_replayed() {
    let found = vec![sample(1, 1).whole(), sample(1, 2).damaged()];
    let plan = plan(&state(2, 2), &Lives::default(), found);
    assert!(plan.steps.is_empty());
    assert_eq!(count(&plan, Row::Flushed), 2);
}

#[test]
fn whole_commits_are_replayed_in_order_whatever_the_order_of_the_files() {
    let found = vec![
        sample(1, 5).whole(),
        sample(1, 3).whole(),
        sample(1, 4).whole(),
    ];
    let plan = plan(&state(2, 2), &Lives::default(), found);
    assert_eq!(
        steps(&plan),
        ["replay 3 of 1", "replay 4 of 1", "replay 5 of 1"]
    );
    assert_eq!((count(&plan, Row::Replay), plan.end_lsn), (3, Lsn(5)));
}

#[test]
fn a_torn_tail_ends_the_log() {
    let found = vec![sample(1, 1).whole(), sample(1, 2).damaged()];
    let plan = plan(&state(0, 0), &Lives::default(), found);
    assert_eq!(steps(&plan), ["replay 1 of 1"]);
    assert_eq!((count(&plan, Row::TornTail), plan.end_lsn), (1, Lsn(1)));
}

#[test]
fn whole_commits_behind_a_torn_one_were_never_acknowledged() {
    let found = vec![
        sample(1, 1).whole(),
        sample(1, 2).damaged(),
        sample(1, 3).durable(1).whole(),
        sample(1, 4).durable(1).whole(),
    ];
    let plan = plan(&state(0, 0), &Lives::default(), found);
    assert_eq!(steps(&plan), ["replay 1 of 1"]);
    assert_eq!((count(&plan, Row::BehindCut), plan.end_lsn), (2, Lsn(1)));
}

#[test]
fn whole_commits_behind_a_missing_one_were_never_acknowledged() {
    let found = vec![sample(1, 1).whole(), sample(1, 3).durable(1).whole()];
    let plan = plan(&state(0, 0), &Lives::default(), found);
    assert_eq!(steps(&plan), ["replay 1 of 1"]);
    assert_eq!((count(&plan, Row::BehindCut), plan.end_lsn), (1, Lsn(1)));
}

#[test]
fn a_cut_is_decided_when_anything_was_seen_behind_the_end() {
    let found = vec![sample(3, 1).whole(), sample(3, 3).whole()];
    let plan = plan(&state(0, 0), &claimed(4), found);
    assert_eq!(plan.cuts, [cut(4, 1, 3)]);
}

#[test]
fn nothing_is_cut_when_nothing_was_seen_behind_the_end() {
    let plan = plan(&state(0, 0), &Lives::default(), vec![sample(1, 1).whole()]);
    assert!(plan.cuts.is_empty());
}

#[test]
fn a_damaged_commit_that_a_later_one_calls_durable_is_rot() {
    let found = vec![
        sample(1, 1).whole(),
        sample(1, 2).damaged(),
        sample(1, 3).durable(2).whole(),
    ];
    let plan = plan(&state(0, 0), &Lives::default(), found);
    assert_eq!(
        steps(&plan),
        [
            "replay 1 of 1",
            "salvage 2: 0 whole, 1 lost",
            "replay 3 of 1"
        ]
    );
    assert_eq!((count(&plan, Row::Rot), plan.end_lsn), (1, Lsn(3)));
}

#[test]
fn a_damaged_commit_that_the_checkpoint_calls_durable_is_rot() {
    let found = vec![sample(1, 1).whole(), sample(1, 2).damaged()];
    let plan = plan(&state(0, 2), &Lives::default(), found);
    assert_eq!(count(&plan, Row::Rot), 1);
    assert_eq!(plan.end_lsn, Lsn(2));
}

#[test]
fn what_a_damaged_commit_says_was_durable_counts() {
    let found = vec![sample(1, 1).damaged(), sample(1, 2).durable(1).damaged()];
    let plan = plan(&state(0, 0), &Lives::default(), found);
    assert_eq!(steps(&plan), ["salvage 1: 0 whole, 1 lost"]);
    assert_eq!((count(&plan, Row::TornTail), plan.end_lsn), (1, Lsn(1)));
}

#[test]
fn a_durable_commit_without_a_directory_is_lost() {
    let found = vec![sample(1, 1).gutted(), sample(1, 2).durable(1).whole()];
    let plan = plan(&state(0, 0), &Lives::default(), found);
    assert_eq!(steps(&plan), ["lost 1 to 1", "replay 2 of 1"]);
}

#[test]
fn durable_commits_that_are_nowhere_are_lost_as_one_range() {
    let plan = plan(
        &state(0, 0),
        &Lives::default(),
        vec![sample(1, 4).durable(3).whole()],
    );
    assert_eq!(steps(&plan), ["lost 1 to 3", "replay 4 of 1"]);
    assert_eq!(count(&plan, Row::Rot), 3);
}

#[test]
fn lost_commits_with_a_whole_one_between_are_two_ranges() {
    let found = vec![sample(1, 2).whole(), sample(1, 4).durable(3).whole()];
    let plan = plan(&state(0, 0), &Lives::default(), found);
    assert_eq!(
        steps(&plan),
        [
            "lost 1 to 1",
            "replay 2 of 1",
            "lost 3 to 3",
            "replay 4 of 1"
        ]
    );
}

#[test]
fn a_whole_journal_that_is_gone_is_lost_up_to_what_the_checkpoint_calls_durable() {
    let plan = plan(&state(2, 5), &Lives::default(), Vec::new());
    assert_eq!(steps(&plan), ["lost 3 to 5"]);
    assert_eq!(plan.end_lsn, Lsn(5));
}

#[test]
fn a_block_that_cannot_be_read_is_no_commit() {
    let found = vec![
        sample(1, 1).whole(),
        Found::Unreadable { position: 0 },
        sample(1, 2).whole(),
    ];
    assert_eq!(plan(&state(0, 0), &Lives::default(), found).end_lsn, Lsn(2));
}

#[test]
fn commits_behind_an_earlier_cut_never_count() {
    let mut state = state(0, 1);
    state.cuts = vec![cut(1, 1, 3)];
    let found = vec![
        sample(1, 1).whole(),
        sample(1, 2).whole(),
        sample(1, 3).durable(2).whole(),
    ];
    let plan = plan(&state, &Lives::default(), found);
    assert_eq!(steps(&plan), ["replay 1 of 1"]);
    assert_eq!((count(&plan, Row::CutBefore), plan.end_lsn), (2, Lsn(1)));
}

#[test]
fn what_a_cut_commit_says_was_durable_does_not_count() {
    let mut state = state(0, 1);
    state.cuts = vec![cut(1, 1, 3)];
    let found = vec![sample(1, 1).whole(), sample(1, 3).durable(2).whole()];
    assert_eq!(plan(&state, &Lives::default(), found).end_lsn, Lsn(1));
}

#[test]
fn a_cut_says_nothing_about_later_lives() {
    let mut state = state(0, 1);
    state.cuts = vec![cut(1, 1, 3)];
    let found = vec![
        sample(1, 1).whole(),
        sample(1, 2).whole(),
        sample(2, 2).whole(),
    ];
    assert_eq!(
        steps(&plan(&state, &Lives::default(), found)),
        ["replay 1 of 1", "replay 2 of 2"]
    );
}

#[test]
fn a_cut_is_kept_until_all_that_was_seen_behind_it_is_flushed() {
    for (flushed, kept) in [(2, true), (3, false)] {
        let mut state = state(flushed, flushed);
        state.cuts = vec![cut(1, 1, 3)];
        assert_eq!(
            plan(&state, &Lives::default(), Vec::new()).cuts.is_empty(),
            !kept,
            "flushed up to {flushed}"
        );
    }
}

#[test]
fn a_crash_before_the_decision_is_durable_leads_to_the_same_decision() {
    let found = || {
        vec![
            sample(1, 1).whole(),
            sample(1, 2).damaged(),
            sample(1, 3).whole(),
        ]
    };
    let (first, second) = (
        plan(&state(0, 0), &Lives::default(), found()),
        plan(&state(0, 0), &Lives::default(), found()),
    );
    assert_eq!(
        (first.end_lsn, first.cuts, first.generation),
        (second.end_lsn, second.cuts, second.generation)
    );
}

#[test]
fn what_the_first_of_two_crashes_cut_stays_cut_after_the_second() {
    // The first start cuts 2 (torn) and 3 (whole); its new life writes 2 again and is cut short in turn.
    let old = || {
        vec![
            sample(1, 1).whole(),
            sample(1, 2).damaged(),
            sample(1, 3).whole(),
        ]
    };
    let before = state(0, 0);
    let first = plan(&before, &Lives::default(), old());
    let mut found = old();
    found.push(sample(2, 2).durable(1).whole());
    let second = plan(&decided(&before, &first), &claimed(2), found);
    assert_eq!(steps(&second), ["replay 1 of 1", "replay 2 of 2"]);
    assert_eq!(second.end_lsn, Lsn(2));
}

#[test]
fn two_crashes_without_a_commit_between_them_end_in_the_same_place() {
    let found = || vec![sample(1, 1).whole(), sample(1, 3).whole()];
    let before = state(0, 0);
    let first = plan(&before, &Lives::default(), found());
    let second = plan(&decided(&before, &first), &claimed(2), found());
    assert_eq!(second.end_lsn, first.end_lsn);
    assert_eq!(second.cuts, first.cuts);
}

#[test]
fn what_was_replayed_once_and_rots_before_it_is_flushed_is_rot_and_not_a_torn_tail() {
    let before = state(0, 0);
    let first = plan(
        &before,
        &Lives::default(),
        vec![sample(1, 1).whole(), sample(1, 2).whole()],
    );
    let found = vec![sample(1, 1).whole(), sample(1, 2).damaged()];
    let second = plan(&decided(&before, &first), &Lives::default(), found);
    assert_eq!(count(&second, Row::Rot), 1);
    assert_eq!(second.end_lsn, Lsn(2));
}

#[test]
fn of_two_commits_with_one_lsn_the_newer_life_counts_in_any_order() {
    let pairs = [
        vec![sample(1, 1).whole(), sample(2, 1).whole()],
        vec![sample(2, 1).whole(), sample(1, 1).whole()],
    ];
    for found in pairs {
        let plan = plan(&state(0, 0), &Lives::default(), found);
        assert_eq!(steps(&plan), ["replay 1 of 2"]);
        assert_eq!(count(&plan, Row::CutBefore), 1);
    }
}

#[test]
fn a_whole_commit_of_an_older_life_never_stands_in_for_a_damaged_one_of_a_newer() {
    let pairs = [
        vec![sample(1, 1).whole(), sample(2, 1).damaged()],
        vec![sample(2, 1).damaged(), sample(1, 1).whole()],
    ];
    for found in pairs {
        let plan = plan(&state(0, 1), &Lives::default(), found);
        assert_eq!(steps(&plan), ["salvage 1: 0 whole, 1 lost"]);
    }
}

#[test]
fn of_two_damaged_commits_with_one_lsn_the_newer_life_is_salvaged() {
    let pairs = [
        vec![sample(1, 1).damaged(), sample(2, 1).gutted()],
        vec![sample(2, 1).gutted(), sample(1, 1).damaged()],
    ];
    for found in pairs {
        assert_eq!(
            steps(&plan(&state(0, 1), &Lives::default(), found)),
            ["lost 1 to 1"]
        );
    }
}

#[test]
fn the_same_damage_met_twice_is_salvaged_from_the_one_with_a_directory() {
    // By its head, whose commit could not be read to its end, and then by its foot.
    let pairs = [
        vec![sample(1, 1).damaged(), sample(1, 1).gutted()],
        vec![sample(1, 1).gutted(), sample(1, 1).damaged()],
    ];
    for found in pairs {
        assert_eq!(
            steps(&plan(&state(0, 1), &Lives::default(), found)),
            ["salvage 1: 0 whole, 1 lost"]
        );
    }
}

#[test]
fn the_next_life_is_above_every_one_that_was_seen_or_claimed() {
    let mut state = state(1, 1);
    state.generation = Generation(3);
    let generation = |lives: &Lives, found| plan(&state, lives, found).generation.0;
    assert_eq!(generation(&Lives::default(), Vec::new()), 3);
    assert_eq!(generation(&claimed(5), Vec::new()), 5);
    assert_eq!(generation(&Lives::default(), vec![sample(9, 1).whole()]), 9);
}

#[test]
fn a_salvaged_commit_keeps_the_entries_that_are_whole() {
    let bytes = commit_of(identity(1, 1, 8192), 0, &[(1, 10), (1, 10), (1, 10)]);
    let head = CommitHead::read(&bytes, 8192).unwrap();
    let entries = head.check(&bytes).unwrap();
    let mut damaged = bytes;
    damaged[entries[1].start as usize] ^= 1;
    let found = Found::Damaged(FoundDamage {
        head,
        entries: Some(entries),
        bytes: Slice::new(disk_buffer(&damaged), 0..damaged.len()),
        fault: CommitFault::Entry,
    });
    let plan = plan(&state(0, 1), &Lives::default(), vec![found]);
    let Step::Salvage { whole, lost, .. } = &plan.steps[0] else {
        panic!("{:?}", plan.steps);
    };
    let offsets = |entries: &[Entry]| -> Vec<u64> {
        entries.iter().map(|entry| entry.base_offset.0).collect()
    };
    assert_eq!((offsets(whole), offsets(lost)), (vec![0, 2], vec![1]));
}

#[test]
fn a_commit_that_was_written_behind_another_one_than_stands_before_it_is_replayed_and_counted() {
    let (first, other) = (sample(1, 1), sample(1, 1).durable(1));
    let second = sample(1, 2);
    let chained = vec![first.whole(), second.behind(first).whole()];
    assert_eq!(
        count(
            &plan(&state(0, 0), &Lives::default(), chained),
            Row::Unchained
        ),
        0
    );
    let mixed = plan(
        &state(0, 0),
        &Lives::default(),
        vec![other.whole(), second.behind(first).whole()],
    );
    assert_eq!(count(&mixed, Row::Unchained), 1);
    assert_eq!(steps(&mixed), ["replay 1 of 1", "replay 2 of 1"]);
}

#[test]
fn a_commit_of_another_file_than_the_one_before_it_need_not_name_it() {
    let stranger = sample(1, 9);
    let found = vec![sample(1, 1).whole(), sample(2, 2).behind(stranger).whole()];
    assert_eq!(
        count(
            &plan(&state(0, 0), &Lives::default(), found),
            Row::Unchained
        ),
        0
    );
}

#[test]
fn a_file_that_is_gone_is_lost_as_far_as_it_may_have_reached() {
    let mut state = state(0, 0);
    state.generation = Generation(2);
    let lives = |generation, any_unknown| Lives {
        any_unknown,
        file_blocks: 16,
        ..claimed(generation)
    };
    let found = || vec![sample(1, 1).whole(), sample(1, 2).whole()];
    let gone = plan(&state, &lives(1, false), found());
    assert_eq!(
        steps(&gone),
        ["replay 1 of 1", "replay 2 of 1", "lost 3 to 18"]
    );
    assert_eq!(count(&gone, Row::Vanished), 1);
    // It is there, or it may be the one whose header is lost.
    for lives in [lives(2, false), lives(1, true)] {
        assert_eq!(plan(&state, &lives, found()).end_lsn, Lsn(2));
    }
}

#[test]
fn the_end_of_a_file_that_is_gone_is_lost_up_to_what_stands_behind_it() {
    let lives = |generation| Lives {
        shortened: vec![(Generation(generation), 10)],
        ..claimed(generation)
    };
    let newest = vec![sample(1, 1).whole()];
    assert_eq!(
        steps(&plan(&state(0, 0), &lives(1), newest)),
        ["replay 1 of 1", "lost 2 to 11"]
    );
    let followed = vec![sample(1, 1).whole(), sample(2, 5).whole()];
    assert_eq!(
        steps(&plan(&state(0, 0), &lives(1), followed)),
        ["replay 1 of 1", "lost 2 to 4", "replay 5 of 2"]
    );
    // All of it was read before a later life went on.
    let whole = vec![sample(1, 1).whole(), sample(2, 2).whole()];
    assert_eq!(plan(&state(0, 0), &lives(1), whole).end_lsn, Lsn(2));
}
