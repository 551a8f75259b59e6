//! Reading the records of a batch in place.

use bytes::Bytes;

use super::check::open_body;
use super::columns::{ColumnLayout, ColumnsView};
use super::{BatchError, BatchHeader, BatchLimits, CheckScratch, RecordRef};
use crate::ids::{Offset, Timestamp};

/// The records of one batch, checked once and then read in place. Holds the batch's bytes (or what they decompress
/// to) for as long as it lives; a clone shares them.
#[derive(Clone)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
    layout: ColumnLayout,
}

impl Records {
    /// Checks `bytes`, which must be exactly one batch, to the last record, and decompresses them if need be.
    ///
    /// The stamps are not looked at: who reads what a broker stored calls
    /// [`verify_stamp_only`](super::verify_stamp_only) first. The CRC over the rest is checked here, so there is no need
    /// for [`verify_stamped`](super::verify_stamped).
    ///
    /// # Errors
    /// As [`check_batch`](super::check_batch).
    pub fn open(bytes: Bytes) -> Result<Self, BatchError> {
        Self::open_with(bytes, &BatchLimits::FORMAT, &mut CheckScratch::new())
    }

    /// [`open`](Self::open) with limits of one's own and a decompressor to reuse, for whoever opens many batches.
    ///
    /// # Errors
    /// As [`check_batch`](super::check_batch).
    pub fn open_with(
        bytes: Bytes,
        limits: &BatchLimits,
        scratch: &mut CheckScratch,
    ) -> Result<Self, BatchError> {
        let (header, body, layout) = open_body(&bytes, limits, scratch)?;
        Ok(Self {
            header,
            body,
            layout,
        })
    }

    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset()
    }

    /// The offset behind the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }

    /// How many there are; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.header.record_count() as usize
    }

    /// Record `index` of the batch, from 0; `None` behind the last.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<RecordRef<'_>> {
        self.view().record(index, self.header.first_timestamp())
    }

    /// All of them with their offsets, in order.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            columns: self.view(),
            first_timestamp: self.header.first_timestamp(),
            base_offset: self.base_offset(),
            next: 0,
        }
    }

    /// `part` (a key, a value or the value of a header of one of these records) as bytes that share the batch's memory,
    /// to be kept longer than the reference.
    ///
    /// # Panics
    /// When `part` is not of these records.
    #[must_use]
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.body.slice_ref(part)
    }

    fn view(&self) -> ColumnsView<'_> {
        self.layout.view(&self.body)
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = (Offset, RecordRef<'a>);
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// The records of a batch with their offsets, in order.
#[derive(Clone)]
pub struct RecordIter<'a> {
    columns: ColumnsView<'a>,
    first_timestamp: Timestamp,
    base_offset: Offset,
    next: usize,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = (Offset, RecordRef<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.columns.record(self.next, self.first_timestamp)?;
        // Cannot overflow: a checked header's base offset leaves room for its records.
        let offset = Offset(self.base_offset.0 + self.next as u64);
        self.next += 1;
        Some((offset, record))
    }

    /// Steps over records without reading them, as a consumer does whose offset lies within the batch.
    #[inline]
    fn nth(&mut self, records: usize) -> Option<Self::Item> {
        self.next = self.next.saturating_add(records).min(self.columns.len());
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.columns.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for RecordIter<'_> {}

impl std::fmt::Debug for RecordIter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordIter")
            .field("base_offset", &self.base_offset)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
