//! Connections: TCP by readiness, gathered writes, and a deadline for peers that no longer read.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::io::{AsyncRead, AsyncWrite};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::uring::plain_error;

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
    /// Borrowed only while polling, never across an await.
    stream: RefCell<glommio::net::TcpStream>,
    peer: SocketAddr,
}

impl Connection {
    /// Takes over an accepted socket. Runs on the executor that will serve it.
    ///
    /// # Errors
    /// When the peer is gone already, or a socket option is refused.
    pub fn from_std(stream: TcpStream, options: &ConnectionOptions) -> io::Result<Self> {
        let peer = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        let socket = socket2::SockRef::from(&stream);
        if let Some(bytes) = options.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = options.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = adopt(stream);
        stream
            .set_write_timeout(Some(options.write_deadline))
            .map_err(plain_error)?;
        Ok(Self {
            stream: RefCell::new(stream),
            peer,
        })
    }

    /// The other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Reads what has arrived, at most the spare capacity of `into`, and waits until something has. 0 means that the peer
    /// will send no more. Dropping the future loses nothing.
    ///
    /// # Panics
    /// When `into` has no spare capacity, since 0 would then mean something else.
    ///
    /// # Errors
    /// The socket's.
    pub async fn read(&self, into: &mut BytesMut) -> io::Result<usize> {
        assert!(
            into.capacity() > into.len(),
            "no room to read into: reserve first"
        );
        std::future::poll_fn(|context| {
            let spare = writable(into);
            let mut stream = self.stream.borrow_mut();
            match Pin::new(&mut *stream).poll_read(context, spare) {
                Poll::Ready(Ok(read)) => {
                    filled(into, read);
                    Poll::Ready(Ok(read))
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Writes all of the slices, in order, many with one system call; the slices are used up. When dropped half way, a
    /// part was sent: only closing the connection makes sense then.
    ///
    /// # Errors
    /// The socket's, and [`io::ErrorKind::TimedOut`] after the write deadline without progress.
    pub async fn write_vectored_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Slices without bytes at the front would look like no progress.
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let batch = slices.len().min(SEND_SLICES_MAX);
            let sent = match self.send(slices.get(..batch).unwrap_or_default()) {
                Ok(sent) => sent,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    // glommio tells when the socket can be written only to one who writes through it.
                    let first = slices.first().map_or(&[][..], |slice| slice);
                    std::future::poll_fn(|context| {
                        Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, first)
                    })
                    .await?
                }
                Err(error) => return Err(error.into()),
            };
            IoSlice::advance_slices(&mut slices, sent);
            // A fast reader must not keep the neighbours waiting.
            glommio::yield_if_needed().await;
        }
        Ok(())
    }

    /// Closes both directions: reads on this connection end, and the peer sees the end after all that was written.
    pub fn shutdown(&self) {
        let socket = self.stream.borrow();
        // It fails only when there is nothing left to close.
        let _ = rustix::net::shutdown(borrow(&socket), rustix::net::Shutdown::Both);
    }

    /// Closes the direction to the peer alone: it sees the end after all that was written, and may still send.
    pub fn finish_writing(&self) {
        let socket = self.stream.borrow();
        // As above.
        let _ = rustix::net::shutdown(borrow(&socket), rustix::net::Shutdown::Write);
    }

    fn send(&self, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let socket = self.stream.borrow();
        sendmsg(
            borrow(&socket),
            slices,
            &mut SendAncillaryBuffer::default(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
    }
}

impl Drop for Connection {
    /// A poll that io_uring still holds keeps the socket open after its descriptor is closed; the peer must not wait for that.
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[allow(
    unsafe_code,
    reason = "glommio takes a socket only as a raw descriptor"
)]
fn adopt(stream: TcpStream) -> glommio::net::TcpStream {
    // SAFETY: `into_raw_fd` hands over the only ownership of an open TCP socket.
    unsafe { glommio::net::TcpStream::from_raw_fd(stream.into_raw_fd()) }
}

#[allow(
    unsafe_code,
    reason = "glommio's stream has no safe way to lend its descriptor"
)]
fn borrow(stream: &glommio::net::TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// The spare capacity, as glommio wants it. Zeroing it before each read would cost more than the read of a small frame.
#[allow(
    unsafe_code,
    reason = "glommio's poll_read takes no uninitialised memory"
)]
fn writable(buffer: &mut BytesMut) -> &mut [u8] {
    let spare = buffer.spare_capacity_mut();
    // SAFETY: valid for writes of its length and exclusively borrowed. It is handed to recv(2), which only writes to it;
    // nothing reads it before `filled` says how much of it was written.
    unsafe { std::slice::from_raw_parts_mut(spare.as_mut_ptr().cast::<u8>(), spare.len()) }
}

#[allow(unsafe_code, reason = "the counterpart of `writable`")]
fn filled(buffer: &mut BytesMut, bytes: usize) {
    assert!(
        bytes <= buffer.capacity() - buffer.len(),
        "read more than fits"
    );
    // SAFETY: the kernel wrote the first `bytes` of the spare capacity, and they lie within it.
    unsafe { buffer.advance_mut(bytes) };
}
