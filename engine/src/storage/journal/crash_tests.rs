//! Lives of a journal that end at any step: of its commits, of the files it puts to use again, and of the starts behind that.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use super::super::commit::{CommitWriter, commit_bytes};
use super::super::recovery::{JournalState, Plan, Step, plan};
use super::*;
use crate::io::sim::{CrashPolicy, SimDisk, SimExecutor};
use crate::storage::commit::CommitIdentity;
use crate::storage::sample::{KEY, batch_of, batch_stamp, disk_buffer, identity};

const DIR: &str = "/journal";
/// Room for three commits.
const FILE_BYTES: u64 = 64 << 10;
const VALUE_BYTES: usize = 16_000;
const COMMITS_A_LIFE: u64 = 10;

struct Scene {
    executor: SimExecutor,
    disk: SimDisk,
    kept: RefCell<Kept>,
    /// What the power, or only the process, leaves: in turn.
    crashes: RefCell<std::iter::Cycle<std::slice::Iter<'static, CrashPolicy>>>,
}

/// What is durable beside the journal, and what somebody was told.
#[derive(Default)]
struct Kept {
    checkpoint: JournalState,
    /// By which mark each commit is known that was acknowledged, or that a start decided to count.
    promised: BTreeMap<Lsn, u64>,
    marks: u64,
}

impl Scene {
    fn new(seed: u64) -> Self {
        use CrashPolicy::{Any, KeepAll, ProcessKilled};
        const CRASHES: [&[CrashPolicy]; 4] = [
            &[Any],
            &[ProcessKilled, Any],
            &[Any, ProcessKilled, Any],
            &[ProcessKilled, ProcessKilled, Any, KeepAll],
        ];
        let executor = SimExecutor::new(seed);
        let disk = SimDisk::new(&executor);
        Self {
            executor,
            disk,
            kept: RefCell::default(),
            crashes: RefCell::new(CRASHES[seed as usize % CRASHES.len()].iter().cycle()),
        }
    }

    /// How many files were ever made: their names count.
    fn files_made(&self) -> u64 {
        let files = self.disk.list_tree();
        let numbers = files.iter().filter_map(|(path, _)| {
            let stem = path.file_stem()?.to_str()?;
            stem.parse::<u64>().ok()
        });
        numbers.max().map_or(0, |last| last + 1)
    }

    /// A life that ends after so many steps, at the latest; `true`: it came to its own end.
    fn life(&self, steps_max: u64) -> bool {
        let ended = self.executor.block_on_steps(self.live(), steps_max);
        self.executor.crash();
        let policy = self.crashes.borrow_mut().next().copied();
        self.disk.crash(policy.expect("they come in turn"));
        ended.is_ok()
    }

    /// A start, then commits, of which every third finds everything before it in segments.
    async fn live(&self) {
        let (journal, end_lsn) = self.start().await;
        for lsn in (end_lsn.0 + 1..).take(COMMITS_A_LIFE as usize).map(Lsn) {
            self.commit(&journal, lsn).await;
            if lsn.0.is_multiple_of(3) {
                {
                    let checkpoint = &mut self.kept.borrow_mut().checkpoint;
                    checkpoint.flushed_lsn = lsn;
                    checkpoint.durable_lsn = lsn;
                    checkpoint.generation = journal.generation();
                    checkpoint.cuts.retain(|cut| cut.seen_lsn > lsn);
                }
                journal.recycle(lsn).await.unwrap();
            }
        }
    }

    /// As a shard starts.
    async fn start(&self) -> (Journal<SimDisk>, Lsn) {
        let dir = Path::new(DIR);
        let checkpoint = self.kept.borrow().checkpoint.clone();
        let flushed = checkpoint.flushed_lsn;
        let mut contents = JournalContents::scan(&self.disk, dir, flushed)
            .await
            .unwrap();
        let found = std::mem::take(&mut contents.found);
        let decision = plan(&checkpoint, &contents.lives, found);
        self.check(flushed, &decision);
        let Plan {
            end_lsn,
            generation,
            cuts,
            ..
        } = decision;
        self.kept.borrow_mut().checkpoint = JournalState {
            durable_lsn: end_lsn,
            generation,
            cuts,
            ..checkpoint
        };
        let journal = Journal::open(
            &self.disk, dir, FILE_BYTES, 1, &contents, generation, end_lsn,
        )
        .await
        .unwrap();
        journal.recycle(flushed).await.unwrap();
        journal.rotate(end_lsn.next()).await.unwrap();
        journal.recycle(flushed).await.unwrap();
        (journal, end_lsn)
    }

    /// What was promised is there, as it was; what counts besides is promised from now on.
    fn check(&self, flushed: Lsn, decision: &Plan) {
        let mut kept = self.kept.borrow_mut();
        let mut end_lsn = flushed;
        for step in &decision.steps {
            let Step::Replay(commit) = step else {
                panic!("nothing was damaged: {step:?}");
            };
            end_lsn = end_lsn.next();
            assert_eq!(commit.head.identity.lsn, end_lsn);
            let mark = commit.entries[0].base_offset.0;
            let promised = *kept.promised.entry(end_lsn).or_insert(mark);
            assert_eq!(mark, promised, "commit {end_lsn:?} is another one");
        }
        assert_eq!(decision.end_lsn, end_lsn);
        let newest = kept.promised.keys().next_back().copied();
        assert!(
            newest.is_none_or(|newest| newest <= end_lsn),
            "{newest:?} was promised and the log ends at {end_lsn:?}"
        );
    }

    async fn commit(&self, journal: &Journal<SimDisk>, lsn: Lsn) {
        let batch = batch_of(1, VALUE_BYTES, None);
        let bytes = commit_bytes(1, batch.len());
        if journal.place(bytes).is_none() {
            journal.rotate(lsn).await.unwrap();
        }
        let place = journal.place(bytes).unwrap();
        let mark = {
            let mut kept = self.kept.borrow_mut();
            kept.marks += 1;
            kept.marks
        };
        let identity = CommitIdentity {
            durable_lsn: Lsn(lsn.0 - 1),
            previous_checksum: place.previous_checksum,
            file: place.file_place,
            ..identity(place.generation.0, lsn.0, place.position)
        };
        let mut commit = vec![0; bytes];
        let mut writer = CommitWriter::new(&mut commit, identity, 1);
        writer.batch(&batch, &batch_stamp(KEY, mark, 1));
        let checksum = writer.finish();
        journal.advance(bytes, lsn, checksum);
        let commit = disk_buffer(&commit);
        place.file.write_at(place.position, &commit).await.unwrap();
        self.kept.borrow_mut().promised.insert(lsn, mark);
    }
}

#[test]
fn a_crash_at_any_step_and_two_more_at_the_next_starts_take_nothing_that_was_promised() {
    for seed in 0..4 {
        let mut committed = false;
        for steps in 0.. {
            let scene = Scene::new(seed);
            assert!(scene.life(u64::MAX), "seed {seed}");
            let ended = scene.life(steps);
            let marks = scene.kept.borrow().marks;
            // Within so many a start ends, or its first commits come.
            scene.life(steps % 83);
            scene.life(steps % 59);
            committed |= scene.kept.borrow().marks > marks;
            assert!(scene.life(u64::MAX), "seed {seed}, {steps} steps");
            let lives = scene.kept.borrow().checkpoint.generation.0;
            let made = scene.files_made();
            assert!(
                lives > made,
                "{lives} lives in {made} files: none was reused"
            );
            if ended {
                assert!(steps > 83, "a life takes {steps} steps");
                break;
            }
        }
        assert!(committed, "the two starts never came to a commit");
    }
}
