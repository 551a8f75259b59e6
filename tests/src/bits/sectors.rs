//! Every sector and every block: of a small data directory, each is changed on its own as disks do it, and the product started on what is left.
//!
//! A write that was lost leaves zeros, or what stood there in a former life of the file; one that went astray leaves what belongs to another place,
//! of the same file or of another; a sector can hold noise, or not be read at all. What that costs is what the bytes that are others now cost, no more.

use std::ops::Range;
use std::path::{Path, PathBuf};

use gannet_engine::io::BLOCK_BYTES;
use gannet_engine::io::sim::{Random, SimDisk};

use super::regions::{Region, regions};
use super::sample::Sample;
use super::toll::Toll;
use super::verify::{Damage, judge};
use super::{Moment, Report};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// What becomes of a stretch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// It is as if never written.
    Zeros,
    /// Nothing anybody wrote.
    Noise(u64),
    /// What another place of a file holds.
    Elsewhere(PathBuf, u64),
    /// It cannot be read.
    Unreadable,
}

impl Blow {
    /// The name for the table.
    fn name(&self) -> &'static str {
        match self {
            Self::Zeros => "zeros",
            Self::Noise(_) => "noise",
            Self::Elsewhere(..) => "from elsewhere",
            Self::Unreadable => "unreadable",
        }
    }

    /// What a stretch of `before.len()` bytes holds afterwards; nothing where it can only not be read.
    fn contents(&self, disk: &SimDisk, before: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Zeros => Some(vec![0; before.len()]),
            Self::Noise(seed) => {
                let mut random = Random::new(*seed);
                Some(before.iter().map(|_| random.below(256) as u8).collect())
            }
            Self::Elsewhere(path, position) => {
                let file = disk.read_file(path)?;
                let start = usize::try_from(*position).ok()?;
                file.get(start..start + before.len()).map(<[u8]>::to_vec)
            }
            Self::Unreadable => None,
        }
    }
}

/// Damages every `stride`th stretch of every file in each way, and starts so many shards on it.
#[must_use]
pub fn sweep_sectors(moment: Moment, stride: u64, shards: u16, threads: u64) -> Report {
    super::in_parts(threads, |part| {
        sweep_part(moment, stride, shards, part, threads)
    })
}

fn sweep_part(moment: Moment, stride: u64, shards: u16, part: u64, parts: u64) -> Report {
    let sample = Sample::make(moment);
    let regions = regions(&sample.disk, &sample.truth);
    let mut report = Report::default();
    let damages = damages(&sample.disk);
    let chosen = (0u64..)
        .zip(damages)
        .filter(|(number, _)| number % stride == 0 && number / stride % parts == part);
    for (_, (path, bytes, blow)) in chosen {
        let Some((damage, changed)) = damage(&sample.disk, &path, bytes.clone(), &blow) else {
            continue;
        };
        let hit: Vec<&Region> = regions
            .iter()
            .filter(|region| {
                region.path == path
                    && region.bytes.start < changed.end
                    && changed.start < region.bytes.end
            })
            .collect();
        let what = format!("{}: {}", what_is_hit(&hit), blow.name());
        let toll = Toll {
            // Nobody knows what was in an unreadable one, and half a commit may be that of another file.
            may_keep: !matches!(blow, Blow::Zeros | Blow::Noise(_)),
            ..Toll::of(&hit)
        };
        match judge(&sample, &toll, &damage, shards) {
            Ok(outcome) => report.count(&what, outcome),
            Err(finding) => {
                let place = format!("bytes {bytes:?} of {}", path.display());
                report.find(moment, &place, &format!("{what}, {blow:?}"), &finding);
            }
        }
    }
    report
}

/// Every stretch, and what is done to it.
fn damages(disk: &SimDisk) -> Vec<(PathBuf, Range<u64>, Blow)> {
    let files = disk.list_tree();
    let mut random = Random::new(SEED);
    let mut damages = Vec::new();
    for (path, file_bytes) in &files {
        for stretch in [SECTOR_BYTES, BLOCK_BYTES as u64] {
            for start in (0..*file_bytes / stretch * stretch).step_by(stretch as usize) {
                let bytes = start..start + stretch;
                let mut blows = vec![Blow::Zeros, Blow::Noise(random.below(u64::MAX))];
                blows.extend(elsewhere(&files, path, &bytes, &mut random));
                if stretch == SECTOR_BYTES {
                    blows.push(Blow::Unreadable);
                }
                damages.extend(
                    blows
                        .into_iter()
                        .map(|blow| (path.clone(), bytes.clone(), blow)),
                );
            }
        }
    }
    damages
}

/// Where else something of the same size could have come from: the blocks beside it, another block of the file, and the same place of another file
/// of its kind, where a former life of the same file could have stood.
fn elsewhere(
    files: &[(PathBuf, u64)],
    path: &Path,
    bytes: &Range<u64>,
    random: &mut Random,
) -> Vec<Blow> {
    let block = BLOCK_BYTES as u64;
    let file_bytes = |of: &Path| {
        files
            .iter()
            .find(|(path, _)| path == of)
            .map_or(0, |(_, bytes)| *bytes)
    };
    let blocks = file_bytes(path) / block;
    let within = bytes.start % block;
    let mut sources = Vec::new();
    sources.extend(
        bytes
            .start
            .checked_sub(block)
            .map(|from| (path.to_owned(), from)),
    );
    sources.push((path.to_owned(), bytes.start + block));
    sources.push((
        path.to_owned(),
        random.below(blocks.max(1)) * block + within,
    ));
    let alike: Vec<&PathBuf> = files
        .iter()
        .map(|(other, _)| other)
        .filter(|other| *other != path && other.extension() == path.extension())
        .collect();
    if !alike.is_empty() {
        sources.push((alike[random.index(alike.len())].clone(), bytes.start));
    }
    let length = bytes.end - bytes.start;
    sources
        .into_iter()
        .filter(|(of, from)| {
            from + length <= file_bytes(of) && (of, *from) != (&path.to_owned(), bytes.start)
        })
        .map(|(of, from)| Blow::Elsewhere(of, from))
        .collect()
}

/// The damage, and from the first to the last byte that is another one afterwards; nothing where all are the same.
fn damage<'a>(
    disk: &SimDisk,
    path: &'a Path,
    bytes: Range<u64>,
    blow: &Blow,
) -> Option<(Damage<'a>, Range<u64>)> {
    let file = disk.read_file(path)?;
    let at = |position: u64| usize::try_from(position).ok();
    let before = file.get(at(bytes.start)?..at(bytes.end)?)?;
    let Some(contents) = blow.contents(disk, before) else {
        // Nothing smaller than a block is ever asked for.
        let block = BLOCK_BYTES as u64;
        let start = bytes.start / block * block;
        let damage = Damage::Unreadable {
            path,
            position: bytes.start,
        };
        return Some((damage, start..start + block));
    };
    let mut differ = (bytes.start..)
        .zip(before.iter().zip(&contents))
        .filter(|(_, (before, after))| before != after)
        .map(|(position, _)| position);
    let first = differ.next()?;
    let changed = first..differ.last().unwrap_or(first) + 1;
    let damage = Damage::Overwritten {
        path,
        position: bytes.start,
        contents,
    };
    Some((damage, changed))
}

/// The first thing that is hit, without its details: there can be many in one block.
fn what_is_hit(hit: &[&Region]) -> String {
    let mut names: Vec<&str> = hit
        .iter()
        .map(|region| region.what.split(':').next().unwrap_or_default())
        .filter(|name| *name != "filler")
        .collect();
    names.dedup();
    match names.first() {
        Some(name) => (*name).to_owned(),
        None => "filler".to_owned(),
    }
}

const SEED: u64 = 6;
