//! Bytes that are no batch, and batches whose maker lies: each ends in a typed error or in records that can be read to
//! the last, never in a panic.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod batch_by_hand;
mod full_batch;

use batch_by_hand::*;
use bytes::Bytes;
use full_batch::full_batch;
use gannet_wire::Timestamp;
use gannet_wire::batch::{
    BatchBuilder, BatchError, BatchLimits, CheckDepth, CheckScratch, Compression, Records,
    check_batch, verify_stamped,
};
use gannet_wire::{PartitionIndex, TopicId};
use proptest::prelude::*;

/// A batch with one value column and nothing else.
fn plain_batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchLimits::default());
    builder
        .push(Timestamp(10), None, Some(b"one"), &[])
        .unwrap();
    builder
        .push(Timestamp(10), None, Some(b"two"), &[])
        .unwrap();
    builder.build(Compression::None, None).to_vec()
}

/// Checks a batch both ways, which must agree, and reads what was accepted.
fn read(bytes: &[u8]) -> Result<Vec<Record>, BatchError> {
    let limits = BatchLimits::FORMAT;
    let checked = check_batch(bytes, &limits, CheckDepth::Full, &mut CheckScratch::new());
    let opened = Records::open(Bytes::copy_from_slice(bytes));
    assert_eq!(
        checked.map(drop),
        opened.as_ref().map(drop).map_err(|error| *error)
    );
    let records = opened.inspect_err(|error| assert_ne!(*error, BatchError::Full))?;
    let all: Vec<_> = records.iter().map(|(_, record)| owned(record)).collect();
    assert_eq!(all.len(), records.len());
    Ok(all)
}

fn owned(record: gannet_wire::batch::RecordRef<'_>) -> Record {
    Record {
        timestamp: record.timestamp.0,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record
            .headers
            .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
            .collect(),
    }
}

/// The refusal of `batch` once `change` was made to it and length and checksum were made right again.
fn refusal(mut batch: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> BatchError {
    assert!(read(&batch).is_ok());
    change(&mut batch);
    reseal(&mut batch);
    read(&batch).unwrap_err()
}

fn malformed(batch: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> &'static str {
    match refusal(batch, change) {
        BatchError::Malformed(reason) => reason,
        other => panic!("refused as {other:?}"),
    }
}

#[test]
fn every_flipped_bit_of_the_producers_part_is_found_by_the_checksum() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let good = full_batch(compression);
        let records = read(&good).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            match read(&bad) {
                Err(_) => {}
                // The broker's stamps are not under the producer's checksum and do not change the records.
                Ok(read) => {
                    assert!((8..32).contains(&(bit / 8)), "bit {bit}");
                    assert_eq!(read, records);
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_under_a_right_checksum_is_refused_or_read_to_the_last_record() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let good = full_batch(compression);
        for bit in 32 * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            reseal(&mut bad);
            let _ = read(&bad);
        }
    }
}

#[test]
fn a_truncated_batch_is_refused_at_every_length() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let good = full_batch(compression);
        for len in 0..good.len() {
            assert!(
                matches!(read(&good[..len]), Err(BatchError::Truncated { .. })),
                "{len}"
            );
            if len > HEADER_BYTES {
                let mut sealed = good[..len].to_vec();
                reseal(&mut sealed);
                assert!(read(&sealed).is_err(), "{len}");
                reseal_uncompressed(&mut sealed);
                assert!(read(&sealed).is_err(), "{len}");
            }
        }
    }
}

#[test]
fn a_byte_too_many_is_refused_wherever_it_is() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let good = full_batch(compression);
        let mut behind = good.clone();
        behind.push(0);
        assert_eq!(
            read(&behind),
            Err(BatchError::Malformed("there are bytes behind the batch"))
        );
        for at in HEADER_BYTES..=good.len() {
            let mut bad = good.clone();
            bad.insert(at, 0);
            if compression == Compression::None {
                reseal_uncompressed(&mut bad);
            } else {
                reseal(&mut bad);
            }
            assert!(read(&bad).is_err(), "{compression:?} {at}");
        }
    }
}

#[test]
fn every_word_of_the_archives_root_holds_one_value_only() {
    let good = full_batch(Compression::None);
    let wild = [
        0,
        1,
        2,
        3,
        4,
        8,
        16,
        64,
        80,
        255,
        256,
        4096,
        1 << 30,
        1 << 31,
        u32::MAX,
    ];
    for word in 0..16 {
        let at = good.len() - ROOT_BYTES + 4 * word;
        let right = u32_at(&good, at);
        for wild in wild {
            for value in [
                wild,
                wild.wrapping_neg(),
                right.wrapping_add(wild),
                right ^ wild,
            ] {
                let mut bad = good.clone();
                put_u32(&mut bad, at, value);
                reseal(&mut bad);
                assert_eq!(
                    read(&bad).is_ok(),
                    value == right,
                    "word {word} value {value}"
                );
            }
        }
    }
}

#[test]
fn columns_that_swap_places_are_refused() {
    // Keys and values change roles: both pointers stay within the body and both lengths right.
    let good = full_batch(Compression::None);
    let root = good.len() - ROOT_BYTES;
    let (keys, key_bytes) = column(&good, KEYS);
    let (values, value_bytes) = column(&good, VALUES);
    let reason = malformed(good, |batch| {
        put_u32(
            batch,
            root + 8 * KEYS,
            (values as u32).wrapping_sub((root + 8 * KEYS) as u32),
        );
        put_u32(batch, root + 8 * KEYS + 4, value_bytes as u32);
        put_u32(
            batch,
            root + 8 * VALUES,
            (keys as u32).wrapping_sub((root + 8 * VALUES) as u32),
        );
        put_u32(batch, root + 8 * VALUES + 4, key_bytes as u32);
    });
    assert_eq!(reason, "a column is out of place");
}

#[test]
fn a_gap_between_columns_is_refused_though_every_pointer_is_within_the_body() {
    let good = full_batch(Compression::None);
    for gap_before in TIMESTAMPS..=HEADERS {
        let mut bad = good.clone();
        bad.insert(column(&good, gap_before).0, 0);
        let root = bad.len() - ROOT_BYTES;
        // The root moved away from the columns before the gap.
        for index in 0..gap_before {
            let at = root + 8 * index;
            let pointer = u32_at(&bad, at);
            put_u32(&mut bad, at, pointer.wrapping_sub(1));
        }
        reseal_uncompressed(&mut bad);
        assert_eq!(
            read(&bad),
            Err(BatchError::Malformed("a column is out of place"))
        );
    }
    let mut bad = good.clone();
    bad.insert(good.len() - ROOT_BYTES, 0);
    let root = bad.len() - ROOT_BYTES;
    for index in TIMESTAMPS..=HEADERS {
        let at = root + 8 * index;
        let pointer = u32_at(&bad, at);
        put_u32(&mut bad, at, pointer.wrapping_sub(1));
    }
    reseal_uncompressed(&mut bad);
    assert_eq!(
        read(&bad),
        Err(BatchError::Malformed(
            "there are bytes between the columns and the root"
        ))
    );
}

#[test]
fn a_record_count_other_than_the_columns_is_refused() {
    for count in [1, 2, 4, 100, 262_144] {
        let reason = malformed(full_batch(Compression::None), |batch| {
            put_u32(batch, 36, count)
        });
        assert_eq!(reason, "the records are not as many as the header says");
    }
    assert_eq!(
        malformed(plain_batch(), |batch| put_u32(batch, 36, 0)),
        "there is no record"
    );
    assert!(matches!(
        refusal(plain_batch(), |batch| put_u32(batch, 36, 262_145)),
        BatchError::TooLarge {
            what: "records of a batch",
            ..
        }
    ));
}

#[test]
fn an_end_that_steps_back_or_beyond_is_refused() {
    for (index, reason) in [
        (VALUE_ENDS, "the ends of the values do not fit the values"),
        (KEY_ENDS, "the ends of the keys do not fit the keys"),
        (
            HEADER_PART_ENDS,
            "the ends of the headers do not fit the headers",
        ),
    ] {
        let good = full_batch(Compression::None);
        let first = element(&good, index, 0);
        let last = element(&good, index, column(&good, index).1 - 1);
        for (at, value) in [(first, 0x7fff_ffff), (last, 0), (last, 0x7fff_ffff)] {
            assert_eq!(
                malformed(good.clone(), |batch| put_u32(batch, at, value)),
                reason
            );
        }
    }
}

#[test]
fn an_absent_part_with_bytes_is_refused() {
    let good = full_batch(Compression::None);
    let at = element(&good, VALUE_ENDS, 0);
    let end = u32_at(&good, at);
    assert_eq!(
        malformed(good, |batch| put_u32(batch, at, end | 1 << 31)),
        "the ends of the values do not fit the values"
    );
}

#[test]
fn header_counts_that_do_not_fit_are_refused() {
    let good = full_batch(Compression::None);
    let last = element(&good, HEADER_ENDS, 2);
    assert_eq!(
        malformed(good.clone(), |batch| put_u32(batch, last, 2)),
        "the headers are not as many as the records have"
    );
    for value in [1, 2_000, 1 << 31, u32::MAX] {
        assert_eq!(
            malformed(good.clone(), |batch| put_u32(batch, last, value)),
            "a record has too many headers, or fewer than none"
        );
    }
}

#[test]
fn a_header_without_a_name_is_refused() {
    let good = full_batch(Compression::None);
    // The last header's value becomes all of it, its name absent.
    let name = element(&good, HEADER_PART_ENDS, 4);
    let before = u32_at(&good, element(&good, HEADER_PART_ENDS, 3)) & 0x7fff_ffff;
    assert_eq!(
        malformed(good, |batch| put_u32(batch, name, before | 1 << 31)),
        "a header has no name"
    );
}

#[test]
fn a_header_name_that_is_not_utf8_is_refused() {
    let good = full_batch(Compression::None);
    let name = element(&good, HEADERS, 0);
    assert_eq!(
        malformed(good.clone(), |batch| batch[name] = 0xff),
        "the name of a header is not UTF-8"
    );
    // In a value any byte may stand.
    let mut value = good.clone();
    value[name + "trace".len()] = 0xff;
    reseal(&mut value);
    read(&value).unwrap();
}

#[test]
fn timestamps_that_disagree_with_the_header_are_refused() {
    let good = full_batch(Compression::None);
    let put = |at: usize, value: i64| {
        move |batch: &mut Vec<u8>| batch[at..at + 8].copy_from_slice(&value.to_le_bytes())
    };
    let record = |i| element(&good, TIMESTAMPS, i);
    let first = "the first timestamp is not the first record's";
    let latest = "the latest timestamp is not any record's latest";
    let range = "a timestamp is out of range";
    for (at, value, reason) in [
        (record(0), 11, first),
        (40, 11, first),
        (48, 31, latest),
        (record(1), 29, latest),
        (record(1), 31, latest),
        (record(2), -1, range),
        (record(2), i64::MIN, range),
        (record(2), 253_402_300_800_000, range),
        (40, -1, "the timestamps are out of range"),
        (48, 9, "the timestamps are out of range"),
        (48, 253_402_300_800_000, "the timestamps are out of range"),
    ] {
        assert_eq!(malformed(good.clone(), put(at, value)), reason);
    }
    assert_eq!(malformed(plain_batch(), put(48, 11)), latest);
}

#[test]
fn fields_that_are_not_used_must_be_zero() {
    for at in [34, 35, 76, 79] {
        malformed(plain_batch(), |batch| batch[at] = 1);
    }
    let reason = "an epoch or a sequence without a producer id";
    for at in [64, 68] {
        assert_eq!(malformed(plain_batch(), |batch| batch[at] = 1), reason);
    }
}

#[test]
fn unknown_formats_and_compressions_are_told_apart() {
    for format in [0, 2, 3, 255] {
        assert_eq!(
            refusal(plain_batch(), |batch| batch[32] = format),
            BatchError::FormatUnsupported(format)
        );
    }
    assert_eq!(
        refusal(plain_batch(), |batch| batch[33] = 3),
        BatchError::CompressionUnsupported(3)
    );
}

#[test]
fn a_body_length_that_lies_is_refused() {
    let right = u32_at(&full_batch(Compression::None), 72);
    assert_eq!(
        malformed(full_batch(Compression::None), |batch| put_u32(
            batch,
            72,
            right - 1
        )),
        "the body's length is not the batch's less its header"
    );
    for compression in [Compression::Lz4, Compression::Zstd] {
        for lie in [0, 1, right - 1, right + 1, right * 2] {
            malformed(full_batch(compression), |batch| put_u32(batch, 72, lie));
        }
        for lie in [1 << 24, 32 << 20, (32 << 20) + 1, u32::MAX] {
            let refusal = refusal(full_batch(compression), |batch| put_u32(batch, 72, lie));
            assert!(
                matches!(refusal, BatchError::TooLarge { .. }),
                "{refusal:?}"
            );
        }
    }
}

#[test]
fn a_decompression_bomb_is_refused() {
    const BOMB_BYTES: usize = 16 << 20;
    let zeros = vec![0; BOMB_BYTES];
    let lz4 = lz4_flex::block::compress(&zeros);
    let zstd = zstd::bulk::compress(&zeros, 19).unwrap();
    for (compression, bomb) in [(1, lz4), (2, zstd)] {
        for claim in [1_000, 100_000, BOMB_BYTES as u32] {
            let refusal = refusal(plain_batch(), |batch| {
                batch.truncate(HEADER_BYTES);
                batch.extend_from_slice(&bomb);
                batch[33] = compression;
                put_u32(batch, 72, claim);
            });
            assert!(
                matches!(
                    refusal,
                    BatchError::TooLarge { .. } | BatchError::Malformed(_)
                ),
                "{refusal:?}"
            );
        }
    }
}

#[test]
fn a_length_of_zero_as_in_a_segments_filler_is_no_batch() {
    assert!(matches!(read(&[0; 4096]), Err(BatchError::Malformed(_))));
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let part = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    let headers = || proptest::collection::vec((".{0,6}", part()), 0..4);
    let record = (
        0..3_i64,
        part(),
        part(),
        proptest::option::weighted(0.3, headers()),
    )
        .prop_map(|(timestamp, key, value, headers)| Record {
            timestamp: 1_700_000_000_000 + timestamp,
            key,
            value,
            headers: headers.unwrap_or_default(),
        });
    // Mostly small batches; whole columns must be absent often enough.
    (proptest::collection::vec(record, 1..60), any::<[bool; 3]>()).prop_map(
        |(mut records, [times, keys, headers])| {
            for record in &mut records {
                record.timestamp = if times { record.timestamp } else { 5 };
                record.key = record.key.take().filter(|_| keys);
                if !headers {
                    record.headers.clear();
                }
            }
            records
        },
    )
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        Just(Compression::Lz4),
        Just(Compression::Zstd)
    ]
}

fn build(records: &[Record], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchLimits::FORMAT);
    for record in records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .push(Timestamp(record.timestamp), key, value, &headers)
            .unwrap();
    }
    let bytes = builder.encoded_bytes();
    let batch = builder.build(compression, None);
    assert!(batch.len() <= bytes);
    batch
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_records_come_back(records in any_records(), compression in any_compression()) {
        let batch = build(&records, compression);
        prop_assert_eq!(read(&batch).unwrap(), records.clone());
        if batch[33] == 0 {
            prop_assert_eq!(batch_by_hand::records(&batch), records);
        }
    }

    #[test]
    fn any_record_can_be_read_alone(records in any_records()) {
        let opened = Records::open(build(&records, Compression::None)).unwrap();
        for (i, (offset, record)) in opened.iter().enumerate() {
            prop_assert_eq!(offset.0, i as u64);
            prop_assert_eq!(opened.get(i), Some(record));
        }
    }

    #[test]
    fn any_change_under_a_right_checksum_is_refused_or_read(
        records in any_records(),
        compression in any_compression(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut batch = build(&records, compression).to_vec();
        for (at, byte) in changes {
            let at = 32 + at.index(batch.len() - 32);
            batch[at] = byte;
        }
        reseal(&mut batch);
        let _ = read(&batch);
    }

    #[test]
    fn any_words_in_place_of_ends_and_root_are_refused_or_read(
        records in any_records(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u32>(), 0..32_u32), 1..4),
    ) {
        let mut batch = build(&records, Compression::None).to_vec();
        for (at, word, shift) in changes {
            let at = HEADER_BYTES + at.index(batch.len() - HEADER_BYTES - 3);
            put_u32(&mut batch, at, word >> shift);
        }
        reseal(&mut batch);
        let _ = read(&batch);
    }

    #[test]
    fn any_bytes_as_a_body_are_refused_or_read(
        body in proptest::collection::vec(any::<u8>(), 1..300),
        compression in 0..3_u8,
        body_bytes in 0..2_000_u32,
    ) {
        let mut batch = plain_batch();
        batch.truncate(HEADER_BYTES);
        batch.extend_from_slice(&body);
        batch[33] = compression;
        put_u32(&mut batch, 72, if compression == 0 { body.len() as u32 } else { body_bytes });
        reseal(&mut batch);
        let _ = read(&batch);
    }

    #[test]
    fn any_bytes_at_all_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&bytes).is_err());
        prop_assert!(verify_stamped(&bytes, TopicId(1), PartitionIndex(0)).is_err());
    }
}
