//! The figures about scale as sections of the report.

use gannet_loadgen::units::{bytes, grouped};

use crate::race::document::{Block, LinesOver, Section};
use crate::race::spread::figure;

use super::{Axis, IdleFigure, Pace, Point, PointFigures, ScaleReport};

/// A figure of a point: its name, and where it is.
type Column = (&'static str, fn(&PointFigures) -> f64);

const RECORDS: Column = ("records/s", |figures| figures.publish_records_per_s);
const PUBLISHED: Column = ("published, MB/s", |figures| figures.publish_mb_per_s);
const CONSUMED: Column = ("consumed, MB/s", |figures| figures.consume_mb_per_s);
const ACK_P50: Column = ("ack p50, ms", |figures| figures.publish_p50_us / 1e3);
const ACK_P99: Column = ("ack p99, ms", |figures| figures.publish_p99_us / 1e3);
const DELIVERED_P99: Column = ("end to end p99, ms", |figures| {
    figures.end_to_end_p99_us / 1e3
});
const CPU: Column = ("broker CPU, µs a record", |figures| {
    figures.broker_cpu_us_per_record
});
const MEMORY: Column = ("memory, MiB", |figures| {
    figures.broker_rss_bytes as f64 / MIB
});
const MIB: f64 = (1 << 20) as f64;

/// All of them; those of axes that were not measured are left out.
#[must_use]
pub fn sections(report: &ScaleReport) -> Vec<Section> {
    let mut sections = vec![
        runs(
            report,
            Axis::Partitions,
            Pace::Saturated,
            ("Scale: partitions, saturated", "partitions"),
            "1 KB records, one producer, partitions in turn, batches of at most 16 KiB, durable; the same bytes at each number, all read again afterwards.",
            &[PUBLISHED, ACK_P99, CPU, MEMORY],
            &[PUBLISHED],
        ),
        runs(
            report,
            Axis::Partitions,
            Pace::Paced,
            ("Scale: partitions, 10,000 records/s", "partitions"),
            "Likewise at a fixed rate, consumed meanwhile.",
            &[ACK_P50, ACK_P99, DELIVERED_P99, CPU, MEMORY],
            &[ACK_P99, DELIVERED_P99],
        ),
    ];
    sections.push(idle(report));
    sections.push(neighbours(report));
    sections.extend([
        runs(
            report,
            Axis::FanOut,
            Pace::Paced,
            ("Scale: fan-out", "subscribers of each record"),
            "500 records/s of 1 KB, each delivered to every subscriber.",
            &[CONSUMED, DELIVERED_P99, CPU, MEMORY],
            &[DELIVERED_P99],
        ),
        runs(
            report,
            Axis::RecordSize,
            Pace::Saturated,
            ("Scale: record size", "bytes of a record"),
            "As fast as it goes, batches of 128 KiB or of one record. A record below 40 bytes cannot say which one it is, and so not be verified: 40 is the smallest.",
            &[RECORDS, PUBLISHED, ACK_P99, CPU, MEMORY],
            &[PUBLISHED],
        ),
        runs(
            report,
            Axis::Producers,
            Pace::Saturated,
            ("Scale: producers", "producers"),
            "As fast as they go, 1 KB records to 16 partitions; each producer is a thread and a connection of the generator, on the same cores.",
            &[RECORDS, PUBLISHED, ACK_P99, CPU, MEMORY],
            &[PUBLISHED],
        ),
    ]);
    sections.retain(|section| !section.blocks.is_empty());
    if !report.failures.is_empty() {
        let failed = Section::new("Scale: what failed").list(report.failures.clone());
        sections.push(failed);
    }
    sections
}

fn of(report: &ScaleReport, axis: Axis, pace: Pace) -> Vec<&Point> {
    report
        .points
        .iter()
        .filter(|point| point.axis == axis && point.pace == pace)
        .collect()
}

fn runs(
    report: &ScaleReport,
    axis: Axis,
    pace: Pace,
    (title, varied): (&str, &str),
    text: &str,
    columns: &[Column],
    plotted: &[Column],
) -> Section {
    let section = Section::new(title);
    let points = of(report, axis, pace);
    if points.is_empty() {
        return section;
    }
    let mut head = vec![varied];
    head.extend(columns.iter().map(|(name, _)| *name));
    let rows = points
        .iter()
        .map(|point| {
            let mut row = vec![grouped(point.at as u64)];
            row.extend(cells(point, columns));
            row
        })
        .collect();
    let lines = plotted
        .iter()
        .map(|(name, take)| {
            let measured = points
                .iter()
                .filter_map(|point| Some((point.at, take(point.outcome.as_ref().ok()?))));
            ((*name).to_owned(), measured.collect())
        })
        .collect();
    section
        .text(text)
        .table(&head, rows)
        .block(Block::Lines(LinesOver {
            title: title.to_owned(),
            x: varied.to_owned(),
            y: plotted
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join("; "),
            x_is_logarithmic: true,
            lines,
        }))
}

fn cells(point: &Point, columns: &[Column]) -> Vec<String> {
    match &point.outcome {
        Ok(figures) => columns
            .iter()
            .map(|(_, take)| figure(take(figures)))
            .collect(),
        Err(reason) => columns
            .iter()
            .enumerate()
            .map(|(index, _)| match index {
                0 => format!("failed: {reason}"),
                _ => "-".to_owned(),
            })
            .collect(),
    }
}

fn idle(report: &ScaleReport) -> Section {
    let section = Section::new("Scale: what idle things cost");
    if report.idle_partitions.is_empty() {
        return section;
    }
    let mut section = section.text("Resident memory of a broker that does nothing else. The heap grows by huge pages, so the last column divides what was added since nothing was there.");
    for (what, figures) in [
        ("idle partitions", &report.idle_partitions),
        ("idle connections", &report.idle_connections),
    ] {
        let base = figures.first().map_or(0, |first| first.rss_bytes);
        let rows = figures
            .iter()
            .map(|figure| {
                vec![
                    grouped(figure.count),
                    bytes(figure.rss_bytes),
                    each(figure, base)
                        .map_or_else(|| "-".to_owned(), |each| format!("{each:.0} B")),
                ]
            })
            .collect();
        let line = figures
            .iter()
            .map(|figure| (figure.count as f64, figure.rss_bytes as f64 / MIB))
            .collect();
        section = section
            .table(&[what, "memory", "each"], rows)
            .block(Block::Lines(LinesOver {
                title: format!("Memory with {what}"),
                x: what.to_owned(),
                y: "MiB".to_owned(),
                x_is_logarithmic: false,
                lines: vec![(what.to_owned(), line)],
            }));
    }
    section
}

fn each(figure: &IdleFigure, base: u64) -> Option<f64> {
    (figure.count > 0).then(|| figure.rss_bytes.saturating_sub(base) as f64 / figure.count as f64)
}

fn neighbours(report: &ScaleReport) -> Section {
    let section = Section::new("Scale: a greedy neighbour");
    let points = of(report, Axis::Neighbours, Pace::Paced);
    if points.is_empty() {
        return section;
    }
    let columns = [ACK_P50, ACK_P99, DELIVERED_P99];
    let rows = points
        .iter()
        .map(|point| {
            let beside = if point.at > 0.0 {
                "beside one as fast as it goes"
            } else {
                "alone"
            };
            let mut row = vec![beside.to_owned()];
            row.extend(cells(point, &columns));
            row
        })
        .collect();
    let section = section
        .text("A producer of 1,000 records/s with its consumer, and another producer with its own topic on the same broker and the same cores, generator and all.")
        .table(&["1,000 records/s", columns[0].0, columns[1].0, columns[2].0], rows);
    match points.as_slice() {
        [alone, beside] => match (&alone.outcome, &beside.outcome) {
            (Ok(alone), Ok(beside)) => section.text(format!(
                "Its p99 beside the other is {} times its p99 alone.",
                figure(beside.publish_p99_us / alone.publish_p99_us)
            )),
            _ => section,
        },
        _ => section,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(axis: Axis, at: f64, outcome: Result<PointFigures, String>) -> Point {
        Point {
            axis,
            pace: Pace::Paced,
            at,
            outcome,
        }
    }

    fn waited(publish_p99_us: f64) -> Result<PointFigures, String> {
        Ok(PointFigures {
            publish_p99_us,
            ..PointFigures::default()
        })
    }

    fn text(report: &ScaleReport) -> String {
        crate::race::document::Document {
            title: String::new(),
            sections: sections(report),
        }
        .markdown()
    }

    #[test]
    fn what_was_not_measured_has_no_section() {
        assert!(sections(&ScaleReport::default()).is_empty());
    }

    #[test]
    fn a_point_that_failed_stands_with_its_reason() {
        let failed = point(Axis::Producers, 1000.0, Err("no threads left".to_owned()));
        let report = ScaleReport {
            points: vec![Point {
                pace: Pace::Saturated,
                ..failed
            }],
            ..ScaleReport::default()
        };
        assert!(text(&report).contains("| 1,000 | failed: no threads left | - |"));
    }

    #[test]
    fn the_neighbours_p99_stands_to_its_p99_alone() {
        let report = ScaleReport {
            points: vec![
                point(Axis::Neighbours, 0.0, waited(1000.0)),
                point(Axis::Neighbours, 1.0, waited(2500.0)),
            ],
            ..ScaleReport::default()
        };
        assert!(text(&report).contains("is 2.50 times its p99 alone"));
    }

    #[test]
    fn an_idle_partitions_cost_is_what_was_added() {
        let at = |count, rss_bytes| IdleFigure { count, rss_bytes };
        let report = ScaleReport {
            idle_partitions: vec![at(0, 1_000_000), at(1_000, 1_500_000)],
            ..ScaleReport::default()
        };
        assert!(text(&report).contains("| 500 B |"), "{}", text(&report));
    }
}
