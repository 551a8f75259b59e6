//! A socket that several tasks use and any of them can end, and the connection over it.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ::tokio::net::TcpStream;
use ::tokio::sync::watch;
use ::tokio::time::{sleep_until, timeout_at};
use bytes::BytesMut;

use crate::client::config::ClientConfig;
use crate::client::error::ClientError;
use crate::client::session::{Session, SessionEvent};
use crate::frame::{Frame, HelloReply, Message, encode};
use crate::ids::{CorrelationId, ShardIndex};

/// The socket.
pub(super) struct Wire {
    stream: TcpStream,
    ended: watch::Sender<bool>,
}

impl Wire {
    /// Ends the connection for everybody who uses it.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    async fn has_ended(&self) {
        // Fails when the sender is gone, and it is ours.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub(super) async fn write_all(
        &self,
        mut slices: &mut [IoSlice<'_>],
    ) -> Result<(), ClientError> {
        while !slices.is_empty() {
            match self.stream.try_write_vectored(slices) {
                Ok(0) => return Err(lost("write", &ErrorKind::WriteZero.into())),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ::tokio::select! {
                        writable = self.stream.writable() => {
                            writable.map_err(|error| lost("write", &error))?;
                        }
                        () = self.has_ended() => return Err(closed()),
                    }
                }
                Err(error) => return Err(lost("write", &error)),
            }
        }
        Ok(())
    }

    /// Reads what is there, or waits until `deadline`.
    async fn read(
        &self,
        received: &mut BytesMut,
        missing_bytes: usize,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        if received.capacity() - received.len() < missing_bytes.max(RECEIVE_BYTES_MIN) {
            // Once for the whole frame; its length was checked against the limits.
            received.reserve(missing_bytes.max(RECEIVE_BYTES));
        }
        loop {
            match self.stream.try_read_buf(received) {
                Ok(0) => {
                    return Err(ClientError::ConnectionLost(
                        "the server closed it".to_owned(),
                    ));
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ::tokio::select! {
                        readable = self.stream.readable() => {
                            readable.map_err(|error| lost("read", &error))?;
                        }
                        () = self.has_ended() => return Err(closed()),
                        () = sleep_until(deadline.into()) => return Ok(()),
                    }
                }
                Err(error) => return Err(lost("read", &error)),
            }
        }
    }
}

/// A greeted connection, read by one task.
pub(super) struct Link {
    pub(super) wire: Arc<Wire>,
    session: Session,
    pub(super) hello: HelloReply,
    received: BytesMut,
}

impl Link {
    /// Connects to the first address that answers, and greets. A broker that has no such shard any more, after a start with fewer, is
    /// asked for any: what arrives at the wrong shard is handed on.
    pub(super) async fn open(
        addresses: &[SocketAddr],
        config: &ClientConfig,
        shard: Option<ShardIndex>,
    ) -> Result<Self, ClientError> {
        match Self::open_for(addresses, config, shard).await {
            Err(refused) if shard.is_some() && refused.is_of_shard() => {
                Self::open_for(addresses, config, None).await
            }
            opened => opened,
        }
    }

    async fn open_for(
        addresses: &[SocketAddr],
        config: &ClientConfig,
        shard: Option<ShardIndex>,
    ) -> Result<Self, ClientError> {
        let deadline = Instant::now() + config.connect_timeout;
        let mut failure = ClientError::InvalidArgument("the address resolves to nothing");
        for address in addresses {
            match timeout_at(deadline.into(), TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Self::greet(stream, config, shard, deadline).await,
                Ok(Err(error)) => failure = ClientError::io("connect", &error),
                Err(_) => failure = ClientError::io("connect", &ErrorKind::TimedOut.into()),
            }
        }
        Err(failure)
    }

    async fn greet(
        stream: TcpStream,
        config: &ClientConfig,
        shard: Option<ShardIndex>,
        deadline: Instant,
    ) -> Result<Self, ClientError> {
        stream
            .set_nodelay(true)
            .map_err(|error| ClientError::io("set up the socket", &error))?;
        let wire = Arc::new(Wire {
            stream,
            ended: watch::Sender::new(false),
        });
        let mut out = BytesMut::new();
        let mut session = Session::begin(
            &config.client_name,
            shard,
            deadline,
            Instant::now(),
            &mut out,
        );
        wire.write_all(&mut [IoSlice::new(&out)]).await?;
        let mut received = BytesMut::new();
        loop {
            out.clear();
            let now = Instant::now();
            match session.poll(&mut received, now, &mut out)? {
                Some(SessionEvent::Opened(hello)) => {
                    return Ok(Self {
                        wire,
                        session,
                        hello,
                        received,
                    });
                }
                Some(SessionEvent::Frame(_)) => {
                    return Err(ClientError::Protocol("a frame came before HelloReply"));
                }
                None => {}
            }
            session.handle_timeout(now, &mut out)?;
            wire.read(&mut received, session.missing_bytes(), deadline)
                .await?;
        }
    }

    pub(super) async fn send(
        &mut self,
        correlation: CorrelationId,
        message: &Message,
    ) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        encode(correlation, message, &mut out);
        self.write(&out).await
    }

    pub(super) async fn write(&mut self, out: &[u8]) -> Result<(), ClientError> {
        if out.is_empty() {
            return Ok(());
        }
        self.session.handle_sent(Instant::now());
        self.wire.write_all(&mut [IoSlice::new(out)]).await
    }

    /// The next frame that has come. What the session has to say is appended to `out`.
    pub(super) fn poll(&mut self, out: &mut BytesMut) -> Result<Option<Frame>, ClientError> {
        let now = Instant::now();
        match self.session.poll(&mut self.received, now, out)? {
            Some(SessionEvent::Frame(frame)) => Ok(Some(frame)),
            Some(SessionEvent::Opened(_)) => Err(ClientError::Protocol("a second HelloReply came")),
            None => {
                self.session.handle_timeout(now, out)?;
                Ok(None)
            }
        }
    }

    /// Waits for bytes, at most until `deadline` or as long as the session allows. May be dropped without loss.
    pub(super) async fn read(&mut self, deadline: Option<Instant>) -> Result<(), ClientError> {
        let until = self.session.next_timeout();
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        self.wire
            .read(&mut self.received, self.session.missing_bytes(), until)
            .await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.wire.end();
    }
}

fn closed() -> ClientError {
    ClientError::ConnectionLost("it was closed on this side".to_owned())
}

fn lost(doing: &'static str, error: &io::Error) -> ClientError {
    ClientError::ConnectionLost(format!("cannot {doing}: {error}"))
}

/// Bytes kept ready to receive.
const RECEIVE_BYTES: usize = 256 * 1024;
/// With less room than this, more is made ready.
const RECEIVE_BYTES_MIN: usize = 16 * 1024;
