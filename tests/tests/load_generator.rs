//! The load generator is the first command of a newcomer: it runs, verifies and reports.

use std::process::Command;

use gannet_tests::{Server, connect, data_dir, ends, load_generator, prints};

fn report_of(arguments: &[&str]) -> serde_json::Value {
    let dir = data_dir();
    let file = dir.path().join("report.json");
    let mut command = Command::new(load_generator());
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(dir.path())
        .arg("--report")
        .arg(&file);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(0), "{said}");
    let text = std::fs::read_to_string(&file).expect("the report was written");
    serde_json::from_str(&text).expect("the report is JSON")
}

fn number(report: &serde_json::Value, pointer: &str) -> f64 {
    report
        .pointer(pointer)
        .and_then(serde_json::Value::as_f64)
        .unwrap_or_else(|| panic!("the report has no number at {pointer}: {report:#}"))
}

fn assert_nothing_wrong(report: &serde_json::Value) {
    for what in ["/lost", "/duplicated", "/reordered", "/corrupt", "/unacked"] {
        assert_eq!(number(report, what), 0.0, "{what}");
    }
    assert_eq!(report.pointer("/passed"), Some(&true.into()));
    assert!(number(report, "/acked") > 0.0);
    assert_eq!(number(report, "/acked"), number(report, "/sent"));
}

#[test]
fn a_paced_run_verifies_every_record_and_reports_what_it_measured() {
    let report = report_of(&["--rate", "1000", "--duration", "3s", "--shards", "1"]);
    assert_nothing_wrong(&report);
    for measured in [
        "/publish/records_per_s",
        "/publish/mb_per_s",
        "/publish/latency_us/p50",
        "/publish/latency_us/p99",
        "/publish/latency_us/max",
        "/consume/mb_per_s",
        "/end_to_end/latency_us/p50",
        "/end_to_end/latency_us/max",
        "/broker/rss_bytes",
    ] {
        assert!(number(&report, measured) > 0.0, "{measured}");
    }
    assert_eq!(
        report.pointer("/publish/durability"),
        Some(&"durable".into())
    );
}

#[test]
fn a_saturated_run_verifies_every_record_across_a_kill_of_its_broker() {
    let report = report_of(&[
        "--rate",
        "max",
        "--duration",
        "3s",
        "--bytes-max",
        "64MB",
        "--shards",
        "1",
        "--kill",
    ]);
    assert_nothing_wrong(&report);
    assert!(number(&report, "/kill/recovery_ms") > 0.0);
    assert!(number(&report, "/kill/acked_after") > 0.0);
    assert!(number(&report, "/reread/records") > 0.0);
}

#[test]
fn a_run_that_keeps_so_much_says_so_to_the_broker() {
    let dir = data_dir();
    let server = Server::start(dir.path(), 1);
    let address = server.address().to_string();
    let mut command = Command::new(load_generator());
    command.args(["--server", &address, "--topic", "kept", "--rate", "1000"]);
    command.args(["--duration", "1s", "--retention-bytes", "64MiB"]);
    let output = prints(command);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        table.contains("the last 64.0 MiB of each partition kept"),
        "{table}"
    );
    let topic = connect(server.address())
        .describe_topic("kept")
        .expect("it stays");
    assert_eq!(topic.settings.retention_bytes, Some(64 << 20));
}

#[test]
fn a_scenario_runs_as_its_file_says_and_a_flag_counts_before_its_key() {
    let dir = data_dir();
    let file = dir.path().join("mixed-and-shared.toml");
    let scenario = r#"
        producers = 2
        consumers = 2
        partitions = 3
        record_size = { choices = [{ size = 100, weight = 9 }, { size = "10KiB", weight = 1 }] }
        keys = 10
        rate = 100
        fan_out = 2
        duration = "1s"
        warm_up = "0s"
    "#;
    std::fs::write(&file, scenario).expect("the directory takes a file");
    let file = file.to_str().expect("a path in UTF-8");
    let report = report_of(&["--scenario", file, "--rate", "500", "--shards", "1"]);
    assert_nothing_wrong(&report);
    for (pointer, value) in [
        ("/scenario", "mixed-and-shared".into()),
        ("/driver", "native".into()),
        ("/label", "native".into()),
        ("/settings/partitions", 3.into()),
        ("/settings/fan_out", 2.into()),
        ("/settings/keys", 10.into()),
        ("/settings/record_bytes", 1114.into()),
        ("/rate", 500.into()),
        ("/sent", 500.into()),
    ] {
        assert_eq!(report.pointer(pointer), Some(&value), "{pointer}");
    }
    for group in ["/groups/0", "/groups/1"] {
        let counted = format!("{group}/end_to_end/latency_us/count");
        assert_eq!(number(&report, &counted), 500.0, "{counted}");
    }
    assert_eq!(report.pointer("/group_findings/1/lost"), Some(&0.into()));
}

#[test]
fn a_run_against_a_broker_that_is_killed_and_started_again_ends_with_a_verdict() {
    let (dir, report_dir) = (data_dir(), data_dir());
    let file = report_dir.path().join("report.json");
    let server = Server::start(dir.path(), 1);
    let address = server.address();
    let mut command = Command::new(load_generator());
    command
        .args(["--rate", "2000", "--duration", "6s", "--server"])
        .arg(address.to_string())
        .arg("--report")
        .arg(&file);
    let run = std::thread::spawn(move || ends(command));
    let client = connect(address);
    let stored = || {
        let topics = client.list_topics().expect("it serves");
        topics.iter().any(|topic| {
            let described = client.describe_topic(&topic.name).expect("it serves");
            described.partitions.iter().any(|one| one.next_offset.0 > 0)
        })
    };
    while !stored() {
        std::thread::yield_now();
    }
    server.kill();
    let server = Server::start_at(dir.path(), 1, address);
    let (status, said) = run.join().expect("it ends");
    assert_eq!(status.code(), Some(0), "{said}");
    let text = std::fs::read_to_string(&file).expect("the report was written");
    let report = serde_json::from_str(&text).expect("the report is JSON");
    assert_nothing_wrong(&report);
    let notes = report.pointer("/notes").and_then(|notes| notes.as_array());
    // What a busy machine does to the figures is noted with the phase's name.
    let is_of_phase = |note: &serde_json::Value| {
        let note = note.as_str();
        note.is_some_and(|note| note.starts_with("paced: "))
    };
    assert!(
        notes.is_some_and(|notes| notes.iter().all(is_of_phase)),
        "{report:#}"
    );
    let topics = connect(server.address()).list_topics().expect("it serves");
    assert!(topics.is_empty(), "{topics:?}");
}

#[test]
fn what_makes_no_run_is_said_before_a_broker_is_started() {
    let dir = data_dir();
    for (arguments, words) in [
        (["--record-size", "1MiB"], "--record-size 1048576"),
        (
            ["--report", "/nonexistent/report.json"],
            "/nonexistent/report.json",
        ),
        (["--data-dir", "/nonexistent"], "make it first"),
    ] {
        let mut command = Command::new(load_generator());
        command
            .args(["--rate", "10", "--duration", "1s"])
            .args(arguments);
        if arguments[0] != "--data-dir" {
            command.arg("--data-dir").arg(dir.path());
        }
        let (status, said) = ends(command);
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("starting a broker"), "{said}");
    }
}

#[test]
fn a_scenario_that_is_none_is_refused_with_its_file_its_line_and_what_there_is() {
    let dir = data_dir();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, "prodcers = 2\n").expect("the directory takes a file");
    let mut command = Command::new(load_generator());
    command.arg("--scenario").arg(&file);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(2), "{said}");
    for words in ["wrong.toml, line 1", "prodcers", "`producers`"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_driver_that_is_not_built_says_how_it_is() {
    let mut command = Command::new(load_generator());
    command.args(["--driver", "kafka", "--server", "127.0.0.1:1"]);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("--features kafka"), "{said}");
}

#[test]
fn a_run_against_no_broker_says_so_by_its_status() {
    let mut command = Command::new(load_generator());
    command.args([
        "--server",
        "127.0.0.1:1",
        "--rate",
        "10",
        "--duration",
        "1s",
    ]);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_sweep_verifies_every_record_at_each_rate_and_says_how_it_ended() {
    // The subcommand's options come behind its name.
    let report = report_of(&[
        "sweep",
        "--from",
        "200",
        "--to",
        "400",
        "--duration",
        "500ms",
        "--budget",
        "20s",
        "--shards",
        "1",
        "--label",
        "small",
    ]);
    assert_eq!(report.pointer("/passed"), Some(&true.into()), "{report:#}");
    assert_eq!(report.pointer("/label"), Some(&"small".into()));
    let steps = report.pointer("/sweep").and_then(|sweep| sweep.as_array());
    let steps = steps.expect("it has steps");
    let first = steps.first().expect("the first step is made in any case");
    assert_eq!(number(first, "/offered_records_per_s"), 200.0);
    for step in steps {
        let run = step.pointer("/report").expect("each step is a run");
        assert_nothing_wrong(run);
        // A machine that stood still may have reached nothing: that it is said is enough.
        assert!(number(step, "/achieved_records_per_s") >= 0.0);
        let curve = run.pointer("/publish/latency_us/curve");
        assert!(
            curve.is_some_and(|curve| !curve[0][0].is_null()),
            "{step:#}"
        );
    }
    // What a busy machine makes of the rates is not judged.
    let end = report.pointer("/end").and_then(|end| end.as_str());
    assert!(
        ["reached_highest", "found", "budget", "nothing_kept_up"].contains(&end.unwrap_or("none")),
        "{end:?}"
    );
}

#[test]
fn reports_become_a_page_with_their_labels_and_plots() {
    let dir = data_dir();
    let (run, page) = (dir.path().join("run.json"), dir.path().join("race.html"));
    let mut command = Command::new(load_generator());
    command
        .args(["--rate", "1000", "--duration", "500ms", "--shards", "1"])
        .args(["--label", "mine & <others>", "--data-dir"])
        .arg(dir.path())
        .arg("--report")
        .arg(&run);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(0), "{said}");
    let mut command = Command::new(load_generator());
    command.arg("report").arg(&run).arg("-o").arg(&page);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(0), "{said}");
    let html = std::fs::read_to_string(&page).expect("the page was written");
    assert!(html.contains("mine &amp; &lt;others&gt;"));
    assert_eq!(
        html.matches("<svg").count(),
        2,
        "publish and end-to-end latency"
    );
}

#[test]
fn what_is_no_report_makes_no_page() {
    let dir = data_dir();
    let (wrong, page) = (dir.path().join("wrong.json"), dir.path().join("race.html"));
    std::fs::write(&wrong, "{\"phases\": 5}").expect("it is written");
    let mut command = Command::new(load_generator());
    command.arg("report").arg(&wrong).arg("-o").arg(&page);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("wrong.json is no report"), "{said}");
    assert!(!page.exists());
}

#[test]
fn a_configuration_of_the_broker_is_checked_before_it_starts_and_reaches_it() {
    let dir = data_dir();
    let file = dir.path().join("gannet.toml");
    let run = |text: &str| {
        std::fs::write(&file, text).expect("the configuration is written");
        let mut command = Command::new(load_generator());
        command
            .args(["--rate", "100", "--duration", "1s", "--config"])
            .arg(&file)
            .arg("--data-dir")
            .arg(dir.path());
        let (status, said) = ends(command);
        (status.code(), said)
    };
    let (status, said) = run("[journal]\ncommit_interval = 1\n");
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("journal.commit_interval_us"), "{said}");
    assert!(!said.contains("starting a broker"), "{said}");
    // Only the broker itself can know that there is no such core.
    let (status, said) = run("[runtime]\ncores = [4095]\n");
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("runtime.cores"), "{said}");
    assert!(said.contains("starting a broker"), "{said}");
    let (status, said) = run("shards = 1\n[journal]\ncommit_interval_us = 0\n");
    assert_eq!(status, Some(0), "{said}");
}
