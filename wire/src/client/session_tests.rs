#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use super::*;
use crate::error::ErrorCode;
use crate::frame::Goodbye;

const HEARTBEAT: Duration = Duration::from_secs(10);

fn reply() -> Message {
    Message::HelloReply(HelloReply {
        protocol: 1,
        shard: ShardIndex(0),
        shards: 1,
        features: 0,
        frame_bytes_max: 1 << 20,
        batch_bytes_max: 1 << 20,
        batch_records_max: 1,
        producer_inflight_max: 1,
        heartbeat_ms: 10_000,
        broker_id: 1,
        server_name: String::new(),
    })
}

fn hear(
    session: &mut Session,
    message: &Message,
    now: Instant,
    out: &mut BytesMut,
) -> Result<Option<SessionEvent>, ClientError> {
    let mut received = BytesMut::new();
    encode(CorrelationId(0), message, &mut received);
    session.poll(&mut received, now, out)
}

fn open(now: Instant) -> Session {
    let mut out = BytesMut::new();
    let mut session = Session::begin("test", None, now + HEARTBEAT, now, &mut out);
    assert!(!out.is_empty(), "the Hello");
    let event = hear(&mut session, &reply(), now, &mut out).unwrap();
    assert!(matches!(event, Some(SessionEvent::Opened(_))));
    session
}

#[test]
fn silence_of_ones_own_is_broken_by_a_ping_every_heartbeat() {
    let now = Instant::now();
    let mut session = open(now);
    let mut out = BytesMut::new();
    assert_eq!(session.next_timeout(), now + HEARTBEAT);
    session
        .handle_timeout(now + HEARTBEAT / 2, &mut out)
        .unwrap();
    assert!(out.is_empty());
    session.handle_timeout(now + HEARTBEAT, &mut out).unwrap();
    assert!(!out.is_empty());
    assert_eq!(session.next_timeout(), now + 2 * HEARTBEAT);
}

#[test]
fn three_heartbeats_of_the_others_silence_are_the_end() {
    let now = Instant::now();
    let mut session = open(now);
    let mut out = BytesMut::new();
    session
        .handle_timeout(now + 3 * HEARTBEAT - Duration::from_millis(1), &mut out)
        .unwrap();
    let error = session
        .handle_timeout(now + 3 * HEARTBEAT, &mut out)
        .unwrap_err();
    assert!(matches!(error, ClientError::ConnectionLost(_)));
}

#[test]
fn a_part_of_a_frame_is_heard() {
    let mut now = Instant::now();
    let mut session = open(now);
    let (mut frame, mut received, mut out) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    encode(CorrelationId(9), &Message::Ok, &mut frame);
    while !frame.is_empty() {
        received.extend_from_slice(&frame.split_to(1));
        now += 2 * HEARTBEAT;
        let event = session.poll(&mut received, now, &mut out).unwrap();
        assert_eq!(event.is_some(), frame.is_empty());
        session.handle_timeout(now, &mut out).unwrap();
    }
    // Looking again at what is there is no sign of life.
    received.extend_from_slice(&[1]);
    session.poll(&mut received, now, &mut out).unwrap();
    now += 3 * HEARTBEAT;
    session.poll(&mut received, now, &mut out).unwrap();
    session.handle_timeout(now, &mut out).unwrap_err();
}

#[test]
fn a_ping_is_answered_with_its_number() {
    let now = Instant::now();
    let mut session = open(now);
    let (mut out, mut pong) = (BytesMut::new(), BytesMut::new());
    assert!(
        hear(&mut session, &Message::Ping(42), now, &mut out)
            .unwrap()
            .is_none()
    );
    encode(CorrelationId(0), &Message::Pong(42), &mut pong);
    assert_eq!(out, pong);
}

#[test]
fn nothing_may_come_before_the_hello_is_answered() {
    let now = Instant::now();
    let mut out = BytesMut::new();
    let mut session = Session::begin("test", None, now + HEARTBEAT, now, &mut out);
    let error = hear(&mut session, &Message::Ok, now, &mut out).unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)));
}

#[test]
fn a_hello_not_answered_in_time_is_a_lost_connection() {
    let now = Instant::now();
    let mut out = BytesMut::new();
    let mut session = Session::begin("test", None, now + HEARTBEAT, now, &mut out);
    session.handle_timeout(now, &mut out).unwrap();
    let error = session
        .handle_timeout(now + HEARTBEAT, &mut out)
        .unwrap_err();
    assert!(error.is_of_connection());
}

#[test]
fn a_goodbye_is_a_lost_connection() {
    let now = Instant::now();
    let mut session = open(now);
    let goodbye = Goodbye {
        code: ErrorCode::ServerStopping,
        sentence: "later".into(),
    };
    let error = hear(
        &mut session,
        &Message::Goodbye(goodbye),
        now,
        &mut BytesMut::new(),
    );
    assert!(error.unwrap_err().is_of_connection());
}
