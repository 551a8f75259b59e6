//! What each key means, as data: printed by `gannet serve --help-config`, explained by the tuner, and checked by the tests
//! against the fields and the real defaults.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::limits as most;

/// The documentation of one configuration key.
#[derive(Debug)]
pub struct ConfigKey {
    /// Section and name, such as `journal.file_bytes`.
    pub name: &'static str,
    /// The default, as it is written in TOML.
    pub default: &'static str,
    /// The unit of a bare number.
    pub unit: &'static str,
    /// What it does, and what a larger or smaller value costs.
    pub trades: &'static str,
    /// The memory or disk space it bounds, and its rule with other keys.
    pub bounds: &'static str,
    /// The numbers it can take; `None` when it is not a number.
    pub range: Option<RangeInclusive<i64>>,
}

impl ConfigKey {
    /// The section, empty for a key outside of every section, and the name within it.
    #[must_use]
    pub fn section_and_name(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }
}

/// Every key, in the order of the sections.
#[must_use]
pub fn keys() -> &'static [ConfigKey] {
    &KEYS
}

/// A complete configuration file with every key explained and set to its default.
#[must_use]
pub fn example_toml() -> String {
    let mut text = String::from(
        "# Every key of Gannet with its default. A later layer wins: this file, then the environment (GANNET_JOURNAL_FILE_BYTES\n\
         # sets journal.file_bytes), then flags. An unknown key refuses to start.\n\
         # Sizes are bytes or \"64 MiB\"; durations are milliseconds or \"10 s\", \"7 days\".\n",
    );
    let mut section_before = "";
    for key in keys() {
        let (section, name) = key.section_and_name();
        if section != section_before {
            let _ = write!(text, "\n[{section}]\n");
            section_before = section;
        }
        text.push('\n');
        for line in wrap(key.trades).iter().chain(&wrap(key.bounds)) {
            let _ = writeln!(text, "# {line}");
        }
        if let Some(range) = range_text(key) {
            let _ = writeln!(text, "# {range}");
        }
        let _ = writeln!(text, "{name} = {}", key.default);
    }
    text
}

/// The same for reading on a terminal.
#[must_use]
pub fn help_text() -> String {
    let mut text = String::new();
    for key in keys() {
        let _ = writeln!(text, "{} = {}  ({})", key.name, key.default, key.unit);
        for line in wrap(key.trades).iter().chain(&wrap(key.bounds)) {
            let _ = writeln!(text, "    {line}");
        }
        if let Some(range) = range_text(key) {
            let _ = writeln!(text, "    {range}");
        }
        text.push('\n');
    }
    text
}

fn range_text(key: &ConfigKey) -> Option<String> {
    let range = key.range.as_ref()?;
    Some(match (*range.start(), *range.end()) {
        (least, i64::MAX) => format!("At least {least} {}.", key.unit),
        (least, most) => format!("From {least} to {most} {}.", key.unit),
    })
}

const LINE_CHARACTERS: usize = 110;

fn wrap(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > LINE_CHARACTERS {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

const BYTES: &str = "bytes";
const MICROSECONDS: &str = "microseconds";
const MILLISECONDS: &str = "milliseconds";

const fn range(least: u64, most: u64) -> Option<RangeInclusive<i64>> {
    assert!(least <= most && most <= i64::MAX as u64);
    Some(RangeInclusive::new(least as i64, most as i64))
}

static KEYS: [ConfigKey; 41] = [
    ConfigKey {
        name: "listen",
        default: "\"127.0.0.1:7470\"",
        unit: "address",
        trades: "Address and port of the native protocol. Only this machine can connect unless an outer address is named; there is no authentication yet.",
        bounds: "Port 0 takes any free port, which the line at start names.",
        range: None,
    },
    ConfigKey {
        name: "data_dir",
        default: "\"./gannet-data\"",
        unit: "path",
        trades: "Directory of everything stored. Its disk decides the latency of every durable ack; a file system that supports O_DIRECT is needed.",
        bounds: "One broker at a time: a second one on the same directory refuses to start.",
        range: None,
    },
    ConfigKey {
        name: "shards",
        default: "\"auto\"",
        unit: "cores",
        trades: "Shards, one core each. More take more throughput and more memory; cores left over serve clients on the same machine and the kernel. \"auto\" is one shard a core of runtime.cores, but one fewer on two or three cores.",
        bounds: "Each shard has its journal (at least two files of journal.file_bytes once busy) and its read cache.",
        range: range(1, most::SHARDS_MAX as u64),
    },
    ConfigKey {
        name: "journal.file_bytes",
        default: "\"64 MiB\"",
        unit: BYTES,
        trades: "Length of one pre-written journal file. Larger recycles more rarely; smaller starts faster on a slow disk, since the first file is written in full before serving.",
        bounds: "Disk space: about twice storage.unflushed_bytes_max in such files. A file holds at least four of the largest commits.",
        range: range(most::JOURNAL_FILE_BYTES_MIN, most::JOURNAL_FILE_BYTES_MAX),
    },
    ConfigKey {
        name: "journal.commit_bytes_max",
        default: "\"1 MiB\"",
        unit: BYTES,
        trades: "What one commit gathers. Larger reaches the disk's full rate with fewer writes in flight; smaller lets a neighbour's record wait less behind a saturating producer.",
        bounds: "Memory: commits_in_flight_max such buffers a shard. A batch that does not fit into one goes straight to its segment. At most a quarter of journal.file_bytes.",
        range: range(most::COMMIT_BYTES_MAX_MIN, most::COMMIT_BYTES_MAX as u64),
    },
    ConfigKey {
        name: "journal.commits_in_flight_max",
        default: "4",
        unit: "commits",
        trades: "Commits of one shard on their way to the disk at once. More fill a disk that works in parallel; fewer gather larger commits.",
        bounds: "Memory: this times commit_bytes_max a shard.",
        range: range(1, most::COMMITS_IN_FLIGHT_MAX),
    },
    ConfigKey {
        name: "journal.commit_interval_us",
        default: "500",
        unit: MICROSECONDS,
        trades: "While publishes keep coming, a small commit waits until so long after the last one began, or until a pause of a seventh of it; a quarter of it where some client waits for its ack before it sends more. Longer gathers more in each: fewer writes, system calls and wake-ups of clients, at the price of the latency of usual publishes. A publish that finds the device idle and nothing else waiting is written at once, whatever this says, and so is a quarter of commit_bytes_max.",
        bounds: "Latency: a publish waits so long at most for company.",
        range: range(0, most::COMMIT_INTERVAL_US_MAX),
    },
    ConfigKey {
        name: "journal.mark_interval_ms",
        default: "\"10 ms\"",
        unit: MILLISECONDS,
        trades: "How long after the last ack the mark is written that proves it. Within it, rot of the newest commits cannot be told from a torn tail. Shorter narrows that window for one more 4 KiB write.",
        bounds: "The window in which a flipped bit on the disk could be taken for a torn tail.",
        range: range(1, most::MARK_INTERVAL_MS_MAX),
    },
    ConfigKey {
        name: "storage.unflushed_bytes_max",
        default: "\"auto\"",
        unit: BYTES,
        trades: "Data in the journal and in memory that is not in a segment yet. Larger serves more readers from memory and flushes in larger runs; smaller recovers faster and needs less memory. Publishers are pushed back at it. \"auto\" is an eighth of memory, at most 1 GiB.",
        bounds: "Memory of the whole broker, split evenly over the shards, and the bytes replayed at a start. A shard's part holds at least two of the largest commits and batches.",
        range: range(most::UNFLUSHED_BYTES_MIN, most::TIB),
    },
    ConfigKey {
        name: "storage.flush_bytes",
        default: "\"auto\"",
        unit: BYTES,
        trades: "Unflushed data of one shard at which a flush starts. Larger makes longer runs and fewer segments; smaller keeps the journal short. \"auto\" is a quarter of the shard's part of unflushed_bytes_max, at most 64 MiB.",
        bounds: "At most half of a shard's part of unflushed_bytes_max, so that flushing starts before publishers are pushed back.",
        range: range(most::DISK_BLOCK_BYTES, most::TIB),
    },
    ConfigKey {
        name: "storage.flush_interval_ms",
        default: "\"10 s\"",
        unit: MILLISECONDS,
        trades: "Age of unflushed data at which a flush starts whatever its size. Longer gathers more of a slow topic in one run; shorter keeps the journal and the replay short.",
        bounds: "How long a journal file with little in it is kept from being recycled.",
        range: range(10, 24 * 60 * 60 * 1000),
    },
    ConfigKey {
        name: "storage.segment_bytes_max",
        default: "\"256 MiB\"",
        unit: BYTES,
        trades: "Length at which a segment is sealed. Larger means fewer files; smaller lets retention free space in smaller steps.",
        bounds: "Disk space: what one partition keeps beyond its retention. At least twice network.batch_bytes_max.",
        range: range(most::SEGMENT_BYTES_MIN, most::SEGMENT_BYTES_MAX),
    },
    ConfigKey {
        name: "storage.direct_bytes_min",
        default: "\"512 KiB\"",
        unit: BYTES,
        trades: "Backlog of one partition that is written to its segment directly and acked from there, with only a record in the journal. Smaller saves more of the second write; larger keeps more in the journal, where small writes are cheap.",
        bounds: "At least own_segment_bytes_min, at most journal.commit_bytes_max. A batch that does not fit into one commit goes there whatever this says.",
        range: range(most::DIRECT_BYTES_MIN_MIN, most::TIB),
    },
    ConfigKey {
        name: "storage.own_segment_bytes_min",
        default: "\"256 KiB\"",
        unit: BYTES,
        trades: "Unflushed data of one partition that gets a segment of its own; less shares a segment with other partitions. Smaller reads back faster per partition; larger writes fewer files.",
        bounds: "With 10,000 partitions below it, a flush writes one file instead of 10,000.",
        range: range(most::DISK_BLOCK_BYTES, most::TIB),
    },
    ConfigKey {
        name: "storage.flush_write_bytes",
        default: "\"512 KiB\"",
        unit: BYTES,
        trades: "Length of one write of a flush. Larger flushes faster; smaller disturbs the commits beside it less.",
        bounds: "Memory: flush_writes_in_flight_max such buffers a shard. A multiple of 4 KiB.",
        range: range(most::DISK_BLOCK_BYTES, most::DISK_TRANSFER_BYTES_MAX),
    },
    ConfigKey {
        name: "storage.flush_writes_in_flight_max",
        default: "2",
        unit: "writes",
        trades: "Writes of a flush at once while the flusher keeps up; a backlogged one uses more. More flushes faster; fewer disturbs the commits less.",
        bounds: "Memory: this times flush_write_bytes a shard.",
        range: range(1, most::FLUSH_WRITES_IN_FLIGHT_MAX),
    },
    ConfigKey {
        name: "storage.read_chunk_bytes",
        default: "\"1 MiB\"",
        unit: BYTES,
        trades: "Length of one read of a segment for consumers that are behind. Larger reads closer to the disk's rate; smaller wastes less for short reads.",
        bounds: "Memory: one or two for each subscription that reads from the disk; what waits to be sent to it keeps at most four times its bytes. A multiple of 4 KiB.",
        range: range(most::DISK_BLOCK_BYTES, most::DISK_TRANSFER_BYTES_MAX),
    },
    ConfigKey {
        name: "storage.read_cache_bytes",
        default: "\"32 MiB\"",
        unit: BYTES,
        trades: "Segment data kept by each shard, so that many consumers of the same stretch read it once, and read ahead for those who go on and on, at most in half of it. Larger helps consumers that are further apart, and more of them at once.",
        bounds: "Memory of each shard, taken only as it is used. 0 keeps nothing and reads nothing ahead. Indexes have 8 MiB of their own.",
        range: range(0, most::TIB),
    },
    ConfigKey {
        name: "storage.open_files_max",
        default: "1024",
        unit: "files",
        trades: "Segments and indexes the broker keeps open. More saves opening them again for consumers that are behind on many partitions.",
        bounds: "Descriptors, split over the shards. With network.connections_max and the broker's own it stays under the limit of the process, or is cut to it at start.",
        range: range(16, most::OPEN_FILES_MAX),
    },
    ConfigKey {
        name: "storage.disk_reserve_bytes",
        default: "\"256 MiB\"",
        unit: BYTES,
        trades: "Free space below which publishes are refused while reads, retention and flushes go on. Larger keeps more room to recover in; smaller uses more of the disk.",
        bounds: "Disk space that publishing never touches. It should hold a journal file for each shard.",
        range: range(0, most::TIB),
    },
    ConfigKey {
        name: "storage.trust_wall_clock",
        default: "false",
        unit: "true or false",
        trades: "Whether a start believes a wall clock that is more than five minutes ahead of the broker's append clock, as after a long stop. false waits for an hour, in which nothing expires; true has expired at once what the wall clock says is too old: say so (gannet serve --trust-wall-clock) once the machine's time is known to be right.",
        bounds: "What a wall clock that is wrong could make expire.",
        range: None,
    },
    ConfigKey {
        name: "network.frame_bytes_max",
        default: "\"1088 KiB\"",
        unit: BYTES,
        trades: "Largest frame accepted; checked before anything is reserved for it.",
        bounds: "Memory: what one connection can make a shard reserve. At least batch_bytes_max + 4 KiB, and 64 bytes for each of topics.partitions_max.",
        range: range(
            most::BATCH_BYTES_MAX_MIN + most::FRAME_OVERHEAD_BYTES_MIN,
            most::FRAME_BYTES_MAX,
        ),
    },
    ConfigKey {
        name: "network.batch_bytes_max",
        default: "\"1 MiB\"",
        unit: BYTES,
        trades: "Largest batch accepted, as encoded and compressed; clients hold each batch to it before they compress, since what does not shrink must fit too. Larger admits larger records; smaller bounds how long one batch holds up its neighbours.",
        bounds: "The largest record. At most half of storage.segment_bytes_max.",
        range: range(most::BATCH_BYTES_MAX_MIN, most::BATCH_BYTES_MAX),
    },
    ConfigKey {
        name: "network.batch_records_max",
        default: "65536",
        unit: "records",
        trades: "Most records in one batch. Larger amortizes more of a tiny record's cost; smaller bounds the check of one batch.",
        bounds: "The time one check takes: about 3 ns a record.",
        range: range(1, most::BATCH_RECORDS_MAX),
    },
    ConfigKey {
        name: "network.decompressed_bytes_max",
        default: "\"4 MiB\"",
        unit: BYTES,
        trades: "Largest body of a batch once it is decompressed, which it is for its check. Larger lets producers compress more into one batch; smaller bounds how long one small frame holds up its neighbours.",
        bounds: "The time one check takes, about 1 ms for each MiB, and as much memory for each shard. At least batch_bytes_max.",
        range: range(most::BATCH_BYTES_MAX_MIN, most::DECOMPRESSED_BYTES_MAX),
    },
    ConfigKey {
        name: "network.connections_max",
        default: "10000",
        unit: "connections",
        trades: "Connections of the broker. Beyond it one that has said nothing for 100 ms is closed for the next; where all have spoken, further ones are closed at once. The log says so.",
        bounds: "Descriptors, and memory: up to connection_buffer_bytes_max each for those that are written to and do not read. Cut at start to what the process's descriptor limit leaves.",
        range: range(1, most::CONNECTIONS_MAX),
    },
    ConfigKey {
        name: "network.read_quantum_bytes",
        default: "\"256 KiB\"",
        unit: BYTES,
        trades: "Bytes read from one connection before the next has its turn. Larger costs fewer system calls; smaller is fairer.",
        bounds: "How long a saturating connection holds up its neighbours.",
        range: range(4 * most::KIB, most::CONNECTION_BUFFER_BYTES_MAX),
    },
    ConfigKey {
        name: "network.connection_buffer_bytes_max",
        default: "\"4 MiB\"",
        unit: BYTES,
        trades: "Bytes waiting to be sent on one connection. Larger keeps a fast consumer busy over a long round trip; smaller bounds what slow ones hold.",
        bounds: "Memory of one connection that reads slowly. At least frame_bytes_max.",
        range: range(16 * most::KIB, most::CONNECTION_BUFFER_BYTES_MAX),
    },
    ConfigKey {
        name: "network.heartbeat_ms",
        default: "\"10 s\"",
        unit: MILLISECONDS,
        trades: "Silence after which a ping is sent, both ways. Shorter notices a dead peer sooner; longer costs less for many idle connections.",
        bounds: "A peer that is gone is noticed after three of them, and everything of it is freed.",
        range: range(most::HEARTBEAT_MS_MIN, 600_000),
    },
    ConfigKey {
        name: "network.write_deadline_ms",
        default: "\"30 s\"",
        unit: MILLISECONDS,
        trades: "How long a peer may take none of what waits for it before its connection is closed. Longer forgives a stalled consumer.",
        bounds: "How long a stalled connection holds its buffer, and how long the kernel keeps what was written to a peer that is gone.",
        range: range(100, 3_600_000),
    },
    ConfigKey {
        name: "network.producer_inflight_max",
        default: "64",
        unit: "batches",
        trades: "Batches of one producer and partition in flight. More fill a longer round trip; every one is remembered so that a duplicate is recognized.",
        bounds: "Memory: 32 bytes for each remembered batch of each live producer and partition.",
        range: range(1, most::PRODUCER_INFLIGHT_MAX),
    },
    ConfigKey {
        name: "network.subscriptions_max",
        default: "1024",
        unit: "subscriptions",
        trades: "Subscriptions of one connection. A consumer of a topic with more partitions opens more connections.",
        bounds: "Memory: a few hundred bytes each, and the credit that the client granted.",
        range: range(1, most::SUBSCRIPTIONS_MAX),
    },
    ConfigKey {
        name: "topics.partitions_default",
        default: "1",
        unit: "partitions",
        trades: "Partitions of a topic created without a number. More spread over more shards; order holds only within one.",
        bounds: "At most partitions_max.",
        range: range(1, most::PARTITIONS_MAX),
    },
    ConfigKey {
        name: "topics.partitions_max",
        default: "16384",
        unit: "partitions",
        trades: "Most partitions of one topic. An idle one costs memory: about 700 bytes (gannet-numbers measures it).",
        bounds: "Memory: about 700 bytes (gannet-numbers measures it) for each idle one. A description of the topic takes 64 bytes of network.frame_bytes_max for each.",
        range: range(1, most::PARTITIONS_MAX),
    },
    ConfigKey {
        name: "topics.retention_ms",
        default: "\"7 days\"",
        unit: MILLISECONDS,
        trades: "Age, by the broker's append time, at which data expires in topics that do not say. -1 keeps it for ever.",
        bounds: "Disk space: what is published in that time, and up to one segment a partition more.",
        range: Some(RangeInclusive::new(-1, i64::MAX)),
    },
    ConfigKey {
        name: "topics.retention_bytes",
        default: "-1",
        unit: BYTES,
        trades: "Stored bytes of one partition above which its oldest segments go, in topics that do not say. -1 sets no limit.",
        bounds: "Disk space of each partition, give or take one segment.",
        range: Some(RangeInclusive::new(-1, i64::MAX)),
    },
    ConfigKey {
        name: "topics.durability",
        default: "\"durable\"",
        unit: "level",
        trades: "What an ack means in topics that do not say: \"durable\" is on the disk; \"accepted\" is in memory, sooner, and a crash may lose what no commit has written yet: it goes with the next one, which begins as soon as the device is free.",
        bounds: "Consumers see only what is on the disk, either way.",
        range: None,
    },
    ConfigKey {
        name: "topics.producer_expiry_ms",
        default: "\"1 day\"",
        unit: MILLISECONDS,
        trades: "Silence after which a producer's sequences are forgotten; a resend after that is answered with an error instead of being recognized as a duplicate.",
        bounds: "Memory: what network.producer_inflight_max takes, for every producer seen in that time.",
        range: range(1_000, 365 * 24 * 60 * 60 * 1000),
    },
    ConfigKey {
        name: "runtime.busy_poll_us",
        default: "0",
        unit: MICROSECONDS,
        trades: "How long an idle core polls before it sleeps. 200 saves about 20 us of a durable publish's latency and keeps the core busy.",
        bounds: "CPU: with a steady trickle of requests, a whole core for each shard.",
        range: range(0, most::BUSY_POLL_US_MAX),
    },
    ConfigKey {
        name: "runtime.pin",
        default: "true",
        unit: "true or false",
        trades: "Whether each shard is bound to its core. Bound is faster and steadier; unbound shares a machine with others more gracefully.",
        bounds: "Without it, runtime.cores only says how many shards \"auto\" makes.",
        range: None,
    },
    ConfigKey {
        name: "runtime.cores",
        default: "\"auto\"",
        unit: "processor numbers",
        trades: "Which cores the shards run on, in order: a list such as [0, 2] or a text such as \"0,2,4-7\". \"auto\" is all that this process may use. Leave some out for clients on the same machine and for the interrupts of the network card.",
        bounds: "At least as many cores as shards, each named once.",
        range: None,
    },
];
