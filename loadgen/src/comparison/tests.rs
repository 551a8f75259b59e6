use roxmltree::{Document, ParsingOptions};

use super::*;
use crate::latency::LatencyHistogram;
use crate::report::{Durability, FlowReport, PhaseReport, Report};
use crate::sweep::report::{Knee, SweepReport, SweepStep};
use crate::sweep::search::{End, Verdict};

fn phase(rate: Option<u64>, records_per_s: f64, us: u64) -> PhaseReport {
    let mut histogram = LatencyHistogram::default();
    for more in 0..1000 {
        histogram.record((us + more) * 1000);
    }
    let mut phase = PhaseReport {
        name: "saturated".to_owned(),
        rate,
        ..PhaseReport::default()
    };
    phase.publish.flow = FlowReport::new(records_per_s as u64, 1000, 1.0);
    phase.publish.latency_us = histogram.summary();
    phase.publish.durability = Some(Durability::Durable);
    phase
}

fn run(file: &str, label: &str, phase: PhaseReport) -> Source {
    Source {
        file: file.to_owned(),
        content: Content::Run(Box::new(Report {
            label: label.to_owned(),
            phases: vec![phase.clone()],
            last: phase,
            passed: true,
            ..Report::default()
        })),
    }
}

fn sweep(file: &str, label: &str) -> Source {
    let step = |rate: u64, us: u64, verdict| SweepStep {
        offered_records_per_s: rate,
        achieved_records_per_s: rate as f64,
        p99_us: us as f64,
        verdict: Some(verdict),
        report: Report {
            last: phase(Some(rate), rate as f64, us),
            ..Report::default()
        },
    };
    Source {
        file: file.to_owned(),
        content: Content::Sweep(Box::new(SweepReport {
            label: label.to_owned(),
            sweep: vec![
                step(1_000, 500, Verdict::KeptUp),
                step(4_000, 90_000, Verdict::Slow),
                step(2_000, 700, Verdict::KeptUp),
                step(4_000, 80_000, Verdict::Slow),
            ],
            knee: Some(Knee {
                records_per_s: 2_000,
                too_high_records_per_s: 4_000,
                verdict: Some(Verdict::Slow),
                limited_by_generator: Some("it slept at the knee".to_owned()),
                ..Knee::default()
            }),
            end: Some(End::Found),
            passed: true,
            ..SweepReport::default()
        })),
    }
}

/// All texts of the page, of its plots too.
fn texts(sources: &[Source]) -> Vec<String> {
    let html = page("Race", sources).unwrap().html();
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(&html, options).unwrap();
    let texts = document.descendants().filter(|node| node.is_text());
    texts
        .filter_map(|node| node.text())
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect()
}

fn assert_says(texts: &[String], words: &[&str]) {
    for word in words {
        assert!(
            texts.iter().any(|text| text.contains(word)),
            "{word} is not among {texts:#?}"
        );
    }
}

#[test]
fn every_run_is_in_the_table_with_its_durability_driver_label_and_file() {
    let texts = texts(&[
        run("a.json", "gannet", phase(None, 200_000.0, 900)),
        run("b.json", "kafka", phase(None, 30_000.0, 9_000)),
    ]);
    assert_says(
        &texts,
        &[
            "a.json",
            "b.json",
            "gannet",
            "kafka",
            "durable",
            "native",
            "200,000",
            "30,000",
            "as fast as it goes",
            "passed",
        ],
    );
}

#[test]
fn a_figure_that_the_generator_limited_has_the_reason_beside_it() {
    let limited = PhaseReport {
        limited_by_generator: Some("it was asleep".to_owned()),
        ..phase(None, 5.0, 1)
    };
    let texts = texts(&[run("a.json", "gannet", limited)]);
    assert_says(
        &texts,
        &[
            "limited by the generator: it was asleep",
            "gannet: limited by the generator: it was asleep",
        ],
    );
}

#[test]
fn runs_that_did_the_same_are_rounds_of_one_bar() {
    let texts = texts(&[
        run("1.json", "gannet", phase(None, 100_000.0, 900)),
        run("2.json", "gannet", phase(None, 120_000.0, 800)),
        run("3.json", "gannet", phase(None, 110_000.0, 700)),
    ]);
    assert_says(
        &texts,
        &["110,000   (100,000 to 120,000)", "Up to 3 rounds"],
    );
}

#[test]
fn one_label_with_two_durabilities_gets_two_names() {
    let mut accepted = phase(None, 300_000.0, 90);
    accepted.publish.durability = Some(Durability::Accepted);
    let texts = texts(&[
        run("a.json", "gannet", phase(None, 200_000.0, 900)),
        run("b.json", "gannet", accepted),
    ]);
    assert_says(&texts, &["gannet, durable", "gannet, accepted"]);
}

#[test]
fn a_run_of_a_version_without_curves_has_its_few_percentiles_drawn() {
    let mut old = phase(Some(1_000), 1_000.0, 400);
    old.publish.latency_us.curve.clear();
    let curve = entries::curve("old", &old.publish.latency_us);
    assert_eq!(curve.curve.len(), 4);
    assert_says(&texts(&[run("old.json", "", old)]), &["p99.9", "native"]);
}

#[test]
fn sweeps_are_drawn_alone_and_beside_each_other_with_their_knees() {
    let texts = texts(&[sweep("a.json", "gannet"), sweep("b.json", "kafka")]);
    assert_says(
        &texts,
        &[
            "gannet p99, knee at 2,000",
            "kafka p99, knee at 2,000",
            "gannet p50",
            "gannet p99.9",
            "knee 2,000",
            "2,000 records/s were kept up with",
            "it slept at the knee",
            "kept up",
            "slow",
        ],
    );
}

#[test]
fn the_page_is_written_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (path, missing) = (
        directory.path().join("race.html"),
        directory.path().join("no/race.html"),
    );
    std::fs::write(&path, "before").unwrap();
    write_whole(&path, "after").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "after");
    assert!(write_whole(&missing, "x").is_err());
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_file_that_is_no_report_leaves_the_page_that_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let (wrong, output) = (
        directory.path().join("wrong.json"),
        directory.path().join("race.html"),
    );
    std::fs::write(&wrong, "{}").unwrap();
    std::fs::write(&output, "before").unwrap();
    let options = CompareOptions {
        files: vec![wrong],
        output: output.clone(),
        title: "Race".to_owned(),
    };
    let error = compare(&options).unwrap_err().to_string();
    assert!(error.contains("wrong.json is no report"), "{error}");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "before");
}
