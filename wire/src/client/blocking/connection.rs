//! The connection over which producers publish to one shard: a thread that reads, a thread that writes what the sending
//! threads leave to it, and the sending threads themselves, who write when that is sooner.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::link::{Link, write_frames};
use crate::client::config::{Backoff, ClientConfig};
use crate::client::error::ClientError;
use crate::client::hub::{Bell, Hub, Load, Turn, locked};
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
    bell: Arc<WriterBell>,
    socket: Mutex<Option<(u64, Arc<TcpStream>)>>,
}

impl Connection {
    /// Connects and starts the threads, which end when the last producer lets go.
    pub(super) fn open(
        addresses: Vec<SocketAddr>,
        config: ClientConfig,
        shard: ShardIndex,
    ) -> Result<Self, ClientError> {
        let link = Link::open(&addresses, &config, Some(shard))?;
        let now = Instant::now();
        let bell = Arc::new(WriterBell::new(now));
        let hub = Arc::new(Hub::new(Box::new(SharedBell(Arc::clone(&bell))), now));
        let shared = Arc::new(Shared {
            hub: Arc::clone(&hub),
            bell,
            socket: Mutex::new(None),
        });
        let hello = link.hello.clone();
        shared.announce(&link);
        let writer = Arc::clone(&shared);
        spawn("gannet-writer", move || writer.run_writer())?;
        let reader = Reader {
            shared: Arc::clone(&shared),
            addresses,
            config,
            shard,
        };
        let started = spawn("gannet-reader", move || reader.run(link));
        if started.is_err() {
            shared.close();
        }
        started.map(|()| Self { hub, shared, hello })
    }

    /// After a send: writes what waits, if this is the moment.
    pub(super) fn write_after_send(&self, now: Instant) {
        if let Turn::Write(load) = self.hub.sender_turn(now) {
            self.shared.write(load);
        }
    }

    /// Writes what waits, unless somebody does.
    pub(super) fn write_now(&self) {
        if let Turn::Write(load) = self.hub.writer_turn() {
            self.shared.write(load);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn announce(&self, link: &Link) {
        let generation = self.hub.next_generation();
        *locked(&self.socket) = Some((generation, Arc::clone(&link.socket)));
        self.hub.handle_connect(Instant::now());
    }

    fn write(&self, mut load: Load) {
        let socket = match &*locked(&self.socket) {
            Some((generation, socket)) if *generation == load.generation => {
                Some(Arc::clone(socket))
            }
            // The connection these were for is gone; their lanes send them again.
            _ => None,
        };
        if let Some(socket) = socket
            && write_frames(&socket, &load.frames, &mut load.scratch).is_err()
        {
            // Whoever reads finds the end, and deals with it.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.hub.written(load, Instant::now());
    }

    fn run_writer(&self) {
        self.bell.be_rung_for(thread::current());
        while !self.hub.is_closed() {
            self.bell.awake();
            let next = self.hub.tick(Instant::now());
            while let Turn::Write(load) = self.hub.writer_turn() {
                self.write(load);
            }
            self.bell.asleep_until(next);
            // What came before the bell was set would not have rung it.
            if self.hub.has_output() || self.hub.is_due_before(next) || self.hub.is_closed() {
                continue;
            }
            thread::park_timeout(next.saturating_duration_since(Instant::now()));
        }
    }

    fn close(&self) {
        self.hub.close();
        if let Some((_, socket)) = locked(&self.socket).take() {
            let _ = socket.shutdown(Shutdown::Both);
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
    fn run(self, link: Link) {
        let hub = &self.shared.hub;
        let mut link = Some(link);
        while let Some(connected) = link.take() {
            let connected_at = Instant::now();
            hub.handle_outage(self.read_to_the_end(connected));
            locked(&self.shared.socket).take();
            hub.handle_disconnect(Instant::now());
            link = self.reconnect(connected_at);
        }
        hub.handle_disconnect(Instant::now());
        hub.give_up(&ClientError::Closed, Instant::now());
    }

    /// Reads until the connection ends, and says why: what to do then is always the same.
    fn read_to_the_end(&self, mut link: Link) -> ClientError {
        let mut out = BytesMut::new();
        loop {
            loop {
                let frame = match link.poll_read_only(&mut out) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => return error,
                };
                if let Err(error) = self.shared.hub.handle_frame(frame, Instant::now()) {
                    return error;
                }
            }
            // Written by the writer: a reader that waits for the socket to take more could wait for itself.
            self.shared.hub.queue_control(out.split());
            if let Err(error) = link.read_once() {
                return error;
            }
        }
    }

    /// Tries until there is a connection, or nobody wants one any more.
    fn reconnect(&self, connected_at: Instant) -> Option<Link> {
        let hub = &self.shared.hub;
        let lost_at = Instant::now();
        let mut backoff = Backoff::new(&self.config.reconnect);
        let mut given_up = false;
        if connected_at.elapsed() < LIVED_MIN {
            // A server that greets and hangs up must not be called in a tight loop.
            pause(hub, backoff.next_pause());
        }
        loop {
            if hub.is_closed() {
                return None;
            }
            let failure = match Link::open(&self.addresses, &self.config, Some(self.shard)) {
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
            pause(hub, backoff.next_pause());
        }
    }
}

/// Sleeps, but not past the end of the connection's use by much.
fn pause(hub: &Hub, pause: Duration) {
    let until = Instant::now() + pause;
    while !hub.is_closed() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), ClientError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| ClientError::io("start a thread", &error))
}

/// A connection that held no longer than this is not made again without a pause.
const LIVED_MIN: Duration = Duration::from_secs(1);

/// Wakes the writer's thread, and spares the system call when it wakes in time by itself.
struct WriterBell {
    base: Instant,
    /// Nanoseconds after `base` at which the writer wakes; 0 while it is awake.
    wakes_at: AtomicU64,
    thread: OnceLock<Thread>,
}

impl WriterBell {
    fn new(base: Instant) -> Self {
        Self {
            base,
            wakes_at: AtomicU64::new(0),
            thread: OnceLock::new(),
        }
    }

    fn be_rung_for(&self, thread: Thread) {
        // Set once, by the one thread that runs the writer.
        let _ = self.thread.set(thread);
    }

    fn awake(&self) {
        self.wakes_at.store(0, Ordering::SeqCst);
    }

    fn asleep_until(&self, at: Instant) {
        self.wakes_at.store(self.nanos(at), Ordering::SeqCst);
    }

    fn nanos(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.base).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
    }

    fn ring_by_nanos(&self, nanos: u64) {
        if self.wakes_at.fetch_min(nanos, Ordering::SeqCst) > nanos
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

struct SharedBell(Arc<WriterBell>);

impl Bell for SharedBell {
    fn ring_by(&self, at: Instant) {
        self.0.ring_by_nanos(self.0.nanos(at));
    }

    fn ring(&self) {
        self.0.ring_by_nanos(1);
    }
}

/// The connections of a client, by shard, as long as somebody uses them.
#[derive(Default)]
pub(super) struct Connections {
    by_shard: Mutex<std::collections::HashMap<ShardIndex, Weak<Connection>>>,
}

impl Connections {
    pub(super) fn of_shard(
        &self,
        shard: ShardIndex,
        addresses: &[SocketAddr],
        config: &ClientConfig,
    ) -> Result<Arc<Connection>, ClientError> {
        let mut by_shard = locked(&self.by_shard);
        if let Some(connection) = by_shard.get(&shard).and_then(Weak::upgrade) {
            return Ok(connection);
        }
        let connection = Arc::new(Connection::open(addresses.to_vec(), config.clone(), shard)?);
        by_shard.insert(shard, Arc::downgrade(&connection));
        Ok(connection)
    }
}
