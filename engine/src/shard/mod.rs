//! One core and all that it owns.

mod direct;
mod flush;
pub mod log;
pub mod mail;
pub mod read;
pub mod recover;
mod replay;
pub mod requests;
pub mod room;
#[cfg(test)]
pub(crate) mod sample;
pub mod slot;
pub mod start;
pub mod subscribe;
mod topics;
