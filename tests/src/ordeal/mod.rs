//! What a broker goes through in long runs, and what it must come out of it with. The tests run the short forms, the program `gannet-ordeal` the long ones.

mod cuts;
mod pauses;
mod trial;

pub use cuts::{Cuts, CutsReport};
pub use pauses::{Pauses, PausesReport};
