//! The binary `gannet`: see [`gannet_engine::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    gannet_engine::cli::run()
}
