//! What a shard does beside its work: spare journal files, and a look around once a second.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::log::ShardLog;
use crate::io::{Clock, Disk};
use crate::storage::StorageError;

impl<D: Disk, C: Clock> ShardLog<D, C> {
    /// Keeps a spare journal file ready; runs until the log has stopped.
    pub async fn run_spares(self: &Rc<Self>) -> Result<(), StorageError> {
        loop {
            let seen = self.spare_wanted.version();
            if self.is_stopping() {
                return Ok(());
            }
            if self.journal.wants_spare() && !self.disk_room.is_full() {
                match self.journal.make_spare().await {
                    Ok(()) => {}
                    Err(error) if error.is_disk_full() => {
                        self.disk_room.met_its_end(&error);
                        self.want_flush();
                    }
                    Err(error) => return Err(error),
                }
            }
            self.spare_wanted.changed_since(seen).await;
        }
    }

    /// Once a second: the clock, the disk's room, and what has waited long enough to be flushed. Runs until the log has stopped.
    pub async fn run_housekeeping(self: &Rc<Self>) {
        while !self.is_stopping() {
            self.observe_clock();
            self.check_space().await;
            let now = self.clock.monotonic();
            let old = self
                .recent
                .oldest_unflushed_at()
                .is_some_and(|released_at| {
                    now.saturating_sub(released_at) >= self.config.flush_interval
                });
            if old || self.expiry_due() || self.seal_due() {
                self.want_flush();
            }
            if self.recent.all_flushed() {
                self.evict_idle(now);
            }
            let tick = self.clock.sleep(Duration::from_secs(1));
            let stop = async {
                while !self.is_stopping() {
                    self.room.wait().await;
                }
            };
            if let Either::Right(_) = select(pin!(tick), pin!(stop)).await {
                return;
            }
        }
    }

    /// An idle shard gives its memory back.
    fn evict_idle(&self, now: Duration) {
        let idle = self.recent.newest_cached_at().is_some_and(|released_at| {
            now.saturating_sub(released_at) >= self.config.flush_interval
        });
        if idle {
            self.recent.evict(0);
            self.reader.clear_chunks();
        }
    }
}
