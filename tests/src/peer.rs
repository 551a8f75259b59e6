//! A client that says what it likes: bytes on a socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gannet_wire::frame::{
    Frame, FrameDecoder, FrameLimits, Hello, HelloReply, Message, Start, Subscribe, encode,
};
use gannet_wire::limits::FRAME_BYTES_MAX;
use gannet_wire::{CorrelationId, ErrorBody, PartitionIndex, SubscriptionId, TopicId};

const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that sends any bytes and decodes what comes back.
pub struct RawPeer {
    stream: TcpStream,
    decoder: FrameDecoder,
    received: BytesMut,
    next_correlation: u64,
}

impl RawPeer {
    /// Connects and says nothing.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| stream.set_nodelay(true))
            .expect("a socket can be set up");
        Self {
            stream,
            decoder: FrameDecoder::new(FrameLimits {
                frame_bytes_max: FRAME_BYTES_MAX,
            }),
            received: BytesMut::new(),
            next_correlation: 1,
        }
    }

    /// Connects and says Hello.
    ///
    /// # Panics
    /// When the server does not answer it.
    #[must_use]
    pub fn greeted(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address);
        let reply = peer.hello(1, 1, None);
        assert!(matches!(reply, Some(Message::HelloReply(_))), "{reply:?}");
        peer
    }

    /// Says Hello and returns the answer.
    pub fn hello(
        &mut self,
        protocol_min: u16,
        protocol_max: u16,
        shard: Option<gannet_wire::ShardIndex>,
    ) -> Option<Message> {
        self.ask(&Message::Hello(Hello {
            protocol_min,
            protocol_max,
            features: 0,
            shard,
            client_name: "raw".to_owned(),
        }))
    }

    /// The limits the server states.
    ///
    /// # Panics
    /// When it does not answer Hello.
    #[must_use]
    pub fn limits(address: SocketAddr) -> HelloReply {
        match Self::connect(address).hello(1, 1, None) {
            Some(Message::HelloReply(reply)) => reply,
            other => panic!("the server answers Hello with {other:?}"),
        }
    }

    /// Sends bytes as they are. A server that has closed already is no failure of the test by itself.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends bytes until the server takes no more within the timeout; returns how many it took.
    ///
    /// # Panics
    /// When the socket cannot be set up.
    pub fn send_until_full(&mut self, bytes: &[u8], timeout: Duration) -> usize {
        self.stream
            .set_write_timeout(Some(timeout))
            .expect("a socket can be set up");
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) | Err(_) => break,
                Ok(more) => sent += more,
            }
        }
        sent
    }

    /// Subscribes to a partition from its start, with credit without end; the answer is left to the caller. The subscription has the partition's number.
    pub fn subscribe_to_all(&mut self, topic: TopicId, partition: PartitionIndex) {
        self.send(&Message::Subscribe(Subscribe {
            subscription: SubscriptionId(u64::from(partition.0)),
            topic,
            partition,
            start: Start::Earliest,
            credit: u64::MAX,
        }));
    }

    /// Sends a message and returns its correlation id.
    pub fn send(&mut self, message: &Message) -> CorrelationId {
        let correlation = CorrelationId(self.next_correlation);
        self.next_correlation += 1;
        let mut bytes = BytesMut::new();
        encode(correlation, message, &mut bytes);
        self.send_bytes(&bytes);
        correlation
    }

    /// Sends a request and returns its answer; `None`: the connection was closed.
    pub fn ask(&mut self, message: &Message) -> Option<Message> {
        let correlation = self.send(message);
        loop {
            let frame = self.receive()?;
            if frame.correlation == correlation || matches!(frame.message, Message::PublishAcks(_))
            {
                return Some(frame.message);
            }
        }
    }

    /// Sends a request that must be refused.
    ///
    /// # Panics
    /// When it is not.
    pub fn refusal(&mut self, message: &Message) -> ErrorBody {
        match self.ask(message) {
            Some(Message::Error(error)) => error,
            other => panic!("{message:?} was answered by {other:?}"),
        }
    }

    /// The next frame that is no Ping; `None`: the connection was closed.
    ///
    /// # Panics
    /// When nothing comes for long, or the server breaks the protocol.
    pub fn receive(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.decode(&mut self.received) {
                Ok(Some(frame)) if matches!(frame.message, Message::Ping(_)) => continue,
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => panic!("the server broke the protocol: {error}"),
            }
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self
                    .received
                    .extend_from_slice(bytes.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came from the server: {error}"),
            }
        }
    }

    /// Says Pong again and again, to nothing, until the server says Ping; whether it does before the connection ends or `pongs` are said.
    ///
    /// # Panics
    /// When the socket cannot be set up.
    pub fn is_pinged_while_it_talks(&mut self, pongs: u64, pause: Duration) -> bool {
        self.stream
            .set_read_timeout(Some(pause))
            .expect("a socket can be set up");
        for number in 0..pongs {
            self.send(&Message::Pong(number));
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(read) => self
                    .received
                    .extend_from_slice(bytes.get(..read).unwrap_or_default()),
                Err(_) => continue,
            }
            while let Ok(Some(frame)) = self.decoder.decode(&mut self.received) {
                if matches!(frame.message, Message::Ping(_)) {
                    return true;
                }
            }
        }
        false
    }

    /// Sends a byte after each `pause` until the server closes the connection; returns how many Pings came meanwhile.
    ///
    /// # Panics
    /// When the server takes all of the bytes, or says anything else.
    pub fn trickle(&mut self, bytes: &[u8], pause: Duration) -> u64 {
        self.stream
            .set_read_timeout(Some(pause))
            .expect("a socket can be set up");
        let mut pings = 0;
        for byte in bytes {
            self.send_bytes(&[*byte]);
            // The next one is due a pause from now, whatever comes.
            let due = Instant::now() + pause;
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return pings,
                Ok(read) => self
                    .received
                    .extend_from_slice(piece.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return pings,
                Err(_) => continue,
            }
            while let Ok(Some(frame)) = self.decoder.decode(&mut self.received) {
                assert!(matches!(frame.message, Message::Ping(_)), "{frame:?}");
                pings += 1;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        panic!("the server took all {} bytes", bytes.len());
    }

    /// Takes one byte of what the server sends, and keeps it for what is received later.
    ///
    /// # Panics
    /// When none comes for long.
    pub fn take_byte(&mut self) {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).expect("there is more");
        self.received.extend_from_slice(&byte);
    }

    /// Ends the connection by a reset, as a peer whose process crashed.
    ///
    /// # Panics
    /// When the socket cannot be set up.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))
            .expect("a socket can be set up");
    }

    /// What the server says before it closes the connection: an error, if anything.
    ///
    /// # Panics
    /// When it does not close, or says something else.
    pub fn farewell(&mut self) -> Option<ErrorBody> {
        let mut said = None;
        while let Some(frame) = self.receive() {
            match frame.message {
                Message::Error(error) => said = Some(error),
                other => panic!("the server said {other:?}"),
            }
        }
        said
    }
}
