//! `gannet-numbers` measures every row it promises and leaves nothing behind. How good the figures are, no test asks.

use std::process::Command;

use gannet_tests::{data_dir, ends, numbers_program};
use serde_json::Value;

/// A word or two of each row, and whether there is a bar that can be reached or not.
const ROWS: [(&str, bool); 12] = [
    ("one in flight", true),
    ("KiB batches, 2 partitions", true),
    ("the disk's synced writes", false),
    ("CPU", false),
    ("one record a batch", false),
    ("partitions in turn", true),
    ("consume at the tail", true),
    ("consume from disk", true),
    ("start after kill -9", true),
    ("start with", false),
    ("idle memory, no topics", true),
    ("idle memory for each", true),
];

fn figure(report: &Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("the report has no number at {pointer}: {report:#}"))
}

#[test]
fn a_tiny_run_has_a_figure_for_every_row_and_removes_what_it_wrote() {
    let dir = data_dir();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).expect("the directory for the data");
    let file = dir.path().join("report.json");
    let mut command = Command::new(numbers_program());
    command
        .args(["--tiny", "--shards", "1", "--data-dir"])
        .arg(&data)
        .arg("--report")
        .arg(&file);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(0), "{said}");
    let text = std::fs::read_to_string(&file).expect("the report was written");
    let report: Value = serde_json::from_str(&text).expect("the report is JSON");

    let name = |row: &Value| {
        let name = row["what"].as_str().expect("a row has a name");
        name.to_owned()
    };
    let rows = report["rows"].as_array().expect("rows are a list");
    let (of_fio, rows): (Vec<&Value>, Vec<&Value>) =
        rows.iter().partition(|row| name(row).contains("fio's"));
    // Saturation against its writes, and its synced writes, where it is installed.
    let has_fio = report.pointer("/limits/fio/measured").is_some();
    assert_eq!(of_fio.len(), if has_fio { 2 } else { 0 }, "{report:#}");
    assert!(of_fio.iter().all(|row| figure(row, "/measured") > 0.0));
    assert_eq!(rows.len(), ROWS.len(), "{report:#}");
    for (row, (what, has_bar)) in rows.into_iter().zip(ROWS) {
        let named = name(row);
        assert!(
            named.contains(what),
            "{named:?} stands where {what:?} should"
        );
        assert!(figure(row, "/measured") >= 0.0, "{row:#}");
        assert_eq!(row["reached"].is_boolean(), has_bar, "{row:#}");
    }
    for limit in [
        "/limits/ping_pong_us/p50",
        "/limits/sync_write_us/p50",
        "/limits/write_mb_per_s",
        "/limits/synced_write_mb_per_s",
        "/limits/read_mb_per_s",
    ] {
        assert!(figure(&report, limit) > 0.0, "{limit}");
    }
    assert_eq!(report["failures"], Value::Array(Vec::new()));
    let left = std::fs::read_dir(&data)
        .expect("the directory is still there")
        .count();
    assert_eq!(left, 0, "something was left in the directory for the data");
}

#[test]
fn a_directory_that_cannot_be_used_is_named_and_is_no_measurement() {
    let mut command = Command::new(numbers_program());
    command.args(["--tiny", "--data-dir", "/dev/shm"]);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("/dev/shm"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
