use super::super::entrant::{GANNET_DURABLE, KAFKA_UNSYNCED};
use super::super::machine::MachineInfo;
use super::super::outcome::Outcome;
use super::super::scale::{Axis, IdleFigure, IdleMemory, Pace, Point, PointFigures};
use super::super::session::tests::setting;
use super::sample::{assert_says, assert_says_none, of_brokers, saturated, told};
use super::*;

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
fn the_scenarios_of_a_whole_race_are_those_in_the_folder() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, SCENARIOS);
}

#[test]
fn what_is_no_loss_is_said_with_and_without_losses() {
    for (kafkas, losses) in [
        (100.0, "Nowhere by 5 % or more in every round"),
        (900.0, "Kafka default is ahead 1.80-fold"),
    ] {
        let turns = [
            saturated(GANNET_DURABLE, 500.0),
            saturated(KAFKA_UNSYNCED, kafkas),
        ];
        assert_says(
            &told(&setting(2_000.0, None), &turns),
            &[losses, "Left out: gaps below 5 %, what was not behind"],
        );
    }
}

#[test]
fn where_the_generator_may_be_the_limit_the_figure_and_the_bar_say_so() {
    let setting = of_brokers(&[GANNET_DURABLE, KAFKA_UNSYNCED], &[SATURATED_LARGE], 1);
    let mut kafka = saturated(KAFKA_UNSYNCED, 100.0);
    if let Outcome::Measured(measured) = &mut kafka.outcome {
        measured.report.last.limited_by_generator = Some("all cores were busy".to_owned());
    }
    let text = told(&setting, &[saturated(GANNET_DURABLE, 500.0), kafka]);
    assert_says(
        &text,
        &[
            "| 100‡ |",
            "| 5.00 x‡ |",
            "‡ saturated-large, Kafka default",
        ],
    );
    assert_says_none(&text, &["| 500‡ |"]);
}

#[test]
fn a_scale_without_a_race_is_a_page_of_its_own() {
    let text = document(None, &[], Some(&scale())).markdown();
    assert_says(
        &text,
        &[
            "# Gannet at scale",
            "## Scale: producers",
            "6.1.0-scale",
            "## How to repeat it",
        ],
    );
    assert_says_none(&text, &["Against the bars"]);
}

#[test]
fn a_race_and_a_scale_stand_on_one_page_with_the_races_machine() {
    let text = document(Some(&setting(2_000.0, None)), &[], Some(&scale())).markdown();
    assert_says(
        &text,
        &[
            "# Gannet's race",
            "Against the bars",
            "## Scale: producers",
            "6.1.0-race",
        ],
    );
    assert_says_none(&text, &["6.1.0-scale"]);
}
