//! The simulated disk, clock and executor: one thread, and everything that may vary decided by one seed.
//!
//! # Fault model of [`SimDisk`]
//!
//! **Contents.** A file is blocks of 4096 bytes, each of eight sectors of 512. A sector is never torn; a write is, at
//! every boundary between its sectors. For every block the disk knows what is durable and every version written since.
//! - A completed write is seen by every later read. It is durable once a [`sync`](crate::io::DiskFile::sync) that was
//!   *submitted after the write completed* has completed, or at its own completion under
//!   [`OpenMode::WriteDurable`](crate::io::OpenMode::WriteDurable). A durable write makes only itself durable, never what
//!   others wrote elsewhere.
//! - Length: `allocate` and writes behind the end extend the file; the new length is durable after `sync`, or, up to the
//!   end of the write, with a durable write. What was never written reads as zeros.
//! - Operations complete after a seeded random delay ([`SimDisk::set_latency`]), those in flight in any order. Dropping a
//!   future does not take back what it submitted. Reads and writes of one block that overlap in time happen in either order.
//!
//! **Names.** Creating and removing files becomes durable by `sync_dir` of their directory, as of its submission.
//! `create_dir_all` syncs the names it makes; `remove_dir_all` is durable after `sync_dir` of the parent.
//!
//! **Crash.** [`SimDisk::crash`] takes the power away ([`CrashPolicy`]): every sector that has un-synced versions, those
//! of writes in flight included, keeps the durable one or any of the others, each sector for itself; the length of a file
//! that grew is the old one, the new one or one between; a name that was not synced is there or not, and where a file was
//! replaced, it is the old one, the new one or none. Open files give errors from then on; the same `SimDisk` serves the
//! next life. [`CrashPolicy::ProcessKilled`] keeps the machine alive: nothing completed is lost, writes in flight are torn.
//!
//! **Injected faults**, each once, at the n-th operation on paths that contain a text ([`Fault`]): reads, writes, syncs,
//! opens and directory syncs that fail; writes that are lost or go elsewhere and claim success; a failed sync loses part
//! of what it should have kept, which reads well until the crash, while later syncs succeed. Besides: a capacity
//! ([`SimDisk::set_capacity`]), syncs and durable writes that lie ([`SimDisk::set_lying`]), flipped bits
//! ([`SimDisk::flip_bit`]), sectors that cannot be read until they are written again ([`SimDisk::fail_sector`]).
//!
//! **What it cannot produce:** rot in a block that was never named by the test, a read that returns wrong data once and right
//! data later, names that move between directories (there is no rename), short writes that report success, time that
//! passes inside a task.
//!
//! Everything is ordered (`BTreeMap`, sequence numbers), so the same seed and the same program give the same run.

mod disk;
mod executor;
mod fault;
mod medium;
mod random;
#[cfg(test)]
mod tests;

pub use disk::{SimDisk, SimFile};
pub use executor::{SimClock, SimExecutor, SimSpawn, Stopped};
pub use fault::{CrashPolicy, Damage, Fault, FaultCounts, FaultKind, OpCounts};
pub use random::Random;
