//! One life of a simulated broker: the product's own start, logs and tasks on the simulated disk, clock and executor.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use futures_util::future::{join_all, try_join_all};
use gannet_engine::control::catalogue::{Catalogue, Layout};
use gannet_engine::io::Spawn;
use gannet_engine::io::sim::{FaultCounts, SimClock, SimSpawn};
use gannet_engine::shard::log::{LogConfig, ShardLog};
use gannet_engine::shard::recover::{RecoveryReport, ShardIdentity};
use gannet_engine::shard::slot::Slot;
use gannet_engine::shard::start::{LogTasks, open_catalogue, start_log};
use gannet_engine::shard::sweep::Found;
use gannet_engine::storage::layout::DataDir;
use gannet_engine::storage::{PartitionKey, SegmentId, StorageError};
use gannet_wire::{ShardIndex, TopicId};

use super::disk::WorldDisk;

pub(crate) type Log = ShardLog<WorldDisk, SimClock>;

/// A broker that serves.
pub(crate) struct Broker {
    pub(crate) logs: Vec<Rc<Log>>,
    tasks: Vec<Rc<LogTasks>>,
    layout: Layout,
    /// Taken while a change is under way, and never given back when it failed.
    pub(crate) catalogue: RefCell<Option<Catalogue<WorldDisk>>>,
    pub(crate) reports: Vec<RecoveryReport>,
    failure: Rc<RefCell<Option<String>>>,
    stopping: Cell<bool>,
    /// Shards that still remove what a start found to be nobody's.
    sweeping: Cell<usize>,
    /// What the disk had done wrong before this life.
    struck_before: FaultCounts,
}

/// Where a broker lives.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) disk: WorldDisk,
    pub(crate) clock: SimClock,
    pub(crate) spawn: SimSpawn,
    pub(crate) data: DataDir,
    pub(crate) config: LogConfig,
    pub(crate) removed: Rc<Removed>,
}

/// Files that all lives removed as nobody's.
#[derive(Default)]
pub(crate) struct Removed {
    /// By the sweep behind a start.
    pub(crate) swept_files: Cell<u64>,
    /// Behind the answer to a deletion.
    pub(crate) topic_files: Cell<u64>,
}

impl Broker {
    /// Starts a broker with so many shards, as the engine does.
    pub(crate) async fn start(home: &Home, shards: u16) -> Result<Rc<Self>, StorageError> {
        let Home {
            disk,
            clock,
            spawn,
            data,
            config,
            ..
        } = home;
        let struck_before = disk.sim.faults_struck();
        let catalogue = open_catalogue(disk, clock, data, shards, config, BROKER_ID).await?;
        let state = catalogue.state().clone();
        let recovered = try_join_all((0..shards).map(ShardIndex).map(|shard| {
            let identity = ShardIdentity {
                shard,
                layout: state.layout,
                incarnation: state.incarnation,
            };
            let (state, home) = (&state, home.clone());
            async move {
                ShardLog::recover(
                    home.disk,
                    home.clock,
                    home.data,
                    home.config,
                    &identity,
                    state,
                )
                .await
            }
        }))
        .await?;
        let (logs, reports): (Vec<_>, Vec<_>) = recovered.into_iter().unzip();
        let found: Vec<Found> = logs
            .iter()
            .map(|log| Found::at_start(log, &state))
            .collect();
        let failure = Rc::new(RefCell::new(None));
        let tasks = logs
            .iter()
            .map(|log: &Rc<Log>| start_log(log, spawn, fails(log, &failure)))
            .collect();
        let broker = Rc::new(Self {
            logs,
            tasks,
            layout: state.layout,
            catalogue: RefCell::new(Some(catalogue)),
            reports,
            failure,
            stopping: Cell::new(false),
            sweeping: Cell::new(found.len()),
            struck_before,
        });
        broker.sweep(home, found);
        Ok(broker)
    }

    /// Removes behind serving what nothing refers to, each shard its part.
    fn sweep(self: &Rc<Self>, home: &Home, found: Vec<Found>) {
        let live: HashSet<SegmentId> = self
            .logs
            .iter()
            .flat_map(|log| log.shared_segments())
            .collect();
        let mut live = Some(live);
        for ((shard, log), found) in (0u16..).map(ShardIndex).zip(&self.logs).zip(found) {
            let (broker, log, home, live) = (self.clone(), log.clone(), home.clone(), live.take());
            home.spawn.clone().spawn(async move {
                match found.sweep(&home.disk, &home.data, shard, live).await {
                    Ok(files) => add(&home.removed.swept_files, files),
                    Err(error) => fails(&log, &broker.failure)(error),
                }
                broker.sweeping.set(broker.sweeping.get() - 1);
            });
        }
    }

    /// Whether what the start found to be nobody's is gone.
    pub(crate) fn has_swept(&self) -> bool {
        self.sweeping.get() == 0
    }

    /// A topic was deleted, durably: nobody serves it any more, and its files go once no shard needs them.
    pub(crate) fn drop_topic(self: &Rc<Self>, home: &Home, topic: TopicId) {
        for log in &self.logs {
            log.drop_topic(topic);
        }
        let (broker, home) = (self.clone(), home.clone());
        home.spawn.clone().spawn(async move {
            join_all(broker.logs.iter().map(|log| log.topic_released(topic))).await;
            let Some(owner) = broker.logs.first() else {
                return;
            };
            match owner.remove_topic(topic).await {
                Ok(files) => add(&home.removed.topic_files, files),
                Err(error) => fails(owner, &broker.failure)(error),
            }
        });
    }

    /// The log and the slot of a partition, on the shard that owns it.
    pub(crate) fn slot(&self, key: PartitionKey) -> Option<(Rc<Log>, Rc<Slot>)> {
        let log = self.logs.get(usize::from(self.layout.owner(key).0))?;
        Some((log.clone(), log.slot(key)?))
    }

    /// A change of the catalogue; `None` when one failed before. As in the engine, a failure is final.
    pub(crate) async fn change_catalogue<T>(
        &self,
        change: impl AsyncFnOnce(&mut Catalogue<WorldDisk>) -> Result<T, StorageError>,
    ) -> Option<T> {
        let mut catalogue = self.catalogue.borrow_mut().take()?;
        let reserved = catalogue.reserve().await;
        if reserved.as_ref().is_err_and(StorageError::is_disk_full) {
            *self.catalogue.borrow_mut() = Some(catalogue);
            return None;
        }
        let changed = match reserved {
            Ok(()) => change(&mut catalogue).await,
            Err(error) => Err(error),
        };
        match changed {
            Ok(changed) => {
                *self.catalogue.borrow_mut() = Some(catalogue);
                Some(changed)
            }
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error.to_string());
                None
            }
        }
    }

    /// Whether a shard that is to own a partition does.
    pub(crate) fn owner(&self, key: PartitionKey) -> ShardIndex {
        self.layout.owner(key)
    }

    /// What ended the broker, if anything did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// How often the disk did something wrong since this broker's start began.
    pub(crate) fn struck(&self, home: &Home, kind: impl Fn(&FaultCounts) -> u64) -> u64 {
        kind(&home.disk.sim.faults_struck()) - kind(&self.struck_before)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// A clean stop, first phase: nothing more is accepted.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        for log in &self.logs {
            log.stop();
        }
    }

    /// A clean stop, second phase: everything is in segments when this returns.
    pub(crate) async fn stopped(&self) {
        join_all(self.tasks.iter().map(|tasks| tasks.ended())).await;
    }
}

fn fails(
    log: &Rc<Log>,
    failure: &Rc<RefCell<Option<String>>>,
) -> impl Fn(StorageError) + Clone + 'static {
    let (log, failure) = (log.clone(), failure.clone());
    move |error: StorageError| {
        log.fail(&error);
        failure.borrow_mut().get_or_insert(error.to_string());
    }
}

pub(super) fn add(to: &Cell<u64>, more: u64) {
    to.set(to.get() + more);
}

const BROKER_ID: u64 = 7;
