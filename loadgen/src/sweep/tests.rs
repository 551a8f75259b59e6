use clap::Parser;

use super::*;
use crate::latency::LatencySummary;
use crate::options::{Command, CommandLine};
use crate::report::{EndToEndReport, FlowReport, GroupReport, PublishReport};
use search::Verdict;

fn options(arguments: &[&str]) -> SweepOptions {
    let line = [&["gannet-loadgen", "sweep"], arguments].concat();
    match CommandLine::try_parse_from(line).unwrap().command {
        Some(Command::Sweep(options)) => *options,
        other => panic!("{other:?} is no sweep"),
    }
}

fn phase(published_per_s: f64, delivered_per_s: f64, p99s: [f64; 2]) -> PhaseReport {
    let flow = |records_per_s: f64| FlowReport {
        records: records_per_s as u64,
        records_per_s,
        mb_per_s: 0.0,
    };
    let latency_us = |p99| LatencySummary {
        count: 1,
        p99,
        ..LatencySummary::default()
    };
    PhaseReport {
        publish: PublishReport {
            flow: flow(published_per_s),
            latency_us: latency_us(p99s[0]),
            durability: None,
        },
        consume: flow(delivered_per_s),
        end_to_end: EndToEndReport {
            latency_us: latency_us(p99s[1]),
        },
        ..PhaseReport::default()
    }
}

fn step_of(offered: u64, phase: PhaseReport) -> (Load, Report) {
    let load = load(offered, &phase);
    let report = Report {
        last: phase,
        passed: true,
        ..Report::default()
    };
    (load, report)
}

fn report_of(steps: Vec<(Load, Report)>, end: End) -> SweepReport {
    let goal = Goal {
        tries: 1,
        ..goal(&options(&[]))
    };
    let mut search = Search::new(goal);
    for (load, _) in &steps {
        search.take(*load);
    }
    report(
        &goal,
        &search,
        steps,
        end,
        Duration::from_secs(9),
        Vec::new(),
    )
}

#[test]
fn the_slower_side_counts() {
    assert_eq!(
        load(100, &phase(100.0, 90.0, [5.0, 7.0])),
        Load {
            offered: 100,
            achieved: 90.0,
            p99_us: 7.0
        }
    );
    assert_eq!(
        load(100, &phase(100.0, 0.0, [5.0, 0.0])),
        Load {
            offered: 100,
            achieved: 100.0,
            p99_us: 5.0
        }
    );
}

#[test]
fn each_group_of_consumers_must_keep_up_with_the_whole_rate() {
    let fanned = PhaseReport {
        groups: vec![GroupReport::default(); 2],
        ..phase(100.0, 200.0, [5.0, 7.0])
    };
    assert_eq!(load(100, &fanned).achieved, 100.0);
}

#[test]
fn what_a_sweep_decides_itself_is_refused() {
    for flag in [&["--rate", "5"][..], &["--kill"], &["--limits"]] {
        let error = step_options(&options(flag).run).unwrap_err().to_string();
        assert!(error.contains(flag[0]), "{error}");
    }
}

#[test]
fn a_step_is_a_run_at_its_rate_that_does_not_wait_for_ever() {
    let run = step_options(&options(&["--duration", "2s"]).run).unwrap();
    let plan = step(&run, 700).unwrap();
    let [phase] = &plan.phases[..] else {
        panic!("{:?}", plan.phases)
    };
    assert_eq!(phase.rate, Rate::PerSecond(700));
    assert_eq!(
        (phase.duration, phase.overrun_max),
        (Duration::from_secs(2), Some(Duration::from_secs(2)))
    );
    assert!(!plan.kill);
}

#[test]
fn the_report_names_the_knee_and_how_the_next_rate_failed() {
    let limited = PhaseReport {
        limited_by_generator: Some("it was asleep".to_owned()),
        ..phase(1_050.0, 0.0, [9_000.0, 0.0])
    };
    let steps = vec![
        step_of(1_000, phase(1_000.0, 0.0, [500.0, 0.0])),
        step_of(1_050, phase(1_050.0, 0.0, [700.0, 0.0])),
        step_of(1_100, limited),
    ];
    let report = report_of(steps, End::Found);
    let knee = report.knee.as_ref().unwrap();
    assert_eq!(
        (knee.records_per_s, knee.too_high_records_per_s),
        (1_050, 1_100)
    );
    assert_eq!(
        (knee.p99_us, knee.verdict),
        (700.0, Some(Verdict::FellBehind))
    );
    let text = render(&report);
    for words in [
        "knee: 1,050 records/s",
        "1,100 were not reached",
        "it was asleep",
        "passed",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

#[test]
fn a_step_that_lost_something_fails_the_sweep_by_its_rate() {
    let (load, mut step) = step_of(1_000, phase(1_000.0, 0.0, [500.0, 0.0]));
    step.fail(vec!["3 record(s) never came out".to_owned()]);
    let report = report_of(vec![(load, step)], End::Failed);
    assert!(!report.passed);
    assert_eq!(
        report.failures,
        ["at 1,000 records/s: 3 record(s) never came out"]
    );
    assert!(render(&report).contains("no knee was found"));
}
