#![allow(clippy::unwrap_used, reason = "tests")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use gannet_wire::frame::{Durability, FrameDecoder, FrameLimits, Goodbye, SubscriptionEnd};
use gannet_wire::{ErrorBody, ErrorCode, Timestamp};

use super::*;
use crate::io::{BLOCK_BYTES, DiskBufferMut};

fn outbox() -> Rc<Outbox> {
    Outbox::new(1 << 20, 4)
}

fn next_parcel(outbox: &Outbox) -> Parcel {
    let mut next = pin!(outbox.next_parcel());
    match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(parcel) => parcel.unwrap(),
        Poll::Pending => panic!("nothing is queued"),
    }
}

/// The kinds of frames in a parcel; a delivery's batches are made up and not looked into.
fn kinds(parcel: &Parcel) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for queued in &parcel.queued {
        match queued {
            Queued::Delivery(_) => kinds.push("deliver"),
            Queued::Frames(frames) => {
                let mut received = frames.clone();
                let mut decoder = FrameDecoder::new(FrameLimits {
                    frame_bytes_max: 1 << 20,
                });
                while let Some(frame) = decoder.decode(&mut received).unwrap() {
                    kinds.push(match frame.message {
                        Message::PublishAcks(_) => "acks",
                        Message::Goodbye(_) => "goodbye",
                        Message::SubscriptionEnd(_) => "end",
                        Message::Ok => "ok",
                        _ => "other",
                    });
                }
            }
        }
    }
    kinds
}

fn slices(buffer_blocks: usize, lengths: &[usize]) -> Vec<Slice> {
    let buffer = DiskBufferMut::heap(buffer_blocks * BLOCK_BYTES).freeze();
    let mut at = 0;
    lengths
        .iter()
        .map(|length| {
            at += length;
            Slice::new(buffer.clone(), at - length..at)
        })
        .collect()
}

fn published() -> Outcome {
    Outcome::Published {
        base_offset: Offset(0),
        append_time: Timestamp(0),
        durability: Durability::Durable,
        duplicate: false,
    }
}

#[test]
fn the_end_of_a_subscription_does_not_overtake_its_deliveries() {
    let outbox = outbox();
    outbox.deliver(SubscriptionId(1), Offset(1), slices(1, &[100]));
    outbox.send(
        CorrelationId(0),
        Message::SubscriptionEnd(SubscriptionEnd {
            subscription: SubscriptionId(1),
            error: ErrorBody::of_code(ErrorCode::TopicDeleted),
        }),
    );
    outbox.deliver(SubscriptionId(2), Offset(1), slices(1, &[100]));
    outbox.send(CorrelationId(3), Message::Ok);
    assert_eq!(
        kinds(&next_parcel(&outbox)),
        ["deliver", "end", "deliver", "ok"]
    );
}

#[test]
fn a_goodbye_does_not_overtake_acknowledgements() {
    let outbox = outbox();
    outbox.begin_publish();
    outbox.complete(7, published());
    let goodbye = Goodbye {
        code: ErrorCode::ServerStopping,
        sentence: String::new(),
    };
    outbox.send(CorrelationId(0), Message::Goodbye(goodbye));
    assert_eq!(kinds(&next_parcel(&outbox)), ["acks", "goodbye"]);
}

#[test]
fn acknowledgements_of_one_turn_leave_in_one_frame() {
    let outbox = outbox();
    for token in 0..10 {
        outbox.begin_publish();
        outbox.complete(token, published());
    }
    assert_eq!(kinds(&next_parcel(&outbox)), ["acks"]);
}

#[test]
fn acknowledgements_that_nobody_reads_fill_the_room() {
    let outbox = Outbox::new(4096, 4);
    for token in 0..1_000 {
        outbox.begin_publish();
        outbox.complete(token, published());
    }
    assert!(outbox.is_over());
    let parcel = next_parcel(&outbox);
    assert_eq!(outbox.room().held_bytes(), parcel.bytes);
    outbox.sent(&parcel);
    assert_eq!(outbox.room().held_bytes(), 0);
}

#[test]
fn a_request_to_a_partitions_shard_is_under_way_until_that_has_answered() {
    let outbox = outbox();
    for (number, answer) in [
        (1, Message::Ok),
        (
            2,
            Message::Error(ErrorBody::of_code(ErrorCode::TopicUnknown)),
        ),
    ] {
        assert!(outbox.requests().try_acquire(1));
        outbox.begin_ask(CorrelationId(number), Some(SubscriptionId(number)));
        // What the connection says itself under the same number answers nothing.
        outbox.reply(CorrelationId(number), Message::Ok);
        assert_eq!(outbox.requests().available(), 3);
        Peer::send(&*outbox, CorrelationId(number), answer);
        assert_eq!(outbox.requests().available(), 4);
    }
    assert_eq!(outbox.take_ended(), [SubscriptionId(2)]);
}

#[test]
fn a_delivery_keeps_no_more_in_memory_than_a_few_times_itself() {
    // A little of a large buffer is copied out, most of one stays.
    let small = unpinned(slices(64, &[100, 200]));
    assert!(matches!(small.as_slice(), [Body::Copied(bytes)] if bytes.len() == 300));
    let large = unpinned(slices(4, &[3_000, 3_000]));
    assert!(matches!(
        large.as_slice(),
        [Body::Shared(_), Body::Shared(_)]
    ));
}

#[test]
fn what_is_held_is_what_is_queued() {
    let outbox = outbox();
    outbox.deliver(SubscriptionId(1), Offset(1), slices(64, &[100]));
    outbox.send(CorrelationId(3), Message::Ok);
    let parcel = next_parcel(&outbox);
    let bytes: usize = parcel.slices().iter().map(|slice| slice.len()).sum();
    assert_eq!((outbox.room().held_bytes(), parcel.bytes), (bytes, bytes));
    outbox.sent(&parcel);
    assert_eq!(outbox.room().held_bytes(), 0);
}

#[test]
fn a_publish_has_others_in_flight_until_it_is_the_last() {
    let outbox = outbox();
    outbox.begin_publish();
    assert!(!outbox.has_others_in_flight());
    outbox.begin_publish();
    assert!(outbox.has_others_in_flight());
    outbox.complete(1, published());
    assert!(!outbox.has_others_in_flight());
}
