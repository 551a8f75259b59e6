//! Every bit, and every sector: a small data directory that the product made, one bit or one sector of it changed, and the product started on it.
//!
//! For every byte it is known what it is and what its damage has to cost (`regions.rs`): nothing, because it stands somewhere else too; an index
//! that is made again; exactly the records of one batch, which are fenced; what a group committed last; or, in the last commits before their
//! mark, the end of the log. Everything else must be there, byte for byte, be found by offset and by time, and stay so at another start. A refusal
//! to start is never right for a single bit, nor is a panic.

mod regions;
mod sample;
mod sectors;
mod toll;
mod verify;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use regions::{Region, Weight, regions, twins};
use sample::Sample;
pub use sectors::sweep_sectors;
use toll::Toll;
use verify::{Damage, judge, judge_twins};

/// When the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// When every commit had a mark above it.
    Marked,
    /// Right after the last acknowledgement, before its mark.
    Unmarked,
    /// After a clean stop.
    Stopped,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Marked, Self::Unmarked, Self::Stopped];
}

/// How many bits are passed over for one that is flipped, by what they are.
#[derive(Clone, Copy, Debug)]
pub struct Strides {
    /// Headers, directories, indexes, checkpoints, the catalogue.
    pub vital: u64,
    /// The last commits before their mark.
    pub last: u64,
    /// Records.
    pub body: u64,
    /// What nothing says anything about.
    pub filler: u64,
}

/// What became of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing is missing: it is in another copy, or was nothing.
    Whole,
    /// Nothing is missing: everything in a damaged commit was salvaged, and its file is kept.
    Salvaged,
    /// Nothing is missing: the index was made again.
    Rebuilt,
    /// Exactly the records of the damaged batch are fenced.
    Fenced,
    /// What a group committed before counts again.
    OlderOffset,
    /// The log ends before the damaged commit, which no mark had proven.
    TailCut,
    /// The start was refused, with a sentence.
    Refused,
}

/// What a sweep did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many damages to each kind of region had which outcome.
    pub counts: BTreeMap<String, BTreeMap<Outcome, u64>>,
    /// What must never happen, the first ones of it.
    pub findings: Vec<String>,
}

/// Flips bits of one directory, each on its own, and starts so many shards on it: where there were others, the data moves. The work is spread over
/// `threads`.
#[must_use]
pub fn sweep(moment: Moment, strides: Strides, shards: u16, threads: u64) -> Report {
    in_parts(threads, |part| {
        sweep_part(moment, strides, shards, part, threads)
    })
}

/// Spreads a sweep over threads.
fn in_parts(threads: u64, sweep: impl Fn(u64) -> Report + Sync) -> Report {
    let sweep = &sweep;
    let mut whole = Report::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| scope.spawn(move || sweep(part)))
            .collect();
        for part in parts {
            match part.join() {
                Ok(report) => whole.join(report),
                Err(_) => whole.findings.push("a sweep ended with a panic".to_owned()),
            }
        }
    });
    whole
}

/// Flips the same bit in both copies of records that have two: each must be refused.
#[must_use]
pub fn sweep_twins(moment: Moment, stride: u64) -> Report {
    let sample = Sample::make(moment);
    let mut report = Report::default();
    let step = usize::try_from(stride).unwrap_or(usize::MAX);
    for twins in twins(&sample.disk) {
        for bit in (8 * twins.bytes.start..8 * twins.bytes.end).step_by(step) {
            let flips = twins.paths.each_ref().map(|path| flip(path, bit));
            match judge_twins(&sample, flips) {
                Ok(outcome) => report.count(twins.what, outcome),
                Err(what) => report.find(moment, &place(&twins.paths[0], bit), twins.what, &what),
            }
        }
    }
    report
}

/// Every directory is made alike, so each thread makes its own.
fn sweep_part(moment: Moment, strides: Strides, shards: u16, part: u64, parts: u64) -> Report {
    let sample = Sample::make(moment);
    let mut report = Report::default();
    for (region, bit) in bits(&regions(&sample.disk, &sample.truth), strides)
        .enumerate()
        .filter(|(number, _)| *number as u64 % parts == part)
        .map(|(_, flip)| flip)
    {
        let toll = Toll::of(&[&region]);
        match judge(&sample, &toll, &flip(&region.path, bit), shards) {
            Ok(outcome) => report.count(&region.what, outcome),
            Err(what) => {
                let of = format!("{}, {:?}", region.what, region.cost);
                report.find(moment, &place(&region.path, bit), &of, &what);
            }
        }
    }
    report
}

/// The damage to the `bit`th bit of a file.
fn flip(path: &Path, bit: u64) -> Damage<'_> {
    Damage::Flipped {
        path,
        byte: bit / 8,
        bit: (bit % 8) as u32,
    }
}

/// Where the `bit`th bit of a file is.
fn place(path: &Path, bit: u64) -> String {
    format!("bit {} of byte {} of {}", bit % 8, bit / 8, path.display())
}

/// The bits that are flipped, one by one.
fn bits(regions: &[Region], strides: Strides) -> impl Iterator<Item = (Region, u64)> {
    regions.iter().flat_map(move |region| {
        let stride = match region.weight {
            Weight::Vital => strides.vital,
            Weight::Last => strides.last,
            Weight::Body => strides.body,
            Weight::Filler => strides.filler,
        };
        let (first, end) = (8 * region.bytes.start, 8 * region.bytes.end);
        let step = usize::try_from(stride).unwrap_or(usize::MAX);
        (first..end).step_by(step).map(|bit| (region.clone(), bit))
    })
}

impl Report {
    fn count(&mut self, what: &str, outcome: Outcome) {
        let outcomes = self.counts.entry(what.to_owned()).or_default();
        *outcomes.entry(outcome).or_default() += 1;
    }

    fn find(&mut self, moment: Moment, place: &str, of: &str, what: &str) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings
                .push(format!("{moment:?}, {place} ({of}): {what}"));
        }
    }

    /// Takes another report in.
    pub fn join(&mut self, other: Self) {
        for (what, outcomes) in other.counts {
            let known = self.counts.entry(what).or_default();
            for (outcome, count) in outcomes {
                *known.entry(outcome).or_default() += count;
            }
        }
        self.findings.extend(other.findings);
    }

    /// How many damages there were.
    #[must_use]
    pub fn damages(&self) -> u64 {
        self.counts.values().flat_map(BTreeMap::values).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "FOUND {finding}")?;
        }
        for (what, outcomes) in &self.counts {
            for (outcome, count) in outcomes {
                writeln!(f, "{what:<48} {:<12} {count:>8}", format!("{outcome:?}"))?;
            }
        }
        write!(f, "{} damages", self.damages())
    }
}

const FINDINGS_MAX: usize = 20;
