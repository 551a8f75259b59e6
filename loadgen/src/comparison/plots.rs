//! The plots: of each workload the latencies and the throughput, and of sweeps the latency against load.

use super::entries::{Entries, RunEntry, SweepEntry, curve, grouped_by};
use crate::latency::LatencySummary;
use crate::page::{
    Bar, BarPlot, Cell, LoadCurve, LoadPoint, Palette, PlotError, Section, Table, bars,
    latency_by_load, percentiles,
};
use crate::report::PhaseReport;
use crate::sweep::report::{SweepReport, SweepStep};
use crate::sweep::search::Verdict;
use crate::sweep::sentence;
use crate::units::{grouped, micros};

/// A section for each workload and rate.
pub(super) fn workloads(entries: &Entries<'_>) -> Result<Vec<Section>, PlotError> {
    grouped_by(&entries.runs, |entry| {
        (entry.workload.clone(), entry.rate())
    })
    .into_iter()
    .map(|((workload, rate), entries_of)| {
        workload_section(
            &format!("{workload}: {rate}"),
            &entries_of,
            &entries.palette,
        )
    })
    .collect()
}

fn workload_section(
    title: &str,
    entries: &[&RunEntry<'_>],
    palette: &Palette,
) -> Result<Section, PlotError> {
    let mut section = Section::new(title);
    let rounds = grouped_by(entries.iter().copied(), |entry| entry.name.clone());
    if let Some(most) = rounds
        .iter()
        .map(|(_, rounds)| rounds.len())
        .max()
        .filter(|most| *most > 1)
    {
        section.text(format!(
            "Up to {most} rounds each: latencies are those of the round with the median p99, throughput is the median, with the lowest and the highest round."
        ));
    }
    for (name, rounds) in &rounds {
        for sentence in limits_of(rounds) {
            section.remark(format!("{name}: limited by the generator: {sentence}"));
        }
    }
    // At a fixed rate all that keep up reach the same.
    if entries.iter().any(|entry| entry.phase.rate.is_none()) {
        for (what, of) in THROUGHPUTS {
            let plot = BarPlot {
                title: format!("{what}, {title}"),
                label: "records/s".to_owned(),
                bars: rounds
                    .iter()
                    .filter_map(|(name, rounds)| {
                        let reached = rounds.iter().map(|entry| of(entry.phase));
                        Bar::of_rounds(name.clone(), reached.filter(|reached| *reached > 0.0))
                    })
                    .collect(),
            };
            if !plot.bars.is_empty() {
                section.plot(bars(&plot, palette)?);
            }
        }
    }
    for (what, of) in LATENCIES {
        let curves: Vec<_> = rounds
            .iter()
            .filter_map(|(name, rounds)| {
                let latencies = rounds.iter().map(|entry| of(entry.phase));
                Some(curve(name, median_by_p99(latencies)?))
            })
            .collect();
        if !curves.is_empty() {
            section.plot(percentiles(&format!("{what}, {title}"), &curves, palette)?);
        }
    }
    Ok(section)
}

type Of<T> = (&'static str, fn(&PhaseReport) -> T);
type OfLatency = (&'static str, fn(&PhaseReport) -> &LatencySummary);

const THROUGHPUTS: [Of<f64>; 2] = [
    ("Published", |phase| phase.publish.flow.records_per_s),
    ("Delivered", |phase| phase.consume.records_per_s),
];
const LATENCIES: [OfLatency; 2] = [
    ("Publish latency", |phase| &phase.publish.latency_us),
    ("End-to-end latency", |phase| &phase.end_to_end.latency_us),
];

/// The distinct sentences about the generator.
fn limits_of(rounds: &[&RunEntry<'_>]) -> Vec<String> {
    let sentences = rounds
        .iter()
        .filter_map(|entry| entry.phase.limited_by_generator.clone());
    let several = rounds.len() > 1;
    let mut sentences: Vec<String> = sentences.collect();
    let limited = sentences.len();
    // The rounds say the same in other numbers: one of them will do.
    sentences.truncate(1);
    sentences
        .into_iter()
        .map(|sentence| {
            if several {
                format!(
                    "{sentence} (in {limited} of {} rounds, the first of them)",
                    rounds.len()
                )
            } else {
                sentence
            }
        })
        .collect()
}

fn median_by_p99<'a>(
    latencies: impl Iterator<Item = &'a LatencySummary>,
) -> Option<&'a LatencySummary> {
    let mut latencies: Vec<_> = latencies.filter(|latency| latency.count > 0).collect();
    latencies.sort_by(|one, other| one.p99.total_cmp(&other.p99));
    latencies.get(latencies.len().checked_sub(1)? / 2).copied()
}

/// A section for each workload that was swept.
pub(super) fn sweeps(entries: &Entries<'_>) -> Result<Vec<Section>, PlotError> {
    grouped_by(&entries.sweeps, |entry| entry.workload.clone())
        .into_iter()
        .map(|(workload, sweeps)| sweep_section(&workload, &sweeps, &entries.palette))
        .collect()
}

fn sweep_section(
    workload: &str,
    sweeps: &[&SweepEntry<'_>],
    palette: &Palette,
) -> Result<Section, PlotError> {
    let mut section = Section::new(format!("Latency against load: {workload}"));
    section.text(
        "Each rate is a run of its own, sent by the schedule whatever the broker does. Of a rate that was tried twice the quicker one is drawn. The knee is the highest rate that was kept \
         up with.",
    );
    for sweep in sweeps {
        let found = sentence(sweep.report);
        section.text(format!("{} ({}): {found}", sweep.name, sweep.durability));
        if let Some(reason) = sweep
            .report
            .knee
            .as_ref()
            .and_then(|knee| knee.limited_by_generator.as_ref())
        {
            section.remark(format!(
                "{}: beyond the knee the generator was the limit, or a part of it: {reason}",
                sweep.name
            ));
        }
    }
    let curves: Vec<LoadCurve> = sweeps.iter().map(|sweep| load_curve(sweep)).collect();
    if curves.len() > 1 {
        let title = format!("Publish p99 against load, {workload}");
        section.plot(latency_by_load(&title, &curves, palette)?);
    }
    for curve in &curves {
        let title = format!("Publish latency against load, {}", curve.name);
        section.plot(latency_by_load(
            &title,
            std::slice::from_ref(curve),
            palette,
        )?);
    }
    section.table(steps_table(sweeps));
    Ok(section)
}

fn load_curve(sweep: &SweepEntry<'_>) -> LoadCurve {
    LoadCurve {
        name: sweep.name.clone(),
        points: quickest_tries(sweep.report)
            .into_iter()
            .map(|step| {
                let latency = &step.report.last.publish.latency_us;
                LoadPoint {
                    offered_per_s: step.offered_records_per_s as f64,
                    p50_us: latency.p50,
                    p99_us: latency.p99,
                    p99_9_us: latency.p99_9,
                }
            })
            .collect(),
        knee_per_s: sweep
            .report
            .knee
            .as_ref()
            .map(|knee| knee.records_per_s as f64),
    }
}

/// One step for each rate, by rising rates.
fn quickest_tries(report: &SweepReport) -> Vec<&SweepStep> {
    let mut steps: Vec<&SweepStep> = report.sweep.iter().collect();
    let p99 = |step: &SweepStep| step.report.last.publish.latency_us.p99;
    steps.sort_by(|one, other| {
        let rates = one.offered_records_per_s.cmp(&other.offered_records_per_s);
        rates.then(p99(one).total_cmp(&p99(other)))
    });
    steps.dedup_by_key(|step| step.offered_records_per_s);
    steps
}

fn steps_table(sweeps: &[&SweepEntry<'_>]) -> Table {
    let mut table = Table::new([
        "run",
        "offered/s",
        "reached/s",
        "MB/s",
        "publish p50",
        "p99",
        "p99.9",
        "end to end p99",
        "sent late p99",
        "",
        "file",
    ]);
    for sweep in sweeps {
        let mut steps: Vec<&SweepStep> = sweep.report.sweep.iter().collect();
        steps.sort_by_key(|step| step.offered_records_per_s);
        for step in steps {
            let phase = &step.report.last;
            let publish = &phase.publish.latency_us;
            let reached = grouped(step.achieved_records_per_s as u64);
            table.row(vec![
                Cell::Text(sweep.name.clone()),
                Cell::Figure(grouped(step.offered_records_per_s)),
                figure(reached, phase),
                Cell::Figure(format!("{:.1}", phase.publish.flow.mb_per_s)),
                Cell::Figure(micros(publish.p50)),
                Cell::Figure(micros(publish.p99)),
                Cell::Figure(micros(publish.p99_9)),
                latency(phase.end_to_end.latency_us.p99),
                latency(phase.generator.late_us.p99),
                Cell::Text(
                    match step.verdict {
                        Some(Verdict::KeptUp) => "kept up",
                        Some(Verdict::Slow) => "slow",
                        Some(Verdict::FellBehind) => "fell behind",
                        None => "",
                    }
                    .to_owned(),
                ),
                Cell::Text(sweep.file.to_owned()),
            ]);
        }
    }
    table
}

/// A figure, with what the generator did to it.
pub(super) fn figure(text: String, phase: &PhaseReport) -> Cell {
    match &phase.limited_by_generator {
        Some(reason) => Cell::Remarked(text, format!("limited by the generator: {reason}")),
        None => Cell::Figure(text),
    }
}

/// A latency, if there was one.
pub(super) fn latency(us: f64) -> Cell {
    Cell::Figure(if us > 0.0 { micros(us) } else { "-".to_owned() })
}
