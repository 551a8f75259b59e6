//! What the simulated disk holds: for every block and name, what is durable and what is only written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::rc::Rc;

use super::{CrashPolicy, Random};
use crate::io::{BLOCK_BYTES, DirEntry};

pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;
const SECTOR_BYTES: usize = 512;
const SECTORS: usize = BLOCK_BYTES / SECTOR_BYTES;

type Data = Rc<[u8; BLOCK_BYTES]>;

/// Names a file or directory for as long as anything refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(u64);

const ROOT: Inode = Inode(0);

/// A place in the order of all changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sequence(u64);

#[derive(Clone)]
pub(super) struct Medium {
    nodes: BTreeMap<Inode, Node>,
    next: u64,
    pub(super) capacity: u64,
    zeros: Data,
}

#[derive(Clone)]
enum Node {
    Dir(Dir),
    File(File),
}

#[derive(Clone, Default)]
struct Dir {
    live: BTreeMap<String, Inode>,
    changed: u64,
    durable: BTreeMap<String, Inode>,
    synced: u64,
}

#[derive(Clone, Default)]
struct File {
    blocks: BTreeMap<u64, Block>,
    bytes: u64,
    bytes_durable: u64,
    /// Blocks below this one are reserved, written or not.
    reserved_blocks: u64,
    handles: u64,
    bad_sectors: BTreeSet<u64>,
}

#[derive(Clone)]
struct Block {
    live: Data,
    durable: Data,
    pending: Vec<(Sequence, Data)>,
}

/// The names of a directory when its sync was submitted.
pub(super) struct DirSnapshot {
    dir: Inode,
    names: BTreeMap<String, Inode>,
    changed: u64,
}

impl Medium {
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::from([(ROOT, Node::Dir(Dir::default()))]),
            next: 1,
            capacity: u64::MAX,
            zeros: Rc::new([0; BLOCK_BYTES]),
        }
    }

    pub(super) fn sequence(&mut self) -> Sequence {
        self.next += 1;
        Sequence(self.next)
    }

    // Names

    pub(super) fn lookup(&self, path: &Path) -> io::Result<Inode> {
        let mut at = ROOT;
        for name in names(path) {
            at = *self
                .dir(at)?
                .live
                .get(&name)
                .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        }
        Ok(at)
    }

    pub(super) fn lookup_file(&self, path: &Path) -> io::Result<Inode> {
        let inode = self.lookup(path)?;
        match self.nodes.get(&inode) {
            Some(Node::File(_)) => Ok(inode),
            _ => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        }
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Inode> {
        let (parent, name) = self.parent(path)?;
        if self.dir(parent)?.live.contains_key(&name) {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        self.add(parent, name, Node::File(File::default()))
    }

    /// Makes the directories of `path`, and returns those whose names changed.
    pub(super) fn create_dirs(&mut self, path: &Path) -> io::Result<Vec<Inode>> {
        let mut changed = Vec::new();
        let mut at = ROOT;
        for name in names(path) {
            at = match self.dir(at)?.live.get(&name) {
                Some(&inode) => inode,
                None => {
                    changed.push(at);
                    self.add(at, name, Node::Dir(Dir::default()))?
                }
            };
        }
        self.dir(at)?;
        Ok(changed)
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.lookup_file(path)?;
        self.unlink(path)
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.lookup(path)?;
        if inode == ROOT {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        self.dir(inode)?;
        self.clear_dir(inode);
        self.unlink(path)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.dir(self.lookup(path)?)?;
        Ok(dir
            .live
            .iter()
            .map(|(name, inode)| match self.nodes.get(inode) {
                Some(Node::File(file)) => DirEntry {
                    name: name.clone(),
                    is_dir: false,
                    bytes: file.bytes,
                },
                _ => DirEntry {
                    name: name.clone(),
                    is_dir: true,
                    bytes: 0,
                },
            })
            .collect())
    }

    pub(super) fn dir_snapshot(&self, dir: Inode) -> io::Result<DirSnapshot> {
        let found = self.dir(dir)?;
        Ok(DirSnapshot {
            dir,
            names: found.live.clone(),
            changed: found.changed,
        })
    }

    pub(super) fn dir_sync(&mut self, mut snapshot: DirSnapshot) {
        // Made and removed while the sync was under way: the removal is in it.
        snapshot
            .names
            .retain(|_, inode| self.nodes.contains_key(inode));
        if let Some(Node::Dir(dir)) = self.nodes.get_mut(&snapshot.dir) {
            // Two syncs may complete in the other order.
            if snapshot.changed >= dir.synced {
                dir.synced = snapshot.changed;
                dir.durable = snapshot.names;
            }
        }
        self.collect();
    }

    // Handles

    pub(super) fn open(&mut self, inode: Inode) {
        if let Some(file) = self.file_mut(inode) {
            file.handles += 1;
        }
    }

    pub(super) fn close(&mut self, inode: Inode) {
        if let Some(file) = self.file_mut(inode) {
            file.handles = file.handles.saturating_sub(1);
        }
        self.collect();
    }

    // Contents

    pub(super) fn bytes(&self, inode: Inode) -> u64 {
        self.file(inode).map_or(0, |file| file.bytes)
    }

    /// All of a file, unreadable sectors included.
    pub(super) fn contents(&self, inode: Inode) -> Vec<u8> {
        let Some(file) = self.file(inode) else {
            return Vec::new();
        };
        let mut contents = vec![0; file.bytes as usize];
        file.copy_to(0, &mut contents);
        contents
    }

    pub(super) fn read(&self, inode: Inode, position: u64, out: &mut [u8]) -> io::Result<usize> {
        let Some(file) = self.file(inode) else {
            return Ok(0);
        };
        let bytes = file.bytes.saturating_sub(position).min(out.len() as u64);
        let sectors =
            position / SECTOR_BYTES as u64..(position + bytes).div_ceil(SECTOR_BYTES as u64);
        if !sectors.is_empty() && file.bad_sectors.range(sectors).next().is_some() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        file.copy_to(position, &mut out[..bytes as usize]);
        Ok(bytes as usize)
    }

    /// Claims space for a write and extends the file.
    pub(super) fn claim(&mut self, inode: Inode, position: u64, bytes: u64) -> io::Result<()> {
        let Some(file) = self.file(inode) else {
            return Ok(());
        };
        let first = (position / BLOCK).max(file.reserved_blocks);
        let end = (position + bytes).div_ceil(BLOCK);
        let new =
            end.saturating_sub(first) - file.blocks.range(first..end.max(first)).count() as u64;
        self.check_capacity(new)?;
        let zeros = Rc::clone(&self.zeros);
        if let Some(file) = self.file_mut(inode) {
            file.bytes = file.bytes.max(position + bytes);
            for index in position / BLOCK..end {
                file.blocks
                    .entry(index)
                    .or_insert_with(|| Block::new(&zeros));
            }
        }
        Ok(())
    }

    /// Puts aligned `data` to claimed blocks, durable only after a sync.
    pub(super) fn write(&mut self, inode: Inode, position: u64, data: &[u8]) {
        let sequence = self.sequence();
        let versions = self.share(data);
        let Some(file) = self.file_mut(inode) else {
            return;
        };
        for (index, data) in (position / BLOCK..).zip(versions) {
            for sector in 0..SECTORS as u64 {
                file.bad_sectors.remove(&(index * SECTORS as u64 + sector));
            }
            if let Some(block) = file.blocks.get_mut(&index) {
                block.live = Rc::clone(&data);
                block.pending.push((sequence, data));
            }
        }
    }

    /// Makes the blocks of a write durable, and the length up to its end.
    pub(super) fn settle(&mut self, inode: Inode, position: u64, bytes: u64) {
        if let Some(file) = self.file_mut(inode) {
            file.bytes_durable = file.bytes_durable.max(position + bytes);
            let blocks = position / BLOCK..(position + bytes).div_ceil(BLOCK);
            for (_, block) in file.blocks.range_mut(blocks) {
                block.settle(|_| true);
            }
        }
    }

    /// A write that was cut: any of its sectors may have happened. The reader sees what did.
    pub(super) fn tear(&mut self, inode: Inode, position: u64, data: &[u8], random: &mut Random) {
        let sequence = self.sequence();
        let Some(file) = self.file_mut(inode) else {
            return;
        };
        for (index, new) in (position / BLOCK..).zip(data.chunks_exact(BLOCK_BYTES)) {
            if let Some(block) = file.blocks.get_mut(&index) {
                let mut mixed = *block.live;
                for (into, from) in mixed
                    .chunks_exact_mut(SECTOR_BYTES)
                    .zip(new.chunks_exact(SECTOR_BYTES))
                {
                    if random.chance(1, 2) {
                        into.copy_from_slice(from);
                    }
                }
                let mixed = Rc::new(mixed);
                block.live = Rc::clone(&mixed);
                block.pending.push((sequence, mixed));
            }
        }
    }

    /// A write in flight when the power went: one more version that each sector may keep.
    pub(super) fn add_version(&mut self, inode: Inode, position: u64, data: &[u8]) {
        let live: Vec<_> = (position / BLOCK..)
            .take(data.len() / BLOCK_BYTES)
            .map(|index| {
                self.file(inode)?
                    .blocks
                    .get(&index)
                    .map(|block| Rc::clone(&block.live))
            })
            .collect();
        self.write(inode, position, data);
        if let Some(file) = self.file_mut(inode) {
            for (index, live) in (position / BLOCK..).zip(live) {
                if let (Some(block), Some(live)) = (file.blocks.get_mut(&index), live) {
                    block.live = live;
                }
            }
        }
    }

    pub(super) fn allocate(&mut self, inode: Inode, bytes: u64) -> io::Result<()> {
        let Some(file) = self.file(inode) else {
            return Ok(());
        };
        let (first, end) = (file.reserved_blocks, bytes.div_ceil(BLOCK));
        if end > first {
            let new = end - first - file.blocks.range(first..end).count() as u64;
            self.check_capacity(new)?;
        }
        if let Some(file) = self.file_mut(inode) {
            file.reserved_blocks = file.reserved_blocks.max(end);
            file.bytes = file.bytes.max(bytes);
        }
        Ok(())
    }

    /// Cuts a file. That a crash may bring the length back shows nothing that was not there before, and is left out.
    pub(super) fn truncate(&mut self, inode: Inode, bytes: u64) {
        if let Some(file) = self.file_mut(inode)
            && bytes < file.bytes
        {
            file.cut(bytes);
            file.bytes = bytes;
            file.bytes_durable = file.bytes_durable.min(bytes);
            file.reserved_blocks = file.reserved_blocks.min(bytes.div_ceil(BLOCK));
        }
    }

    /// Makes durable what was written up to `until`, and the length that the file had then.
    pub(super) fn sync(&mut self, inode: Inode, until: Sequence, bytes: u64) {
        if let Some(file) = self.file_mut(inode) {
            file.bytes_durable = file.bytes_durable.max(bytes);
            for block in file.blocks.values_mut() {
                block.settle(|sequence| sequence <= until);
            }
        }
    }

    /// A failed sync: some of what it should have made durable never will be, though it still reads well.
    pub(super) fn lose_some(&mut self, inode: Inode, random: &mut Random) {
        if let Some(file) = self.file_mut(inode) {
            for block in file.blocks.values_mut() {
                if !block.pending.is_empty() && random.chance(1, 2) {
                    block.pending.clear();
                }
            }
        }
    }

    // What a test does behind the broker's back

    /// Changes bytes where they are, durable and not; the file is long enough.
    pub(super) fn change(
        &mut self,
        inode: Inode,
        position: u64,
        mut with: impl FnMut(&mut u8),
        bytes: u64,
    ) {
        let zeros = Rc::clone(&self.zeros);
        let Some(file) = self.file_mut(inode) else {
            return;
        };
        assert!(
            position + bytes <= file.bytes,
            "byte {} is behind the end of the file, {}",
            position + bytes,
            file.bytes
        );
        for at in position..position + bytes {
            let block = file
                .blocks
                .entry(at / BLOCK)
                .or_insert_with(|| Block::new(&zeros));
            let within = (at % BLOCK) as usize;
            // Changed once and shared: `with` may be different at each call.
            let mut byte = block.live[within];
            with(&mut byte);
            Rc::make_mut(&mut block.live)[within] = byte;
            block.durable = Rc::clone(&block.live);
            block.pending.clear();
        }
    }

    pub(super) fn set_length(&mut self, inode: Inode, bytes: u64) {
        if let Some(file) = self.file_mut(inode) {
            file.cut(bytes);
            file.bytes = bytes;
            file.bytes_durable = bytes;
        }
    }

    pub(super) fn fail_sector(&mut self, inode: Inode, position: u64) {
        if let Some(file) = self.file_mut(inode) {
            file.bad_sectors.insert(position / SECTOR_BYTES as u64);
        }
    }

    /// Makes the names along `path` durable.
    pub(super) fn sync_names(&mut self, path: &Path) {
        for dir in path.ancestors().skip(1) {
            let snapshot = self.lookup(dir).and_then(|inode| self.dir_snapshot(inode));
            if let Ok(snapshot) = snapshot {
                self.dir_sync(snapshot);
            }
        }
    }

    pub(super) fn sync_everything(&mut self) {
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => {
                    dir.durable.clone_from(&dir.live);
                    dir.synced = dir.changed;
                }
                Node::File(file) => {
                    file.bytes_durable = file.bytes;
                    for block in file.blocks.values_mut() {
                        block.settle(|_| true);
                    }
                }
            }
        }
        self.collect();
    }

    pub(super) fn available(&self) -> u64 {
        self.capacity.saturating_sub(self.used_blocks() * BLOCK)
    }

    // Crash

    pub(super) fn crash(&mut self, policy: CrashPolicy, random: &mut Random) {
        if policy == CrashPolicy::ProcessKilled {
            // What was written and not synced stays so: the power may still fail later.
            for node in self.nodes.values_mut() {
                if let Node::File(file) = node {
                    file.handles = 0;
                }
            }
            self.collect();
            return;
        }
        let mut survival = Survival::draw(policy, random);
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir(dir) => dir.crash(&mut survival),
                Node::File(file) => {
                    file.handles = 0;
                    file.crash(&mut survival);
                }
            }
        }
        self.collect();
    }

    // Details

    fn add(&mut self, parent: Inode, name: String, node: Node) -> io::Result<Inode> {
        self.next += 1;
        let (inode, changed) = (Inode(self.next), self.next);
        self.nodes.insert(inode, node);
        let dir = self.dir_mut(parent)?;
        dir.live.insert(name, inode);
        dir.changed = changed;
        Ok(inode)
    }

    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let changed = self.sequence().0;
        let dir = self.dir_mut(parent)?;
        dir.live.remove(&name);
        dir.changed = changed;
        self.collect();
        Ok(())
    }

    fn clear_dir(&mut self, inode: Inode) {
        let changed = self.sequence().0;
        let Ok(dir) = self.dir_mut(inode) else {
            return;
        };
        dir.changed = changed;
        for child in std::mem::take(&mut dir.live).into_values() {
            self.clear_dir(child);
        }
    }

    fn parent(&self, path: &Path) -> io::Result<(Inode, String)> {
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let name = names(path).last();
        let name = name.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let inode = self.lookup(parent)?;
        self.dir(inode)?;
        Ok((inode, name))
    }

    fn dir(&self, inode: Inode) -> io::Result<&Dir> {
        match self.nodes.get(&inode) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        }
    }

    fn dir_mut(&mut self, inode: Inode) -> io::Result<&mut Dir> {
        match self.nodes.get_mut(&inode) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
        }
    }

    fn file(&self, inode: Inode) -> Option<&File> {
        match self.nodes.get(&inode) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn file_mut(&mut self, inode: Inode) -> Option<&mut File> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    /// One allocation a block; all-zero blocks share one, so that pre-written files cost little.
    fn share(&self, data: &[u8]) -> Vec<Data> {
        data.chunks_exact(BLOCK_BYTES)
            .map(|chunk| {
                if *chunk == *self.zeros {
                    return Rc::clone(&self.zeros);
                }
                let mut block = [0; BLOCK_BYTES];
                block.copy_from_slice(chunk);
                Rc::new(block)
            })
            .collect()
    }

    fn check_capacity(&self, new_blocks: u64) -> io::Result<()> {
        if new_blocks > 0 && self.capacity != u64::MAX && new_blocks * BLOCK > self.available() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        Ok(())
    }

    fn used_blocks(&self) -> u64 {
        let mut named = BTreeSet::new();
        self.reach(ROOT, &mut named, |dir| dir.live.values().copied().collect());
        self.nodes
            .iter()
            .filter_map(|(inode, node)| match node {
                Node::File(file) if file.handles > 0 || named.contains(inode) => Some(
                    file.reserved_blocks + file.blocks.range(file.reserved_blocks..).count() as u64,
                ),
                _ => None,
            })
            .sum()
    }

    /// Forgets what no name, durable or not, and no handle refers to.
    fn collect(&mut self) {
        let mut kept = BTreeSet::new();
        self.reach(ROOT, &mut kept, |dir| {
            dir.live
                .values()
                .chain(dir.durable.values())
                .copied()
                .collect()
        });
        self.nodes.retain(|inode, node| {
            kept.contains(inode) || matches!(node, Node::File(file) if file.handles > 0)
        });
    }

    fn reach(&self, from: Inode, into: &mut BTreeSet<Inode>, children: fn(&Dir) -> Vec<Inode>) {
        if !self.nodes.contains_key(&from) || !into.insert(from) {
            return;
        }
        if let Ok(dir) = self.dir(from) {
            for child in children(dir) {
                self.reach(child, into, children);
            }
        }
    }
}

impl Dir {
    fn crash(&mut self, survival: &mut Survival<'_>) {
        let mut left = BTreeMap::new();
        let all: BTreeSet<_> = self
            .live
            .keys()
            .chain(self.durable.keys())
            .cloned()
            .collect();
        for name in all {
            let versions = (self.durable.get(&name), self.live.get(&name));
            let kept = match versions {
                (Some(durable), Some(live)) if durable == live => Some(*durable),
                (durable, live) if survival.survives() => {
                    // Removed and made again: the removal alone may have become durable.
                    if durable.is_some() && live.is_some() && survival.partly() {
                        None
                    } else {
                        live.copied()
                    }
                }
                (durable, _) => durable.copied(),
            };
            if let Some(inode) = kept {
                left.insert(name, inode);
            }
        }
        self.durable.clone_from(&left);
        self.live = left;
        self.synced = self.changed;
    }
}

impl File {
    /// Copies what is there now from `position` on; zeros where nothing was written.
    fn copy_to(&self, position: u64, out: &mut [u8]) {
        out.fill(0);
        let (mut at, end) = (position, position + out.len() as u64);
        while at < end {
            let within = (at % BLOCK) as usize;
            let count = (BLOCK_BYTES - within).min((end - at) as usize);
            if let Some(block) = self.blocks.get(&(at / BLOCK)) {
                let start = (at - position) as usize;
                out[start..start + count].copy_from_slice(&block.live[within..within + count]);
            }
            at += count as u64;
        }
    }

    fn crash(&mut self, survival: &mut Survival<'_>) {
        let bytes = if self.bytes > self.bytes_durable && survival.survives() {
            if survival.partly() {
                let blocks = (self.bytes - self.bytes_durable) / BLOCK;
                self.bytes_durable + survival.random.between(0, blocks) * BLOCK
            } else {
                self.bytes
            }
        } else {
            self.bytes_durable
        };
        self.cut(bytes);
        self.bytes = bytes;
        self.bytes_durable = bytes;
        for block in self.blocks.values_mut() {
            block.crash(survival);
        }
    }

    fn cut(&mut self, bytes: u64) {
        let end = bytes.div_ceil(BLOCK);
        self.blocks.retain(|index, _| *index < end);
        self.reserved_blocks = self.reserved_blocks.min(end);
    }
}

impl Block {
    fn new(zeros: &Data) -> Self {
        Self {
            live: Rc::clone(zeros),
            durable: Rc::clone(zeros),
            pending: Vec::new(),
        }
    }

    fn settle(&mut self, covered: impl Fn(Sequence) -> bool) {
        let count = self
            .pending
            .iter()
            .take_while(|(sequence, _)| covered(*sequence))
            .count();
        if let Some((_, data)) = self.pending.drain(..count).next_back() {
            self.durable = data;
        }
    }

    fn crash(&mut self, survival: &mut Survival<'_>) {
        if !self.pending.is_empty() {
            let mut mixed = *self.durable;
            for (sector, into) in mixed.chunks_exact_mut(SECTOR_BYTES).enumerate() {
                if survival.survives() {
                    let version = survival.version(self.pending.len());
                    let start = sector * SECTOR_BYTES;
                    into.copy_from_slice(&self.pending[version].1[start..start + SECTOR_BYTES]);
                }
            }
            self.durable = Rc::new(mixed);
        }
        self.pending.clear();
        self.live = Rc::clone(&self.durable);
    }
}

/// The dice of one crash.
struct Survival<'a> {
    policy: CrashPolicy,
    /// How many in a hundred un-synced things survive.
    percent: u64,
    random: &'a mut Random,
}

impl<'a> Survival<'a> {
    fn draw(policy: CrashPolicy, random: &'a mut Random) -> Self {
        let percent = match policy {
            CrashPolicy::KeepSynced => 0,
            CrashPolicy::KeepAll | CrashPolicy::ProcessKilled => 100,
            // The extremes often, since a fair coin for each sector never shows them.
            CrashPolicy::Any => [0, 5, 50, 95, 100][random.index(5)],
        };
        Self {
            policy,
            percent,
            random,
        }
    }

    /// Whether something that was not synced is kept.
    fn survives(&mut self) -> bool {
        self.random.chance(self.percent, 100)
    }

    /// Whether something that happened in steps got only part of the way.
    fn partly(&mut self) -> bool {
        self.policy == CrashPolicy::Any && self.random.chance(1, 2)
    }

    fn version(&mut self, versions: usize) -> usize {
        if self.policy == CrashPolicy::Any {
            self.random.index(versions)
        } else {
            versions - 1
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = String> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    })
}
