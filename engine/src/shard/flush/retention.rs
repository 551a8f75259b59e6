//! Retention: what has expired, and when to look again.

use std::rc::Rc;

use gannet_wire::Offset;

use super::super::log::ShardLog;
use super::super::slot::Slot;
use super::RoundEnd;
use crate::io::{Clock, Disk};
use crate::storage::{Lsn, StorageError};

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Retention makes room, so it comes before what needs some.
    pub(super) async fn expire_on_a_full_disk(self: &Rc<Self>) -> Result<(), StorageError> {
        if !self.is_disk_full() {
            return Ok(());
        }
        // Those that cannot go yet are due again at once: each is looked at once.
        let rounds = self.expiries.len() / EXPIRIES_PER_ROUND_MAX + 1;
        for _ in 0..rounds {
            if let RoundEnd::NoRoom(_) = self.reserve_checkpoint().await? {
                break;
            }
            let mut slots = self.expired_slots(self.next_round(), EXPIRIES_PER_ROUND_MAX);
            if slots.is_empty() {
                break;
            }
            let target = self.flushed_lsn.get();
            // A checkpoint that frees nothing would use up the room that is left for one that does.
            slots.retain(|slot| self.expire(slot, target) > slot.state.borrow().log_start());
            if !slots.is_empty() {
                self.checkpoint_round(target, &slots, Vec::new()).await?;
            }
        }
        Ok(())
    }

    /// Slots that retention has to look at, and that `round` has not touched yet.
    pub(super) fn expired_slots(&self, round: u64, slots_max: usize) -> Vec<Rc<Slot>> {
        let now = self.append_clock.borrow().now();
        let mut slots = Vec::new();
        while slots.len() < slots_max
            && let Some(key) = self.expiries.pop_due(now)
        {
            if let Some(slot) = self.slot(key) {
                slot.expiry_queued.set(false);
                if slot.flush_round.replace(round) != round {
                    slots.push(slot);
                }
            }
        }
        slots
    }

    /// The log start that retention asks for once everything up to `target` is in segments; queues the next look.
    pub(super) fn expire(&self, slot: &Rc<Slot>, target: Lsn) -> Offset {
        let settings = slot.topic().settings;
        let clock = self.append_clock.borrow();
        let retention_ms = settings.retention_ms.and_then(|ms| i64::try_from(ms).ok());
        let expire_before = retention_ms.map(|ms| clock.stamped_before(ms));
        let state = slot.state.borrow();
        let log_start = state.expired_up_to(expire_before, settings.retention_bytes, target);
        let mut kept = state
            .runs()
            .iter()
            .filter(|run| run.next_offset > log_start);
        if let (Some(retention_ms), Some(oldest)) = (retention_ms, kept.next())
            && !slot.expiry_queued.replace(true)
        {
            let at = clock.expires_at(oldest.append_time, retention_ms);
            self.expiries.push(at, slot.key());
        }
        log_start
    }

    pub(in crate::shard) fn expiry_due(&self) -> bool {
        self.expiries.is_due(self.append_clock.borrow().now())
    }
}

/// Slots that one round looks at for retention's sake alone.
pub(super) const EXPIRIES_PER_ROUND_MAX: usize = 256;
