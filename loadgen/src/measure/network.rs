//! The loopback's round trip.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::latency::{LatencyHistogram, nanoseconds};

const MESSAGE_BYTES: usize = 64;
/// So many round trips are made before any is counted.
const WARM_UP_ROUNDS: u32 = 200;

/// 64 bytes to and fro over one loopback TCP connection between two threads, one round trip after the other.
///
/// # Errors
/// The operating system's.
pub fn ping_pong(duration: Duration) -> io::Result<LatencyHistogram> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::Builder::new()
        .name("ping-pong".to_owned())
        .spawn(move || echo(&listener))?;
    let measured = ask(address, duration);
    let echoed = echo
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the echoing thread panicked")));
    let histogram = measured?;
    echoed?;
    Ok(histogram)
}

fn ask(address: std::net::SocketAddr, duration: Duration) -> io::Result<LatencyHistogram> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut message = [0_u8; MESSAGE_BYTES];
    let mut histogram = LatencyHistogram::default();
    for _ in 0..WARM_UP_ROUNDS {
        round_trip(&mut stream, &mut message)?;
    }
    let start = Instant::now();
    while start.elapsed() < duration {
        let sent = Instant::now();
        round_trip(&mut stream, &mut message)?;
        histogram.record(nanoseconds(sent.elapsed()));
    }
    Ok(histogram)
}

fn round_trip(stream: &mut TcpStream, message: &mut [u8]) -> io::Result<()> {
    stream.write_all(message)?;
    stream.read_exact(message)
}

fn echo(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut message = [0_u8; MESSAGE_BYTES];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&message)?,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_pong_measures_round_trips() {
        let histogram = ping_pong(Duration::from_millis(20)).unwrap();
        assert!(histogram.summary().p50 > 0.0);
    }
}
