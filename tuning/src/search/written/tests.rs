use std::path::{Path, PathBuf};
use std::time::Duration;

use gannet_engine::control::config::Auto;
use gannet_engine::control::{Config, Machine};
use gannet_loadgen::report::Durability;
use proptest::prelude::*;

use super::*;
use crate::search::descent::{Choice, Descent, Guesses, Verdict};
use crate::search::figures::{Figures, Latencies};
use crate::search::found::{Place, TrialMade};
use crate::search::knobs;
use crate::search::space::{Point, Space};
use crate::search::workload::Workload;

const GOAL: &str = "p99 < 2ms at 1 MB/s";

fn machine() -> Machine {
    Machine {
        cores: vec![0, 1],
        memory_bytes: 16 << 30,
        descriptors_max: 1 << 20,
    }
}

fn figures(p99: f64) -> Figures {
    Figures {
        offered_records_per_s: Some(1010),
        seconds: 1.0,
        records_per_s: 1009.0,
        mb_per_s: 1.009,
        publish_us: Latencies {
            p50: p99 / 3.0,
            p99,
            max: 2.0 * p99,
            ..Latencies::default()
        },
        end_to_end_us: Latencies::default(),
        broker_cpu_cores: None,
        broker_rss_bytes: None,
        sent_late_p99_us: 0.0,
        ended_early: false,
        command: String::new(),
    }
}

/// A search whose machine costs what `cost` says.
fn found(seed: u64, cost: impl Fn(&Space, &Point) -> Measured) -> Found {
    let goal: Goal = GOAL.parse().unwrap();
    let space = knobs::space(&goal, &machine(), 1000);
    let second = Duration::from_secs(1);
    let guesses = Guesses {
        short: second,
        long: second,
        last: second,
    };
    let mut descent = Descent::new(space.clone(), seed, guesses);
    let mut trials = Vec::new();
    while let Some(trial) =
        descent.poll(Duration::from_secs(1000).saturating_sub(second * trials.len() as u32))
    {
        let measured = cost(&space, &trial.point);
        trials.push(TrialMade {
            at_s: trials.len() as f64,
            point: trial.point,
            against: descent.incumbent().clone(),
            rung: trial.rung,
            measured,
            default_cost: Some(1500.0),
            figures: cost_of(measured).map(figures),
            runs: 1,
            refused: (measured == Measured::Refused).then(|| "the disk\nis \u{7}full".to_owned()),
            capped: None,
        });
        descent.handle(measured, second);
    }
    Found {
        goal,
        workload: Workload {
            producers: 1,
            consumers: 1,
            partitions: 2,
            record_bytes: 1000,
            durability: Durability::Durable,
        },
        place: Place {
            cores: 2,
            memory_bytes: 16 << 30,
            kernel: "6.1.0".to_owned(),
            filesystem: "ext4".to_owned(),
            directory: PathBuf::from("/var/tmp"),
        },
        date: "2026-01-02T03:04:05Z".to_owned(),
        budget_s: 1000.0,
        took_s: 900.0,
        interrupted: false,
        seed,
        choice: descent.choice(),
        spread: descent.history().spread(),
        decisions: descent.decisions().to_vec(),
        space,
        trials,
        failures: Vec::new(),
    }
}

fn value<'a>(space: &'a Space, point: &'a Point, name: &str) -> &'a str {
    let mut settings = space.settings(point);
    settings.find(|(of, _)| *of == name).unwrap().1
}

/// Waiting less and two shards are better; the rest does nothing.
fn planted(space: &Space, point: &Point) -> Measured {
    let mut cost = 1500.0;
    if value(space, point, "journal.commit_interval_us") == "0" {
        cost *= 0.8;
    }
    if value(space, point, "shards") == "2" {
        cost *= 0.9;
    }
    if value(space, point, "runtime.busy_poll_us") == "1000" {
        return Measured::Refused;
    }
    if value(space, point, "client.linger_us") != "0" {
        return Measured::AtLeast(3000.0);
    }
    Measured::Cost(cost)
}

fn config(found: &Found) -> Config {
    let text = found.to_toml();
    let config = Config::from_toml(Path::new("gannet.toml"), &text)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    config.budgets(&machine()).unwrap();
    config
}

#[test]
fn the_file_is_a_configuration_with_what_was_found() {
    let config = config(&found(1, planted));
    assert_eq!(config.shards, Auto::Fixed(2));
    assert_eq!(config.journal.commit_interval_us, 0);
    assert_eq!(config.storage, Config::default().storage);
}

#[test]
fn every_value_says_what_was_measured_for_it_and_for_the_others() {
    let text = found(1, planted).to_toml();
    let joined = text.replace("\n# ", " ");
    for words in [
        "0 instead of 500: ",
        "250: 1.50 ms, the defaults beside it 1.50 ms (",
        "client.linger_us = 0",
        "100: hopeless, beyond 3.00 ms or so",
        "1000: refused (the disk is full)",
        "2 instead of \"auto\"",
    ] {
        assert!(joined.contains(words), "{words:?} is missing in\n{text}");
    }
    for (name, _) in found(1, planted)
        .space
        .settings(&found(1, planted).choice.point)
    {
        let name = name.rsplit('.').next().unwrap();
        assert!(
            text.contains(&format!("{name} = ")),
            "{name} is missing in\n{text}"
        );
    }
}

#[test]
fn a_value_that_was_not_tried_says_why() {
    let whole = found(1, planted);
    let last = whole.space.knobs().last().unwrap().name;
    let last = format!("{} = ", last.rsplit('.').next().unwrap());
    let text = whole.to_toml().replace("\n# ", " ");
    assert!(
        text.contains("Not tried, as what lies nearer was no better: "),
        "{text}"
    );
    assert!(!text.contains("did not reach"), "{text}");
    let reached = |found: &Found| {
        let text = found.to_toml().replace("\n# ", " ");
        let untried = |why: &str| text.matches(&format!("Not tried, as {why}: ")).count();
        assert!(text.contains(&last), "{text}");
        let nearer = "what lies nearer was no better";
        [
            untried("the budget did not reach it"),
            untried(&format!("{nearer} or the budget was over")),
            untried("the search was ended before"),
            untried(&format!("{nearer} or the search was ended before")),
        ]
    };
    // Nothing but the default and one value of the first knob.
    let mut short = found(1, planted);
    let first = short
        .trials
        .iter()
        .position(|made| made.point != short.space.default_point());
    short.trials.truncate(first.unwrap() + 1);
    let [unreached, left, ..] = reached(&short);
    assert!(unreached > 10, "{}", short.to_toml());
    // Of the first knob itself it cannot be told.
    assert_eq!(left, 1, "{}", short.to_toml());
    assert_eq!(reached(&short), [unreached, left, 0, 0]);
    short.interrupted = true;
    assert_eq!(reached(&short), [0, 0, unreached, left]);
}

#[test]
fn a_value_that_had_no_room_for_more_says_so() {
    let mut found = found(1, planted);
    for trial in &mut found.trials {
        trial.capped = Some("2000/s was not tried: the disk is full".to_owned());
    }
    let text = found.to_toml().replace("\n# ", " ");
    let words = "; 2000/s was not tried: the disk is full)";
    assert!(text.contains(words), "{text}");
}

#[test]
fn the_head_says_goal_machine_date_and_whether_it_was_reached() {
    let text = found(1, planted).to_toml().replace("\n# ", " ");
    for words in [
        "Goal: publish p99 < 2 ms at 1 MB/s",
        "Reached: yes, in all of 3 trial(s): publish p99 1.08 ms",
        "Defaults: publish p99 1.50 ms",
        "2026-01-02T03:04:05Z",
        "2 core(s), 16.0 GiB of memory, Linux 6.1.0, ext4",
        "1 producer(s)",
        "seed 1",
    ] {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
}

#[test]
fn a_goal_that_one_trial_missed_is_not_reached() {
    let mut found = found(1, planted);
    let last = found
        .trials
        .iter_mut()
        .rev()
        .find(|made| made.point == found.choice.point);
    last.unwrap().figures = Some(figures(2000.0));
    assert_eq!(found.reached(), Some(false));
    assert!(
        found
            .to_toml()
            .contains("Reached: NO, only in 2 of 3 trial(s)")
    );
}

#[test]
fn a_failure_is_in_the_file_and_warns_of_it() {
    let mut found = found(1, planted);
    found
        .failures
        .push("3 acknowledged record(s)\nnever came out".to_owned());
    let text = found.to_toml();
    assert!(text.contains("# DO NOT USE"), "{text}");
    assert!(
        text.contains("# - 3 acknowledged record(s) never came out"),
        "{text}"
    );
    config(&found);
}

#[test]
fn a_search_without_time_writes_the_defaults_and_says_that_nothing_was_measured() {
    let mut found = found(1, planted);
    found.trials.clear();
    found.decisions.clear();
    found.choice = Choice {
        point: found.space.default_point(),
        verdict: Verdict::NothingBetter,
    };
    assert_eq!(found.reached(), None);
    assert!(found.to_toml().contains("unknown: nothing was measured"));
    let (config, default) = (config(&found), Config::default());
    assert_eq!(
        (config.shards, config.journal),
        (default.shards, default.journal)
    );
}

#[test]
fn the_page_shows_every_trial_the_end_and_each_knob_that_was_tried() {
    let page = found(1, planted).to_page().unwrap();
    for words in [
        "Every trial",
        "Defaults and choice",
        "journal.commit_interval_us",
        "runtime.cores",
    ] {
        assert!(page.contains(words), "{words:?} is missing");
    }
    // Only hopeless: nothing to draw.
    assert!(!page.contains(">client.linger_us<"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_search_comes_to_the_broker_takes_its_file(seed in any::<u64>()) {
        // A cost of its own for each configuration, some of which there are not.
        let found = found(seed, |space, point| {
            let text = format!("{seed}{:?}", space.settings(point).collect::<Vec<_>>());
            let hash = text.bytes().fold(seed | 1, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
            let valid = Config::from_toml(Path::new("gannet.toml"), &knobs::broker_toml(space, point))
                .and_then(|config| config.budgets(&machine()));
            match hash % 7 {
                _ if valid.is_err() => Measured::Refused,
                0 => Measured::AtLeast(4000.0),
                _ => Measured::Cost(500.0 + (hash >> 40) as f64 / 1e4),
            }
        });
        config(&found);
        let explained = crate::explain::explain_text(Path::new("gannet.toml"), &found.to_toml(), false);
        prop_assert!(explained.is_ok());
        prop_assert!(serde_json::to_string(&found.to_report()).is_ok());
        prop_assert!(found.to_page().is_ok());
    }
}
