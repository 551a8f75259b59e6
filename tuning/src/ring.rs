//! Whether this process may use io_uring: asked of the kernel itself, since the runtime ends the process when it may not.
#![allow(
    unsafe_code,
    reason = "io_uring_setup is a system call that rustix leaves unsafe"
)]

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::io_uring::{
    IoringFeatureFlags, IoringOp, IoringRegisterOp, IoringSetupFlags, io_uring_params,
    io_uring_register, io_uring_setup,
};

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

/// What the kernel's io_uring can do of what came after its beginnings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFeatures {
    /// A thread can share its time with its completions instead of being interrupted for each (5.19). `None`: unknown.
    pub cooperative: Option<bool>,
    /// Completions are handed over when their thread asks (6.1).
    pub deferred: Option<bool>,
    /// What is sent need not be copied (6.0).
    pub zero_copy_send: Option<bool>,
    /// A socket that is not ready is waited for without a thread (5.7).
    pub fast_poll: Option<bool>,
    /// Completions that find no room are kept (5.5).
    pub no_drop: Option<bool>,
    /// A thread can wait for completions until a time is over (5.11).
    pub timed_wait: Option<bool>,
}

impl Ring {
    /// Sets a small ring up and takes it down again.
    #[must_use]
    pub fn probe() -> Self {
        match set_up(IoringSetupFlags::empty()) {
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

impl RingFeatures {
    /// Asks the kernel, by rings that are taken down again. Nothing is known where there are none.
    #[must_use]
    pub fn probe() -> Self {
        let Ok((plain, features)) = set_up_featured(IoringSetupFlags::empty()) else {
            return Self::default();
        };
        Self {
            cooperative: is_supported(IoringSetupFlags::COOP_TASKRUN),
            deferred: is_supported(
                IoringSetupFlags::SINGLE_ISSUER | IoringSetupFlags::DEFER_TASKRUN,
            ),
            zero_copy_send: has_operation(&plain, IoringOp::SendZc),
            fast_poll: Some(features.contains(IoringFeatureFlags::FAST_POLL)),
            no_drop: Some(features.contains(IoringFeatureFlags::NODROP)),
            timed_wait: Some(features.contains(IoringFeatureFlags::EXT_ARG)),
        }
    }
}

fn set_up(flags: IoringSetupFlags) -> Result<OwnedFd, Errno> {
    set_up_featured(flags).map(|(ring, _)| ring)
}

/// The ring, and what the kernel says that it can do.
fn set_up_featured(flags: IoringSetupFlags) -> Result<(OwnedFd, IoringFeatureFlags), Errno> {
    let mut params = io_uring_params::default();
    params.flags = flags;
    // SAFETY: but for the flags, none of which names memory or a descriptor, `params` is all zeros, so the kernel is asked to read or map no memory of ours; it writes `params` alone, which
    // outlives the call. Nothing is ever submitted to the ring.
    let ring = unsafe { io_uring_setup(8, &mut params) }?;
    Ok((ring, params.features))
}

/// A kernel that does not know a flag refuses it as invalid; any other refusal says nothing about it.
fn is_supported(flags: IoringSetupFlags) -> Option<bool> {
    match set_up(flags) {
        Ok(_) => Some(true),
        Err(Errno::INVAL) => Some(false),
        Err(_) => None,
    }
}

/// The kernel's answer about operations, `struct io_uring_probe`: 16 bytes, then 8 for each; the flags are 16 bits from the third byte on.
const PROBED_OPERATIONS: usize = 256;
const PROBE_WORDS: usize = 2 + PROBED_OPERATIONS;
const OPERATION_SUPPORTED: u16 = 1;

fn has_operation(ring: &OwnedFd, operation: IoringOp) -> Option<bool> {
    let mut answer = [0_u64; PROBE_WORDS];
    // SAFETY: the kernel writes 16 bytes and 8 for each of `PROBED_OPERATIONS` into `answer`, which has exactly that room, is zero as it demands, and outlives the call; it keeps no pointer to it.
    let asked = unsafe {
        io_uring_register(
            ring,
            IoringRegisterOp::RegisterProbe,
            answer.as_mut_ptr().cast(),
            PROBED_OPERATIONS as u32,
        )
    };
    asked.ok()?;
    let [_, _, low, high, ..] = answer.get(2 + operation as usize)?.to_ne_bytes();
    let flags = u16::from_ne_bytes([low, high]);
    Some(flags & OPERATION_SUPPORTED != 0)
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
    fn where_there_is_a_ring_its_features_are_known() {
        let features = RingFeatures::probe();
        let known = Ring::probe() == Ring::Available;
        assert_eq!(features.cooperative.is_some(), known);
        assert_eq!(features.deferred.is_some(), known);
        // The broker's own runtime does not start without them.
        assert_eq!(features.no_drop, known.then_some(true));
        assert_eq!(features.timed_wait, known.then_some(true));
    }

    #[test]
    fn an_operation_that_every_ring_has_is_found_and_one_beyond_all_is_not() {
        let Ok(ring) = set_up(IoringSetupFlags::empty()) else {
            // Where rings are forbidden there is nothing to ask.
            return;
        };
        assert_eq!(has_operation(&ring, IoringOp::Nop), Some(true));
    }

    #[test]
    fn an_old_kernel_has_none() {
        assert_eq!(Ring::refused(Errno::NOSYS, None), Ring::Missing);
    }
}
