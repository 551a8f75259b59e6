//! Descriptors that are held back for the log: whatever connections do, it can open the next file.
//!
//! A process has one table of descriptors, so there is one such store. Connections are only accepted while it is full
//! ([`refill`]); an open for the log that finds the table full takes one out (`with_spares`).

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Descriptors held back. A rotation, a flush and a checkpoint at once on each of a few shards.
pub const SPARES: usize = 8;
/// How often an open is tried again when even the spares are used up: others close what they have read.
const RETRIES: u32 = 100;
const RETRY_PAUSE: Duration = Duration::from_millis(20);

static STORE: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Puts back what is missing.
///
/// # Errors
/// While the process may not have so many.
pub fn refill() -> io::Result<()> {
    let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
    while store.len() < SPARES {
        store.push(File::open("/dev/null")?);
    }
    Ok(())
}

/// The same without ever waiting, for a shard's own thread.
pub(super) fn try_with_spares<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    loop {
        match open() {
            Err(error) if is_out_of_descriptors(&error) => {
                let spare = STORE.lock().unwrap_or_else(PoisonError::into_inner).pop();
                if spare.is_none() {
                    return Err(error);
                }
            }
            other => return other,
        }
    }
}

/// Opens what the log needs, with a spare's place when the table is full. May block: not for a shard's thread.
pub(super) fn with_spares<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut retries = 0;
    loop {
        match open() {
            Err(error) if is_out_of_descriptors(&error) => {
                let spare = STORE.lock().unwrap_or_else(PoisonError::into_inner).pop();
                if spare.is_none() {
                    retries += 1;
                    if retries > RETRIES {
                        return Err(error);
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
            other => return other,
        }
    }
}

/// Whether an operation failed because this process, or the machine, has no more descriptors.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE) | Some(libc::ENFILE)
    )
}
