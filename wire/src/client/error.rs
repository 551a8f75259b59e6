//! What can go wrong for a client.

use std::io;
use std::time::Duration;

use crate::batch::BatchError;
use crate::error::{ErrorBody, ErrorCode, Fault};
use crate::frame::FrameError;
use crate::ids::{Offset, PartitionIndex};

/// Why a call of the client failed, or a record was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The operating system refused.
    #[error("cannot {doing}: {message}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        kind: io::ErrorKind,
        /// What the system says, for a human.
        message: String,
    },
    /// The connection broke, or the server has been silent for too long. Whether a request under way took effect is
    /// not known.
    #[error("the connection is lost: {0}")]
    ConnectionLost(String),
    /// No connection could be made for as long as the configuration allows.
    #[error("gave up after {:.1} s without a connection: {cause}", .after.as_secs_f64())]
    GaveUp {
        /// How long it was tried.
        after: Duration,
        /// Why the last attempt failed.
        cause: Box<ClientError>,
    },
    /// The server refused.
    #[error("the server refused: {0}")]
    Server(ErrorBody),
    /// The server sent bytes that are no frame.
    #[error("the server broke the protocol: {0}")]
    Frame(#[from] FrameError),
    /// The server sent a frame that has no place where it came.
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    /// A record does not fit a batch, or breaks one of its rules.
    #[error("the record cannot be sent: {0}")]
    Record(BatchError),
    /// A batch arrived damaged.
    #[error(
        "a batch of partition {partition}, at or behind offset {position}, arrived damaged: {error}"
    )]
    BatchDamaged {
        /// The partition.
        partition: PartitionIndex,
        /// The offset that was to be read next.
        position: Offset,
        /// What is wrong with it.
        error: BatchError,
    },
    /// The server ended a subscription; no more comes from this partition.
    #[error("the subscription to partition {partition} ended{}: {error}", at_offset(*.position))]
    SubscriptionEnded {
        /// The partition.
        partition: PartitionIndex,
        /// The offset that was to be read next, when it is known.
        position: Option<Offset>,
        /// What the server says.
        error: ErrorBody,
    },
    /// It took longer than the configuration allows. What was sent may or may not have taken effect.
    #[error("timed out: {0}")]
    TimedOut(&'static str),
    /// The same, with what stood in the way when the time was up: the server's last refusal, or why there was no connection.
    #[error("timed out: {what}; what stood in the way: {cause}")]
    HeldUp {
        /// What did not happen in time.
        what: &'static str,
        /// What stood in the way.
        cause: Box<ClientError>,
    },
    /// The batch was given up because one before it in the partition failed; it was not stored unless the connection
    /// was lost with it under way.
    #[error("given up behind a failed batch: {0}")]
    Behind(Box<ClientError>),
    /// Records sent earlier were not delivered.
    #[error("{records} records were not delivered, the first because: {cause}")]
    Undelivered {
        /// How many since the last report.
        records: u64,
        /// Why the first of them failed.
        cause: Box<ClientError>,
    },
    /// An argument is out of bounds.
    #[error("invalid argument: {0}")]
    InvalidArgument(&'static str),
    /// The producer or the consumer was closed.
    #[error("closed")]
    Closed,
}

fn at_offset(position: Option<Offset>) -> String {
    position.map_or_else(String::new, |offset| format!(" at offset {offset}"))
}

impl ClientError {
    pub(crate) fn io(doing: &'static str, error: &io::Error) -> Self {
        Self::Io {
            doing,
            kind: error.kind(),
            message: error.to_string(),
        }
    }

    /// Something did not happen in time, with this obstacle in the way if there was one.
    pub(crate) fn timed_out(what: &'static str, obstacle: Option<Self>) -> Self {
        match obstacle {
            Some(cause) => Self::HeldUp {
                what,
                cause: Box::new(cause),
            },
            None => Self::TimedOut(what),
        }
    }

    pub(crate) fn behind(&self) -> Self {
        match self {
            Self::Behind(_) => self.clone(),
            cause => Self::Behind(Box::new(cause.clone())),
        }
    }

    /// Whether the connection is the trouble, so that a new one may do.
    pub(crate) const fn is_of_connection(&self) -> bool {
        matches!(
            self,
            Self::Io { .. } | Self::ConnectionLost(_) | Self::Frame(_) | Self::Protocol(_)
        )
    }

    /// Whether the broker has no such shard.
    pub(crate) fn is_of_shard(&self) -> bool {
        matches!(self, Self::Server(body) if body.code == ErrorCode::ShardUnknown)
    }

    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Io { .. } | Self::ConnectionLost(_) | Self::TimedOut(_) => Fault::Environment,
            Self::Server(body) | Self::SubscriptionEnded { error: body, .. } => body.fault,
            Self::Frame(_) | Self::Protocol(_) | Self::BatchDamaged { .. } => Fault::Peer,
            Self::Record(_) | Self::InvalidArgument(_) | Self::Closed => Fault::Caller,
            Self::Behind(cause)
            | Self::GaveUp { cause, .. }
            | Self::HeldUp { cause, .. }
            | Self::Undelivered { cause, .. } => cause.fault(),
        }
    }
}
