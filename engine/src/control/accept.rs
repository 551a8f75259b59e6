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
/// The pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
struct Handshakes(Arc<Mutex<BTreeMap<u64, AbortHandle>>>);

impl Handshakes {
    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, number: u64, task: AbortHandle) {
        // It runs on this thread, and not before the next await.
        self.table().insert(number, task);
    }

    fn finish(&self, number: u64) {
        self.table().remove(&number);
    }

    fn is_full(&self) -> bool {
        self.table().len() >= HANDSHAKES_MAX
    }

    /// Closes the one that has been silent longest; `false` when all have spoken.
    fn evict_oldest(&self) -> bool {
        let oldest = self.table().pop_first();
        oldest.is_some_and(|(_, task)| {
            task.abort();
            true
        })
    }
}

/// What is said of connections that are turned away: the first of a series aloud, not each of thousands.
#[derive(Debug, Default)]
struct TurnedAway {
    said_at: Option<tokio::time::Instant>,
    since: u64,
}

impl TurnedAway {
    fn say(&mut self, peer: SocketAddr, what: &str) {
        self.since += 1;
        let now = tokio::time::Instant::now();
        if self
            .said_at
            .is_none_or(|said| now.duration_since(said) >= HELLO_PATIENCE)
        {
            tracing::warn!(%peer, connections = self.since, "{what}");
            self.said_at = Some(now);
            self.since = 0;
        }
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
    let port = PublicPort(tokio::net::TcpListener::from_std(listener)?);
    accept_from(&port, inlets, connections_max, stop).await;
    Ok(())
}

/// Where connections come from, and how time passes there.
trait Port {
    /// Sees to it that the descriptors that are held back for the log are there.
    fn refill(&self) -> io::Result<()>;
    /// The next connection.
    async fn accept(&self) -> io::Result<(tokio::net::TcpStream, SocketAddr)>;
    /// Lets time pass.
    async fn pause(&self, pause: Duration);
}

struct PublicPort(tokio::net::TcpListener);

impl Port for PublicPort {
    fn refill(&self) -> io::Result<()> {
        spare_descriptors::refill()
    }

    async fn accept(&self) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
        self.0.accept().await
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
    let connections = Arc::new(AtomicUsize::new(0));
    let handshakes = Handshakes::default();
    let (mut silent, mut refused) = (TurnedAway::default(), TurnedAway::default());
    let mut number = 0u64;
    let mut turn = 0usize;
    let mut starved = false;
    loop {
        let accepted = tokio::select! {
            accepted = next(port, &handshakes) => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                starved = false;
                let ticket = ConnectionTicket(connections.clone());
                let open = connections.fetch_add(1, Ordering::Relaxed) + 1;
                if handshakes.is_full() || open > connections_max {
                    // Whoever says nothing makes room for whoever may.
                    if handshakes.evict_oldest() {
                        silent.say(
                            peer,
                            "connections that say nothing are closed to make room for new ones",
                        );
                        // Its descriptor goes before the next one comes.
                        tokio::task::yield_now().await;
                    } else {
                        refused.say(
                            peer,
                            "connections are refused: network.connections_max is reached",
                        );
                        continue;
                    }
                }
                turn = turn.wrapping_add(1);
                number += 1;
                let inlets = inlets.clone();
                let task = tokio::spawn({
                    let handshakes = handshakes.clone();
                    async move {
                        let named = tokio::time::timeout(HELLO_PATIENCE, peek_shard(&stream)).await;
                        // It has spoken, or its time is over: either way it is no longer one to evict.
                        handshakes.finish(number);
                        if let Ok(Ok(named)) = named {
                            let shard = named
                                .map(|shard| usize::from(shard.0))
                                .filter(|shard| *shard < inlets.len());
                            let inlet = inlets.get(shard.unwrap_or(turn % inlets.len().max(1)));
                            if let (Some(inlet), Ok(stream)) = (inlet, stream.into_std()) {
                                // A shard that is gone cannot serve; dropping the stream tells the client.
                                let _ = inlet.send_async(ShardOrder::Serve(stream, ticket)).await;
                            }
                        }
                    }
                });
                handshakes.insert(number, task.abort_handle());
            }
            Err(error) => {
                if !std::mem::replace(&mut starved, true) {
                    tracing::error!(%error, "a connection cannot be accepted; trying again every {ACCEPT_PAUSE:?}. If descriptors are short, raise the limit (ulimit -n)");
                }
                // Whoever says nothing makes room for whoever may. There are only so many, so this comes to an end.
                if handshakes.evict_oldest() {
                    tokio::task::yield_now().await;
                    continue;
                }
                // IMPORTANT: whoever waits to be accepted makes the next attempt fail at once.
                tokio::select! {
                    () = port.pause(ACCEPT_PAUSE) => {}
                    _ = stop.changed() => return,
                }
            }
        }
    }
}

/// The next connection. None is taken while a descriptor that is held back for the log is missing.
async fn next(
    port: &impl Port,
    handshakes: &Handshakes,
) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    port.refill()?;
    let accepted = port.accept().await?;
    // The log may have needed some while this waited: they come from those that say nothing before they come from the one that perhaps has said something.
    while let Err(error) = port.refill() {
        if !handshakes.evict_oldest() {
            return Err(error);
        }
        tokio::task::yield_now().await;
    }
    Ok(accepted)
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
        let not_hello = peeked > 4 && hello[4] != gannet_wire::frame::FrameKind::Hello as u8;
        if peeked == 0 || not_hello {
            return Ok(None);
        }
        if peeked == HELLO_PEEK_BYTES {
            let shard = u16::from_le_bytes([hello[HELLO_SHARD_AT], hello[HELLO_SHARD_AT + 1]]);
            return Ok((shard != u16::MAX).then_some(ShardIndex(shard)));
        }
        // The socket stays readable while bytes are peeked at: wait for the rest with growing pauses.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
#[path = "accept_tests.rs"]
mod tests;
