//! End-to-end and crash tests of Gannet.
