//! The simulated disk, clock and executor.
