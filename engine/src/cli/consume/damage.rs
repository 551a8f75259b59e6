//! Records that the server withholds because they are damaged on its disk.

use gannet_wire::client::ClientError;
use gannet_wire::{ErrorCode, Offset, PartitionIndex};

/// Damage at which reading a partition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) partition: PartitionIndex,
    /// What cannot be read, and where reading can go on, if it can.
    pub(super) range: Option<(Offset, Offset)>,
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
        (error.code == ErrorCode::RangeFenced).then_some(Self {
            partition: *partition,
            // A range that leads nowhere would be asked for again and again.
            range: error.range.filter(|(from, to)| from < to),
        })
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

    fn range_of(error: &ClientError) -> Option<(Offset, Offset)> {
        Damage::of(error).and_then(|damage| damage.range)
    }

    #[test]
    fn a_fenced_range_says_where_reading_can_go_on() {
        let damage = Damage::of(&ended(ErrorCode::RangeFenced, 5, 8));
        let expected = Damage {
            partition: PartitionIndex(2),
            range: Some((Offset(5), Offset(8))),
        };
        assert_eq!(damage, Some(expected));
    }

    #[test]
    fn a_range_that_leads_nowhere_is_damage_behind_which_nothing_can_be_read() {
        let nowhere = ended(ErrorCode::RangeFenced, 8, 8);
        assert!(Damage::of(&nowhere).is_some());
        assert_eq!(range_of(&nowhere), None);
    }

    #[test]
    fn no_other_ending_is_passed_over() {
        assert_eq!(Damage::of(&ended(ErrorCode::OffsetOutOfRange, 5, 8)), None);
        assert_eq!(Damage::of(&ClientError::Closed), None);
    }
}
