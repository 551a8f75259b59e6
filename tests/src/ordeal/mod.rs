//! What a broker goes through in long runs, and what it must come out of it with. The tests run the short forms, the program `gannet-ordeal` the long ones.

use std::sync::atomic::{AtomicBool, Ordering};

mod clerk;
mod cuts;
mod measure;
mod neighbours;
mod pauses;
mod soak;
mod trial;

pub use clerk::ClerkTotals;
pub use cuts::{Cuts, CutsReport};
pub use neighbours::{Disturbed, Neighbours};
pub use pauses::{Pauses, PausesReport};
pub use soak::{Soak, SoakPart, SoakReport};

/// Tells others to stop, also when what they accompany panics: else nobody would ever hear of it.
struct StopsWhenDropped<'a>(&'a AtomicBool);

impl Drop for StopsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
