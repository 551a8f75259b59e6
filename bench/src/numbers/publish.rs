//! Rows about publishing: durable, always.

use std::time::Duration;

use gannet_loadgen::plan::Batching;
use gannet_loadgen::report::PhaseReport;
use gannet_loadgen::worker::port::Connect;

use super::limits::MachineLimits;
use super::row::{Bar, Row};
use super::session::NumbersError;
use super::tools::{Fio, ToolRun};
use super::workbench::{Load, Workbench};
use super::{RECORD_BYTES, RECORD_OVERHEAD_BYTES};
use crate::subject::value;

/// Partitions of the load with one record a batch: enough for 1,000 in flight, of which a broker takes 64 for each producer and partition.
const SINGLE_PARTITIONS: u32 = 16;
/// 992 over all of those.
const SINGLE_INFLIGHT: u32 = 62;
/// Batches of the loads on few and on many partitions: small, since that is what many partitions lead to.
const TURN_BATCH_BYTES: u64 = 16 << 10;
/// What may be on its way to the broker there, whatever the partitions.
const TURN_BUFFER_BYTES: u64 = 4 << 20;
/// Batches in flight for each producer and partition there: two partitions have as much on their way as many.
const TURN_INFLIGHT: u32 = 64;
/// Writing the same bytes to many partitions may take so many times as long before it is cut short.
const TURN_PATIENCE: u32 = 8;

/// One record at a time.
pub(super) fn one_in_flight(
    bench: &mut Workbench<'_>,
    limits: &MachineLimits,
) -> Result<Row, NumbersError> {
    const NAME: &str = "durable publish, one in flight";
    bench.progress.step(NAME);
    let broker = bench.start("alone")?;
    let connect = bench.connect(&broker, "alone", 1)?;
    let latency = connect
        .publish_alone(&value(1, RECORD_BYTES), bench.scale.row())
        .map_err(NumbersError::port("publishing one by one"))?
        .summary();
    drop(connect);
    bench.clear("alone", broker)?;
    let least = limits.durable_round_trip_us();
    Ok(Row::new(
        format!("{NAME}, 1 KB, p50 / (ping-pong + O_DSYNC write)"),
        (latency.p50 / least, "x"),
        Bar::AtMost(1.3),
        [
            ("publish_p50_us", latency.p50),
            ("publish_p99_us", latency.p99),
            ("ping_pong_p50_us", limits.ping_pong_us.p50),
            ("sync_write_p50_us", limits.sync_write_us.p50),
            ("publishes", latency.count as f64),
        ],
    )?)
}

/// What saturation came to, for the rows that follow.
pub(super) struct Saturated {
    pub(super) phase: PhaseReport,
    pub(super) rows: Vec<Row>,
}

/// Large batches, as fast as it goes.
pub(super) fn saturated(
    bench: &mut Workbench<'_>,
    limits: &MachineLimits,
) -> Result<Saturated, NumbersError> {
    let batch_bytes = bench.options.batch_bytes;
    let load = bench.saturated("saturated, large batches", 2, batch_bytes);
    let mut broker = bench.start("saturated")?;
    let phase = bench.measure(&mut broker, &load)?.phase;
    bench.clear("saturated", broker)?;
    let used = phase.broker.unwrap_or_default();
    let mb_per_s = phase.publish.flow.mb_per_s;
    let mut rows = vec![Row::new(
        format!(
            "durable publish, saturated, {} KiB batches, 2 partitions / the disk's writes",
            batch_bytes >> 10
        ),
        (mb_per_s / limits.write_mb_per_s, "x"),
        Bar::AtLeast(0.5),
        flow(&phase),
    )?];
    if let Some(synced_mb_per_s) = limits.synced_write_mb_per_s {
        rows.push(beside(
            "the same / the disk's synced writes, 512 KiB, four at once",
            mb_per_s,
            ("synced_write_mb_per_s", synced_mb_per_s),
        )?);
    }
    rows.extend(beside_fio(mb_per_s, &limits.fio)?);
    rows.push(Row::new(
        "broker's CPU for each of these records",
        (used.cpu_us_per_record, "us"),
        Bar::Reported,
        [("cpu_cores", used.cpu_cores)],
    )?);
    Ok(Saturated { phase, rows })
}

/// The same against what fio wrote, which writes for as long as the load lasts; nothing where there is no fio.
fn beside_fio(mb_per_s: f64, fio: &ToolRun<Fio>) -> Result<Vec<Row>, NumbersError> {
    let ToolRun::Measured(fio) = fio else {
        return Ok(Vec::new());
    };
    let mut rows = vec![beside(
        "the same / fio's writes, 1 MiB, eight at once",
        mb_per_s,
        ("fio_write_mb_per_s", fio.write_mb_per_s),
    )?];
    if let Some(synced_mb_per_s) = fio.synced_write_mb_per_s {
        rows.push(beside(
            "the same / fio's synced writes, 512 KiB, four at once",
            mb_per_s,
            ("fio_synced_write_mb_per_s", synced_mb_per_s),
        )?);
    }
    Ok(rows)
}

/// How many times as much as another flow, which stands beside it.
fn beside(
    what: &'static str,
    mb_per_s: f64,
    (name, other_mb_per_s): (&'static str, f64),
) -> Result<Row, NumbersError> {
    Ok(Row::new(
        what,
        (mb_per_s / other_mb_per_s, "x"),
        Bar::Reported,
        [(name, other_mb_per_s)],
    )?)
}

/// As many records in flight as batches.
pub(super) fn one_record_a_batch(
    bench: &mut Workbench<'_>,
    saturated: &Saturated,
) -> Result<Row, NumbersError> {
    let load = Load {
        producers: 1,
        batching: Batching {
            batch_records: Some(1),
            inflight: Some(SINGLE_INFLIGHT),
            // What is behind those in flight is not in flight: the latency is the broker's.
            buffer_bytes: Some(single_buffer_bytes()),
            ..bench.saturated("", 1, TURN_BATCH_BYTES).batching
        },
        ..bench.saturated(
            "saturated, one record a batch",
            SINGLE_PARTITIONS,
            TURN_BATCH_BYTES,
        )
    };
    let mut broker = bench.start("single")?;
    let phase = bench.measure(&mut broker, &load)?.phase;
    bench.clear("single", broker)?;
    let flow_of_large = saturated.phase.publish.flow.mb_per_s;
    Ok(Row::new(
        "durable publish, saturated, one record a batch, 1,000 in flight / large batches",
        (phase.publish.flow.mb_per_s / flow_of_large, "x"),
        Bar::Reported,
        flow(&phase),
    )?)
}

/// Room for the batches in flight, header included, and not much more.
fn single_buffer_bytes() -> u64 {
    let batch = RECORD_BYTES as u64 + 2 * u64::from(RECORD_OVERHEAD_BYTES) + 128;
    batch * u64::from(SINGLE_INFLIGHT) * u64::from(SINGLE_PARTITIONS)
}

/// The same bytes to two partitions and to many.
pub(super) fn many_partitions(bench: &mut Workbench<'_>) -> Result<Row, NumbersError> {
    let few = turns(bench, "in turn to 2 partitions", 2);
    let mut broker = bench.start("few")?;
    let few = bench.measure(&mut broker, &few)?;
    bench.clear("few", broker)?;

    let partitions = bench.scale.partitions;
    let many = Load {
        duration: bench.scale.row() * TURN_PATIENCE,
        ..turns(bench, "in turn to many partitions", partitions)
    };
    let many = many.kept_up_to(few.acked_bytes.max(RECORD_BYTES as u64));
    let mut broker = bench.start("many")?;
    let many = bench.measure(&mut broker, &many)?;
    bench.clear("many", broker)?;

    let [few_mb_per_s, many_mb_per_s] =
        [&few, &many].map(|loaded| loaded.phase.publish.flow.mb_per_s);
    Ok(Row::new(
        format!("durable publish, {partitions} partitions in turn / 2 partitions, same bytes"),
        (many_mb_per_s / few_mb_per_s, "x"),
        Bar::AtLeast(0.7),
        [
            ("few_mb_per_s", few_mb_per_s),
            ("many_mb_per_s", many_mb_per_s),
            ("few_bytes", few.acked_bytes as f64),
            ("many_bytes", many.acked_bytes as f64),
        ],
    )?)
}

fn turns(bench: &Workbench<'_>, name: &'static str, partitions: u32) -> Load {
    let load = bench.saturated(name, partitions, TURN_BATCH_BYTES);
    // Both keep what they are sent: what is kept of each of many partitions would be less than a segment.
    let load = load.kept_up_to(bench.scale.bytes_max);
    Load {
        producers: 1,
        // The second one ends with its bytes, be it before a warm-up is over.
        warm_up: Duration::ZERO,
        batching: Batching {
            inflight: Some(TURN_INFLIGHT),
            buffer_bytes: Some(TURN_BUFFER_BYTES),
            ..load.batching
        },
        ..load
    }
}

fn flow(phase: &PhaseReport) -> [(&'static str, f64); 6] {
    let publish = &phase.publish;
    [
        ("mb_per_s", publish.flow.mb_per_s),
        ("records_per_s", publish.flow.records_per_s),
        ("publish_p50_us", publish.latency_us.p50),
        ("publish_p99_us", publish.latency_us.p99),
        (
            "broker_cpu_us_per_record",
            phase.broker.unwrap_or_default().cpu_us_per_record,
        ),
        ("machine_busy", phase.generator.machine_busy),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturation_stands_beside_fio_where_there_is_fio() {
        let fio = Fio {
            write_mb_per_s: 2_000.0,
            read_mb_per_s: 3_000.0,
            synced_write_mb_per_s: Some(1_000.0),
            sync_write_p50_us: 50.0,
        };
        let ratios = |fio| -> Vec<f64> {
            let rows = beside_fio(500.0, &fio).unwrap();
            rows.iter().map(|row| row.measured).collect()
        };
        assert_eq!(ratios(ToolRun::Measured(fio)), [0.25, 0.5]);
        let without = Fio {
            synced_write_mb_per_s: None,
            ..fio
        };
        assert_eq!(ratios(ToolRun::Measured(without)), [0.25]);
        assert_eq!(ratios(ToolRun::Absent), [0.0; 0]);
        assert_eq!(ratios(ToolRun::Failed("no room".to_owned())), [0.0; 0]);
    }
}
