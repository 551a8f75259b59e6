#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod strategies;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use self::strategies::message;
use super::*;
use crate::error::{ErrorBody, ErrorCode, Fault, Retry};
use crate::ids::*;
use crate::limits::*;

fn decode_all(received: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let mut received = BytesMut::from(received);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.decode(&mut received)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn encoded(correlation: u64, message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    encode(CorrelationId(correlation), message, &mut out);
    out
}

proptest! {
    #[test]
    fn every_message_survives_the_way_over_the_wire(
        message in message(),
        correlation in any::<u64>(),
    ) {
        let correlation = CorrelationId(correlation);
        let bytes = encoded(correlation.0, &message);
        let frame = Frame { correlation, message };
        prop_assert_eq!(&decode_all(&bytes).unwrap(), std::slice::from_ref(&frame));
        prop_assert_eq!(decode(bytes.freeze(), &FrameLimits::default()).unwrap(), frame);
    }

    #[test]
    fn every_prefix_of_a_frame_is_incomplete_and_no_error(message in message()) {
        let bytes = encoded(7, &message);
        for length in 0..bytes.len() {
            let mut decoder = FrameDecoder::new(FrameLimits::default());
            let mut received = BytesMut::from(&bytes[..length]);
            prop_assert_eq!(decoder.decode(&mut received), Ok(None));
            prop_assert_eq!(received.len(), length);
            let wanted = if length < FRAME_HEADER_BYTES { FRAME_HEADER_BYTES } else { bytes.len() };
            prop_assert_eq!(decoder.missing_bytes(), wanted - length);
        }
    }

    #[test]
    fn frames_that_arrive_byte_by_byte_are_the_frames_that_were_sent(
        messages in vec(message(), 1..4),
    ) {
        let mut sent = BytesMut::new();
        for message in &messages {
            encode(CorrelationId(1), message, &mut sent);
        }
        let mut decoder = FrameDecoder::new(FrameLimits::default());
        let mut received = BytesMut::new();
        let mut arrived = Vec::new();
        for byte in sent {
            received.put_u8(byte);
            while let Some(frame) = decoder.decode(&mut received).unwrap() {
                arrived.push(frame.message);
            }
        }
        prop_assert_eq!(arrived, messages);
        prop_assert!(received.is_empty());
    }

    #[test]
    fn flipped_bits_never_panic_and_never_yield_more_than_was_sent(
        message in message(),
        flips in vec(any::<(u16, u8)>(), 1..5),
    ) {
        let mut bytes = encoded(7, &message);
        for (at, bit) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
        if let Ok(frames) = decode_all(&bytes) {
            let mut again = BytesMut::new();
            for frame in &frames {
                encode(frame.correlation, &frame.message, &mut again);
            }
            prop_assert_eq!(&bytes[..again.len()], &again[..]);
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_all(&bytes);
    }

    #[test]
    fn any_body_never_panics(
        kind in proptest::sample::select(FrameKind::ALL),
        body in vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = BytesMut::new();
        let frame_bytes = (FRAME_HEADER_BYTES + body.len()) as u32;
        bytes.put_slice(&FrameHeader::encode(frame_bytes, kind, CorrelationId(1)));
        bytes.put_slice(&body);
        if let Ok(frame) = decode(bytes.clone().freeze(), &FrameLimits::default()) {
            prop_assert_eq!(encoded(1, &frame.message), bytes);
        }
    }
}

/// `encoded`, with its length changed by `by` and, where it grew, a 0 at the end.
fn resized(message: &Message, by: i32) -> Bytes {
    let mut bytes = encoded(3, message);
    let length = bytes.len().checked_add_signed(by as isize).unwrap();
    bytes.resize(length, 0);
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    bytes.freeze()
}

fn kind_of_error(bytes: Bytes) -> FrameErrorKind {
    decode(bytes, &FrameLimits::default()).unwrap_err().kind
}

#[test]
fn a_byte_behind_the_last_field_is_refused() {
    let message = Message::TopicDescribe("t".into());
    assert_eq!(
        kind_of_error(resized(&message, 1)),
        FrameErrorKind::TrailingBytes {
            kind: FrameKind::TopicDescribe,
            bytes: 1
        }
    );
}

#[test]
fn a_byte_missing_in_the_last_field_is_refused() {
    let message = Message::TopicDescribe("t".into());
    assert_eq!(
        kind_of_error(resized(&message, -1)),
        FrameErrorKind::EndsEarly(FrameKind::TopicDescribe)
    );
}

#[test]
fn a_frame_of_a_fixed_length_is_refused_by_its_header_when_its_length_is_another() {
    for (by, expected) in [
        (
            -1,
            FrameErrorKind::TooShort {
                frame_bytes: 23,
                frame_bytes_min: 24,
            },
        ),
        (
            1,
            FrameErrorKind::TooLarge {
                frame_bytes: 25,
                frame_bytes_max: 24,
            },
        ),
    ] {
        let bytes = resized(&Message::Ping(1), by);
        let error = decode_all(&bytes[..FRAME_HEADER_BYTES]).unwrap_err();
        assert_eq!(
            error,
            FrameError {
                correlation: CorrelationId(3),
                kind: expected
            }
        );
    }
}

#[test]
fn the_limit_of_a_connection_is_the_last_length_it_takes() {
    let publish = Message::Publish(Publish {
        topic: TopicId(1),
        partition: PartitionIndex(0),
        durability: None,
        batch: Bytes::from_static(&[0; 68]),
    });
    let bytes = encoded(1, &publish);
    assert_eq!(bytes.len(), 100);
    for (frame_bytes_max, taken) in [(99, false), (100, true), (101, true)] {
        let mut decoder = FrameDecoder::new(FrameLimits { frame_bytes_max });
        let decoded = decoder.decode(&mut bytes.clone());
        assert_eq!(decoded.is_ok(), taken, "limit {frame_bytes_max}");
        if let Err(error) = decoded {
            assert_eq!(error.code(), ErrorCode::FrameTooLarge);
        }
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_of_the_body_arrives() {
    for (frame_bytes, refused) in [
        (FRAME_BYTES_MAX - 1, false),
        (FRAME_BYTES_MAX, false),
        (FRAME_BYTES_MAX + 1, true),
    ] {
        let header = FrameHeader::encode(frame_bytes, FrameKind::Publish, CorrelationId(1));
        let mut received = BytesMut::from(&header[..]);
        let mut decoder = FrameDecoder::new(FrameLimits::default());
        assert_eq!(
            decoder.decode(&mut received).is_err(),
            refused,
            "{frame_bytes}"
        );
        if !refused {
            let missing = frame_bytes as usize - FRAME_HEADER_BYTES;
            assert_eq!(decoder.missing_bytes(), missing);
        }
    }
}

#[test]
fn a_name_is_taken_up_to_its_limit() {
    for (length, taken) in [
        (TOPIC_NAME_BYTES_MAX - 1, true),
        (TOPIC_NAME_BYTES_MAX, true),
        (TOPIC_NAME_BYTES_MAX + 1, false),
    ] {
        // TopicList, whose frame may be long enough for a name over the limit.
        let mut bytes = BytesMut::new();
        let frame_bytes = (FRAME_HEADER_BYTES + 2 + length) as u32;
        bytes.put_slice(&FrameHeader::encode(
            frame_bytes,
            FrameKind::TopicList,
            CorrelationId(1),
        ));
        bytes.put_u16_le((length - 4) as u16);
        bytes.put_bytes(b'n', length - 4);
        bytes.put_u32_le(1);
        assert!(decode(bytes.freeze(), &FrameLimits::default()).is_ok());

        let mut bytes = BytesMut::new();
        bytes.put_slice(&FrameHeader::encode(
            frame_bytes,
            FrameKind::TopicDescribe,
            CorrelationId(1),
        ));
        bytes.put_u16_le(length as u16);
        bytes.put_bytes(b'n', length);
        assert_eq!(
            decode(bytes.freeze(), &FrameLimits::default()).is_ok(),
            taken,
            "{length}"
        );
    }
}

#[test]
fn a_string_that_states_more_than_its_limit_is_refused() {
    let mut bytes = BytesMut::new();
    bytes.put_slice(&FrameHeader::encode(
        24,
        FrameKind::TopicList,
        CorrelationId(1),
    ));
    bytes.put_u16_le(TOPIC_NAME_BYTES_MAX as u16 + 1);
    bytes.put_bytes(0, 6);
    assert_eq!(
        kind_of_error(bytes.freeze()),
        FrameErrorKind::TooLong {
            kind: FrameKind::TopicList,
            field: "after",
            length: TOPIC_NAME_BYTES_MAX + 1,
            length_max: TOPIC_NAME_BYTES_MAX
        }
    );
}

#[test]
fn a_list_that_states_more_entries_than_the_body_has_room_for_is_refused() {
    let mut bytes = encoded(1, &Message::PublishAcks(Vec::new()));
    bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + 4].copy_from_slice(&1_u32.to_le_bytes());
    assert_eq!(
        kind_of_error(bytes.freeze()),
        FrameErrorKind::EndsEarly(FrameKind::PublishAcks)
    );
}

#[test]
fn reserved_bytes_and_flags_must_be_zero() {
    let mut bytes = encoded(1, &Message::ProducerInit);
    bytes[6] = 1;
    assert_eq!(
        kind_of_error(bytes.clone().freeze()),
        FrameErrorKind::Field {
            kind: FrameKind::ProducerInit,
            field: "flags"
        }
    );
    bytes[6] = 0;
    bytes[FRAME_HEADER_BYTES] = 1;
    assert_eq!(
        kind_of_error(bytes.freeze()),
        FrameErrorKind::Field {
            kind: FrameKind::ProducerInit,
            field: "reserved"
        }
    );
}

#[test]
fn another_version_and_an_unknown_kind_have_codes_of_their_own() {
    let mut bytes = encoded(1, &Message::Ok);
    bytes[5] = 2;
    let error = decode_all(&bytes).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnsupportedVersion);
    bytes[5] = 1;
    bytes[4] = 200;
    let error = decode_all(&bytes).unwrap_err();
    assert_eq!(error.code(), ErrorCode::UnknownKind);
    assert_eq!(error.correlation, CorrelationId(1));
}

#[test]
fn a_batch_is_a_slice_of_what_was_received() {
    let mut received = encoded(
        1,
        &Message::Deliver(Deliver {
            subscription: SubscriptionId(1),
            next_offset: Offset(2),
            batches: Bytes::from_static(&[5; 200]),
        }),
    );
    let address = received.as_ptr() as usize + DATA_HEAD_BYTES;
    let frame = FrameDecoder::new(FrameLimits::default())
        .decode(&mut received)
        .unwrap()
        .unwrap();
    let Message::Deliver(deliver) = frame.message else {
        panic!("{frame:?}")
    };
    assert_eq!(deliver.batches.as_ptr() as usize, address);
}

#[test]
fn the_heads_of_the_hot_path_are_those_of_the_messages() {
    let batch = Bytes::from_static(&[9; 80]);
    let publish = Message::Publish(Publish {
        topic: TopicId(11),
        partition: PartitionIndex(12),
        durability: Some(Durability::Durable),
        batch: batch.clone(),
    });
    let head = encode_publish_head(
        CorrelationId(10),
        TopicId(11),
        PartitionIndex(12),
        Some(Durability::Durable),
        batch.len(),
    );
    assert_eq!(encoded(10, &publish), [&head[..], &batch].concat());
    let deliver = Message::Deliver(Deliver {
        subscription: SubscriptionId(13),
        next_offset: Offset(14),
        batches: batch.clone(),
    });
    let head = encode_deliver_head(SubscriptionId(13), Offset(14), batch.len());
    assert_eq!(encoded(0, &deliver), [&head[..], &batch].concat());
}

fn ack(correlation: u64) -> PublishAck {
    PublishAck {
        correlation: CorrelationId(correlation),
        base_offset: Offset(2),
        append_time: Timestamp(3),
        durability: Durability::Durable,
        duplicate: false,
    }
}

#[test]
fn acks_written_one_by_one_are_one_frame() {
    let mut out = encoded(1, &Message::Ok);
    let before = out.len();
    let mut writer = PublishAcksWriter::new(&mut out);
    writer.push(&ack(1));
    writer.push(&ack(2));
    writer.finish();
    assert_eq!(
        out[before..],
        encoded(0, &Message::PublishAcks(vec![ack(1), ack(2)]))
    );
}

#[test]
fn a_writer_of_acks_that_got_none_writes_nothing() {
    let mut out = BytesMut::new();
    PublishAcksWriter::new(&mut out).finish();
    assert!(out.is_empty());
}

#[test]
fn more_acks_than_one_frame_takes_go_into_several() {
    let mut out = BytesMut::new();
    let count = u64::from(PUBLISH_ACKS_MAX) + 1;
    let mut writer = PublishAcksWriter::new(&mut out);
    (0..count).for_each(|correlation| writer.push(&ack(correlation)));
    writer.finish();
    let lengths: Vec<usize> = decode_all(&out)
        .unwrap()
        .iter()
        .map(|frame| match &frame.message {
            Message::PublishAcks(acks) => acks.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [PUBLISH_ACKS_MAX as usize, 1]);
}

#[test]
fn a_sentence_over_the_limit_is_cut() {
    let body = ErrorBody::new(ErrorCode::Internal, "s".repeat(SENTENCE_BYTES_MAX + 1));
    let frames = decode_all(&encoded(1, &Message::Error(body))).unwrap();
    let Message::Error(body) = &frames[0].message else {
        panic!("{frames:?}")
    };
    assert_eq!(body.sentence.len(), SENTENCE_BYTES_MAX);
}

#[test]
fn every_kind_has_a_number_of_its_own() {
    for kind in FrameKind::ALL {
        assert_eq!(FrameKind::from_u8(*kind as u8), Some(*kind));
        assert!(kind.frame_bytes_min() <= kind.frame_bytes_max());
    }
}
