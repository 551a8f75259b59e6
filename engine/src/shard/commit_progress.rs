//! How far the commits of a log have come.

use std::cell::Cell;

use crate::storage::Lsn;

/// Which commits were submitted, which are durable, and what has been said of it on the disk.
pub(super) struct CommitProgress {
    next: Cell<Lsn>,
    released: Cell<Lsn>,
    /// The newest released commit that holds anything.
    released_data: Cell<Lsn>,
    /// The highest `durable_lsn` that a submitted commit states.
    stated: Cell<Lsn>,
}

impl CommitProgress {
    /// Goes on behind `end`, which a start has made durable.
    pub(super) fn behind(end: Lsn) -> Self {
        Self {
            next: Cell::new(end.next()),
            released: Cell::new(end),
            released_data: Cell::new(end),
            stated: Cell::new(end),
        }
    }

    /// The LSN of the next commit.
    pub(super) fn next(&self) -> Lsn {
        self.next.get()
    }

    /// Everything up to here is durable and acknowledged.
    pub(super) fn released(&self) -> Lsn {
        self.released.get()
    }

    /// The next commit is on its way, and states that everything up to `durable` is durable.
    pub(super) fn submitted(&self, durable: Lsn) {
        self.next.set(self.next.get().next());
        self.stated.set(durable);
    }

    /// A commit is durable, and so is everything before it.
    pub(super) fn release(&self, lsn: Lsn, holds_anything: bool) {
        assert!(
            lsn == self.released.get().next(),
            "commits are released in their order"
        );
        self.released.set(lsn);
        if holds_anything {
            self.released_data.set(lsn);
        }
    }

    /// Whether something is acknowledged that nothing on the disk states as durable yet.
    pub(super) fn mark_due(&self) -> bool {
        self.released_data.get() > self.stated.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_due_until_a_commit_states_what_was_released() {
        let progress = CommitProgress::behind(Lsn(6));
        assert!(!progress.mark_due());
        progress.submitted(progress.released());
        progress.release(Lsn(7), true);
        assert!(progress.mark_due());
        progress.submitted(progress.released());
        assert!(!progress.mark_due());
        // The mark itself needs none.
        progress.release(Lsn(8), false);
        assert!(!progress.mark_due());
        assert_eq!(progress.next(), Lsn(9));
    }

    #[test]
    #[should_panic(expected = "in their order")]
    fn a_commit_is_not_released_before_the_one_below_it() {
        let progress = CommitProgress::behind(Lsn(6));
        progress.submitted(Lsn(6));
        progress.submitted(Lsn(6));
        progress.release(Lsn(8), true);
    }
}
