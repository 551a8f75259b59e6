//! What concerns the whole broker: the catalogue of topics and the configuration.

pub mod catalogue;
