//! What a race's report says.

use std::collections::{BTreeMap, BTreeSet};

use gannet_loadgen::units::{bytes, micros};

use crate::numbers::{MachineLimits, ToolRun};

use super::bars::{JUDGED_LOAD_MS_MIN, SATURATED_LARGE, bar_texts, bars};
use super::curves::curves;
use super::document::{Block, Document, Section, SpreadBars};
use super::entrant::{Entrant, GANNET_DURABLE};
use super::machine::MachineInfo;
use super::outcome::TurnResult;
use super::scale::ScaleReport;
use super::session::Setting;
use super::spread::figure;
use super::standing::{Measure, Standing};

/// What marks a figure of the broker's own tool.
const THEIRS: &str = "†";
/// Notes of single runs that are repeated.
const NOTES_MAX: usize = 20;

/// The whole report: of a race, of what changes with scale, or of both.
#[must_use]
pub fn document(
    setting: Option<&Setting>,
    turns: &[TurnResult],
    scale: Option<&ScaleReport>,
) -> Document {
    let mut sections = setting.map_or_else(Vec::new, |setting| race(setting, turns));
    sections.extend(scale.map(super::scale::sections).unwrap_or_default());
    sections.extend(match setting {
        Some(setting) => Some(
            Section::new("The machine and its limits")
                .text("The limits were measured in this run, before the first broker was started.")
                .table(
                    &["what", ""],
                    [machine(&setting.machine), limits(&setting.limits)].concat(),
                ),
        ),
        None => scale
            .and_then(|scale| scale.machine.as_ref())
            .map(|info| Section::new("The machine").table(&["what", ""], machine(info))),
    });
    sections.push(again());
    let title = if setting.is_some() {
        "Gannet's race"
    } else {
        "Gannet at scale"
    };
    Document {
        title: title.to_owned(),
        sections,
    }
}

fn race(setting: &Setting, turns: &[TurnResult]) -> Vec<Section> {
    let standing = Standing::of(turns);
    let mut sections = vec![
        what_it_is(setting, turns),
        against_the_bars(&standing, setting, turns),
        where_gannet_loses(&standing),
    ];
    for (name, text) in &setting.scenarios {
        sections.push(scenario(name, text, &standing, turns));
    }
    sections.push(brokers(setting));
    sections.push(own_tools(&standing, setting));
    sections.push(missing(&standing, setting));
    sections.extend(notes(turns));
    sections
}

fn what_it_is(setting: &Setting, turns: &[TurnResult]) -> Section {
    let longest = turns.iter().map(|turn| turn.turn.load_ms).max();
    let mut section = Section::new("What this is").text(format!(
        "Gannet beside Kafka, RabbitMQ and NATS: one broker at a time on this machine, the same scenarios by the same load generator on the same cores, {} round(s), \
         interleaved, another broker first in each. A load lasted up to {:.1} s, warm-up included and not counted. Each broker began on an empty directory of the same disk. Figures are medians of the \
         rounds, with the smallest and the largest; ratios are taken within each round. Every record was checked: nothing lost, doubled, reordered or changed, \
         or the figure does not count.",
        setting.rounds,
        longest.unwrap_or(0) as f64 / 1e3,
    ));
    if setting.tiny {
        section = section.text(
            "**This was a tiny run, which only shows that everything works: its figures mean nothing.**",
        );
    }
    section.text(format!(
        "Generator and broker share the cores, so a slow client costs its broker throughput. That is why each broker's own load generator runs beside ours; where it was faster, its \
         figure is the one that counts, marked {THEIRS}."
    ))
}

fn against_the_bars(standing: &Standing, setting: &Setting, turns: &[TurnResult]) -> Section {
    let barred = bars(standing, |scenario| {
        let loads = turns
            .iter()
            .filter(|turn| turn.turn.scenario == scenario)
            .map(|turn| turn.turn.load_ms);
        loads.min().unwrap_or(0)
    });
    let some_too_short = barred
        .iter()
        .any(|barred| barred.row.is_some() && barred.is_too_short);
    let rows = barred
        .into_iter()
        .zip(bar_texts())
        .map(|(barred, bar)| {
            let spread = |spread: Option<super::spread::Spread>| {
                spread.map_or_else(|| "not measured".to_owned(), |spread| spread.to_string())
            };
            let (measured, reached) = match &barred.row {
                None => ("not measured".to_owned(), "not judged"),
                Some(row) => (
                    format!("{} x", figure(row.measured)),
                    match row.reached {
                        Some(true) => "reached",
                        Some(false) => "**not reached**",
                        None if barred.is_too_short => "not judged: too short",
                        None => "not judged",
                    },
                ),
            };
            vec![
                barred.what.to_owned(),
                bar,
                measured,
                reached.to_owned(),
                format!("{}: {}", barred.unit, spread(barred.gannet)),
                spread(barred.kafka),
            ]
        })
        .collect();
    let section = if some_too_short {
        Section::new("Against the bars").text(format!(
            "**What rests on loads of less than {} s is not judged: in that time a virtual machine has not warmed up. A longer --budget, fewer scenarios or fewer brokers give longer loads.**",
            JUDGED_LOAD_MS_MIN / 1000
        ))
    } else {
        Section::new("Against the bars")
    };
    let section = section.text(
        "Gannet's durable figures, each acknowledged from the disk, to those of Kafka as it is by default (`acks=all`, one replica), acknowledged from the page cache.",
    )
    .table(
        &["what", "bar", "measured", "", "Gannet", "Kafka"],
        rows,
    );
    match beside_the_disk(standing, &setting.limits) {
        Some(sentence) => section.text(sentence),
        None => section,
    }
}

/// How near the saturated load came to what the disk takes by itself.
fn beside_the_disk(standing: &Standing, limits: &MachineLimits) -> Option<String> {
    let saturated = standing.figure(SATURATED_LARGE, GANNET_DURABLE, Measure::PublishMbPerS)?;
    let published = saturated.counted.median;
    let beside = |mb_per_s: f64| {
        format!(
            "{} x of its {mb_per_s:.0} MB/s",
            figure(published / mb_per_s)
        )
    };
    let synced = limits.synced_write_mb_per_s.map_or_else(
        || "synced ones, as each of Gannet's is, were not measured".to_owned(),
        |mb_per_s| format!("{} synced, as each of Gannet's is", beside(mb_per_s)),
    );
    Some(format!(
        "Gannet durable, saturated, large batches, to what the disk writes in order by itself: {} un-synced; {synced}.",
        beside(limits.write_mb_per_s)
    ))
}

fn where_gannet_loses(standing: &Standing) -> Section {
    let section = Section::new("Where Gannet loses");
    let losses = standing.losses();
    if losses.is_empty() {
        return section
            .text("Nowhere among what was measured. What was not measured is said below.");
    }
    section
        .text("Gannet durable against each broker in each of its modes, by the medians of the ratios; the largest gaps first.")
        .list(losses)
}

fn scenario(name: &str, text: &str, standing: &Standing, turns: &[TurnResult]) -> Section {
    let section =
        Section::new(format!("Scenario {name}")).block(Block::Code(text.trim_end().to_owned()));
    let entrants = standing.entrants(name);
    if entrants.is_empty() {
        return section.text("No broker gave figures.");
    }
    let measures: Vec<Measure> = Measure::ALL
        .into_iter()
        .filter(|measure| {
            entrants
                .iter()
                .any(|entrant| standing.figure(name, *entrant, *measure).is_some())
        })
        .collect();
    let mut head = vec!["broker", "acknowledged when"];
    head.extend(measures.iter().map(|measure| measure.title()));
    let row = |entrant: Entrant| {
        let mut row = vec![entrant.to_string(), entrant.acknowledged().to_owned()];
        row.extend(
            measures
                .iter()
                .map(|measure| cell(standing, name, entrant, *measure)),
        );
        row
    };
    let ratios = |entrant: Entrant| {
        let mut row = vec![entrant.to_string(), entrant.acknowledged().to_owned()];
        row.extend(measures.iter().map(|measure| {
            standing
                .figure(name, entrant, *measure)
                .and_then(|figure| figure.gannet_is_better_by.as_ref())
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio} x"))
        }));
        row
    };
    let section = section.table(&head, entrants.iter().copied().map(row).collect());
    let mut section = plotted(section, name, standing, &entrants, &measures);
    if let Some(drawn) = curves(name, &entrants, turns) {
        section = section.block(Block::Percentiles(drawn));
    }
    let others: Vec<_> = entrants
        .iter()
        .copied()
        .filter(|entrant| *entrant != GANNET_DURABLE)
        .collect();
    if others.is_empty() {
        return section;
    }
    section
        .text("How many times better Gannet durable is (below 1: worse):")
        .table(&head, others.into_iter().map(ratios).collect())
}

/// Bars for what a scenario is about: throughput of what goes as fast as it can, latency of what does not.
fn plotted(
    mut section: Section,
    name: &str,
    standing: &Standing,
    entrants: &[Entrant],
    measures: &[Measure],
) -> Section {
    for &measure in measures {
        if !PLOTTED.contains(&measure) {
            continue;
        }
        let bars = entrants
            .iter()
            .filter_map(|entrant| {
                let found = standing.figure(name, *entrant, measure)?;
                Some((
                    entrant.to_string(),
                    found.counted.divided_by(measure.scale()),
                ))
            })
            .collect();
        section = section.block(Block::Bars(SpreadBars {
            title: format!("{name}: {}", measure.title()),
            unit: measure.title().to_owned(),
            bars,
        }));
    }
    section
}

const PLOTTED: [Measure; 3] = [
    Measure::PublishMbPerS,
    Measure::EndToEndP99Us,
    Measure::RereadMbPerS,
];

fn cell(standing: &Standing, scenario: &str, entrant: Entrant, measure: Measure) -> String {
    let Some(found) = standing.figure(scenario, entrant, measure) else {
        return "-".to_owned();
    };
    let mark = if found.is_theirs { THEIRS } else { "" };
    format!("{}{mark}", found.counted.divided_by(measure.scale()))
}

fn brokers(setting: &Setting) -> Section {
    let rows = setting
        .brokers
        .iter()
        .map(|broker| {
            vec![
                broker.entrant.to_string(),
                broker.version.clone().unwrap_or_else(|_| "-".to_owned()),
                broker.entrant.acknowledged().to_owned(),
                if broker.settings.is_empty() {
                    "-".to_owned()
                } else {
                    broker.settings.join("; ")
                },
            ]
        })
        .collect();
    Section::new("Brokers and their settings").table(
        &[
            "broker",
            "version",
            "acknowledged when",
            "what differs from its defaults",
        ],
        rows,
    )
}

fn own_tools(standing: &Standing, setting: &Setting) -> Section {
    let mut rows = Vec::new();
    for name in setting.scenarios.keys() {
        for entrant in standing.entrants(name) {
            for measure in Measure::ALL {
                let Some(found) = standing.figure(name, entrant, measure) else {
                    continue;
                };
                let (Some(ours), Some(theirs)) = (found.ours, found.theirs) else {
                    continue;
                };
                let tool = entrant.peer.tool().unwrap_or_default();
                let counts = if found.is_theirs { tool } else { "ours" };
                rows.push(vec![
                    name.clone(),
                    entrant.to_string(),
                    measure.title().to_owned(),
                    ours.divided_by(measure.scale()).to_string(),
                    format!("{tool}: {}", theirs.divided_by(measure.scale())),
                    counts.to_owned(),
                ]);
            }
        }
    }
    let section = Section::new("Each broker's own load generator").text(
        "The same batch, linger, window, rate and size, on the same broker right after our load, where a scenario can be told to it. These tools check no record. nats bench sends a window and waits for all of it, \
         so its latencies are left out; PerfTest and nats bench use one queue or stream whatever the partitions.",
    );
    if rows.is_empty() {
        return section.text("None was run, or none gave figures.");
    }
    section.table(
        &["scenario", "broker", "figure", "ours", "theirs", "counts"],
        rows,
    )
}

fn missing(standing: &Standing, setting: &Setting) -> Section {
    let mut points = BTreeSet::new();
    for broker in &setting.brokers {
        if let Err(reason) = &broker.version {
            points.insert(format!("{} took no part: {reason}", broker.entrant));
        }
    }
    for (scenario, entrant, round, reason) in &standing.missing {
        let is_absent = setting
            .brokers
            .iter()
            .any(|broker| broker.entrant == *entrant && broker.version.is_err());
        if !is_absent {
            points.insert(format!("{entrant}, {scenario}, round {round}: {reason}"));
        }
    }
    for (scenario, entrant, round, reason) in &standing.tools_missing {
        let tool = entrant.peer.tool().unwrap_or("its tool");
        points.insert(format!(
            "{tool} with {entrant}, {scenario}, round {round}: {reason}"
        ));
    }
    let section = Section::new("What is missing");
    if points.is_empty() {
        section.text("Nothing: every broker ran every scenario in every round.")
    } else {
        section.list(points.into_iter().collect())
    }
}

/// What the generator says of its own runs: first of all where it was the limit.
fn notes(turns: &[TurnResult]) -> Option<Section> {
    let mut notes = BTreeSet::new();
    let mut limited: BTreeMap<(&str, Entrant), Vec<&str>> = BTreeMap::new();
    for turn in turns {
        if let Some(measured) = turn.measured() {
            if let Some(reason) = &measured.report.last.limited_by_generator {
                let of = (turn.turn.scenario.as_str(), turn.turn.entrant);
                limited.entry(of).or_default().push(reason);
            }
            for note in &measured.report.notes {
                notes.insert(format!(
                    "{}, {}, round {}: {note}",
                    turn.turn.scenario, turn.turn.entrant, turn.turn.round
                ));
            }
        }
    }
    let left_out = notes.len().saturating_sub(NOTES_MAX);
    let mut points: Vec<_> = limited
        .into_iter()
        .map(|((scenario, entrant), reasons)| {
            let first = reasons.first().copied().unwrap_or_default();
            let rounds = reasons.len();
            format!("{scenario}, {entrant}: the generator may be the limit in {rounds} round(s): {first}")
        })
        .collect();
    points.extend(notes.into_iter().take(NOTES_MAX));
    if left_out > 0 {
        points.push(format!("and {left_out} more, in the results of the turns"));
    }
    (!points.is_empty()).then(|| Section::new("What the generator notes").list(points))
}

fn machine(machine: &MachineInfo) -> Vec<Vec<String>> {
    vec![
        row(
            "processor",
            format!("{} core(s), {}", machine.cores, machine.processor),
        ),
        row("memory", bytes(machine.memory_bytes)),
        row("kernel", machine.kernel.clone()),
        row(
            "disk",
            format!("{} on {}", machine.filesystem, machine.mounted),
        ),
    ]
}

fn limits(limits: &MachineLimits) -> Vec<Vec<String>> {
    vec![
        row(
            "TCP ping-pong on the loopback",
            format!(
                "{} p50, {} p99",
                micros(limits.ping_pong_us.p50),
                micros(limits.ping_pong_us.p99)
            ),
        ),
        row(
            "4 KiB O_DIRECT + O_DSYNC write",
            format!(
                "{} p50, {} p99",
                micros(limits.sync_write_us.p50),
                micros(limits.sync_write_us.p99)
            ),
        ),
        row(
            "sequential O_DIRECT, 1 MiB, eight in flight",
            format!(
                "{:.0} MB/s writing, {:.0} MB/s reading",
                limits.write_mb_per_s, limits.read_mb_per_s
            ),
        ),
        row(
            "disk, sequential, synced: O_DIRECT + O_DSYNC, 512 KiB, four in flight",
            synced(limits.synced_write_mb_per_s),
        ),
        row(
            "fio, the same",
            match &limits.fio {
                ToolRun::Absent => "not in PATH".to_owned(),
                ToolRun::Failed(reason) => format!("failed: {reason}"),
                ToolRun::Measured(fio) => format!(
                    "O_DSYNC write {} p50; {:.0} MB/s writing, {:.0} MB/s reading; synced: {}",
                    micros(fio.sync_write_p50_us),
                    fio.write_mb_per_s,
                    fio.read_mb_per_s,
                    synced(fio.synced_write_mb_per_s)
                ),
            },
        ),
        row(
            "iperf3 on the loopback",
            match &limits.iperf3 {
                ToolRun::Absent => "not in PATH".to_owned(),
                ToolRun::Failed(reason) => format!("failed: {reason}"),
                ToolRun::Measured(iperf3) => format!("{:.0} MB/s", iperf3.mb_per_s),
            },
        ),
    ]
}

fn synced(mb_per_s: Option<f64>) -> String {
    mb_per_s.map_or_else(
        || "not measured".to_owned(),
        |mb_per_s| format!("{mb_per_s:.0} MB/s writing"),
    )
}

fn row(what: &str, is: String) -> Vec<String> {
    vec![what.to_owned(), is]
}

fn again() -> Section {
    Section::new("How to repeat it")
        .block(Block::Code(
            "bench/race                     # installs what is missing, builds, races, writes bench/RACE.md and bench/race.html\n\
             bench/race --budget 30m --rounds 3 --scenario paced --peer gannet --peer kafka\n\
             bench/race --resume            # goes on with one that was interrupted\n\
             bench/race scale               # what changes with scale; --resume goes on with it"
                .to_owned(),
        ))
        .text("Let nothing else run meanwhile. Each single result stays as JSON in `target/race`.")
}

#[cfg(test)]
mod tests;
