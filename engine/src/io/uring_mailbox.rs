//! Messages between shards, and from any thread to a shard. Bounded: who sends too much waits.

use flume::{Receiver, Sender, TrySendError as FlumeError};
use gannet_wire::ShardIndex;
use thiserror::Error;

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
pub struct MailboxSeat<T> {
    mailbox: Mailbox<T>,
    receivers: Vec<PeerReceiver<T>>,
}

/// The sending half of a shard's mailbox.
#[derive(Debug)]
pub struct Mailbox<T> {
    shard: ShardIndex,
    /// By receiving shard; `None` for its own.
    peers: Vec<Option<Sender<T>>>,
}

/// What one other shard sends to this one, in order.
#[derive(Debug)]
pub struct PeerReceiver<T> {
    from: ShardIndex,
    receiver: Receiver<T>,
}

/// Makes the channels between `shards` shards, each with room for `capacity` messages, and returns the seats in the order of shards.
#[must_use]
pub fn mailboxes<T: Send>(shards: u16, capacity: usize) -> Vec<MailboxSeat<T>> {
    let mut seats: Vec<_> = (0..shards)
        .map(|shard| MailboxSeat {
            mailbox: Mailbox {
                shard: ShardIndex(shard),
                peers: Vec::new(),
            },
            receivers: Vec::new(),
        })
        .collect();
    for from in 0..shards {
        let mut peers = Vec::new();
        for (to, seat) in (0..shards).zip(&mut seats) {
            peers.push((from != to).then(|| {
                let (sender, receiver) = flume::bounded(capacity);
                seat.receivers.push(PeerReceiver {
                    from: ShardIndex(from),
                    receiver,
                });
                sender
            }));
        }
        if let Some(seat) = seats.get_mut(usize::from(from)) {
            seat.mailbox.peers = peers;
        }
    }
    seats
}

impl<T: Send> MailboxSeat<T> {
    /// Whose seat it is.
    #[must_use]
    pub fn shard(&self) -> ShardIndex {
        self.mailbox.shard
    }

    /// Takes the seat: the way to the others, and a receiver for each of them, to be read by a loop each.
    #[must_use]
    pub fn take(self) -> (Mailbox<T>, Vec<PeerReceiver<T>>) {
        (self.mailbox, self.receivers)
    }
}

impl<T: Send> Mailbox<T> {
    /// Whose mailbox it is.
    #[must_use]
    pub fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// Sends if there is room.
    ///
    /// # Panics
    /// When `to` is this shard or none.
    ///
    /// # Errors
    /// The message, when it could not be sent.
    pub fn try_send(&self, to: ShardIndex, message: T) -> Result<(), TrySendError<T>> {
        self.peer(to)
            .try_send(message)
            .map_err(|error| match error {
                FlumeError::Full(message) => TrySendError::Full(message),
                FlumeError::Disconnected(message) => TrySendError::Closed(message),
            })
    }

    /// Sends, waiting for room. Messages to one shard keep the order in which `send` was first polled.
    ///
    /// # Panics
    /// When `to` is this shard or none.
    ///
    /// # Errors
    /// The message, when the receiver is gone.
    pub async fn send(&self, to: ShardIndex, message: T) -> Result<(), SendError<T>> {
        let sent = self.peer(to).send_async(message).await;
        sent.map_err(|error| SendError(error.into_inner()))
    }

    fn peer(&self, to: ShardIndex) -> &Sender<T> {
        match self.peers.get(usize::from(to.0)) {
            Some(Some(peer)) => peer,
            Some(None) => panic!("shard {} has no mailbox for itself", to.0),
            None => panic!("there is no shard {}", to.0),
        }
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
        self.receiver.recv_async().await.ok()
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
