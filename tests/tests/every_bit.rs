//! Every bit and every sector of a small data directory that the product made: changed, each on its own, and the product started on it.
//!
//! Here every seventeenth bit of what matters is flipped, and every fifth damage done to a sector; `gannet-sim bits` does all. What a flip has to cost is decided place by place in
//! [`gannet_tests::bits`], where it is compared record by record; here it is only what the places are and which outcome each had.

use std::collections::BTreeSet;
use std::io::Write;

use gannet_tests::bits::Outcome::{
    Fenced, OlderOffset, Rebuilt, Refused, Salvaged, TailCut, Whole,
};
use gannet_tests::bits::{Moment, Outcome, Report, Strides, sweep, sweep_sectors, sweep_twins};

const STRIDES: Strides = Strides {
    vital: 17,
    last: 3,
    body: 1_201,
    filler: 30_011,
};

fn tell(moment: Moment, report: &Report) {
    let _ = writeln!(std::io::stdout(), "{moment:?}\n{report}");
}

/// Nothing was found, and each place had this outcome and no other.
fn assert_outcomes(report: &Report, expected: &[(&str, Outcome)]) {
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let found: BTreeSet<(&str, Outcome)> = report
        .counts
        .iter()
        .flat_map(|(what, outcomes)| outcomes.keys().map(|outcome| (&**what, *outcome)))
        .collect();
    assert_eq!(found, expected.iter().copied().collect());
}

/// What is the same whenever the power went.
const AT_REST: [(&str, Outcome); 16] = [
    ("catalogue: head", Whole),
    ("catalogue: record", Whole),
    ("checkpoint: head", Whole),
    ("checkpoint: record", Whole),
    ("commit that segments have", Whole),
    ("filler", Whole),
    ("index: body", Rebuilt),
    ("index: head", Rebuilt),
    ("journal header, first", Whole),
    ("journal header, second", Whole),
    ("own segment: batch, body", Fenced),
    ("own segment: batch, header", Fenced),
    ("own segment: header", Whole),
    ("shared segment: batch, body", Fenced),
    ("shared segment: batch, header", Fenced),
    ("shared segment: header", Whole),
];

/// Commits in the journal below a mark.
const PROVEN: [(&str, Outcome); 8] = [
    ("proven commit: batch, body", Fenced),
    ("proven commit: batch, header", Fenced),
    ("proven commit: committed offset", OlderOffset),
    ("proven commit: direct run", Fenced),
    ("proven commit: directory", Salvaged),
    ("proven commit: foot", Salvaged),
    ("proven commit: head", Salvaged),
    ("proven commit: second directory", Salvaged),
];

#[test]
fn a_bit_below_the_mark_costs_no_more_than_the_batch_it_is_in() {
    let report = sweep(Moment::Marked, STRIDES, 1, THREADS);
    tell(Moment::Marked, &report);
    // A checkpoint may have proven a mark as well, that of a change of journal files for one: then it is rot, of nothing.
    let marks = [
        ("mark: foot", Whole),
        ("mark: foot", Salvaged),
        ("mark: head", Whole),
        ("mark: head", Salvaged),
    ];
    assert_outcomes(&report, &[&AT_REST[..], &PROVEN, &marks].concat());
}

#[test]
fn a_bit_of_the_last_commits_before_their_mark_cuts_the_log_there_and_nothing_else() {
    let strides = Strides {
        vital: 1_009,
        ..STRIDES
    };
    let report = sweep(Moment::Unmarked, strides, 1, THREADS);
    tell(Moment::Unmarked, &report);
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let last: BTreeSet<(&str, Outcome)> = report
        .counts
        .iter()
        .filter_map(|(what, outcomes)| {
            let what = what.strip_prefix("last commit before its mark: ")?;
            Some(outcomes.keys().map(move |outcome| (what, *outcome)))
        })
        .flatten()
        .collect();
    let expected = [
        "head",
        "directory",
        "second directory",
        "foot",
        "batch, header",
        "batch, body",
        "committed offset",
    ];
    assert_eq!(last, expected.map(|what| (what, TailCut)).into());
}

#[test]
fn a_bit_after_a_clean_stop_costs_no_more_than_the_batch_it_is_in() {
    let report = sweep(Moment::Stopped, STRIDES, 1, THREADS);
    tell(Moment::Stopped, &report);
    assert_outcomes(&report, &AT_REST);
}

#[test]
fn a_bit_costs_no_more_when_the_start_moves_the_data_to_other_shards() {
    let strides = Strides {
        vital: 211,
        body: 9_001,
        filler: 300_007,
        ..STRIDES
    };
    for moment in [Moment::Marked, Moment::Stopped] {
        let report = sweep(moment, strides, 2, THREADS);
        tell(moment, &report);
        assert!(report.damages() > 100, "{} damages", report.damages());
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }
}

#[test]
fn the_same_bit_in_both_copies_of_a_record_refuses_to_start_with_a_sentence() {
    for moment in Moment::ALL {
        let report = sweep_twins(moment, 61);
        tell(moment, &report);
        let expected = [
            ("catalogue, both copies", Refused),
            ("checkpoint, both copies", Refused),
        ];
        assert_outcomes(&report, &expected);
    }
}

/// Zeros, noise, what stands elsewhere, unreadable: none of it costs more than what the changed bytes are.
#[test]
fn a_sector_costs_no_more_than_what_stands_in_it() {
    for moment in Moment::ALL {
        let report = sweep_sectors(moment, 5, 1, THREADS);
        tell(moment, &report);
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        let met: BTreeSet<Outcome> = report
            .counts
            .values()
            .flat_map(|outcomes| outcomes.keys().copied())
            .collect();
        let expected = match moment {
            Moment::Marked => vec![Whole, Salvaged, Rebuilt, Fenced, OlderOffset],
            Moment::Unmarked => vec![Whole, Salvaged, Rebuilt, Fenced, TailCut],
            Moment::Stopped => vec![Whole, Salvaged, Rebuilt, Fenced],
        };
        assert_eq!(met, expected.into_iter().collect(), "{moment:?}");
    }
}

#[test]
fn a_sector_costs_no_more_when_the_start_moves_the_data_to_other_shards() {
    for moment in [Moment::Marked, Moment::Stopped] {
        let report = sweep_sectors(moment, 41, 2, THREADS);
        tell(moment, &report);
        assert!(report.damages() > 100, "{} damages", report.damages());
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }
}

const THREADS: u64 = 2;
