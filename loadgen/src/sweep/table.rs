//! A sweep as a table for people.

use std::fmt::Write;

use super::report::{SweepReport, SweepStep};
use super::search::{End, Verdict};
use crate::units::{grouped, micros};

/// The whole sweep.
#[must_use]
pub fn render(report: &SweepReport) -> String {
    let mut text = String::new();
    write_report(&mut text, report).expect("writing to a string does not fail");
    text
}

fn write_report(text: &mut String, report: &SweepReport) -> std::fmt::Result {
    writeln!(
        text,
        "\n{}: {:.0} s, low load p99 {}; a rate is too high below {:.0} % of it or above a p99 of {}",
        report.label,
        report.seconds,
        micros(report.low_load_p99_us),
        report.kept_up_min * 100.0,
        micros(report.low_load_p99_us * report.p99_times),
    )?;
    writeln!(
        text,
        "{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>12}{:>11}  ",
        "offered/s", "reached/s", "MB/s", "p50", "p99", "p99.9", "deliver p99", "late p99"
    )?;
    let mut steps: Vec<&SweepStep> = report.sweep.iter().collect();
    steps.sort_by_key(|step| step.offered_records_per_s);
    for step in steps {
        write_step(text, step)?;
    }
    writeln!(text, "\n{}", sentence(report))?;
    for failure in &report.failures {
        writeln!(text, "FAILED: {failure}")?;
    }
    if report.passed {
        writeln!(
            text,
            "passed: in every step every record came out once, unchanged, in order"
        )?;
    }
    Ok(())
}

fn write_step(text: &mut String, step: &SweepStep) -> std::fmt::Result {
    let phase = &step.report.last;
    let (publish, delivered) = (&phase.publish, &phase.end_to_end.latency_us);
    let delivered = match delivered.count {
        0 => "-".to_owned(),
        _ => micros(delivered.p99),
    };
    writeln!(
        text,
        "{:>12}{:>12}{:>10.1}{:>10}{:>10}{:>10}{:>12}{:>11}  {}",
        grouped(step.offered_records_per_s),
        grouped(step.achieved_records_per_s as u64),
        publish.flow.mb_per_s,
        micros(publish.latency_us.p50),
        micros(publish.latency_us.p99),
        micros(publish.latency_us.p99_9),
        delivered,
        micros(phase.generator.late_us.p99),
        match step.verdict {
            Some(Verdict::KeptUp) | None => "",
            Some(Verdict::Slow) => "slow",
            Some(Verdict::FellBehind) => "fell behind",
        },
    )?;
    if let Some(reason) = &phase.limited_by_generator {
        writeln!(text, "{:>12}limited by the generator: {reason}", "")?;
    }
    Ok(())
}

/// What was found.
#[must_use]
pub fn sentence(report: &SweepReport) -> String {
    let knee = report.knee.as_ref().map(|knee| {
        let how = match knee.verdict {
            Some(Verdict::FellBehind) => "were not reached",
            _ => "were too slow",
        };
        let whose = match &knee.limited_by_generator {
            Some(reason) => format!(". The generator may have been the limit there: {reason}"),
            None => String::new(),
        };
        format!(
            "knee: {} records/s were kept up with, at a p99 of {}; {} {how}{whose}",
            grouped(knee.records_per_s),
            micros(knee.p99_us),
            grouped(knee.too_high_records_per_s),
        )
    });
    let end = match report.end {
        Some(End::Found) | None => None,
        Some(End::ReachedHighest) => Some("the highest rate allowed (--to) was kept up with"),
        Some(End::NothingKeptUp) => Some("not even one record a second was kept up with"),
        Some(End::Budget) => Some("there was no time to look further (--budget)"),
        Some(End::NoRoom) => Some("the disk has no room for a step at a higher rate"),
        Some(End::Failed) => Some("it ended at a step that failed"),
    };
    match (knee, end) {
        (Some(knee), None) => knee,
        (Some(knee), Some(end)) => format!("{knee}; {end}"),
        (None, Some(end)) => format!("no knee was found: {end}"),
        (None, None) => "no knee was found".to_owned(),
    }
}
