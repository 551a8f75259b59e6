//! What went wrong, as it stands on the wire: a stable code, whose fault it is, whether to try again, and a sentence.

use std::fmt;

use crate::ids::Offset;
use crate::limits::SENTENCE_BYTES_MAX;

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Fault {
    /// The one who asked: the same request will fail again.
    Caller = 1,
    /// Disk, memory, load, an operator's stop: nobody's program is wrong.
    Environment = 2,
    /// The other side broke the protocol.
    Peer = 3,
    /// A bug in the one who answers.
    Bug = 4,
}

impl Fault {
    /// The fault a byte on the wire stands for.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Caller),
            2 => Some(Self::Environment),
            3 => Some(Self::Peer),
            4 => Some(Self::Bug),
            _ => None,
        }
    }
}

/// Whether to try again after an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Retry {
    /// The same request fails again.
    No = 0,
    /// The same request on the same connection, after a pause.
    Later = 1,
    /// After asking for the metadata again, or on a new connection.
    Refresh = 2,
}

impl Retry {
    /// The advice a byte on the wire stands for.
    #[must_use]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::No),
            1 => Some(Self::Later),
            2 => Some(Self::Refresh),
            _ => None,
        }
    }
}

macro_rules! error_codes {
    ($($code:literal $variant:ident $name:literal $fault:ident $retry:ident $sentence:literal)*) => {
        /// A stable code for each error; a number is never used for another meaning.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $sentence] $variant,)*
            /// A code that a newer peer knows and this crate does not. Fault and retry in its frame tell what to do.
            Unknown(UnknownCode),
        }

        impl ErrorCode {
            /// Every code this crate knows, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            #[must_use]
            pub const fn to_u16(self) -> u16 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Unknown(code) => code.0,
                }
            }

            /// The code a number on the wire stands for.
            #[must_use]
            pub const fn from_u16(number: u16) -> Self {
                match number {
                    $($code => Self::$variant,)*
                    other => Self::Unknown(UnknownCode(other)),
                }
            }

            /// The code's name in the protocol's documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(_) => "unknown",
                }
            }

            /// Whose fault it is, unless the frame says otherwise.
            #[must_use]
            pub const fn fault(self) -> Fault {
                match self {
                    $(Self::$variant => Fault::$fault,)*
                    Self::Unknown(_) => Fault::Peer,
                }
            }

            /// Whether to try again, unless the frame says otherwise.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$variant => Retry::$retry,)*
                    Self::Unknown(_) => Retry::No,
                }
            }

            /// What the code means, in one sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)*
                    Self::Unknown(_) => "The peer sent an error code that this program does not know.",
                }
            }
        }
    };
}

/// A number that is no known code. Only [`ErrorCode::from_u16`] makes one, so that a known code has one form only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UnknownCode(u16);

error_codes! {
    1 MalformedFrame "malformed_frame" Caller No "A frame's bytes do not follow the protocol."
    2 UnsupportedVersion "unsupported_version" Caller No "The frame's version, or every protocol version the client offers, is one the server does not speak."
    3 FrameTooLarge "frame_too_large" Caller No "A frame states more bytes than the limit given in Hello, or than its kind can have."
    4 UnknownKind "unknown_kind" Caller No "A frame is of a kind the server does not know, or one that only servers send."
    5 HelloExpected "hello_expected" Caller No "The first frame of a connection must be a Hello, and no later one may be."
    6 ShardUnknown "shard_unknown" Caller Refresh "The connection asked for a shard the broker does not have."
    7 NotSupported "not_supported" Caller No "The request is understood but this server does not offer it."
    16 BatchMalformed "batch_malformed" Caller No "A batch's header or body breaks the format."
    17 BatchChecksum "batch_checksum" Environment Later "A batch's bytes do not match its checksum: they were damaged on the way."
    18 BatchTooLarge "batch_too_large" Caller No "A batch has more bytes or records, or grows to more when decompressed, than the server takes."
    19 BatchFormatUnsupported "batch_format_unsupported" Caller No "A batch is in a format or a compression that the server does not take."
    32 TopicUnknown "topic_unknown" Caller No "There is no topic of this name or id."
    33 PartitionUnknown "partition_unknown" Caller Refresh "The topic has no partition of this index."
    34 TopicExists "topic_exists" Caller No "There is a topic of this name already."
    35 TopicNameInvalid "topic_name_invalid" Caller No "The topic's name is empty, too long, or has characters that are not allowed."
    36 TopicSettingsInvalid "topic_settings_invalid" Caller No "The topic's settings or its number of partitions are out of bounds."
    37 TopicDeleted "topic_deleted" Caller No "The topic was deleted."
    48 OffsetOutOfRange "offset_out_of_range" Caller No "The offset lies outside the stored range, which the error states."
    49 RangeFenced "range_fenced" Environment No "The range the error states is damaged on disk and withheld; reading can go on behind it."
    64 SequenceGap "sequence_gap" Caller No "The batch does not follow the last one accepted from this producer: one before it was refused or lost."
    65 ProducerUnknown "producer_unknown" Caller Refresh "The broker does not know this producer id, or has forgotten it: ask for a new one."
    66 ProducerFenced "producer_fenced" Caller No "A newer epoch of this producer id has taken over."
    67 DuplicateExpired "duplicate_expired" Caller No "The batch was stored before, so long ago that its offset is no longer remembered."
    80 SubscriptionExists "subscription_exists" Caller No "The connection has a subscription of this number already."
    81 SubscriptionUnknown "subscription_unknown" Caller No "The connection has no subscription of this number."
    82 SubscriptionsTooMany "subscriptions_too_many" Caller No "The connection has as many subscriptions as the server allows."
    83 GroupInvalid "group_invalid" Caller No "The group's name is empty, too long, or has characters that are not allowed."
    96 ServerBusy "server_busy" Environment Later "The server is at the limit of its memory or its load."
    97 DiskFull "disk_full" Environment Later "The server's disk is full."
    98 StorageFailed "storage_failed" Environment Refresh "The server's disk failed, and whether the request took effect is not known."
    99 ServerStopping "server_stopping" Environment Refresh "The server is stopping."
    112 Internal "internal" Bug No "The server has a bug."
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(code) => write!(f, "code {}", code.0),
            known => f.write_str(known.name()),
        }
    }
}

/// The body of an Error frame.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {sentence}")]
pub struct ErrorBody {
    /// What happened.
    pub code: ErrorCode,
    /// Whose fault it is.
    pub fault: Fault,
    /// Whether to try again.
    pub retry: Retry,
    /// The offsets the error is about, from the first to just behind the last. `(0, 0)` travels as none.
    pub range: Option<(Offset, Offset)>,
    /// What happened, for a human, with the particulars.
    pub sentence: String,
}

impl ErrorBody {
    /// An error with its code's usual fault and advice.
    #[must_use]
    pub fn new(code: ErrorCode, sentence: impl Into<String>) -> Self {
        Self {
            code,
            fault: code.fault(),
            retry: code.retry(),
            range: None,
            sentence: sentence.into(),
        }
    }

    /// An error that says no more than its code does.
    #[must_use]
    pub fn of_code(code: ErrorCode) -> Self {
        Self::new(code, code.sentence())
    }

    /// States the offsets the error is about: from the first to just behind the last.
    #[must_use]
    pub fn with_range(mut self, from: Offset, to: Offset) -> Self {
        self.range = Some((from, to));
        self
    }
}

/// The longest beginning of a sentence that the wire takes.
pub(crate) fn cut_sentence(sentence: &str) -> &str {
    let mut end = sentence.len().min(SENTENCE_BYTES_MAX);
    while !sentence.is_char_boundary(end) {
        end -= 1;
    }
    sentence.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_way_through_its_number() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_u16(code.to_u16()), *code);
        }
    }

    #[test]
    fn no_number_stands_for_two_codes() {
        let mut numbers: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.to_u16()).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
        assert!(!numbers.contains(&0));
    }

    #[test]
    fn an_unknown_number_survives() {
        assert_eq!(ErrorCode::from_u16(60_000).to_u16(), 60_000);
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_characters_boundary() {
        let sentence = format!("{}äää", "x".repeat(SENTENCE_BYTES_MAX - 1));
        assert_eq!(cut_sentence(&sentence).len(), SENTENCE_BYTES_MAX - 1);
    }
}
