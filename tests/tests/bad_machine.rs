//! What the machine lacks is said in a sentence and by an exit status; what it takes away while serving costs nothing that was
//! acknowledged.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gannet_tests::{
    LoopDisk, RawPeer, Server, TestUser, client, connect, data_dir, ends, gannet, one_record,
    publish_numbers, read_all, serve, skipped,
};
use gannet_wire::client::ProducerConfig;
use gannet_wire::frame::{Message, TopicSettings};
use gannet_wire::{ErrorCode, PartitionIndex};

/// The machine did not let it.
const ENVIRONMENT: i32 = 3;
/// The configuration is wrong.
const CONFIGURATION: i32 = 7;

/// That a start is refused with a status and a sentence that has these words.
fn assert_refused(command: Command, status: i32, words: &[&str]) {
    let (ended, said) = ends(command);
    assert_eq!(ended.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    let sentence = said.trim().trim_start_matches("gannet: ");
    assert!(sentence.len() > 40, "no sentence: {said}");
}

#[test]
fn a_port_that_is_taken_is_said_and_never_shared() {
    let (one, other) = (data_dir(), data_dir());
    let server = Server::start(one.path(), 1);
    let address = server.address().to_string();
    let mut second = serve(other.path(), 1);
    second.env("GANNET_LISTEN", &address);
    assert_refused(second, ENVIRONMENT, &[&address, "taken", "another port"]);
    let _ = connect(server.address());
}

#[test]
fn a_data_directory_in_use_is_said_with_the_process_that_has_it() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    let pid = server.pid().to_string();
    assert_refused(
        serve(dir.path(), 1),
        ENVIRONMENT,
        &["in use", &pid, &dir.path().display().to_string()],
    );
    let client = connect(server.address());
    client
        .create_topic("unharmed", 1, &TopicSettings::default())
        .expect("the first one goes on");
    publish_numbers(&client, "unharmed", 0..10);
}

#[test]
fn a_data_directory_in_memory_is_refused() {
    let shm = Path::new("/dev/shm");
    let Ok(dir) = tempfile::tempdir_in(shm) else {
        return skipped("there is no /dev/shm");
    };
    let kind = rustix::fs::statfs(shm).map(|stat| stat.f_type as u64);
    if kind != Ok(0x0102_1994) {
        return skipped("/dev/shm is no tmpfs");
    }
    assert_refused(serve(dir.path(), 1), ENVIRONMENT, &["tmpfs", "ext4"]);
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused() {
    assert_refused(
        serve(Path::new("/proc/gannet"), 1),
        ENVIRONMENT,
        &["/proc/gannet"],
    );
    let dir = data_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, b"in the way").expect("a directory takes a file");
    assert_refused(serve(&file, 1), ENVIRONMENT, &["data directory"]);
}

#[test]
fn an_unknown_key_in_file_flag_or_variable_refuses_to_start_by_name() {
    let dir = data_dir();
    let mut flag = serve(dir.path(), 1);
    flag.args(["--set", "journal.file_size=64MiB"]);
    assert_refused(flag, CONFIGURATION, &["journal.file_size"]);
    let file = dir.path().join("gannet.toml");
    std::fs::write(&file, "[jornal]\nfile_bytes = 1048576\n").expect("a directory takes a file");
    let mut from_file = serve(dir.path(), 1);
    from_file.arg("--config").arg(&file);
    assert_refused(from_file, CONFIGURATION, &["jornal"]);
    let mut variable = serve(dir.path(), 1);
    variable.env("GANNET_JOURNAL_FILE_SIZE", "1");
    assert_refused(variable, CONFIGURATION, &["GANNET_JOURNAL_FILE_SIZE"]);
    let mut out_of_bounds = serve(dir.path(), 1);
    out_of_bounds.args(["--set", "journal.file_bytes=1"]);
    assert_refused(out_of_bounds, CONFIGURATION, &["journal.file_bytes"]);
    let mut missing = serve(dir.path(), 1);
    missing.args(["--config", "/nonexistent/gannet.toml"]);
    let (ended, said) = ends(missing);
    assert_eq!(ended.code(), Some(ENVIRONMENT), "{said}");
    assert!(said.contains("/nonexistent/gannet.toml"), "{said}");
}

#[test]
fn the_printed_configuration_is_one_that_a_server_takes() {
    let dir = data_dir();
    let printed = Command::new(gannet())
        .args(["serve", "--print-config"])
        .output()
        .expect("gannet can be started");
    assert!(printed.status.success());
    let file = dir.path().join("gannet.toml");
    std::fs::write(&file, &printed.stdout).expect("a directory takes a file");
    let mut command = serve(&dir.path().join("data"), 1);
    command.arg("--config").arg(&file);
    let server = Server::run(command);
    let _ = connect(server.address());
}

#[test]
fn too_little_memory_that_may_be_locked_is_said_with_what_raises_it() {
    let Some(user) = TestUser::new() else { return };
    let mut command = Command::new("prlimit");
    command.args(["--memlock=65536:65536", "--"]);
    let serve = user.serve();
    // The user's own limits come second and would raise it again: drop them.
    let rest = serve
        .get_args()
        .skip_while(|argument| *argument != "--")
        .skip(1);
    command.args(rest).env("GANNET_LISTEN", "127.0.0.1:0");
    assert_refused(command, ENVIRONMENT, &["65536", "ulimit -l"]);
}

#[test]
fn an_ordinary_user_with_8_mib_of_locked_memory_and_1024_descriptors_can_run_it() {
    let Some(user) = TestUser::new() else { return };
    let server = Server::run(user.serve());
    let address = server.address();
    assert!(
        client(
            address,
            &["topic", "create", "own", "--partitions", "3"],
            b""
        )
        .status
        .success()
    );
    publish_numbers(&connect(address), "own", 0..30_000);
    server.kill();
    let server = Server::run(user.serve());
    assert_eq!(read_all(&connect(server.address()), "own").len(), 30_000);
    assert!(server.stop().success());
}

#[test]
fn a_disk_that_is_full_at_the_start_is_said_with_what_is_needed() {
    let Some(disk) = LoopDisk::new(64) else {
        return;
    };
    assert_refused(disk.serve(&[]), ENVIRONMENT, &["bytes are free", "needed"]);
}

#[test]
fn a_disk_that_becomes_full_refuses_publishes_goes_on_reading_and_recovers_without_a_restart() {
    const SETTINGS: [&str; 6] = [
        "storage.disk_reserve_bytes=16MiB",
        "journal.file_bytes=8MiB",
        "journal.commit_bytes_max=1MiB",
        "storage.segment_bytes_max=4MiB",
        "storage.unflushed_bytes_max=16MiB",
        "storage.flush_interval_ms=200",
    ];
    const RECORD_BYTES: usize = 32 << 10;
    let Some(disk) = LoopDisk::new(192) else {
        return;
    };
    let mut server = Server::run(disk.serve(&SETTINGS));
    for said in ["the disk is full", "the disk is nearly full"] {
        server.expect_error(said);
    }
    let filler = disk.root_of(server.pid()).join("filler");
    std::fs::write(&filler, vec![1; 48 << 20]).expect("there is room at first");
    let client = connect(server.address());
    let topic = client
        .create_topic("filling", 1, &TopicSettings::default())
        .expect("new");
    let mut peer = RawPeer::greeted(server.address());
    let publish = |value: &[u8]| {
        let mut builder = gannet_wire::batch::BatchBuilder::new(Default::default());
        builder
            .push(gannet_wire::Timestamp(1), None, Some(value), &[])
            .expect("it fits");
        Message::Publish(gannet_wire::frame::Publish {
            topic: topic.topic,
            partition: PartitionIndex(0),
            durability: None,
            batch: builder.build(gannet_wire::batch::Compression::None, None),
        })
    };
    let mut acknowledged = 0_u64;
    let refusal = loop {
        let mut value = acknowledged.to_string().into_bytes();
        value.resize(RECORD_BYTES, b' ');
        match peer.ask(&publish(&value)) {
            Some(Message::PublishAcks(acks)) => acknowledged += acks.len() as u64,
            Some(Message::Error(error)) => break error,
            other => panic!("{other:?}"),
        }
        assert!(acknowledged < 8_000, "the disk is never full");
    };
    assert_eq!(refusal.code, ErrorCode::DiskFull, "{refusal:?}");
    assert_eq!(read_all(&client, "filling").len() as u64, acknowledged);

    std::fs::remove_file(&filler).expect("it was written");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match peer.ask(&publish(b"again")) {
            Some(Message::PublishAcks(_)) => break,
            Some(Message::Error(error)) if error.code == ErrorCode::DiskFull => {}
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < deadline, "it does not recover");
        std::thread::sleep(Duration::from_millis(100));
    }
    server.kill();
    let server = Server::run(disk.serve(&SETTINGS));
    let found = read_all(&connect(server.address()), "filling");
    assert_eq!(found.len() as u64, acknowledged + 1);
    for (number, value) in (0..acknowledged).zip(found.values()) {
        assert_eq!(value.trim_ascii_end(), number.to_string().as_bytes());
    }
}

#[test]
fn a_full_disk_leaves_reading_retention_and_the_stop_at_work() {
    const SETTINGS: [&str; 8] = [
        "storage.disk_reserve_bytes=2MiB",
        "journal.file_bytes=1MiB",
        "journal.commit_bytes_max=256KiB",
        "network.batch_bytes_max=256KiB",
        "storage.segment_bytes_max=1MiB",
        "storage.unflushed_bytes_max=4MiB",
        "storage.flush_interval_ms=200",
        "storage.direct_bytes_min=256KiB",
    ];
    let Some(disk) = LoopDisk::new(64) else {
        return;
    };
    let mut server = Server::run(disk.serve(&SETTINGS));
    server.expect_error("the disk is full");
    server.expect_error("the disk is nearly full");
    let client = connect(server.address());
    let short = TopicSettings {
        retention_ms: Some(15_000),
        ..TopicSettings::default()
    };
    client.create_topic("short", 1, &short).expect("new");
    client
        .create_topic("kept", 2, &TopicSettings::default())
        .expect("new");
    let value = vec![b'x'; 32 << 10];
    let producer = client
        .producer("short", ProducerConfig::default())
        .expect("it serves");
    for _ in 0..512 {
        producer
            .send(None, None, Some(&value), &[], None)
            .expect("there is room at first");
    }
    producer.close().expect("there is room at first");
    publish_numbers(&client, "kept", 0..1_000);
    let filler = disk.root_of(server.pid()).join("filler");
    fill(&filler);

    let topic = client.describe_topic("kept").expect("it exists").topic;
    let mut peer = RawPeer::greeted(server.address());
    let mut more = 0;
    wait_until("publishes are refused", || {
        match peer.ask(&one_record(topic, b"more", None)) {
            Some(Message::PublishAcks(_)) => {
                more += 1;
                false
            }
            Some(Message::Error(error)) => error.code == ErrorCode::DiskFull,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(read_all(&client, "kept").len(), 1_000 + more);
    // Nobody makes room but retention.
    wait_until("publishes are taken again", || {
        match peer.ask(&one_record(topic, b"more", None)) {
            Some(Message::PublishAcks(_)) => {
                more += 1;
                true
            }
            Some(Message::Error(error)) if error.code == ErrorCode::DiskFull => false,
            other => panic!("{other:?}"),
        }
    });
    fill(&filler);
    assert!(
        server.stop().success(),
        "a full disk keeps it from a clean stop"
    );

    let server = Server::run(disk.serve_without("filler", &SETTINGS));
    let client = connect(server.address());
    assert_eq!(read_all(&client, "kept").len(), 1_000 + more);
    publish_numbers(&client, "kept", 0..100);
}

/// Adds to a file until the disk has no more room.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("a name takes no room");
    for bytes in [1 << 20, 64 << 10, 4 << 10] {
        let block = vec![1; bytes];
        while file.write_all(&block).is_ok() {}
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn publish_kilobytes(client: &gannet_wire::client::blocking::Client, topic: &str, records: usize) {
    let producer = client
        .producer(topic, ProducerConfig::default())
        .expect("the topic exists");
    for _ in 0..records {
        producer
            .send(None, None, Some(&[b'x'; 1 << 10]), &[], None)
            .expect("the server takes it");
    }
    producer.close().expect("everything is acknowledged");
}

/// What makes the log open many files: small journal files and segments.
const MANY_FILES: [&str; 5] = [
    "journal.file_bytes=4MiB",
    "storage.segment_bytes_max=2MiB",
    "storage.flush_bytes=2MiB",
    "storage.unflushed_bytes_max=8MiB",
    "storage.flush_interval_ms=100",
];

#[test]
fn with_64_descriptors_connections_never_take_those_of_the_log() {
    let dir = data_dir();
    let mut command = Command::new("prlimit");
    command.args(["--nofile=64:64", "--"]);
    let serve = serve(dir.path(), 1);
    command.arg(serve.get_program()).args(serve.get_args());
    for setting in MANY_FILES {
        command.args(["--set", setting]);
    }
    command.env("GANNET_LISTEN", "127.0.0.1:0");
    let server = Server::run(command);
    let client = connect(server.address());
    client
        .create_topic("few", 4, &TopicSettings::default())
        .expect("new");
    // They fill whatever there is for connections, and are turned away beyond it.
    let crowd: Vec<_> = (0..100)
        .filter_map(|_| std::net::TcpStream::connect(server.address()).ok())
        .collect();
    assert_eq!(crowd.len(), 100);
    publish_kilobytes(&client, "few", 20_000);
    assert_eq!(read_all(&client, "few").len(), 20_000);
    assert!(server.open_descriptors() <= 64);
    drop(crowd);
    wait_until("others are served again", || {
        gannet_wire::client::blocking::Client::connect(server.address(), Default::default()).is_ok()
    });
    assert!(server.stop().success());
}

#[test]
fn a_log_that_needs_files_has_them_when_no_descriptor_is_left_for_anybody_else() {
    let dir = data_dir();
    let mut server = Server::start_with(dir.path(), 1, &MANY_FILES);
    server.expect_error("a connection cannot be accepted");
    let client = connect(server.address());
    client
        .create_topic("scarce", 1, &TopicSettings::default())
        .expect("new");
    publish_kilobytes(&client, "scarce", 1_000);
    server.limit_descriptors(server.descriptors_end());
    publish_kilobytes(&client, "scarce", 20_000);
    server.limit_descriptors(1 << 10);
    wait_until("others are served again", || {
        gannet_wire::client::blocking::Client::connect(server.address(), Default::default()).is_ok()
    });
    assert_eq!(read_all(&client, "scarce").len(), 21_000);
    assert!(server.stop().success());
}
