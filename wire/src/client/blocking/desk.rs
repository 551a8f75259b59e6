//! Where the threads that drop deliveries grant credit, over the connection there is.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use crate::client::hub::locked;
use crate::client::subscriptions::{GrantDesk, Grants};
use crate::ids::SubscriptionId;

/// Keeps what is granted while there is no connection.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<DeskState>,
    /// Held while a thread writes, so that frames do not mix. Never waited for by the one who reads.
    turn: Mutex<()>,
}

#[derive(Default)]
struct DeskState {
    socket: Option<Arc<TcpStream>>,
    grants: Grants,
}

impl Desk {
    /// Grants go to `socket` from now on, those that were kept first. All its subscriptions have been asked for.
    pub(super) fn connect(&self, socket: Arc<TcpStream>) {
        locked(&self.state).socket = Some(socket);
        self.send();
    }

    pub(super) fn disconnect(&self) {
        if let Some(socket) = locked(&self.state).socket.take() {
            // It may be gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl GrantDesk for Desk {
    fn keep(&self, subscription: SubscriptionId, bytes: u64) {
        locked(&self.state).grants.keep(subscription, bytes);
    }

    fn forget(&self, subscription: SubscriptionId) {
        locked(&self.state).grants.forget(subscription);
    }

    fn send(&self) {
        let _turn = locked(&self.turn);
        let (socket, frames) = {
            let mut state = locked(&self.state);
            let Some(socket) = state.socket.clone() else {
                return;
            };
            (socket, state.grants.take_frames())
        };
        // A broken connection is found by whoever reads; the next one begins with fresh credit.
        let _ = (&*socket).write_all(&frames);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Read;
    use std::net::TcpListener;

    use bytes::BytesMut;

    use super::*;
    use crate::frame::{FrameDecoder, FrameLimits, Message};

    const ONE: SubscriptionId = SubscriptionId(1);

    /// What comes out of the connection that `desk` is given.
    fn frames_of(desk: &Desk) -> Vec<Message> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        desk.connect(Arc::new(socket));
        desk.disconnect();
        let mut bytes = Vec::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_end(&mut bytes)
            .unwrap();
        let (mut decoder, mut received) = (
            FrameDecoder::new(FrameLimits::default()),
            BytesMut::from(&bytes[..]),
        );
        std::iter::from_fn(|| decoder.decode(&mut received).unwrap())
            .map(|frame| frame.message)
            .collect()
    }

    #[test]
    fn credit_given_back_without_a_connection_is_granted_to_the_next() {
        let desk = Desk::default();
        desk.keep(ONE, 70);
        desk.send();
        desk.keep(ONE, 30);
        desk.send();
        assert_eq!(frames_of(&desk), [Message::Credit(ONE, 100)]);
        assert_eq!(frames_of(&desk), [], "once");
    }

    #[test]
    fn credit_that_a_new_connection_begins_with_is_not_granted_again() {
        let desk = Desk::default();
        desk.keep(ONE, 70);
        desk.forget(ONE);
        assert_eq!(frames_of(&desk), []);
    }
}
