//! The figures about scale as sections of the report.

use gannet_loadgen::units::{bytes, grouped};

use crate::race::document::{Block, LinesOver, Section, SpreadBars};
use crate::race::spread::{Spread, figure};

use super::{
    ALONE, ALONE_AGAIN, Axis, BESIDE, IdleFigure, IdleMemory, Pace, Point, PointFigures,
    ScaleReport,
};

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
/// Stands beside a figure that may be the generator's more than the broker's.
const LIMITED: &str = "‡";

/// All of them; those of axes that were not measured are left out.
#[must_use]
pub fn sections(report: &ScaleReport) -> Vec<Section> {
    let mut sections = vec![
        what_it_is(report),
        runs(
            report,
            Axis::Partitions,
            Pace::Saturated,
            ("Scale: partitions, saturated", "partitions"),
            "1 KB records, one producer, partitions in turn, batches of at most 16 KiB, durable; the same bytes at each number, all read again afterwards.",
            &[PUBLISHED, ACK_P99, CPU, MEMORY],
            &[&[PUBLISHED]],
        ),
        runs(
            report,
            Axis::Partitions,
            Pace::Paced,
            ("Scale: partitions, 10,000 records/s", "partitions"),
            "Likewise at a fixed rate, consumed meanwhile.",
            &[ACK_P50, ACK_P99, DELIVERED_P99, CPU, MEMORY],
            &[&[ACK_P99, DELIVERED_P99]],
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
            &[&[CONSUMED], &[DELIVERED_P99]],
        ),
        runs(
            report,
            Axis::RecordSize,
            Pace::Saturated,
            ("Scale: record size", "bytes of a record"),
            "As fast as it goes, batches of 128 KiB or of one record, consumed meanwhile; the broker keeps the last gigabytes.",
            &[RECORDS, PUBLISHED, ACK_P99, CPU, MEMORY],
            &[&[PUBLISHED], &[ACK_P99]],
        ),
        runs(
            report,
            Axis::Producers,
            Pace::Saturated,
            ("Scale: producers", "producers"),
            "As fast as they go, 1 KB records to 16 partitions, consumed meanwhile; the broker keeps the last gigabytes. Each producer is a thread and a connection of the generator, on the same cores.",
            &[RECORDS, PUBLISHED, ACK_P99, CPU, MEMORY],
            &[&[PUBLISHED], &[ACK_P99]],
        ),
    ]);
    sections.retain(|section| !section.blocks.is_empty());
    if sections.len() == 1 {
        // What it is, and nothing of it.
        sections.clear();
    }
    if !report.failures.is_empty() {
        let failed = Section::new("Scale: what failed").list(report.failures.clone());
        sections.push(failed);
    }
    sections
}

fn what_it_is(report: &ScaleReport) -> Section {
    let mut section = Section::new("Scale").text(
        "How Gannet's figures change with what there is much of. Each point is a run of the load generator with a broker of its own on an empty directory, and every record of it was checked; a point that failed stands with its reason. Brokers are as they are by default, but that limits which would refuse a point are raised to what it takes: topics.partitions_max, network.subscriptions_max, network.batch_bytes_max and what must go with them.",
    );
    if report.tiny {
        section = section.text(
            "**This was a tiny run, which only shows that everything works: its figures mean nothing.**",
        );
    }
    section
}

fn of(report: &ScaleReport, axis: Axis, pace: Pace) -> Vec<&Point> {
    let mut points: Vec<_> = report
        .points
        .iter()
        .filter(|point| point.axis == axis && point.pace == pace)
        .collect();
    // Those that were measured later stand in their place too.
    points.sort_by(|left, right| left.at.total_cmp(&right.at));
    points
}

fn runs(
    report: &ScaleReport,
    axis: Axis,
    pace: Pace,
    (title, varied): (&str, &str),
    text: &str,
    columns: &[Column],
    plotted: &[&[Column]],
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
    let mut section = section.text(text).table(&head, rows);
    let name = |point: &Point| format!("{} {varied}", grouped(point.at as u64));
    section.blocks.extend(limits(&points, name));
    section.blocks.extend(
        plotted
            .iter()
            .filter_map(|columns| lines(title, varied, &points, columns)),
    );
    section
}

/// Figures in one unit over what is varied. `None` where all points failed: there is nothing to draw.
fn lines(title: &str, varied: &str, points: &[&Point], columns: &[Column]) -> Option<Block> {
    let lines: Vec<(String, Vec<(f64, f64)>)> = columns
        .iter()
        .map(|(name, take)| {
            let measured = points
                .iter()
                .filter_map(|point| Some((point.at, take(point.outcome.as_ref().ok()?))));
            ((*name).to_owned(), measured.collect())
        })
        .collect();
    if lines.iter().all(|(_, points)| points.is_empty()) {
        return None;
    }
    let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let names = names.join("; ");
    Some(Block::Lines(LinesOver {
        title: format!("{title}: {names}"),
        x: varied.to_owned(),
        y: names,
        x_is_logarithmic: true,
        lines,
    }))
}

/// Why figures are marked, as points below their table, each with its point's name. `None` where none is.
fn limits(points: &[&Point], name: impl Fn(&Point) -> String) -> Option<Block> {
    let reasons: Vec<_> = points
        .iter()
        .filter_map(|point| {
            let reason = limited(point)?;
            Some(format!(
                "{LIMITED} {}: limited by the generator: {reason}",
                name(point)
            ))
        })
        .collect();
    (!reasons.is_empty()).then_some(Block::List(reasons))
}

fn limited(point: &Point) -> Option<&String> {
    let figures = point.outcome.as_ref().ok()?;
    figures.limited_by_generator.as_ref()
}

fn cells(point: &Point, columns: &[Column]) -> Vec<String> {
    match &point.outcome {
        Ok(figures) => columns
            .iter()
            .enumerate()
            .map(|(index, (_, take))| {
                let figure = figure(take(figures));
                // Once in a row: it is of the whole run.
                match &figures.limited_by_generator {
                    Some(_) if index == 0 => format!("{figure} {LIMITED}"),
                    _ => figure,
                }
            })
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
    let measured = [
        ("idle partitions", &report.idle_partitions),
        ("idle connections", &report.idle_connections),
    ];
    if measured.iter().all(|(_, figures)| figures.is_empty()) {
        return section;
    }
    let mut section = section.text("Resident memory of a broker that does nothing else. The heap grows in steps, so the last column divides what was added since nothing was there.");
    for (what, figures) in measured {
        if figures.is_empty() {
            continue;
        }
        let base = figures.first().and_then(rss_bytes);
        let rows = figures
            .iter()
            .map(|figure| {
                let memory = match &figure.memory {
                    IdleMemory::Bytes(rss_bytes) => bytes(*rss_bytes),
                    IdleMemory::Failed(reason) => format!("failed: {reason}"),
                };
                let each = each(figure, base);
                vec![
                    grouped(figure.count),
                    memory,
                    each.map_or_else(|| "-".to_owned(), |each| format!("{each:.0} B")),
                ]
            })
            .collect();
        let line: Vec<_> = figures
            .iter()
            .filter_map(|figure| Some((figure.count as f64, rss_bytes(figure)? as f64 / MIB)))
            .collect();
        section = section.table(&[what, "memory", "each"], rows);
        let line_each: Vec<_> = figures
            .iter()
            .filter_map(|figure| Some((figure.count as f64, each(figure, base)?)))
            .collect();
        let plots = [
            (format!("Memory with {what}"), "MiB", line),
            (format!("Memory for each of the {what}"), "bytes", line_each),
        ];
        for (title, unit, line) in plots {
            if line.is_empty() {
                continue;
            }
            section = section.block(Block::Lines(LinesOver {
                title,
                x: what.to_owned(),
                y: unit.to_owned(),
                x_is_logarithmic: false,
                lines: vec![(what.to_owned(), line)],
            }));
        }
    }
    section
}

fn rss_bytes(figure: &IdleFigure) -> Option<u64> {
    match figure.memory {
        IdleMemory::Bytes(rss_bytes) => Some(rss_bytes),
        IdleMemory::Failed(_) => None,
    }
}

/// What each of so many costs beyond `base`, the memory with none.
fn each(figure: &IdleFigure, base: Option<u64>) -> Option<f64> {
    let added = rss_bytes(figure)?.saturating_sub(base?);
    (figure.count > 0).then(|| added as f64 / figure.count as f64)
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
            let mut row = vec![beside(point).to_owned()];
            row.extend(cells(point, &columns));
            row
        })
        .collect();
    let mut section = section
        .text("A producer of 1,000 records/s with its consumer, and another producer with its own topic and consumer on the same broker and the same cores, generator and all; the other one is at it before the first begins, and still when it ends.")
        .table(&["1,000 records/s", columns[0].0, columns[1].0, columns[2].0], rows);
    section
        .blocks
        .extend(limits(&points, |point| beside(point).to_owned()));
    section.blocks.extend(
        [ACK_P99, DELIVERED_P99]
            .iter()
            .filter_map(|column| neighbour_bars(&points, *column)),
    );
    let p99_us = |at| {
        let figures = report.measured(Axis::Neighbours, Pace::Paced, at)?;
        Some(figures.publish_p99_us)
    };
    let (Some(alone), Some(beside)) = (p99_us(ALONE), p99_us(BESIDE)) else {
        return section;
    };
    let again = p99_us(ALONE_AGAIN).map_or_else(String::new, |again| {
        format!(", and {} times its p99 alone again", figure(beside / again))
    });
    section.text(format!(
        "Its p99 beside the other is {} times its p99 alone{again}.",
        figure(beside / alone)
    ))
}

fn beside(point: &Point) -> &'static str {
    match point.at {
        BESIDE => "beside one as fast as it goes",
        ALONE_AGAIN => "alone again",
        _ => "alone",
    }
}

/// A bar for each of the points that gave figures; `None` without any.
fn neighbour_bars(points: &[&Point], (name, take): Column) -> Option<Block> {
    let bars: Vec<_> = points
        .iter()
        .filter_map(|point| {
            let figures = point.outcome.as_ref().ok()?;
            Some((beside(point).to_owned(), Spread::of([take(figures)])?))
        })
        .collect();
    (!bars.is_empty()).then(|| {
        Block::Bars(SpreadBars {
            title: format!("A greedy neighbour: {name}"),
            unit: name.to_owned(),
            bars,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::race::scale::tests::point;

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
    fn points_stand_in_the_order_of_what_there_is_of_them_whenever_they_were_measured() {
        let measured = |at| point(Axis::FanOut, at, waited(1.0));
        let report = ScaleReport {
            points: vec![measured(1.0), measured(100.0), measured(10.0)],
            ..ScaleReport::default()
        };
        let text = text(&report);
        let at = |row: &str| text.find(row).unwrap();
        assert!(
            at("| 1 |") < at("| 10 |") && at("| 10 |") < at("| 100 |"),
            "{text}"
        );
    }

    #[test]
    fn a_step_of_idle_things_that_failed_stands_with_its_reason_beside_the_others() {
        let at = |count, memory| IdleFigure { count, memory };
        let report = ScaleReport {
            idle_partitions: vec![
                at(0, IdleMemory::Bytes(1_000_000)),
                at(500, IdleMemory::Failed("too\nmany".to_owned())),
                at(1_000, IdleMemory::Bytes(1_500_000)),
            ],
            ..ScaleReport::default()
        };
        let text = text(&report);
        assert!(text.contains("| 500 | failed: too many | - |"), "{text}");
        assert!(text.contains("| 500 B |"), "{text}");
    }

    fn plots(report: &ScaleReport) -> Vec<String> {
        let blocks = sections(report)
            .into_iter()
            .flat_map(|section| section.blocks);
        blocks
            .filter_map(|block| match block {
                Block::Lines(plot) => Some(plot.title),
                Block::Bars(plot) => Some(plot.title),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn throughput_and_latency_are_plotted_each_in_its_unit() {
        let measured = |axis, pace| Point {
            pace,
            ..point(axis, 10.0, waited(1000.0))
        };
        let report = ScaleReport {
            points: vec![
                measured(Axis::FanOut, Pace::Paced),
                measured(Axis::RecordSize, Pace::Saturated),
                measured(Axis::Producers, Pace::Saturated),
                measured(Axis::Neighbours, Pace::Paced),
            ],
            idle_partitions: [(0, 1_000), (10, 21_000)]
                .map(|(count, rss_bytes)| IdleFigure {
                    count,
                    memory: IdleMemory::Bytes(rss_bytes),
                })
                .into(),
            ..ScaleReport::default()
        };
        assert_eq!(
            plots(&report),
            [
                "Memory with idle partitions",
                "Memory for each of the idle partitions",
                "A greedy neighbour: ack p99, ms",
                "A greedy neighbour: end to end p99, ms",
                "Scale: fan-out: consumed, MB/s",
                "Scale: fan-out: end to end p99, ms",
                "Scale: record size: published, MB/s",
                "Scale: record size: ack p99, ms",
                "Scale: producers: published, MB/s",
                "Scale: producers: ack p99, ms",
            ]
        );
    }

    #[test]
    fn where_all_points_failed_there_is_no_plot() {
        let failed = || Err("no room".to_owned());
        let report = ScaleReport {
            points: vec![
                point(Axis::FanOut, 10.0, failed()),
                point(Axis::Neighbours, 0.0, failed()),
            ],
            ..ScaleReport::default()
        };
        assert_eq!(plots(&report), [""; 0]);
    }

    #[test]
    fn a_figure_that_the_generator_limited_is_marked_and_says_why() {
        let limited = PointFigures {
            publish_records_per_s: 5.0,
            limited_by_generator: Some("no core was left".to_owned()),
            ..PointFigures::default()
        };
        let at = |at, figures| Point {
            pace: Pace::Saturated,
            ..point(Axis::Producers, at, Ok(figures))
        };
        let report = ScaleReport {
            points: vec![at(1.0, PointFigures::default()), at(10.0, limited)],
            ..ScaleReport::default()
        };
        let text = text(&report);
        assert!(text.contains("| 10 | 5.00 ‡ |"), "{text}");
        assert_eq!(text.matches('‡').count(), 2, "{text}");
        assert!(
            text.contains("‡ 10 producers: limited by the generator: no core was left"),
            "{text}"
        );
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
        assert!(text(&report).contains("is 2.50 times its p99 alone."));
        let mut again = report;
        if let Ok(figures) = &mut again.points[1].outcome {
            figures.limited_by_generator = Some("no core was left".to_owned());
        }
        again
            .points
            .push(point(Axis::Neighbours, 2.0, waited(2000.0)));
        let text = text(&again);
        assert!(
            text.contains("2.50 times its p99 alone, and 1.25 times its p99 alone again."),
            "{text}"
        );
        assert!(text.contains("| alone again |"), "{text}");
        assert!(
            text.contains("‡ beside one as fast as it goes: limited by the generator: no core"),
            "{text}"
        );
    }

    #[test]
    fn an_idle_partitions_cost_is_what_was_added() {
        let at = |count, rss_bytes| IdleFigure {
            count,
            memory: IdleMemory::Bytes(rss_bytes),
        };
        let report = ScaleReport {
            idle_partitions: vec![at(0, 1_000_000), at(1_000, 1_500_000)],
            ..ScaleReport::default()
        };
        assert!(text(&report).contains("| 500 B |"), "{}", text(&report));
    }
}
