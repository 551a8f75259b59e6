//! The binary `gannet`: see [`gannet_engine::cli`].

use std::process::ExitCode;

/// Every commit takes and gives back a large aligned buffer: the system's allocator answers that by growing and trimming its heap
/// with a system call or two each time, this one does not.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gannet_engine::cli::run()
}
