//! Rows about consuming: from the disk as fast as it goes, and at the tail without it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use gannet_loadgen::options::Rate;
use gannet_loadgen::worker::port::{Connect, Delivery, From, Inlet, PortError};

use super::RECORD_BYTES;
use super::limits::MachineLimits;
use super::publish::Saturated;
use super::row::{Bar, Row};
use super::session::{NumbersError, io_error};
use super::start::{STORED, STORED_PARTITIONS};
use super::workbench::{Load, Workbench};

/// Of what is consumed at the tail.
const PARTITIONS: u32 = 2;
/// One wait for a delivery.
const WAIT: Duration = Duration::from_millis(50);
/// When nothing has come for so long, nothing more will.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Making files, a filesystem reads blocks of its own tables, one for some ten megabytes. A subscriber that has left the tail makes the disk read all that it is given.
const TAIL_DISK_SHARE: f64 = 0.001;
/// Below this share from the disk, the row would not be about the disk.
const DISK_SHARE_MIN: f64 = 0.9;

/// Everything that [`super::start`] stored, by a broker that has none of it in memory.
pub(super) fn from_disk(
    bench: &mut Workbench<'_>,
    limits: &MachineLimits,
    stored_bytes: u64,
) -> Result<Row, NumbersError> {
    const NAME: &str = "consume from disk, saturated";
    // Started anew after a clean stop: nothing is replayed into memory.
    let broker = bench.start(STORED)?;
    bench.progress.step(NAME);
    let connect = bench.connect(&broker, STORED, STORED_PARTITIONS)?;
    let before = broker
        .disk_read_bytes()
        .map_err(io_error("reading what the broker read"))?;
    let mut inlet = connect
        .inlet(0, (0..STORED_PARTITIONS).collect(), From::Start)
        .map_err(NumbersError::port("subscribing"))?;
    let consumed = consume(&mut inlet, stored_bytes, bench.scale.row())
        .map_err(NumbersError::port("consuming what is stored"))?;
    drop(inlet);
    let read_bytes = broker
        .disk_read_bytes()
        .map_err(io_error("reading what the broker read"))?
        .saturating_sub(before);
    drop(connect);
    bench.clear(STORED, broker)?;
    bench
        .failures
        .extend(consumed.gap.iter().map(|gap| format!("{NAME}: {gap}")));
    let disk_share = read_bytes as f64 / consumed.value_bytes as f64;
    if disk_share < DISK_SHARE_MIN {
        bench.failures.push(format!(
            "{NAME}: only {disk_share:.2} of what was consumed came from the disk"
        ));
    }
    let mb_per_s = consumed.value_bytes as f64 / 1e6 / consumed.seconds;
    Ok(Row::new(
        format!("{NAME} / the disk's reads"),
        (mb_per_s / limits.read_mb_per_s, "x"),
        Bar::AtLeast(0.7),
        [
            ("mb_per_s", mb_per_s),
            ("records", consumed.records as f64),
            ("seconds", consumed.seconds),
            ("disk_read_bytes", read_bytes as f64),
        ],
    )?)
}

/// At half of saturation, whatever is consumed has just been published: the disk is not asked for it.
pub(super) fn at_the_tail(
    bench: &mut Workbench<'_>,
    saturated: &Saturated,
) -> Result<Row, NumbersError> {
    let half = (saturated.phase.publish.flow.records_per_s / 2.0) as u64;
    // A consumer that is held up for some seconds is late, and has lost nothing.
    let kept_bytes = bench.scale.bytes_max / u64::from(PARTITIONS);
    let load = Load {
        consumers: 1,
        rate: Rate::PerSecond(half.max(1)),
        retention_bytes: bench
            .scale
            .kept_of(PARTITIONS)
            .and(NonZeroU64::new(kept_bytes)),
        ..bench.saturated(
            "consume at the tail, publishing at half of saturation",
            PARTITIONS,
            bench.options.batch_bytes,
        )
    };
    let mut broker = bench.start("tail")?;
    let before = broker
        .disk_read_bytes()
        .map_err(io_error("reading what the broker read"))?;
    let phase = bench.measure(&mut broker, &load)?.phase;
    let read_bytes = broker
        .disk_read_bytes()
        .map_err(io_error("reading what the broker read"))?
        .saturating_sub(before);
    bench.clear("tail", broker)?;
    let consumed_bytes = (phase.consume.records * RECORD_BYTES as u64) as f64;
    Ok(Row::new(
        format!("{}: share from the disk", load.name),
        (read_bytes as f64 / consumed_bytes, "x"),
        Bar::Below(TAIL_DISK_SHARE),
        [
            ("disk_read_bytes", read_bytes as f64),
            ("asked_records_per_s", half as f64),
            ("published_mb_per_s", phase.publish.flow.mb_per_s),
            ("consumed_mb_per_s", phase.consume.mb_per_s),
            ("end_to_end_p50_us", phase.end_to_end.latency_us.p50),
            ("end_to_end_p99_us", phase.end_to_end.latency_us.p99),
        ],
    )?)
}

#[derive(Debug, Default)]
struct Consumed {
    records: u64,
    value_bytes: u64,
    seconds: f64,
    /// The first offset that was not the next one: a sentence.
    gap: Option<String>,
}

/// Takes what comes until `value_bytes_max` have, or the time is up. Bodies are checked by the client's checksums, offsets here; what is in the records, the load generator
/// checks elsewhere: its comparison would be the limit.
fn consume(
    inlet: &mut impl Inlet,
    value_bytes_max: u64,
    duration: Duration,
) -> Result<Consumed, PortError> {
    let mut consumed = Consumed::default();
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    let began = Instant::now();
    let mut last = began;
    while consumed.value_bytes < value_bytes_max
        && (began.elapsed() < duration || consumed.records == 0)
        && last.elapsed() < IDLE_MAX
    {
        let Some(delivery) = inlet.next(WAIT)? else {
            continue;
        };
        last = Instant::now();
        let partition = delivery.partition();
        let expected = next.entry(partition).or_default();
        delivery.for_each(|record| {
            let offset = record.offset;
            if offset != *expected && consumed.gap.is_none() {
                consumed.gap = Some(format!(
                    "partition {partition} gave offset {offset} where {expected} was next"
                ));
            }
            *expected = offset + 1;
            consumed.records += 1;
            consumed.value_bytes += record.value.map_or(0, <[u8]>::len) as u64;
        })?;
    }
    consumed.seconds = (last - began).as_secs_f64();
    if consumed.value_bytes < value_bytes_max && last.elapsed() >= IDLE_MAX {
        consumed.gap.get_or_insert_with(|| {
            format!(
                "{} of {value_bytes_max} bytes came, and then nothing more",
                consumed.value_bytes
            )
        });
    }
    Ok(consumed)
}

#[cfg(test)]
mod tests {
    use gannet_loadgen::worker::port::Delivered;

    use super::*;

    struct Batch(u32, Vec<u64>);

    impl Delivery for Batch {
        fn partition(&self) -> u32 {
            self.0
        }

        fn for_each(&self, mut take: impl FnMut(Delivered<'_>)) -> Result<(), PortError> {
            for offset in &self.1 {
                take(Delivered {
                    offset: *offset,
                    key: None,
                    value: Some(&[1; 10]),
                });
            }
            Ok(())
        }
    }

    struct Given(Vec<Batch>);

    impl Inlet for Given {
        type Delivery = Batch;

        fn next(&mut self, _timeout: Duration) -> Result<Option<Batch>, PortError> {
            match self.0.is_empty() {
                true => Err(PortError("nothing more".to_owned())),
                false => Ok(Some(self.0.remove(0))),
            }
        }
    }

    const AMPLE: Duration = Duration::from_secs(3600);

    #[test]
    fn consuming_ends_when_all_bytes_have_come() {
        let mut inlet = Given(vec![
            Batch(0, vec![0, 1]),
            Batch(1, vec![0]),
            Batch(0, vec![2]),
        ]);
        let consumed = consume(&mut inlet, 40, AMPLE).unwrap();
        assert_eq!((consumed.records, consumed.value_bytes), (4, 40));
        assert_eq!(consumed.gap, None);
    }

    #[test]
    fn an_offset_that_is_left_out_is_noticed() {
        let mut inlet = Given(vec![Batch(0, vec![0, 2])]);
        let consumed = consume(&mut inlet, 20, AMPLE).unwrap();
        let gap = consumed.gap.unwrap();
        assert!(gap.contains("offset 2 where 1"), "{gap}");
    }
}
