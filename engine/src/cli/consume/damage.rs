//! Records that the server withholds because they are damaged on its disk.

use std::io::{self, Write};

use gannet_wire::client::ClientError;
use gannet_wire::{ErrorCode, Offset, PartitionIndex};

/// A range that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) partition: PartitionIndex,
    pub(super) from: Offset,
    /// Where reading can go on.
    pub(super) to: Offset,
}

impl Damage {
    /// The damage at which reading a partition ended, if that is why.
    pub(super) fn of(error: &ClientError) -> Option<Self> {
        let ClientError::SubscriptionEnded {
            partition, error, ..
        } = error
        else {
            return None;
        };
        let (from, to) = error
            .range
            .filter(|_| error.code == ErrorCode::RangeFenced)?;
        // A range that leads nowhere would be asked for again and again.
        (from < to).then_some(Self {
            partition: *partition,
            from,
            to,
        })
    }

    /// Tells the user, who asked to go on.
    pub(super) fn say(&self) {
        let Self {
            partition,
            from,
            to,
        } = self;
        // Who closed the standard error does not want to hear it.
        let _ = writeln!(
            io::stderr(),
            "gannet: offsets {from} to {to} of partition {partition} are damaged on the server's disk and left out; reading goes on at {to}"
        );
    }
}

#[cfg(test)]
mod tests {
    use gannet_wire::ErrorBody;

    use super::*;

    fn ended(code: ErrorCode, from: u64, to: u64) -> ClientError {
        ClientError::SubscriptionEnded {
            partition: PartitionIndex(2),
            position: Some(Offset(from)),
            error: ErrorBody::new(code, "why").with_range(Offset(from), Offset(to)),
        }
    }

    #[test]
    fn a_fenced_range_says_where_reading_can_go_on() {
        let damage = Damage::of(&ended(ErrorCode::RangeFenced, 5, 8));
        let expected = Damage {
            partition: PartitionIndex(2),
            from: Offset(5),
            to: Offset(8),
        };
        assert_eq!(damage, Some(expected));
    }

    #[test]
    fn no_other_ending_is_passed_over() {
        assert_eq!(Damage::of(&ended(ErrorCode::OffsetOutOfRange, 5, 8)), None);
        assert_eq!(Damage::of(&ended(ErrorCode::RangeFenced, 8, 8)), None);
        assert_eq!(Damage::of(&ClientError::Closed), None);
    }
}
