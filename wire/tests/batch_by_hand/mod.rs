//! Reads and patches a batch by the words of the specification alone, without the code under test.
#![allow(dead_code, reason = "each test binary uses its part")]

/// Bytes of an element of each column, in the order of the columns.
pub(crate) const ELEMENT_BYTES: [usize; 8] = [8, 4, 4, 4, 4, 1, 1, 1];
pub(crate) const TIMESTAMPS: usize = 0;
pub(crate) const KEY_ENDS: usize = 1;
pub(crate) const VALUE_ENDS: usize = 2;
pub(crate) const HEADER_ENDS: usize = 3;
pub(crate) const HEADER_PART_ENDS: usize = 4;
pub(crate) const KEYS: usize = 5;
pub(crate) const VALUES: usize = 6;
pub(crate) const HEADERS: usize = 7;

pub(crate) const HEADER_BYTES: usize = 80;
pub(crate) const ROOT_BYTES: usize = 64;

pub(crate) type Header = (String, Option<Vec<u8>>);

/// A record with all that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Makes length and checksum right again after a change.
pub(crate) fn reseal(batch: &mut [u8]) {
    put_u32(batch, 0, batch.len() as u32);
    let crc = crc32c::crc32c(&batch[32..]);
    put_u32(batch, 4, crc);
}

/// Stamps a batch as a broker does that stores anything, whatever the other fields are.
pub(crate) fn stamp_by_hand(batch: &mut [u8], topic: u64, partition: u32, base_offset: u64) {
    batch[8..16].copy_from_slice(&base_offset.to_le_bytes());
    let mut covered = topic.to_le_bytes().to_vec();
    covered.extend(partition.to_le_bytes());
    covered.extend(&batch[..28]);
    put_u32(batch, 28, crc32c::crc32c(&covered));
}

/// `reseal`, and the length of an uncompressed body too.
pub(crate) fn reseal_uncompressed(batch: &mut [u8]) {
    put_u32(batch, 72, (batch.len() - HEADER_BYTES) as u32);
    reseal(batch);
}

/// Where a column of an uncompressed batch begins in it, and how many elements it has.
pub(crate) fn column(batch: &[u8], index: usize) -> (usize, usize) {
    let pointer_at = batch.len() - ROOT_BYTES + 8 * index;
    let offset = u32_at(batch, pointer_at) as i32;
    let start = usize::try_from(pointer_at as i64 + i64::from(offset)).unwrap();
    (start, u32_at(batch, pointer_at + 4) as usize)
}

/// Where element `element` of a column lies in an uncompressed batch.
pub(crate) fn element(batch: &[u8], index: usize, element: usize) -> usize {
    let (start, len) = column(batch, index);
    assert!(element < len);
    start + element * ELEMENT_BYTES[index]
}

/// All records of an uncompressed batch.
pub(crate) fn records(batch: &[u8]) -> Vec<Record> {
    let count = u32_at(batch, 36) as usize;
    let len = |index| column(batch, index).1;
    let mut headers_from = 0;
    (0..count)
        .map(|i| {
            let headers_to = match len(HEADER_ENDS) {
                0 => 0,
                _ => u32_at(batch, element(batch, HEADER_ENDS, i)) as usize,
            };
            let headers = (headers_from..headers_to)
                .map(|header| {
                    let name = part(batch, HEADER_PART_ENDS, HEADERS, 2 * header).unwrap();
                    let value = part(batch, HEADER_PART_ENDS, HEADERS, 2 * header + 1);
                    (String::from_utf8(name).unwrap(), value)
                })
                .collect();
            headers_from = headers_to;
            Record {
                timestamp: match len(TIMESTAMPS) {
                    0 => i64_at(batch, 40),
                    _ => i64_at(batch, element(batch, TIMESTAMPS, i)),
                },
                key: match len(KEY_ENDS) {
                    0 => None,
                    _ => part(batch, KEY_ENDS, KEYS, i),
                },
                value: part(batch, VALUE_ENDS, VALUES, i),
                headers,
            }
        })
        .collect()
}

fn part(batch: &[u8], ends: usize, parts: usize, index: usize) -> Option<Vec<u8>> {
    let end = u32_at(batch, element(batch, ends, index));
    if end >> 31 == 1 {
        return None;
    }
    let start = match index {
        0 => 0,
        _ => u32_at(batch, element(batch, ends, index - 1)) & 0x7fff_ffff,
    };
    let base = column(batch, parts).0;
    Some(batch[base + start as usize..base + end as usize].to_vec())
}
