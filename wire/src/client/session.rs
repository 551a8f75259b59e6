//! The life of one connection, without I/O: the greeting, the heartbeats, the farewell.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::error::ClientError;
use crate::error::{ErrorBody, ErrorCode, Retry};
use crate::frame::{Frame, FrameDecoder, FrameLimits, Hello, HelloReply, Message, encode};
use crate::ids::{CorrelationId, ShardIndex};
use crate::limits::{HEARTBEATS_MISSED_MAX, PROTOCOL_MAX, PROTOCOL_MIN};

/// One connection, from its Hello to its end.
///
/// Make one for each connection; write what `out` gets to the socket. Append what is read to a buffer and call
/// [`poll`](Self::poll) until it gives `None`; at [`next_timeout`](Self::next_timeout), if not before, call
/// [`handle_timeout`](Self::handle_timeout). After any error the connection is to be closed.
#[derive(Debug)]
pub(crate) struct Session {
    decoder: FrameDecoder,
    phase: Phase,
    /// When bytes came last, of whatever frame.
    heard_at: Instant,
    /// What the last [`poll`](Self::poll) left: more than that has been read since.
    unread_bytes: usize,
    sent_at: Instant,
}

#[derive(Debug)]
enum Phase {
    Greeting { deadline: Instant },
    Open { heartbeat: Duration },
}

/// What came in.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    /// The server answered the Hello; always the first event.
    Opened(HelloReply),
    /// A frame that is not about the connection itself.
    Frame(Frame),
}

impl Session {
    /// Begins: appends the Hello to `out`.
    pub(crate) fn begin(
        client_name: &str,
        shard: Option<ShardIndex>,
        deadline: Instant,
        now: Instant,
        out: &mut BytesMut,
    ) -> Self {
        let hello = Message::Hello(Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            features: 0,
            shard,
            client_name: client_name.to_owned(),
        });
        encode(HELLO_CORRELATION, &hello, out);
        Self {
            decoder: FrameDecoder::new(FrameLimits::default()),
            phase: Phase::Greeting { deadline },
            heard_at: now,
            unread_bytes: 0,
            sent_at: now,
        }
    }

    /// Takes the next event from what was received; answers heartbeats into `out` by itself.
    pub(crate) fn poll(
        &mut self,
        received: &mut BytesMut,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<SessionEvent>, ClientError> {
        // A part of a frame is heard too: a large one may take longer than the peer is given.
        if received.len() != self.unread_bytes {
            self.heard_at = now;
        }
        let event = self.decode(received, now, out);
        self.unread_bytes = received.len();
        event
    }

    fn decode(
        &mut self,
        received: &mut BytesMut,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<Option<SessionEvent>, ClientError> {
        while let Some(frame) = self.decoder.decode(received)? {
            // It may have been read long ago, by a program that was busy with those before it.
            self.heard_at = now;
            match (&self.phase, frame.message) {
                (Phase::Greeting { .. }, Message::HelloReply(reply)) => {
                    if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&reply.protocol) {
                        return Err(ClientError::Protocol(
                            "HelloReply chose a protocol not offered",
                        ));
                    }
                    let heartbeat = Duration::from_millis(u64::from(reply.heartbeat_ms));
                    self.phase = Phase::Open { heartbeat };
                    return Ok(Some(SessionEvent::Opened(reply)));
                }
                (Phase::Greeting { .. }, Message::Error(body)) => {
                    return Err(refusal(body));
                }
                (_, Message::Goodbye(goodbye)) => {
                    let said = format!("the server said goodbye: {}", goodbye.sentence);
                    return Err(ClientError::ConnectionLost(said));
                }
                (Phase::Greeting { .. }, _) => {
                    return Err(ClientError::Protocol("a frame came before HelloReply"));
                }
                (Phase::Open { .. }, Message::Ping(opaque)) => {
                    encode(frame.correlation, &Message::Pong(opaque), out);
                    self.sent_at = now;
                }
                (Phase::Open { .. }, Message::Pong(_))
                    if frame.correlation == HEARTBEAT_CORRELATION => {}
                (Phase::Open { .. }, Message::Error(body))
                    if frame.correlation == CorrelationId(0) =>
                {
                    return Err(refusal(body));
                }
                (Phase::Open { .. }, message) => {
                    let frame = Frame {
                        correlation: frame.correlation,
                        message,
                    };
                    return Ok(Some(SessionEvent::Frame(frame)));
                }
            }
        }
        Ok(None)
    }

    /// How many bytes the next frame lacks, at least.
    pub(crate) const fn missing_bytes(&self) -> usize {
        self.decoder.missing_bytes()
    }

    /// Notes that frames were sent, so that no heartbeat is due.
    pub(crate) const fn handle_sent(&mut self, now: Instant) {
        self.sent_at = now;
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn next_timeout(&self) -> Instant {
        match self.phase {
            Phase::Greeting { deadline } => deadline,
            Phase::Open { heartbeat } => {
                let dead_at = self.heard_at + heartbeat * HEARTBEATS_MISSED_MAX;
                dead_at.min(self.sent_at + heartbeat)
            }
        }
    }

    /// Pings after silence; fails when the silence has been too long.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<(), ClientError> {
        match self.phase {
            Phase::Greeting { deadline } if now >= deadline => {
                let lost = "the server did not answer the Hello".to_owned();
                Err(ClientError::ConnectionLost(lost))
            }
            Phase::Greeting { .. } => Ok(()),
            Phase::Open { heartbeat } => {
                if now >= self.heard_at + heartbeat * HEARTBEATS_MISSED_MAX {
                    let lost = "nothing was heard for three heartbeats".to_owned();
                    return Err(ClientError::ConnectionLost(lost));
                }
                if now >= self.next_timeout() {
                    encode(HEARTBEAT_CORRELATION, &Message::Ping(0), out);
                    self.sent_at = now;
                }
                Ok(())
            }
        }
    }
}

/// An error about the connection: one that is worth another connection is like the loss of this one.
fn refusal(body: ErrorBody) -> ClientError {
    match body.retry {
        Retry::No => ClientError::Server(body),
        // Another connection for that shard would be refused as well: who made it has to ask for another.
        Retry::Refresh if body.code == ErrorCode::ShardUnknown => ClientError::Server(body),
        Retry::Later | Retry::Refresh => ClientError::ConnectionLost(body.to_string()),
    }
}

const HELLO_CORRELATION: CorrelationId = CorrelationId(1);
/// No request and no batch has it: their correlations are counted from below, and lanes from 1.
const HEARTBEAT_CORRELATION: CorrelationId = CorrelationId(u64::MAX);

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
