//! `gannet-race` runs every scenario, keeps each result and writes its texts. Who is faster, no test asks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gannet_tests::{
    builds_kafka_driver, data_dir, ends, ends_within, load_generator, load_generator_for_peers,
    peer_script, race_program, skipped_peer,
};
use serde_json::Value;

const SCENARIOS: [&str; 2] = ["paced", "saturated-large"];
/// Each turn of another broker starts it anew, which takes RabbitMQ 20 s and more.
const SCENARIOS_OF_PEERS: [&str; 1] = ["paced"];
/// A tiny race takes a minute at most where the machine has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// A tiny race of these brokers under these scenarios; gives its exit status and what it said.
fn tiny_race(
    dir: &Path,
    generator: &Path,
    scenarios: &[&str],
    peers: &[&str],
) -> (Option<i32>, String) {
    let data = dir.join("data");
    std::fs::create_dir(&data).expect("the directory for the data");
    let mut command = Command::new(race_program());
    command
        .args(["--tiny", "--no-install", "--shards", "1"])
        .arg("--generator")
        .arg(generator)
        .arg("--data-dir")
        .arg(&data)
        .arg("--results")
        .arg(dir.join("results"))
        .arg("--write-to")
        .arg(dir.join("texts"));
    for scenario in scenarios {
        command.args(["--scenario", scenario]);
    }
    for peer in peers {
        command.args(["--peer", peer]);
    }
    let (status, said) = ends_within(command, PATIENCE);
    let left = std::fs::read_dir(&data)
        .expect("the directory is still there")
        .count();
    assert_eq!(
        left, 0,
        "something was left in the directory for the data: {said}"
    );
    (status.code(), said)
}

fn text(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("texts/RACE.md")).expect("RACE.md was written")
}

/// The outcome of a turn, as it was kept: its figures.
fn measured(dir: &Path, turn: &str) -> Value {
    let name = format!("results/turns/{turn}-round-1.json");
    let kept = std::fs::read_to_string(dir.join(name)).expect("the turn was kept");
    let mut kept: Value = serde_json::from_str(&kept).expect("a turn is JSON");
    let measured = kept["outcome"]["measured"].take();
    assert_eq!(measured["report"]["passed"], true, "{turn}: {measured:#}");
    measured
}

#[test]
fn a_tiny_race_has_gannets_figures_for_every_scenario_and_keeps_each_result() {
    let dir = data_dir();
    let (status, said) = tiny_race(dir.path(), &load_generator(), &SCENARIOS, &[]);
    assert_eq!(status, Some(0), "{said}");
    for scenario in SCENARIOS {
        for durability in ["durable", "accepted"] {
            let measured = measured(dir.path(), &format!("{scenario}-gannet-{durability}"));
            let report = &measured["report"];
            assert_eq!(report["publish"]["durability"], *durability, "{report:#}");
            let cpu_s = measured["broker"]["cpu_s"].as_f64();
            assert!(cpu_s > Some(0.0), "the broker's CPU was not measured");
        }
    }
    let text = text(dir.path());
    for part in [
        "tiny run",
        "Against the bars",
        "Where Gannet loses",
        "Scenario paced",
        "Gannet durable | on the disk",
        "4 KiB O_DIRECT + O_DSYNC write",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn a_peer_that_cannot_run_is_missing_with_its_reason_and_gannet_is_measured() {
    let dir = data_dir();
    // Peers whose scripts say no.
    let peers = dir.path().join("peers");
    let script = peers.join("nats/peer.sh");
    std::fs::create_dir_all(peers.join("nats")).expect("a folder for the script");
    std::fs::write(
        &script,
        "#!/bin/sh\necho 'nats: the gulls took it' >&2\nexit 1\n",
    )
    .expect("a script");
    let mut executable = std::fs::metadata(&script)
        .expect("the script")
        .permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut executable, 0o755);
    std::fs::set_permissions(&script, executable).expect("the script can be run");
    let mut command = Command::new(race_program());
    command
        .args(["--tiny", "--shards", "1", "--scenario", "paced"])
        .args(["--peer", "gannet", "--peer", "nats", "--peers"])
        .arg(&peers)
        .arg("--generator")
        .arg(load_generator())
        .arg("--data-dir")
        .arg(dir.path())
        .arg("--results")
        .arg(dir.path().join("results"))
        .arg("--write-to")
        .arg(dir.path().join("texts"));
    let (status, said) = ends(command);
    // 3: only turns of other brokers gave no figures.
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("the gulls took it"), "{said}");
    let text = text(dir.path());
    assert!(
        text.contains("NATS fsync took no part: nats: the gulls took it"),
        "{text}"
    );
    assert!(text.contains("Gannet durable | on the disk"), "{text}");
}

#[test]
fn a_scenario_that_is_not_there_is_named_and_no_race_begins() {
    let dir = data_dir();
    let mut command = Command::new(race_program());
    command
        .args(["--tiny", "--scenario", "no-such", "--results"])
        .arg(dir.path());
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("no-such") && said.contains("paced"), "{said}");
}

#[test]
fn a_tiny_scale_has_a_figure_for_every_axis() {
    let dir = data_dir();
    let mut command = Command::new(race_program());
    command
        .args(["scale", "--tiny", "--shards", "1", "--generator"])
        .arg(load_generator())
        .arg("--data-dir")
        .arg(dir.path())
        .arg("--results")
        .arg(dir.path().join("results"));
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(0), "{said}");
    let kept = std::fs::read_to_string(dir.path().join("results/scale.json"))
        .expect("the figures were kept");
    let report: Value = serde_json::from_str(&kept).expect("the figures are JSON");
    let points = report["points"].as_array().expect("points are a list");
    for axis in [
        "partitions",
        "neighbours",
        "fan-out",
        "record-size",
        "producers",
    ] {
        let of_axis: Vec<_> = points
            .iter()
            .filter(|point| point["axis"] == axis)
            .collect();
        assert!(of_axis.len() >= 2, "{axis}: {report:#}");
        for point in of_axis {
            let measured = point["outcome"]["Ok"]["publish_records_per_s"].as_f64();
            assert!(measured > Some(0.0), "{point:#}");
        }
    }
    for idle in ["idle_partitions", "idle_connections"] {
        let figures = report[idle].as_array().expect("figures are a list");
        assert_eq!(figures.len(), 3, "{report:#}");
        assert!(figures.iter().all(|figure| figure["rss_bytes"].is_u64()));
    }
    // Without a race it has a page of its own.
    let text = std::fs::read_to_string(dir.path().join("results/RACE.md"));
    let text = text.expect("RACE.md was written");
    assert!(text.contains("## Scale: fan-out"), "{text}");
}

/// The other brokers, as far as they are installed, with the drivers that speak to them: the whole way. What this machine has not is said.
#[test]
fn a_tiny_race_runs_the_peers_that_are_installed() {
    for (peer, name, acknowledged_by_default) in [
        ("kafka", "Kafka", "in the page cache"),
        ("rabbitmq", "RabbitMQ", "on the disk"),
        ("nats", "NATS", "in the page cache"),
    ] {
        let (installed, said) = asked_for_its_version(peer);
        if !installed {
            skipped_peer(&format!("{peer} in the race: {said}"));
            continue;
        }
        if peer == "kafka" && !builds_kafka_driver() {
            skipped_peer("kafka in the race: its driver needs make and a C++ compiler");
            continue;
        }
        let dir = data_dir();
        let generator = load_generator_for_peers();
        let (status, said) = tiny_race(dir.path(), &generator, &SCENARIOS_OF_PEERS, &[peer]);
        assert_eq!(status, Some(0), "{peer}: {said}");
        let text = text(dir.path());
        assert!(!text.contains(" took no part"), "{text}");
        for (mode, acknowledged) in [
            ("fsync", "on the disk"),
            ("default", acknowledged_by_default),
        ] {
            for scenario in SCENARIOS_OF_PEERS {
                let measured = measured(dir.path(), &format!("{scenario}-{peer}-{mode}"));
                let acked = measured["report"]["acked"].as_u64();
                assert!(acked > Some(0), "{measured:#}");
            }
            assert_has_figures(&text, &format!("| {name} {mode} | {acknowledged}"));
        }
    }
}

/// That the first row which begins so, of the broker and when it acknowledges, goes on with figures: those under the scenario.
fn assert_has_figures(text: &str, beginning: &str) {
    let row = text.lines().find(|line| line.starts_with(beginning));
    let row = row.unwrap_or_else(|| panic!("there is no row {beginning:?} in:\n{text}"));
    // Behind the broker and its acknowledgement, and what is before the first line.
    let figures = row.split('|').skip(3).filter(|cell| {
        let first = cell.trim().chars().next();
        first.is_some_and(|first| first.is_ascii_digit())
    });
    assert!(figures.count() >= 3, "{row}");
}

/// Whether a peer's script finds it installed, and what it says otherwise.
fn asked_for_its_version(peer: &str) -> (bool, String) {
    let mut command = Command::new(peer_script(peer));
    command.arg("version");
    let (status, said) = ends(command);
    (status.success(), said)
}

/// The script that people start, as far as it goes without building anything for a race.
#[test]
fn the_script_of_the_race_is_a_script() {
    let bench = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../bench"));
    let mut scripts = vec![bench.join("race"), bench.join("peers/process.sh")];
    scripts.extend(["kafka", "rabbitmq", "nats"].map(peer_script));
    for script in scripts {
        let mut command = Command::new("bash");
        command.arg("-n").arg(&script);
        let (status, said) = ends(command);
        assert!(status.success(), "{}: {said}", script.display());
    }
}
