//! The handles of the simulated disk, and the operations in flight.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::fault::OpKind;
use super::medium::{BLOCK, Inode, Medium};
use super::{
    CrashPolicy, Damage, Fault, FaultCounts, FaultKind, OpCounts, Random, SimClock, SimExecutor,
};
use crate::io::{BLOCK_BYTES, DirEntry, Disk, DiskBuffer, DiskBufferMut, DiskFile, OpenMode};

/// A disk in memory that loses, tears and lies as the [module](super) says. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    world: Rc<World>,
}

/// An open file of a [`SimDisk`]. After a crash of the disk every use of it is an error.
pub struct SimFile {
    world: Rc<World>,
    inode: Inode,
    path: PathBuf,
    mode: OpenMode,
    life: u64,
}

struct World {
    clock: SimClock,
    state: RefCell<State>,
    in_flight: RefCell<BTreeMap<u64, Effect>>,
    next_op: Cell<u64>,
    /// Raised by each crash: handles of an earlier life are dead.
    life: Cell<u64>,
}

struct State {
    medium: Medium,
    random: Random,
    faults: Vec<Fault>,
    counts: OpCounts,
    struck: FaultCounts,
    damages: Vec<Damage>,
    latency: (Duration, Duration),
    lying: bool,
}

/// What an operation does when it ends, and its answer to whom it may still concern.
type Effect = Box<dyn FnOnce(&mut State, Ending)>;

#[derive(Clone, Copy)]
enum Ending {
    Completed,
    /// A crash came first.
    Cut(CrashPolicy),
}

impl SimDisk {
    /// An empty disk in the world of `executor`.
    #[must_use]
    pub fn new(executor: &SimExecutor) -> Self {
        Self::from_state(
            executor,
            State {
                medium: Medium::new(),
                random: executor.fork_random(),
                faults: Vec::new(),
                counts: OpCounts::default(),
                struck: FaultCounts::default(),
                damages: Vec::new(),
                latency: (Duration::from_micros(20), Duration::from_micros(400)),
                lying: false,
            },
        )
    }

    /// A copy, in the world of `executor`, of all that is written and durable now, without operations in flight and
    /// planned faults.
    #[must_use]
    pub fn snapshot(&self, executor: &SimExecutor) -> Self {
        let state = self.world.state.borrow();
        Self::from_state(
            executor,
            State {
                medium: state.medium.clone(),
                random: executor.fork_random(),
                faults: Vec::new(),
                counts: OpCounts::default(),
                struck: FaultCounts::default(),
                damages: Vec::new(),
                latency: state.latency,
                lying: state.lying,
            },
        )
    }

    /// Takes the power away (or kills the process). Drop the tasks first by [`SimExecutor::crash`]; what they opened is dead.
    pub fn crash(&self, policy: CrashPolicy) {
        self.world.life.set(self.world.life.get() + 1);
        let in_flight = self.world.in_flight.take();
        let state = &mut *self.world.state.borrow_mut();
        for effect in in_flight.into_values() {
            effect(state, Ending::Cut(policy));
        }
        state.medium.crash(policy, &mut state.random);
    }

    /// Plans a fault. Several may be planned; each happens once.
    pub fn inject(&self, fault: Fault) {
        self.world.state.borrow_mut().faults.push(fault);
    }

    /// Forgets the faults that have not happened, lets syncs tell the truth, and says how many faults were left.
    pub fn clear_faults(&self) -> usize {
        let mut state = self.world.state.borrow_mut();
        state.lying = false;
        std::mem::take(&mut state.faults).len()
    }

    /// From now on syncs and durable writes claim success and make nothing durable, or no longer do.
    pub fn set_lying(&self, lying: bool) {
        self.world.state.borrow_mut().lying = lying;
    }

    /// The space there is, in bytes; it may shrink below what is used.
    pub fn set_capacity(&self, bytes: u64) {
        self.world.state.borrow_mut().medium.capacity = bytes;
    }

    /// How long operations take: any time between the two, both included.
    pub fn set_latency(&self, from: Duration, to: Duration) {
        assert!(from <= to, "{from:?} is longer than {to:?}");
        self.world.state.borrow_mut().latency = (from, to);
    }

    /// What was asked of the disk so far.
    #[must_use]
    pub fn counts(&self) -> OpCounts {
        self.world.state.borrow().counts
    }

    /// The faults that happened so far.
    #[must_use]
    pub fn faults_struck(&self) -> FaultCounts {
        self.world.state.borrow().struck
    }

    /// The damage that was done so far and that nobody was told of: lost and misdirected writes, flipped bits, sectors that cannot be read any more.
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        self.world.state.borrow().damages.clone()
    }

    /// Operations that were submitted and have not completed.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.world.in_flight.borrow().len()
    }

    /// The contents of a file as a read sees them; `None` when there is no such file, or a part of it cannot be read.
    #[must_use]
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        let medium = &self.world.state.borrow().medium;
        let inode = medium.lookup_file(path).ok()?;
        let mut contents = vec![0; medium.bytes(inode) as usize];
        medium.read(inode, 0, &mut contents).ok()?;
        Some(contents)
    }

    /// Puts a file with these contents, all of it durable, in place of one that may exist.
    ///
    /// # Panics
    /// When `path` is a directory.
    pub fn write_file(&self, path: &Path, contents: &[u8]) {
        let medium = &mut self.world.state.borrow_mut().medium;
        let made = path.parent().map(|parent| medium.create_dirs(parent));
        assert!(!matches!(made, Some(Err(_))), "{path:?} lies in a file");
        let inode = match medium.lookup_file(path) {
            Ok(inode) => inode,
            Err(_) => match medium.create(path) {
                Ok(inode) => inode,
                Err(error) => panic!("{path:?}: {error}"),
            },
        };
        medium.set_length(inode, contents.len() as u64);
        let mut bytes = contents.iter();
        medium.change(
            inode,
            0,
            |byte| *byte = bytes.next().copied().unwrap_or(0),
            contents.len() as u64,
        );
        medium.sync_names(path);
    }

    /// Every file, with its length, in the order of paths.
    #[must_use]
    pub fn list_tree(&self) -> Vec<(PathBuf, u64)> {
        let medium = &self.world.state.borrow().medium;
        let mut files = Vec::new();
        let mut dirs = vec![PathBuf::from("/")];
        while let Some(dir) = dirs.pop() {
            for entry in medium.list(&dir).unwrap_or_default() {
                let path = dir.join(&entry.name);
                if entry.is_dir {
                    dirs.push(path);
                } else {
                    files.push((path, entry.bytes));
                }
            }
        }
        files.sort();
        files
    }

    /// Changes bytes of a file behind everybody's back, durably.
    ///
    /// # Panics
    /// When the file is not there or too short.
    pub fn overwrite(&self, path: &Path, position: u64, bytes: &[u8]) {
        let mut new = bytes.iter();
        self.change(path, position, bytes.len() as u64, |byte| {
            *byte = new.next().copied().unwrap_or(0);
        });
    }

    /// Flips one bit (0 to 7) of a byte, durably.
    ///
    /// # Panics
    /// When the file is not there or too short.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u32) {
        let inode = self.expect_file(path);
        self.world
            .state
            .borrow_mut()
            .note_damage(path, inode, position..position + 1, &[]);
        self.change(path, position, 1, |byte| *byte ^= 1 << bit);
        self.world.state.borrow_mut().struck.flipped_bits += 1;
    }

    /// Makes the 512 bytes around `position` unreadable until they are written again.
    ///
    /// # Panics
    /// When the file is not there.
    pub fn fail_sector(&self, path: &Path, position: u64) {
        let inode = self.expect_file(path);
        let state = &mut *self.world.state.borrow_mut();
        // Nothing smaller than a block can be asked for.
        let block = position / BLOCK * BLOCK;
        state.note_damage(path, inode, block..block + BLOCK, &[]);
        state.medium.fail_sector(inode, position);
        state.struck.failed_sectors += 1;
    }

    /// Cuts or extends a file, durably.
    ///
    /// # Panics
    /// When the file is not there.
    pub fn set_file_bytes(&self, path: &Path, bytes: u64) {
        let inode = self.expect_file(path);
        self.world
            .state
            .borrow_mut()
            .medium
            .set_length(inode, bytes);
    }

    /// Removes a file, durably.
    ///
    /// # Panics
    /// When the file is not there.
    pub fn remove_file(&self, path: &Path) {
        self.expect_file(path);
        let medium = &mut self.world.state.borrow_mut().medium;
        if let Err(error) = medium.remove(path) {
            panic!("{path:?}: {error}");
        }
        medium.sync_names(path);
    }

    /// Makes all that is written durable, names as well.
    pub fn sync_everything(&self) {
        self.world.state.borrow_mut().medium.sync_everything();
    }

    fn from_state(executor: &SimExecutor, state: State) -> Self {
        Self {
            world: Rc::new(World {
                clock: executor.clock(),
                state: RefCell::new(state),
                in_flight: RefCell::default(),
                next_op: Cell::new(0),
                life: Cell::new(0),
            }),
        }
    }

    fn change(&self, path: &Path, position: u64, bytes: u64, with: impl FnMut(&mut u8)) {
        let inode = self.expect_file(path);
        self.world
            .state
            .borrow_mut()
            .medium
            .change(inode, position, with, bytes);
    }

    fn expect_file(&self, path: &Path) -> Inode {
        match self.world.state.borrow().medium.lookup_file(path) {
            Ok(inode) => inode,
            Err(error) => panic!("{path:?}: {error}"),
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn buffer(&self, bytes: usize) -> DiskBufferMut {
        let mut buffer = DiskBufferMut::heap(bytes);
        // Whoever relies on zeros would be wrong on a real disk.
        buffer.fill(GARBAGE);
        buffer
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let life = self.world.life.get();
        let path = path.to_owned();
        let fault = self.world.strike(OpKind::Open, &path);
        self.world.state.borrow_mut().counts.opens += 1;
        let wanted = path.clone();
        let inode = self
            .world
            .submit(move |state, ending| {
                if let Some(FaultKind::Open { errno }) = fault {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                if !state.happens(ending) {
                    return Err(crashed());
                }
                let inode = match mode {
                    OpenMode::CreateNew => state.medium.create(&wanted),
                    OpenMode::Read | OpenMode::Write | OpenMode::WriteDurable => {
                        state.medium.lookup_file(&wanted)
                    }
                }?;
                state.medium.open(inode);
                Ok(inode)
            })
            .await?;
        Ok(SimFile {
            world: Rc::clone(&self.world),
            inode,
            path,
            mode,
            life,
        })
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = dir.to_owned();
        self.world
            .submit(move |state, _| state.medium.list(&dir))
            .await
    }

    async fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        self.world
            .submit(move |state, ending| {
                if !state.happens(ending) {
                    return Err(crashed());
                }
                for changed in state.medium.create_dirs(&dir)? {
                    if matches!(ending, Ending::Completed) && !state.lying {
                        let snapshot = state.medium.dir_snapshot(changed)?;
                        state.medium.dir_sync(snapshot);
                    }
                }
                Ok(())
            })
            .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.world.state.borrow_mut().counts.removes += 1;
        self.world
            .submit(move |state, ending| {
                if !state.happens(ending) {
                    return Err(crashed());
                }
                state.medium.remove(&path)
            })
            .await
    }

    async fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        self.world
            .submit(move |state, ending| {
                if !state.happens(ending) {
                    return Err(crashed());
                }
                match state.medium.remove_dir(&dir) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other,
                }
            })
            .await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let fault = self.world.strike(OpKind::SyncDir, dir);
        let snapshot = {
            let mut state = self.world.state.borrow_mut();
            state.counts.dir_syncs += 1;
            let inode = state.medium.lookup(dir)?;
            state.medium.dir_snapshot(inode)?
        };
        self.world
            .submit(move |state, ending| {
                if fault.is_some() {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                if matches!(ending, Ending::Completed) && !state.lying {
                    state.medium.dir_sync(snapshot);
                }
                Ok(())
            })
            .await
    }

    async fn available_bytes(&self, _dir: &Path) -> io::Result<u64> {
        self.world
            .submit(|state, _| Ok(state.medium.available()))
            .await
    }
}

impl SimFile {
    fn check_alive(&self) -> io::Result<()> {
        if self.life == self.world.life.get() {
            Ok(())
        } else {
            Err(crashed())
        }
    }
}

impl DiskFile for SimFile {
    async fn write_at(&self, position: u64, buffer: &DiskBuffer) -> io::Result<()> {
        self.check_alive()?;
        assert!(
            position.is_multiple_of(BLOCK) && buffer.len().is_multiple_of(BLOCK_BYTES),
            "unaligned write of {} bytes at {position}",
            buffer.len()
        );
        if self.mode == OpenMode::Read {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let fault = self.world.strike(OpKind::Write, &self.path);
        let bytes = buffer.len() as u64;
        {
            let mut state = self.world.state.borrow_mut();
            state.counts.writes += 1;
            state.counts.written_bytes += bytes;
        }
        let (inode, buffer) = (self.inode, buffer.clone());
        let strays = matches!(
            fault,
            Some(FaultKind::LostWrite | FaultKind::MisdirectedWrite { .. })
        );
        let path = strays.then(|| self.path.clone());
        let durable = self.mode == OpenMode::WriteDurable;
        self.world
            .submit(move |state, ending| {
                if let Some(path) = path {
                    state.note_damage(&path, inode, position..position + bytes, &buffer);
                    if let Some(FaultKind::MisdirectedWrite { to_position }) = fault {
                        state.note_damage(&path, inode, to_position..to_position + bytes, &[]);
                        if let Some(damage) = state.damages.last_mut() {
                            damage.strayed = true;
                        }
                    }
                }
                let State { medium, random, .. } = state;
                let position = match fault {
                    Some(FaultKind::LostWrite) => return Ok(()),
                    Some(FaultKind::MisdirectedWrite { to_position }) => to_position,
                    _ => position,
                };
                match ending {
                    Ending::Cut(CrashPolicy::KeepSynced) => return Err(crashed()),
                    Ending::Cut(policy) => {
                        medium.claim(inode, position, bytes)?;
                        if policy == CrashPolicy::ProcessKilled {
                            medium.tear(inode, position, &buffer, random);
                        } else {
                            medium.add_version(inode, position, &buffer);
                        }
                        return Err(crashed());
                    }
                    Ending::Completed => medium.claim(inode, position, bytes)?,
                }
                let failure = match fault {
                    Some(FaultKind::Write) => Some(libc::EIO),
                    Some(FaultKind::WriteNoRoom) => Some(libc::ENOSPC),
                    _ => None,
                };
                if let Some(errno) = failure {
                    medium.tear(inode, position, &buffer, random);
                    return Err(io::Error::from_raw_os_error(errno));
                }
                medium.write(inode, position, &buffer);
                if durable && state.lying {
                    state.struck.lies += 1;
                } else if durable {
                    medium.settle(inode, position, bytes);
                }
                Ok(())
            })
            .await
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<DiskBuffer> {
        self.check_alive()?;
        assert!(
            position.is_multiple_of(BLOCK) && bytes.is_multiple_of(BLOCK_BYTES),
            "unaligned read of {bytes} bytes at {position}"
        );
        let fault = self.world.strike(OpKind::Read, &self.path);
        self.world.state.borrow_mut().counts.reads += 1;
        let inode = self.inode;
        self.world
            .submit(move |state, _| {
                if fault.is_some() {
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                let left = state.medium.bytes(inode).saturating_sub(position);
                if bytes == 0 || left == 0 {
                    return Ok(DiskBuffer::empty());
                }
                // Much more is asked for than most simulated files hold.
                let left = usize::try_from(left).unwrap_or(usize::MAX / 2);
                let mut buffer = DiskBufferMut::heap(bytes.min(left.next_multiple_of(BLOCK_BYTES)));
                let read = state.medium.read(inode, position, &mut buffer)?;
                state.counts.read_bytes += read as u64;
                Ok(buffer.freeze().cut_to(read))
            })
            .await
    }

    async fn sync(&self) -> io::Result<()> {
        self.check_alive()?;
        let fault = self.world.strike(OpKind::Sync, &self.path);
        let inode = self.inode;
        let (until, bytes) = {
            let mut state = self.world.state.borrow_mut();
            state.counts.syncs += 1;
            (state.medium.sequence(), state.medium.bytes(inode))
        };
        self.world
            .submit(move |state, ending| {
                let State { medium, random, .. } = state;
                if matches!(ending, Ending::Cut(_)) {
                    return Err(crashed());
                }
                if fault.is_some() {
                    medium.lose_some(inode, random);
                    return Err(io::Error::from_raw_os_error(libc::EIO));
                }
                if state.lying {
                    state.struck.lies += 1;
                } else {
                    medium.sync(inode, until, bytes);
                }
                Ok(())
            })
            .await
    }

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.check_alive()?;
        let fault = self.world.strike(OpKind::Allocate, &self.path);
        self.world.state.borrow_mut().counts.allocates += 1;
        let inode = self.inode;
        self.world
            .submit(move |state, ending| {
                if fault.is_some() {
                    return Err(io::Error::from_raw_os_error(libc::ENOSPC));
                }
                if !state.happens(ending) {
                    return Err(crashed());
                }
                state.medium.allocate(inode, bytes)
            })
            .await
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.check_alive()?;
        let inode = self.inode;
        self.world
            .submit(move |state, ending| {
                if !state.happens(ending) {
                    return Err(crashed());
                }
                state.medium.truncate(inode, bytes);
                Ok(())
            })
            .await
    }

    async fn bytes(&self) -> io::Result<u64> {
        self.check_alive()?;
        let inode = self.inode;
        self.world
            .submit(move |state, _| Ok(state.medium.bytes(inode)))
            .await
    }

    async fn close(self) -> io::Result<()> {
        self.check_alive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.check_alive().is_ok() {
            self.world.state.borrow_mut().medium.close(self.inode);
        }
    }
}

impl World {
    fn strike(&self, op: OpKind, path: &Path) -> Option<FaultKind> {
        let mut state = self.state.borrow_mut();
        let index = state
            .faults
            .iter_mut()
            .position(|fault| fault.strikes(op, path))?;
        let kind = state.faults.remove(index).kind;
        state.struck.count(kind);
        Some(kind)
    }

    /// Hands an operation to the disk, which completes it after a while even if nobody waits any more.
    async fn submit<T: 'static>(
        self: &Rc<Self>,
        operation: impl FnOnce(&mut State, Ending) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        let answer = Rc::new(Answer {
            result: RefCell::new(None),
            waker: RefCell::new(None),
        });
        let effect: Effect = {
            let answer = Rc::clone(&answer);
            Box::new(move |state, ending| {
                let result = operation(state, ending);
                answer.give(match ending {
                    Ending::Completed => result,
                    Ending::Cut(_) => Err(crashed()),
                });
            })
        };
        let op = self.next_op.get();
        self.next_op.set(op + 1);
        self.in_flight.borrow_mut().insert(op, effect);
        let delay = {
            let mut state = self.state.borrow_mut();
            let (from, to) = state.latency;
            let nanos = state
                .random
                .between(from.as_nanos() as u64, to.as_nanos() as u64);
            Duration::from_nanos(nanos)
        };
        let world = Rc::clone(self);
        self.clock.after(delay, move || world.complete(op));
        std::future::poll_fn(|context| match answer.result.borrow_mut().take() {
            Some(result) => Poll::Ready(result),
            None => {
                *answer.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    fn complete(&self, op: u64) {
        // Gone when a crash cut it.
        let effect = self.in_flight.borrow_mut().remove(&op);
        if let Some(effect) = effect {
            effect(&mut self.state.borrow_mut(), Ending::Completed);
        }
    }
}

impl State {
    /// A stretch is about to be another one than `written`, or than it is if that is empty.
    fn note_damage(&mut self, path: &Path, inode: Inode, bytes: Range<u64>, written: &[u8]) {
        let mut meant = self.medium.contents(inode);
        let start = bytes.start as usize;
        if meant.len() < start + written.len() {
            meant.resize(start + written.len(), 0);
        }
        meant[start..start + written.len()].copy_from_slice(written);
        self.damages.push(Damage {
            path: path.to_owned(),
            bytes,
            meant,
            strayed: false,
        });
    }

    /// Whether a change of names or lengths happens: always when completed, perhaps when cut.
    fn happens(&mut self, ending: Ending) -> bool {
        match ending {
            Ending::Completed | Ending::Cut(CrashPolicy::KeepAll) => true,
            Ending::Cut(CrashPolicy::KeepSynced) => false,
            Ending::Cut(CrashPolicy::Any | CrashPolicy::ProcessKilled) => self.random.chance(1, 2),
        }
    }
}

struct Answer<T> {
    result: RefCell<Option<io::Result<T>>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Answer<T> {
    fn give(&self, result: io::Result<T>) {
        *self.result.borrow_mut() = Some(result);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

fn crashed() -> io::Error {
    io::Error::other("the simulated disk crashed")
}

const GARBAGE: u8 = 0xA5;
