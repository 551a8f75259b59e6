#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;
use std::io::{Read as _, Write as _};

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
    fn refill(&self) -> io::Result<()> {
        Ok(())
    }

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

/// The first words of a client that wants that shard.
fn hello_to(shard: u16) -> BytesMut {
    let mut hello = BytesMut::new();
    let message = Message::Hello(Hello {
        protocol_min: 1,
        protocol_max: 1,
        features: 0,
        shard: Some(ShardIndex(shard)),
        client_name: "speaks".to_owned(),
    });
    encode(CorrelationId(1), &message, &mut hello);
    hello
}

/// A port of a process that has descriptors for `room` connections, beside those that the log may need.
struct NarrowPort {
    listener: tokio::net::TcpListener,
    accepted: Cell<usize>,
    room: usize,
    /// The other ends of connections that say nothing.
    silent: Vec<TcpStream>,
}

impl NarrowPort {
    /// Connections that were accepted and not closed.
    fn held(&self) -> usize {
        let is_closed = |mut client: &TcpStream| {
            let read = client.read(&mut [0]);
            !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        };
        let closed = self
            .silent
            .iter()
            .filter(|client| is_closed(client))
            .count();
        self.accepted.get() - closed
    }
}

impl Port for NarrowPort {
    fn refill(&self) -> io::Result<()> {
        if self.held() > self.room {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(())
    }

    async fn accept(&self) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
        let accepted = self.listener.accept().await?;
        self.accepted.set(self.accepted.get() + 1);
        Ok(accepted)
    }

    async fn pause(&self, _pause: Duration) {
        panic!("there is always somebody who says nothing");
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
        client.write_all(&hello_to(1)).unwrap();
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

#[test]
fn where_descriptors_are_short_who_says_nothing_makes_room_for_who_speaks() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Far more than there is room for, and one behind them all.
        let silent: Vec<_> = (0..40)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for client in &silent {
            client.set_nonblocking(true).unwrap();
        }
        let port = NarrowPort {
            listener,
            accepted: Cell::default(),
            room: 4,
            silent,
        };
        let (_stop, stopped) = watch::channel(false);
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(&hello_to(0)).unwrap();
        let (inlet, orders) = inlet(1);
        let order = tokio::select! {
            () = accept_from(&port, vec![inlet], usize::MAX, stopped) => panic!("nobody told it to stop"),
            order = orders.recv_async() => order,
        };
        let Ok(ShardOrder::Serve(served, _)) = order else {
            panic!("{order:?}");
        };
        assert_eq!(served.peer_addr().unwrap(), client.local_addr().unwrap());
    });
}
