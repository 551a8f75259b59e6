//! A run: lives of the broker one after the other, each cut short at some step, and at last one without faults in which everything must be served.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use gannet_engine::io::Clock;
use gannet_engine::io::sim::{CrashPolicy, Random, SimDisk, SimExecutor};
use gannet_engine::storage::layout::DataDir;
use gannet_wire::frame::Durability;

use super::broker::{Broker, Home, add};
use super::clients::{Client, Load};
use super::disk::WorldDisk;
use super::limits::{draw_limits, pick};
use super::shared::Shared;
use super::{Faults, Run, Summary, check};

/// The simulated world of one run.
pub(super) struct World {
    pub(super) run: Run,
    pub(super) executor: SimExecutor,
    pub(super) disk: SimDisk,
    pub(super) home: Home,
    pub(super) shared: Rc<Shared>,
    pub(super) random: RefCell<Random>,
    pub(super) shards: Cell<u16>,
    /// Of the last start that came to its end: another number moves everything.
    served_shards: Cell<Option<u16>>,
    lives: Cell<u64>,
    cut_starts: Cell<u64>,
    moves: Cell<u64>,
    cut_moves: Cell<u64>,
    /// The disk has no room.
    pub(super) is_full: Cell<bool>,
    stopped_cleanly: Cell<bool>,
}

/// Everything a phase may find: what is wrong.
pub(super) type Verdict = Result<(), String>;

impl World {
    pub(super) fn new(run: Run, traced: bool) -> Self {
        let executor = SimExecutor::new(run.seed);
        let disk = SimDisk::new(&executor);
        let mut random = executor.fork_random();
        let config = draw_limits(&mut random);
        let shared = Shared::new(executor.clock(), disk.clone(), traced);
        shared.note(|| format!("{config:?}"));
        let slow = random.chance(1, 4);
        if slow {
            // Writes that take long, beside ones that do not: many are in flight.
            disk.set_latency(Duration::from_micros(10), Duration::from_millis(8));
        }
        let home = Home {
            disk: WorldDisk::new(disk.clone(), run.canary),
            clock: executor.clock(),
            spawn: executor.spawner(),
            data: DataDir::new("/data"),
            config,
            removed: Rc::default(),
        };
        let shards = pick(&mut random, &[1, 1, 2, 3]);
        Self {
            run,
            executor,
            disk,
            home,
            shared,
            random: RefCell::new(random),
            shards: Cell::new(shards),
            served_shards: Cell::new(None),
            lives: Cell::new(0),
            cut_starts: Cell::new(0),
            moves: Cell::new(0),
            cut_moves: Cell::new(0),
            is_full: Cell::new(false),
            stopped_cleanly: Cell::new(false),
        }
    }

    pub(super) fn take_steps(&self) -> Vec<String> {
        self.shared.take_steps()
    }

    /// All of it.
    pub(super) fn run(&self) -> Result<Summary, String> {
        self.executor
            .block_on(async {
                let root = self.home.data.root();
                gannet_engine::io::Disk::create_dir_all(&self.disk, root).await
            })
            .map_err(|error| format!("the data directory cannot be made: {error}"))?;
        let lives = self.dice(|random| random.between(1, 5));
        for _ in 0..lives {
            self.live()?;
            if self.run.faults == Faults::Lies && self.dice(|random| random.chance(1, 2)) {
                self.live_with_lies()?;
                return Ok(self.summary());
            }
        }
        self.recover_for_good()?;
        Ok(self.summary())
    }

    fn summary(&self) -> Summary {
        let model = self.shared.model.borrow();
        Summary {
            lives: self.lives.get(),
            cut_starts: self.cut_starts.get(),
            moves: self.moves.get(),
            cut_moves: self.cut_moves.get(),
            reused_journal_files: self.home.disk.reused_journal_files(),
            commits: self.shared.commits.get(),
            steps: self.executor.steps(),
            acked_batches: model.acked_batches,
            delivered_batches: model.delivered_batches,
            duplicates: self.shared.duplicates.get(),
            refused_full: self.shared.refused_full.get(),
            written_bytes: self.disk.counts().written_bytes,
            expiries: model.expiries,
            swept_files: self.home.removed.swept_files.get(),
            topic_files: self.home.removed.topic_files.get(),
            faults: self.disk.faults_struck(),
        }
    }

    /// One life: a start, clients, and an end.
    fn live(&self) -> Verdict {
        if self.dice(|random| random.chance(1, 2)) {
            self.shards
                .set(self.dice(|random| random.between(1, 3) as u16));
        }
        let broker = self.start()?;
        if self.dice(|random| random.chance(3, 4)) {
            self.check_everything(&broker)?;
        }
        let client = self.client(&broker);
        client.start_all(self.dice(Load::draw));
        let steps = self.dice(draw_steps);
        self.run_with_faults(&broker, steps)?;
        if broker.failure().is_some() {
            self.after_failure(&broker)?;
        } else if !self.is_full.get() && self.dice(|random| random.chance(1, 4)) {
            // On a full disk a clean stop waits for room.
            self.stop(broker)?;
            return Ok(());
        }
        self.crash(broker)
    }

    /// Starts a broker, which may be cut short a few times on the way.
    pub(super) fn start(&self) -> Result<Rc<Broker>, String> {
        loop {
            self.lives.set(self.lives.get() + 1);
            let cut_after = self.dice(|random| {
                random.chance(1, 3).then(|| match random.below(3) {
                    0 => random.below(60),
                    1 => random.below(400),
                    _ => random.below(3_000),
                })
            });
            let shards = self.shards.get();
            self.shared
                .note(|| format!("start with {shards} shards, cut after {cut_after:?} steps"));
            let (began_ms, struck) = (self.shared.now_ms(), self.disk.faults_struck());
            let start = Broker::start(&self.home, shards);
            let steps_max = cut_after.unwrap_or(START_STEPS_MAX);
            let served_shards = self.served_shards.get();
            let moves = served_shards.is_some_and(|served| served != shards);
            match self.executor.block_on_steps(start, steps_max) {
                Ok(Ok(broker)) => {
                    let now_ms = self.shared.now_ms();
                    self.shared
                        .model
                        .borrow_mut()
                        .append_clock
                        .started(began_ms, now_ms);
                    let clean = self.stopped_cleanly.replace(false);
                    check::check_start(&broker, &self.shared, clean);
                    self.verdict()?;
                    self.served_shards.set(Some(shards));
                    add(&self.moves, moves.into());
                    return Ok(broker);
                }
                Ok(Err(error)) => {
                    self.shared.note(|| format!("the start failed: {error}"));
                    self.start_failed(&error, &struck)?;
                }
                // A move to other shards waits for room.
                Err(_) if self.is_full.get() => self.give_room(),
                Err(stopped) if cut_after.is_none() => {
                    return Err(format!(
                        "a start did not end within {START_STEPS_MAX} steps: {stopped:?}"
                    ));
                }
                Err(_) => {
                    add(&self.cut_starts, 1);
                    add(&self.cut_moves, moves.into());
                }
            }
            self.cut();
            if self.dice(|random| random.chance(1, 4)) {
                self.shards
                    .set(self.dice(|random| random.between(1, 3) as u16));
            }
        }
    }

    pub(super) fn client(&self, broker: &Rc<Broker>) -> Client {
        Client {
            broker: broker.clone(),
            shared: self.shared.clone(),
            home: self.home.clone(),
            random: self.dice(Random::fork),
        }
    }

    pub(super) fn check_everything(&self, broker: &Rc<Broker>) -> Verdict {
        self.shared.note(|| "check everything".to_owned());
        let client = self.client(broker);
        self.within(CHECK_MAX, "reading everything", client.check_everything())?;
        if let Some(error) = broker.failure() {
            self.failed(broker, &error)?;
        }
        self.verdict()
    }

    /// A clean stop, which the power may cut short.
    fn stop(&self, broker: Rc<Broker>) -> Verdict {
        self.shared.note(|| "stop".to_owned());
        broker.stop();
        if self.dice(|random| random.chance(1, 2)) {
            let steps = self.dice(|random| random.below(2_000));
            self.executor.run_steps(steps);
            self.verdict()?;
            return self.crash(broker);
        }
        self.stopped_within(&broker)?;
        self.shared.note(|| "stopped".to_owned());
        let clean = broker.failure().is_none();
        self.crash(broker)?;
        self.stopped_cleanly.set(clean);
        Ok(())
    }

    fn stopped_within(&self, broker: &Rc<Broker>) -> Verdict {
        let stopping = async {
            loop {
                if broker.failure().is_some() {
                    return;
                }
                let stopped = pin!(broker.stopped());
                let tick = pin!(self.home.clock.sleep(Duration::from_millis(50)));
                if let Either::Left(_) = select(stopped, tick).await {
                    return;
                }
            }
        };
        self.within(STOP_MAX, "a clean stop", stopping)?;
        if let Some(error) = broker.failure() {
            return self.failed(broker, &error);
        }
        self.verdict()
    }

    /// The end of a life, whatever was under way.
    pub(super) fn crash(&self, broker: Rc<Broker>) -> Verdict {
        self.verdict()?;
        self.executor.crash();
        drop(broker);
        self.cut();
        Ok(())
    }

    /// Takes the power, or only the process, away.
    pub(super) fn cut(&self) {
        let policy = self.dice(|random| {
            pick(
                random,
                &[
                    CrashPolicy::Any,
                    CrashPolicy::Any,
                    CrashPolicy::Any,
                    CrashPolicy::KeepSynced,
                    CrashPolicy::KeepAll,
                    CrashPolicy::ProcessKilled,
                ],
            )
        });
        self.shared
            .note(|| format!("crash at step {}, {policy:?}", self.executor.steps()));
        self.executor.crash();
        self.disk.crash(policy);
        self.shared.broker_gone();
        // What is down for a while finds another time.
        let down = self.dice(|random| random.below(5_000));
        self.executor.run_for(Duration::from_millis(down));
    }

    /// Phase two: faults have stopped. Everything must be there, be served, and be taken, within a bound.
    fn recover_for_good(&self) -> Verdict {
        self.shared.note(|| "no more faults".to_owned());
        self.end_faults();
        let broker = self.start()?;
        self.check_everything(&broker)?;
        let mut client = self.client(&broker);
        let mut late = self.client(&broker);
        self.within(SERVE_MAX, "creating a topic", async {
            if late.shared.model.borrow().live_keys().is_empty() {
                late.create_topic().await;
            }
        })?;
        let refused = self.refused();
        self.within(SERVE_MAX, "publishing everywhere", async {
            let keys = client.shared.model.borrow().live_keys();
            for key in keys {
                client.publish_last(key).await;
                client.commit_offset(key);
            }
        })?;
        let answered = async {
            while self.shared.unanswered() > 0 {
                self.home.clock.sleep(Duration::from_millis(1)).await;
            }
        };
        self.within(SERVE_MAX, "acknowledging everything", answered)?;
        if let Some(error) = broker.failure() {
            self.failed(&broker, &error)?;
        }
        if self.refused() > refused {
            return Err(
                "a batch or a group's commit is refused although there is no fault any more"
                    .to_owned(),
            );
        }
        self.check_unacked()?;
        self.check_everything(&broker)?;
        broker.stop();
        self.stopped_within(&broker)?;
        self.crash(broker)?;
        self.stopped_cleanly.set(true);
        let broker = self.start()?;
        self.check_everything(&broker)?;
        self.check_nothing_is_left(&broker)?;
        self.executor.crash();
        drop(broker);
        Ok(())
    }

    /// What was refused so far of what can always be taken, but for faults.
    fn refused(&self) -> u64 {
        self.shared.refused_plain.get() + self.shared.refused_commits.get()
    }

    /// Of topics that are gone no file stays for longer than the next start's sweep takes.
    fn check_nothing_is_left(&self, broker: &Rc<Broker>) -> Verdict {
        let swept = async {
            while !broker.has_swept() {
                self.home.clock.sleep(Duration::from_millis(1)).await;
            }
        };
        self.within(SWEEP_MAX, "sweeping", swept)?;
        let live = self.shared.model.borrow().live_keys();
        let topics = self.home.data.topics();
        for (path, _) in self.disk.list_tree() {
            let topic = path
                .strip_prefix(&topics)
                .ok()
                .and_then(|below| below.iter().next()?.to_str())
                .and_then(DataDir::topic_of_name);
            if topic.is_some_and(|topic| !live.iter().any(|key| key.topic == topic)) {
                return Err(format!("{path:?} is left of a topic that was deleted"));
            }
        }
        Ok(())
    }

    fn check_unacked(&self) -> Verdict {
        let keys = self.shared.model.borrow().live_keys();
        let rot = self.shared.model.borrow().rot;
        let left = self
            .shared
            .producers
            .borrow()
            .iter()
            .filter(|producer| keys.contains(&producer.key))
            .map(|producer| producer.unacked.len())
            .sum::<usize>();
        if left > 0 && !rot {
            return Err(format!(
                "{left} batches of idempotent producers are not acknowledged although they were sent again"
            ));
        }
        self.verdict()
    }

    /// Runs something that must end within a time, and within a number of steps that no sound run needs.
    pub(super) fn within<T>(
        &self,
        max: Duration,
        what: &str,
        future: impl Future<Output = T>,
    ) -> Result<T, String> {
        let bounded = async {
            let timeout = pin!(self.home.clock.sleep(max));
            match select(pin!(future), timeout).await {
                Either::Left((output, _)) => Some(output),
                Either::Right(_) => None,
            }
        };
        match self.executor.block_on_steps(bounded, STEPS_MAX) {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(format!("{what} took longer than {max:?}")),
            Err(stopped) => Err(format!("{what} did not end: {stopped:?}")),
        }
    }

    pub(super) fn dice<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.borrow_mut())
    }

    /// What the model found so far.
    pub(super) fn verdict(&self) -> Verdict {
        match self.shared.model.borrow().violation() {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }
}

impl Client {
    /// One batch that must be taken, and whatever idempotent producers have left.
    async fn publish_last(&mut self, key: gannet_engine::storage::PartitionKey) {
        let left: Vec<(usize, Vec<u64>)> = self
            .shared
            .producers
            .borrow_mut()
            .iter_mut()
            .enumerate()
            .filter(|(_, producer)| producer.key == key)
            .map(|(index, producer)| {
                producer.broken = false;
                (index, producer.unacked.iter().copied().collect())
            })
            .collect();
        for (producer, attempts) in left {
            for attempt in attempts {
                self.admitted(key).await;
                self.send(key, attempt, Durability::Durable, Some(producer));
            }
        }
        self.publish_plain(key).await;
    }
}

/// How long a life lasts: often it ends early, where starts have left something to do.
fn draw_steps(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.below(100),
        1 | 2 => random.below(2_000),
        3 | 4 => random.below(8_000),
        _ => random.below(20_000),
    }
}

const START_STEPS_MAX: u64 = 300_000;
const STEPS_MAX: u64 = 3_000_000;
/// A read takes less than a millisecond, and there are a few thousand batches.
const CHECK_MAX: Duration = Duration::from_secs(120);
const SERVE_MAX: Duration = Duration::from_secs(30);
const SWEEP_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(60);
