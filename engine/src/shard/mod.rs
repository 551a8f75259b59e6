//! One core and all that it owns.

mod append;
mod arrivals;
mod catalogue_changes;
mod commit_encoding;
mod commit_progress;
mod commits;
mod completion;
mod direct;
mod disk_room;
mod expiries;
mod files;
mod flush;
pub mod forwarded;
mod gathering;
mod group_offsets;
mod housekeeping;
pub mod log;
mod log_config;
pub mod mail;
mod merge;
mod on_their_way;
mod pending;
mod producer_ids;
mod questions;
pub mod read;
mod recent;
pub mod recover;
mod remote_peers;
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
mod topic_table;
mod topics;

#[cfg(test)]
mod tests;
