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

/// A race by these brokers, who are all there, of these scenarios.
fn of_brokers(brokers: &[Entrant], scenarios: &[&str], rounds: u32) -> Setting {
    Setting {
        brokers: (brokers.iter())
            .map(|entrant| BrokerSetting {
                entrant: *entrant,
                version: Ok("1".to_owned()),
                settings: Vec::new(),
            })
            .collect(),
        scenarios: (scenarios.iter())
            .map(|name| ((*name).to_owned(), String::new()))
            .collect(),
        rounds,
        ..setting(2_000.0, None)
    }
}

fn ran(scenario: &str, entrant: Entrant, rounds: u32) -> Vec<TurnResult> {
    (1..=rounds)
        .map(|round| measured(scenario, entrant, round, |_| {}))
        .collect()
}

#[test]
fn nothing_is_missing_only_when_everybody_ran_everything_in_every_round() {
    let all = Entrant::of(&Peer::ALL);
    let setting = of_brokers(&all, &SCENARIOS, 2);
    let mut turns: Vec<_> = (SCENARIOS.iter())
        .flat_map(|name| all.iter().flat_map(move |entrant| ran(name, *entrant, 2)))
        .collect();
    assert_eq!(not_run(&setting, &turns), Vec::<String>::new());
    let text = document(Some(&setting), &turns, None).markdown();
    assert!(text.contains("Nothing: every broker ran every scenario in every round."));
    turns.retain(|turn| {
        let turn = &turn.turn;
        (turn.entrant, turn.scenario.as_str(), turn.round) != (KAFKA_UNSYNCED, PACED, 2)
    });
    let points = not_run(&setting, &turns);
    assert_eq!(points, ["Kafka default, paced: did not run round 2."]);
}

#[test]
fn a_scenario_with_fewer_rounds_than_another_a_scenario_and_a_broker_that_is_not_there_are_missing()
{
    let setting = of_brokers(&[GANNET_DURABLE, KAFKA_UNSYNCED], &[CATCH_UP, PACED], 3);
    let turns = [
        ran(CATCH_UP, GANNET_DURABLE, 1),
        ran(CATCH_UP, KAFKA_UNSYNCED, 1),
        ran(PACED, GANNET_DURABLE, 3),
        ran(PACED, KAFKA_UNSYNCED, 3),
    ]
    .concat();
    let text = document(Some(&setting), &turns, None).markdown();
    for words in [
        "- catch-up: nobody ran rounds 2, 3.",
        "- Scenario fan-out was not run.",
        "- NATS default was not raced.",
        "(catch-up 1, paced 3)",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    assert!(!text.contains("Nothing: every broker"), "{text}");
    assert!(!text.contains("did not run"), "{text}");
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
fn the_builds_that_figures_are_of_are_said() {
    let setting = of_brokers(&[GANNET_DURABLE], &[PACED], 3);
    let mut turns = ran(PACED, GANNET_DURABLE, 3);
    turns[1].build = Some("Gannet 1 (program a)".to_owned());
    turns[2].build = Some("Gannet 1 (program b)".to_owned());
    assert_eq!(
        builds(&setting.brokers[0], &turns),
        "build not kept (in the last sitting 1): 1; Gannet 1 (program a): 1; Gannet 1 (program b): 1"
    );
}

#[test]
fn the_limits_of_every_sitting_stand_with_their_time() {
    let mut setting = setting(2_000.0, None);
    setting.limits_measured_at = Some(1_795_964_700);
    setting.limits_before = vec![super::super::session::LimitsBefore {
        limits: super::super::session::tests::setting(1_000.0, None).limits,
        measured_at: None,
    }];
    let text = document(Some(&setting), &[], None).markdown();
    for words in [
        "when each of 2 sittings began",
        "| what | on 2026-11-29 15:05 UTC | at a time that was not kept |",
        "| 2000 MB/s writing, 1 MB/s reading | 1000 MB/s writing, 1 MB/s reading |",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
}

#[test]
fn what_is_no_loss_is_said_with_and_without_losses() {
    for (kafkas, words) in [
        (100.0, "Nowhere by 5 % or more in every round"),
        (900.0, "Kafka default is ahead 1.80-fold"),
    ] {
        let turns = [
            saturated(GANNET_DURABLE, 500.0),
            saturated(KAFKA_UNSYNCED, kafkas),
        ];
        let text = document(Some(&setting(2_000.0, None)), &turns, None).markdown();
        for words in [words, "Left out: gaps below 5 %, what was not behind"] {
            assert!(text.contains(words), "{words:?} is not in:\n{text}");
        }
    }
}

#[test]
fn loads_that_ended_early_by_their_bytes_are_named_and_others_are_not() {
    let of = |round, seconds: f64| {
        let mut turn = measured(CATCH_UP, GANNET_DURABLE, round, |measured| {
            measured.report.last.seconds = seconds;
            measured.report.sent = 100;
            measured.report.settings.record_bytes = 1 << 30;
            measured.report.settings.bytes_max = Some(100 << 30);
        });
        turn.turn.load_ms = 30_000;
        turn
    };
    let setting = of_brokers(&[GANNET_DURABLE], &[CATCH_UP], 2);
    let said = by_bytes(&setting, &[of(1, 20.0), of(2, 29.9)]).unwrap();
    assert_eq!(
        said,
        "Ended by the bytes that they might send, a quarter of the free disk: catch-up, Gannet durable, round 1: after 20.0 s and 100.0 GiB."
    );
    assert_eq!(by_bytes(&setting, &[of(2, 29.9)]), None);
}

#[test]
fn pairs_of_two_sittings_are_said_as_far_as_they_were_kept() {
    let of = |apart, unknown| Pairs {
        all: 3,
        apart,
        unknown,
    };
    assert_eq!(apart(of(0, 0)), "0 of 3");
    assert_eq!(apart(of(1, 1)), "1 of 3, 1 not kept");
    assert_eq!(apart(of(0, 3)), "not kept");
}

#[test]
fn who_was_there_in_an_earlier_sitting_took_part_and_its_rounds_are_told() {
    let mut setting = of_brokers(&[GANNET_DURABLE, KAFKA_UNSYNCED], &[PACED], 2);
    setting.brokers[1].version = Err("no Java".to_owned());
    let mut turns = ran(PACED, KAFKA_UNSYNCED, 2);
    turns[1].outcome = super::super::outcome::Outcome::Missing("no Java".to_owned());
    turns[0].failed_again = Some("no Java".to_owned());
    let text = document(Some(&setting), &turns, None).markdown();
    for words in [
        "- Kafka default took no part in the last sitting: no Java",
        "- Kafka default, paced, round 2: no Java",
        "- Kafka default, paced, round 1: measured again without figures, those of before stand: no Java",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    turns.remove(0);
    let text = document(Some(&setting), &turns, None).markdown();
    assert!(
        text.contains("- Kafka default took no part: no Java"),
        "{text}"
    );
    assert!(!text.contains("round 2: no Java"), "{text}");
}

#[test]
fn times_are_dates() {
    assert_eq!(utc(0), "1970-01-01 00:00 UTC");
    assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
    assert_eq!(utc(1_735_689_599), "2024-12-31 23:59 UTC");
    assert_eq!(utc(1_735_689_600), "2025-01-01 00:00 UTC");
}

#[test]
fn where_the_generator_may_be_the_limit_the_figure_and_the_bar_say_so() {
    let setting = of_brokers(&[GANNET_DURABLE, KAFKA_UNSYNCED], &[SATURATED_LARGE], 1);
    let mut kafka = saturated(KAFKA_UNSYNCED, 100.0);
    if let super::super::outcome::Outcome::Measured(measured) = &mut kafka.outcome {
        measured.report.last.limited_by_generator = Some("all cores were busy".to_owned());
    }
    let turns = [saturated(GANNET_DURABLE, 500.0), kafka];
    let text = document(Some(&setting), &turns, None).markdown();
    for words in [
        "| 100‡ |",
        "| 5.00 x‡ |",
        "‡ saturated-large, Kafka default",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    assert!(!text.contains("| 500‡ |"), "{text}");
}

#[test]
fn a_note_stands_once_with_whom_it_is_about() {
    let noted = |scenario, entrant| {
        measured(scenario, entrant, 1, |measured| {
            measured.report.notes = vec!["nobody asked".to_owned()];
        })
    };
    let turns = [
        noted(PACED, GANNET_DURABLE),
        noted(PACED, KAFKA_UNSYNCED),
        noted(CATCH_UP, KAFKA_UNSYNCED),
    ];
    let text = document(Some(&setting(2_000.0, None)), &turns, None).markdown();
    let words = "- nobody asked (Gannet durable, Kafka default; catch-up, paced)";
    assert_eq!(text.matches("nobody asked").count(), 1, "{text}");
    assert!(text.contains(words), "{text}");
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
