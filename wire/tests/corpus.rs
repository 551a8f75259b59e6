//! A corpus of frames and batches, as files: what is sound, what lies in one way each, and what was ever found. Each is decoded as its name says,
//! and properties begin from them.
//!
//! A file lies in `corpus/<decoder>/` and its name begins with what the decoder must make of it: `taken-`, `refused-`, or `incomplete-`. A finding is
//! added as such a file. `cargo test -p gannet-wire --test corpus -- --ignored` writes those of [`frames`] and [`batches`] that are missing.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod batch_by_hand;

use std::fs;
use std::path::{Path, PathBuf};

use batch_by_hand::*;
use bytes::{Bytes, BytesMut};
use gannet_wire::Timestamp;
use gannet_wire::batch::{
    BatchBuilder, BatchLimits, CheckDepth, CheckScratch, Compression, Records, check_batch,
    verify_stamped,
};
use gannet_wire::frame::{FrameDecoder, FrameLimits};
use gannet_wire::limits::FRAME_HEADER_BYTES;
use gannet_wire::{PartitionIndex, TopicId};
use proptest::prelude::*;

/// A file of the corpus: its name and its bytes.
type Case = (String, Vec<u8>);

/// What a decoder makes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Taken,
    Refused,
    Incomplete,
}

fn corpus(decoder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(decoder)
}

fn files(decoder: &str) -> Vec<Case> {
    let mut files: Vec<Case> = fs::read_dir(corpus(decoder))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{decoder} has a corpus");
    files
}

fn expected(name: &str) -> Verdict {
    match name.split('-').next() {
        Some("taken") => Verdict::Taken,
        Some("refused") => Verdict::Refused,
        Some("incomplete") => Verdict::Incomplete,
        _ => panic!("{name} does not say what becomes of it"),
    }
}

/// All frames in `bytes`, at once and byte by byte, which must agree.
fn decode_frames(bytes: &[u8]) -> Verdict {
    let whole = decode_in_pieces(bytes, bytes.len().max(1));
    assert_eq!(whole, decode_in_pieces(bytes, 1));
    whole
}

fn decode_in_pieces(bytes: &[u8], piece: usize) -> Verdict {
    let mut decoder = FrameDecoder::new(FrameLimits::default());
    let mut received = BytesMut::new();
    for part in bytes.chunks(piece) {
        received.extend_from_slice(part);
        loop {
            match decoder.decode(&mut received) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Verdict::Refused,
            }
        }
    }
    match received.is_empty() {
        true => Verdict::Taken,
        false => Verdict::Incomplete,
    }
}

/// A batch as the broker checks it and as a consumer does, which must agree, read to its last record.
fn decode_batch(bytes: &[u8]) -> Verdict {
    let limits = BatchLimits::FORMAT;
    let checked = check_batch(bytes, &limits, CheckDepth::Full, &mut CheckScratch::new());
    let opened = Records::open(Bytes::copy_from_slice(bytes));
    assert_eq!(checked.is_ok(), opened.is_ok());
    let _ = verify_stamped(bytes, TopicId(7), PartitionIndex(3));
    match opened {
        Ok(records) => {
            assert_eq!(records.iter().count(), records.len());
            Verdict::Taken
        }
        Err(_) => Verdict::Refused,
    }
}

#[test]
fn every_frame_of_the_corpus_is_what_its_name_says() {
    for (name, bytes) in files("frame") {
        assert_eq!(decode_frames(&bytes), expected(&name), "{name}");
    }
}

#[test]
fn every_batch_of_the_corpus_is_what_its_name_says() {
    for (name, bytes) in files("batch") {
        assert_eq!(decode_batch(&bytes), expected(&name), "{name}");
    }
}

/// Changes to bytes: values that tend to be edges, at any place, and a cut.
fn changes() -> impl Strategy<Value = (Vec<(prop::sample::Index, u8)>, Option<prop::sample::Index>)>
{
    let byte = prop_oneof![
        Just(0),
        Just(1),
        Just(0x7F),
        Just(0x80),
        Just(0xFF),
        any::<u8>()
    ];
    let change = (any::<prop::sample::Index>(), byte);
    (
        prop::collection::vec(change, 1..6),
        prop::option::weighted(0.2, any::<prop::sample::Index>()),
    )
}

fn changed(
    mut bytes: Vec<u8>,
    (changes, cut): &(Vec<(prop::sample::Index, u8)>, Option<prop::sample::Index>),
) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn a_changed_frame_is_taken_refused_or_incomplete_and_never_a_panic(
        which in any::<prop::sample::Index>(),
        changes in changes(),
    ) {
        let files = files("frame");
        let (_, bytes) = &files[which.index(files.len())];
        let _ = decode_frames(&changed(bytes.clone(), &changes));
    }

    #[test]
    fn a_changed_batch_under_a_right_checksum_is_taken_or_refused_and_never_a_panic(
        which in any::<prop::sample::Index>(),
        changes in changes(),
    ) {
        let files = files("batch");
        let (_, bytes) = &files[which.index(files.len())];
        let mut bytes = changed(bytes.clone(), &changes);
        let _ = decode_batch(&bytes);
        if bytes.len() > HEADER_BYTES {
            reseal(&mut bytes);
            let _ = decode_batch(&bytes);
        }
    }
}

// The files

/// Of every kind of frame one that is sound, and what lies about it.
fn frames() -> Vec<Case> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/frame");
    let mut cases = Vec::new();
    for entry in fs::read_dir(vectors).unwrap() {
        let path = entry.unwrap().path();
        let kind = path
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .replace('_', "-");
        let whole = hexadecimal(&fs::read_to_string(&path).unwrap());
        cases.push((format!("taken-{kind}"), whole.clone()));
        cases.push((
            format!("incomplete-{kind}"),
            whole[..whole.len() - 1].to_vec(),
        ));
        let has_open_end = matches!(&*kind, "publish" | "deliver");
        if !has_open_end {
            let mut longer = whole.clone();
            longer.push(0);
            cases.push((format!("refused-{kind}-byte-behind"), restated(longer)));
        }
        let mut shorter = whole.clone();
        shorter.pop();
        // Less than a header is only the beginning of one.
        if !has_open_end && shorter.len() >= FRAME_HEADER_BYTES {
            cases.push((format!("refused-{kind}-byte-missing"), restated(shorter)));
        }
    }
    let sound = cases
        .iter()
        .find(|(name, _)| name == "taken-hello")
        .unwrap()
        .1
        .clone();
    let with = |name: &str, at: usize, bytes: &[u8]| {
        let mut frame = sound.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        (format!("refused-{name}"), frame)
    };
    cases.push(with("length-of-4-gib", 0, &[0xFF; 4]));
    cases.push(with("length-zero", 0, &[0; 4]));
    cases.push(with("length-of-the-header-less-one", 0, &[15, 0, 0, 0]));
    cases.push(with("kind-unknown", 4, &[0xEE]));
    cases.push(with("version-newer", 5, &[0xFF]));
    cases.push(with("flags-set", 6, &[1, 0]));
    let mut after = sound.clone();
    after.extend_from_slice(&[0xFF; 16]);
    cases.push(("refused-garbage-behind-a-frame".to_owned(), after));
    let mut twice = sound.clone();
    twice.extend_from_slice(&sound);
    cases.push(("taken-two-at-once".to_owned(), twice));
    cases
}

fn hexadecimal(text: &str) -> Vec<u8> {
    text.lines()
        .flat_map(|line| {
            line.split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
        })
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// The frame with the length that it has.
fn restated(mut frame: Vec<u8>) -> Vec<u8> {
    let bytes = frame.len() as u32;
    put_u32(&mut frame, 0, bytes);
    frame
}

fn batches() -> Vec<Case> {
    let headers: [(&str, Option<&[u8]>); 2] = [("trace", Some(b"id")), ("null", None)];
    let build = |compression| {
        let mut builder = BatchBuilder::new(BatchLimits::default());
        let record = |builder: &mut BatchBuilder, value: &[u8]| {
            builder
                .push(Timestamp(10), Some(b"key"), Some(value), &headers)
                .unwrap();
        };
        record(&mut builder, b"value one");
        record(&mut builder, &[b'z'; 100]);
        builder.build(compression, None).to_vec()
    };
    let plain = build(Compression::None);
    let lie = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut batch = plain.clone();
        change(&mut batch);
        reseal(&mut batch);
        (format!("refused-{name}"), batch)
    };
    let root = plain.len() - ROOT_BYTES;
    let mut cases = vec![
        ("taken-plain".to_owned(), plain.clone()),
        ("taken-lz4".to_owned(), build(Compression::Lz4)),
        ("taken-zstd".to_owned(), build(Compression::Zstd)),
        lie("format-unknown", &|batch| batch[32] = 0xEE),
        lie("compression-unknown", &|batch| batch[33] = 0xEE),
        lie("count-more", &|batch| put_u32(batch, 36, 3)),
        lie("count-of-4-billion", &|batch| put_u32(batch, 36, u32::MAX)),
        lie("count-zero", &|batch| put_u32(batch, 36, 0)),
        lie("body-longer-than-it-is", &|batch| {
            put_u32(batch, 72, u32::MAX)
        }),
        lie("pointer-out-of-the-body", &|batch| {
            put_u32(batch, root, i32::MIN as u32);
        }),
        lie("column-of-4-billion", &|batch| {
            put_u32(batch, root + 4, u32::MAX);
        }),
        lie("end-beyond-the-column", &|batch| {
            let at = element(batch, VALUE_ENDS, 1);
            put_u32(batch, at, u32::MAX);
        }),
        lie("end-that-steps-back", &|batch| {
            let at = element(batch, VALUE_ENDS, 0);
            put_u32(batch, at, 200);
        }),
        lie("byte-too-many", &|batch| batch.push(0)),
    ];
    let mut flipped = plain.clone();
    flipped[100] ^= 1;
    cases.push(("refused-flipped-bit".to_owned(), flipped));
    cases.push(("refused-cut".to_owned(), plain[..plain.len() / 2].to_vec()));
    cases.push((
        "refused-header-alone".to_owned(),
        plain[..HEADER_BYTES].to_vec(),
    ));
    cases.push(("refused-nothing".to_owned(), Vec::new()));
    for compression in [Compression::Lz4, Compression::Zstd] {
        let mut bomb = build(compression);
        let name = format!("{compression:?}").to_lowercase();
        // Far more than so few bytes can become.
        put_u32(&mut bomb, 72, 64 << 20);
        reseal(&mut bomb);
        cases.push((format!("refused-{name}-bomb"), bomb));
        let mut garbled = build(compression);
        for byte in &mut garbled[HEADER_BYTES..] {
            *byte = 0xFF;
        }
        reseal(&mut garbled);
        cases.push((format!("refused-{name}-garbled"), garbled));
    }
    cases
}

#[test]
#[ignore = "writes into the sources"]
fn write_missing_files() {
    for (decoder, cases) in [("frame", frames()), ("batch", batches())] {
        fs::create_dir_all(corpus(decoder)).unwrap();
        for (name, bytes) in cases {
            let path = corpus(decoder).join(name);
            if !path.exists() {
                fs::write(path, bytes).unwrap();
            }
        }
    }
}
