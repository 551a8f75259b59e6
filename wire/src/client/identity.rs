//! Who a producer is to the broker, and how its batches are numbered.

use crate::batch::ProducerStamp;
use crate::ids::{ProducerEpoch, ProducerId, Sequence};

/// Who a lane is to the broker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity {
    /// Not idempotent: batches carry no producer.
    Anonymous,
    /// Idempotent.
    Producer {
        id: ProducerId,
        epoch: ProducerEpoch,
        next: Sequence,
    },
    /// Idempotent, and the broker has forgotten it. Batches are numbered as before, and again when there is a new one.
    Expired {
        id: ProducerId,
        epoch: ProducerEpoch,
        next: Sequence,
    },
    /// Idempotent, and the last id must not be used any more.
    Missing,
}

impl Identity {
    /// What the next batch, of so many records, carries.
    pub(crate) fn stamp(&mut self, records: u32) -> Option<ProducerStamp> {
        match self {
            Self::Producer { id, epoch, next } | Self::Expired { id, epoch, next } => {
                let base_sequence = *next;
                *next = next.wrapping_add(records);
                Some(ProducerStamp {
                    id: *id,
                    epoch: *epoch,
                    base_sequence,
                })
            }
            Self::Anonymous => None,
            Self::Missing => unreachable!("no record is taken without an identity"),
        }
    }

    /// The broker has forgotten it.
    pub(crate) fn expire(&mut self) {
        if let Self::Producer { id, epoch, next } = *self {
            *self = Self::Expired { id, epoch, next };
        }
    }

    /// Whether nothing can be sent before a new one has come.
    pub(crate) const fn is_due(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::Missing)
    }
}
