//! What the client commands say while they wait, when they are interrupted, and of what they cannot send or read.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use gannet_tests::{
    LoopDisk, RunningCommand, Server, client, connect, data_dir, gannet, publish_numbers, read_all,
};
use gannet_wire::PartitionIndex;
use gannet_wire::client::ProducerConfig;
use gannet_wire::frame::TopicSettings;
use rustix::process::Signal;

/// A server with a topic of so many partitions.
fn server_with(dir: &Path, topic: &str, partitions: u32) -> Server {
    let server = Server::start(dir, 1);
    connect(server.address())
        .create_topic(topic, partitions, &TopicSettings::default())
        .expect("new");
    server
}

/// Status, standard output and standard error of a command that ends by itself.
fn told(server: SocketAddr, arguments: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let output = client(server, arguments, input);
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_publish_to_a_full_disk_says_why_it_waits_and_goes_on_when_there_is_room() {
    const SETTINGS: [&str; 6] = [
        "storage.disk_reserve_bytes=2MiB",
        "storage.direct_bytes_min=256KiB",
        "journal.file_bytes=1MiB",
        "journal.commit_bytes_max=256KiB",
        "network.batch_bytes_max=256KiB",
        "storage.segment_bytes_max=1MiB",
    ];
    let Some(disk) = LoopDisk::new(64) else {
        return;
    };
    let mut server = Server::run(disk.serve(&SETTINGS));
    server.expect_error("the disk is full");
    server.expect_error("the disk is nearly full");
    let broker = connect(server.address());
    broker
        .create_topic("full", 1, &TopicSettings::default())
        .expect("new");
    let filler = disk.root_of(server.pid()).join("filler");
    let room = rustix::fs::statvfs(disk.root_of(server.pid())).expect("it is mounted");
    // Down to half of the reserve.
    let bytes = (room.f_bavail * room.f_frsize).saturating_sub(1 << 20);
    std::fs::write(
        &filler,
        vec![1; usize::try_from(bytes).expect("a small disk")],
    )
    .expect("there is room for it");
    // Each of its two shards looks once a while.
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.log_with("the disk is nearly full").len() < 2 {
        assert!(Instant::now() < deadline, "{:#?}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }

    let mut publish = RunningCommand::start(server.address(), &["publish", "full"]);
    publish.write(b"1\n2\n3\n");
    publish.end_input();
    publish.await_line("disk_full");
    std::fs::remove_file(&filler).expect("it was written");
    let (status, _, said) = publish.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("waiting for"), "{said}");
    assert!(said.contains("3 of 3 records acknowledged"), "{said}");
    assert_eq!(read_all(&broker, "full").len(), 3);
}

#[test]
fn a_publish_says_that_its_server_is_gone_and_goes_on_when_it_is_back() {
    let dir = data_dir();
    let server = server_with(dir.path(), "gone", 1);
    let address = server.address();
    let mut publish = RunningCommand::start(address, &["publish", "gone"]);
    publish.write(b"1\n");
    // Without a server it would not begin.
    let broker = connect(address);
    while read_all(&broker, "gone").is_empty() {
        std::thread::yield_now();
    }
    server.kill();
    publish.write(b"2\n");
    publish.await_line("waiting for");
    let server = Server::start_at(dir.path(), 1, address);
    publish.await_line("goes on after");
    let (status, _, said) = publish.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("2 of 2 records acknowledged"), "{said}");
    assert_eq!(read_all(&connect(server.address()), "gone").len(), 2);
}

#[test]
fn a_consume_says_that_its_server_is_gone_and_goes_on_when_it_is_back() {
    let dir = data_dir();
    let server = server_with(dir.path(), "gone", 2);
    let address = server.address();
    publish_numbers(&connect(address), "gone", 0..1);
    let arguments = ["consume", "gone", "--follow", "--count", "2"];
    let mut consume = RunningCommand::start(address, &arguments);
    consume.await_printed(2);
    server.kill();
    consume.await_line("waiting for");
    let server = Server::start_at(dir.path(), 1, address);
    consume.await_line("goes on after");
    publish_numbers(&connect(server.address()), "gone", 1..2);
    let (status, printed, said) = consume.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(printed, "0\n1\n");
}

#[test]
fn a_follower_ends_with_its_reader() {
    let dir = data_dir();
    let server = server_with(dir.path(), "read", 1);
    publish_numbers(&connect(server.address()), "read", 0..3);
    let mut consume = std::process::Command::new(gannet());
    consume
        .args(["consume", "read", "--follow"])
        .env("GANNET_SERVER", server.address().to_string())
        .stdout(Stdio::piped());
    let mut consume = consume.spawn().expect("it can be started");
    let mut first = [0; 2];
    let mut printed = consume.stdout.take().expect("it is piped");
    printed.read_exact(&mut first).expect("it prints");
    drop(printed);
    // Nothing is published any more.
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match consume.try_wait().expect("a child can be waited for") {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if status.is_none() {
        let _ = consume.kill();
        let _ = consume.wait();
    }
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[test]
fn a_publish_that_is_interrupted_says_how_much_was_acknowledged() {
    let dir = data_dir();
    let server = server_with(dir.path(), "cut", 1);
    for signal in [Signal::INT, Signal::TERM] {
        let broker = connect(server.address());
        let before = read_all(&broker, "cut").len();
        let mut publish = RunningCommand::start(server.address(), &["publish", "cut"]);
        publish.write(b"1\n2\n");
        while read_all(&broker, "cut").len() < before + 2 {
            std::thread::yield_now();
        }
        publish.signal(signal);
        publish.await_line("2 of 2 records acknowledged by cut");
        let (status, _, said) = publish.ended();
        assert_eq!(status.code(), Some(130), "{said}");
    }
}

#[test]
fn a_line_that_is_too_long_is_said_with_its_number_and_what_was_not_sent() {
    let dir = data_dir();
    let server = server_with(dir.path(), "long", 1);
    let mut input = b"first\n".to_vec();
    input.resize(6 + (1 << 20), b'x');
    input.extend_from_slice(b"\nlast\n");
    for compression in ["none", "zstd"] {
        let arguments = ["publish", "long", "--compression", compression];
        let (status, _, said) = told(server.address(), &arguments, &input);
        assert_eq!(status, Some(6), "{said}");
        for words in [
            "1 of 1",
            "rest of the input was not sent",
            "line 2",
            "1048576",
            "split it",
            "network.batch_bytes_max",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(
            said.contains("compression does not help"),
            compression == "zstd",
            "{said}"
        );
    }
}

#[test]
fn a_partition_that_is_not_there_is_said_before_the_input_is_read() {
    let dir = data_dir();
    let server = server_with(dir.path(), "two", 2);
    let arguments = ["publish", "two", "--partition", "5"];
    let (status, _, said) = told(server.address(), &arguments, b"");
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("no partition 5: it has 2"), "{said}");
}

#[test]
fn a_server_may_be_named() {
    let dir = data_dir();
    let server = server_with(dir.path(), "named", 1);
    let named = format!("localhost:{}", server.address().port());
    let (status, printed, said) = told(
        server.address(),
        &["topic", "list", "--server", &named],
        b"",
    );
    assert_eq!(status, Some(0), "{said}");
    assert!(printed.contains("named"), "{printed}");
}

#[test]
fn an_offset_that_a_partition_does_not_have_is_said_with_topic_and_partition() {
    let dir = data_dir();
    let server = server_with(dir.path(), "uneven", 2);
    let arguments = ["publish", "uneven", "--partition", "0"];
    assert_eq!(told(server.address(), &arguments, b"a\nb\n").0, Some(0));
    let (status, _, said) = told(server.address(), &["consume", "uneven", "--from", "1"], b"");
    assert_eq!(status, Some(4), "{said}");
    assert!(said.contains("topic uneven, partition 1"), "{said}");
}

/// Records of each partition of [`damaged`].
const RECORDS: u64 = 2_000;

/// A server whose topic `hurt` has three partitions, the second of which is damaged in the middle.
fn damaged(dir: &Path) -> Server {
    let server = server_with(dir, "hurt", 3);
    let broker = connect(server.address());
    let producer = broker
        .producer("hurt", ProducerConfig::default())
        .expect("it serves");
    for number in 0..RECORDS {
        for partition in 0..3 {
            let value = format!("{partition}/{number} {:>1000}", "");
            producer
                .send(
                    Some(PartitionIndex(partition)),
                    None,
                    Some(value.as_bytes()),
                    &[],
                    None,
                )
                .expect("it serves");
        }
    }
    producer.close().expect("it serves");
    assert!(server.stop().success());
    damage_in_the_middle(&segment_with(dir, b"1/1000 "));
    let mut server = Server::start(dir, 1);
    server.expect_error("damage");
    server
}

/// How many records of a partition of [`damaged`] were printed.
fn count_of(printed: &str, partition: u32) -> u64 {
    let prefix = format!("{partition}/");
    printed
        .lines()
        .filter(|line| line.starts_with(&prefix))
        .count() as u64
}

#[test]
fn damage_in_one_partition_leaves_the_others_readable_to_their_end() {
    let dir = data_dir();
    let server = damaged(dir.path());
    let (status, printed, said) = told(server.address(), &["consume", "hurt"], b"");
    assert_eq!(status, Some(4), "{said}");
    let read = |partition| count_of(&printed, partition);
    assert_eq!((read(0), read(2)), (RECORDS, RECORDS), "{said}");
    assert!(read(1) > 0 && read(1) < RECORDS, "{}: {said}", read(1));
    for words in [
        "topic hurt",
        "partition 1 ended at offset",
        "--partition 1 --from",
        "1 of the partitions: 1",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("Some("), "{said}");
    // What the sentence tells to type reads the rest.
    let behind = said
        .split("--partition 1 --from ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("it says where the damage ends");
    let arguments = ["consume", "hurt", "--partition", "1", "--from", behind];
    let (status, rest, said) = told(server.address(), &arguments, b"");
    assert_eq!(status, Some(0), "{said}");
    assert!(rest.contains(&format!("1/{} ", RECORDS - 1)));
}

#[test]
fn reading_goes_on_behind_damage_when_asked_to_and_nothing_comes_twice() {
    let dir = data_dir();
    let server = damaged(dir.path());
    let arguments = ["consume", "hurt", "--skip-damaged"];
    let (status, printed, said) = told(server.address(), &arguments, b"");
    assert_eq!(status, Some(20), "{said}");
    let range = said
        .split("topic hurt: offsets ")
        .nth(1)
        .and_then(|rest| rest.split_once(" of partition 1 are damaged"))
        .and_then(|(range, _)| range.split_once(" to "))
        .expect("it says what is damaged");
    let offset = |text: &str| text.parse::<u64>().expect("an offset");
    let (from, behind) = (offset(range.0), offset(range.1));
    let expected = |partition: u32| {
        (0..RECORDS)
            .filter(|number| partition != 1 || !(from..behind).contains(number))
            .collect::<Vec<u64>>()
    };
    for partition in 0..3 {
        let prefix = format!("{partition}/");
        let read: Vec<u64> = printed
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.trim_end().parse().ok())
            .collect();
        assert_eq!(read, expected(partition), "partition {partition}: {said}");
    }
}

#[test]
fn a_broker_has_its_memory_in_small_pages() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    // Kernels before 5.0 do not say.
    let said = status
        .lines()
        .find_map(|line| line.strip_prefix("THP_enabled:"));
    assert_eq!(said.map(str::trim).unwrap_or("0"), "0", "{status}");
}

/// The file below a directory that holds these bytes.
fn segment_with(dir: &Path, bytes: &[u8]) -> PathBuf {
    let mut directories = vec![dir.join("topics")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory)
            .expect("it is there")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if std::fs::read(&path)
                .is_ok_and(|content| content.windows(bytes.len()).any(|window| window == bytes))
            {
                return path;
            }
        }
    }
    panic!("no segment holds the record");
}

fn damage_in_the_middle(path: &Path) {
    let mut content = std::fs::read(path).expect("it is there");
    let middle = content.len() / 2;
    content[middle] ^= 0xFF;
    std::fs::write(path, content).expect("it can be written");
}
