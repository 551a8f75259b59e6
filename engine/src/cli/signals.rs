//! SIGTERM and SIGINT, waited for by one thread and blocked in all others: a shard's wait on its ring is never interrupted, and a
//! publishing command can say how far it came.

#![allow(
    unsafe_code,
    reason = "the standard library has no way to block or await a signal"
)]

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// The signals that end the program, blocked in this thread and in every thread started by it from now on.
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
            (0, signal) => Ok(name_of(signal)),
            (error, _) => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl StopSignals {
    /// Waits for one of them for a while; `None` when none came.
    pub(super) fn wait_for(&self, timeout: Duration) -> io::Result<Option<&'static str>> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: the set was initialized by `block`, the timeout outlives the call, and a null pointer for the particulars is allowed.
        let signal = unsafe {
            libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), &raw const timeout)
        };
        if signal >= 0 {
            return Ok(Some(name_of(signal)));
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        }
    }
}

fn name_of(signal: libc::c_int) -> &'static str {
    match signal {
        libc::SIGTERM => "SIGTERM",
        _ => "SIGINT",
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

    #[test]
    fn a_wait_for_a_while_ends_without_a_signal_or_with_one() {
        let waited = std::thread::spawn(|| {
            let signals = StopSignals::block().expect("blocked");
            let none = signals.wait_for(Duration::from_millis(1)).expect("waited");
            // SAFETY: it sends a signal, which is blocked, to the calling thread.
            let sent = unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGINT) };
            assert_eq!(sent, 0);
            let one = signals.wait_for(Duration::from_secs(60)).expect("waited");
            (none, one)
        })
        .join()
        .expect("the thread lives");
        assert_eq!(waited, (None, Some("SIGINT")));
    }
}
