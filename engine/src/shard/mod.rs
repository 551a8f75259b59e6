//! One core and all that it owns.

mod append;
mod arrivals;
mod commit_encoding;
mod commit_progress;
mod commits;
mod completion;
mod direct;
mod disk_room;
mod expiries;
mod files;
mod flush;
mod forwarded;
mod housekeeping;
pub mod log;
mod log_config;
pub mod mail;
mod merge;
mod on_their_way;
mod pending;
pub mod read;
mod recent;
pub mod recover;
mod replay;
pub mod requests;
pub mod room;
#[cfg(test)]
pub(crate) mod sample;
mod segment_claims;
mod segments;
pub mod slot;
pub mod start;
pub mod subscribe;
pub mod sweep;
mod topics;

#[cfg(test)]
mod tests;
