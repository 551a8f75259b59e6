//! Why bytes are no frame.

use super::kind::FrameKind;
use crate::error::ErrorCode;
use crate::ids::CorrelationId;

/// Bytes that break the protocol. Where the next frame begins can no longer be trusted: the connection is to be closed,
/// after an Error frame with [`FrameError::code`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct FrameError {
    /// The request's, as far as it could be read; 0 otherwise.
    pub correlation: CorrelationId,
    /// What is wrong.
    pub kind: FrameErrorKind,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameErrorKind {
    /// The length is more than the connection, or the kind, allows.
    #[error("the frame states {frame_bytes} bytes where {frame_bytes_max} are allowed")]
    TooLarge {
        /// What the frame states.
        frame_bytes: u32,
        /// What is allowed.
        frame_bytes_max: u32,
    },
    /// The length is less than the kind needs.
    #[error("the frame states {frame_bytes} bytes where at least {frame_bytes_min} are needed")]
    TooShort {
        /// What the frame states.
        frame_bytes: u32,
        /// What the kind needs.
        frame_bytes_min: u32,
    },
    /// A version of the frame format that this crate does not read.
    #[error("the frame is of version {0}")]
    Version(u8),
    /// A kind that this crate does not know.
    #[error("the frame is of the unknown kind {0}")]
    UnknownKind(u8),
    /// The body ends before its last field, or a list states more entries than there is room for.
    #[error("the body of {} ends early", .0.name())]
    EndsEarly(FrameKind),
    /// Bytes are left behind the last field.
    #[error("the body of {} has {bytes} bytes too many", .kind.name())]
    TrailingBytes {
        /// The frame's kind.
        kind: FrameKind,
        /// The bytes left over.
        bytes: usize,
    },
    /// A field has a value that the protocol does not allow.
    #[error("the field {field} of {} has a value that is not allowed", .kind.name())]
    Field {
        /// The frame's kind.
        kind: FrameKind,
        /// The field's name in the protocol's documentation.
        field: &'static str,
    },
    /// A string or a list is longer than its limit.
    #[error("the field {field} of {} has the length {length} where {length_max} is allowed", .kind.name())]
    TooLong {
        /// The frame's kind.
        kind: FrameKind,
        /// The field's name in the protocol's documentation.
        field: &'static str,
        /// Bytes of the string, or entries of the list.
        length: usize,
        /// The most there may be.
        length_max: usize,
    },
}

impl FrameError {
    /// The code to answer with.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self.kind {
            FrameErrorKind::TooLarge { .. } => ErrorCode::FrameTooLarge,
            FrameErrorKind::Version(_) => ErrorCode::UnsupportedVersion,
            FrameErrorKind::UnknownKind(_) => ErrorCode::UnknownKind,
            _ => ErrorCode::MalformedFrame,
        }
    }
}
