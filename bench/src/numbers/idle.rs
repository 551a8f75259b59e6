//! Rows about memory: of a broker that does nothing, and of partitions that nothing is written to.

use gannet_loadgen::broker::OwnBroker;

use super::row::{Bar, Row};
use super::session::{NumbersError, io_error};
use super::workbench::Workbench;

const MIB: f64 = (1 << 20) as f64;

/// Both rows, by one broker.
pub(super) fn memory(bench: &mut Workbench<'_>) -> Result<Vec<Row>, NumbersError> {
    bench.progress.step("idle memory");
    let broker = bench.start("idle")?;
    let nothing = settled_rss(bench, &broker)?;
    // Connections and the first topic are not the many partitions' cost. Nor are the pages that each size of
    // allocations begins as its own.
    let partitions = bench.scale.partitions;
    let mut topics = vec![bench.connect(&broker, "first", partitions)?];
    let before = settled_rss(bench, &broker)?;
    for name in ["second", "third", "fourth"] {
        topics.push(bench.connect(&broker, name, partitions)?);
    }
    let after = settled_rss(bench, &broker)?;
    let added = f64::from(partitions) * (topics.len() - 1) as f64;
    drop(topics);
    bench.clear("idle", broker)?;
    let each = after.saturating_sub(before) as f64 / added;
    Ok(vec![
        Row::new(
            "idle memory, no topics",
            (nothing as f64 / MIB, "MiB"),
            Bar::AtMost(64.0),
            [("rss_bytes", nothing as f64)],
        )?,
        Row::new(
            format!("idle memory for each of {added} partitions on top of {partitions}"),
            (each, "bytes"),
            Bar::Below(1024.0),
            [
                ("rss_without_bytes", nothing as f64),
                ("rss_before_bytes", before as f64),
                ("rss_after_bytes", after as f64),
            ],
        )?,
    ])
}

/// Resident memory once what was going on has had its time.
fn settled_rss(bench: &Workbench<'_>, broker: &OwnBroker) -> Result<u64, NumbersError> {
    std::thread::sleep(bench.scale.row() / 4);
    broker
        .usage()
        .map(|usage| usage.rss_bytes)
        .map_err(io_error("reading the broker's memory"))
}
