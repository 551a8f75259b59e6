//! Newtypes for what would otherwise be bare integers: no signature has two of the same kind.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }
    };
}

id!(
    /// Names a topic for ever: an id is never given out again, even after the topic is deleted.
    TopicId(u64)
);
id!(
    /// The index of a partition in its topic, from 0.
    PartitionIndex(u32)
);
id!(
    /// A record's place in its partition, from 0.
    Offset(u64)
);
id!(
    /// Names an idempotent producer; unique over shards and restarts of the broker.
    ProducerId(u64)
);
id!(
    /// The life of a producer id; a newer one fences the older.
    ProducerEpoch(u32)
);
id!(
    /// Counts the records an idempotent producer has sent to one partition; wraps.
    Sequence(u32)
);
id!(
    /// The term in which a batch was appended; rises when the log may have lost its end.
    LeaderEpoch(u32)
);
id!(
    /// Names a subscription on its connection; chosen by the client.
    SubscriptionId(u64)
);
id!(
    /// Ties a reply to its request; chosen by the one who asks. 0 is for what nobody asked for.
    CorrelationId(u64)
);
id!(
    /// A shard (one core) of a broker, from 0.
    ShardIndex(u16)
);
id!(
    /// Milliseconds since the Unix epoch.
    Timestamp(i64)
);

impl Offset {
    /// The offset `records` further on. `None` when it would not fit.
    #[must_use]
    pub fn checked_add(self, records: u64) -> Option<Self> {
        self.0.checked_add(records).map(Self)
    }
}

impl Sequence {
    /// The sequence `records` further on; wraps at 2^32 as sequences do.
    #[must_use]
    pub fn wrapping_add(self, records: u32) -> Self {
        Self(self.0.wrapping_add(records))
    }
}

impl ProducerId {
    /// Stands in a batch whose producer is not idempotent.
    pub const NONE: Self = Self(u64::MAX);
}
