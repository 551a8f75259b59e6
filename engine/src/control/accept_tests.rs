#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::io::Write as _;

use bytes::BytesMut;
use gannet_wire::CorrelationId;
use gannet_wire::frame::{Hello, Message, encode};

use super::*;
use crate::io::uring_mailbox::inlet;

/// More attempts than any test needs: an acceptor that does not let time pass comes to an end too.
const ATTEMPTS_MAX: u32 = 100_000;

/// A port of a process that is out of descriptors up to a moment. Time passes in pauses alone.
struct StarvedPort {
    listener: tokio::net::TcpListener,
    starved_until: Duration,
    now: Cell<Duration>,
    attempts: Cell<u32>,
    /// When the acceptor is told to stop, in the middle of a pause.
    ends_at: Duration,
    stop: watch::Sender<bool>,
}

impl StarvedPort {
    async fn new(starved_until: Duration, ends_at: Duration) -> Self {
        Self {
            listener: tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
            starved_until,
            now: Cell::default(),
            attempts: Cell::default(),
            ends_at,
            stop: watch::channel(false).0,
        }
    }

    async fn accept_for(&self, inlets: Vec<Inlet<ShardOrder>>) {
        accept_from(self, inlets, usize::MAX, self.stop.subscribe()).await;
    }
}

impl Port for StarvedPort {
    async fn accept(&self) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
        self.attempts.set(self.attempts.get() + 1);
        assert!(self.attempts.get() < ATTEMPTS_MAX, "it spins");
        if self.now.get() < self.starved_until {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        self.listener.accept().await
    }

    async fn pause(&self, pause: Duration) {
        self.now.set(self.now.get() + pause);
        if self.now.get() >= self.ends_at {
            self.stop.send_replace(true);
            std::future::pending().await
        }
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

#[test]
fn without_a_descriptor_a_connection_is_tried_for_ten_times_a_second_until_the_stop() {
    let minute = Duration::from_secs(60);
    let attempts = run(async {
        let port = StarvedPort::new(Duration::MAX, minute).await;
        port.accept_for(vec![inlet(1).0]).await;
        port.attempts.get()
    });
    assert_eq!(attempts, 600);
}

#[test]
fn who_waits_for_a_descriptor_is_served_as_soon_as_there_is_one() {
    let three_seconds = Duration::from_secs(3);
    run(async {
        let port = StarvedPort::new(three_seconds, Duration::MAX).await;
        let mut client = TcpStream::connect(port.listener.local_addr().unwrap()).unwrap();
        let mut hello = BytesMut::new();
        let message = Message::Hello(Hello {
            protocol_min: 1,
            protocol_max: 1,
            features: 0,
            shard: Some(ShardIndex(1)),
            client_name: "waits".to_owned(),
        });
        encode(CorrelationId(1), &message, &mut hello);
        client.write_all(&hello).unwrap();
        let (other, (inlet, orders)) = (inlet(1), inlet(1));
        let order = tokio::select! {
            () = port.accept_for(vec![other.0, inlet]) => panic!("nobody told it to stop"),
            order = orders.recv_async() => order,
        };
        let Ok(ShardOrder::Serve(served, _)) = order else {
            panic!("{order:?}");
        };
        assert_eq!(served.peer_addr().unwrap(), client.local_addr().unwrap());
        assert_eq!(port.now.get(), three_seconds);
    });
}
