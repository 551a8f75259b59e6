use std::time::Instant;

use gannet_wire::client::{ClientError, Delivered};
use gannet_wire::frame::Durability;
use gannet_wire::{Offset, Timestamp};

use super::*;

fn report(records: u32, result: Result<bool, ClientError>) -> DeliveryReport {
    let now = Instant::now();
    DeliveryReport {
        partition: PartitionIndex(0),
        records,
        first_token: Some(TOKEN),
        sent_at: now,
        settled_at: now,
        result: result.map(|duplicate| Delivered {
            base_offset: Offset(0),
            append_time: Timestamp(0),
            durability: Durability::Durable,
            duplicate,
        }),
    }
}

#[test]
fn only_what_was_acknowledged_counts_as_such() {
    let mut tally = Tally {
        sent: 10,
        ..Tally::default()
    };
    tally.count(&report(4, Ok(false)));
    tally.count(&report(2, Ok(true)));
    tally.count(&report(3, Err(ClientError::Closed)));
    assert_eq!((tally.acked, tally.failed), (6, 3));
    assert_eq!(
        tally.sentence("orders"),
        "6 of 10 records acknowledged by orders, 2 of them stored by an earlier attempt"
    );
}

#[test]
fn a_batch_is_as_large_as_one_can_be_at_most() {
    assert_eq!(parse_batch_bytes("64KiB"), Ok(65_536));
    assert_eq!(parse_batch_bytes("16MiB"), Ok(BATCH_BYTES_MAX));
    assert!(parse_batch_bytes("17MiB").is_err());
    assert!(parse_batch_bytes("0").is_err());
}
