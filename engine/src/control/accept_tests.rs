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

fn loopback_port() -> PublicPort {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    PublicPort {
        listener: tokio::net::TcpListener::from_std(listener).unwrap(),
        began: tokio::time::Instant::now(),
    }
}

impl PublicPort {
    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

/// What runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// The descriptor a connection needs.
    Own,
    /// Those held back for the log.
    Spares,
}

/// A port of a process that is out of descriptors up to a moment. Time passes in pauses alone.
struct StarvedPort {
    public: PublicPort,
    want: Want,
    starved_until: Duration,
    now: Cell<Duration>,
    attempts: Cell<u32>,
    /// When the acceptor is told to stop, in the middle of a pause.
    ends_at: Duration,
    stop: watch::Sender<bool>,
}

impl StarvedPort {
    fn new(want: Want, starved_until: Duration, ends_at: Duration) -> Self {
        Self {
            public: loopback_port(),
            want,
            starved_until,
            now: Cell::default(),
            attempts: Cell::default(),
            ends_at,
            stop: watch::channel(false).0,
        }
    }

    fn attempt(&self, needed: Want) -> io::Result<()> {
        if self.want != needed {
            return Ok(());
        }
        self.attempts.set(self.attempts.get() + 1);
        assert!(self.attempts.get() < ATTEMPTS_MAX, "it spins");
        if self.now.get() < self.starved_until {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(())
    }

    async fn accept_for(&self, inlets: Vec<Inlet<ShardOrder>>) {
        accept_from(self, inlets, usize::MAX, self.stop.subscribe()).await;
    }
}

impl Port for StarvedPort {
    fn refill(&self) -> io::Result<()> {
        self.attempt(Want::Spares)
    }

    fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
        self.attempt(Want::Own)?;
        self.public.poll_accept(context)
    }

    fn now(&self) -> Duration {
        self.now.get()
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

/// A port of a process that has descriptors for `room` connections and no more. Time passes in pauses alone, in which connections that have spoken are looked at.
struct NarrowPort {
    public: PublicPort,
    accepted: Cell<usize>,
    now: Cell<Duration>,
    room: usize,
    /// The other ends of connections that say nothing.
    silent: Vec<TcpStream>,
    /// How long the thread stands still after each accept.
    stands_still: Duration,
}

impl NarrowPort {
    /// With so many connections that say nothing.
    fn new(room: usize, silent: usize) -> Self {
        let public = loopback_port();
        let address = public.address();
        let connect = || {
            let client = TcpStream::connect(address).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        };
        Self {
            public,
            accepted: Cell::default(),
            now: Cell::default(),
            room,
            silent: std::iter::repeat_with(connect).take(silent).collect(),
            stands_still: Duration::ZERO,
        }
    }

    /// One that speaks.
    fn speaker(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.public.address()).unwrap();
        client.write_all(&hello_to(0)).unwrap();
        client
    }

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
        Ok(())
    }

    fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(tokio::net::TcpStream, SocketAddr)>> {
        if self.held() == self.room {
            return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EMFILE)));
        }
        let accepted = std::task::ready!(self.public.poll_accept(context))?;
        self.accepted.set(self.accepted.get() + 1);
        self.now.set(self.now.get() + self.stands_still);
        Poll::Ready(Ok(accepted))
    }

    fn now(&self) -> Duration {
        self.now.get()
    }

    async fn pause(&self, pause: Duration) {
        self.now.set(self.now.get() + pause);
        assert!(
            self.now.get() < Duration::from_secs(60),
            "nobody gets in for a minute"
        );
        // Real time, for what the kernel has for the tasks.
        tokio::time::sleep(Duration::from_millis(1)).await;
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
    for want in [Want::Own, Want::Spares] {
        let attempts = run(async {
            let port = StarvedPort::new(want, Duration::MAX, minute);
            let _client = TcpStream::connect(port.public.address()).unwrap();
            port.accept_for(vec![inlet(1).0]).await;
            port.attempts.get()
        });
        assert_eq!(attempts, 600, "{want:?}");
    }
}

#[test]
fn who_waits_for_a_descriptor_is_served_as_soon_as_there_is_one() {
    let three_seconds = Duration::from_secs(3);
    for want in [Want::Own, Want::Spares] {
        run(async {
            let port = StarvedPort::new(want, three_seconds, Duration::MAX);
            let mut client = TcpStream::connect(port.public.address()).unwrap();
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
            assert_eq!(port.now.get(), three_seconds, "{want:?}");
        });
    }
}

/// Who is handed to a shard first, where so many connections may be open.
async fn first_served(port: &NarrowPort, connections_max: usize) -> SocketAddr {
    let (_stop, stopped) = watch::channel(false);
    let (inlet, orders) = inlet(port.silent.len() + 8);
    let order = tokio::select! {
        () = accept_from(port, vec![inlet], connections_max, stopped) => panic!("nobody told it to stop"),
        order = orders.recv_async() => order,
    };
    match order {
        Ok(ShardOrder::Serve(served, _)) => served.peer_addr().unwrap(),
        order => panic!("{order:?}"),
    }
}

#[test]
fn where_descriptors_are_short_who_says_nothing_makes_room_for_who_speaks() {
    run(async {
        // Far more than there is room for, and one behind them all.
        let port = NarrowPort::new(4, 40);
        let client = port.speaker();
        let served = first_served(&port, usize::MAX).await;
        assert_eq!(served, client.local_addr().unwrap());
        // Four at a time, after a pause each.
        assert_eq!(port.now.get(), ACCEPT_PAUSE * 10);
    });
}

#[test]
fn at_the_limit_of_connections_who_says_nothing_makes_room_for_who_speaks() {
    run(async {
        let port = NarrowPort::new(usize::MAX, 40);
        let client = port.speaker();
        assert_eq!(first_served(&port, 4).await, client.local_addr().unwrap());
        assert_eq!(port.now.get(), SILENT_MIN * 10);
    });
}

#[test]
fn who_has_just_been_accepted_does_not_make_room_for_the_next_one() {
    run(async {
        // The last descriptor is the speaker's, and others wait behind it.
        let port = NarrowPort::new(1, 0);
        let client = port.speaker();
        let _next = port.speaker();
        let served = first_served(&port, usize::MAX).await;
        assert_eq!(served, client.local_addr().unwrap());
    });
}

#[test]
fn who_has_just_been_accepted_does_not_make_room_at_the_limit_of_connections() {
    run(async {
        let port = NarrowPort::new(usize::MAX, 0);
        let client = port.speaker();
        let _crowd: Vec<_> = (0..40)
            .map(|_| TcpStream::connect(port.public.address()).unwrap())
            .collect();
        assert_eq!(first_served(&port, 1).await, client.local_addr().unwrap());
    });
}

#[test]
fn at_the_limit_of_connections_that_have_spoken_the_next_one_is_refused() {
    run(async {
        let port = NarrowPort::new(usize::MAX, 0);
        let (_first, mut second) = (port.speaker(), port.speaker());
        let (_stop, stopped) = watch::channel(false);
        let (inlet, orders) = inlet(8);
        let refused = tokio::task::spawn_blocking(move || second.read(&mut [0]));
        tokio::select! {
            () = accept_from(&port, vec![inlet], 1, stopped) => panic!("nobody told it to stop"),
            // Its Hello was not read.
            read = refused => assert!(matches!(read.unwrap(), Ok(0) | Err(_))),
        }
        assert!(matches!(
            orders.recv_async().await,
            Ok(ShardOrder::Serve(..))
        ));
    });
}

#[test]
fn who_leaves_without_a_word_costs_no_shard_anything() {
    run(async {
        let port = NarrowPort::new(usize::MAX, 0);
        for _ in 0..40 {
            drop(TcpStream::connect(port.public.address()).unwrap());
        }
        let client = port.speaker();
        let served = first_served(&port, usize::MAX).await;
        assert_eq!(served, client.local_addr().unwrap());
    });
}

#[test]
fn whose_hello_has_come_is_looked_at_before_anybody_is_closed_for_silence() {
    run(async {
        let port = NarrowPort {
            stands_still: 2 * SILENT_MIN,
            ..NarrowPort::new(usize::MAX, 0)
        };
        let client = port.speaker();
        let _others: Vec<_> = (0..8).map(|_| port.speaker()).collect();
        let (_stop, stopped) = watch::channel(false);
        let (inlet, orders) = inlet(16);
        // As a task among others, as in the broker.
        let tasks = tokio::task::LocalSet::new();
        tasks.spawn_local(async move { accept_from(&port, vec![inlet], 1, stopped).await });
        let order = tasks.run_until(orders.recv_async()).await;
        let Ok(ShardOrder::Serve(served, _)) = order else {
            panic!("{order:?}");
        };
        assert_eq!(served.peer_addr().unwrap(), client.local_addr().unwrap());
    });
}
