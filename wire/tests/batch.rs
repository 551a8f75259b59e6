//! Batches as a producer, a broker and a consumer use them.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use bytes::Bytes;
use gannet_wire::batch::{
    BATCH_HEADER_BYTES, BatchBuilder, BatchError, BatchHeader, BatchLimits, CheckDepth,
    CheckScratch, Compression, ProducerStamp, Records, STAMP_BYTES, check_batch, split_batch,
    stamp, verify_stamp_only, verify_stamped,
};
use gannet_wire::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};

const TOPIC: TopicId = TopicId(7);
const PARTITION: PartitionIndex = PartitionIndex(3);
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

fn builder() -> BatchBuilder {
    BatchBuilder::new(BatchLimits::default())
}

fn batch_of(values: &[&str]) -> Bytes {
    let mut builder = builder();
    for value in values {
        builder
            .push(Timestamp(1_000), None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build(Compression::None, None)
}

fn check(bytes: &[u8]) -> Result<(), BatchError> {
    check_batch(
        bytes,
        &BatchLimits::default(),
        CheckDepth::Full,
        &mut CheckScratch::new(),
    )
    .map(drop)
}

fn stamped(bytes: &Bytes) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    stamp(
        &mut bytes,
        TOPIC,
        PARTITION,
        Offset(500),
        Timestamp(2_000),
        LeaderEpoch(9),
    );
    bytes
}

#[test]
fn records_come_back_as_they_were_pushed() {
    for compression in COMPRESSIONS {
        let mut builder = builder();
        let headers: [(&str, Option<&[u8]>); 2] = [("trace", Some(b"abc")), ("empty", None)];
        builder
            .push(Timestamp(10), None, Some(b"first"), &[])
            .unwrap();
        builder
            .push(Timestamp(30), Some(b"key"), None, &headers)
            .unwrap();
        builder
            .push(Timestamp(20), Some(b""), Some(b""), &[("", Some(b""))])
            .unwrap();
        builder
            .push(Timestamp(20), None, Some(&[7; 400]), &[])
            .unwrap();
        let records = Records::open(builder.build(compression, None)).unwrap();

        assert_eq!(records.len(), 4);
        assert_eq!(records.header().max_timestamp(), Timestamp(30));
        let first = records.get(0).unwrap();
        assert_eq!((first.key, first.value), (None, Some(&b"first"[..])));
        assert_eq!(first.timestamp, Timestamp(10));
        assert!(first.headers.is_empty());
        let second = records.get(1).unwrap();
        assert_eq!((second.key, second.value), (Some(&b"key"[..]), None));
        assert_eq!(second.timestamp, Timestamp(30));
        assert_eq!(second.headers.collect::<Vec<_>>(), headers);
        let third = records.get(2).unwrap();
        assert_eq!((third.key, third.value), (Some(&b""[..]), Some(&b""[..])));
        assert_eq!(third.headers.collect::<Vec<_>>(), [("", Some(&b""[..]))]);
        let fourth = records.get(3).unwrap();
        assert_eq!((fourth.key, fourth.value), (None, Some(&[7; 400][..])));
        assert_eq!(records.get(4), None);
    }
}

#[test]
fn records_are_numbered_from_the_stamped_offset() {
    let batch = stamped(&batch_of(&["a", "b", "c"]));
    let records = Records::open(Bytes::from(batch)).unwrap();
    let offsets: Vec<_> = records.iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [Offset(500), Offset(501), Offset(502)]);
    assert_eq!(records.next_offset(), Offset(503));
}

#[test]
fn skipping_records_lands_on_the_right_one() {
    let records = Records::open(batch_of(&["a", "b", "c"])).unwrap();
    let (offset, record) = records.iter().nth(2).unwrap();
    assert_eq!((offset, record.value), (Offset(2), Some(&b"c"[..])));
    let mut iter = records.iter();
    assert!(iter.nth(usize::MAX).is_none());
    assert_eq!(iter.len(), 0);
}

#[test]
fn records_of_an_uncompressed_batch_lie_in_its_bytes() {
    let batch = batch_of(&["in place"]);
    let records = Records::open(batch.clone()).unwrap();
    let value = records.get(0).unwrap().value.unwrap();
    assert!(batch.as_ptr_range().contains(&value.as_ptr()));
    assert_eq!(records.share(value), "in place");
}

#[test]
fn the_producer_stands_in_the_header() {
    let producer = ProducerStamp {
        id: ProducerId(77),
        epoch: ProducerEpoch(2),
        base_sequence: Sequence(u32::MAX),
    };
    let mut builder = builder();
    builder.push(Timestamp(0), None, None, &[]).unwrap();
    let batch = builder.build(Compression::None, Some(producer));
    let header = BatchHeader::read_from_prefix_of(&batch).unwrap();
    assert_eq!(header.producer(), Some(producer));
    assert_eq!(header.record_count(), 1);
}

#[test]
fn a_builder_is_empty_again_after_each_batch() {
    let mut builder = builder();
    builder
        .push(Timestamp(1), Some(b"k"), Some(b"v"), &[("h", None)])
        .unwrap();
    builder
        .push(Timestamp(2), Some(b"k"), Some(b"v"), &[("h", None)])
        .unwrap();
    builder.build(Compression::Zstd, None);
    assert!(builder.is_empty());
    builder.push(Timestamp(5), None, Some(b"v"), &[]).unwrap();
    let batch = builder.build(Compression::None, None);
    assert_eq!(batch, {
        let mut fresh = self::builder();
        fresh.push(Timestamp(5), None, Some(b"v"), &[]).unwrap();
        fresh.build(Compression::None, None)
    });
}

#[test]
fn encoded_bytes_is_the_size_of_the_batch_at_every_record() {
    let mut builder = builder();
    for count in 1..40_u8 {
        for record in 0..count {
            let headers: &[(&str, Option<&[u8]>)] = match record % 11 {
                10 => &[("name", Some(b"value")), ("null", None)],
                _ => &[],
            };
            let key = (record % 7 == 6).then_some(&b"key"[..]);
            builder
                .push(
                    Timestamp(i64::from(record / 5)),
                    key,
                    Some(b"value"),
                    headers,
                )
                .unwrap();
        }
        let expected = builder.encoded_bytes();
        assert_eq!(builder.build(Compression::None, None).len(), expected);
    }
}

#[test]
fn a_full_builder_refuses_and_stays_as_it_was() {
    let limits = BatchLimits {
        batch_bytes_max: 400,
        ..BatchLimits::default()
    };
    let mut builder = BatchBuilder::new(limits);
    let refusal = loop {
        let bytes = builder.encoded_bytes();
        if let Err(refusal) = builder.push(Timestamp(1), None, Some(&[1; 50]), &[]) {
            assert_eq!(builder.encoded_bytes(), bytes);
            break refusal;
        }
    };
    assert_eq!(refusal, BatchError::Full);
    assert_eq!(builder.record_count(), 4);
    let batch = builder.build(Compression::None, None);
    assert!(batch.len() <= 400);
    check_batch(&batch, &limits, CheckDepth::Full, &mut CheckScratch::new()).unwrap();
    builder
        .push(Timestamp(1), None, Some(&[1; 50]), &[])
        .unwrap();
}

#[test]
fn a_builder_takes_no_more_records_than_the_limit() {
    let limits = BatchLimits {
        batch_records_max: 2,
        ..BatchLimits::default()
    };
    let mut builder = BatchBuilder::new(limits);
    builder.push(Timestamp(1), None, None, &[]).unwrap();
    builder.push(Timestamp(1), None, None, &[]).unwrap();
    assert_eq!(
        builder.push(Timestamp(1), None, None, &[]),
        Err(BatchError::Full)
    );
}

#[test]
fn a_record_that_never_fits_is_too_large_even_for_an_empty_builder() {
    let limits = BatchLimits {
        batch_bytes_max: 400,
        ..BatchLimits::default()
    };
    let mut builder = BatchBuilder::new(limits);
    let fixed = BATCH_HEADER_BYTES + 64 + 4;
    builder
        .push(Timestamp(1), None, Some(&vec![0; 400 - fixed]), &[])
        .unwrap();
    assert_eq!(
        builder.push(Timestamp(1), None, Some(&vec![0; 401 - fixed]), &[]),
        Err(BatchError::TooLarge {
            what: "bytes of a batch with this record alone",
            size: 401,
            limit: 400
        })
    );
}

#[test]
fn a_record_with_too_many_headers_is_refused() {
    let headers = vec![("n", None); 1_025];
    let refusal = builder()
        .push(Timestamp(1), None, None, &headers)
        .unwrap_err();
    assert!(matches!(
        refusal,
        BatchError::TooLarge {
            what: "headers of a record",
            ..
        }
    ));
    builder()
        .push(Timestamp(1), None, None, &headers[1..])
        .unwrap();
}

#[test]
fn a_timestamp_before_1970_or_after_9999_is_refused() {
    for timestamp in [-1, 253_402_300_800_000] {
        let refusal = builder()
            .push(Timestamp(timestamp), None, None, &[])
            .unwrap_err();
        assert!(matches!(refusal, BatchError::Malformed(_)));
    }
}

#[test]
#[should_panic(expected = "at least one record")]
fn an_empty_builder_builds_nothing() {
    builder().build(Compression::None, None);
}

#[test]
fn a_body_that_does_not_shrink_is_left_uncompressed() {
    for compression in COMPRESSIONS {
        let mut builder = builder();
        builder.push(Timestamp(1), None, Some(b"x"), &[]).unwrap();
        let noise: Vec<u8> = (0..4_000_u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8)
            .collect();
        builder.push(Timestamp(1), None, Some(&noise), &[]).unwrap();
        let batch = builder.build(compression, None);
        assert!(batch.len() <= 4_000 + 80 + 64 + 8 + 1);
        check(&batch).unwrap();
    }
}

#[test]
fn a_body_of_zeros_is_compressed_no_further_than_readers_accept() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut builder = builder();
        builder
            .push(Timestamp(1), None, Some(&[0; 900_000]), &[])
            .unwrap();
        let batch = builder.build(compression, None);
        let header = BatchHeader::read_from_prefix_of(&batch).unwrap();
        assert_eq!(header.compression(), Ok(Compression::Lz4));
        assert!(batch.len() < 5_000);
        check(&batch).unwrap();
    }
}

#[test]
fn stamping_leaves_the_producers_checksum_right() {
    let batch = batch_of(&["a", "b"]);
    let stamped = stamped(&batch);
    check(&stamped).unwrap();
    assert_eq!(stamped[STAMP_BYTES..], batch[STAMP_BYTES..]);
    let header = verify_stamped(&stamped, TOPIC, PARTITION).unwrap();
    assert_eq!(header.base_offset(), Offset(500));
    assert_eq!(header.next_offset(), Offset(502));
    assert_eq!(header.append_time(), Timestamp(2_000));
    assert_eq!(header.leader_epoch(), LeaderEpoch(9));
}

#[test]
fn a_stamp_holds_for_its_topic_and_partition_only() {
    let stamped = stamped(&batch_of(&["a"]));
    for (topic, partition) in [(TopicId(8), PARTITION), (TOPIC, PartitionIndex(4))] {
        let refusal = verify_stamped(&stamped, topic, partition).unwrap_err();
        assert!(matches!(refusal, BatchError::StampChecksum { .. }));
    }
}

#[test]
fn a_batch_never_stamped_is_refused() {
    let refusal = verify_stamped(&batch_of(&["a"]), TOPIC, PARTITION).unwrap_err();
    assert!(matches!(refusal, BatchError::StampChecksum { .. }));
}

#[test]
fn a_stamped_batch_proves_every_one_of_its_bits() {
    let good = stamped(&batch_of(&["some", "records"]));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_stamped(&bad, TOPIC, PARTITION).is_err(), "bit {bit}");
    }
}

#[test]
fn verifying_a_stamp_alone_needs_only_the_header() {
    let stamped = stamped(&batch_of(&["a"]));
    let header = verify_stamp_only(&stamped[..BATCH_HEADER_BYTES], TOPIC, PARTITION).unwrap();
    assert_eq!(header.batch_bytes(), stamped.len());
    let needed = stamped.len();
    assert_eq!(
        verify_stamped(&stamped[..BATCH_HEADER_BYTES], TOPIC, PARTITION).unwrap_err(),
        BatchError::Truncated {
            needed,
            found: BATCH_HEADER_BYTES
        }
    );
}

#[test]
fn a_stamped_batch_is_verified_with_others_behind_it() {
    let mut bytes = stamped(&batch_of(&["a"]));
    bytes.extend_from_slice(b"whatever follows");
    verify_stamped(&bytes, TOPIC, PARTITION).unwrap();
    assert!(check(&bytes).is_err(), "a publish holds exactly one");
}

#[test]
fn batches_are_split_off_one_by_one() {
    let (first, second) = (batch_of(&["a"]), batch_of(&["b", "c"]));
    let mut bytes = Bytes::from([&first[..], &second[..]].concat());
    assert_eq!(split_batch(&mut bytes), Ok(Some(first)));
    let mut cut = bytes.slice(..bytes.len() - 1);
    assert!(matches!(
        split_batch(&mut cut),
        Err(BatchError::Truncated { .. })
    ));
    assert_eq!(split_batch(&mut bytes), Ok(Some(second)));
    assert_eq!(split_batch(&mut bytes), Ok(None));
}

#[test]
fn limits_of_the_broker_are_kept() {
    let batch = batch_of(&["a", "b", "c"]);
    let size = batch.len() as u32;
    let check = |limits| {
        check_batch(
            &batch,
            &limits,
            CheckDepth::HeaderOnly,
            &mut CheckScratch::new(),
        )
    };
    check(BatchLimits {
        batch_bytes_max: size,
        ..BatchLimits::FORMAT
    })
    .unwrap();
    for limits in [
        BatchLimits {
            batch_bytes_max: size - 1,
            ..BatchLimits::FORMAT
        },
        BatchLimits {
            batch_records_max: 2,
            ..BatchLimits::FORMAT
        },
        BatchLimits {
            decompressed_bytes_max: size - 81,
            ..BatchLimits::FORMAT
        },
    ] {
        assert!(matches!(check(limits), Err(BatchError::TooLarge { .. })));
    }
}

#[test]
fn the_check_tells_how_deep_it_went() {
    let batch = batch_of(&["a"]);
    for depth in [CheckDepth::Full, CheckDepth::HeaderOnly] {
        let checked = check_batch(
            &batch,
            &BatchLimits::default(),
            depth,
            &mut CheckScratch::new(),
        )
        .unwrap();
        assert_eq!(checked.depth(), depth);
        assert_eq!(checked.header().record_count(), 1);
    }
}
