//! What the corpus of the disk's decoders and of the configuration begins with: the fixtures of the first version, and what lies about them, mostly
//! under a right checksum, so that the lie is believed.

use std::fs;
use std::path::Path;

use gannet_engine::cursor::CommittedOffset;
use gannet_engine::io::BLOCK_BYTES;
use gannet_engine::storage::commit::CommitHead;
use gannet_engine::storage::journal_file::FIRST_COMMIT_POSITION;
use gannet_wire::Offset;

type Case = (String, Vec<u8>);
type Change<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));

/// The cases of a decoder.
pub(crate) fn of(decoder: &str) -> Vec<Case> {
    match decoder {
        "commit" => commits(),
        "journal-header" => journal_headers(),
        "journal" => journals(),
        "segment-header" => segment_headers(),
        "segment" => segments(),
        "index" => indexes(),
        "checkpoint" => checkpoints(),
        "record-log" => record_logs(),
        "catalogue" => catalogues(),
        "committed-offset" => committed_offsets(),
        "direct-run" => direct_runs(),
        "configuration" => configurations(),
        other => panic!("nobody knows {other}"),
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/v1")
        .join(name);
    fs::read(path).unwrap()
}

/// The whole thing, and it with each change and then `reseal`ed.
fn lies(whole: &[u8], reseal: fn(&mut [u8]), changes: &[Change<'_>]) -> Vec<Case> {
    let mut cases = vec![
        ("whole".to_owned(), whole.to_vec()),
        ("nothing".to_owned(), Vec::new()),
        ("first-half".to_owned(), whole[..whole.len() / 2].to_vec()),
    ];
    for (what, change) in changes {
        let mut bytes = whole.to_vec();
        change(&mut bytes);
        reseal(&mut bytes);
        cases.push(((*what).to_owned(), bytes));
    }
    cases
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn leave(_: &mut [u8]) {}

fn seal_commit(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(&bytes[4..76]);
    put_u32(bytes, 76, checksum);
}

fn commits() -> Vec<Case> {
    let whole = fixture("commit.bin");
    let foot = whole.len() - 80;
    let mut cases = lies(
        &whole,
        seal_commit,
        &[
            ("newer", &|bytes| bytes[4] = 2),
            ("entries-4-billion", &|bytes| put_u32(bytes, 52, u32::MAX)),
            ("entries-none", &|bytes| put_u32(bytes, 52, 0)),
            ("length-zero", &|bytes| put_u32(bytes, 48, 0)),
            ("length-4-gib", &|bytes| put_u32(bytes, 48, 0xFFFF_F000)),
            ("length-no-whole-blocks", &|bytes| put_u32(bytes, 48, 4097)),
            ("position-elsewhere", &|bytes| put_u64(bytes, 24, 1 << 40)),
            ("lsn-another", &|bytes| put_u64(bytes, 16, 13)),
            ("foot-lost", &|bytes| bytes[foot..].fill(0)),
            ("directory-lost", &|bytes| bytes[80..120].fill(0xFF)),
        ],
    );
    let mut flipped = whole.clone();
    flipped[300] ^= 1;
    cases.push(("entry-flipped-bit".to_owned(), flipped));
    let mut flipped = whole;
    flipped[20] ^= 1;
    cases.push(("head-flipped-bit".to_owned(), flipped));
    cases
}

fn seal_header(bytes: &mut [u8]) {
    for block in bytes
        .chunks_mut(BLOCK_BYTES)
        .filter(|block| block.len() >= 40)
    {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..40]);
        put_u32(block, 12, checksum);
    }
}

fn journal_headers() -> Vec<Case> {
    let whole = fixture("journal-header.bin");
    let mut cases = lies(
        &whole,
        seal_header,
        &[
            ("newer", &|bytes| bytes[8] = 2),
            ("second-newer", &|bytes| bytes[BLOCK_BYTES + 8] = 2),
            ("generations-differ", &|bytes| bytes[BLOCK_BYTES + 16] = 9),
            ("size-of-16-eib", &|bytes| put_u64(bytes, 32, u64::MAX)),
        ],
    );
    let damaged = |at: &[usize]| {
        let mut bytes = whole.clone();
        at.iter().for_each(|at| bytes[*at] ^= 1);
        bytes
    };
    cases.push(("one-copy".to_owned(), damaged(&[16])));
    cases.push(("no-copy".to_owned(), damaged(&[16, BLOCK_BYTES + 16])));
    cases.push(("blank".to_owned(), vec![0; 2 * BLOCK_BYTES]));
    cases
}

fn journals() -> Vec<Case> {
    let mut whole = fixture("journal-header.bin");
    whole.extend(fixture("commit.bin"));
    let commit = FIRST_COMMIT_POSITION as usize;
    lies(
        &whole,
        leave,
        &[
            ("header-lost", &|bytes| bytes[..commit].fill(0xA5)),
            ("commit-head-lost", &|bytes| bytes[commit] ^= 1),
            ("commit-of-a-former-life", &|bytes| {
                for block in bytes[..commit].chunks_mut(BLOCK_BYTES) {
                    put_u64(block, 16, 5);
                }
                seal_header(&mut bytes[..commit]);
            }),
        ],
    )
}

fn segment_headers() -> Vec<Case> {
    lies(
        &fixture("segment.seg")[..40],
        seal_header,
        &[
            ("newer", &|bytes| bytes[8] = 2),
            ("shared", &|bytes| put_u64(bytes, 24, u64::MAX)),
            ("magic-another", &|bytes| bytes[0] = b'g'),
        ],
    )
}

fn segments() -> Vec<Case> {
    let whole = fixture("segment.seg");
    let first = BLOCK_BYTES;
    lies(
        &whole,
        leave,
        &[
            ("header-lost", &|bytes| bytes[..first].fill(0xA5)),
            ("length-zero", &|bytes| put_u32(bytes, first, 0)),
            ("length-4-gib", &|bytes| put_u32(bytes, first, u32::MAX)),
            ("offset-another", &|bytes| bytes[first + 8] ^= 1),
            ("body-flipped-bit", &|bytes| bytes[first + 100] ^= 1),
            ("batches-swapped-for-one", &|bytes| {
                let one = bytes[first..first + 200].to_vec();
                bytes[first + 200..first + 400].copy_from_slice(&one);
            }),
        ],
    )
}

fn seal_index(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(&bytes[24..]);
    put_u32(bytes, 12, checksum);
}

fn indexes() -> Vec<Case> {
    let whole = fixture("segment.idx");
    let end = whole.len();
    let mut cases = lies(
        &whole,
        seal_index,
        &[
            ("newer", &|bytes| bytes[8] = 2),
            ("length-16-eib", &|bytes| put_u64(bytes, 16, u64::MAX)),
            ("length-zero", &|bytes| put_u64(bytes, 16, 0)),
            ("root-pointer-wild", &|bytes| {
                put_u32(bytes, end - 8, 0x8000_0000);
            }),
            ("runs-4-billion", &|bytes| put_u32(bytes, end - 4, u32::MAX)),
            ("points-go-back", &|bytes| bytes[24..32].fill(0xFF)),
        ],
    );
    let mut flipped = whole;
    flipped[30] ^= 1;
    cases.push(("flipped-bit".to_owned(), flipped));
    cases
}

/// The records of one copy of a log.
fn records_of(log: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut position = 0;
    while log.get(position..position + 4) == Some(b"GRLG") {
        let length = log[position + 24..position + 28].try_into().unwrap();
        let behind = position + 32;
        let end = behind + u32::from_le_bytes(length) as usize;
        records.push(log[behind..end].to_vec());
        position = end.next_multiple_of(BLOCK_BYTES);
    }
    records
}

fn checkpoints() -> Vec<Case> {
    let whole = records_of(&fixture("checkpoint-2.a")).swap_remove(1);
    let end = whole.len();
    lies(
        &whole,
        leave,
        &[
            ("root-wild", &|bytes| bytes[end - 16..].fill(0xFF)),
            ("zeros", &|bytes| bytes.fill(0)),
            ("ones", &|bytes| bytes.fill(0xFF)),
            ("byte-too-many", &|bytes| bytes.push(0)),
            ("byte-in-front", &|bytes| bytes.insert(0, 0)),
            ("group-not-utf8", &|bytes| {
                let at = bytes.windows(5).position(|word| word == b"group");
                bytes[at.unwrap()] = 0xC0;
            }),
        ],
    )
}

fn seal_record(bytes: &mut [u8]) {
    let length = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) & !(1 << 31);
    let Some(record) = bytes.get(32..32 + length as usize) else {
        return;
    };
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), record);
    put_u32(bytes, 28, checksum);
}

fn record_logs() -> Vec<Case> {
    lies(
        &fixture("checkpoint-2.a"),
        seal_record,
        &[
            ("newer", &|bytes| bytes[4] = 2),
            ("length-4-gib", &|bytes| put_u32(bytes, 24, u32::MAX)),
            ("length-goes-on", &|bytes| bytes[27] |= 0x80),
            ("sequence-another", &|bytes| put_u64(bytes, 8, 3)),
            ("first-index-lost", &|bytes| put_u64(bytes, 16, 7)),
            ("magic-another", &|bytes| bytes[0] = b'g'),
        ],
    )
}

/// The records of the fixtures' catalogue: a snapshot, then changes.
pub(crate) fn catalogue_records() -> Vec<Vec<u8>> {
    records_of(&fixture("topics-2.a"))
}

fn catalogues() -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, record) in catalogue_records().into_iter().enumerate() {
        let of_this = lies(
            &record,
            leave,
            &[
                ("kind-unknown", &|bytes| bytes[0] = 0xEE),
                ("zeros", &|bytes| bytes.fill(0)),
                ("ones", &|bytes| bytes.fill(0xFF)),
            ],
        );
        let named = of_this
            .into_iter()
            .map(|(what, bytes)| (format!("record-{at}-{what}"), bytes));
        cases.extend(named);
    }
    cases
}

fn committed_offsets() -> Vec<Case> {
    let whole = CommittedOffset {
        group: "group".into(),
        offset: Offset(21),
        metadata: "note".into(),
    };
    lies(
        &whole.encode(),
        leave,
        &[
            ("group-4-gib", &|bytes| put_u32(bytes, 8, u32::MAX)),
            ("group-not-utf8", &|bytes| bytes[12] = 0xFF),
            ("note-not-utf8", &|bytes| bytes[18] = 0xFF),
            ("offset-largest", &|bytes| put_u64(bytes, 0, u64::MAX)),
        ],
    )
}

fn direct_runs() -> Vec<Case> {
    let commit = fixture("commit.bin");
    let head = CommitHead::read(&commit, FIRST_COMMIT_POSITION).unwrap();
    let entry = head.check(&commit).unwrap()[1];
    let whole = entry.bytes_in(&commit).unwrap();
    let end = whole.len();
    lies(
        whole,
        leave,
        &[
            ("producers-4-billion", &|bytes| {
                put_u32(bytes, end - 4, u32::MAX)
            }),
            ("producers-wild", &|bytes| {
                put_u32(bytes, end - 8, 0x8000_0000)
            }),
            ("byte-missing", &|bytes| {
                bytes.pop();
            }),
            ("ones", &|bytes| bytes.fill(0xFF)),
        ],
    )
}

fn configurations() -> Vec<Case> {
    let nested = format!("a = {}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let tables = format!("[{}]", vec!["a"; 2_000].join("."));
    let texts: [(&str, &str); 18] = [
        ("empty", ""),
        ("comment", "# nothing\n"),
        ("one-key", "shards = 2\n"),
        ("sizes", "[journal]\nfile_bytes = \"64MiB\"\n"),
        ("unknown-key", "shard = 2\n"),
        ("unknown-section", "[jurnal]\nfile_bytes = 1\n"),
        ("section-as-value", "journal = 5\n"),
        ("value-as-section", "[shards]\nfile_bytes = 1\n"),
        ("not-toml", "shards : 2"),
        ("key-twice", "shards = 1\nshards = 1\n"),
        ("number-too-large", "shards = 99999999999999999999\n"),
        ("number-negative", "shards = -1\n"),
        ("number-zero", "shards = 0\n"),
        (
            "size-overflows",
            "[journal]\nfile_bytes = \"99999999999TiB\"\n",
        ),
        (
            "relation",
            "[journal]\nfile_bytes = \"1MiB\"\ncommit_bytes_max = \"1MiB\"\n",
        ),
        ("control-characters", "shards = \"\u{0}\u{7}\"\n"),
        ("nested-5000-deep", &nested),
        ("section-2000-deep", &tables),
    ];
    let mut cases: Vec<Case> = texts
        .iter()
        .map(|(what, text)| ((*what).to_owned(), text.as_bytes().to_vec()))
        .collect();
    cases.push(("not-utf8".to_owned(), vec![0xFF, 0xFE, 0x00]));
    cases
}
