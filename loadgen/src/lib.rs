//! Open-loop load generator and verifier for Gannet.
