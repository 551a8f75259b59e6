//! The connection over which producers publish to one shard: a task that reads and a task that writes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use ::tokio::sync::{Mutex as AsyncMutex, Notify};
use ::tokio::time::{sleep, timeout};
use bytes::BytesMut;

use super::wire::{Link, Wire};
use crate::client::config::{Backoff, ClientConfig};
use crate::client::error::ClientError;
use crate::client::hub::{Bell, Hub, Load, Turn, locked};
use crate::client::written::gathered;
use crate::frame::HelloReply;
use crate::ids::ShardIndex;

/// Shared by the producers of a client whose topics have partitions on this shard.
pub(super) struct Connection {
    pub(super) hub: Arc<Hub>,
    shared: Arc<Shared>,
    pub(super) hello: HelloReply,
}

struct Shared {
    hub: Arc<Hub>,
    bell: Arc<Notify>,
    wire: Mutex<Option<(u64, Arc<Wire>)>>,
}

impl Connection {
    async fn open(
        addresses: Vec<SocketAddr>,
        config: ClientConfig,
        shard: ShardIndex,
    ) -> Result<Self, ClientError> {
        let link = Link::open(&addresses, &config, Some(shard)).await?;
        let bell = Arc::new(Notify::new());
        let hub = Arc::new(Hub::new(
            Box::new(TaskBell(Arc::clone(&bell))),
            Instant::now(),
        ));
        let shared = Arc::new(Shared {
            hub: Arc::clone(&hub),
            bell,
            wire: Mutex::new(None),
        });
        let hello = link.hello.clone();
        shared.announce(&link);
        ::tokio::spawn(Arc::clone(&shared).run_writer());
        let reader = Reader {
            shared: Arc::clone(&shared),
            addresses,
            config,
            shard,
        };
        ::tokio::spawn(reader.run(link));
        Ok(Self { hub, shared, hello })
    }

    /// After a send: the writer is to look.
    pub(super) fn ring(&self) {
        self.shared.bell.notify_one();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.close();
        if let Some((_, wire)) = locked(&self.shared.wire).take() {
            wire.end();
        }
    }
}

impl Shared {
    fn announce(&self, link: &Link) {
        let generation = self.hub.next_generation();
        *locked(&self.wire) = Some((generation, Arc::clone(&link.wire)));
        self.hub.handle_connect(Instant::now());
    }

    async fn write(&self, mut load: Load) {
        let wire = match &*locked(&self.wire) {
            Some((generation, wire)) if *generation == load.generation => Some(Arc::clone(wire)),
            // The connection these were for is gone; their lanes send them again.
            _ => None,
        };
        if let Some(wire) = wire {
            let mut slices = gathered(&load.frames, &mut load.scratch);
            if wire.write_all(&mut slices).await.is_err() {
                // Whoever reads finds the end, and deals with it.
                wire.end();
            }
        }
        self.hub.written(load, Instant::now());
    }

    async fn run_writer(self: Arc<Self>) {
        while !self.hub.is_closed() {
            // Timers here are no finer than a millisecond: what is due within one goes now.
            let next = self.hub.tick(Instant::now() + TIMER_GRAIN);
            while let Turn::Write(load) = self.hub.writer_turn() {
                self.write(load).await;
            }
            let left = next.saturating_duration_since(Instant::now());
            // Whether it was rung or the time has come, the next turn looks.
            let _ = timeout(left.max(TIMER_GRAIN), self.bell.notified()).await;
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    config: ClientConfig,
    shard: ShardIndex,
}

impl Reader {
    async fn run(self, link: Link) {
        let hub = Arc::clone(&self.shared.hub);
        let mut link = Some(link);
        while let Some(connected) = link.take() {
            let connected_at = Instant::now();
            hub.handle_outage(self.read_to_the_end(connected).await);
            locked(&self.shared.wire).take();
            hub.handle_disconnect(Instant::now());
            link = self.reconnect(connected_at).await;
        }
        hub.handle_disconnect(Instant::now());
        hub.give_up(&ClientError::Closed, Instant::now());
    }

    /// Reads until the connection ends, and says why: what to do then is always the same.
    async fn read_to_the_end(&self, mut link: Link) -> ClientError {
        let mut out = BytesMut::new();
        loop {
            loop {
                match link.poll(&mut out) {
                    Ok(Some(frame)) => {
                        if let Err(error) = self.shared.hub.handle_frame(frame, Instant::now()) {
                            return error;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return error,
                }
            }
            // Written by the writer: a reader that waits for the socket to take more could wait for itself.
            self.shared.hub.queue_control(out.split());
            if let Err(error) = link.read(None).await {
                return error;
            }
        }
    }

    async fn reconnect(&self, connected_at: Instant) -> Option<Link> {
        let hub = &self.shared.hub;
        let lost_at = Instant::now();
        let mut backoff = Backoff::new(&self.config.reconnect);
        let mut given_up = false;
        if connected_at.elapsed() < LIVED_MIN {
            // A server that greets and hangs up must not be called in a tight loop.
            sleep(backoff.next_pause()).await;
        }
        while !hub.is_closed() {
            let failure = match Link::open(&self.addresses, &self.config, Some(self.shard)).await {
                Ok(link) => {
                    self.shared.announce(&link);
                    return (!hub.is_closed()).then_some(link);
                }
                Err(failure) => failure,
            };
            hub.handle_outage(failure.clone());
            let after = lost_at.elapsed();
            if !given_up && after >= self.config.reconnect.give_up_after {
                given_up = true;
                let cause = Box::new(failure);
                hub.give_up(&ClientError::GaveUp { after, cause }, Instant::now());
            }
            sleep(backoff.next_pause()).await;
        }
        None
    }
}

struct TaskBell(Arc<Notify>);

impl Bell for TaskBell {
    fn ring_by(&self, _at: Instant) {
        self.0.notify_one();
    }

    fn ring(&self) {
        self.0.notify_one();
    }
}

/// The connections of a client, by shard, as long as somebody uses them.
#[derive(Default)]
pub(super) struct Connections {
    by_shard: AsyncMutex<HashMap<ShardIndex, Weak<Connection>>>,
}

impl Connections {
    pub(super) async fn of_shard(
        &self,
        shard: ShardIndex,
        addresses: &[SocketAddr],
        config: &ClientConfig,
    ) -> Result<Arc<Connection>, ClientError> {
        let mut by_shard = self.by_shard.lock().await;
        if let Some(connection) = by_shard.get(&shard).and_then(Weak::upgrade) {
            return Ok(connection);
        }
        let connection = Connection::open(addresses.to_vec(), config.clone(), shard).await?;
        let connection = Arc::new(connection);
        by_shard.insert(shard, Arc::downgrade(&connection));
        Ok(connection)
    }
}

/// A connection that held no longer than this is not made again without a pause.
const LIVED_MIN: Duration = Duration::from_secs(1);
/// The grain of the runtime's timers.
const TIMER_GRAIN: Duration = Duration::from_millis(1);
