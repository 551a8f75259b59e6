//! One core and all that it owns.

mod direct;
mod files;
mod flush;
mod forwarded;
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
pub mod sweep;
mod topics;

#[cfg(test)]
mod tests;
