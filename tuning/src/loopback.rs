//! How much one loopback TCP connection carries.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Written and read at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// Sends for `duration` in one direction, from a thread to another one; gives bytes a second, of what has arrived. What a network gives is its cable's.
///
/// # Errors
/// The operating system's.
pub(crate) fn stream_bandwidth(duration: Duration) -> io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sending = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiving, _) = listener.accept()?;
    let receiver = thread::spawn(move || {
        let mut block = vec![0; BLOCK_BYTES];
        let mut received = 0_u64;
        loop {
            match receiving.read(&mut block)? {
                0 => return Ok(received),
                bytes => received += bytes as u64,
            }
        }
    });
    let start = Instant::now();
    let sent = send(&mut sending, start, duration);
    // The receiver ends with it.
    drop(sending);
    let received: io::Result<u64> = receiver
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    sent?;
    Ok(received? as f64 / start.elapsed().as_secs_f64())
}

fn send(stream: &mut TcpStream, start: Instant, duration: Duration) -> io::Result<()> {
    let block = vec![1; BLOCK_BYTES];
    loop {
        stream.write_all(&block)?;
        if start.elapsed() >= duration {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_has_arrived() {
        // One block at least, in less than a minute.
        let bytes_per_s = stream_bandwidth(Duration::ZERO).unwrap();
        assert!(bytes_per_s > BLOCK_BYTES as f64 / 60.0, "{bytes_per_s}");
    }
}
