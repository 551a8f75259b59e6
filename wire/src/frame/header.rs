//! The 16 bytes that begin every frame.

#![warn(clippy::indexing_slicing)]

use super::error::{FrameError, FrameErrorKind};
use super::kind::FrameKind;
use crate::ids::CorrelationId;
use crate::limits::{FRAME_HEADER_BYTES, FRAME_VERSION};

/// A frame's header that was found sound: known kind and version, a length within that kind's bounds and the connection's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    frame_bytes: u32,
    kind: FrameKind,
    correlation: CorrelationId,
}

impl FrameHeader {
    /// Reads the header that `bytes` begin with. `None`: fewer than 16 bytes.
    ///
    /// # Errors
    /// The header breaks the protocol, or states more than `frame_bytes_max`.
    pub fn read(bytes: &[u8], frame_bytes_max: u32) -> Result<Option<Self>, FrameError> {
        let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let [b0, b1, b2, b3, kind, version, f0, f1, correlation @ ..] = *header;
        let frame_bytes = u32::from_le_bytes([b0, b1, b2, b3]);
        let correlation = CorrelationId(u64::from_le_bytes(correlation));
        let fail = |kind| Err(FrameError { correlation, kind });
        if version != FRAME_VERSION {
            return fail(FrameErrorKind::Version(version));
        }
        let Some(kind) = FrameKind::from_u8(kind) else {
            return fail(FrameErrorKind::UnknownKind(kind));
        };
        if u16::from_le_bytes([f0, f1]) != 0 {
            return fail(FrameErrorKind::Field {
                kind,
                field: "flags",
            });
        }
        let frame_bytes_max = frame_bytes_max.min(kind.frame_bytes_max());
        if frame_bytes > frame_bytes_max {
            return fail(FrameErrorKind::TooLarge {
                frame_bytes,
                frame_bytes_max,
            });
        }
        let frame_bytes_min = kind.frame_bytes_min();
        if frame_bytes < frame_bytes_min {
            return fail(FrameErrorKind::TooShort {
                frame_bytes,
                frame_bytes_min,
            });
        }
        Ok(Some(Self {
            frame_bytes,
            kind,
            correlation,
        }))
    }

    /// The header as it stands on the wire.
    #[must_use]
    pub fn encode(
        frame_bytes: u32,
        kind: FrameKind,
        correlation: CorrelationId,
    ) -> [u8; FRAME_HEADER_BYTES] {
        let [b0, b1, b2, b3] = frame_bytes.to_le_bytes();
        let [c0, c1, c2, c3, c4, c5, c6, c7] = correlation.0.to_le_bytes();
        [
            b0,
            b1,
            b2,
            b3,
            kind as u8,
            FRAME_VERSION,
            0,
            0,
            c0,
            c1,
            c2,
            c3,
            c4,
            c5,
            c6,
            c7,
        ]
    }

    /// Bytes of the whole frame, this header included.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        self.frame_bytes as usize
    }

    /// What the frame is.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        self.kind
    }

    /// Ties a reply to its request.
    #[must_use]
    pub const fn correlation(&self) -> CorrelationId {
        self.correlation
    }
}
