//! Connections as other shards know them: this shard's own, and those of others that have something here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};
use gannet_wire::frame::Message;
use gannet_wire::{CorrelationId, Offset, ShardIndex, SubscriptionId};

use super::mail::{ConnectionId, Outgoing, RemoteConnection, ShardMessage};
use super::room::Room;
use super::subscribe::Peer;
use crate::storage::slice::Slice;

/// The connections of this shard, by the names that other shards answer to.
#[derive(Default)]
pub(super) struct LocalPeers {
    peers: RefCell<HashMap<ConnectionId, Weak<dyn Peer>>>,
    next: Cell<u64>,
}

impl LocalPeers {
    /// A way for other shards' answers to reach a connection; gone with the connection.
    pub(super) fn add(&self, peer: &Rc<dyn Peer>) -> ConnectionId {
        let id = ConnectionId(self.next.get());
        self.next.set(id.0 + 1);
        self.peers.borrow_mut().insert(id, Rc::downgrade(peer));
        id
    }

    pub(super) fn remove(&self, connection: ConnectionId) {
        self.peers.borrow_mut().remove(&connection);
    }

    pub(super) fn find(&self, connection: ConnectionId) -> Option<Rc<dyn Peer>> {
        self.peers.borrow().get(&connection).and_then(Weak::upgrade)
    }
}

/// What waits for connections that other shards serve.
pub(super) struct RemotePeers {
    rooms: RefCell<HashMap<RemoteConnection, Rc<Room>>>,
    /// Bytes of deliveries that may wait for one of them.
    room_bytes_max: usize,
}

impl RemotePeers {
    pub(super) fn new(room_bytes_max: usize) -> Self {
        Self {
            rooms: RefCell::default(),
            room_bytes_max,
        }
    }

    /// The connection `to` as a peer of shard `own`, reached by `outgoing`.
    pub(super) fn peer(
        &self,
        own: ShardIndex,
        to: RemoteConnection,
        outgoing: Rc<Outgoing>,
    ) -> Rc<RemotePeer> {
        let room = self
            .rooms
            .borrow_mut()
            .entry(to)
            .or_insert_with(|| Rc::new(Room::new(self.room_bytes_max)))
            .clone();
        Rc::new(RemotePeer {
            outgoing,
            connection: to.connection,
            own,
            room,
        })
    }

    /// So many bytes have left on a connection.
    pub(super) fn delivered(&self, connection: RemoteConnection, bytes: usize) {
        if let Some(room) = self.rooms.borrow().get(&connection) {
            room.free(bytes);
        }
    }

    pub(super) fn remove(&self, connection: RemoteConnection) {
        self.rooms.borrow_mut().remove(&connection);
    }
}

/// A connection that another shard serves.
pub(super) struct RemotePeer {
    outgoing: Rc<Outgoing>,
    connection: ConnectionId,
    own: ShardIndex,
    room: Rc<Room>,
}

impl Peer for RemotePeer {
    fn send(&self, correlation: CorrelationId, message: Message) {
        self.outgoing.push(ShardMessage::Frame(
            self.connection,
            correlation,
            Box::new(message),
        ));
    }

    fn deliver(&self, subscription: SubscriptionId, next_offset: Offset, batches: Vec<Slice>) {
        let mut copy = BytesMut::with_capacity(batches.iter().map(|batch| batch.len()).sum());
        for batch in &batches {
            copy.extend_from_slice(batch);
        }
        self.deliver_copy(self.own, subscription, next_offset, copy.freeze());
    }

    fn deliver_copy(
        &self,
        from: ShardIndex,
        subscription: SubscriptionId,
        next_offset: Offset,
        batches: Bytes,
    ) {
        self.room.hold(batches.len());
        self.outgoing.push(ShardMessage::Deliver {
            from,
            connection: self.connection,
            subscription,
            next_offset,
            batches,
        });
    }

    fn room(&self) -> &Room {
        &self.room
    }
}
