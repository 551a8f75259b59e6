//! Whether somebody still reads what is printed.

#![allow(
    unsafe_code,
    reason = "the standard library has no way to ask for the state of a descriptor"
)]

use std::os::fd::{AsFd, AsRawFd as _};

/// Whether the other end of a pipe or a socket is closed. A command that has nothing to write would not notice it.
pub(super) fn reader_left(output: &impl AsFd) -> bool {
    let mut asked = libc::pollfd {
        fd: output.as_fd().as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: one entry, which outlives the call; it does not wait.
    let answered = unsafe { libc::poll(&raw mut asked, 1, 0) };
    answered == 1 && asked.revents & libc::POLLERR != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_has_a_reader_until_it_is_closed() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        assert!(!reader_left(&writer));
        drop(reader);
        assert!(reader_left(&writer));
    }
}
