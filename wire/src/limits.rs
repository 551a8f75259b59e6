//! Limits of the formats.
