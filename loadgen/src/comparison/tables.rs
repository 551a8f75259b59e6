//! The tables: every figure, and where it was measured.

use super::entries::{Entries, RunEntry};
use super::plots::{figure, latency};
use super::reading::{Content, Source};
use crate::latency::LatencySummary;
use crate::page::{Cell, Section, Table};
use crate::report::{Machine, Report, Settings};
use crate::run::reread_limited_by_generator;
use crate::units::{bytes, grouped, micros};

/// Every phase of every run.
pub(super) fn all_figures(entries: &Entries<'_>) -> Section {
    let mut section = Section::new("All figures");
    let mut table = Table::new([
        "run",
        "driver",
        "durability",
        "workload",
        "rate",
        "published/s",
        "MB/s",
        "publish p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "delivered/s",
        "end to end p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "broker CPU",
        "broker memory",
        "generator",
        "sent late p99",
        "producers waiting",
        "file",
        "verified",
    ]);
    for entry in &entries.runs {
        table.row(row(entry));
    }
    section.table(table);
    for entry in &entries.runs {
        for failure in &entry.report.failures {
            section.remark(format!("{} ({}) FAILED: {failure}", entry.name, entry.file));
        }
    }
    section
}

fn row(entry: &RunEntry<'_>) -> Vec<Cell> {
    let phase = entry.phase;
    let (publish, delivered, generator) = (&phase.publish, &phase.consume, &phase.generator);
    let delivers = delivered.records > 0;
    let dash = || Cell::Figure("-".to_owned());
    let mut cells = vec![
        Cell::Text(entry.name.clone()),
        Cell::Text(entry.report.driver.to_string()),
        Cell::Text(entry.durability.clone()),
        Cell::Text(entry.workload.clone()),
        Cell::Text(entry.rate()),
        figure(grouped(publish.flow.records_per_s.round() as u64), phase),
        Cell::Figure(format!("{:.1}", publish.flow.mb_per_s)),
    ];
    cells.extend(percentiles(&publish.latency_us));
    cells.push(if delivers {
        Cell::Figure(grouped(delivered.records_per_s.round() as u64))
    } else {
        dash()
    });
    cells.extend(percentiles(&phase.end_to_end.latency_us));
    match &phase.broker {
        Some(broker) => cells.extend([
            Cell::Figure(format!("{:.2} µs a record", broker.cpu_us_per_record)),
            Cell::Figure(bytes(broker.rss_bytes)),
        ]),
        None => cells.extend([dash(), dash()]),
    }
    cells.extend([
        Cell::Figure(format!("{:.2} cores", generator.cpu_cores)),
        latency(generator.late_us.p99),
        generator.producers_waiting.map_or_else(dash, |waiting| {
            Cell::Figure(format!("{:.0} %", waiting * 100.0))
        }),
        Cell::Text(entry.file.to_owned()),
        Cell::Text(
            if entry.report.passed {
                "passed"
            } else {
                "FAILED"
            }
            .to_owned(),
        ),
    ]);
    cells
}

fn percentiles(of: &LatencySummary) -> [Cell; 5] {
    [of.p50, of.p90, of.p99, of.p99_9, of.max].map(latency)
}

/// What runs measured besides their phases; `None` when none did.
pub(super) fn other_figures(entries: &Entries<'_>) -> Option<Section> {
    let mut table = Table::new(["run", "what", "figure", "file"]);
    let mut is_empty = true;
    let mut seen: Vec<*const Report> = Vec::new();
    for entry in &entries.runs {
        // Once for each run, not for each of its phases.
        if seen.contains(&std::ptr::from_ref(entry.report)) {
            continue;
        }
        seen.push(std::ptr::from_ref(entry.report));
        for (what, figure) in others(entry.report) {
            is_empty = false;
            table.row(vec![
                Cell::Text(entry.name.clone()),
                Cell::Text(what.to_owned()),
                Cell::Figure(figure),
                Cell::Text(entry.file.to_owned()),
            ]);
        }
    }
    let mut section = Section::new("Besides");
    section.table(table);
    (!is_empty).then_some(section)
}

fn others(report: &Report) -> Vec<(&'static str, String)> {
    let mut others = Vec::new();
    if let Some(reread) = &report.reread {
        others.push((
            "all read again from the start",
            format!("{:.0} MB/s", reread.flow.mb_per_s),
        ));
        others.extend(reread.generator_cpu_cores.map(|cpu_cores| {
            let of = format!("{cpu_cores:.2} cores for {} consumer(s)", reread.consumers);
            ("generator meanwhile", of)
        }));
        others.extend(
            reread_limited_by_generator(reread)
                .map(|reason| ("that was limited by the generator", reason)),
        );
    }
    if let Some(kill) = &report.kill {
        others.push(("stored when it was killed", bytes(kill.stored_bytes)));
        others.push((
            "serving again after kill -9",
            format!("{:.0} ms", kill.recovery_ms),
        ));
    }
    if let Some(limits) = &report.limits {
        others.extend([
            ("TCP ping-pong, 64 B, p50", micros(limits.ping_pong_us.p50)),
            (
                "4 KiB O_DIRECT + O_DSYNC write, p50",
                micros(limits.sync_write_us.p50),
            ),
            (
                "sequential O_DIRECT write",
                format!("{:.0} MB/s", limits.write_mb_per_s),
            ),
            (
                "publish, one in flight, p50",
                micros(limits.publish_alone_us.p50),
            ),
        ]);
    }
    others
}

/// Where and how each file's figures were measured, and what else is to be known of them.
pub(super) fn conditions(sources: &[Source]) -> Section {
    let mut section = Section::new("Where and how it was measured");
    let mut table = Table::new([
        "file",
        "version",
        "kernel",
        "cores",
        "filesystem",
        "user",
        "locked memory",
        "server",
        "partitions",
        "producers",
        "consumers",
        "record",
        "batch",
        "most records in it",
        "linger",
        "in flight",
        "shards",
        "seed",
    ]);
    for source in sources {
        let (version, machine, settings, seed) = match &source.content {
            Content::Run(report) => (
                &report.version,
                &report.machine,
                &report.settings,
                report.seed,
            ),
            Content::Sweep(report) => (
                &report.version,
                &report.machine,
                &report.settings,
                report.seed,
            ),
        };
        table.row(conditions_row(
            &source.file,
            version,
            machine,
            settings,
            seed,
        ));
    }
    section.table(table);
    for source in sources {
        if let Content::Run(report) = &source.content {
            for note in &report.notes {
                section.text(format!("{}: {note}", source.file));
            }
        }
    }
    section
}

fn conditions_row(
    file: &str,
    version: &str,
    machine: &Machine,
    settings: &Settings,
    seed: u64,
) -> Vec<Cell> {
    let count = |count: u32| Cell::Figure(grouped(count.into()));
    let or_default = |count: Option<u32>| {
        Cell::Figure(count.map_or_else(|| "default".to_owned(), |count| grouped(count.into())))
    };
    let known = |text: String| {
        Cell::Text(if text.is_empty() {
            "-".to_owned()
        } else {
            text
        })
    };
    let own = || "of its own".to_owned();
    vec![
        Cell::Text(file.to_owned()),
        Cell::Text(version.to_owned()),
        Cell::Text(machine.kernel.clone()),
        count(machine.cores),
        known(machine.disk()),
        Cell::Figure(
            machine
                .uid
                .map_or_else(|| "-".to_owned(), |uid| uid.to_string()),
        ),
        known(machine.memlock()),
        Cell::Text(if settings.own_broker {
            own()
        } else {
            settings.server.clone()
        }),
        count(settings.partitions),
        count(settings.producers),
        count(settings.consumers),
        Cell::Figure(format!("{} B", grouped(settings.record_bytes))),
        Cell::Figure(bytes(settings.batch_bytes)),
        or_default(settings.batch_records),
        Cell::Figure(format!("{} µs", grouped(settings.linger_us))),
        or_default(settings.inflight),
        or_default(settings.shards),
        Cell::Text(seed.to_string()),
    ]
}
