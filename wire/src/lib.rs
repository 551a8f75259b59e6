//! The batch format, the native protocol and the client of the Gannet message broker.
//!
//! The bytes are specified in `wire/PROTOCOL.md`, so that a client can be written in another language.

pub mod batch;
pub mod client;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;

pub use error::{ErrorBody, ErrorCode, Fault, Retry};
pub use ids::*;
