//! Memory of what is being written: it waits no more, and is not in the tail yet.

use std::cell::Cell;
use std::rc::Rc;

/// Counts bytes in commits and chunks that are on their way to the disk.
#[derive(Default)]
pub(super) struct OnTheirWay(Rc<Cell<u64>>);

/// Bytes that are counted until this is dropped, whatever becomes of them.
pub(super) struct OnItsWay {
    all: Rc<Cell<u64>>,
    bytes: u64,
}

impl OnTheirWay {
    /// All of them.
    pub(super) fn bytes(&self) -> u64 {
        self.0.get()
    }

    /// Counts so many more.
    pub(super) fn hold(&self, bytes: u64) -> OnItsWay {
        self.0.set(self.0.get() + bytes);
        OnItsWay {
            all: self.0.clone(),
            bytes,
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}
