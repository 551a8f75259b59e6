//! One core and all that it owns.

mod direct;
mod files;
mod flush;
pub mod log;
pub mod mail;
pub mod read;
pub mod recover;
pub mod requests;
pub mod room;
pub mod slot;
pub mod start;
pub mod subscribe;
mod topics;
