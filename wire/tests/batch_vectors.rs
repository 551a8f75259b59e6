//! The test vectors: batches as files, for clients in other languages and for later versions of this one.
//!
//! `vectors/batch/listing.txt` says what each holds. A vector that was once released is never changed; to add one, add
//! it to [`VECTORS`] and run `cargo test -p gannet-wire --test batch_vectors -- --ignored`.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod batch_by_hand;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, Compression, ProducerStamp, Records, stamp, verify_stamped,
};
use gannet_wire::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};

struct Vector {
    name: &'static str,
    compression: Compression,
    producer: Option<ProducerStamp>,
    stamped: bool,
    fill: fn(&mut BatchBuilder),
}

const TOPIC: TopicId = TopicId(7);
const PARTITION: PartitionIndex = PartitionIndex(3);
const T0: i64 = 1_700_000_000_000;

const PLAIN: Vector = Vector {
    name: "",
    compression: Compression::None,
    producer: None,
    stamped: false,
    fill: |_| {},
};

const VECTORS: &[Vector] = &[
    Vector {
        name: "one-record",
        fill: |b| push(b, 0, None, Some(b"hello"), &[]),
        ..PLAIN
    },
    Vector {
        name: "worked-example",
        fill: worked_example,
        ..PLAIN
    },
    Vector {
        name: "keyless",
        fill: |b| {
            push(b, 0, None, Some(b"first"), &[]);
            push(b, 0, None, Some(b""), &[]);
            push(b, 0, None, Some(b"third"), &[]);
        },
        ..PLAIN
    },
    Vector {
        name: "null-values",
        fill: |b| {
            push(b, 0, None, None, &[]);
            push(b, 0, None, Some(b"between"), &[]);
            push(b, 0, None, None, &[]);
        },
        ..PLAIN
    },
    Vector {
        name: "keys",
        fill: |b| {
            push(b, 0, None, Some(b"no key"), &[]);
            push(b, 5, Some(b"user-1"), Some(b"v"), &[]);
            push(b, 2, Some(b""), Some(b"empty key"), &[]);
            push(b, 5, Some(b"user-1"), None, &[]);
        },
        ..PLAIN
    },
    Vector {
        name: "headers",
        fill: |b| {
            push(b, 0, None, Some(b"none"), &[]);
            push(
                b,
                0,
                None,
                Some(b"three"),
                &[
                    ("trace", Some(b"\x00\xff")),
                    ("null", None),
                    ("", Some(b"")),
                ],
            );
            push(b, 0, None, Some(b"none"), &[]);
            push(
                b,
                0,
                None,
                Some(b"one"),
                &[("gr\u{fc}n", Some(b"\xc3\xbc"))],
            );
        },
        ..PLAIN
    },
    Vector {
        name: "idempotent",
        producer: Some(ProducerStamp {
            id: ProducerId(0x0102_0304_0506_0708),
            epoch: ProducerEpoch(2),
            base_sequence: Sequence(u32::MAX),
        }),
        fill: |b| {
            push(b, 0, None, Some(b"sequence 4294967295"), &[]);
            push(b, 0, None, Some(b"sequence 0"), &[]);
        },
        ..PLAIN
    },
    Vector {
        name: "stamped",
        stamped: true,
        fill: worked_example,
        ..PLAIN
    },
    Vector {
        name: "lz4",
        compression: Compression::Lz4,
        fill: compressible,
        ..PLAIN
    },
    Vector {
        name: "zstd",
        compression: Compression::Zstd,
        fill: compressible,
        ..PLAIN
    },
];

fn push(
    builder: &mut BatchBuilder,
    after: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, Option<&[u8]>)],
) {
    builder
        .push(Timestamp(T0 + after), key, value, headers)
        .unwrap();
}

fn worked_example(builder: &mut BatchBuilder) {
    push(builder, 0, Some(b"k"), Some(b"hello"), &[]);
    push(builder, 1, None, None, &[("h", Some(b"xy"))]);
}

fn compressible(builder: &mut BatchBuilder) {
    for after in 0..4 {
        push(
            builder,
            after,
            Some(b"key"),
            Some(&[b'a'; 60]),
            &[("header", Some(b"value"))],
        );
    }
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        (self.fill)(&mut builder);
        let mut batch = builder.build(self.compression, self.producer).to_vec();
        if self.stamped {
            stamp(
                &mut batch,
                TOPIC,
                PARTITION,
                Offset(1_000),
                Timestamp(T0 + 100),
                LeaderEpoch(4),
            );
        }
        batch
    }

    fn path(&self) -> PathBuf {
        directory().join(format!("{}.bin", self.name))
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/batch")
}

/// What the vector files hold, in words.
fn listing() -> String {
    let mut text = String::new();
    for vector in VECTORS {
        let bytes = fs::read(vector.path()).unwrap();
        let records = Records::open(Bytes::from(bytes)).unwrap();
        let header = records.header();
        writeln!(text, "{}.bin", vector.name).unwrap();
        writeln!(text, "  batch_bytes {}", header.batch_bytes()).unwrap();
        writeln!(text, "  crc {:#010x}", header.crc()).unwrap();
        if vector.stamped {
            writeln!(text, "  stamped for topic {TOPIC} partition {PARTITION}").unwrap();
            writeln!(text, "  base_offset {}", header.base_offset()).unwrap();
            writeln!(text, "  append_time {}", header.append_time()).unwrap();
            writeln!(text, "  leader_epoch {}", header.leader_epoch()).unwrap();
            writeln!(text, "  stamp_crc {:#010x}", header.stamp_crc()).unwrap();
        }
        writeln!(
            text,
            "  compression {}",
            header.compression().unwrap().to_byte()
        )
        .unwrap();
        writeln!(text, "  first_timestamp {}", header.first_timestamp()).unwrap();
        writeln!(text, "  max_timestamp {}", header.max_timestamp()).unwrap();
        if let Some(producer) = header.producer() {
            let ProducerStamp {
                id,
                epoch,
                base_sequence,
            } = producer;
            writeln!(
                text,
                "  producer {id} epoch {epoch} base_sequence {base_sequence}"
            )
            .unwrap();
        }
        writeln!(text, "  body_bytes {}", header.body_bytes()).unwrap();
        for (_, record) in &records {
            let quoted = |part: Option<&[u8]>| {
                part.map_or("null".into(), |part| format!("\"{}\"", part.escape_ascii()))
            };
            write!(text, "  record {} {}", record.timestamp, quoted(record.key)).unwrap();
            write!(text, " {}", quoted(record.value)).unwrap();
            for (name, value) in record.headers {
                write!(
                    text,
                    " {}: {}",
                    quoted(Some(name.as_bytes())),
                    quoted(value)
                )
                .unwrap();
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

#[test]
#[ignore = "writes the vectors that are not there yet, and the listing"]
fn write_missing_vectors() {
    fs::create_dir_all(directory()).unwrap();
    for vector in VECTORS.iter().filter(|vector| !vector.path().exists()) {
        fs::write(vector.path(), vector.bytes()).unwrap();
    }
    fs::write(directory().join("listing.txt"), listing()).unwrap();
}

#[test]
fn an_uncompressed_batch_is_encoded_as_it_always_was() {
    for vector in VECTORS
        .iter()
        .filter(|vector| vector.compression == Compression::None)
    {
        assert_eq!(
            vector.bytes(),
            fs::read(vector.path()).unwrap(),
            "{}",
            vector.name
        );
    }
}

#[test]
fn a_compressed_vector_decodes_to_what_is_encoded_now() {
    for vector in VECTORS
        .iter()
        .filter(|vector| vector.compression != Compression::None)
    {
        let old = Records::open(Bytes::from(fs::read(vector.path()).unwrap())).unwrap();
        assert_eq!(old.header().compression(), Ok(vector.compression));
        let new = Records::open(Bytes::from(vector.bytes())).unwrap();
        assert!(old.iter().eq(new.iter()), "{}", vector.name);
    }
}

#[test]
fn the_vectors_hold_what_the_listing_says() {
    let listed = fs::read_to_string(directory().join("listing.txt")).unwrap();
    assert_eq!(listing(), listed);
}

#[test]
fn the_specification_alone_is_enough_to_read_the_vectors() {
    for vector in VECTORS
        .iter()
        .filter(|vector| vector.compression == Compression::None)
    {
        let bytes = fs::read(vector.path()).unwrap();
        let by_hand = batch_by_hand::records(&bytes);
        let records = Records::open(Bytes::from(bytes)).unwrap();
        assert_eq!(by_hand.len(), records.len());
        for (by_hand, (_, record)) in by_hand.iter().zip(&records) {
            assert_eq!(by_hand.timestamp, record.timestamp.0);
            assert_eq!(by_hand.key.as_deref(), record.key);
            assert_eq!(by_hand.value.as_deref(), record.value);
            let headers = by_hand.headers.iter();
            assert!(
                headers
                    .map(|(name, value)| (&name[..], value.as_deref()))
                    .eq(record.headers)
            );
        }
    }
}

#[test]
fn a_stamped_vector_verifies() {
    for vector in VECTORS.iter().filter(|vector| vector.stamped) {
        let bytes = fs::read(vector.path()).unwrap();
        let header = verify_stamped(&bytes, TOPIC, PARTITION).unwrap();
        assert_eq!(header.base_offset(), Offset(1_000));
    }
}

#[test]
fn no_vector_lies_about_unlisted() {
    let mut files: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "listing.txt")
        .collect();
    files.sort();
    let mut listed: Vec<_> = VECTORS
        .iter()
        .map(|vector| format!("{}.bin", vector.name))
        .collect();
    listed.sort();
    assert_eq!(files, listed);
}

#[test]
fn the_worked_example_of_the_specification_is_the_vector() {
    let pages = fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            (name.starts_with("PROTOCOL") && name.ends_with(".md")).then_some(name)
        });
    let specification: String = pages
        .map(|name| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap())
        .collect();
    let (_, example) = specification
        .split_once("<!-- worked-example.bin -->\n```text\n")
        .unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let mut bytes = Vec::new();
    for line in example.lines() {
        let (position, rest) = line.split_once("  ").unwrap();
        assert_eq!(position.parse(), Ok(bytes.len()), "{line}");
        let (hex, _meaning) = rest.split_once("  ").unwrap_or((rest, ""));
        bytes.extend(
            hex.split(' ')
                .map(|byte| u8::from_str_radix(byte, 16).unwrap()),
        );
    }
    assert_eq!(
        bytes,
        fs::read(directory().join("worked-example.bin")).unwrap()
    );
}
