//! A journal file: its header and the commits that the broker's own scan finds in it.

use std::io;

use super::Verdict;
use super::file::StoredFile;
use crate::io::BLOCK_BYTES;
use crate::limits::DISK_BLOCK_BYTES;
use crate::storage::journal_file::{FIRST_COMMIT_POSITION, HeaderState, JournalHeader};
use crate::storage::recovery::{Plan, Row};
use crate::storage::scan::{Found, Scanner};

/// All that one file holds.
pub(crate) struct JournalScan {
    pub(crate) header: HeaderState,
    /// What was found, in the order of the file. Empty when the file was never used.
    pub(crate) found: Vec<Found>,
    /// Commits of a format that this program does not know were met.
    pub(crate) newer: bool,
}

impl JournalScan {
    /// Reads a whole file, wherever it lies now. Blocks that cannot be read are among what is found.
    pub(crate) fn read(file: &StoredFile) -> io::Result<Self> {
        let header = file.read_buffer(0, FIRST_COMMIT_POSITION as usize)?;
        let header = JournalHeader::read(&header, None);
        let generation = match &header {
            HeaderState::Valid(header) => Some(header.generation),
            HeaderState::Damaged => None,
            HeaderState::Blank | HeaderState::Newer(_) => {
                return Ok(Self {
                    newer: matches!(header, HeaderState::Newer(_)),
                    header,
                    found: Vec::new(),
                });
            }
        };
        let mut scanner = Scanner::new(
            None,
            generation,
            file.bytes().next_multiple_of(DISK_BLOCK_BYTES),
        );
        while let Some((position, bytes)) = scanner.poll_read() {
            // A long read that fails is taken again for one block alone, so that only what cannot be read is given up.
            let read = file
                .read_buffer(position, bytes)
                .or_else(|_| file.read_buffer(position, BLOCK_BYTES));
            match read {
                Ok(buffer) => scanner.handle_read(position, &buffer),
                Err(_) => scanner.handle_unreadable(position),
            }
        }
        Ok(Self {
            header,
            newer: scanner.met_newer(),
            found: scanner.into_found(),
        })
    }
}

/// What recovery's plan says of the journal it was made for.
pub(crate) fn verdict_of(plan: &Plan) -> Verdict {
    let met = |row| plan.rows.get(&row).is_some_and(|count| *count > 0);
    if met(Row::Rot) {
        Verdict::Damaged
    } else if met(Row::TornTail) || met(Row::BehindCut) {
        Verdict::TornTail
    } else {
        Verdict::Clean
    }
}
