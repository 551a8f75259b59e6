//! `gannet-tune` measures, searches and explains. How good what it finds is, no test here asks.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gannet_tests::{
    RunningCommand, Server, TestUser, connect, data_dir, ends, prints, serve, tuner,
};
use rustix::process::Signal;
use serde_json::Value;

/// Nothing was found.
const NOTHING: i32 = 2;

fn search(dir: &Path, goal: &str, budget: &str) -> Command {
    search_on(dir, goal, budget, dir)
}

/// With the brokers' data somewhere else than the files.
fn search_on(dir: &Path, goal: &str, budget: &str, data: &Path) -> Command {
    let mut command = Command::new(tuner());
    command
        .args(["search", "--goal", goal, "--budget", budget, "--seed", "5"])
        .arg("--output")
        .arg(dir.join("gannet.toml"))
        .arg("--report")
        .arg(dir.join("trials.json"))
        .arg("--data-dir")
        .arg(data);
    command
}

fn files_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("the directory is there");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

fn report(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("trials.json")).expect("the report was written");
    serde_json::from_str(&text).expect("the report is JSON")
}

/// That a broker serves with the file, and that it can be explained.
fn assert_usable(dir: &Path) {
    let file = dir.join("gannet.toml");
    let data = data_dir();
    let mut command = serve(data.path(), 1);
    command.arg("--config").arg(&file);
    let server = Server::run(command);
    let _ = connect(server.address());
    assert!(server.stop().success());
    let mut explain = Command::new(tuner());
    explain.arg("explain").arg(&file);
    let output = prints(explain);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("journal.commit_interval_us = "), "{text}");
}

const FILES: [&str; 3] = ["gannet.html", "gannet.toml", "trials.json"];

/// What a search is given that is to try more than the defaults, in seconds: many short trials. Other tests run meanwhile.
const BUDGET_S: f64 = 30.0;
/// The short trials with which it begins, of the defaults; the next one is of something else.
const DEFAULTS_FIRST: usize = 3;
/// Within so many budgets a search has ended: writing its files comes behind them, and on a busy machine takes its time.
const BUDGETS_MAX: f64 = 2.0;

fn number(report: &Value, name: &str) -> f64 {
    let number = report[name].as_f64();
    number.unwrap_or_else(|| panic!("{name} is no number: {report:#}"))
}

#[test]
fn a_search_ends_with_its_budget_and_leaves_a_configuration_that_a_broker_takes() {
    let dir = data_dir();
    let output = prints(search(
        dir.path(),
        "end to end p99 < 1s at 1 MB/s",
        &format!("{BUDGET_S}s"),
    ));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(files_in(dir.path()), FILES);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in ["goal ", "reached ", "defaults ", "gannet.toml"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert!(said.contains("trial 1, "), "there was no progress: {said}");

    let report = report(dir.path());
    assert_eq!(report["interrupted"], Value::Bool(false));
    assert_eq!(report["failures"], Value::Array(Vec::new()));
    let text =
        std::fs::read_to_string(dir.path().join("gannet.toml")).expect("the file was written");
    for words in [
        "# Goal: ",
        "# Reached: ",
        "# Defaults: ",
        "# Machine: ",
        "seed 5",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let (took_s, budget_s) = (number(&report, "took_s"), number(&report, "budget_s"));
    assert_eq!(budget_s, BUDGET_S);
    let most_s = BUDGETS_MAX * budget_s;
    assert!(took_s > 0.0 && took_s <= most_s, "{took_s} s");
    let trials = report["trials"].as_array().expect("trials are a list");
    assert!(!trials.is_empty(), "nothing was tried: {report:#}");
    // A machine that was too busy for more says of every value that it was not tried.
    let short = trials.iter().filter(|trial| trial["rung"] == "short");
    if short.count() > DEFAULTS_FIRST {
        let changed = trials
            .iter()
            .any(|trial| trial["settings"] != Value::Object(serde_json::Map::new()));
        assert!(changed, "only the defaults were tried: {report:#}");
        // Each value says what was measured for it, or that nothing was.
        assert!(text.contains("Tried: "), "{text}");
    }
    assert!(text.contains("Not tried, as"), "{text}");
    let page =
        std::fs::read_to_string(dir.path().join("gannet.html")).expect("the page was written");
    assert!(page.contains("<svg"), "{page}");
    assert_usable(dir.path());
}

#[test]
fn a_search_that_is_interrupted_ends_with_the_best_so_far() {
    for goal in [
        "p99 < 1s at 1 MB/s",
        "max throughput with end to end p99 < 5s",
    ] {
        let dir = data_dir();
        let mut running = RunningCommand::run(search(dir.path(), goal, "1h"));
        running.await_line("trial 2, ");
        running.signal(Signal::INT);
        let (status, printed, said) = running.ended();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(printed.contains("written to "), "{printed}");
        assert_eq!(files_in(dir.path()), FILES);
        let report = report(dir.path());
        assert_eq!(report["interrupted"], Value::Bool(true));
        // The one that was under way says nothing.
        let trials = report["trials"].as_array().expect("trials are a list");
        let [first] = &trials[..] else {
            panic!("one trial: {report:#}");
        };
        assert_eq!(first["settings"], Value::Object(serde_json::Map::new()));
        for measured in ["/cost", "/figures/records_per_s", "/figures/publish_us/p99"] {
            let measured = first.pointer(measured).and_then(Value::as_f64);
            assert!(measured.is_some_and(|measured| measured > 0.0), "{first:#}");
        }
        assert_usable(dir.path());
    }
}

#[test]
fn a_file_that_is_there_is_kept_and_no_broker_is_started() {
    let dir = data_dir();
    std::fs::write(dir.path().join("gannet.toml"), "# mine\n").expect("it can be written");
    let (status, said) = ends(search(dir.path(), "p99 < 1s at 1 MB/s", "1h"));
    assert_eq!(status.code(), Some(NOTHING), "{said}");
    assert!(said.contains("--force"), "{said}");
    assert!(!said.contains("trial"), "{said}");
    let kept = std::fs::read_to_string(dir.path().join("gannet.toml"));
    assert_eq!(kept.expect("it is there"), "# mine\n");
}

#[test]
fn what_makes_no_search_is_said_before_anything_is_tried() {
    for (goal, budget, data, words) in [
        ("quickly", "1h", None, "p99 < 2ms at 100 MB/s"),
        ("p99 < 1s at 1 MB/s", "1s", None, "a search needs 5 s"),
        (
            "p99 < 1s at 1 MB/s",
            "1h",
            Some("/dev/shm"),
            "/dev/shm is tmpfs",
        ),
        (
            "p99 < 1s at 1 MB/s",
            "1h",
            Some("/nonexistent"),
            "make it first",
        ),
    ] {
        let dir = data_dir();
        let data = data.map_or(dir.path(), Path::new);
        let command = search_on(dir.path(), goal, budget, data);
        let (status, said) = ends(command);
        assert_eq!(status.code(), Some(NOTHING), "{said}");
        assert!(said.contains(words), "{words}: {said}");
        assert!(!said.contains("trial"), "{said}");
        assert!(files_in(dir.path()).is_empty(), "{goal}");
    }
}

#[test]
fn a_default_that_cannot_be_measured_is_no_result() {
    let dir = data_dir();
    let mut command = search(dir.path(), "p99 < 1s at 1 MB/s", "20s");
    command.args(["--record-size", "2MiB"]);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(NOTHING), "{said}");
    assert!(
        said.contains("the default configuration cannot be measured"),
        "{said}"
    );
    assert!(files_in(dir.path()).is_empty());
}

/// Each line of the table that a probe prints.
const PROBED: [&str; 23] = [
    "kernel ",
    "cores ",
    "siblings ",
    "NUMA nodes ",
    "spinning thread ",
    "stolen ",
    "CPU quota ",
    "interrupts ",
    "memory ",
    "locked memory ",
    "priority ",
    "descriptors ",
    "io_uring ",
    "frequency ",
    "data directory ",
    "mount ",
    "device ",
    "synced write ",
    "sequential write ",
    "sequential read ",
    "synced sequential ",
    "loopback TCP ",
    "loopback stream ",
];

fn assert_probed(printed: &str) {
    for line in PROBED {
        assert!(
            printed.lines().any(|printed| printed.starts_with(line)),
            "{line}: {printed}"
        );
    }
    // Three lengths at three depths.
    for length in ["4.0 KiB", "64.0 KiB", "1.0 MiB"] {
        let rows = printed
            .lines()
            .filter(|row| row.trim_start().starts_with(length));
        assert_eq!(rows.count(), 3, "{length}: {printed}");
    }
    assert!(
        printed.contains("- A durable publish over loopback takes at least"),
        "{printed}"
    );
    assert!(printed.contains("- This process may lock "), "{printed}");
}

#[test]
fn a_probe_looks_at_everything_and_leaves_nothing() {
    let dir = data_dir();
    let mut command = Command::new(tuner());
    command
        .args(["probe", "--seconds", "1", "--data-dir"])
        .arg(dir.path());
    let output = prints(command);
    assert!(output.status.success(), "{output:?}");
    assert_probed(&String::from_utf8_lossy(&output.stdout));
    // It says what takes its time, beside the table.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in ["measuring large synced writes", "measuring loopback TCP"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(files_in(dir.path()).is_empty());
}

#[test]
fn a_probe_needs_no_root() {
    let Some(user) = TestUser::new() else { return };
    let mut command = user.run(&tuner());
    command
        .args(["probe", "--seconds", "1", "--data-dir"])
        .arg(user.home());
    let output = prints(command);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_probed(&printed);
    assert!(printed.contains("locked memory     8.0 MiB"), "{printed}");
}

/// Files of the kernel that say how the machine is set, with their contents: those that can be written, since the others only count what happens.
fn settings_of_the_machine() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut settings = BTreeMap::new();
    let mut directories = vec![PathBuf::from("/proc/sys")];
    let devices = entries_of(Path::new("/sys/block")).filter(|device| !comes_and_goes(device));
    directories.extend(devices.map(|device| device.join("queue")));
    while let Some(directory) = directories.pop() {
        for path in entries_of(&directory) {
            let Ok(metadata) = std::fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                directories.push(path);
            } else if metadata.is_file()
                && metadata.permissions().mode() & 0o600 == 0o600
                && !COUNTING.iter().any(|name| path.ends_with(name))
                && let Ok(contents) = std::fs::read(&path)
            {
                settings.insert(path, contents);
            }
        }
    }
    let mut each_has = vec![("/sys/devices/system/cpu", "cpufreq/scaling_governor")];
    if !moves_interrupts() {
        each_has.push(("/proc/irq", "smp_affinity"));
    }
    for (directory, name) in each_has {
        for path in entries_of(Path::new(directory)).map(|entry| entry.join(name)) {
            if let Ok(contents) = std::fs::read(&path) {
                settings.insert(path, contents);
            }
        }
    }
    settings
}

fn entries_of(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.flatten().map(|entry| entry.path())
}

/// Devices that anybody may attach meanwhile, the other tests too, which sets them anew.
fn comes_and_goes(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    ["loop", "zram", "dm-"]
        .iter()
        .any(|kind| name.starts_with(kind))
}

/// Whether a daemon runs here that gives interrupts to other cores when it likes.
fn moves_interrupts() -> bool {
    entries_of(Path::new("/proc"))
        .filter_map(|process| std::fs::read(process.join("comm")).ok())
        .any(|name| name.starts_with(b"irqbalance"))
}

/// What can be written and changes all the same by itself, or does something when it is read.
const COUNTING: [&str; 6] = [
    "kernel/hung_task_warnings",
    "kernel/ns_last_pid",
    "kernel/perf_event_max_sample_rate",
    "kernel/tainted",
    "net/ipv4/tcp_fastopen_key",
    "vm/stat_refresh",
];

fn assert_unchanged(before: &BTreeMap<PathBuf, Vec<u8>>) {
    let after = settings_of_the_machine();
    for (path, contents) in before {
        // A device may have gone meanwhile.
        if let Some(now) = after.get(path) {
            assert_eq!(
                String::from_utf8_lossy(now),
                String::from_utf8_lossy(contents),
                "{} was changed",
                path.display()
            );
        }
    }
    assert!(after.contains_key(Path::new("/proc/sys/vm/swappiness")));
}

#[test]
fn neither_a_probe_nor_a_search_changes_how_the_machine_is_set() {
    let before = settings_of_the_machine();
    assert!(before.len() > 100, "{} settings", before.len());
    let dir = data_dir();
    let mut probe = Command::new(tuner());
    probe
        .args(["probe", "--seconds", "1", "--data-dir"])
        .arg(dir.path());
    let (status, said) = ends(probe);
    assert!(status.success(), "{said}");
    let (status, said) = ends(search(dir.path(), "max throughput", "8s"));
    assert_eq!(status.code(), Some(0), "{said}");
    assert_unchanged(&before);
}

#[test]
fn a_key_that_does_not_exist_is_not_explained() {
    let dir = data_dir();
    let file = dir.path().join("gannet.toml");
    std::fs::write(&file, "[journal]\ncommit_interval = 7\n").expect("it can be written");
    let mut command = Command::new(tuner());
    command.arg("explain").arg(&file);
    let (status, said) = ends(command);
    assert_eq!(status.code(), Some(NOTHING), "{said}");
    assert!(said.contains("journal.commit_interval_us"), "{said}");
}
