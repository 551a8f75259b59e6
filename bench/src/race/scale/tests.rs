use super::*;

/// A paced one.
pub(super) fn point(axis: Axis, at: f64, outcome: Result<PointFigures, String>) -> Point {
    Point {
        axis,
        pace: Pace::Paced,
        at,
        outcome,
    }
}

fn figures(acked_bytes: u64) -> PointFigures {
    PointFigures {
        acked_bytes,
        ..PointFigures::default()
    }
}

#[test]
fn a_point_that_failed_is_not_measured_until_it_gives_figures() {
    let mut report = ScaleReport::default();
    report.enter(point(Axis::FanOut, 10.0, Err("no room".to_owned())));
    let measured = |report: &ScaleReport| report.measured(Axis::FanOut, Pace::Paced, 10.0).cloned();
    assert_eq!(measured(&report), None);
    report.enter(point(Axis::FanOut, 10.0, Ok(figures(7))));
    assert_eq!(measured(&report), Some(figures(7)));
    assert_eq!(report.points.len(), 1);
}

#[test]
fn points_of_other_axes_paces_and_numbers_stay_as_they_are() {
    let mut report = ScaleReport::default();
    for axis in [Axis::FanOut, Axis::Producers] {
        for at in [1.0, 10.0] {
            report.enter(point(axis, at, Ok(figures(1))));
        }
    }
    report.enter(Point {
        pace: Pace::Saturated,
        ..point(Axis::FanOut, 1.0, Ok(figures(2)))
    });
    assert_eq!(report.points.len(), 5);
    report.forget(Axis::FanOut);
    assert!(
        report
            .points
            .iter()
            .all(|point| point.axis == Axis::Producers)
    );
    assert_eq!(report.points.len(), 2);
}

#[test]
fn what_was_kept_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut report = ScaleReport::default();
    report.enter(point(Axis::FanOut, 10.0, Ok(figures(7))));
    report.enter(point(Axis::Producers, 1.0, Err("no threads".to_owned())));
    report.idle_partitions = vec![
        IdleFigure {
            count: 0,
            memory: IdleMemory::Bytes(7),
        },
        IdleFigure {
            count: 10,
            memory: IdleMemory::Failed("no memory".to_owned()),
        },
    ];
    keep(directory.path(), &report).unwrap();
    let again = read(directory.path()).unwrap().unwrap();
    assert_eq!(again.points, report.points);
    assert_eq!(again.idle_partitions, report.idle_partitions);
}

#[test]
fn results_of_before_there_was_a_machine_in_them_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let old = r#"{"points": [{"axis": "fan-out", "pace": "paced", "at": 10.0, "outcome": {"Ok": {"publish_records_per_s": 5.0, "publish_mb_per_s": 1.0,
        "publish_p50_us": 1.0, "publish_p99_us": 2.0, "consume_mb_per_s": 1.0, "end_to_end_p99_us": 3.0, "broker_cpu_us_per_record": 1.0, "broker_rss_bytes": 9}}}],
        "idle_partitions": [{"count": 0, "rss_bytes": 7}], "idle_connections": [], "tiny": false, "failures": []}"#;
    std::fs::write(directory.path().join(FILE), old).unwrap();
    let report = read(directory.path()).unwrap().unwrap();
    let figures = report.measured(Axis::FanOut, Pace::Paced, 10.0).unwrap();
    assert_eq!(figures.broker_rss_bytes, 9);
    assert_eq!(figures.limited_by_generator, None);
    assert_eq!(report.idle_partitions[0].memory, IdleMemory::Bytes(7));
}
