//! The public port: one listener, whose connections are handed to the shard they name.
//!
//! Runs on the control thread. A connection is handed over once its Hello has arrived, which is only peeked at: a client that says
//! nothing never costs a shard anything.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use gannet_wire::ShardIndex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::io::spare_descriptors;
use crate::io::uring_mailbox::Inlet;

/// How long a new connection may take to send its Hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Connections whose Hello has not arrived yet. Beyond it the one that has been silent longest goes.
const HANDSHAKES_MAX: usize = 1_024;
/// The pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Whoever has said nothing for so long makes room where there is none. A client's Hello comes within its round trip.
const SILENT_MIN: Duration = Duration::from_millis(100);
/// The longest pause between looks at a Hello of which a part has come: well below [`SILENT_MIN`].
const PEEK_PAUSE_MAX: Duration = Duration::from_millis(10);
/// Where the shard stands in a Hello frame: behind the frame's header, magic, two versions and the features.
const HELLO_SHARD_AT: usize = 32;
const HELLO_PEEK_BYTES: usize = HELLO_SHARD_AT + 2;

/// What the control thread tells a shard.
#[derive(Debug)]
pub enum ShardOrder {
    /// Serve this connection.
    Serve(TcpStream, ConnectionTicket),
    /// Every shard serves: what nothing refers to can go. The shared segments that are in use, for the catalogue's owner alone.
    Sweep(Option<std::collections::HashSet<crate::storage::SegmentId>>),
    /// Answer what was accepted, close the connections, and say so.
    Drain,
    /// Every shard has drained: make everything durable and end.
    Finish,
}

/// Counts one connection until it is dropped.
#[derive(Debug)]
pub struct ConnectionTicket(Arc<AtomicUsize>);

impl Drop for ConnectionTicket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Connections that have not said anything yet, oldest first.
#[derive(Clone, Debug, Default)]
struct Handshakes(Arc<Mutex<BTreeMap<u64, Handshake>>>);

#[derive(Debug)]
struct Handshake {
    task: AbortHandle,
    /// By the port's clock.
    accepted_at: Duration,
}

impl Handshakes {
    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Handshake>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, number: u64, handshake: Handshake) {
        // Its task runs on this thread, and not before the next await.
        self.table().insert(number, handshake);
    }

    fn finish(&self, number: u64) {
        self.table().remove(&number);
    }

    fn is_full(&self) -> bool {
        self.table().len() >= HANDSHAKES_MAX
    }

    /// Closes the one that has been silent longest, if that is long enough to say so. `now`: by the port's clock.
    fn evict_silent(&self, now: Duration) -> Eviction {
        let mut table = self.table();
        let Some(oldest) = table.first_entry() else {
            return Eviction::AllHaveSpoken;
        };
        let silent_for = now.saturating_sub(oldest.get().accepted_at);
        if silent_for < SILENT_MIN {
            return Eviction::NotBefore(SILENT_MIN - silent_for);
        }
        oldest.remove().task.abort();
        Eviction::Closed
    }
}

/// What came of closing who says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eviction {
    /// One is being closed.
    Closed,
    /// The oldest may have spoken without anybody having looked: only after this long is it silent.
    NotBefore(Duration),
    /// There is none.
    AllHaveSpoken,
}

/// What is said of connections that are turned away: the first of a series aloud, not each of thousands.
#[derive(Debug, Default)]
struct TurnedAway {
    said_at: Option<tokio::time::Instant>,
    since: u64,
}

impl TurnedAway {
    fn say(&mut self, peer: SocketAddr, what: &str) {
        if let Some(connections) = self.count() {
            tracing::warn!(%peer, connections, "{what}");
        }
    }

    /// One more; how many since it was said, where it is time to say it.
    fn count(&mut self) -> Option<u64> {
        self.since += 1;
        let now = tokio::time::Instant::now();
        let is_due = |said: tokio::time::Instant| now.duration_since(said) >= HELLO_PATIENCE;
        if !self.said_at.is_none_or(is_due) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

/// Accepts until `stop` says so.
pub async fn accept_all(
    listener: TcpListener,
    inlets: Vec<Inlet<ShardOrder>>,
    connections_max: usize,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let port = PublicPort {
        listener: tokio::net::TcpListener::from_std(listener)?,
        began: tokio::time::Instant::now(),
    };
    accept_from(&port, inlets, connections_max, stop).await;
    Ok(())
}

/// Where connections come from, and how time passes there.
trait Port {
    /// Sees to it that the descriptors that are held back for the log are there.
    fn refill(&self) -> io::Result<()>;
    /// The next connection, once there is one.
    fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(tokio::net::TcpStream, SocketAddr)>>;
    /// How much time has passed.
    fn now(&self) -> Duration;
    /// Lets time pass.
    async fn pause(&self, pause: Duration);
}

struct PublicPort {
    listener: tokio::net::TcpListener,
    began: tokio::time::Instant,
}

impl Port for PublicPort {
    fn refill(&self) -> io::Result<()> {
        spare_descriptors::refill()
    }

    fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
        self.listener.poll_accept(context)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn pause(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }
}

async fn accept_from(
    port: &impl Port,
    inlets: Vec<Inlet<ShardOrder>>,
    connections_max: usize,
    mut stop: watch::Receiver<bool>,
) {
    let mut acceptor = Acceptor {
        port,
        connections_max,
        connections: Arc::default(),
        handshakes: Handshakes::default(),
        starved: TurnedAway::default(),
        silent: TurnedAway::default(),
        refused: TurnedAway::default(),
    };
    let mut number = 0u64;
    loop {
        let (stream, ticket) = tokio::select! {
            admitted = acceptor.admit() => admitted,
            _ = stop.changed() => return,
        };
        number += 1;
        let handshakes = acceptor.handshakes.clone();
        let inlets = inlets.clone();
        let task = tokio::spawn(async move {
            let named = tokio::time::timeout(HELLO_PATIENCE, peek_shard(&stream)).await;
            // It has spoken, or its time is over: either way it is no longer one to evict.
            handshakes.finish(number);
            if let Ok(Ok(named)) = named {
                let shard = named
                    .map(|shard| usize::from(shard.0))
                    .filter(|shard| *shard < inlets.len());
                let any = || (number % inlets.len().max(1) as u64) as usize;
                let inlet = inlets.get(shard.unwrap_or_else(any));
                if let (Some(inlet), Ok(stream)) = (inlet, stream.into_std()) {
                    // A shard that is gone cannot serve; dropping the stream tells the client.
                    let _ = inlet.send_async(ShardOrder::Serve(stream, ticket)).await;
                }
            }
        });
        let handshake = Handshake {
            task: task.abort_handle(),
            accepted_at: port.now(),
        };
        acceptor.handshakes.insert(number, handshake);
    }
}

/// Lets connections in, one after the other, as far as there is room.
struct Acceptor<'a, P> {
    port: &'a P,
    connections_max: usize,
    connections: Arc<AtomicUsize>,
    handshakes: Handshakes,
    /// Accepts that failed.
    starved: TurnedAway,
    silent: TurnedAway,
    refused: TurnedAway,
}

impl<P: Port> Acceptor<'_, P> {
    /// The next connection that there is room for. Whoever says nothing makes room for whoever may.
    async fn admit(&mut self) -> (tokio::net::TcpStream, ConnectionTicket) {
        loop {
            match next(self.port).await {
                Ok((stream, peer)) => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    let ticket = ConnectionTicket(self.connections.clone());
                    if self.make_room(peer).await {
                        return (stream, ticket);
                    }
                    self.refused.say(
                        peer,
                        "connections are refused: network.connections_max is reached",
                    );
                }
                Err(error) => self.recover_from(&error).await,
            }
        }
    }

    /// Until there is room for the connection that was accepted last; `false` when there is none and all the others have spoken.
    async fn make_room(&mut self, peer: SocketAddr) -> bool {
        while self.handshakes.is_full()
            || self.connections.load(Ordering::Relaxed) > self.connections_max
        {
            match self.evict_silent().await {
                Eviction::Closed => self.silent.say(
                    peer,
                    "connections that say nothing are closed to make room for new ones",
                ),
                Eviction::NotBefore(pause) => self.port.pause(pause).await,
                Eviction::AllHaveSpoken => return false,
            }
        }
        true
    }

    async fn recover_from(&mut self, error: &io::Error) {
        if let Some(attempts) = self.starved.count() {
            tracing::error!(%error, attempts, "a connection cannot be accepted yet. If descriptors are short, raise the limit (ulimit -n): until then connections that say nothing are closed for new ones");
        }
        // There are only so many, so this comes to an end.
        if spare_descriptors::is_out_of_descriptors(error)
            && self.evict_silent().await == Eviction::Closed
        {
            return;
        }
        // IMPORTANT: whoever waits to be accepted makes the next attempt fail at once.
        self.port.pause(ACCEPT_PAUSE).await;
    }

    async fn evict_silent(&self) -> Eviction {
        // IMPORTANT: this thread may have stood still for longer than anybody may be silent: what has arrived is looked at first.
        tokio::task::yield_now().await;
        let eviction = self.handshakes.evict_silent(self.port.now());
        if eviction == Eviction::Closed {
            // Its descriptor goes before this goes on.
            tokio::task::yield_now().await;
        }
        eviction
    }
}

/// The next connection. None is taken while a descriptor that is held back for the log is missing: it waits in the kernel's queue, where it
/// costs none and what it has said is kept.
async fn next(port: &impl Port) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    std::future::poll_fn(|context| {
        // At every poll: the log may have needed some while this waited.
        port.refill()?;
        port.poll_accept(context)
    })
    .await
}

/// Waits until the Hello has arrived as far as the shard it names, without taking it. What is not a Hello names none; the shard will say what is wrong with it.
async fn peek_shard(stream: &tokio::net::TcpStream) -> io::Result<Option<ShardIndex>> {
    let mut hello = [0; HELLO_PEEK_BYTES];
    let mut pause = Duration::from_micros(50);
    loop {
        stream.readable().await?;
        let peeked = match rustix::net::recv(
            stream.as_fd(),
            &mut hello[..],
            rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT,
        ) {
            Ok((peeked, _)) => peeked,
            Err(rustix::io::Errno::AGAIN) => {
                tokio::time::sleep(pause).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if peeked == 0 {
            // It has left without a word: that is for no shard to find out, where it would count as open until then.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if peeked > 4 && hello[4] != gannet_wire::frame::FrameKind::Hello as u8 {
            return Ok(None);
        }
        if peeked == HELLO_PEEK_BYTES {
            let shard = u16::from_le_bytes([hello[HELLO_SHARD_AT], hello[HELLO_SHARD_AT + 1]]);
            return Ok((shard != u16::MAX).then_some(ShardIndex(shard)));
        }
        // The socket stays readable while bytes are peeked at: wait for the rest with growing pauses.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PEEK_PAUSE_MAX);
    }
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
