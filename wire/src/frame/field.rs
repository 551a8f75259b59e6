//! Reads and writes the fields of a body; a reader never goes past the body's end.

#![warn(clippy::indexing_slicing)]

use bytes::{BufMut, BytesMut};

use super::error::FrameErrorKind;
use super::kind::FrameKind;
use crate::error::{ErrorBody, ErrorCode, Fault, Retry, cut_sentence};
use crate::ids::Offset;
use crate::limits::SENTENCE_BYTES_MAX;

/// What is left of a body.
pub(super) struct FieldReader<'a> {
    kind: FrameKind,
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub(super) fn new(kind: FrameKind, body: &'a [u8]) -> Self {
        Self { kind, rest: body }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameErrorKind> {
        let (field, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(FrameErrorKind::EndsEarly(self.kind))?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FrameErrorKind> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, FrameErrorKind> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameErrorKind> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameErrorKind> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, FrameErrorKind> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Bytes that must be 0, so that they can get a meaning later.
    pub(super) fn reserved<const N: usize>(&mut self) -> Result<(), FrameErrorKind> {
        if self.array::<N>()? == [0; N] {
            Ok(())
        } else {
            Err(self.wrong("reserved"))
        }
    }

    pub(super) fn string(
        &mut self,
        field: &'static str,
        bytes_max: usize,
    ) -> Result<&'a str, FrameErrorKind> {
        let length = usize::from(self.u16()?);
        if length > bytes_max {
            return Err(self.too_long(field, length, bytes_max));
        }
        let (string, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(FrameErrorKind::EndsEarly(self.kind))?;
        self.rest = rest;
        std::str::from_utf8(string).map_err(|_| self.wrong(field))
    }

    /// The number of entries of a list that follows, each of at least `entry_bytes_min`: more than the body has room
    /// for are refused here, before anybody reserves memory for them.
    pub(super) fn count(
        &mut self,
        field: &'static str,
        count: usize,
        count_max: usize,
        entry_bytes_min: usize,
    ) -> Result<usize, FrameErrorKind> {
        if count > count_max {
            return Err(self.too_long(field, count, count_max));
        }
        if count.saturating_mul(entry_bytes_min) > self.rest.len() {
            return Err(FrameErrorKind::EndsEarly(self.kind));
        }
        Ok(count)
    }

    pub(super) fn range(
        &mut self,
        field: &'static str,
    ) -> Result<(Offset, Offset), FrameErrorKind> {
        let (from, to) = (Offset(self.u64()?), Offset(self.u64()?));
        if from > to {
            return Err(self.wrong(field));
        }
        Ok((from, to))
    }

    pub(super) fn error_body(&mut self) -> Result<ErrorBody, FrameErrorKind> {
        let code = ErrorCode::from_u16(self.u16()?);
        let fault = Fault::from_u8(self.u8()?).ok_or_else(|| self.wrong("fault"))?;
        let retry = Retry::from_u8(self.u8()?).ok_or_else(|| self.wrong("retry"))?;
        let range = self.range("range_to")?;
        let sentence = self.string("sentence", SENTENCE_BYTES_MAX)?.to_owned();
        Ok(ErrorBody {
            code,
            fault,
            retry,
            range: (range != (Offset(0), Offset(0))).then_some(range),
            sentence,
        })
    }

    pub(super) fn finish(self) -> Result<(), FrameErrorKind> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FrameErrorKind::TrailingBytes {
                kind: self.kind,
                bytes: self.rest.len(),
            })
        }
    }

    pub(super) fn wrong(&self, field: &'static str) -> FrameErrorKind {
        FrameErrorKind::Field {
            kind: self.kind,
            field,
        }
    }

    fn too_long(&self, field: &'static str, length: usize, length_max: usize) -> FrameErrorKind {
        FrameErrorKind::TooLong {
            kind: self.kind,
            field,
            length,
            length_max,
        }
    }
}

/// Writes a string; one over its limit is a bug of the one who made the message.
pub(super) fn put_string(out: &mut BytesMut, field: &str, string: &str, bytes_max: usize) {
    assert!(
        string.len() <= bytes_max,
        "{field} has {} bytes where {bytes_max} are allowed",
        string.len()
    );
    out.put_u16_le(u16::try_from(string.len()).expect("every limit of a string fits a u16"));
    out.put_slice(string.as_bytes());
}

/// Writes the number of entries of a list; a list over its limit is a bug of the one who made the message.
pub(super) fn put_count(out: &mut BytesMut, field: &str, count: usize, count_max: u32) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    assert!(
        count <= count_max,
        "{field} has {count} entries where {count_max} are allowed"
    );
    out.put_u32_le(count);
}

pub(super) fn put_error_body(out: &mut BytesMut, body: &ErrorBody) {
    out.put_u16_le(body.code.to_u16());
    out.put_u8(body.fault as u8);
    out.put_u8(body.retry as u8);
    let (from, to) = body.range.unwrap_or_default();
    out.put_u64_le(from.0);
    out.put_u64_le(to.0);
    put_string(
        out,
        "sentence",
        cut_sentence(&body.sentence),
        SENTENCE_BYTES_MAX,
    );
}
