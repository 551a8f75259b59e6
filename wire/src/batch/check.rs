//! What a broker checks before it stores a batch, and a consumer before it reads one.

use bytes::Bytes;

use super::columns::ColumnLayout;
use super::compress::{Decompressor, grown};
use super::header::check_limit;
use super::{BATCH_HEADER_BYTES, BatchError, BatchHeader, Compression, STAMP_BYTES};
use crate::limits::{
    BATCH_BYTES_DEFAULT, BATCH_BYTES_MAX, BATCH_RECORDS_MAX, CHECK_SCRATCH_KEPT_BYTES_MAX,
    DECOMPRESSED_BYTES_MAX,
};

/// What a broker accepts, within what the format allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes of a whole batch, header included.
    pub batch_bytes_max: u32,
    /// Records of a batch.
    pub batch_records_max: u32,
    /// Bytes of a body after decompression.
    pub decompressed_bytes_max: u32,
}

impl BatchLimits {
    /// The limits of the format, which no broker exceeds.
    pub const FORMAT: Self = Self {
        batch_bytes_max: BATCH_BYTES_MAX,
        batch_records_max: BATCH_RECORDS_MAX,
        decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
    };

    /// These limits, each taken down to the format's.
    #[must_use]
    pub fn within_format(self) -> Self {
        Self {
            batch_bytes_max: self.batch_bytes_max.min(BATCH_BYTES_MAX),
            batch_records_max: self.batch_records_max.min(BATCH_RECORDS_MAX),
            decompressed_bytes_max: self.decompressed_bytes_max.min(DECOMPRESSED_BYTES_MAX),
        }
    }
}

impl Default for BatchLimits {
    /// What a broker accepts unless it is configured otherwise.
    fn default() -> Self {
        Self {
            batch_bytes_max: BATCH_BYTES_DEFAULT,
            ..Self::FORMAT
        }
    }
}

/// How far a batch is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckDepth {
    /// Everything: a batch that passes can be read to its last record.
    #[default]
    Full,
    /// The header, the length and the checksum, not what is in the body: a producer's mistake is found by the
    /// consumers then.
    HeaderOnly,
}

/// Memory that checks reuse: a body is decompressed into it. Costs nothing until a compressed batch comes.
#[derive(Default)]
pub struct CheckScratch {
    body: Vec<u8>,
    decompressor: Decompressor,
}

impl CheckScratch {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decompresses the body and checks it.
    fn check_body(
        &mut self,
        header: &BatchHeader,
        stored: &[u8],
        compression: Compression,
    ) -> Result<ColumnLayout, BatchError> {
        let body = grown(&mut self.body, header.body_bytes())
            .expect("the scratch was just grown to this size");
        let decompressed = self.decompressor.decompress(stored, compression, body);
        let checked = decompressed.and_then(|()| check_body(header, body));
        if self.body.capacity() > CHECK_SCRATCH_KEPT_BYTES_MAX as usize {
            self.body = Vec::new();
        }
        checked
    }
}

impl std::fmt::Debug for CheckScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckScratch")
            .field("kept_bytes", &self.body.capacity())
            .finish_non_exhaustive()
    }
}

/// The header of a batch that passed [`check_batch`], which alone can make this: the proof of the check. A copy, so it
/// does not hold on to the bytes.
#[derive(Clone, Copy, Debug)]
pub struct CheckedHeader {
    header: BatchHeader,
    depth: CheckDepth,
}

impl CheckedHeader {
    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// How far the batch was checked.
    #[must_use]
    pub fn depth(&self) -> CheckDepth {
        self.depth
    }
}

impl std::ops::Deref for CheckedHeader {
    type Target = BatchHeader;

    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}

/// Checks that `bytes` are exactly one batch. Stamps are not looked at, so they may be there or not.
///
/// Nothing is allocated for an uncompressed body; a compressed one is decompressed into `scratch`, whose size is decided
/// by the limits before it is reserved. The checksum comes before anything in the body is looked at.
///
/// # Errors
/// What is wrong, as a [`BatchError`]; never [`BatchError::Full`].
pub fn check_batch(
    bytes: &[u8],
    limits: &BatchLimits,
    depth: CheckDepth,
    scratch: &mut CheckScratch,
) -> Result<CheckedHeader, BatchError> {
    let (header, stored) = check_envelope(bytes, limits)?;
    if depth == CheckDepth::Full {
        match header.compression()? {
            Compression::None => check_body(header, stored)?,
            compression => scratch.check_body(header, stored, compression)?,
        };
    }
    Ok(CheckedHeader {
        header: *header,
        depth,
    })
}

/// Takes the first batch off the front of `bytes`, which hold nothing but whole batches; `None` when none is left. Looks
/// only at the header: the batch is still to be checked.
///
/// # Errors
/// What is wrong with the header, or [`BatchError::Truncated`] when the batch does not end within `bytes`.
pub fn split_batch(bytes: &mut Bytes) -> Result<Option<Bytes>, BatchError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let needed = BatchHeader::read_from_prefix_of(bytes)?.batch_bytes();
    if bytes.len() < needed {
        return Err(BatchError::Truncated {
            needed,
            found: bytes.len(),
        });
    }
    Ok(Some(bytes.split_to(needed)))
}

/// Header, limits, length and checksum. Gives the body as it is stored.
fn check_envelope<'a>(
    bytes: &'a [u8],
    limits: &BatchLimits,
) -> Result<(&'a BatchHeader, &'a [u8]), BatchError> {
    let header = BatchHeader::read_from_prefix_of(bytes)?;
    check_limit(
        "bytes of a batch",
        header.broker.batch_bytes.get(),
        limits.batch_bytes_max,
    )?;
    check_limit(
        "records of a batch",
        header.record_count(),
        limits.batch_records_max,
    )?;
    check_limit(
        "bytes of a decompressed body",
        header.body_bytes.get(),
        limits.decompressed_bytes_max,
    )?;
    if bytes.len() > header.batch_bytes() {
        return Err(BatchError::Malformed("there are bytes behind the batch"));
    }
    let body = check_crc(header, bytes)?;
    Ok((header, body))
}

/// Checks that `bytes` hold the whole batch and that its CRC is right. Gives the body as it is stored.
pub(super) fn check_crc<'a>(header: &BatchHeader, bytes: &'a [u8]) -> Result<&'a [u8], BatchError> {
    let truncated = BatchError::Truncated {
        needed: header.batch_bytes(),
        found: bytes.len(),
    };
    let signed = bytes
        .get(STAMP_BYTES..header.batch_bytes())
        .ok_or(truncated)?;
    let computed = crc32c::crc32c(signed);
    if computed != header.crc() {
        return Err(BatchError::Checksum {
            found: header.crc(),
            computed,
        });
    }
    signed
        .get(BATCH_HEADER_BYTES - STAMP_BYTES..)
        .ok_or(truncated)
}

fn check_body(header: &BatchHeader, body: &[u8]) -> Result<ColumnLayout, BatchError> {
    let layout = ColumnLayout::of(body)?;
    layout.view(body).check(header)?;
    Ok(layout)
}

/// A batch that passed the full check, with its body as it is read: a slice of the batch, or what it decompresses to.
pub(super) fn open_body(
    bytes: &Bytes,
    limits: &BatchLimits,
    scratch: &mut CheckScratch,
) -> Result<(BatchHeader, Bytes, ColumnLayout), BatchError> {
    let (header, stored) = check_envelope(bytes, limits)?;
    let body = match header.compression()? {
        Compression::None => bytes.slice_ref(stored),
        compression => {
            let mut body = vec![0; header.body_bytes()];
            scratch
                .decompressor
                .decompress(stored, compression, &mut body)?;
            Bytes::from(body)
        }
    };
    let layout = check_body(header, &body)?;
    Ok((*header, body, layout))
}
