//! Makes batches out of records.

use bytes::Bytes;
use zerocopy::FromZeros;
use zerocopy::IntoBytes;

use super::columns::{ABSENT, Columns};
use super::compress::Compressor;
use super::{
    ARCHIVE_ROOT_BYTES, BATCH_HEADER_BYTES, BatchError, BatchHeader, BatchLimits, Compression,
    FORMAT_COLUMNS, ProducerStamp,
};
use crate::ids::{ProducerId, Timestamp};
use crate::limits::{HEADERS_MAX, TIMESTAMP_MAX};

/// Gathers records and encodes them as a batch. Made once and used for many batches: it keeps its memory, so pushing a
/// record copies its bytes and, once the first batches have grown it, does not allocate.
pub struct BatchBuilder {
    limits: BatchLimits,
    /// The limit that an uncompressed body keeps to, so that a batch that does not compress is never refused.
    body_bytes_max: usize,
    columns: Columns,
    /// `columns.archive_bytes()`, kept up to date.
    body_bytes: usize,
    first_timestamp: i64,
    max_timestamp: i64,
    /// The archive, when it is to be compressed.
    archive: Vec<u8>,
    compressor: Compressor,
}

impl BatchBuilder {
    /// An empty builder. Limits above the format's are taken down to them.
    #[must_use]
    pub fn new(limits: BatchLimits) -> Self {
        let limits = limits.within_format();
        let batch_bytes_max = limits.batch_bytes_max as usize;
        Self {
            limits,
            body_bytes_max: batch_bytes_max
                .saturating_sub(BATCH_HEADER_BYTES)
                .min(limits.decompressed_bytes_max as usize),
            columns: Columns::default(),
            body_bytes: ARCHIVE_ROOT_BYTES,
            first_timestamp: 0,
            max_timestamp: 0,
            archive: Vec::new(),
            compressor: Compressor::default(),
        }
    }

    /// Adds a record. The limit of bytes counts the batch uncompressed.
    ///
    /// # Errors
    /// [`BatchError::Full`] when the record does not fit any more; [`BatchError::TooLarge`] when it would not fit an
    /// empty batch either; [`BatchError::Malformed`] when its timestamp is out of range. The builder is as before then.
    #[inline]
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let count = self.columns.value_ends.len();
        let body_bytes = self.body_bytes_with(count, timestamp, key, value, headers);
        if body_bytes > self.body_bytes_max
            || count >= self.limits.batch_records_max as usize
            || headers.len() > HEADERS_MAX as usize
            || !(0..=TIMESTAMP_MAX).contains(&timestamp.0)
        {
            return Err(self.refusal(timestamp, key, value, headers));
        }
        self.push_timestamp(count, timestamp.0);
        self.push_key(count, key);
        if !headers.is_empty() || !self.columns.header_ends.is_empty() {
            self.push_headers(count, headers);
        }
        let columns = &mut self.columns;
        columns.values.extend_from_slice(value.unwrap_or_default());
        columns
            .value_ends
            .push(end_of(&columns.values, value.is_none()));
        self.body_bytes = body_bytes;
        debug_assert_eq!(body_bytes, self.columns.archive_bytes());
        Ok(())
    }

    /// Whether an empty batch would take the record; the error that [`push`](Self::push) gives otherwise.
    pub(crate) fn check_alone(
        &self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        match self.refusal(timestamp, key, value, headers) {
            BatchError::Full => Ok(()),
            refused => Err(refused),
        }
    }

    /// Records pushed since the last batch.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        // Fits: push keeps to the limit, which is 32 bits.
        self.columns.value_ends.len() as u32
    }

    /// Whether no record was pushed since the last batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.value_ends.is_empty()
    }

    /// Bytes of the batch as it now stands, were it not compressed: exactly its size without compression, and an
    /// upper bound with it.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.body_bytes
    }

    /// The batch. The builder is empty afterwards and keeps its memory.
    ///
    /// A body that does not shrink is left uncompressed; one that zstd would shrink further than readers accept is
    /// compressed with lz4. The header says what was done.
    ///
    /// # Panics
    /// When no record was pushed, or when the producer's id is [`ProducerId::NONE`].
    pub fn build(&mut self, compression: Compression, producer: Option<ProducerStamp>) -> Bytes {
        assert!(!self.is_empty(), "a batch has at least one record");
        let mut batch = Vec::new();
        let mut stored = Compression::None;
        if compression != Compression::None {
            self.archive.clear();
            self.archive.reserve(self.body_bytes);
            self.archive = self.columns.archive_into(std::mem::take(&mut self.archive));
            if let Some((done, body)) = self.compressor.compress(&self.archive, compression) {
                stored = done;
                batch.reserve_exact(BATCH_HEADER_BYTES + body.len());
                batch.resize(BATCH_HEADER_BYTES, 0);
                batch.extend_from_slice(body);
            }
        }
        if stored == Compression::None {
            batch.reserve_exact(self.encoded_bytes());
            batch.resize(BATCH_HEADER_BYTES, 0);
            batch = self.columns.archive_into(batch);
            assert_eq!(
                batch.len(),
                self.encoded_bytes(),
                "the archive has no padding"
            );
        }
        self.seal(&mut batch, stored, producer);
        self.columns.clear();
        self.body_bytes = ARCHIVE_ROOT_BYTES;
        Bytes::from(batch)
    }

    /// Writes the header, whose checksum covers the body behind it.
    fn seal(&self, batch: &mut [u8], compression: Compression, producer: Option<ProducerStamp>) {
        let mut header = BatchHeader::new_zeroed();
        // Both fit 32 bits: push keeps to the limits.
        header.broker.batch_bytes = (batch.len() as u32).into();
        header.body_bytes = (self.body_bytes as u32).into();
        header.format = FORMAT_COLUMNS;
        header.compression = compression.to_byte();
        header.record_count = self.record_count().into();
        header.first_timestamp = self.first_timestamp.into();
        header.max_timestamp = self.max_timestamp.into();
        header.producer_id = ProducerId::NONE.0.into();
        if let Some(producer) = producer {
            header.set_producer(producer);
        }
        let (head, body) = batch
            .split_at_mut_checked(BATCH_HEADER_BYTES)
            .expect("the header's room was made");
        header.sign(body);
        head.copy_from_slice(header.as_bytes());
    }

    #[inline]
    fn push_timestamp(&mut self, count: usize, timestamp: i64) {
        if count == 0 {
            self.first_timestamp = timestamp;
            self.max_timestamp = timestamp;
            return;
        }
        if self.columns.timestamps.is_empty() {
            if timestamp == self.first_timestamp {
                return;
            }
            self.columns.timestamps.resize(count, self.first_timestamp);
        }
        self.columns.timestamps.push(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    #[inline]
    fn push_key(&mut self, count: usize, key: Option<&[u8]>) {
        let columns = &mut self.columns;
        if columns.key_ends.is_empty() {
            if key.is_none() {
                return;
            }
            columns.key_ends.resize(count, ABSENT);
        }
        columns.keys.extend_from_slice(key.unwrap_or_default());
        columns.key_ends.push(end_of(&columns.keys, key.is_none()));
    }

    fn push_headers(&mut self, count: usize, headers: &[(&str, Option<&[u8]>)]) {
        let columns = &mut self.columns;
        if columns.header_ends.is_empty() {
            columns.header_ends.resize(count, 0);
        }
        for (name, value) in headers {
            columns.headers.extend_from_slice(name.as_bytes());
            columns
                .header_part_ends
                .push(end_of(&columns.headers, false));
            columns.headers.extend_from_slice(value.unwrap_or_default());
            columns
                .header_part_ends
                .push(end_of(&columns.headers, value.is_none()));
        }
        columns
            .header_ends
            .push((columns.header_part_ends.len() / 2) as u32);
    }

    /// Bytes of the archive with one more record, counting the columns that this record makes necessary.
    #[inline]
    fn body_bytes_with(
        &self,
        count: usize,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> usize {
        const END_BYTES: usize = size_of::<u32>();
        const TIMESTAMP_BYTES: usize = size_of::<i64>();
        let columns = &self.columns;
        let mut bytes = self.body_bytes + END_BYTES + value.map_or(0, <[u8]>::len);
        if !columns.timestamps.is_empty() {
            bytes += TIMESTAMP_BYTES;
        } else if count > 0 && timestamp.0 != self.first_timestamp {
            bytes += TIMESTAMP_BYTES * (count + 1);
        }
        match key {
            Some(key) if columns.key_ends.is_empty() => {
                bytes += key.len() + END_BYTES * (count + 1)
            }
            Some(key) => bytes += key.len() + END_BYTES,
            None if columns.key_ends.is_empty() => {}
            None => bytes += END_BYTES,
        }
        if !columns.header_ends.is_empty() {
            bytes += END_BYTES;
        } else if !headers.is_empty() {
            bytes += END_BYTES * (count + 1);
        }
        for (name, value) in headers {
            bytes += name.len() + value.map_or(0, <[u8]>::len) + 2 * END_BYTES;
        }
        bytes
    }

    /// Why the record does not go in: `Full` unless an empty batch would not take it either.
    #[cold]
    fn refusal(
        &self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> BatchError {
        if !(0..=TIMESTAMP_MAX).contains(&timestamp.0) {
            return BatchError::Malformed("a timestamp is out of range");
        }
        if headers.len() > HEADERS_MAX as usize {
            return BatchError::TooLarge {
                what: "headers of a record",
                size: headers.len() as u64,
                limit: u64::from(HEADERS_MAX),
            };
        }
        let parts = headers
            .iter()
            .map(|(name, value)| 8 + name.len() + value.map_or(0, <[u8]>::len));
        let alone = ARCHIVE_ROOT_BYTES
            + 4
            + value.map_or(0, <[u8]>::len)
            + key.map_or(0, |key| 4 + key.len())
            + if headers.is_empty() { 0 } else { 4 }
            + parts.sum::<usize>();
        if alone > self.body_bytes_max {
            return BatchError::TooLarge {
                what: "bytes of a batch with this record alone",
                size: (BATCH_HEADER_BYTES + alone) as u64,
                limit: (BATCH_HEADER_BYTES + self.body_bytes_max) as u64,
            };
        }
        BatchError::Full
    }
}

impl std::fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("limits", &self.limits)
            .field("record_count", &self.record_count())
            .field("encoded_bytes", &self.encoded_bytes())
            .finish_non_exhaustive()
    }
}

/// The end of a part that was just written to `parts`.
#[inline]
fn end_of(parts: &[u8], absent: bool) -> u32 {
    // Fits 31 bits: push keeps to the limit of the decompressed body.
    parts.len() as u32 | if absent { ABSENT } else { 0 }
}
