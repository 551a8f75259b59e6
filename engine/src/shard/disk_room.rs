//! A disk that fills up: what has its offsets waits for room, what is new is refused, and all goes on when there is room again.

use std::cell::Cell;
use std::time::Duration;

use super::log::ShardLog;
use crate::io::{Clock, Disk};
use crate::storage::StorageError;

/// What a shard knows of the disk's room.
pub(super) struct DiskRoom {
    full: Cell<bool>,
    /// What may still be published before the room is looked at again.
    publishable_bytes: Cell<u64>,
    /// The disk was full at a stop: what waits for room is not waited for.
    gave_up: Cell<bool>,
}

impl DiskRoom {
    /// Nothing is known yet, and nothing refused.
    pub(super) fn unknown() -> Self {
        Self {
            full: Cell::new(false),
            publishable_bytes: Cell::new(u64::MAX),
            gave_up: Cell::new(false),
        }
    }

    /// Whether something met the end of the room, or nearly did, since there was enough of it.
    pub(super) fn is_full(&self) -> bool {
        self.full.get()
    }

    /// So much is going to be written.
    pub(super) fn take(&self, bytes: u64) {
        self.publishable_bytes
            .set(self.publishable_bytes.get().saturating_sub(bytes));
    }

    /// Something found no room. Reports it once, until there is room again.
    pub(super) fn met_its_end(&self, error: &StorageError) {
        if !self.full.replace(true) {
            tracing::error!(%error, "the disk is full: publishes are refused until there is room again; reading goes on");
        }
    }

    /// Whether what waits for room is not waited for any more.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up.get()
    }
}

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Whether publishes are refused for want of room.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.disk_room.full.get() || self.disk_room.publishable_bytes.get() == 0
    }

    /// Nothing can be written where there is no room. Publishes are refused from now on; those that have their offsets wait here for a
    /// moment, to try again. At a stop nobody waits for room, which may never come: then, and when it is something else, the error comes back.
    pub(super) async fn wait_for_space(&self, error: StorageError) -> Result<(), StorageError> {
        if !error.is_disk_full() || self.is_stopping() {
            return Err(error);
        }
        self.disk_room.met_its_end(&error);
        // Who waits for memory is refused now.
        self.room.notify_all();
        self.want_flush();
        self.clock.sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// At a stop on a full disk the log ends with what is durable; any other error is final.
    pub(super) fn give_up(&self, error: StorageError) -> Result<(), StorageError> {
        if !self.is_stopping() || !error.is_disk_full() {
            return Err(error);
        }
        if !self.disk_room.gave_up.replace(true) {
            tracing::error!(%error, "the disk is full: what was not acknowledged as durable is dropped at this stop");
        }
        Ok(())
    }

    /// Looks at the disk's room. What is kept free covers what has its offsets and is in no segment yet: this shard's, times the shards,
    /// because the others see the same room.
    pub(super) async fn check_space(&self) {
        let Ok(available) = self.disk.available_bytes(self.data.root()).await else {
            return;
        };
        let shards = u64::from(self.shards.max(1));
        let owed = self.held_bytes();
        let kept = self
            .config
            .disk_reserve_bytes
            .saturating_add(owed.saturating_mul(shards));
        // Until the next look no more is taken than there is room for now.
        let publishable = available.saturating_sub(kept) / shards;
        let room = &self.disk_room;
        room.publishable_bytes.set(publishable);
        let full = room.full.get();
        if !full && publishable == 0 {
            tracing::error!(
                available,
                kept,
                "the disk is nearly full: publishes are refused until there is room again; reading goes on"
            );
            room.full.set(true);
            self.room.notify_all();
            self.want_flush();
        } else if full && available > kept.saturating_add(self.config.journal_file_bytes) {
            tracing::info!(available, "the disk has room again: publishes are taken");
            room.full.set(false);
            self.work.notify_all();
            self.spare_wanted.notify_all();
        }
    }
}
