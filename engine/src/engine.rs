//! A broker in this process: started on a data directory, stopped cleanly.
//!
//! The starting thread checks the machine, binds the port and starts one executor a shard. Shard 0 opens the catalogue and, when the number of shards has
//! changed, moves the partitions; then all recover side by side. Once every shard serves, the control thread begins to accept.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gannet_wire::ShardIndex;
use gannet_wire::batch::{BatchLimits, CheckScratch};
use gannet_wire::frame::TopicSettings;
use tokio::sync::watch;
use tokio::task::JoinError;

use crate::control::accept::{ShardOrder, accept_all};
use crate::control::catalogue::CatalogueState;
use crate::control::{Budgets, Config, ConfigError, Machine};
use crate::gateway::native::{GatewayContext, NativeConfig, serve};
use crate::io::local::{Semaphore, Signal};
use crate::io::preflight::{DataDirLock, PreflightError, Requirements, bind_exclusive, preflight};
use crate::io::uring::{UringClock, UringDisk, UringSpawn};
use crate::io::uring_exec::{ExecutorConfig, ExecutorHandle, start_executor};
use crate::io::uring_mailbox::{Inlet, InletReceiver, MailboxSeat, inlet, mailboxes};
use crate::io::uring_net::{Connection, ConnectionOptions};
use crate::io::{Clock, Spawn};
use crate::partition::ProducerLimits;
use crate::shard::log::{LogConfig, ShardLog};
use crate::shard::mail::{Outgoing, ShardMessage, ShardReady};
use crate::shard::recover::ShardIdentity;
use crate::shard::requests::{Shard, ShardBounds, ShardParts};
use crate::shard::start::{open_catalogue, start_log};
use crate::shard::sweep::Found;
use crate::storage::layout::DataDir;
use crate::storage::record_log::ROTATE_BYTES_MIN;
use crate::storage::{SegmentId, StorageError};

/// Orders that wait for a shard.
const ORDERS_MAX: usize = 1_024;
/// Batches of messages between two shards.
const MAIL_MAX: usize = 256;
/// Messages that leave together.
const MAIL_BATCH_MAX: usize = 512;
/// Bytes of one shard's publishes on their way to all other shards.
const FORWARD_BYTES_MAX: usize = 32 << 20;
/// ... and to one of them at least, however many there are.
const FORWARD_BYTES_MIN: usize = 2 << 20;
/// Bytes of large frames that one shard's connections have begun to send, at least one of the largest.
const RECEIVE_BYTES_MAX: usize = 64 << 20;
/// Descriptors without which nothing works: files, rings and a few connections.
const DESCRIPTORS_MIN: u64 = 64;
/// How long a stop waits for publishes that wait for room on a full disk.
const FULL_DISK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a failing shard lets its connections hear of it.
const FAREWELL: Duration = Duration::from_millis(200);

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not fit this machine.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine lacks something.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A thread cannot be started.
    #[error("cannot start a shard's thread: {0}{advice}", advice = thread_advice(.0))]
    Thread(std::io::Error),
    /// A shard ended without a word.
    #[error("a shard ended during the start; the log says why")]
    ShardLost,
}

fn thread_advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        // What the kernel says of a process too many.
        std::io::ErrorKind::WouldBlock => {
            "; the user or the container may have no more threads (ulimit -u, pids.max)"
        }
        std::io::ErrorKind::OutOfMemory => "; raise the limit of locked memory (ulimit -l)",
        _ => "",
    }
}

/// Why a running engine ended.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A write or a sync failed. It is final: a second try could succeed without the data being there.
    #[error(
        "storage failed and the broker has stopped: {0}. What was acknowledged as durable is safe; see to the disk, then start again"
    )]
    Storage(#[from] StorageError),
    /// The port no longer takes connections.
    #[error(
        "the broker has stopped since its port takes no connections any more: {0}. Start it again"
    )]
    Accept(io::Error),
    /// A thread is gone.
    #[error("a thread of the broker ended unexpectedly; the log says why")]
    ThreadLost,
}

/// A running broker.
#[derive(Debug)]
pub struct Engine {
    address: SocketAddr,
    shards: u16,
    stopper: Stopper,
    supervisor: Option<JoinHandle<Result<(), EngineError>>>,
}

/// Stops an engine from anywhere, such as a signal handler's thread.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Asks for a clean stop; [`Engine::wait`] returns when it is done.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// What the shards tell the thread that started them.
enum ShardEvent {
    Ready(ShardReady),
    Drained,
    Ended(Result<(), StorageError>),
}

/// What every shard needs to start.
#[derive(Clone)]
struct ShardPlan {
    index: ShardIndex,
    shards: u16,
    data_dir: PathBuf,
    log: LogConfig,
    native: NativeConfig,
    connection: ConnectionOptions,
    bounds: ShardBounds,
}

impl Engine {
    /// Starts a broker; when this returns, it serves.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let machine = Machine::detect();
        let budgets = config.budgets(&machine)?;
        for note in &budgets.notes {
            tracing::warn!("{note}");
        }
        let requirements = Requirements {
            // A journal file and its spare for each shard, and what is never touched.
            available_bytes_min: config.storage.disk_reserve_bytes
                + 2 * u64::from(budgets.shards) * config.journal.file_bytes,
            descriptors_min: DESCRIPTORS_MIN,
        };
        let (report, lock) = preflight(&config.data_dir, &requirements)?;
        tracing::debug!(?report, "the machine has what is needed");
        let listener = bind_exclusive(config.listen)?;
        let address = listener
            .local_addr()
            .map_err(|source| PreflightError::Address {
                address: config.listen,
                source,
            })?;

        let (events_in, events) = flume::unbounded();
        let (states_in, states): (Vec<_>, Vec<_>) = (0..budgets.shards)
            .map(|_| flume::bounded::<Arc<CatalogueState>>(1))
            .unzip();
        let seats = mailboxes::<Vec<ShardMessage>>(budgets.shards, MAIL_MAX);
        // Before any shard runs: from then on nothing can fail but a shard.
        let (supervised, supervisor) = flume::bounded::<Supervisor>(1);
        let control = std::thread::Builder::new()
            .name("gannet-control".into())
            .spawn(move || supervisor.recv().map_or(Ok(()), Supervisor::run))
            .map_err(StartError::Thread)?;
        let mut starting = Starting {
            inlets: Vec::new(),
            executors: Vec::new(),
            control: Some((supervised, control)),
        };
        for ((shard, seat), state) in (0..budgets.shards).zip(seats).zip(states) {
            let (orders_in, orders) = inlet(ORDERS_MAX);
            starting.inlets.push(orders_in);
            let plan = shard_plan(&config, &budgets, ShardIndex(shard));
            let executor = ExecutorConfig {
                core: if config.runtime.pin {
                    budgets
                        .cores
                        .get(usize::from(shard))
                        .map(|core| usize::from(*core))
                } else {
                    None
                },
                spin_before_park: (config.runtime.busy_poll_us > 0)
                    .then(|| Duration::from_micros(config.runtime.busy_poll_us)),
                ..ExecutorConfig::new(&format!("gannet-shard-{shard}"))
            };
            let catalogue = (shard == 0).then(|| states_in.clone());
            let events = events_in.clone();
            let started = start_executor(executor, move || async move {
                let result = run_shard(plan, seat, orders, state, catalogue, events.clone()).await;
                // The supervisor outlives the shards.
                let _ = events.send(ShardEvent::Ended(result));
            });
            starting
                .executors
                .push(started.map_err(StartError::Thread)?);
        }
        drop((states_in, events_in));

        let shared = all_ready(&events, budgets.shards)?;
        let inlets = std::mem::take(&mut starting.inlets);
        let executors = std::mem::take(&mut starting.executors);
        let Some((supervised, control)) = starting.control.take() else {
            return Err(StartError::ShardLost);
        };
        let mut shared = Some(shared);
        for inlet in &inlets {
            let _ = inlet.send(ShardOrder::Sweep(shared.take()));
        }
        let (stop, stopped) = watch::channel(false);
        let connections_max = usize::try_from(budgets.connections_max).unwrap_or(usize::MAX);
        // The thread takes exactly one.
        let _ = supervised.send(Supervisor {
            listener,
            inlets,
            executors,
            events,
            stopped,
            connections_max,
            _lock: lock,
        });
        Ok(Self {
            address,
            shards: budgets.shards,
            stopper: Stopper(stop),
            supervisor: Some(control),
        })
    }

    /// Where it listens; the port is the real one when the configuration asked for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many shards it runs.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// A handle that stops it from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Stops it: what was accepted is answered, everything is in segments, nothing is left to replay.
    pub fn stop(self) -> Result<(), EngineError> {
        self.stopper.stop();
        self.wait()
    }

    /// Waits until it has ended, by a [`Stopper`] or because it cannot go on.
    pub fn wait(mut self) -> Result<(), EngineError> {
        match self.supervisor.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(EngineError::ThreadLost),
        }
    }
}

impl Drop for Engine {
    /// An engine that is dropped is stopped as cleanly as one that is told to.
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            self.stopper.stop();
            let _ = supervisor.join();
        }
    }
}

/// Waits until every shard is ready; returns the shared segments that they need.
fn all_ready(
    events: &flume::Receiver<ShardEvent>,
    shards: u16,
) -> Result<HashSet<SegmentId>, StartError> {
    let mut shared = HashSet::new();
    let mut lost = false;
    for _ in 0..shards {
        match events.recv() {
            Ok(ShardEvent::Ready(ready)) => shared.extend(ready.shared_segments),
            Ok(ShardEvent::Ended(Err(error))) => return Err(StartError::Storage(error)),
            // One that waited for another ends without a word, and may be heard first: the other says why.
            Ok(ShardEvent::Ended(Ok(())) | ShardEvent::Drained) => lost = true,
            Err(_) => return Err(StartError::ShardLost),
        }
    }
    if lost {
        return Err(StartError::ShardLost);
    }
    Ok(shared)
}

/// The control thread before there is anything to control, and what hands it that.
type WaitingControl = (
    flume::Sender<Supervisor>,
    JoinHandle<Result<(), EngineError>>,
);

/// The threads of an engine that does not serve yet. Should it come to nothing, the data directory's lock outlives them: each is told to end, and
/// waited for. Once they serve, their end is the supervisor's to see to.
struct Starting {
    inlets: Vec<Inlet<ShardOrder>>,
    executors: Vec<ExecutorHandle<()>>,
    /// The thread that waits for a supervisor.
    control: Option<WaitingControl>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        // A shard whose orders end stops as if it had been told to.
        self.inlets.clear();
        for executor in self.executors.drain(..) {
            // What went wrong with it, it has said itself.
            let _ = executor.join();
        }
        if let Some((supervised, control)) = self.control.take() {
            drop(supervised);
            let _ = control.join();
        }
    }
}

/// The control thread: accepts, and sees the shards to their end.
struct Supervisor {
    listener: TcpListener,
    inlets: Vec<Inlet<ShardOrder>>,
    executors: Vec<ExecutorHandle<()>>,
    events: flume::Receiver<ShardEvent>,
    stopped: watch::Receiver<bool>,
    connections_max: usize,
    /// Held until the last shard has ended.
    _lock: DataDirLock,
}

impl Supervisor {
    fn run(self) -> Result<(), EngineError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|_| EngineError::ThreadLost)?;
        let result = runtime.block_on(async {
            let mut accepting = tokio::spawn(accept_all(
                self.listener,
                self.inlets.clone(),
                self.connections_max,
                self.stopped.clone(),
            ));
            let mut stopped = self.stopped.clone();
            let mut ended = 0;
            let mut failure = None;
            let mut deaf = None;
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => {}
                event = self.events.recv_async() => {
                    if let Ok(ShardEvent::Ended(result)) = event {
                        ended += 1;
                        failure = result.err();
                    }
                }
                // A broker that nobody can reach any more is to be started again, not to look alive.
                over = &mut accepting => deaf = why_deaf(over),
            }
            accepting.abort();
            let shards = self.inlets.len();
            for inlet in &self.inlets {
                let _ = inlet.send_async(ShardOrder::Drain).await;
            }
            let mut drained = ended;
            while drained < shards {
                match self.events.recv_async().await {
                    Ok(ShardEvent::Drained) => drained += 1,
                    Ok(ShardEvent::Ended(result)) => {
                        ended += 1;
                        drained += 1;
                        failure = failure.or(result.err());
                    }
                    Ok(ShardEvent::Ready(_)) => {}
                    Err(_) => break,
                }
            }
            for inlet in &self.inlets {
                let _ = inlet.send_async(ShardOrder::Finish).await;
            }
            while ended < shards {
                match self.events.recv_async().await {
                    Ok(ShardEvent::Ended(result)) => {
                        ended += 1;
                        failure = failure.or(result.err());
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            (failure, deaf)
        });
        let joined = self
            .executors
            .into_iter()
            .all(|executor| executor.join().is_ok());
        match result {
            (Some(error), _) => Err(EngineError::Storage(error)),
            (None, Some(error)) => Err(error),
            (None, None) if joined => Ok(()),
            (None, None) => Err(EngineError::ThreadLost),
        }
    }
}

/// Why nobody accepts any more; `None` when that was asked for.
fn why_deaf(over: Result<io::Result<()>, JoinError>) -> Option<EngineError> {
    match over {
        Ok(Ok(())) => None,
        Ok(Err(source)) => Some(EngineError::Accept(source)),
        // It panicked.
        Err(_) => Some(EngineError::ThreadLost),
    }
}

/// All of a shard's life.
async fn run_shard(
    plan: ShardPlan,
    seat: MailboxSeat<Vec<ShardMessage>>,
    orders: InletReceiver<ShardOrder>,
    state: flume::Receiver<Arc<CatalogueState>>,
    catalogue_for: Option<Vec<flume::Sender<Arc<CatalogueState>>>>,
    events: flume::Sender<ShardEvent>,
) -> Result<(), StorageError> {
    let data = DataDir::new(&plan.data_dir);
    let disk = UringDisk;
    let clock = UringClock::new();
    let catalogue = match catalogue_for {
        Some(shards) => {
            let catalogue = open_catalogue(
                &disk,
                &clock,
                &data,
                plan.shards,
                &plan.log,
                new_broker_id(),
            )
            .await?;
            let state = Arc::new(catalogue.state().clone());
            for shard in shards {
                let _ = shard.send_async(state.clone()).await;
            }
            Some(catalogue)
        }
        None => None,
    };
    let Ok(state) = state.recv_async().await else {
        // Shard 0 could not open the catalogue, and has said why.
        return Ok(());
    };
    let state = CatalogueState::clone(&state);
    let identity = ShardIdentity {
        shard: plan.index,
        layout: state.layout,
        incarnation: state.incarnation,
    };
    let started = clock.monotonic();
    let (log, report) = ShardLog::recover(
        disk.clone(),
        clock,
        data.clone(),
        plan.log.clone(),
        &identity,
        &state,
    )
    .await?;
    tracing::info!(
        shard = plan.index.0,
        batches = report.batches_replayed,
        bytes = report.bytes_replayed,
        fences = report.fences.len(),
        elapsed_ms = u64::try_from((clock.monotonic() - started).as_millis()).unwrap_or(u64::MAX),
        "the shard has recovered"
    );
    let mut found = Some(Found::at_start(&log, &state));
    let outgoing: Vec<Rc<Outgoing>> = (0..plan.shards).map(|_| Rc::default()).collect();
    let shard = Shard::new(ShardParts {
        index: plan.index,
        log: log.clone(),
        spawn: UringSpawn,
        state,
        catalogue,
        outgoing: outgoing.clone(),
        bounds: plan.bounds,
    });
    let tasks = start_log(&log, &UringSpawn, {
        let shard = shard.clone();
        move |error| shard.fail(error)
    });
    carry_mail(&shard, seat, outgoing);
    let _ = events.send(ShardEvent::Ready(ShardReady {
        shared_segments: log.shared_segments(),
    }));

    let context = Rc::new(GatewayContext {
        config: plan.native.clone(),
        clock,
        receive_budget: Rc::new(Semaphore::new(RECEIVE_BYTES_MAX)),
        scratch: RefCell::new(CheckScratch::new()),
        stopping: Cell::new(false),
        stop: Signal::new(),
    });
    let open = Rc::new(OpenConnections {
        count: Cell::new(0),
        changed: Signal::new(),
    });
    let failure = futures_util::future::FutureExt::shared(Box::pin({
        let shard = shard.clone();
        async move { Rc::new(shard.failure().await) }
    }));
    loop {
        let order = match futures_util::future::select(
            std::pin::pin!(orders.recv_async()),
            failure.clone(),
        )
        .await
        {
            futures_util::future::Either::Left((order, _)) => order,
            futures_util::future::Either::Right((error, _)) => {
                drop(failure);
                clock.sleep(FAREWELL).await;
                return Err(
                    Rc::into_inner(error).unwrap_or_else(|| StorageError::Damaged {
                        path: data.root().display().to_string(),
                        what: "storage failed; the log says how".into(),
                    }),
                );
            }
        };
        match order {
            Ok(ShardOrder::Serve(stream, ticket)) => {
                match Connection::from_std(stream, &plan.connection) {
                    Ok(connection) => {
                        let (shard, context, open) = (shard.clone(), context.clone(), open.clone());
                        open.count.set(open.count.get() + 1);
                        UringSpawn.spawn(async move {
                            serve(shard, context, connection).await;
                            open.count.set(open.count.get() - 1);
                            open.changed.notify_all();
                            drop(ticket);
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection was gone before it was served")
                    }
                }
            }
            Ok(ShardOrder::Sweep(live)) => {
                let (disk, data) = (disk.clone(), data.clone());
                let (shard, found) = (shard.clone(), found.take());
                UringSpawn.spawn(async move {
                    let Some(found) = found else { return };
                    match found.sweep(&disk, &data, shard.index(), live).await {
                        Ok(0) => {}
                        Ok(removed) => {
                            tracing::info!(removed, "files that nothing refers to were removed")
                        }
                        Err(error) => shard.fail(error),
                    }
                });
            }
            Ok(ShardOrder::Drain) => {
                context.stopping.set(true);
                context.stop.notify_all();
                let (open, events, log) = (open.clone(), events.clone(), log.clone());
                UringSpawn.spawn(async move {
                    loop {
                        let seen = open.changed.version();
                        if open.count.get() == 0 {
                            break;
                        }
                        let changed = std::pin::pin!(open.changed.changed_since(seen));
                        let patience = std::pin::pin!(clock.sleep(FULL_DISK_PATIENCE));
                        let waited = futures_util::future::select(changed, patience).await;
                        let in_vain = matches!(waited, futures_util::future::Either::Right(_));
                        if in_vain && log.is_disk_full() {
                            tracing::error!(
                                connections = open.count.get(),
                                "the disk is full: the stop does not wait for what waits for room; it was not acknowledged"
                            );
                            break;
                        }
                    }
                    let _ = events.send(ShardEvent::Drained);
                });
            }
            Ok(ShardOrder::Finish) | Err(_) => break,
        }
    }
    log.stop();
    match futures_util::future::select(std::pin::pin!(tasks.ended()), failure.clone()).await {
        futures_util::future::Either::Left(_) => Ok(()),
        futures_util::future::Either::Right((error, _)) => {
            drop(failure);
            Err(
                Rc::into_inner(error).unwrap_or_else(|| StorageError::Damaged {
                    path: data.root().display().to_string(),
                    what: "storage failed; the log says how".into(),
                }),
            )
        }
    }
}

struct OpenConnections {
    count: Cell<usize>,
    changed: Signal,
}

type UringShard = Shard<UringDisk, UringClock, UringSpawn>;

/// Carries messages between this shard and the others.
fn carry_mail(
    shard: &Rc<UringShard>,
    seat: MailboxSeat<Vec<ShardMessage>>,
    outgoing: Vec<Rc<Outgoing>>,
) {
    let own = seat.shard();
    let (mailbox, receivers) = seat.take();
    let mailbox = Rc::new(mailbox);
    for (to, queue) in (0u16..).map(ShardIndex).zip(outgoing) {
        if to == own {
            continue;
        }
        let mailbox = mailbox.clone();
        UringSpawn.spawn(async move {
            loop {
                let messages = queue.take(MAIL_BATCH_MAX).await;
                if mailbox.send(to, messages).await.is_err() {
                    return;
                }
            }
        });
    }
    for receiver in receivers {
        let shard = shard.clone();
        UringSpawn.spawn(async move {
            while let Some(messages) = receiver.recv().await {
                for message in messages {
                    shard.handle(message);
                }
            }
        });
    }
}

/// Drawn from the process's own randomness, which the standard library seeds from the system.
fn new_broker_id() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

fn shard_plan(config: &Config, budgets: &Budgets, index: ShardIndex) -> ShardPlan {
    let bytes = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let (journal, storage, network) = (&config.journal, &config.storage, &config.network);
    let flush_bytes = budgets.flush_bytes;
    ShardPlan {
        index,
        shards: budgets.shards,
        data_dir: config.data_dir.clone(),
        log: LogConfig {
            journal_file_bytes: journal.file_bytes,
            commit_bytes_max: bytes(journal.commit_bytes_max),
            commits_in_flight_max: journal.commits_in_flight_max as usize,
            commit_gather_bytes: bytes(journal.commit_bytes_max / 4),
            commit_interval: Duration::from_micros(journal.commit_interval_us),
            mark_interval: Duration::from_millis(journal.mark_interval_ms),
            unflushed_bytes_max: budgets.shard_unflushed_bytes_max,
            flush_bytes,
            flush_interval: Duration::from_millis(storage.flush_interval_ms),
            flush_round_bytes_max: flush_bytes.max(64 << 20),
            own_segment_bytes_min: storage.own_segment_bytes_min,
            direct_bytes_min: bytes(storage.direct_bytes_min),
            direct_chunk_bytes_max: bytes(storage.direct_bytes_min * 4),
            directs_in_flight_max: 4,
            segment_bytes_max: storage.segment_bytes_max,
            merge_segments_min: 8,
            merge_interval: Duration::from_secs(60),
            checkpoint_bytes_min: ROTATE_BYTES_MIN,
            flush_write_bytes: bytes(storage.flush_write_bytes),
            flush_writes_in_flight_max: storage.flush_writes_in_flight_max as usize,
            tail_cache_bytes: flush_bytes,
            read_chunk_bytes: bytes(storage.read_chunk_bytes),
            read_cache_bytes: bytes(storage.read_cache_bytes),
            open_files_max: budgets.shard_open_files_max as usize,
            disk_reserve_bytes: storage.disk_reserve_bytes,
            trust_wall_clock: storage.trust_wall_clock,
            producers: ProducerLimits {
                inflight_max: network.producer_inflight_max as usize,
                expiry_ms: i64::try_from(config.topics.producer_expiry_ms).unwrap_or(i64::MAX),
                producers_max: crate::limits::PRODUCERS_MAX,
            },
        },
        native: NativeConfig {
            frame_bytes_max: network.frame_bytes_max,
            batch: BatchLimits {
                batch_bytes_max: network.batch_bytes_max,
                batch_records_max: network.batch_records_max,
                decompressed_bytes_max: network.decompressed_bytes_max,
            },
            read_quantum_bytes: bytes(network.read_quantum_bytes),
            connection_buffer_bytes_max: bytes(network.connection_buffer_bytes_max),
            publishes_in_flight_max: 64 << 10,
            requests_in_flight_max: 64,
            subscriptions_max: network.subscriptions_max as usize,
            heartbeat: Duration::from_millis(u64::from(network.heartbeat_ms)),
            producer_inflight_max: network.producer_inflight_max,
        },
        connection: ConnectionOptions {
            write_deadline: Duration::from_millis(network.write_deadline_ms),
            ..ConnectionOptions::default()
        },
        bounds: ShardBounds {
            partitions_max: config.topics.partitions_max,
            partitions_default: config.topics.partitions_default,
            topic_defaults: TopicSettings {
                durability: config.topics.durability,
                // -1 is no limit.
                retention_ms: u64::try_from(config.topics.retention_ms).ok(),
                retention_bytes: u64::try_from(config.topics.retention_bytes).ok(),
                ..TopicSettings::default()
            },
            connection_buffer_bytes_max: bytes(network.connection_buffer_bytes_max),
            forward_bytes_max: (FORWARD_BYTES_MAX / usize::from(budgets.shards - 1).max(1))
                .max(FORWARD_BYTES_MIN),
        },
    }
}

#[cfg(test)]
mod tests;
