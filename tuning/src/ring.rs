//! Whether this process may use io_uring: asked of the kernel itself, since the runtime ends the process when it may not.
#![allow(
    unsafe_code,
    reason = "io_uring_setup is a system call that rustix leaves unsafe"
)]

use rustix::io::Errno;
use rustix::io_uring::{io_uring_params, io_uring_setup};

const SYSCTL: &str = "/proc/sys/kernel/io_uring_disabled";

/// Whether this process may use io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// It may.
    Available,
    /// The kernel has none.
    Missing,
    /// The administrator has switched it off with `kernel.io_uring_disabled`.
    SwitchedOff,
    /// Something else forbids it, in a container most often its seccomp profile.
    Forbidden,
    /// Too little memory may be locked.
    LockedMemory,
    /// Another error.
    Other(i32),
}

impl Ring {
    /// Sets a small ring up and takes it down again.
    #[must_use]
    pub fn probe() -> Self {
        let mut params = io_uring_params::default();
        // SAFETY: `params` is all zeros, so the kernel is asked to read or map no memory of ours; it writes `params` alone, which outlives the call. The ring's descriptor is owned and closed at once,
        // and nothing is ever submitted to it.
        let ring = unsafe { io_uring_setup(8, &mut params) };
        match ring {
            Ok(_) => Self::Available,
            Err(errno) => Self::refused(errno, std::fs::read_to_string(SYSCTL).ok().as_deref()),
        }
    }

    fn refused(errno: Errno, sysctl: Option<&str>) -> Self {
        match errno {
            Errno::NOSYS => Self::Missing,
            Errno::PERM | Errno::ACCESS => match sysctl.map(str::trim) {
                None | Some("0") => Self::Forbidden,
                Some(_) => Self::SwitchedOff,
            },
            Errno::NOMEM => Self::LockedMemory,
            other => Self::Other(other.raw_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_with_the_sysctl_set_is_the_administrators() {
        assert_eq!(Ring::refused(Errno::PERM, Some("2\n")), Ring::SwitchedOff);
    }

    #[test]
    fn a_refusal_without_the_sysctl_is_a_sandboxs() {
        assert_eq!(Ring::refused(Errno::PERM, Some("0\n")), Ring::Forbidden);
        assert_eq!(Ring::refused(Errno::PERM, None), Ring::Forbidden);
    }

    #[test]
    fn an_old_kernel_has_none() {
        assert_eq!(Ring::refused(Errno::NOSYS, None), Ring::Missing);
    }
}
