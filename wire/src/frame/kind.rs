//! The kinds of frames and how long each may be.

use crate::limits::{
    DATA_HEAD_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, GROUP_NAME_BYTES_MAX, OFFSETS_MAX,
    PEER_NAME_BYTES_MAX, PUBLISH_ACK_BYTES, PUBLISH_ACKS_HEAD_BYTES, PUBLISH_ACKS_MAX,
    SENTENCE_BYTES_MAX, TOPIC_LIST_MAX, TOPIC_NAME_BYTES_MAX,
};

macro_rules! kinds {
    ($($number:literal $variant:ident $name:literal $min:expr, $max:expr;)*) => {
        /// What a frame is; the numbers are those on the wire.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum FrameKind {
            $(#[doc = concat!("`", $name, "`; see `wire/PROTOCOL.md`.")] $variant = $number,)*
        }

        impl FrameKind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The kind a byte on the wire stands for.
            #[must_use]
            pub const fn from_u8(byte: u8) -> Option<Self> {
                match byte {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The kind's name in the protocol's documentation.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Bytes of the shortest frame of this kind, the header included.
            #[must_use]
            pub const fn frame_bytes_min(self) -> u32 {
                match self {
                    $(Self::$variant => (FRAME_HEADER_BYTES + $min) as u32,)*
                }
            }

            /// Bytes of the longest frame of this kind, the header included. What a connection allows may be less.
            ///
            /// Known from the header alone, so that a peer cannot have a buffer reserved for a Ping of 16 MiB.
            #[must_use]
            pub const fn frame_bytes_max(self) -> u32 {
                match self {
                    $(Self::$variant => {
                        let max: usize = FRAME_HEADER_BYTES + $max;
                        if max > FRAME_BYTES_MAX as usize { FRAME_BYTES_MAX } else { max as u32 }
                    })*
                }
            }
        }
    };
}

/// Bytes of a string on the wire: its length and itself.
const fn string(bytes_max: usize) -> usize {
    2 + bytes_max
}

const TOPIC_NAME: usize = string(TOPIC_NAME_BYTES_MAX);
const SETTINGS: usize = 20;
const ERROR: usize = 20;
const ANY: usize = FRAME_BYTES_MAX as usize;

kinds! {
    1 Hello "Hello" 20, 18 + string(PEER_NAME_BYTES_MAX);
    2 HelloReply "HelloReply" 46, 44 + string(PEER_NAME_BYTES_MAX);
    3 Ping "Ping" 8, 8;
    4 Pong "Pong" 8, 8;
    5 TopicCreate "TopicCreate" 6 + SETTINGS, TOPIC_NAME + 4 + SETTINGS;
    6 TopicDescribe "TopicDescribe" 2, TOPIC_NAME;
    7 TopicReply "TopicReply" 14 + SETTINGS, ANY;
    8 TopicDelete "TopicDelete" 2, TOPIC_NAME;
    9 TopicList "TopicList" 6, TOPIC_NAME + 4;
    10 TopicListReply "TopicListReply" 5, 5 + TOPIC_LIST_MAX as usize * (12 + TOPIC_NAME);
    11 ProducerInit "ProducerInit" 4, 4;
    12 ProducerReply "ProducerReply" 12, 12;
    16 Publish "Publish" DATA_HEAD_BYTES - FRAME_HEADER_BYTES, ANY;
    17 PublishAcks "PublishAcks" PUBLISH_ACKS_HEAD_BYTES - FRAME_HEADER_BYTES,
        PUBLISH_ACKS_HEAD_BYTES - FRAME_HEADER_BYTES + PUBLISH_ACKS_MAX as usize * PUBLISH_ACK_BYTES;
    20 Subscribe "Subscribe" 40, 40;
    21 Subscribed "Subscribed" 32, 32;
    22 Credit "Credit" 16, 16;
    23 Deliver "Deliver" DATA_HEAD_BYTES - FRAME_HEADER_BYTES, ANY;
    24 Unsubscribe "Unsubscribe" 8, 8;
    25 SubscriptionEnd "SubscriptionEnd" 8 + ERROR + 2, 8 + ERROR + string(SENTENCE_BYTES_MAX);
    30 OffsetsCommit "OffsetsCommit" 14, ANY;
    31 OffsetsFetch "OffsetsFetch" 14, string(GROUP_NAME_BYTES_MAX) + 12 + OFFSETS_MAX as usize * 4;
    32 OffsetsReply "OffsetsReply" 4, ANY;
    33 OffsetLookup "OffsetLookup" 24, 24;
    34 OffsetLookupReply "OffsetLookupReply" 24, 24;
    40 Ok "Ok" 0, 0;
    41 Error "Error" ERROR + 2, ERROR + string(SENTENCE_BYTES_MAX);
    42 Goodbye "Goodbye" 4, 2 + string(SENTENCE_BYTES_MAX);
}
