//! Bits that flip on the disk of a real broker: what is lost is named, shown and withheld, and a consumer goes on behind it when it chooses to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use gannet_tests::{Server, client, connect, data_dir};
use gannet_wire::client::blocking::Client;
use gannet_wire::client::{ClientError, ConsumerConfig, ProducerConfig};
use gannet_wire::frame::{Start, TopicSettings};
use gannet_wire::{ErrorCode, Offset, PartitionIndex};

const TOPIC: &str = "orders";
const RECORDS: u64 = 8;
/// The record of partition 0 whose bytes are damaged.
const DAMAGED: u64 = 3;
const BIT: u8 = 0x10;

fn value(partition: u32, number: u64) -> String {
    format!("record {number} of partition {partition}")
}

/// A topic of two partitions; every record is a batch and a commit of its own, and proven by the one behind it.
fn publish_one_by_one(client: &Client) {
    client
        .create_topic(TOPIC, 2, &TopicSettings::default())
        .expect("new");
    let producer = client
        .producer(TOPIC, ProducerConfig::default())
        .expect("it exists");
    for number in 0..RECORDS {
        for partition in 0..2 {
            let value = value(partition, number);
            producer
                .send(
                    Some(PartitionIndex(partition)),
                    None,
                    Some(value.as_bytes()),
                    &[],
                    None,
                )
                .expect("it is taken");
            producer.flush().expect("it is acknowledged");
        }
    }
    producer.close().expect("all are acknowledged");
}

/// Flips a bit of the first byte of `wanted` in every file whose name ends with `suffix`; says how many there were.
fn flip(dir: &Path, suffix: &str, wanted: &[u8]) -> usize {
    let mut flipped = 0;
    for path in files(dir) {
        if !path.to_string_lossy().ends_with(suffix) {
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("it was just listed");
        let found = bytes
            .windows(wanted.len())
            .position(|bytes| bytes == wanted);
        if let Some(at) = found {
            bytes[at] ^= BIT;
            std::fs::write(&path, bytes).expect("it can be written");
            flipped += 1;
        }
    }
    flipped
}

/// Flips a bit of the record that is to be damaged.
fn flip_record(dir: &Path, suffix: &str) -> usize {
    flip(dir, suffix, value(0, DAMAGED).as_bytes())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("it is a directory").flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `gannet check` on the directory of a broker that does not run: its status and what it says.
fn checked(dir: &Path) -> (Option<i32>, String) {
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let dir = dir.to_str().expect("a path of this build");
    let output = client(nobody, &["check", dir], b"");
    (output.status.code(), stdout(&output))
}

/// The column DAMAGED of partition 0 and of partition 1.
fn described(address: SocketAddr) -> [String; 2] {
    let output = client(address, &["topic", "describe", TOPIC], b"");
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    let header = text
        .lines()
        .find(|line| line.contains("DAMAGED"))
        .expect("a table");
    let column = header.find("DAMAGED").expect("it was just found");
    let rows: Vec<String> = text
        .lines()
        .skip_while(|line| !line.contains("DAMAGED"))
        .skip(1)
        .map(|line| line.get(column..).unwrap_or_default().trim().to_owned())
        .collect();
    rows.try_into().expect("two partitions")
}

fn values(partition: u32, numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers
        .into_iter()
        .map(|number| value(partition, number))
        .collect()
}

/// What `gannet consume` and the client make of the damage, in both partitions.
fn assert_reading_stops_and_goes_on_by_choice(address: SocketAddr) {
    let undamaged = client(address, &["consume", TOPIC, "--partition", "1"], b"");
    assert!(undamaged.status.success(), "{undamaged:?}");
    assert_eq!(
        stdout(&undamaged).lines().collect::<Vec<_>>(),
        values(1, 0..RECORDS)
    );

    let stopped = client(address, &["consume", TOPIC, "--partition", "0"], b"");
    assert_eq!(stopped.status.code(), Some(4), "{stopped:?}");
    assert_eq!(
        stdout(&stopped).lines().collect::<Vec<_>>(),
        values(0, 0..DAMAGED)
    );
    let said = stderr(&stopped);
    assert!(said.contains("offsets 3 to 4 are damaged"), "{said}");
    assert!(said.contains("--skip-damaged"), "{said}");

    let passed = client(address, &["consume", TOPIC, "--skip-damaged"], b"");
    assert_eq!(passed.status.code(), Some(20), "{passed:?}");
    let text = stdout(&passed);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let left = (0..RECORDS).filter(|number| *number != DAMAGED);
    let mut expected = [values(0, left), values(1, 0..RECORDS)].concat();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    let said = stderr(&passed);
    assert!(
        said.contains("offsets 3 to 4 of partition 0 are damaged"),
        "{said}"
    );

    let broker = connect(address);
    let topic = broker.describe_topic(TOPIC).expect("it exists");
    let read_from = |offset: u64| {
        let starts = [(PartitionIndex(0), Start::Offset(Offset(offset)))];
        let mut consumer = broker
            .consumer_at(&topic, &starts, ConsumerConfig::default())
            .expect("it can be read");
        consumer.next(Duration::from_secs(60))
    };
    match read_from(DAMAGED) {
        Err(ClientError::SubscriptionEnded { error, .. }) => {
            assert_eq!(error.code, ErrorCode::RangeFenced);
            assert_eq!(error.range, Some((Offset(DAMAGED), Offset(DAMAGED + 1))));
        }
        other => panic!("{other:?}"),
    }
    let behind = read_from(DAMAGED + 1)
        .expect("nothing is wrong behind it")
        .expect("something is there");
    let (offset, record) = behind.iter().next().expect("no delivery is empty");
    assert_eq!(offset, Offset(DAMAGED + 1));
    assert_eq!(record.value, Some(value(0, DAMAGED + 1).as_bytes()));
}

#[test]
fn a_record_that_rots_in_the_journal_is_named_fenced_and_passed_over_by_choice() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    publish_one_by_one(&connect(server.address()));
    server.kill();
    assert_eq!(flip_record(dir.path(), ".gnj"), 1);
    let (status, said) = checked(dir.path());
    assert_eq!(status, Some(20), "{said}");
    assert!(said.contains("offsets 3..4 of partition"), "{said}");

    let mut server = Server::start(dir.path(), 1);
    server.expect_error("damaged");
    assert_eq!(described(server.address()), ["3..4", ""]);
    assert_reading_stops_and_goes_on_by_choice(server.address());
    assert!(server.stop().success());
    let (status, said) = checked(dir.path());
    assert_eq!(status, Some(20), "{said}");
    assert!(
        said.contains("orders/0: offsets 3..4 were found damaged by an earlier start"),
        "{said}"
    );

    // What was told once holds: at the next start the journal has nothing to say of it any more.
    let server = Server::start(dir.path(), 1);
    assert_eq!(described(server.address()), ["3..4", ""]);
    assert_reading_stops_and_goes_on_by_choice(server.address());
}

#[test]
fn a_record_that_rots_in_a_segment_is_shown_once_a_reader_met_it_and_passed_over_by_choice() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    publish_one_by_one(&connect(server.address()));
    assert!(server.stop().success());
    assert_eq!(flip_record(dir.path(), ".seg"), 1);
    let (status, said) = checked(dir.path());
    assert_eq!(status, Some(20), "{said}");
    assert!(
        said.contains("orders/0: offsets 3..4 are lost in"),
        "{said}"
    );

    let mut server = Server::start(dir.path(), 1);
    server.expect_error("damaged in a segment");
    assert_eq!(described(server.address()), ["", ""]);
    assert_reading_stops_and_goes_on_by_choice(server.address());
    assert_eq!(described(server.address()), ["3..4", ""]);
}

#[test]
fn a_segment_that_is_put_back_whole_is_read_again() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    publish_one_by_one(&connect(server.address()));
    assert!(server.stop().success());
    assert_eq!(flip_record(dir.path(), ".seg"), 1);
    let mut server = Server::start(dir.path(), 1);
    server.expect_error("damaged in a segment");
    assert_reading_stops_and_goes_on_by_choice(server.address());
    assert!(server.stop().success());

    // The same bit again: as good as a copy.
    let mut damaged = value(0, DAMAGED).into_bytes();
    damaged[0] ^= BIT;
    assert_eq!(flip(dir.path(), ".seg", &damaged), 1);
    let server = Server::start(dir.path(), 1);
    let output = client(
        server.address(),
        &["consume", TOPIC, "--partition", "0"],
        b"",
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        stdout(&output).lines().collect::<Vec<_>>(),
        values(0, 0..RECORDS)
    );
    assert_eq!(described(server.address()), ["", ""]);
}
