//! The Gannet message broker as a library: start an engine on a data directory, stop it cleanly.
//!
//! The folders are the architecture; `ARCHITECTURE.md` has a line for each.

pub mod cli;
pub mod control;
pub mod cursor;
mod engine;
pub mod gateway;
pub mod io;
pub mod limits;
pub mod partition;
pub mod shard;
pub mod storage;

pub use engine::{Engine, EngineError, StartError, Stopper};
