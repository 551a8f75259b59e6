//! Bytes to messages.

#![warn(clippy::indexing_slicing)]

use bytes::{Buf, Bytes, BytesMut};

use super::body::{decode_acks, decode_publish_durability};
use super::error::{FrameError, FrameErrorKind};
use super::field::FieldReader;
use super::header::FrameHeader;
use super::kind::FrameKind;
use super::message::{
    Deliver, Frame, Goodbye, Hello, HelloReply, Message, OffsetLookup, OffsetLookupReply,
    OffsetsCommit, OffsetsFetch, OffsetsReply, ProducerReply, Publish, Subscribe, Subscribed,
    SubscriptionEnd,
};
use super::topic::{TopicCreate, TopicDescription, TopicList, TopicListReply, decode_name};
use crate::ids::{Offset, PartitionIndex, SubscriptionId, TopicId};
use crate::limits::{DATA_HEAD_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES};

/// What a connection takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Bytes of the largest frame, its header included. A kind may have a lower limit of its own.
    pub frame_bytes_max: u32,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self {
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }
}

/// Cuts received bytes into frames.
///
/// Append what was received to a `BytesMut` and call [`decode`](Self::decode) until it answers `Ok(None)`; then
/// [`missing_bytes`](Self::missing_bytes) says how many bytes the frame at hand still lacks, a number already checked
/// against the limits: reserve that much, not more. After an error, close the connection.
#[derive(Debug)]
pub struct FrameDecoder {
    limits: FrameLimits,
    /// The header at the front of the buffer, once it was checked.
    header: Option<FrameHeader>,
    missing_bytes: usize,
}

impl FrameDecoder {
    /// A decoder at the beginning of a connection.
    #[must_use]
    pub const fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            header: None,
            missing_bytes: FRAME_HEADER_BYTES,
        }
    }

    /// Changes what is taken, from the next frame on.
    pub const fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Takes the next frame from the front of `received`. `Ok(None)`: it is not complete yet, and nothing was taken.
    ///
    /// The batches in a Publish or a Deliver are a slice of `received`, not a copy, and keep its memory alive.
    ///
    /// # Errors
    /// The bytes break the protocol or a limit. A length over the limit is refused as soon as the header is there.
    pub fn decode(&mut self, received: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => match FrameHeader::read(received, self.limits.frame_bytes_max)? {
                Some(header) => *self.header.insert(header),
                None => {
                    self.missing_bytes = FRAME_HEADER_BYTES.saturating_sub(received.len());
                    return Ok(None);
                }
            },
        };
        let frame_bytes = header.frame_bytes();
        if received.len() < frame_bytes {
            self.missing_bytes = frame_bytes - received.len();
            return Ok(None);
        }
        self.header = None;
        self.missing_bytes = FRAME_HEADER_BYTES;
        let frame = match header.kind() {
            FrameKind::Publish | FrameKind::Deliver => {
                let frame = received.split_to(frame_bytes).freeze();
                decode_data(&header, frame)
            }
            _ => {
                let body = received
                    .get(FRAME_HEADER_BYTES..frame_bytes)
                    .unwrap_or_default();
                let frame = decode_body(&header, body);
                received.advance(frame_bytes);
                frame
            }
        };
        frame.map(Some)
    }

    /// How many bytes the frame at the front lacked when [`decode`](Self::decode) last answered `None`; 0 never.
    #[must_use]
    pub const fn missing_bytes(&self) -> usize {
        self.missing_bytes
    }
}

/// Decodes bytes that are exactly one frame.
///
/// # Errors
/// The bytes break the protocol or a limit, end early, or go on behind the frame.
pub fn decode(frame: Bytes, limits: &FrameLimits) -> Result<Frame, FrameError> {
    let Some(header) = FrameHeader::read(&frame, limits.frame_bytes_max)? else {
        return Err(FrameError {
            correlation: crate::ids::CorrelationId(0),
            kind: FrameErrorKind::TooShort {
                frame_bytes: frame.len() as u32,
                frame_bytes_min: FRAME_HEADER_BYTES as u32,
            },
        });
    };
    let fail = |kind| {
        Err(FrameError {
            correlation: header.correlation(),
            kind,
        })
    };
    if frame.len() < header.frame_bytes() {
        return fail(FrameErrorKind::EndsEarly(header.kind()));
    }
    if frame.len() > header.frame_bytes() {
        let bytes = frame.len() - header.frame_bytes();
        return fail(FrameErrorKind::TrailingBytes {
            kind: header.kind(),
            bytes,
        });
    }
    match header.kind() {
        FrameKind::Publish | FrameKind::Deliver => decode_data(&header, frame),
        _ => decode_body(&header, frame.get(FRAME_HEADER_BYTES..).unwrap_or_default()),
    }
}

/// Decodes a frame that carries batches, which stay where they are.
fn decode_data(header: &FrameHeader, mut frame: Bytes) -> Result<Frame, FrameError> {
    // The head is copied, so that the batches can go on in the very `Bytes` they came in.
    let head = frame
        .first_chunk::<DATA_HEAD_BYTES>()
        .copied()
        .ok_or(FrameError {
            correlation: header.correlation(),
            kind: FrameErrorKind::EndsEarly(header.kind()),
        })?;
    frame.advance(DATA_HEAD_BYTES);
    let (_, head) = head.split_at(FRAME_HEADER_BYTES);
    let mut head = FieldReader::new(header.kind(), head);
    let message = (|| {
        Ok(if header.kind() == FrameKind::Publish {
            let topic = TopicId(head.u64()?);
            let partition = PartitionIndex(head.u32()?);
            let durability = decode_publish_durability(&mut head)?;
            Message::Publish(Publish {
                topic,
                partition,
                durability,
                batch: frame,
            })
        } else {
            let subscription = SubscriptionId(head.u64()?);
            let next_offset = Offset(head.u64()?);
            Message::Deliver(Deliver {
                subscription,
                next_offset,
                batches: frame,
            })
        })
    })();
    with_correlation(header, message)
}

fn decode_body(header: &FrameHeader, body: &[u8]) -> Result<Frame, FrameError> {
    let mut body = FieldReader::new(header.kind(), body);
    let message = decode_message(header.kind(), &mut body)
        .and_then(|message| body.finish().map(|()| message));
    with_correlation(header, message)
}

fn decode_message(kind: FrameKind, body: &mut FieldReader<'_>) -> Result<Message, FrameErrorKind> {
    Ok(match kind {
        FrameKind::Hello => Message::Hello(Hello::decode(body)?),
        FrameKind::HelloReply => Message::HelloReply(HelloReply::decode(body)?),
        FrameKind::Ping => Message::Ping(body.u64()?),
        FrameKind::Pong => Message::Pong(body.u64()?),
        FrameKind::TopicCreate => Message::TopicCreate(TopicCreate::decode(body)?),
        FrameKind::TopicDescribe => Message::TopicDescribe(decode_name(body)?),
        FrameKind::TopicReply => Message::TopicReply(TopicDescription::decode(body)?),
        FrameKind::TopicDelete => Message::TopicDelete(decode_name(body)?),
        FrameKind::TopicList => Message::TopicList(TopicList::decode(body)?),
        FrameKind::TopicListReply => Message::TopicListReply(TopicListReply::decode(body)?),
        FrameKind::ProducerInit => {
            body.reserved::<4>()?;
            Message::ProducerInit
        }
        FrameKind::ProducerReply => Message::ProducerReply(ProducerReply::decode(body)?),
        FrameKind::PublishAcks => Message::PublishAcks(decode_acks(body)?),
        FrameKind::Subscribe => Message::Subscribe(Subscribe::decode(body)?),
        FrameKind::Subscribed => Message::Subscribed(Subscribed::decode(body)?),
        FrameKind::Credit => Message::Credit(SubscriptionId(body.u64()?), body.u64()?),
        FrameKind::Unsubscribe => Message::Unsubscribe(SubscriptionId(body.u64()?)),
        FrameKind::SubscriptionEnd => Message::SubscriptionEnd(SubscriptionEnd::decode(body)?),
        FrameKind::OffsetsCommit => Message::OffsetsCommit(OffsetsCommit::decode(body)?),
        FrameKind::OffsetsFetch => Message::OffsetsFetch(OffsetsFetch::decode(body)?),
        FrameKind::OffsetsReply => Message::OffsetsReply(OffsetsReply::decode(body)?),
        FrameKind::OffsetLookup => Message::OffsetLookup(OffsetLookup::decode(body)?),
        FrameKind::OffsetLookupReply => {
            Message::OffsetLookupReply(OffsetLookupReply::decode(body)?)
        }
        FrameKind::Ok => Message::Ok,
        FrameKind::Error => Message::Error(body.error_body()?),
        FrameKind::Goodbye => Message::Goodbye(Goodbye::decode(body)?),
        FrameKind::Publish | FrameKind::Deliver => {
            unreachable!("frames that carry batches are decoded where they lie")
        }
    })
}

fn with_correlation(
    header: &FrameHeader,
    message: Result<Message, FrameErrorKind>,
) -> Result<Frame, FrameError> {
    let correlation = header.correlation();
    match message {
        Ok(message) => Ok(Frame {
            correlation,
            message,
        }),
        Err(kind) => Err(FrameError { correlation, kind }),
    }
}
