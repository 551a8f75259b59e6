//! A report as a table for people.

use std::fmt::Write;

use crate::latency::LatencySummary;
use crate::report::{LimitsReport, PhaseReport, Report, Settings};
use crate::run::reread_limited_by_generator;
use crate::sizes::RecordSizes;
use crate::units::{bytes, grouped, micros};

/// So many groups of consumers have a line each; the report has all.
const GROUPS_SHOWN_MAX: usize = 10;

/// The whole report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    write_report(&mut text, report).expect("writing to a string does not fail");
    text
}

fn write_report(text: &mut String, report: &Report) -> std::fmt::Result {
    let settings = &report.settings;
    writeln!(text)?;
    write!(
        text,
        "{} x {} B to {} partition(s), {} producer(s), {} consumer(s)",
        if settings.own_broker {
            "own broker"
        } else {
            settings.server.as_str()
        },
        match &settings.record_size {
            RecordSizes::Fixed(size) => grouped(*size as u64),
            drawn => drawn.to_string(),
        },
        settings.partitions,
        settings.producers,
        settings.consumers,
    )?;
    if settings.fan_out > 1 {
        write!(text, " in each of {} groups", settings.fan_out)?;
    }
    if settings.keys > 0 {
        write!(text, ", {} key(s)", grouped(settings.keys.into()))?;
    }
    if let Some(bytes) = settings.retention_bytes {
        write!(
            text,
            ", the last {} of each partition kept",
            crate::units::bytes(bytes)
        )?;
    }
    match settings.durability {
        Some(durability) => write!(text, ", {durability} asked")?,
        None => write!(text, ", by {}", report.driver)?,
    }
    writeln!(text, "; {}", report.machine)?;
    for phase in &report.phases {
        write_phase(text, phase, settings)?;
    }
    if let Some(kill) = &report.kill {
        writeln!(
            text,
            "\nkill -9 under load with {} stored and {} records in flight: serving again after {:.0} ms; {} more acknowledged by the new process",
            bytes(kill.stored_bytes),
            grouped(kill.in_flight),
            kill.recovery_ms,
            grouped(kill.acked_after),
        )?;
    }
    if let Some(reread) = &report.reread {
        writeln!(
            text,
            "all read again from the start: {} records in {:.1} s, {} records/s, {:.0} MB/s",
            grouped(reread.flow.records),
            reread.seconds,
            grouped(reread.flow.records_per_s as u64),
            reread.flow.mb_per_s,
        )?;
        if let Some(cpu_cores) = reread.generator_cpu_cores {
            let share = |share: Option<f64>| {
                share.map_or_else(
                    || "for an unknown share".to_owned(),
                    |share| format!("{:.0} %", share * 100.0),
                )
            };
            writeln!(
                text,
                "  generator   {cpu_cores:.2} cores, {} consumer(s) waiting {} of the time; machine {} busy",
                reread.consumers,
                share(reread.consumers_waiting),
                share(reread.machine_busy)
            )?;
        }
        if let Some(reason) = reread_limited_by_generator(reread) {
            writeln!(text, "  limited by the generator: {reason}")?;
        }
    }
    if let Some(limits) = &report.limits {
        write_limits(text, limits)?;
    }
    if !report.notes.is_empty() {
        writeln!(text)?;
    }
    for note in &report.notes {
        writeln!(text, "note: {note}")?;
    }
    let findings = &report.findings;
    writeln!(
        text,
        "\nsent {}, acknowledged {}, not acknowledged {}; lost {}, duplicated {}, reordered {}, corrupt {}",
        grouped(report.sent),
        grouped(report.acked),
        grouped(report.unacked),
        grouped(findings.lost),
        grouped(findings.duplicated),
        grouped(findings.reordered),
        grouped(findings.corrupt),
    )?;
    for (findings, group) in report.group_findings.iter().zip(0..) {
        if !findings.is_clean() {
            writeln!(
                text,
                "  group {group}: lost {}, duplicated {}, reordered {}, corrupt {}",
                grouped(findings.lost),
                grouped(findings.duplicated),
                grouped(findings.reordered),
                grouped(findings.corrupt),
            )?;
        }
    }
    for failure in &report.failures {
        writeln!(text, "FAILED: {failure}")?;
    }
    if report.passed {
        writeln!(
            text,
            "passed: every record came out once, unchanged, in order"
        )?;
    }
    Ok(())
}

fn write_phase(text: &mut String, phase: &PhaseReport, settings: &Settings) -> std::fmt::Result {
    let rate = phase.rate.map_or_else(
        || "as fast as it goes".to_owned(),
        |rate| format!("{} records/s", grouped(rate)),
    );
    writeln!(
        text,
        "\n{}: {rate}, {:.1} s measured",
        phase.name, phase.seconds
    )?;
    writeln!(
        text,
        "  {:<12}{:>14}{:>10}{:>11}{:>11}{:>11}{:>11}{:>11}",
        "", "records/s", "MB/s", "p50", "p90", "p99", "p99.9", "max"
    )?;
    let flow = &phase.publish.flow;
    write_line(
        text,
        "publish",
        Some((flow.records_per_s, flow.mb_per_s)),
        &phase.publish.latency_us,
    )?;
    if phase.consume.records > 0 {
        let flow = &phase.consume;
        write_line(
            text,
            "end to end",
            Some((flow.records_per_s, flow.mb_per_s)),
            &phase.end_to_end.latency_us,
        )?;
    }
    for (group, number) in phase.groups.iter().take(GROUPS_SHOWN_MAX).zip(0..) {
        let flow = &group.consume;
        write_line(
            text,
            &format!("  group {number}"),
            Some((flow.records_per_s, flow.mb_per_s)),
            &group.end_to_end.latency_us,
        )?;
    }
    if phase.groups.len() > GROUPS_SHOWN_MAX {
        writeln!(
            text,
            "    and {} more groups, which the report has",
            phase.groups.len() - GROUPS_SHOWN_MAX
        )?;
    }
    if phase.rate.is_some() {
        write_line(text, "sent late", None, &phase.generator.late_us)?;
    }
    if let Some(broker) = &phase.broker {
        writeln!(
            text,
            "  broker      {:.2} us CPU a record, {:.2} cores, {} resident (most ever {})",
            broker.cpu_us_per_record,
            broker.cpu_cores,
            bytes(broker.rss_bytes),
            bytes(broker.rss_peak_bytes),
        )?;
    }
    let generator = &phase.generator;
    write!(text, "  generator   {:.2} cores", generator.cpu_cores)?;
    if let Some(waiting) = generator.producers_waiting {
        write!(
            text,
            ", producers waiting {:.0} % of the time",
            waiting * 100.0
        )?;
    }
    writeln!(
        text,
        "; machine {:.0} % busy",
        generator.machine_busy * 100.0
    )?;
    if let Some(reason) = &phase.limited_by_generator {
        writeln!(text, "  limited by the generator: {reason}")?;
    }
    match phase.publish.durability {
        Some(durability) => writeln!(text, "  acks say    {durability}")?,
        None if phase.publish.flow.records == 0 => writeln!(text, "  acks        none")?,
        None => writeln!(text, "  acks say    nothing about durability")?,
    }
    match &settings.durability_label {
        Some(label) => writeln!(text, "  acks mean   {label}, as the caller says"),
        None => Ok(()),
    }
}

fn write_limits(text: &mut String, limits: &LimitsReport) -> std::fmt::Result {
    writeln!(text, "\nlimits of this machine, measured in this run")?;
    writeln!(
        text,
        "  {:<36}{:>11}{:>11}{:>11}{:>11}{:>11}",
        "", "p50", "p90", "p99", "p99.9", "max"
    )?;
    for (name, latency) in [
        ("TCP ping-pong, 64 B, loopback", &limits.ping_pong_us),
        ("4 KiB O_DIRECT + O_DSYNC write", &limits.sync_write_us),
        ("publish, one in flight", &limits.publish_alone_us),
    ] {
        write!(text, "  {name:<36}")?;
        write_percentiles(text, latency)?;
    }
    if let Some(ratio) = limits.publish_alone_ratio {
        writeln!(
            text,
            "  publish alone / (ping-pong + write): {ratio:.2} at p50"
        )?;
    }
    writeln!(
        text,
        "  sequential O_DIRECT write: {:.0} MB/s; the last phase published at {:.2} of it",
        limits.write_mb_per_s, limits.publish_to_disk_ratio
    )
}

fn write_line(
    text: &mut String,
    name: &str,
    flow: Option<(f64, f64)>,
    latency: &LatencySummary,
) -> std::fmt::Result {
    match flow {
        Some((records_per_s, mb_per_s)) => {
            write!(
                text,
                "  {name:<12}{:>14}{mb_per_s:>10.1}",
                grouped(records_per_s.round() as u64)
            )?;
        }
        None => write!(text, "  {name:<12}{:>14}{:>10}", "", "")?,
    }
    write_percentiles(text, latency)
}

fn write_percentiles(text: &mut String, latency: &LatencySummary) -> std::fmt::Result {
    for us in [
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p99_9,
        latency.max,
    ] {
        let cell = if latency.count == 0 {
            "-".to_owned()
        } else {
            micros(us)
        };
        write!(text, "{cell:>11}")?;
    }
    writeln!(text)
}

#[cfg(test)]
mod tests;
