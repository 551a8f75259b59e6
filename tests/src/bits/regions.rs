//! What every byte of a data directory is, and what its damage may cost at most.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use gannet_engine::control::catalogue::{Catalogue, CatalogueState};
use gannet_engine::cursor::CommittedOffset;
use gannet_engine::io::BLOCK_BYTES;
use gannet_engine::io::sim::{SimDisk, SimExecutor};
use gannet_engine::storage::checkpoint::CheckpointState;
use gannet_engine::storage::commit::{
    CommitHead, DirectoryCopy, ENTRY_BYTES, Entry, EntryKind, HEAD_BYTES,
};
use gannet_engine::storage::index::SegmentIndex;
use gannet_engine::storage::journal_file::{FIRST_COMMIT_POSITION, HeaderState, JournalHeader};
use gannet_engine::storage::layout::{
    CATALOGUE_NAME, CHECKPOINT_NAME, DataDir, FilePlace, INDEX_SUFFIX, JOURNAL_SUFFIX,
    SEGMENT_SUFFIX,
};
use gannet_engine::storage::record_log::RecordLog;
use gannet_engine::storage::segment::{Framed, Run, aligned_bytes, frame_at, header_at};
use gannet_engine::storage::{Generation, Lsn, PartitionKey};
use gannet_wire::ShardIndex;
use gannet_wire::batch::BATCH_HEADER_BYTES;

use super::sample::Truth;

/// A stretch of a file that is one thing.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) path: PathBuf,
    pub(super) bytes: Range<u64>,
    /// What it is, for the table: many regions share a name.
    pub(super) what: String,
    pub(super) weight: Weight,
    pub(super) cost: Cost,
}

/// How thoroughly a region is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// What says where, whose and how much things are.
    Vital,
    /// The last commits, which no mark proves.
    Last,
    /// Records.
    Body,
    /// What nothing says anything about.
    Filler,
}

/// What a flipped bit of a region must cost: exactly this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Nothing at all: it is filler, or what segments have, or another copy has.
    Nothing,
    /// Nothing: the commit is damaged and all its entries are salvaged, and its file is kept.
    Salvage,
    /// Nothing: the index is made again.
    Rebuild,
    /// These records, which are fenced.
    Records(PartitionKey, Range<u64>),
    /// What a group committed last.
    Group(PartitionKey, String),
    /// The journal ends before this commit, which no mark has proven: these partitions end earlier, these groups have committed less.
    Tail {
        ends: BTreeMap<PartitionKey, u64>,
        groups: BTreeSet<(PartitionKey, String)>,
    },
}

/// The regions of all files, and what the directory says of itself.
pub(super) fn regions(disk: &SimDisk, truth: &Truth) -> Vec<Region> {
    let map = Map::of(disk, truth);
    let mut regions = Vec::new();
    for (path, bytes) in disk.list_tree() {
        if bytes == 0 {
            continue;
        }
        let contents = disk.read_file(&path).expect("it was just listed");
        let name = path.to_string_lossy().into_owned();
        let mut marks = Marks::new(&path);
        if name.ends_with(JOURNAL_SUFFIX) {
            map.journal(&contents, &mut marks);
        } else if name.ends_with(SEGMENT_SUFFIX) {
            map.segment(&path, &contents, &mut marks);
        } else if name.ends_with(INDEX_SUFFIX) {
            index(&contents, &mut marks);
        } else {
            let of = [CATALOGUE_NAME, CHECKPOINT_NAME]
                .into_iter()
                .find(|of| name.contains(&format!("/{of}-")))
                .unwrap_or_else(|| panic!("nobody knows what {name} is"));
            let of = if of == CATALOGUE_NAME {
                "catalogue"
            } else {
                of
            };
            record_log(&contents, of, &mut marks);
        }
        regions.extend(marks.finish(contents.len() as u64));
    }
    regions
}

/// A record of a log that stands in two files, at the same place in both.
#[derive(Clone, Debug)]
pub(super) struct Twins {
    pub(super) paths: [PathBuf; 2],
    pub(super) bytes: Range<u64>,
    pub(super) what: &'static str,
}

/// The records of catalogue and checkpoint that something proves besides themselves: a later record, or that there must be one. The last of
/// several is not among them, since damage to both of its copies is what a write that never finished looks like.
pub(super) fn twins(disk: &SimDisk) -> Vec<Twins> {
    let mut twins = Vec::new();
    for (path, _) in disk.list_tree() {
        let name = path.to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".a") else {
            continue;
        };
        let contents = disk.read_file(&path).expect("it was just listed");
        let mut records = records_of(&contents);
        if records.len() > 1 {
            records.pop();
        }
        let what = match name.contains(&format!("/{CATALOGUE_NAME}-")) {
            true => "catalogue, both copies",
            false => "checkpoint, both copies",
        };
        twins.extend(records.into_iter().map(|bytes| Twins {
            paths: [path.clone(), PathBuf::from(format!("{stem}.b"))],
            bytes,
            what,
        }));
    }
    twins
}

/// Names stretches of one file; what is left is unused.
struct Marks {
    path: PathBuf,
    regions: Vec<Region>,
}

impl Marks {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            regions: Vec::new(),
        }
    }

    fn add(&mut self, what: impl Into<String>, weight: Weight, bytes: Range<u64>, cost: Cost) {
        assert!(bytes.start <= bytes.end, "a region has a length");
        if !bytes.is_empty() {
            self.regions.push(Region {
                path: self.path.clone(),
                bytes,
                what: what.into(),
                weight,
                cost,
            });
        }
    }

    fn finish(mut self, file_bytes: u64) -> Vec<Region> {
        self.regions.sort_by_key(|region| region.bytes.start);
        let mut at = 0;
        let mut unused = Vec::new();
        for region in &self.regions {
            assert!(region.bytes.start >= at, "regions of a file do not overlap");
            unused.push(at..region.bytes.start);
            at = region.bytes.end;
        }
        unused.push(at..file_bytes);
        for bytes in unused {
            self.add("filler", Weight::Filler, bytes, Cost::Nothing);
        }
        self.regions
    }
}

/// What catalogue, checkpoint and journal say together.
struct Map {
    flushed: Lsn,
    catalogue: CatalogueState,
    /// Everything up to here is proven by something behind it.
    proven: Lsn,
    /// The life of the newest commit of each LSN: an older one with the same counts no more.
    lives: BTreeMap<Lsn, Generation>,
    runs: Vec<(PartitionKey, Run)>,
    /// Commits that nothing proves, in order.
    unproven: BTreeMap<Lsn, Vec<(Entry, Option<CommittedOffset>)>>,
    /// The newest commit with an offset of a group.
    groups: BTreeMap<(PartitionKey, String), Lsn>,
}

impl Map {
    fn of(disk: &SimDisk, truth: &Truth) -> Self {
        let executor = SimExecutor::new(1);
        let disk = disk.snapshot(&executor);
        let data = DataDir::new("/data");
        let (catalogue, _) = executor
            .block_on(Catalogue::load(&disk, &data.catalogue()))
            .expect("nothing is damaged yet")
            .expect("there is a catalogue");
        let shard = data.shard(catalogue.layout.number, ShardIndex(0));
        let records = executor
            .block_on(RecordLog::load(&disk, &shard, CHECKPOINT_NAME))
            .expect("nothing is damaged yet")
            .expect("there is a checkpoint")
            .records;
        let state = CheckpointState::load(&records).expect("nothing is damaged yet");
        let flushed = state.journal.flushed_lsn;
        let mut map = Self {
            flushed,
            catalogue,
            proven: state.journal.durable_lsn.max(flushed),
            lives: BTreeMap::new(),
            // What went straight to segments after the checkpoint is not in it.
            runs: truth.runs.clone(),
            unproven: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for (key, record) in &state.partitions {
            let runs = record.runs.iter().map(|run| (*key, run.to_run()));
            map.runs.extend(runs);
        }
        let mut met = Vec::new();
        for (path, _) in disk.list_tree() {
            if path.to_string_lossy().ends_with(JOURNAL_SUFFIX) {
                let contents = disk.read_file(&path).expect("it was just listed");
                met.extend(commits(&contents).map(|(head, commit)| (head, commit.to_vec())));
            }
        }
        for (head, _) in &met {
            map.proven = map.proven.max(head.identity.durable_lsn);
            let life = map.lives.entry(head.identity.lsn).or_default();
            *life = (*life).max(head.identity.generation);
        }
        for (head, commit) in met {
            map.note_commit(&head, &commit);
        }
        map
    }

    fn note_commit(&mut self, head: &CommitHead, commit: &[u8]) {
        let lsn = head.identity.lsn;
        if self.counts(head).is_none() {
            return;
        }
        let entries = head.check(commit).expect("nothing is damaged yet");
        for entry in entries {
            let bytes = entry.bytes_in(commit).expect("it was just checked");
            let offset = match entry.kind {
                EntryKind::CommittedOffset => CommittedOffset::decode(bytes),
                EntryKind::Batch | EntryKind::DirectRun => None,
            };
            if let Some(offset) = &offset {
                let newest = self
                    .groups
                    .entry((entry.key, offset.group.clone()))
                    .or_default();
                *newest = lsn.max(*newest);
            }
            if lsn > self.proven {
                self.unproven.entry(lsn).or_default().push((entry, offset));
            }
        }
    }

    /// How a commit stands, if it counts.
    fn counts(&self, head: &CommitHead) -> Option<&'static str> {
        let id = head.identity;
        if id.lsn <= self.flushed || self.lives.get(&id.lsn) != Some(&id.generation) {
            None
        } else if head.entries == 0 {
            Some("mark")
        } else if id.lsn <= self.proven {
            Some("proven commit")
        } else {
            Some("last commit before its mark")
        }
    }

    fn journal(&self, contents: &[u8], marks: &mut Marks) {
        if let HeaderState::Valid(_) = JournalHeader::read(&contents[..2 * BLOCK_BYTES], None) {
            for (copy, what) in (0..).zip(["journal header, first", "journal header, second"]) {
                let start = copy * BLOCK_BYTES as u64;
                marks.add(
                    what,
                    Weight::Vital,
                    start..start + JOURNAL_HEADER_BYTES,
                    Cost::Nothing,
                );
            }
        }
        for (head, commit) in commits(contents) {
            self.commit(&head, commit, marks);
        }
    }

    fn commit(&self, head: &CommitHead, commit: &[u8], marks: &mut Marks) {
        let start = head.identity.position;
        let end = start + head.commit_bytes as u64;
        let head_bytes = HEAD_BYTES as u64;
        let directory_bytes = (head.entries * ENTRY_BYTES) as u64;
        let Some(standing) = self.counts(head) else {
            marks.add(
                "commit that segments have",
                Weight::Body,
                start..end,
                Cost::Nothing,
            );
            return;
        };
        let rim = match standing {
            _ if head.identity.lsn <= self.proven => Cost::Salvage,
            // It proves what it was to prove all the same: its head stands twice.
            "mark" => Cost::Nothing,
            _ => self.tail_from(head.identity.lsn),
        };
        let weight = self.weight(head, Weight::Vital);
        let mut vital = |what: &str, bytes| {
            marks.add(format!("{standing}: {what}"), weight, bytes, rim.clone());
        };
        vital("head", start..start + head_bytes);
        let behind = start + head_bytes + directory_bytes;
        vital("directory", start + head_bytes..behind);
        vital(
            "second directory",
            end - head_bytes - directory_bytes..end - head_bytes,
        );
        vital("foot", end - head_bytes..end);
        let entries = head
            .directory(commit, DirectoryCopy::Head)
            .expect("nothing is damaged yet");
        for entry in &entries {
            self.entry(standing, head, entry, commit, marks);
        }
    }

    fn weight(&self, head: &CommitHead, usual: Weight) -> Weight {
        match head.identity.lsn > self.proven && head.entries > 0 {
            true => Weight::Last,
            false => usual,
        }
    }

    fn entry(
        &self,
        standing: &str,
        head: &CommitHead,
        entry: &Entry,
        commit: &[u8],
        marks: &mut Marks,
    ) {
        let start = head.identity.position + u64::from(entry.start);
        let bytes = start..start + u64::from(entry.length);
        let offsets = entry.base_offset.0..entry.next_offset().0;
        let lives = self.catalogue.topics.contains_key(&entry.key.topic);
        let cost = |lost: Cost| {
            if standing != "proven commit" {
                self.tail_from(head.identity.lsn)
            } else if lives {
                lost
            } else {
                // Its topic was deleted: nobody misses it.
                Cost::Salvage
            }
        };
        let records = Cost::Records(entry.key, offsets);
        match entry.kind {
            EntryKind::Batch => {
                let behind = start + BATCH_HEADER_BYTES as u64;
                let header = start..behind;
                let cost = cost(records);
                marks.add(
                    format!("{standing}: batch, header"),
                    self.weight(head, Weight::Vital),
                    header,
                    cost.clone(),
                );
                marks.add(
                    format!("{standing}: batch, body"),
                    self.weight(head, Weight::Body),
                    behind..bytes.end,
                    cost,
                );
            }
            EntryKind::DirectRun => {
                let what = format!("{standing}: direct run");
                let weight = self.weight(head, Weight::Vital);
                marks.add(what, weight, bytes, cost(records));
            }
            EntryKind::CommittedOffset => {
                let in_commit = entry.bytes_in(commit).expect("it lies in the commit");
                let offset = CommittedOffset::decode(in_commit).expect("nothing is damaged yet");
                let group = (entry.key, offset.group);
                let lost = match self.groups.get(&group) {
                    // A newer one counts.
                    Some(newest) if *newest > head.identity.lsn => Cost::Salvage,
                    _ => Cost::Group(group.0, group.1),
                };
                let what = format!("{standing}: committed offset");
                let weight = self.weight(head, Weight::Vital);
                marks.add(what, weight, bytes, cost(lost));
            }
        }
    }

    /// What is gone when the journal ends before a commit that nothing proves.
    fn tail_from(&self, lsn: Lsn) -> Cost {
        let mut ends: BTreeMap<PartitionKey, u64> = BTreeMap::new();
        let mut groups = BTreeSet::new();
        for (entry, offset) in self.unproven.range(lsn..).flat_map(|(_, entries)| entries) {
            match offset {
                Some(offset) => {
                    groups.insert((entry.key, offset.group.clone()));
                }
                None => {
                    ends.entry(entry.key).or_insert(entry.base_offset.0);
                }
            }
        }
        Cost::Tail { ends, groups }
    }

    fn segment(&self, path: &Path, contents: &[u8], marks: &mut Marks) {
        let id = path
            .file_name()
            .and_then(|name| DataDir::segment_of_name(&name.to_string_lossy()))
            .expect("a segment's name is its id");
        let shared = path.starts_with(DataDir::new("/data").shared());
        let kind = if shared {
            "shared segment"
        } else {
            "own segment"
        };
        let runs = self.runs.iter().filter(|(_, run)| run.segment.id == id);
        marks.add(
            format!("{kind}: header"),
            Weight::Vital,
            0..SEGMENT_HEADER_BYTES,
            Cost::Nothing,
        );
        // The journal may tell again of what the checkpoint has.
        let mut seen = BTreeSet::new();
        for (key, run) in runs {
            let mut position = run.position;
            while position < run.end {
                let at = usize::try_from(position).expect("a small file");
                match frame_at(&contents[at..]) {
                    Framed::Filler => {
                        position = (position + 1).next_multiple_of(BLOCK_BYTES as u64);
                    }
                    Framed::Batch(bytes) => {
                        let header = header_at(&contents[at..]).expect("a batch has a header");
                        let offsets = header.base_offset().0..header.next_offset().0;
                        let cost = Cost::Records(*key, offsets);
                        let behind = position + BATCH_HEADER_BYTES as u64;
                        let end = position + bytes as u64;
                        if seen.insert(position) {
                            marks.add(
                                format!("{kind}: batch, header"),
                                Weight::Vital,
                                position..behind,
                                cost.clone(),
                            );
                            marks.add(
                                format!("{kind}: batch, body"),
                                Weight::Body,
                                behind..end,
                                cost,
                            );
                        }
                        position += aligned_bytes(bytes) as u64;
                    }
                    other => panic!("{other:?} at {position} of {path:?}"),
                }
            }
        }
    }
}

/// The commits of a journal file, of whatever life.
fn commits(contents: &[u8]) -> impl Iterator<Item = (CommitHead, &[u8])> {
    let mut position = FIRST_COMMIT_POSITION;
    std::iter::from_fn(move || {
        loop {
            let at = usize::try_from(position).expect("a small file");
            let rest = contents.get(at..).filter(|rest| !rest.is_empty())?;
            position += BLOCK_BYTES as u64;
            if let Ok(head) = CommitHead::read(rest, at as u64)
                && let Some(commit) = rest.get(..head.commit_bytes)
            {
                position = at as u64 + head.commit_bytes as u64;
                return Some((head, commit));
            }
        }
    })
}

fn index(contents: &[u8], marks: &mut Marks) {
    let index =
        SegmentIndex::decode(contents, FilePlace::of(&marks.path)).expect("nothing is damaged yet");
    assert!(!index.runs.is_empty(), "a segment has runs");
    let body = u64::from_le_bytes(contents[16..24].try_into().expect("eight bytes"));
    marks.add(
        "index: head",
        Weight::Vital,
        0..INDEX_HEAD_BYTES,
        Cost::Rebuild,
    );
    marks.add(
        "index: body",
        Weight::Vital,
        INDEX_HEAD_BYTES..INDEX_HEAD_BYTES + body,
        Cost::Rebuild,
    );
}

fn record_log(contents: &[u8], of: &str, marks: &mut Marks) {
    for record in records_of(contents) {
        let behind = record.start + RECORD_HEAD_BYTES as u64;
        let head = record.start..behind;
        marks.add(format!("{of}: head"), Weight::Vital, head, Cost::Nothing);
        let body = behind..record.end;
        marks.add(format!("{of}: record"), Weight::Vital, body, Cost::Nothing);
    }
}

/// Where the records of one copy of a log stand, heads included.
fn records_of(contents: &[u8]) -> Vec<Range<u64>> {
    let mut records = Vec::new();
    let mut position = 0;
    while let Some(head) = contents.get(position..position + RECORD_HEAD_BYTES) {
        if head[..4] != *b"GRLG" {
            break;
        }
        let bytes = u32::from_le_bytes(head[24..28].try_into().expect("four bytes")) & !(1 << 31);
        let end = position + RECORD_HEAD_BYTES + bytes as usize;
        records.push(position as u64..end as u64);
        position = end.next_multiple_of(BLOCK_BYTES);
    }
    assert!(!records.is_empty(), "a log has a record");
    records
}

const JOURNAL_HEADER_BYTES: u64 = 40;
const SEGMENT_HEADER_BYTES: u64 = 40;
const INDEX_HEAD_BYTES: u64 = 24;
const RECORD_HEAD_BYTES: usize = 32;
