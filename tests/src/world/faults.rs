//! What goes wrong in a life besides its end.

use std::rc::Rc;
use std::time::Duration;

use gannet_engine::io::sim::{CrashPolicy, Fault, FaultCounts, FaultKind, Random};
use gannet_engine::storage::StorageError;

use super::Faults;
use super::broker::Broker;
use super::clients::Load;
use super::life::{Verdict, World};
use super::limits::pick;

impl World {
    /// Lets the clients work for so many steps, and does in between what this run's faults are.
    pub(super) fn run_with_faults(&self, broker: &Rc<Broker>, steps: u64) -> Verdict {
        let before = self.dice(|random| random.below(steps + 1));
        self.run_steps(broker, before)?;
        match self.run.faults {
            Faults::None | Faults::Lies => {}
            Faults::Errors => self.plan_errors(),
            Faults::Full => return self.run_full(broker, steps - before),
            Faults::Rot => return self.run_with_rot(broker, steps - before),
        }
        self.run_steps(broker, steps - before)
    }

    /// Runs until the steps are used up, the model objects or the broker fails.
    fn run_steps(&self, broker: &Rc<Broker>, steps: u64) -> Verdict {
        let mut left = steps;
        while left > 0 && broker.failure().is_none() {
            let now = left.min(STEPS_BETWEEN_LOOKS);
            self.executor.run_steps(now);
            left -= now;
            self.verdict()?;
        }
        match broker.failure() {
            Some(error) => self.failed(broker, &error),
            None => Ok(()),
        }
    }

    /// A broker said that it cannot go on: only an operation that the disk failed in its life is a reason.
    pub(super) fn failed(&self, broker: &Broker, error: &str) -> Verdict {
        self.shared.note(|| format!("the broker failed: {error}"));
        match broker.struck(&self.home, fatal_errors) {
            0 => Err(format!("the broker failed: {error}")),
            _ => Ok(()),
        }
    }

    /// A start ended with an error: only an operation that the disk failed during it is a reason, or a full disk. Of neither is there an endless supply.
    pub(super) fn start_failed(
        &self,
        error: &StorageError,
        struck_before: &FaultCounts,
    ) -> Verdict {
        let struck = fatal_errors(&self.disk.faults_struck()) > fatal_errors(struck_before);
        if struck && matches!(error, StorageError::Io { .. }) {
            return Ok(());
        }
        if self.is_full.get() && error.is_disk_full() {
            self.give_room();
            return Ok(());
        }
        Err(format!("the start failed: {error}"))
    }

    /// The process goes on for a moment after a failure, as the real one does to say goodbye; nothing may be acknowledged wrongly in it.
    pub(super) fn after_failure(&self, broker: &Rc<Broker>) -> Verdict {
        let steps = self.dice(|random| random.below(500));
        self.executor.run_steps(steps);
        self.shared
            .note(|| format!("after its failure: {:?}", broker.failure()));
        self.verdict()
    }

    /// Faults have stopped.
    pub(super) fn end_faults(&self) {
        self.disk.clear_faults();
        self.give_room();
    }

    pub(super) fn give_room(&self) {
        self.disk.set_capacity(u64::MAX);
        self.is_full.set(false);
    }

    fn plan_errors(&self) {
        for _ in 0..self.dice(|random| random.between(1, 2)) {
            let fault = self.dice(draw_error);
            self.shared.note(|| format!("planned: {fault:?}"));
            self.disk.inject(fault);
        }
    }

    /// Space runs out, and comes back: publishes are refused meanwhile, and taken again without a restart.
    fn run_full(&self, broker: &Rc<Broker>, steps: u64) -> Verdict {
        let used: u64 = self.disk.list_tree().iter().map(|(_, bytes)| bytes).sum();
        let left = self.dice(|random| random.below(3 << 20));
        self.shared
            .note(|| format!("the disk has {left} bytes left beside {used}"));
        self.disk.set_capacity(used + left);
        self.is_full.set(true);
        self.run_steps(broker, steps)?;
        if self.dice(|random| random.chance(1, 3)) {
            // It ends while there is no room.
            return Ok(());
        }
        self.give_room();
        self.shared.note(|| "the disk has room again".to_owned());
        // At full speed the clients would do in these seconds what takes minutes to simulate.
        self.shared.quiet.set(true);
        self.executor.run_for(Duration::from_secs(3));
        self.shared.quiet.set(false);
        self.verdict()?;
        if let Some(error) = broker.failure() {
            return self.failed(broker, &error);
        }
        let refused = self.shared.refused_full.get();
        self.client(broker).start_all(self.dice(Load::draw));
        self.run_steps(broker, STEPS_AFTER_FULL)?;
        if self.shared.refused_full.get() > refused {
            return Err("publishes are still refused although there is room again".to_owned());
        }
        self.verdict()
    }

    /// Something that is durable and below a mark changes, or was never written although the disk said so.
    fn run_with_rot(&self, broker: &Rc<Broker>, steps: u64) -> Verdict {
        self.shared.model.borrow_mut().rot = true;
        let write_fault = self.dice(|random| random.chance(1, 2).then(|| draw_write_fault(random)));
        let planned = write_fault.is_some();
        if let Some(fault) = write_fault {
            self.shared.note(|| format!("planned: {fault:?}"));
            self.disk.inject(fault);
        }
        self.run_steps(broker, steps)?;
        // Until a mark proves what was acknowledged, damage to it looks like a write that never finished: README states that.
        self.shared.quiet.set(true);
        // Two seconds at most: sooner, if everything is answered and marked, so that it is not all in segments.
        for _ in 0..200 {
            self.executor.run_for(Duration::from_millis(10));
            if self.shared.unanswered() == 0 {
                break;
            }
        }
        let marked = self.dice(|random| pick(random, &[100, 100, 2_000]));
        self.executor.run_for(Duration::from_millis(marked));
        let left = self.disk.clear_faults();
        self.verdict()?;
        if let Some(error) = broker.failure() {
            return self.failed(broker, &error);
        }
        // One damage a life: two at once could be a commit and the mark above it.
        let struck = planned && left == 0;
        if !struck && self.dice(|random| random.chance(3, 4)) {
            self.change_something();
        }
        Ok(())
    }

    /// One bit, or one sector, of some file; of files in two copies only one is touched in a life.
    fn change_something(&self) {
        let place = self.dice(|random| {
            pick(
                random,
                &[".gnj", ".gnj", ".seg", ".seg", ".idx", ".a", ".b"],
            )
        });
        let files: Vec<_> = self
            .disk
            .list_tree()
            .into_iter()
            .filter(|(path, bytes)| *bytes > 0 && path.to_string_lossy().ends_with(place))
            .collect();
        if files.is_empty() {
            return;
        }
        let (path, bytes) = self.dice(|random| files[random.index(files.len())].clone());
        let contents = self.disk.read_file(&path).unwrap_or_default();
        // Somewhere near something that is there: most of a file can be zeros.
        let start = self.dice(|random| random.below(bytes));
        let position = (start..bytes)
            .chain(0..start)
            .find(|at| contents.get(*at as usize).is_some_and(|byte| *byte != 0))
            .unwrap_or(start);
        if self.dice(|random| random.chance(1, 4)) {
            self.shared
                .note(|| format!("the sector at {position} of {path:?} cannot be read"));
            self.disk.fail_sector(&path, position);
        } else {
            let bit = self.dice(|random| random.below(8)) as u32;
            self.shared
                .note(|| format!("bit {bit} of byte {position} of {path:?} flips"));
            self.disk.flip_bit(&path, position, bit);
        }
    }

    /// A life in which syncs lie, and a start after it.
    pub(super) fn live_with_lies(&self) -> Verdict {
        let broker = self.start()?;
        self.client(&broker).start_all(self.dice(Load::draw));
        let steps = self.dice(|random| random.below(4_000));
        self.run_steps(&broker, steps)?;
        self.disk.set_lying(true);
        self.shared.note(|| "syncs lie from now on".to_owned());
        let steps = self.dice(|random| random.below(8_000));
        self.run_steps(&broker, steps)?;
        self.executor.crash();
        drop(broker);
        let policy = self.dice(|random| pick(random, &[CrashPolicy::Any, CrashPolicy::KeepSynced]));
        self.disk.crash(policy);
        self.disk.clear_faults();
        self.shared.broker_gone();
        let start = Broker::start(&self.home, self.shards.get());
        match self.executor.block_on_steps(start, 1_000_000) {
            Ok(Ok(broker)) => {
                let client = self.client(&broker);
                self.within(
                    Duration::from_secs(300),
                    "reading what is left",
                    client.check_nothing_wrong(),
                )?;
                self.executor.crash();
                drop(broker);
                self.verdict()
            }
            // To refuse is right: what is durable contradicts itself.
            Ok(Err(error)) => {
                self.shared.note(|| format!("the start refused: {error}"));
                Ok(())
            }
            Err(stopped) => Err(format!("a start after lies did not end: {stopped:?}")),
        }
    }
}

/// Errors of the disk that a broker or a start may end of. A read is none: what it would have given is withheld, or read from a copy.
fn fatal_errors(faults: &FaultCounts) -> u64 {
    faults.writes + faults.syncs + faults.dir_syncs + faults.opens
}

fn draw_error(random: &mut Random) -> Fault {
    let kind = match random.below(10) {
        0..3 => FaultKind::Write,
        3..6 => FaultKind::Sync,
        6 => FaultKind::SyncDir,
        7 => FaultKind::Open { errno: EMFILE },
        _ => FaultKind::Read,
    };
    let place = pick(
        random,
        &[
            "",
            ".gnj",
            ".seg",
            ".idx",
            "checkpoint",
            "catalogue",
            "shared",
            "journal",
        ],
    );
    let after = match random.below(3) {
        0 => 0,
        1 => random.below(10),
        _ => random.below(150),
    };
    Fault::new(kind).at(place).after(after)
}

/// A write that claims success. A misdirected journal write hits the file's header: on another commit it could be a mark that destroys the only one
/// it was to prove.
fn draw_write_fault(random: &mut Random) -> Fault {
    let after = random.below(40);
    let fault = match random.below(5) {
        0 => Fault::new(FaultKind::MisdirectedWrite {
            to_position: 4096 * random.below(2),
        })
        .at(".gnj"),
        1 => Fault::new(FaultKind::MisdirectedWrite {
            to_position: 4096 * random.below(16),
        })
        .at(".seg"),
        2 => Fault::new(FaultKind::LostWrite).at(".seg"),
        3 => Fault::new(FaultKind::LostWrite).at("checkpoint"),
        _ => Fault::new(FaultKind::LostWrite).at(".gnj"),
    };
    fault.after(after)
}

const STEPS_AFTER_FULL: u64 = 2_000;
const STEPS_BETWEEN_LOOKS: u64 = 64;
/// Too many open files.
const EMFILE: i32 = 24;
