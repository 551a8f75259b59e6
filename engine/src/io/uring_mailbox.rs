//! Messages between shards, and from any thread to a shard. Bounded: who sends too much waits.

use std::time::Duration;

use futures_util::future::join_all;
use gannet_wire::ShardIndex;
use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};
use glommio::{GlommioError, ResourceType};
use thiserror::Error;

use super::local::Semaphore;

/// What was to be sent comes back: the receiver is gone.
#[derive(Debug, Error)]
#[error("the receiver is gone")]
pub struct SendError<T>(pub T);

/// What was to be sent comes back.
#[derive(Debug, Error)]
pub enum TrySendError<T> {
    /// There is no room now.
    #[error("the mailbox is full")]
    Full(T),
    /// The receiver is gone.
    #[error("the receiver is gone")]
    Closed(T),
}

/// The place of one shard in the matrix of channels, before its executor runs.
#[derive(Debug)]
pub struct MailboxSeat<T: Send> {
    shard: ShardIndex,
    senders: Vec<Option<SharedSender<T>>>,
    receivers: Vec<(ShardIndex, SharedReceiver<T>)>,
}

/// The sending half of a shard's mailbox.
///
/// Drop it while its executor still runs: what an executor drops at its own end no longer tells the receivers, and they
/// wait for ever.
pub struct Mailbox<T: Send> {
    shard: ShardIndex,
    peers: Vec<Option<Peer<T>>>,
}

struct Peer<T: Send> {
    sender: ConnectedSender<T>,
    /// Lets one task after the other wait for room, first come, first served.
    turn: Semaphore,
}

/// What one other shard sends to this one, in order. One task a receiver: each poll that finds nothing leaves a waker behind
/// until a message comes, so one that is polled for other reasons as well would gather them.
#[derive(Debug)]
pub struct PeerReceiver<T: Send> {
    from: ShardIndex,
    receiver: ConnectedReceiver<T>,
}

/// Makes the channels between `shards` shards, each with room for `capacity` messages (rounded up to a power of two), and
/// returns the seats in the order of shards.
#[must_use]
pub fn mailboxes<T: Send>(shards: u16, capacity: usize) -> Vec<MailboxSeat<T>> {
    let mut seats: Vec<_> = (0..shards)
        .map(|shard| MailboxSeat {
            shard: ShardIndex(shard),
            senders: Vec::new(),
            receivers: Vec::new(),
        })
        .collect();
    for from in 0..shards {
        let mut senders = Vec::new();
        for (to, seat) in (0..shards).zip(&mut seats) {
            senders.push(if from == to {
                None
            } else {
                let (sender, receiver) = new_bounded(capacity);
                seat.receivers.push((ShardIndex(from), receiver));
                Some(sender)
            });
        }
        if let Some(seat) = seats.get_mut(usize::from(from)) {
            seat.senders = senders;
        }
    }
    seats
}

impl<T: Send + 'static> MailboxSeat<T> {
    /// Whose seat it is.
    #[must_use]
    pub fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// Takes the seat, on the shard's executor, and waits until all the others have taken theirs (or dropped them). Returns
    /// a receiver for each other shard: run a loop for each.
    pub async fn connect(self) -> (Mailbox<T>, Vec<PeerReceiver<T>>) {
        // All at once: each end waits for its other end.
        let senders = join_all(self.senders.into_iter().map(|sender| async {
            Some(Peer {
                sender: sender?.connect().await,
                turn: Semaphore::new(1),
            })
        }));
        let receivers = join_all(
            self.receivers
                .into_iter()
                .map(|(from, receiver)| async move {
                    PeerReceiver {
                        from,
                        receiver: receiver.connect().await,
                    }
                }),
        );
        let (peers, receivers) = futures_util::future::join(senders, receivers).await;
        let mailbox = Mailbox {
            shard: self.shard,
            peers,
        };
        (mailbox, receivers)
    }
}

impl<T: Send> Mailbox<T> {
    /// Whose mailbox it is.
    #[must_use]
    pub fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// Sends if there is room and nobody waits for it.
    ///
    /// # Panics
    /// When `to` is this shard or none.
    ///
    /// # Errors
    /// The message, when it could not be sent.
    pub fn try_send(&self, to: ShardIndex, message: T) -> Result<(), TrySendError<T>> {
        let peer = self.peer(to);
        if peer.turn.available() == 0 {
            return Err(TrySendError::Full(message));
        }
        peer.try_send(message)
    }

    /// Sends, waiting for room. Messages to one shard keep the order in which `send` was first polled.
    ///
    /// # Panics
    /// When `to` is this shard or none.
    ///
    /// # Errors
    /// The message, when the receiver is gone.
    pub async fn send(&self, to: ShardIndex, message: T) -> Result<(), SendError<T>> {
        let peer = self.peer(to);
        let _turn = Turn::wait(&peer.turn).await;
        let mut message = message;
        // glommio's own waiting for room spins for ever when the receiver goes away from a full channel. Full means that
        // the receiver is far behind: looking again after a moment costs little then.
        let mut pause = FULL_PAUSE_MIN;
        loop {
            message = match peer.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(message)) => return Err(SendError(message)),
                Err(TrySendError::Full(message)) => message,
            };
            glommio::timer::sleep(pause).await;
            pause = (pause * 2).min(FULL_PAUSE_MAX);
        }
    }

    fn peer(&self, to: ShardIndex) -> &Peer<T> {
        match self.peers.get(usize::from(to.0)) {
            Some(Some(peer)) => peer,
            Some(None) => panic!("shard {} has no mailbox for itself", to.0),
            None => panic!("there is no shard {}", to.0),
        }
    }
}

impl<T: Send> Peer<T> {
    fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        match self.sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(GlommioError::WouldBlock(ResourceType::Channel(message))) => {
                Err(TrySendError::Full(message))
            }
            Err(GlommioError::Closed(ResourceType::Channel(message))) => {
                Err(TrySendError::Closed(message))
            }
            Err(_) => unreachable!("sending fails only for want of room or of a receiver"),
        }
    }
}

struct Turn<'a>(&'a Semaphore);

impl<'a> Turn<'a> {
    async fn wait(turn: &'a Semaphore) -> Self {
        turn.acquire(1).await;
        Self(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.release(1);
    }
}

impl<T: Send> PeerReceiver<T> {
    /// Who sends here.
    #[must_use]
    pub fn from(&self) -> ShardIndex {
        self.from
    }

    /// The next message; `None` when the sender is gone and all it sent was received.
    pub async fn recv(&self) -> Option<T> {
        self.receiver.recv().await
    }
}

/// The end of an [`inlet`] for any thread, clonable.
pub type Inlet<T> = flume::Sender<T>;

/// The end of an [`inlet`] for the shard.
pub type InletReceiver<T> = flume::Receiver<T>;

/// A bounded channel from any thread, such as the control thread with its tokio, to a shard. Receive by `recv_async`; send
/// by `send_async` from async code and by `send` from a thread that may block.
#[must_use]
pub fn inlet<T: Send>(capacity: usize) -> (Inlet<T>, InletReceiver<T>) {
    flume::bounded(capacity)
}

const FULL_PAUSE_MIN: Duration = Duration::from_micros(50);
const FULL_PAUSE_MAX: Duration = Duration::from_millis(1);
