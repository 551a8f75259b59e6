use super::super::entrant::KAFKA_UNSYNCED;
use super::super::outcome::tests::measured;
use super::super::scale::{Axis, IdleFigure, IdleMemory, Pace, Point, PointFigures};
use super::super::session::tests::setting;
use super::*;

fn saturated(entrant: Entrant, mb_per_s: f64) -> TurnResult {
    measured(SATURATED_LARGE, entrant, 1, |measured| {
        let flow = &mut measured.report.last.publish.flow;
        (flow.records, flow.mb_per_s) = (1, mb_per_s);
    })
}

fn scale() -> ScaleReport {
    ScaleReport {
        machine: Some(MachineInfo {
            kernel: "6.1.0-scale".to_owned(),
            ..MachineInfo::default()
        }),
        points: vec![Point {
            axis: Axis::Producers,
            pace: Pace::Saturated,
            at: 10.0,
            outcome: Ok(PointFigures::default()),
        }],
        idle_partitions: vec![IdleFigure {
            count: 0,
            memory: IdleMemory::Bytes(1 << 20),
        }],
        ..ScaleReport::default()
    }
}

#[test]
fn the_saturated_figure_stands_beside_what_the_disk_writes_with_and_without_syncs() {
    let setting = setting(2_000.0, Some(1_000.0));
    let turns = [saturated(GANNET_DURABLE, 500.0)];
    let text = document(Some(&setting), &turns, None).markdown();
    for words in [
        "0.25 x of its 2000 MB/s un-synced",
        "0.50 x of its 1000 MB/s synced",
        "| disk, sequential, synced: O_DIRECT + O_DSYNC, 512 KiB, four in flight | 1000 MB/s writing |",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
}

#[test]
fn a_race_without_the_disks_synced_writes_says_so() {
    let setting = setting(2_000.0, None);
    let turns = [saturated(GANNET_DURABLE, 500.0)];
    let text = document(Some(&setting), &turns, None).markdown();
    for words in [
        "synced ones, as each of Gannet's is, were not measured",
        "four in flight | not measured |",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
}

#[test]
fn nothing_is_said_about_the_disk_where_the_saturated_load_was_not_measured() {
    let turns = [saturated(KAFKA_UNSYNCED, 500.0)];
    let text = document(Some(&setting(2_000.0, None)), &turns, None).markdown();
    assert!(!text.contains("to what the disk writes"), "{text}");
}

#[test]
fn a_scale_without_a_race_is_a_page_of_its_own() {
    let text = document(None, &[], Some(&scale())).markdown();
    for words in [
        "# Gannet at scale",
        "## Scale: producers",
        "6.1.0-scale",
        "## How to repeat it",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    assert!(!text.contains("Against the bars"), "{text}");
}

#[test]
fn a_race_and_a_scale_stand_on_one_page_with_the_races_machine() {
    let text = document(Some(&setting(2_000.0, None)), &[], Some(&scale())).markdown();
    for words in [
        "# Gannet's race",
        "Against the bars",
        "## Scale: producers",
        "6.1.0-race",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    assert!(!text.contains("6.1.0-scale"), "{text}");
}
