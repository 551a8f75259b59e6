//! The body: an archive of columns, and the view of it that reads records in place.

use rkyv::rancor;
use zerocopy::FromBytes;
use zerocopy::little_endian::{I64, U32};

use super::{BatchError, BatchHeader};
use crate::ids::Timestamp;
use crate::limits::{HEADERS_MAX, TIMESTAMP_MAX};

/// Bytes of the archive's root: eight columns, a relative pointer and a length each.
pub const ARCHIVE_ROOT_BYTES: usize = 64;

/// Bit 31 of an end: there is no key, or the value is null. The end itself is then its predecessor's.
pub(super) const ABSENT: u32 = 1 << 31;

const _: () = assert!(size_of::<ArchivedColumns>() == ARCHIVE_ROOT_BYTES);
const _: () = assert!(
    align_of::<ArchivedColumns>() == 1,
    "a body is valid at any address"
);
// IMPORTANT: without these each element would be serialised on its own, at a tenth of the speed of a copy.
#[cfg(target_endian = "little")]
const _: () = {
    use rkyv::Archive;
    assert!(<u8 as Archive>::COPY_OPTIMIZATION.is_enabled());
    assert!(<u32 as Archive>::COPY_OPTIMIZATION.is_enabled());
    assert!(<i64 as Archive>::COPY_OPTIMIZATION.is_enabled());
};

/// What is archived. The order of the fields is the order of the columns in the body.
#[derive(Default, rkyv::Archive, rkyv::Serialize)]
pub(super) struct Columns {
    /// One a record; empty when every record's is the header's `first_timestamp`.
    pub(super) timestamps: Vec<i64>,
    /// Where each record's key ends in `keys`; bit 31: no key. Empty when no record has one.
    pub(super) key_ends: Vec<u32>,
    /// Where each record's value ends in `values`; bit 31: null. Never empty.
    pub(super) value_ends: Vec<u32>,
    /// How many headers the records up to and with this one have. Empty when no record has one.
    pub(super) header_ends: Vec<u32>,
    /// Two a header: where its name ends in `headers`, and where its value does; bit 31 of the latter: null.
    pub(super) header_part_ends: Vec<u32>,
    pub(super) keys: Vec<u8>,
    pub(super) values: Vec<u8>,
    pub(super) headers: Vec<u8>,
}

impl Columns {
    /// Bytes of the archive.
    pub(super) fn archive_bytes(&self) -> usize {
        ARCHIVE_ROOT_BYTES
            + size_of::<i64>() * self.timestamps.len()
            + size_of::<u32>()
                * (self.key_ends.len()
                    + self.value_ends.len()
                    + self.header_ends.len()
                    + self.header_part_ends.len())
            + self.keys.len()
            + self.values.len()
            + self.headers.len()
    }

    /// Appends the archive to `out`: one copy of each column.
    pub(super) fn archive_into(&self, out: Vec<u8>) -> Vec<u8> {
        rkyv::api::high::to_bytes_in::<_, rancor::Error>(self, out)
            .expect("a Vec takes any bytes, and the limits keep every pointer within 32 bits")
    }

    /// Empties every column and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.timestamps.clear();
        self.key_ends.clear();
        self.value_ends.clear();
        self.header_ends.clear();
        self.header_part_ends.clear();
        self.keys.clear();
        self.values.clear();
        self.headers.clear();
    }
}

/// How many elements each column of a valid archive has. The columns lie one behind the other from the front of the
/// body, so this is all it takes to find them again without looking at the archive's pointers.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColumnLayout {
    timestamps: u32,
    key_ends: u32,
    value_ends: u32,
    header_ends: u32,
    header_part_ends: u32,
    keys: u32,
    values: u32,
    headers: u32,
}

impl ColumnLayout {
    /// Checks that `body` is an archive of columns without a gap and without a byte too many.
    ///
    /// The root is read by hand, eight relative pointers with lengths, because every column has exactly one place where
    /// it may lie: this is stricter than rkyv's own check and costs the same for any body, while bytecheck visits each byte
    /// of a blob (about 4 ns a byte in a build without link-time optimisation). A property test holds the two
    /// against each other.
    pub(super) fn of(body: &[u8]) -> Result<Self, BatchError> {
        let (_, root) =
            body.split_last_chunk::<ARCHIVE_ROOT_BYTES>()
                .ok_or(BatchError::Malformed(
                    "the body is not an archive of columns",
                ))?;
        let mut reader = RootReader {
            root,
            root_at: (body.len() - ARCHIVE_ROOT_BYTES) as u64,
            field: 0,
            position: 0,
        };
        let layout = Self {
            timestamps: reader.take_column(size_of::<I64>())?,
            key_ends: reader.take_column(size_of::<U32>())?,
            value_ends: reader.take_column(size_of::<U32>())?,
            header_ends: reader.take_column(size_of::<U32>())?,
            header_part_ends: reader.take_column(size_of::<U32>())?,
            keys: reader.take_column(1)?,
            values: reader.take_column(1)?,
            headers: reader.take_column(1)?,
        };
        if reader.position != reader.root_at {
            return Err(BatchError::Malformed(
                "there are bytes between the columns and the root",
            ));
        }
        Ok(layout)
    }

    /// The columns of `body`, which must be the one that this layout was made of.
    pub(super) fn view<'a>(&self, body: &'a [u8]) -> ColumnsView<'a> {
        self.split(body).expect("the layout was made of this body")
    }

    fn split<'a>(&self, body: &'a [u8]) -> Option<ColumnsView<'a>> {
        let ends =
            |rest, count: u32| <[U32]>::ref_from_prefix_with_elems(rest, count as usize).ok();
        let (timestamps, rest) =
            <[I64]>::ref_from_prefix_with_elems(body, self.timestamps as usize).ok()?;
        let (key_ends, rest) = ends(rest, self.key_ends)?;
        let (value_ends, rest) = ends(rest, self.value_ends)?;
        let (header_ends, rest) = ends(rest, self.header_ends)?;
        let (header_part_ends, rest) = ends(rest, self.header_part_ends)?;
        let (keys, rest) = rest.split_at_checked(self.keys as usize)?;
        let (values, rest) = rest.split_at_checked(self.values as usize)?;
        let (headers, _root) = rest.split_at_checked(self.headers as usize)?;
        Some(ColumnsView {
            timestamps,
            key_ends,
            value_ends,
            header_ends,
            header_part_ends,
            keys,
            values,
            headers,
        })
    }
}

/// Reads the root's fields in order, and where the columns must lie.
struct RootReader<'a> {
    root: &'a [u8; ARCHIVE_ROOT_BYTES],
    root_at: u64,
    field: usize,
    position: u64,
}

impl RootReader<'_> {
    /// The length of the next column, which must begin where the one before ended.
    fn take_column(&mut self, element_bytes: usize) -> Result<u32, BatchError> {
        const OUT_OF_PLACE: BatchError = BatchError::Malformed("a column is out of place");
        let at = self.field * POINTER_BYTES;
        let field = self.root.get(at..at + POINTER_BYTES).ok_or(OUT_OF_PLACE)?;
        let (offset, len) = field.split_first_chunk::<4>().ok_or(OUT_OF_PLACE)?;
        let len = len.first_chunk::<4>().ok_or(OUT_OF_PLACE)?;
        let (offset, len) = (i32::from_le_bytes(*offset), u32::from_le_bytes(*len));
        // A relative pointer counts from its own place.
        let start = (self.root_at + at as u64).checked_add_signed(i64::from(offset));
        if start != Some(self.position) {
            return Err(OUT_OF_PLACE);
        }
        self.position += u64::from(len) * element_bytes as u64;
        if self.position > self.root_at {
            return Err(OUT_OF_PLACE);
        }
        self.field += 1;
        Ok(len)
    }
}

/// A relative pointer and a length.
const POINTER_BYTES: usize = 8;

/// The columns, in place.
#[derive(Clone, Copy)]
pub(super) struct ColumnsView<'a> {
    timestamps: &'a [I64],
    key_ends: &'a [U32],
    value_ends: &'a [U32],
    header_ends: &'a [U32],
    header_part_ends: &'a [U32],
    keys: &'a [u8],
    values: &'a [u8],
    headers: &'a [u8],
}

impl<'a> ColumnsView<'a> {
    /// Checks the columns against each other and against the header: one pass over each. After this every record can
    /// be read without a further doubt.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<(), BatchError> {
        let record_count = header.record_count() as usize;
        if self.value_ends.len() != record_count {
            return Err(BatchError::Malformed(
                "the records are not as many as the header says",
            ));
        }
        let one_a_record_or_none = |len| len == record_count || len == 0;
        if !(one_a_record_or_none(self.timestamps.len())
            && one_a_record_or_none(self.key_ends.len())
            && one_a_record_or_none(self.header_ends.len()))
        {
            return Err(BatchError::Malformed(
                "a column has more or fewer elements than records",
            ));
        }
        if !ends_cover(self.value_ends, self.values) {
            return Err(BatchError::Malformed(
                "the ends of the values do not fit the values",
            ));
        }
        if !ends_cover(self.key_ends, self.keys) {
            return Err(BatchError::Malformed(
                "the ends of the keys do not fit the keys",
            ));
        }
        self.check_timestamps(header)?;
        self.check_headers()
    }

    fn check_timestamps(&self, header: &BatchHeader) -> Result<(), BatchError> {
        let first = header.first_timestamp().0;
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for timestamp in self.timestamps {
            min = min.min(timestamp.get());
            max = max.max(timestamp.get());
        }
        match self.timestamps.first() {
            None => max = first,
            Some(timestamp) if timestamp.get() != first => {
                return Err(BatchError::Malformed(
                    "the first timestamp is not the first record's",
                ));
            }
            Some(_) if min < 0 || max > TIMESTAMP_MAX => {
                return Err(BatchError::Malformed("a timestamp is out of range"));
            }
            Some(_) => {}
        }
        if max != header.max_timestamp().0 {
            return Err(BatchError::Malformed(
                "the latest timestamp is not any record's latest",
            ));
        }
        Ok(())
    }

    fn check_headers(&self) -> Result<(), BatchError> {
        let mut previous = 0;
        let mut sound = true;
        for end in self.header_ends {
            let end = end.get();
            // A step back wraps to far more than the limit.
            sound &= end.wrapping_sub(previous) <= HEADERS_MAX;
            previous = end;
        }
        if !sound {
            return Err(BatchError::Malformed(
                "a record has too many headers, or fewer than none",
            ));
        }
        if u64::from(previous) * 2 != self.header_part_ends.len() as u64 {
            return Err(BatchError::Malformed(
                "the headers are not as many as the records have",
            ));
        }
        if !ends_cover(self.header_part_ends, self.headers) {
            return Err(BatchError::Malformed(
                "the ends of the headers do not fit the headers",
            ));
        }
        let mut start = 0;
        for end in self.header_part_ends.chunks_exact(2) {
            let [name_end, value_end] = end else { break };
            if name_end.get() & ABSENT != 0 {
                return Err(BatchError::Malformed("a header has no name"));
            }
            let name = self
                .headers
                .get(start..name_end.get() as usize)
                .unwrap_or_default();
            if std::str::from_utf8(name).is_err() {
                return Err(BatchError::Malformed("the name of a header is not UTF-8"));
            }
            start = (value_end.get() & !ABSENT) as usize;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.value_ends.len()
    }

    /// Record `index`, or `None` behind the last.
    #[inline]
    pub(super) fn record(&self, index: usize, first_timestamp: Timestamp) -> Option<RecordRef<'a>> {
        let value_end = self.value_ends.get(index)?.get();
        Some(RecordRef {
            key: match self.key_ends.get(index) {
                Some(end) => part(self.keys, end_before(self.key_ends, index), end.get()),
                None => None,
            },
            value: part(self.values, end_before(self.value_ends, index), value_end),
            timestamp: match self.timestamps.get(index) {
                Some(timestamp) => Timestamp(timestamp.get()),
                None => first_timestamp,
            },
            headers: match self.header_ends.get(index) {
                Some(end) => self.headers_between(end_before(self.header_ends, index), end.get()),
                None => HeadersRef::default(),
            },
        })
    }

    fn headers_between(&self, from: u32, to: u32) -> HeadersRef<'a> {
        let (from, to) = (from as usize * 2, to as usize * 2);
        HeadersRef {
            start: end_before(self.header_part_ends, from),
            part_ends: self
                .header_part_ends
                .get(from..to)
                .expect("the columns were checked"),
            headers: self.headers,
        }
    }
}

/// Whether the ends rise from 0 to the very length of `parts`, and those of absent parts do not move.
fn ends_cover(ends: &[U32], parts: &[u8]) -> bool {
    let mut previous = 0;
    let mut sound = true;
    // No early return: without one the loop becomes a few vector instructions.
    for end in ends {
        let absent = end.get() & ABSENT != 0;
        let end = end.get() & !ABSENT;
        sound &= (end >= previous) & (!absent | (end == previous));
        previous = end;
    }
    sound && previous as usize == parts.len()
}

/// Where the element before `index` ends: where `index` begins.
#[inline]
fn end_before(ends: &[U32], index: usize) -> u32 {
    let before = index.checked_sub(1).and_then(|before| ends.get(before));
    before.map_or(0, |end| end.get() & !ABSENT)
}

#[inline]
fn part(parts: &[u8], start: u32, end: u32) -> Option<&[u8]> {
    if end & ABSENT != 0 {
        return None;
    }
    Some(
        parts
            .get(start as usize..end as usize)
            .expect("the columns were checked"),
    )
}

/// A record, in place.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// The key, if it has one. An empty key is a key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null, which is not an empty value.
    pub value: Option<&'a [u8]>,
    /// As the producer gave it.
    pub timestamp: Timestamp,
    /// The headers, in the producer's order.
    pub headers: HeadersRef<'a>,
}

impl PartialEq for RecordRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
            && self.value == other.value
            && self.timestamp == other.timestamp
            && self.headers.eq(other.headers)
    }
}

impl Eq for RecordRef<'_> {}

/// The headers of a record, in place: an iterator of names and values. Names may repeat; a value may be null.
#[derive(Clone, Copy, Default)]
pub struct HeadersRef<'a> {
    /// Where the next name begins in `headers`.
    start: u32,
    /// Two for each header that is left.
    part_ends: &'a [U32],
    headers: &'a [u8],
}

impl HeadersRef<'_> {
    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.part_ends.is_empty()
    }
}

impl<'a> Iterator for HeadersRef<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let ([name_end, value_end], rest) = self.part_ends.split_first_chunk::<2>()?;
        let (name_end, value_end) = (name_end.get(), value_end.get());
        let name = part(self.headers, self.start, name_end)
            .and_then(|name| std::str::from_utf8(name).ok());
        let value = part(self.headers, name_end, value_end);
        self.start = value_end & !ABSENT;
        self.part_ends = rest;
        Some((name.expect("the names were checked"), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.part_ends.len() / 2;
        (left, Some(left))
    }
}

impl ExactSizeIterator for HeadersRef<'_> {}

impl std::fmt::Debug for HeadersRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
