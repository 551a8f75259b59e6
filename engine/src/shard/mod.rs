//! One core and all that it owns.

mod direct;
mod flush;
pub mod log;
pub mod read;
pub mod recover;
pub mod slot;
