use gannet_loadgen::latency::LatencySummary;
use serde_json::{Value, json};

use super::super::entrant::{GANNET_DURABLE, KAFKA_UNSYNCED};
use super::*;
use crate::numbers::ToolRun;

/// A race of nobody, on a disk that writes so many MB/s.
pub(in super::super) fn setting(
    write_mb_per_s: f64,
    synced_write_mb_per_s: Option<f64>,
) -> Setting {
    Setting {
        version: "0".to_owned(),
        machine: MachineInfo {
            kernel: "6.1.0-race".to_owned(),
            ..MachineInfo::default()
        },
        limits: MachineLimits {
            ping_pong_us: LatencySummary::default(),
            sync_write_us: LatencySummary::default(),
            write_mb_per_s,
            read_mb_per_s: 1.0,
            synced_write_mb_per_s,
            fio: ToolRun::Absent,
            iperf3: ToolRun::Absent,
        },
        limits_measured_at: None,
        limits_before: Vec::new(),
        scenarios: BTreeMap::new(),
        rounds: 1,
        tiny: false,
        brokers: Vec::new(),
        programs: Vec::new(),
    }
}

fn rendered(results: &[(&str, Value)]) -> Result<String, RaceError> {
    let directory = tempfile::tempdir().unwrap();
    for (name, kept) in results {
        fs::write(directory.path().join(name), kept.to_string()).unwrap();
    }
    let place = Place {
        results: Some(directory.path().to_owned()),
        write_to: Some(directory.path().join("texts")),
    };
    render(&place)?;
    assert!(directory.path().join("texts/race.html").exists());
    Ok(fs::read_to_string(directory.path().join("texts/RACE.md")).unwrap())
}

fn race() -> (&'static str, Value) {
    (SETTING, json!(setting(2_000.0, Some(1_000.0))))
}

fn scale() -> (&'static str, Value) {
    let point = json!({"axis": "producers", "pace": "saturated", "at": 10.0, "outcome": {"Err": "no threads"}});
    ("scale.json", json!({"points": [point]}))
}

#[test]
fn a_page_is_written_of_a_race_of_a_scale_and_of_both() {
    for (results, has_race, has_scale) in [
        (vec![race()], true, false),
        (vec![scale()], false, true),
        (vec![race(), scale()], true, true),
    ] {
        let text = rendered(&results).unwrap();
        assert_eq!(text.contains("Against the bars"), has_race, "{text}");
        assert_eq!(text.contains("failed: no threads"), has_scale, "{text}");
    }
}

#[test]
fn without_results_there_is_no_page_and_the_folder_is_named() {
    let error = rendered(&[]).unwrap_err().to_string();
    assert!(error.contains("there are no results in /"), "{error}");
}

#[test]
fn a_race_of_before_synced_writes_were_measured_is_rendered() {
    let (name, mut kept) = race();
    let limits = kept["limits"].as_object_mut().unwrap();
    limits.remove("synced_write_mb_per_s").unwrap();
    let fio = json!({"write_mb_per_s": 5.0, "read_mb_per_s": 6.0, "sync_write_p50_us": 7.0});
    limits.insert("fio".to_owned(), json!({ "measured": fio }));
    let text = rendered(&[(name, kept)]).unwrap();
    assert!(
        text.contains("5 MB/s writing, 6 MB/s reading; synced: not measured"),
        "{text}"
    );
}

#[test]
fn a_race_in_parts_is_one_and_a_scenario_that_changed_is_named() {
    let of = |scenarios: &[(&str, &str)], rounds, entrant| Setting {
        scenarios: (scenarios.iter())
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
        rounds,
        brokers: vec![BrokerSetting {
            entrant,
            version: Ok("1".to_owned()),
            settings: Vec::new(),
        }],
        ..setting(1.0, None)
    };
    let earlier = of(&[("paced", "a"), ("large", "b")], 2, GANNET_DURABLE);
    let later = of(&[("large", "c"), ("single", "d")], 1, KAFKA_UNSYNCED);
    let changed: Vec<&str> = later.changed_since(&earlier).collect();
    assert_eq!(changed, ["large"]);
    let whole = later.going_on_from(earlier);
    let texts: Vec<&str> = whole.scenarios.values().map(String::as_str).collect();
    assert_eq!(texts, ["c", "a", "d"], "{:?}", whole.scenarios);
    assert_eq!((whole.rounds, whole.brokers.len()), (2, 2));
    assert_eq!(whole.limits_before.len(), 1);
    let third = of(&[], 1, GANNET_DURABLE).going_on_from(whole);
    assert_eq!(third.limits_before.len(), 2, "every sitting's are kept");
}

#[test]
fn a_race_of_before_times_were_kept_is_rendered_and_says_that_it_does_not_know() {
    let (name, mut kept) = race();
    let setting = kept.as_object_mut().unwrap();
    setting.remove("limits_measured_at").unwrap();
    setting.remove("limits_before").unwrap();
    setting.remove("programs").unwrap();
    let text = rendered(&[(name, kept)]).unwrap();
    assert!(text.contains("at a time that was not kept"), "{text}");
    assert!(!text.contains("in this run"), "{text}");
}

#[test]
fn two_programs_have_two_sums() {
    assert_ne!(sum_of(b"one build"), sum_of(b"another"));
    assert_eq!(sum_of(b""), 0xcbf2_9ce4_8422_2325);
}

#[test]
fn only_who_lets_go_of_it_in_time_is_not_bounded_by_bytes() {
    let mut scenario = Scenario::default();
    let unbounded = |scenario: &Scenario| {
        [Peer::Gannet, Peer::Kafka, Peer::RabbitMq, Peer::Nats]
            .map(|peer| keeps_its_size(peer, scenario))
    };
    assert_eq!(unbounded(&scenario), [false; 4]);
    scenario.retention_bytes = std::num::NonZeroU64::new(1 << 30);
    assert_eq!(unbounded(&scenario), [true, false, false, true]);
}

#[test]
fn a_new_race_forgets_what_was_raced_before() {
    let directory = tempfile::tempdir().unwrap();
    forget_setting(directory.path()).unwrap();
    keep_setting(directory.path(), &setting(1.0, None)).unwrap();
    forget_setting(directory.path()).unwrap();
    assert!(read_setting(directory.path()).unwrap().is_none());
}

#[test]
fn a_race_that_goes_on_says_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), false).unwrap();
    let turn = |round, load_ms| Turn {
        round,
        scenario: "paced".to_owned(),
        entrant: GANNET_DURABLE,
        load_ms,
    };
    for (round, load_ms) in [(1, 30_000), (2, 10_000)] {
        let mut kept =
            super::super::outcome::tests::measured("paced", GANNET_DURABLE, round, |_| {});
        kept.turn.load_ms = load_ms;
        results.keep(&kept).unwrap();
    }
    let planned = [1, 2, 3].map(|round| turn(round, 40_000));
    assert_eq!(
        what_is_kept(&results, &planned),
        "of 3 turns 1 are kept, 1 are measured again since a load of another length does not stand for them, and 1 gave no figures yet"
    );
}

#[test]
fn every_sitting_has_its_number() {
    let first = setting(1.0, None);
    let second = setting(1.0, None).going_on_from(first.clone());
    assert_eq!((first.sitting(), second.sitting()), (1, 2));
}

#[test]
fn the_clients_versions_are_those_of_the_lock_file() {
    let lock = "[[package]]\nname = \"lapin-x\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"lapin\"\nversion = \"4.12.0\"\n";
    assert_eq!(locked_version(lock, "lapin"), Some("4.12.0"));
    assert_eq!(locked_version(lock, "rdkafka"), None);
    let programs = programs().join(", ");
    for client in ["rdkafka ", "lapin ", "async-nats "] {
        assert!(programs.contains(client), "{programs}");
    }
}
