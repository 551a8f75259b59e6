//! What concerns the whole broker: the catalogue of topics, the configuration, the machine it runs on and the budgets that follow
//! from both.

pub mod accept;
pub mod catalogue;
pub mod config;
pub mod machine;
pub mod names;

pub use config::{Config, ConfigError};
pub use machine::{Budgets, Machine};
