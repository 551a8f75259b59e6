//! Which points there are, and what the generator is told for each: known before anything runs.

use std::time::Duration;

use gannet_loadgen::driver::native::consumers_min;
use gannet_loadgen::verify::RECORD_BYTES_MIN;

use super::limits::Needs;
use super::{Axis, Pace};

/// One run of the generator, with a broker of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedPoint {
    pub(super) axis: Axis,
    pub(super) pace: Pace,
    pub(super) at: f64,
    /// What the generator is told, beside where the data goes and for how long.
    pub(super) arguments: Vec<String>,
    /// What its broker must take.
    pub(super) needs: Needs,
    /// Whether it sends as many bytes as the first saturated point of its axis did, however long that takes.
    pub(super) same_bytes: bool,
    /// Over how many partitions the broker keeps only so much, whatever is sent; `None` where all is kept: it is read again, or it is little.
    pub(super) retained_partitions: Option<u32>,
}

/// No strain for any point: the latency is the broker's, not a queue's.
const PACED_RECORDS_PER_S: u64 = 10_000;
/// For fan-out: every one of these records is delivered up to a hundred times.
const FAN_OUT_RECORDS_PER_S: u64 = 500;
/// A batch of small records.
const BATCH_BYTES: u64 = 128 << 10;
/// Room for what goes around a record that is a batch by itself.
const BATCH_ROOM: u64 = 4 << 10;
/// Many partitions get small batches; two of them have as much on its way as many.
const TURN_BATCH_BYTES: u64 = 16 << 10;
const TURN_INFLIGHT: u32 = 64;
const TURN_BUFFER_BYTES: u64 = 4 << 20;
/// Enough partitions that producers do not wait for each other's.
const PRODUCER_PARTITIONS: u32 = 16;
/// Partitions of what does not depend on their number.
const FEW_PARTITIONS: u32 = 2;

/// All points of an axis. Idle things and neighbours are no runs like these.
pub(super) fn points(axis: Axis, tiny: bool) -> Vec<PlannedPoint> {
    let counts = |all: &[u64]| -> Vec<u64> {
        // The first two show that it works.
        all.iter()
            .copied()
            .take(if tiny { 2 } else { all.len() })
            .collect()
    };
    match axis {
        Axis::Partitions => counts(&[2, 100, 1_000, 10_000, 100_000])
            .into_iter()
            .flat_map(|partitions| [saturated_turns(partitions), paced_turns(partitions)])
            .collect(),
        Axis::FanOut => counts(&[1, 10, 100]).into_iter().map(fan_out).collect(),
        Axis::RecordSize => counts(&[
            // The smallest that can say which one it is.
            RECORD_BYTES_MIN as u64,
            100,
            256,
            1 << 10,
            4 << 10,
            16 << 10,
            64 << 10,
            256 << 10,
            1 << 20,
        ])
        .into_iter()
        .map(record_size)
        .collect(),
        Axis::Producers => counts(&[1, 10, 100, 1_000])
            .into_iter()
            .map(producers)
            .collect(),
        Axis::Idle | Axis::Neighbours => Vec::new(),
    }
}

/// What the paced producer of the neighbours is told.
pub(super) fn paced_neighbour() -> Vec<String> {
    told(&[
        ("rate", (PACED_RECORDS_PER_S / 10).to_string()),
        ("partitions", 2.to_string()),
    ])
}

/// What the greedy one is told, by a broker that keeps so many bytes of it: it ends with its time, not with the disk.
pub(super) fn greedy_neighbour(kept_bytes: u64) -> Vec<String> {
    let mut arguments = told(&[
        ("rate", "max".to_owned()),
        ("partitions", FEW_PARTITIONS.to_string()),
        ("batch-bytes", BATCH_BYTES.to_string()),
    ]);
    arguments.extend(retention(FEW_PARTITIONS, kept_bytes));
    arguments
}

/// What the generator is told so that the broker keeps about so many bytes over all partitions.
pub(super) fn retention(partitions: u32, kept_bytes: u64) -> Vec<String> {
    let each = (kept_bytes / u64::from(partitions.max(1))).max(1);
    told(&[("retention-bytes", each.to_string())])
}

/// How long a point may take that is to send as many bytes as another.
pub(super) fn same_bytes_max(measured: Duration) -> Duration {
    measured * SAME_BYTES_PATIENCE
}

const SAME_BYTES_PATIENCE: u32 = 8;

fn saturated_turns(partitions: u64) -> PlannedPoint {
    PlannedPoint {
        axis: Axis::Partitions,
        pace: Pace::Saturated,
        at: partitions as f64,
        arguments: told(&[
            ("rate", "max".to_owned()),
            ("partitions", partitions.to_string()),
            ("consumers", 0.to_string()),
            ("batch-bytes", TURN_BATCH_BYTES.to_string()),
            ("inflight", TURN_INFLIGHT.to_string()),
            ("buffer-bytes", TURN_BUFFER_BYTES.to_string()),
        ]),
        needs: Needs::of_partitions(partitions),
        same_bytes: true,
        retained_partitions: None,
    }
}

fn paced_turns(partitions: u64) -> PlannedPoint {
    PlannedPoint {
        axis: Axis::Partitions,
        pace: Pace::Paced,
        at: partitions as f64,
        arguments: told(&[
            ("rate", PACED_RECORDS_PER_S.to_string()),
            ("partitions", partitions.to_string()),
            ("consumers", consumers_of(partitions).to_string()),
        ]),
        needs: Needs::of_partitions(partitions),
        same_bytes: false,
        retained_partitions: None,
    }
}

fn fan_out(times: u64) -> PlannedPoint {
    PlannedPoint {
        axis: Axis::FanOut,
        pace: Pace::Paced,
        at: times as f64,
        arguments: told(&[
            ("rate", FAN_OUT_RECORDS_PER_S.to_string()),
            ("partitions", 2.to_string()),
            ("fan-out", times.to_string()),
        ]),
        needs: Needs::default(),
        same_bytes: false,
        retained_partitions: None,
    }
}

fn record_size(record_bytes: u64) -> PlannedPoint {
    let batch_bytes = BATCH_BYTES.max(record_bytes + BATCH_ROOM);
    PlannedPoint {
        axis: Axis::RecordSize,
        pace: Pace::Saturated,
        at: record_bytes as f64,
        arguments: told(&[
            ("rate", "max".to_owned()),
            ("partitions", FEW_PARTITIONS.to_string()),
            ("record-size", record_bytes.to_string()),
            ("batch-bytes", batch_bytes.to_string()),
        ]),
        needs: Needs {
            batch_bytes,
            ..Needs::default()
        },
        same_bytes: false,
        retained_partitions: Some(FEW_PARTITIONS),
    }
}

fn producers(count: u64) -> PlannedPoint {
    PlannedPoint {
        axis: Axis::Producers,
        pace: Pace::Saturated,
        at: count as f64,
        arguments: told(&[
            ("rate", "max".to_owned()),
            ("partitions", PRODUCER_PARTITIONS.to_string()),
            ("producers", count.to_string()),
        ]),
        needs: Needs::default(),
        same_bytes: false,
        retained_partitions: Some(PRODUCER_PARTITIONS),
    }
}

/// As few as a broker lets consume all of them.
fn consumers_of(partitions: u64) -> u32 {
    u32::try_from(partitions).map_or(1, consumers_min)
}

fn told(options: &[(&str, String)]) -> Vec<String> {
    options
        .iter()
        .flat_map(|(name, value)| [format!("--{name}"), value.clone()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_go_to_a_hundred_thousand_at_the_same_bytes() {
        let points = points(Axis::Partitions, false);
        let saturated: Vec<f64> = points
            .iter()
            .filter(|point| point.pace == Pace::Saturated)
            .map(|point| point.at)
            .collect();
        assert_eq!(saturated, [2.0, 100.0, 1e3, 1e4, 1e5]);
        assert!(
            points
                .iter()
                .all(|point| point.same_bytes == (point.pace == Pace::Saturated))
        );
    }

    #[test]
    fn records_go_from_16_bytes_to_a_mebibyte() {
        let sizes: Vec<f64> = points(Axis::RecordSize, false)
            .iter()
            .map(|point| point.at)
            .collect();
        assert_eq!((sizes[0], sizes[sizes.len() - 1]), (16.0, 1_048_576.0));
    }

    #[test]
    fn the_largest_record_fits_its_batch() {
        let points = points(Axis::RecordSize, false);
        let largest = points.last().unwrap();
        let value = |name: &str| -> u64 {
            let at = largest.arguments.iter().position(|told| told == name);
            largest.arguments[at.unwrap() + 1].parse().unwrap()
        };
        assert_eq!(value("--record-size"), 1 << 20);
        assert!(value("--batch-bytes") > 1 << 20);
    }

    #[test]
    fn what_is_sent_as_fast_as_it_goes_is_kept_in_part_unless_it_is_read_again() {
        for axis in Axis::ALL {
            for point in points(axis, false) {
                let fills_the_disk = point.pace == Pace::Saturated && !point.same_bytes;
                assert_eq!(
                    point.retained_partitions.is_some(),
                    fills_the_disk,
                    "{point:?}"
                );
                let Some(partitions) = point.retained_partitions else {
                    continue;
                };
                let told = ["--partitions".to_owned(), partitions.to_string()];
                assert!(point.arguments.windows(2).any(|pair| pair == told));
            }
        }
    }

    #[test]
    fn what_is_kept_is_shared_by_the_partitions() {
        assert_eq!(retention(16, 6 << 30), ["--retention-bytes", "402653184"]);
        assert_eq!(retention(16, 0), ["--retention-bytes", "1"]);
    }

    #[test]
    fn a_tiny_scale_has_two_points_of_each() {
        assert_eq!(points(Axis::Producers, true).len(), 2);
        assert_eq!(points(Axis::Partitions, true).len(), 4);
    }
}
