//! The protocol's documentation says what the code does.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::HashSet;

use gannet_wire::frame::FrameKind;
use gannet_wire::{ErrorCode, Fault, Retry};

fn documentation() -> HashSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/PROTOCOL.md");
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_error_code_stands_in_the_table_with_its_fault_and_advice() {
    let documentation = documentation();
    for code in ErrorCode::ALL {
        let fault = match code.fault() {
            Fault::Caller => "caller",
            Fault::Environment => "environment",
            Fault::Peer => "peer",
            Fault::Bug => "bug",
        };
        let retry = match code.retry() {
            Retry::No => "no",
            Retry::Later => "later",
            Retry::Refresh => "refresh",
        };
        let (number, name, sentence) = (code.to_u16(), code.name(), code.sentence());
        let row = format!("| {number} | `{name}` | {fault} | {retry} | {sentence} |");
        assert!(documentation.contains(&row), "missing: {row}");
    }
}

#[test]
fn every_kind_stands_in_the_table() {
    let documentation = documentation();
    for kind in FrameKind::ALL {
        let row = format!("| {} | {} |", *kind as u8, kind.name());
        let found = documentation.iter().any(|line| line.starts_with(&row));
        assert!(found, "missing: {row}");
    }
}
