//! `gannet inspect`: what one stored file holds.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use gannet_wire::Timestamp;
use gannet_wire::batch::{BatchHeader, Compression};

use super::examine::Verdict;
use super::examine::file::StoredFile;
use super::examine::journal::{JournalScan, verdict_of};
use super::examine::segment::{Seen, Walk};
use super::exit::{ExitStatus, Failure};
use super::table::{bytes_text, counted};
use crate::limits::DISK_BLOCK_BYTES;
use crate::storage::Lsn;
use crate::storage::commit::{Entry, EntryKind};
use crate::storage::journal_file::{HeaderState, JournalHeader};
use crate::storage::layout::{JOURNAL_SUFFIX, SEGMENT_SUFFIX};
use crate::storage::recovery::{JournalState, Lives, plan};
use crate::storage::scan::{Found, FoundCommit};
use crate::storage::segment::{FIRST_BATCH_POSITION, SegmentFault, SegmentHeader};

/// Lists what a journal file or a segment holds, and checks it.
///
/// One file alone cannot say everything: what a recovery cut off, or what retention dropped, looks like what it was. For a verdict
/// on all that a broker stored, use check.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A journal file (.gnj) or a segment (.seg)
    file: PathBuf,
    /// Lists the entries of each commit too
    #[arg(long)]
    entries: bool,
}

const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

pub(super) fn run(args: InspectArgs) -> Result<ExitStatus, Failure> {
    let file = StoredFile::open_named(&args.file)?;
    let kind = Kind::of(&file)?;
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let inspected = match kind {
        Kind::Journal => {
            let scan = JournalScan::read(&file).map_err(|error| unreadable(&file, &error))?;
            write_journal(scan, args.entries, &mut out)
        }
        Kind::Segment(header) => write_segment(&file, header, &mut out),
    };
    let verdict = match inspected.and_then(|verdict| {
        writeln!(out, "{}", verdict.name())?;
        out.flush()?;
        Ok(verdict)
    }) {
        Ok(verdict) => verdict,
        Err(error) => return super::quiet_when_the_reader_left(Err(error)),
    };
    Ok(verdict.into())
}

/// What a file is, by its first bytes, or by its name when these are damaged.
enum Kind {
    Journal,
    Segment(Result<SegmentHeader, SegmentFault>),
}

impl Kind {
    fn of(file: &StoredFile) -> Result<Self, Failure> {
        let blocks = file
            .read_buffer(0, 2 * DISK_BLOCK_BYTES as usize)
            .map_err(|error| unreadable(file, &error))?;
        let segment = SegmentHeader::read(&blocks);
        if segment.is_ok() || matches!(segment, Err(SegmentFault::Newer(_))) {
            return Ok(Self::Segment(segment));
        }
        if matches!(
            JournalHeader::read(&blocks, None),
            HeaderState::Valid(_) | HeaderState::Newer(_)
        ) {
            return Ok(Self::Journal);
        }
        let name = file.path().to_string_lossy();
        if name.ends_with(JOURNAL_SUFFIX) {
            Ok(Self::Journal)
        } else if name.ends_with(SEGMENT_SUFFIX) {
            Ok(Self::Segment(segment))
        } else {
            Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "{name} is neither a journal file nor a segment, by its first bytes or by its name: name a {JOURNAL_SUFFIX} or \
                     {SEGMENT_SUFFIX} file of a data directory"
                ),
            ))
        }
    }
}

fn unreadable(file: &StoredFile, error: &io::Error) -> Failure {
    Failure::new(
        ExitStatus::Environment,
        format!("{} could not be read: {error}", file.path().display()),
    )
}

fn write_journal(scan: JournalScan, entries: bool, out: &mut impl Write) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let state = match &scan.header {
        HeaderState::Valid(header) => {
            writeln!(
                out,
                "journal file of {}, generation {}, first commit {}",
                bytes_text(header.file_bytes),
                header.generation,
                header.first_lsn
            )?;
            let before = Lsn(header.first_lsn.0.saturating_sub(1));
            JournalState {
                flushed_lsn: before,
                durable_lsn: before,
                generation: header.generation,
                cuts: Vec::new(),
            }
        }
        HeaderState::Blank => {
            writeln!(out, "journal file, written in advance and never used")?;
            return Ok(verdict);
        }
        HeaderState::Newer(version) => {
            writeln!(
                out,
                "journal file of format version {version}, which this program does not know: use a newer gannet"
            )?;
            return Ok(Verdict::Damaged);
        }
        HeaderState::Damaged => {
            writeln!(out, "journal file, both copies of its header damaged")?;
            verdict.add(Verdict::Damaged);
            let first = scan
                .found
                .iter()
                .filter_map(lsn_of)
                .min()
                .unwrap_or_default();
            JournalState {
                flushed_lsn: Lsn(first.0.saturating_sub(1)),
                ..JournalState::default()
            }
        }
    };
    for found in &scan.found {
        write_found(found, entries, out)?;
    }
    if scan.newer {
        writeln!(
            out,
            "some commits have a format that this program does not know: use a newer gannet"
        )?;
        verdict.add(Verdict::Damaged);
    }
    verdict.add(verdict_of(&plan(&state, &Lives::default(), scan.found)));
    Ok(verdict)
}

fn lsn_of(found: &Found) -> Option<Lsn> {
    match found {
        Found::Commit(commit) => Some(commit.head.identity.lsn),
        Found::Damaged(damage) => Some(damage.head.identity.lsn),
        Found::Unreadable { .. } => None,
    }
}

fn write_found(found: &Found, entries: bool, out: &mut impl Write) -> io::Result<()> {
    match found {
        Found::Commit(FoundCommit {
            head,
            entries: directory,
            ..
        }) => {
            let identity = &head.identity;
            writeln!(
                out,
                "{:>12}  commit {}  durable {}  {} bytes  {}  {}",
                identity.position,
                identity.lsn,
                identity.durable_lsn,
                head.commit_bytes,
                counted(directory.len(), "entry", "entries"),
                time_text(identity.append_time),
            )?;
            if entries {
                for entry in directory {
                    writeln!(out, "{:>12}  {}", "", entry_text(entry))?;
                }
            }
            Ok(())
        }
        Found::Damaged(damage) => {
            let identity = &damage.head.identity;
            writeln!(
                out,
                "{:>12}  commit {}  not whole: {}",
                identity.position, identity.lsn, damage.fault
            )?;
            for entry in damage.entries.iter().flatten() {
                let state = if damage.head.entry_is_whole(&damage.bytes, entry) {
                    "whole"
                } else {
                    "lost"
                };
                writeln!(out, "{:>12}  {state}: {}", "", entry_text(entry))?;
            }
            Ok(())
        }
        Found::Unreadable { position } => {
            writeln!(out, "{position:>12}  cannot be read from the disk")
        }
    }
}

fn entry_text(entry: &Entry) -> String {
    let offsets = format!("offsets {}..{}", entry.base_offset, entry.next_offset());
    match entry.kind {
        EntryKind::Batch => format!(
            "partition {}  {offsets}  batch of {} bytes",
            entry.key, entry.length
        ),
        EntryKind::DirectRun => format!(
            "partition {}  {offsets}  written straight to a segment",
            entry.key
        ),
        EntryKind::CommittedOffset => {
            format!("partition {}  committed offset of a group", entry.key)
        }
    }
}

fn write_segment(
    file: &StoredFile,
    header: Result<SegmentHeader, SegmentFault>,
    out: &mut impl Write,
) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let owner = match header {
        Ok(SegmentHeader {
            id,
            owner: Some(key),
        }) => {
            writeln!(
                out,
                "segment {id} of partition {key}, {}",
                bytes_text(file.bytes())
            )?;
            Some(key)
        }
        Ok(SegmentHeader { id, owner: None }) => {
            writeln!(
                out,
                "segment {id} of many partitions, {}; whose a batch is stands in the checkpoint, so stamps are not checked here",
                bytes_text(file.bytes())
            )?;
            None
        }
        Err(fault) => {
            writeln!(out, "{fault}")?;
            verdict.add(Verdict::Damaged);
            None
        }
    };
    // A fault with something proven behind it is damage; one at the very end may be a write that was never finished.
    let mut fault_at_end = false;
    for seen in Walk::new(file, FIRST_BATCH_POSITION..file.bytes(), owner) {
        if fault_at_end && matches!(seen, Seen::Batch { .. }) {
            verdict.add(Verdict::Damaged);
        }
        fault_at_end = !matches!(seen, Seen::Batch { .. });
        match seen {
            Seen::Batch { position, header } => {
                writeln!(out, "{position:>12}  {}", batch_text(&header))?
            }
            Seen::BadBatch {
                position,
                header,
                error,
            } => writeln!(
                out,
                "{position:>12}  {}  damaged: {error}",
                batch_text(&header)
            )?,
            Seen::Lost { bytes } => {
                writeln!(
                    out,
                    "{:>12}  no batch can be proven up to {}",
                    bytes.start, bytes.end
                )?;
            }
            Seen::Unreadable { bytes } => {
                writeln!(
                    out,
                    "{:>12}  cannot be read from the disk up to {}",
                    bytes.start, bytes.end
                )?;
                verdict.add(Verdict::Damaged);
            }
        }
    }
    if fault_at_end {
        verdict.add(Verdict::TornTail);
    }
    Ok(verdict)
}

fn batch_text(header: &BatchHeader) -> String {
    let compression = match header.compression() {
        Ok(Compression::None) => "",
        Ok(Compression::Lz4) => "  lz4",
        Ok(Compression::Zstd) => "  zstd",
        Err(_) => "  unknown compression",
    };
    let mut text = format!(
        "offsets {}..{}  {} bytes{compression}  {}",
        header.base_offset(),
        header.next_offset(),
        header.batch_bytes(),
        time_text(header.append_time()),
    );
    if let Some(producer) = header.producer() {
        let _ = write!(
            text,
            "  producer {} epoch {} sequence {}",
            producer.id, producer.epoch, producer.base_sequence
        );
    }
    text
}

fn time_text(time: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(time.0)
        .map_or_else(|_| format!("{} ms", time.0), |time| format!("{time:.3}"))
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
