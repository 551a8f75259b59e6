//! The real disk and clock, on io_uring by glommio.
