//! One connection that is read and written by the thread that uses it.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::client::config::ClientConfig;
use crate::client::error::ClientError;
use crate::client::hub::OutFrame;
use crate::client::session::{Session, SessionEvent};
use crate::client::written::gathered;
use crate::frame::{Frame, HelloReply, Message, encode};
use crate::ids::{CorrelationId, ShardIndex};

/// A greeted connection.
pub(super) struct Link {
    pub(super) socket: Arc<TcpStream>,
    session: Session,
    pub(super) hello: HelloReply,
    received: BytesMut,
    scratch: Box<[u8]>,
    read_timeout: Option<Duration>,
}

impl Link {
    /// Connects to the first address that answers, and greets. A broker that has no such shard any more, after a start with fewer, is
    /// asked for any: what arrives at the wrong shard is handed on.
    pub(super) fn open(
        addresses: &[SocketAddr],
        config: &ClientConfig,
        shard: Option<ShardIndex>,
    ) -> Result<Self, ClientError> {
        match Self::open_for(addresses, config, shard) {
            Err(refused) if shard.is_some() && refused.is_of_shard() => {
                Self::open_for(addresses, config, None)
            }
            opened => opened,
        }
    }

    fn open_for(
        addresses: &[SocketAddr],
        config: &ClientConfig,
        shard: Option<ShardIndex>,
    ) -> Result<Self, ClientError> {
        let deadline = Instant::now() + config.connect_timeout;
        let mut failure = ClientError::InvalidArgument("the address resolves to nothing");
        for address in addresses {
            match TcpStream::connect_timeout(address, remaining(deadline)) {
                Ok(socket) => return Self::greet(socket, config, shard, deadline),
                Err(error) => failure = ClientError::io("connect", &error),
            }
        }
        Err(failure)
    }

    fn greet(
        socket: TcpStream,
        config: &ClientConfig,
        shard: Option<ShardIndex>,
        deadline: Instant,
    ) -> Result<Self, ClientError> {
        socket
            .set_nodelay(true)
            .map_err(|error| ClientError::io("set up the socket", &error))?;
        let mut out = BytesMut::new();
        let mut session = Session::begin(
            &config.client_name,
            shard,
            deadline,
            Instant::now(),
            &mut out,
        );
        (&socket)
            .write_all(&out)
            .map_err(|error| lost("write", &error))?;
        let mut received = BytesMut::with_capacity(RECEIVE_BYTES);
        let mut scratch = vec![0; RECEIVE_BYTES].into_boxed_slice();
        loop {
            out.clear();
            let now = Instant::now();
            match session.poll(&mut received, now, &mut out)? {
                Some(SessionEvent::Opened(hello)) => {
                    let socket = Arc::new(socket);
                    let read_timeout = None;
                    return Ok(Self {
                        socket,
                        session,
                        hello,
                        received,
                        scratch,
                        read_timeout,
                    });
                }
                Some(SessionEvent::Frame(_)) => {
                    return Err(ClientError::Protocol("a frame came before HelloReply"));
                }
                None => {}
            }
            session.handle_timeout(now, &mut out)?;
            set_read_timeout(&socket, remaining(deadline))?;
            read_into(
                &socket,
                &mut scratch,
                &mut received,
                session.missing_bytes(),
            )?;
        }
    }

    /// Writes a frame.
    pub(super) fn send(
        &mut self,
        correlation: CorrelationId,
        message: &Message,
    ) -> Result<(), ClientError> {
        let mut out = BytesMut::new();
        encode(correlation, message, &mut out);
        self.write(&out)
    }

    fn write(&mut self, out: &[u8]) -> Result<(), ClientError> {
        if !out.is_empty() {
            (&*self.socket)
                .write_all(out)
                .map_err(|error| lost("write", &error))?;
            self.session.handle_sent(Instant::now());
        }
        Ok(())
    }

    /// The next frame that is not about the connection, reading on this thread until `deadline`. Looks at what was
    /// received already even when that has passed.
    pub(super) fn poll(&mut self, deadline: Instant) -> Result<Option<Frame>, ClientError> {
        let mut out = BytesMut::new();
        let mut now = Instant::now();
        loop {
            let event = self.session.poll(&mut self.received, now, &mut out)?;
            self.write(&out)?;
            out.clear();
            match event {
                Some(SessionEvent::Frame(frame)) => return Ok(Some(frame)),
                Some(SessionEvent::Opened(_)) => {
                    return Err(ClientError::Protocol("a second HelloReply came"));
                }
                None => {}
            }
            self.session.handle_timeout(now, &mut out)?;
            self.write(&out)?;
            out.clear();
            if now >= deadline {
                return Ok(None);
            }
            let wait = deadline
                .min(self.session.next_timeout())
                .saturating_duration_since(now);
            self.read(wait)?;
            now = Instant::now();
        }
    }

    /// Events for a thread that does nothing but read: what the session has to say goes to `out`, not to the socket.
    pub(super) fn poll_read_only(
        &mut self,
        out: &mut BytesMut,
    ) -> Result<Option<Frame>, ClientError> {
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

    /// Reads once, for as long as the session allows.
    pub(super) fn read_once(&mut self) -> Result<(), ClientError> {
        let wait = self
            .session
            .next_timeout()
            .saturating_duration_since(Instant::now());
        self.read(wait)
    }

    fn read(&mut self, wait: Duration) -> Result<(), ClientError> {
        // The kernel counts in ticks of milliseconds anyway; rounding up saves setting nearly the same timeout again.
        let wait = Duration::from_millis(wait.as_millis() as u64 + 1);
        if self.read_timeout != Some(wait) {
            set_read_timeout(&self.socket, wait)?;
            self.read_timeout = Some(wait);
        }
        let missing_bytes = self.session.missing_bytes();
        read_into(
            &self.socket,
            &mut self.scratch,
            &mut self.received,
            missing_bytes,
        )?;
        Ok(())
    }

    pub(super) fn close(&self) {
        // It may be gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Others may hold the socket; the connection ends with the link all the same.
        self.close();
    }
}

/// Reads what is there; nothing, when the timeout comes first.
fn read_into(
    mut socket: &TcpStream,
    scratch: &mut [u8],
    received: &mut BytesMut,
    missing_bytes: usize,
) -> Result<(), ClientError> {
    match socket.read(scratch) {
        Ok(0) => Err(ClientError::ConnectionLost(
            "the server closed it".to_owned(),
        )),
        Ok(bytes) => {
            let room = missing_bytes.max(bytes);
            if received.capacity() - received.len() < room {
                // Once for the whole frame; its length was checked against the limits.
                received.reserve(room.max(RECEIVE_BYTES));
            }
            received.extend_from_slice(scratch.get(..bytes).unwrap_or_default());
            Ok(())
        }
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                Ok(())
            }
            _ => Err(lost("read", &error)),
        },
    }
}

/// Writes frames in order.
pub(super) fn write_frames(
    socket: &TcpStream,
    frames: &[OutFrame],
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    write_all_vectored(socket, &mut gathered(frames, scratch))
}

fn write_all_vectored(mut socket: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match socket.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn set_read_timeout(socket: &TcpStream, timeout: Duration) -> Result<(), ClientError> {
    socket
        .set_read_timeout(Some(timeout))
        .map_err(|error| ClientError::io("set up the socket", &error))
}

fn remaining(deadline: Instant) -> Duration {
    // Zero is not allowed where this goes.
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

pub(super) fn lost(doing: &'static str, error: &io::Error) -> ClientError {
    ClientError::ConnectionLost(format!("cannot {doing}: {error}"))
}

/// Bytes read with one system call at most, and kept ready to receive.
const RECEIVE_BYTES: usize = 256 * 1024;
