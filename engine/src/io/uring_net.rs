//! Connections: reads by io_uring, gathered writes, and a deadline for peers that no longer read.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use compio::BufResult;
use compio::buf::{IntoInner, IoBuf};
use compio::driver::op::{Interest, PollOnce, Recv, RecvFlags};
use compio::runtime::submit;
use compio::time::timeout;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

/// The most slices that leave with one system call.
pub const SEND_SLICES_MAX: usize = 256;

/// How a connection is set up.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOptions {
    /// A write that makes no progress for this long ends with [`io::ErrorKind::TimedOut`]; the connection is of no use then.
    pub write_deadline: Duration,
    /// The kernel's send buffer; `None` leaves it to the kernel, which then grows it as needed.
    pub send_buffer_bytes: Option<usize>,
    /// The kernel's receive buffer; `None` leaves it to the kernel, which then grows it as needed.
    pub receive_buffer_bytes: Option<usize>,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            write_deadline: Duration::from_secs(30),
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

/// A TCP connection of one shard. One task reads and another writes; two at the same end would get in each other's way.
///
/// Dropping it closes both directions; what was written is still sent.
#[derive(Debug)]
pub struct Connection {
    /// Shared with the operation in flight: the kernel may use it until that has ended.
    socket: Rc<TcpStream>,
    peer: SocketAddr,
    write_deadline: Duration,
}

impl Connection {
    /// Takes over an accepted socket.
    ///
    /// # Errors
    /// When the peer is gone already, or a socket option is refused.
    pub fn from_std(stream: TcpStream, options: &ConnectionOptions) -> io::Result<Self> {
        let peer = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        // A socket that does not block would have io_uring answer EAGAIN where it is to wait.
        stream.set_nonblocking(false)?;
        let socket = socket2::SockRef::from(&stream);
        if let Some(bytes) = options.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = options.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        // IMPORTANT: what was written to a peer that is gone without a word stays in the kernel's memory long after the socket is closed, for a
        // quarter of an hour by default, unless it has a deadline too.
        let deadline_ms = u32::try_from(options.write_deadline.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&stream, deadline_ms)?;
        Ok(Self {
            socket: Rc::new(stream),
            peer,
            write_deadline: options.write_deadline,
        })
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Reads what has arrived, at most the spare capacity of `buffer`, behind what is in it, and waits until something has. 0 means that
    /// the peer will send no more. The kernel has the buffer meanwhile: dropping the future gives it up, and with it what
    /// arrives, so that only closing the connection makes sense then.
    ///
    /// # Panics
    /// When `buffer` has no spare capacity, since 0 would then mean something else.
    ///
    /// # Errors
    /// The socket's.
    pub async fn read(&self, buffer: BytesMut) -> (io::Result<usize>, BytesMut) {
        assert!(
            buffer.capacity() > buffer.len(),
            "no room to read into: reserve first"
        );
        let mut buffer = buffer;
        loop {
            let filled = buffer.len();
            let receive = Recv::new(
                self.socket.clone(),
                buffer.slice(filled..),
                RecvFlags::empty(),
            );
            let BufResult(result, receive) = submit(receive).await;
            let mut slice = receive.into_inner();
            if let Ok(read) = result {
                advance(&mut slice, read);
            }
            buffer = slice.into_inner();
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return (result, buffer),
            }
        }
    }

    /// Writes all of the slices, in order, many with one system call; the slices are used up. When dropped half way, a
    /// part was sent: only closing the connection makes sense then.
    ///
    /// # Errors
    /// The socket's, and [`io::ErrorKind::TimedOut`] after the write deadline without progress.
    pub async fn write_vectored_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Slices without bytes at the front would look like no progress.
        IoSlice::advance_slices(&mut slices, 0);
        let mut calls = 0;
        while !slices.is_empty() {
            let batch = slices.len().min(SEND_SLICES_MAX);
            match self.send(slices.get(..batch).unwrap_or_default()) {
                Ok(sent) => IoSlice::advance_slices(&mut slices, sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable().await?,
                Err(error) => return Err(error.into()),
            }
            calls += 1;
            if calls % SENDS_IN_A_ROW_MAX == 0 {
                // A fast reader must not keep the neighbours waiting.
                crate::io::local::yield_once().await;
            }
        }
        Ok(())
    }

    /// Closes both directions: reads on this connection end, and the peer sees the end after all that was written.
    pub fn shutdown(&self) {
        // It fails only when there is nothing left to close.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Closes the direction to the peer alone: it sees the end after all that was written, and may still send.
    pub fn finish_writing(&self) {
        // As above.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        sendmsg(
            &*self.socket,
            slices,
            &mut SendAncillaryBuffer::default(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
    }

    /// Waits until the kernel takes more, within the deadline.
    async fn writable(&self) -> io::Result<()> {
        let poll = PollOnce::new(self.socket.clone(), Interest::Writable);
        match timeout(self.write_deadline, submit(poll)).await {
            Ok(BufResult(result, _)) => result.map(|_| ()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Drop for Connection {
    /// A read that io_uring still holds keeps the socket open; the peer must not wait for that.
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[allow(unsafe_code, reason = "the runtime's contract for buffers")]
fn advance(slice: &mut compio::buf::Slice<BytesMut>, read: usize) {
    // SAFETY: the kernel wrote the first `read` bytes of the spare capacity, which the slice begins with.
    unsafe { compio::buf::SetLen::set_len(slice, read) };
}

const SENDS_IN_A_ROW_MAX: u32 = 4;
