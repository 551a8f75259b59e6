//! What a broker goes through in long runs, and what it must come out of it with. The tests run the short forms, the program `gannet-ordeal` the long ones.

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
pub use soak::{Soak, SoakReport};
