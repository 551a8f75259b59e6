//! The runs of a partition: whether their segments hold what the checkpoint says.

use std::io::{self, Write};
use std::ops::Range;

use gannet_wire::Offset;

use super::Stop;
use super::report::Report;
use crate::cli::examine::file::StoredFile;
use crate::cli::examine::segment::{Seen, Walk};
use crate::io::BLOCK_BYTES;
use crate::storage::PartitionKey;
use crate::storage::layout::DataDir;
use crate::storage::segment::{Run, SegmentHeader};

/// Checks every batch of a run: its stamp, its records, and that offsets follow each other without a gap.
pub(super) fn check<W: Write>(
    data: &DataDir,
    key: PartitionKey,
    name: &str,
    run: &Run,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    let path = run.segment.path(data, key);
    let file = match StoredFile::open(&path) {
        Ok(file) => file,
        Err(error) => {
            report.damaged(format_args!(
                "{name}: offsets {}..{} are gone with {}: {error}",
                run.base_offset,
                run.next_offset,
                path.display()
            ))?;
            return Ok(());
        }
    };
    check_header(&file, key, run, report)?;
    let lost = |report: &mut Report<W>, offsets: Range<Offset>, why: &str| -> io::Result<()> {
        report.damaged(format_args!(
            "{name}: offsets {}..{} are lost in {}: {why}",
            offsets.start,
            offsets.end,
            path.display()
        ))
    };
    let mut next_offset = run.base_offset;
    let mut why = String::from("the batches are not there");
    for seen in Walk::new(&file, run.position..run.end, Some(key)) {
        let (header, error) = match seen {
            Seen::Batch { header, .. } => (header, None),
            Seen::BadBatch { header, error, .. } => (header, Some(error)),
            Seen::Lost { bytes } => {
                why = format!(
                    "no batch can be proven in bytes {}..{}",
                    bytes.start, bytes.end
                );
                continue;
            }
            Seen::Unreadable { bytes } => {
                why = format!(
                    "the disk does not give bytes {}..{}",
                    bytes.start, bytes.end
                );
                continue;
            }
        };
        let offsets = header.base_offset()..header.next_offset();
        if offsets.start > next_offset {
            lost(report, next_offset..offsets.start, &why)?;
        } else if offsets.start < next_offset {
            report.damaged(format_args!(
                "{name}: {} has offset {} where {next_offset} comes next",
                path.display(),
                offsets.start
            ))?;
        }
        if let Some(error) = error {
            lost(report, offsets.clone(), &error.to_string())?;
        }
        report.batches += 1;
        report.bytes += header.batch_bytes() as u64;
        next_offset = next_offset.max(offsets.end);
    }
    if next_offset < run.next_offset {
        lost(report, next_offset..run.next_offset, &why)?;
    } else if next_offset > run.next_offset {
        report.damaged(format_args!(
            "{name}: {} goes on to offset {next_offset} where the checkpoint ends at {}",
            path.display(),
            run.next_offset
        ))?;
    }
    Ok(())
}

/// The header only says again what the name and the place of the file say; its batches prove themselves.
fn check_header<W: Write>(
    file: &StoredFile,
    key: PartitionKey,
    run: &Run,
    report: &mut Report<W>,
) -> Result<(), Stop> {
    let path = file.path().display().to_string();
    let block = match file.read_buffer(0, BLOCK_BYTES) {
        Ok(block) => block,
        Err(error) => {
            report.damaged(format_args!("the header of {path} cannot be read: {error}"))?;
            return Ok(());
        }
    };
    match SegmentHeader::read(&block) {
        Ok(header)
            if header.id == run.segment.id
                && header.owner == (!run.segment.shared).then_some(key) => {}
        Ok(_) => report.damaged(format_args!("{path} has the header of another segment"))?,
        Err(fault) => report.damaged(format_args!("{path}: {fault}"))?,
    }
    Ok(())
}
