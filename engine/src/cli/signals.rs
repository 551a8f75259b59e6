//! SIGTERM and SIGINT, waited for by one thread and blocked in all others: a shard's wait on its ring is never interrupted.

#![allow(
    unsafe_code,
    reason = "the standard library has no way to block or await a signal"
)]

use std::io;
use std::mem::MaybeUninit;

/// The signals that end the broker, blocked in this thread and in every thread started by it from now on.
pub(super) struct StopSignals(libc::sigset_t);

impl StopSignals {
    /// IMPORTANT: call it before any thread is started, or one of them may die of the signal.
    pub(super) fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initializes the set it is given, the others only get an initialized one and signal numbers that
        // exist; a null pointer for the former mask is allowed.
        let (set, refused) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            let mut set = set.assume_init();
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            let refused =
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            (set, refused)
        };
        match refused {
            0 => Ok(Self(set)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Waits for one of them; returns its name.
    pub(super) fn wait(&self) -> io::Result<&'static str> {
        let mut signal = 0;
        // SAFETY: the set was initialized by `block`, and the number is written to a variable that outlives the call.
        let refused = unsafe { libc::sigwait(&raw const self.0, &raw mut signal) };
        match (refused, signal) {
            (0, libc::SIGTERM) => Ok("SIGTERM"),
            (0, _) => Ok("SIGINT"),
            (error, _) => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_waits_until_it_is_waited_for() {
        // In a thread of its own: the mask of the test's runner stays as it is, and the signal goes to this thread alone.
        let name = std::thread::spawn(|| {
            let signals = StopSignals::block().expect("blocked");
            // SAFETY: it sends a signal, which is blocked, to the calling thread.
            let sent = unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) };
            assert_eq!(sent, 0);
            signals.wait().expect("waited")
        })
        .join()
        .expect("the thread lives");
        assert_eq!(name, "SIGTERM");
    }
}
