//! What a test may ask the simulated disk to do wrong.

use std::ops::{AddAssign, Range};
use std::path::{Path, PathBuf};

/// What survives when [`SimDisk::crash`](super::SimDisk::crash) takes the power away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPolicy {
    /// Draws how much tends to survive, then decides sector by sector and name by name.
    Any,
    /// Nothing that was not synced.
    KeepSynced,
    /// Everything that was written, the writes in flight included.
    KeepAll,
    /// Not the power fails, only the process: what completed stays, writes in flight are torn.
    ProcessKilled,
}

/// One fault, which happens once.
#[derive(Clone, Debug)]
pub struct Fault {
    pub(super) kind: FaultKind,
    path_contains: String,
    skip: u64,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A read fails with EIO.
    Read,
    /// A write fails with EIO; any part of it may have happened.
    Write,
    /// A write fails with ENOSPC, although its room was reserved, as where room is promised more than once; any part of it may have happened.
    WriteNoRoom,
    /// A write claims success and did nothing.
    LostWrite,
    /// A write claims success and went to another block of the same file.
    MisdirectedWrite {
        /// Where it went, a multiple of 4096.
        to_position: u64,
    },
    /// A sync of a file fails with EIO and loses a part of what was not synced; later ones succeed.
    Sync,
    /// A sync of a directory fails with EIO.
    SyncDir,
    /// Opening or creating a file fails.
    Open {
        /// The raw error, such as `libc::EMFILE`.
        errno: i32,
    },
    /// Reserving space fails with ENOSPC.
    Allocate,
}

/// A stretch of a file that is not what it should be, of which nobody was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The stretch.
    pub bytes: Range<u64>,
    /// What all of the file should have held in that moment.
    pub meant: Vec<u8>,
    /// Whether a write is here that should have gone elsewhere: to the stretch of the damage right before this one.
    pub strayed: bool,
}

/// How many operations of each kind completed, failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct OpCounts {
    pub opens: u64,
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub syncs: u64,
    pub allocates: u64,
    pub dir_syncs: u64,
    pub removes: u64,
}

/// How many faults of each kind happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct FaultCounts {
    pub reads: u64,
    pub writes: u64,
    pub writes_no_room: u64,
    pub lost_writes: u64,
    pub misdirected_writes: u64,
    pub syncs: u64,
    pub dir_syncs: u64,
    pub opens: u64,
    pub allocates: u64,
    /// Syncs and durable writes that made nothing durable and claimed success.
    pub lies: u64,
    pub flipped_bits: u64,
    pub failed_sectors: u64,
}

impl FaultCounts {
    pub(super) fn count(&mut self, kind: FaultKind) {
        *match kind {
            FaultKind::Read => &mut self.reads,
            FaultKind::Write => &mut self.writes,
            FaultKind::WriteNoRoom => &mut self.writes_no_room,
            FaultKind::LostWrite => &mut self.lost_writes,
            FaultKind::MisdirectedWrite { .. } => &mut self.misdirected_writes,
            FaultKind::Sync => &mut self.syncs,
            FaultKind::SyncDir => &mut self.dir_syncs,
            FaultKind::Open { .. } => &mut self.opens,
            FaultKind::Allocate => &mut self.allocates,
        } += 1;
    }
}

impl AddAssign for FaultCounts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            reads,
            writes,
            writes_no_room,
            lost_writes,
            misdirected_writes,
            syncs,
            dir_syncs,
            opens,
            allocates,
            lies,
            flipped_bits,
            failed_sectors,
        } = other;
        self.reads += reads;
        self.writes += writes;
        self.writes_no_room += writes_no_room;
        self.lost_writes += lost_writes;
        self.misdirected_writes += misdirected_writes;
        self.syncs += syncs;
        self.dir_syncs += dir_syncs;
        self.opens += opens;
        self.allocates += allocates;
        self.lies += lies;
        self.flipped_bits += flipped_bits;
        self.failed_sectors += failed_sectors;
    }
}

/// The kinds of operations that a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpKind {
    Read,
    Write,
    Sync,
    SyncDir,
    Open,
    Allocate,
}

impl Fault {
    /// Strikes the next operation that `kind` is about.
    #[must_use]
    pub fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            path_contains: String::new(),
            skip: 0,
        }
    }

    /// Only at paths that contain `text`.
    #[must_use]
    pub fn at(mut self, text: &str) -> Self {
        text.clone_into(&mut self.path_contains);
        self
    }

    /// Lets `operations` that would have been struck pass first.
    #[must_use]
    pub fn after(mut self, operations: u64) -> Self {
        self.skip = operations;
        self
    }

    /// Whether it strikes this operation now; counts it if not.
    pub(super) fn strikes(&mut self, op: OpKind, path: &Path) -> bool {
        let about = match self.kind {
            FaultKind::Read => OpKind::Read,
            FaultKind::Write
            | FaultKind::WriteNoRoom
            | FaultKind::LostWrite
            | FaultKind::MisdirectedWrite { .. } => OpKind::Write,
            FaultKind::Sync => OpKind::Sync,
            FaultKind::SyncDir => OpKind::SyncDir,
            FaultKind::Open { .. } => OpKind::Open,
            FaultKind::Allocate => OpKind::Allocate,
        };
        if about != op || !path.to_string_lossy().contains(&self.path_contains) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        true
    }
}
