//! What a race's report says.

use std::collections::{BTreeMap, BTreeSet};

use gannet_loadgen::scenario::Scenario;
use gannet_loadgen::units::{bytes, micros};

use crate::numbers::{MachineLimits, ToolRun};

use super::bars::{
    CATCH_UP, JUDGED_LOAD_MS_MIN, LoadWas, NotJudged, PACED, Pairs, ROUNDS_JUDGED_MIN,
    SATURATED_LARGE, SATURATED_SINGLE, bar_texts, bars,
};
use super::curves::curves;
use super::document::{Block, Document, Section, SpreadBars, Table};
use super::entrant::{Entrant, GANNET_DURABLE, Peer};
use super::machine::MachineInfo;
use super::outcome::{JUDGED_BYTES_MIN, TurnResult};
use super::scale::ScaleReport;
use super::session::{BrokerSetting, Setting};
use super::spread::{Spread, figure};
use super::standing::{Measure, Standing};

/// What marks a figure of the broker's own tool.
const THEIRS: &str = "†";
/// What marks a figure of which the generator may have been the limit.
const LIMITED: &str = "‡";
/// The scenarios that belong to a whole race.
pub(super) const SCENARIOS: [&str; 6] = [
    CATCH_UP,
    "fan-out",
    "mixed-sizes",
    PACED,
    SATURATED_LARGE,
    SATURATED_SINGLE,
];

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
                .table(&["what", ""], machine(&setting.machine))
                .text(measured_when(setting))
                .block(Block::Table(Table {
                    head: limits_head(setting),
                    rows: limits_rows(setting),
                })),
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
    sections.push(brokers(setting, turns));
    sections.push(own_tools(&standing, setting));
    sections.extend(generator(setting, turns));
    sections.push(missing(&standing, setting, turns));
    sections.extend(notes(turns));
    sections
}

fn what_it_is(setting: &Setting, turns: &[TurnResult]) -> Section {
    let longest = turns.iter().map(|turn| turn.turn.load_ms).max();
    let rounds: Vec<String> = (setting.scenarios.keys())
        .map(|name| format!("{name} {}", rounds_of(name, turns).len()))
        .collect();
    let mut section = Section::new("What this is").text(format!(
        "Gannet beside Kafka, RabbitMQ and NATS: one broker at a time on this machine, the same scenarios by the same load generator on the same cores, in interleaved rounds ({}). \
         A load lasted up to {:.1} s, warm-up included and not counted. Each broker began on an empty directory of the same disk. Figures are medians of the rounds, with the smallest \
         and the largest; ratios are taken within each round. Every record was checked: nothing lost, doubled, reordered or changed, or the figure does not count.",
        rounds.join(", "),
        longest.unwrap_or(0) as f64 / 1e3,
    ));
    if setting.tiny {
        section = section.text(
            "**This was a tiny run, which only shows that everything works: its figures mean nothing.**",
        );
    }
    section.text(format!(
        "Generator and broker share the cores, so a slow client costs its broker throughput. That is why each broker's own load generator runs beside ours; where it was faster, its \
         figure is the one that counts, marked {THEIRS}. {LIMITED}: the generator may have been the limit in some round; why is said under what the generator notes."
    ))
    .text(
        "Where a scenario leaves the window to the client, Gannet's has up to what its server allows, 64 batches a partition by default; Kafka's has five requests, the most of an idempotent \
         producer; RabbitMQ's and NATS' clients and their own tools have five batches' worth of records a partition.",
    )
}

/// The rounds in which anybody ran this scenario.
fn rounds_of(scenario: &str, turns: &[TurnResult]) -> BTreeSet<u32> {
    turns
        .iter()
        .filter(|turn| turn.turn.scenario == scenario)
        .map(|turn| turn.turn.round)
        .collect()
}

/// What a scenario's file says of its warm-up, in milliseconds; none where it says nothing or is not understood.
fn warm_up_ms(setting: &Setting, scenario: &str) -> u64 {
    let text = setting.scenarios.get(scenario).map_or("", String::as_str);
    let read = Scenario::parse(scenario, text).ok();
    let warm_up = read.and_then(|read| read.warm_up).unwrap_or_default();
    u64::try_from(warm_up.as_millis()).unwrap_or(u64::MAX)
}

fn against_the_bars(standing: &Standing, setting: &Setting, turns: &[TurnResult]) -> Section {
    let load_of = |scenario: &str, entrant: Entrant, round: u32| {
        let is_it = |turn: &&TurnResult| {
            let turn = &turn.turn;
            turn.scenario == scenario && turn.entrant == entrant && turn.round == round
        };
        let load = turns.iter().find(is_it);
        LoadWas {
            may_be_judged: load
                .is_some_and(|load| load.may_be_judged(warm_up_ms(setting, scenario))),
            sitting: load.and_then(|load| load.sitting),
        }
    };
    let rows = bars(standing, load_of, fio_writes(setting))
        .into_iter()
        .zip(bar_texts())
        .map(|(barred, bar)| {
            let spread = |spread: Option<Spread>| {
                spread.map_or_else(|| "not measured".to_owned(), |spread| spread.to_string())
            };
            let mark = if barred.is_limited { LIMITED } else { "" };
            let measured = match (&barred.row, barred.ratio) {
                (Some(_), Some(ratio)) => format!("{ratio} x{mark}"),
                _ => "not measured".to_owned(),
            };
            let reached = match (&barred.row, barred.not_judged) {
                (None, _) => "not judged".to_owned(),
                (Some(_), Some(NotJudged::TooShort)) => "not judged: too short".to_owned(),
                (Some(_), Some(NotJudged::Rounds(1))) => "not judged: one round".to_owned(),
                (Some(_), Some(NotJudged::Rounds(rounds))) => {
                    format!("not judged: {rounds} rounds")
                }
                (Some(row), None) => match row.reached {
                    Some(true) => "reached".to_owned(),
                    Some(false) => "**not reached**".to_owned(),
                    None => "reported".to_owned(),
                },
            };
            vec![
                barred.what.to_owned(),
                bar,
                measured,
                reached,
                format!("{}: {}", barred.unit, spread(barred.gannet)),
                spread(barred.other),
                barred.pairs.map_or_else(|| "-".to_owned(), apart),
            ]
        })
        .collect();
    let section = Section::new("Against the bars").text(
        "Gannet's durable figures, each acknowledged from the disk, to those of Kafka as it is by default (`acks=all`, one replica), acknowledged from the page cache. What counts is the \
         median of the rounds' ratios. End-to-end figures are our generator's alone: no peer's tool checks them.",
    )
    .text(format!(
        "Judged is what rests on {ROUNDS_JUDGED_MIN} rounds or more of loads that lasted {} s or more, since before that a virtual machine has not warmed up. A load of Gannet's, which has none, may \
         also have ended earlier because it had stored what it might send, {} or more.",
        JUDGED_LOAD_MS_MIN / 1000,
        bytes(JUDGED_BYTES_MIN),
    ))
    .text("A race that is gone on with has several sittings, between which the machine may have changed: in the last column, how many of the rounds' pairs are of two different ones.")
    .table(
        &["what", "bar", "measured", "", "Gannet", "the other", "pairs of two sittings"],
        rows,
    );
    let section = match by_bytes(setting, turns) {
        Some(sentence) => section.text(sentence),
        None => section,
    };
    match beside_the_disk(standing, &setting.limits) {
        Some(sentence) => section.text(sentence),
        None => section,
    }
}

/// How many of the rounds' pairs were not measured in the same sitting.
fn apart(pairs: Pairs) -> String {
    if pairs.unknown == pairs.all {
        return "not kept".to_owned();
    }
    let apart = format!("{} of {}", pairs.apart, pairs.all);
    match pairs.unknown {
        0 => apart,
        unknown => format!("{apart}, {unknown} not kept"),
    }
}

/// Of what was planned, what a load lasted at most that ended early.
const EARLY_SHARE: f64 = 0.95;

/// Which loads ended early by their bytes, and after how long.
fn by_bytes(setting: &Setting, turns: &[TurnResult]) -> Option<String> {
    let ended: Vec<String> = turns
        .iter()
        .filter(|turn| turn.ended_by_bytes())
        .filter_map(|turn| {
            let lasted_ms = turn.lasted_ms(warm_up_ms(setting, &turn.turn.scenario))?;
            let is_early = (lasted_ms as f64) < turn.turn.load_ms as f64 * EARLY_SHARE;
            is_early.then(|| {
                format!(
                    "{}, {}, round {}: after {:.1} s and {}",
                    turn.turn.scenario,
                    turn.turn.entrant,
                    turn.turn.round,
                    lasted_ms as f64 / 1e3,
                    bytes(turn.sent_bytes())
                )
            })
        })
        .collect();
    (!ended.is_empty()).then(|| {
        format!(
            "Ended by the bytes that they might send, a quarter of the free disk: {}.",
            ended.join("; ")
        )
    })
}

/// fio's sequential writes in each sitting that had it.
fn fio_writes(setting: &Setting) -> Option<Spread> {
    let before = setting.limits_before.iter().map(|before| &before.limits);
    Spread::of(
        before
            .chain([&setting.limits])
            .filter_map(|limits| match &limits.fio {
                ToolRun::Measured(fio) => Some(fio.write_mb_per_s),
                ToolRun::Absent | ToolRun::Failed(_) => None,
            }),
    )
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
        "Gannet durable, saturated, large batches, consumed meanwhile, to what the disk writes in order by our own measurement of the last sitting: {} un-synced; {synced}.",
        beside(limits.write_mb_per_s)
    ))
}

fn where_gannet_loses(standing: &Standing) -> Section {
    let section = Section::new("Where Gannet loses");
    let losses = standing.losses();
    let against =
        "Gannet durable against each broker in each of its modes, by the medians of the ratios";
    let left_out = "Left out: gaps below 5 %, what was not behind in every round, and how much was published where the rate was given.";
    if losses.is_empty() {
        return section.text(format!(
            "Nowhere by 5 % or more in every round, among what was measured: {against}. {left_out} What was not measured is said below."
        ));
    }
    section
        .text(format!("{against}; the largest gaps first. {left_out}"))
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
    let theirs = if found.is_theirs { THEIRS } else { "" };
    let limited = if found.is_limited && !matches!(measure, Measure::RssMib | Measure::DiskReadGb) {
        LIMITED
    } else {
        ""
    };
    format!(
        "{}{theirs}{limited}",
        found.counted.divided_by(measure.scale())
    )
}

fn brokers(setting: &Setting, turns: &[TurnResult]) -> Section {
    let rows = setting
        .brokers
        .iter()
        .map(|broker| {
            vec![
                broker.entrant.to_string(),
                builds(broker, turns),
                broker.entrant.acknowledged().to_owned(),
                if broker.settings.is_empty() {
                    "-".to_owned()
                } else {
                    broker.settings.join("; ")
                },
            ]
        })
        .collect();
    let section = Section::new("Brokers and their settings").table(
        &[
            "broker",
            "version or build, and turns by it",
            "acknowledged when",
            "what differs from its defaults",
        ],
        rows,
    );
    if setting.programs.is_empty() {
        return section;
    }
    section.text(format!(
        "What else the last sitting had: {}.",
        setting.programs.join(", ")
    ))
}

/// Which builds a broker's figures are of: a race in several sittings may have several.
fn builds(broker: &BrokerSetting, turns: &[TurnResult]) -> String {
    let mut builds: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    for turn in turns {
        if turn.turn.entrant == broker.entrant && turn.measured().is_some() {
            *builds.entry(turn.build.as_deref()).or_default() += 1;
        }
    }
    let last = broker.version.as_deref().unwrap_or("-");
    if builds.is_empty() {
        return last.to_owned();
    }
    let each = |(build, turns): (Option<&str>, u32)| match build {
        Some(build) => format!("{build}: {turns}"),
        None => format!("build not kept (in the last sitting {last}): {turns}"),
    };
    builds.into_iter().map(each).collect::<Vec<_>>().join("; ")
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
                    format!("{entrant} ({})", entrant.acknowledged()),
                    measure.title().to_owned(),
                    ours.divided_by(measure.scale()).to_string(),
                    format!("{tool}: {}", theirs.divided_by(measure.scale())),
                    counts.to_owned(),
                ]);
            }
        }
    }
    let section = Section::new("Each broker's own load generator").text(
        "The same batch, linger, window, rate and size, on the same broker right after our load, where a scenario can be told to it. These tools check no record, and are measured cold: their figures \
         include their own start, the two in Java while they are still compiled. nats bench sends a window and waits for all of it, \
         so its latencies are left out; PerfTest and nats bench use one queue or stream whatever the partitions.",
    );
    if rows.is_empty() {
        return section.text("None was run, or none gave figures.");
    }
    section.table(
        &[
            "scenario",
            "broker (acknowledged when)",
            "figure",
            "ours",
            "theirs",
            "counts",
        ],
        rows,
    )
}

/// What the generator itself used, and how late it was by its own doing.
fn generator(setting: &Setting, turns: &[TurnResult]) -> Option<Section> {
    type Runs = (Vec<f64>, Vec<f64>);
    let mut used: BTreeMap<(&str, Entrant), Runs> = BTreeMap::new();
    for turn in turns {
        if let Some(measured) = turn.measured() {
            let last = &measured.report.last;
            let of = (turn.turn.scenario.as_str(), turn.turn.entrant);
            let (cores, late) = used.entry(of).or_default();
            cores.push(last.generator.cpu_cores);
            if last.generator.late_own_us.count > 0 {
                late.push(last.generator.late_own_us.p99 / 1e3);
            }
        }
    }
    let rows: Vec<Vec<String>> = used
        .into_iter()
        .map(|((scenario, entrant), (cores, late))| {
            let text = |figures: Vec<f64>| {
                Spread::of(figures).map_or_else(|| "-".to_owned(), |spread| spread.to_string())
            };
            let (cores, late) = (text(cores), text(late));
            vec![scenario.to_owned(), entrant.to_string(), cores, late]
        })
        .collect();
    (!rows.is_empty()).then(|| {
        Section::new("What the generator used")
            .text(format!(
                "While it published, of {} core(s) in all; reading again is not counted. Late by its own doing, where there was a rate.",
                setting.machine.cores
            ))
            .table(
                &["scenario", "broker", "CPU, cores", "late p99, ms"],
                rows,
            )
    })
}

fn missing(standing: &Standing, setting: &Setting, turns: &[TurnResult]) -> Section {
    let mut points: BTreeSet<String> = not_run(setting, turns).into_iter().collect();
    for broker in &setting.brokers {
        if let Err(reason) = &broker.version {
            let when = if took_no_part(broker, turns) {
                "took no part"
            } else {
                "took no part in the last sitting"
            };
            points.insert(format!("{} {when}: {reason}", broker.entrant));
        }
    }
    for (scenario, entrant, round, reason) in &standing.missing {
        let is_absent = setting
            .brokers
            .iter()
            .any(|broker| broker.entrant == *entrant && took_no_part(broker, turns));
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
    for turn in turns {
        if let Some(reason) = &turn.failed_again {
            let turn = &turn.turn;
            points.insert(format!(
                "{}, {}, round {}: measured again without figures, those of before stand: {reason}",
                turn.entrant, turn.scenario, turn.round
            ));
        }
    }
    let section = Section::new("What is missing");
    if points.is_empty() {
        section.text("Nothing: every broker ran every scenario in every round.")
    } else {
        section.list(points.into_iter().collect())
    }
}

/// Whether a broker was not there in any sitting: where it was in one, its rounds are told one by one.
fn took_no_part(broker: &BrokerSetting, turns: &[TurnResult]) -> bool {
    let mut own = turns
        .iter()
        .filter(|turn| turn.turn.entrant == broker.entrant);
    broker.version.is_err() && own.all(|turn| turn.measured().is_none())
}

/// What a whole race has and this one has not: brokers, scenarios, rounds of a scenario, and single turns.
fn not_run(setting: &Setting, turns: &[TurnResult]) -> Vec<String> {
    let mut points = Vec::new();
    let is_there = |entrant: &Entrant| {
        let mut known = setting.brokers.iter().map(|broker| broker.entrant);
        known.any(|known| known == *entrant)
    };
    for entrant in Entrant::of(&Peer::ALL) {
        if !is_there(&entrant) {
            points.push(format!("{entrant} was not raced."));
        }
    }
    // Scenarios of one's own are a race by themselves.
    if SCENARIOS
        .iter()
        .any(|name| setting.scenarios.contains_key(*name))
    {
        for name in SCENARIOS {
            if !setting.scenarios.contains_key(name) {
                points.push(format!("Scenario {name} was not run."));
            }
        }
    }
    let wanted = |rounds: &BTreeSet<u32>| {
        let most = setting.rounds.max(rounds.last().copied().unwrap_or(0));
        (1..=most).collect::<BTreeSet<u32>>()
    };
    let all: BTreeSet<u32> = turns.iter().map(|turn| turn.turn.round).collect();
    for name in setting.scenarios.keys() {
        let run = rounds_of(name, turns);
        let never: Vec<u32> = wanted(&all).difference(&run).copied().collect();
        if !never.is_empty() {
            points.push(format!("{name}: nobody ran {}.", named(&never)));
        }
        for broker in &setting.brokers {
            let own: BTreeSet<u32> = turns
                .iter()
                .filter(|turn| turn.turn.scenario == *name && turn.turn.entrant == broker.entrant)
                .map(|turn| turn.turn.round)
                .collect();
            let absent: Vec<u32> = run.difference(&own).copied().collect();
            if !absent.is_empty() && !took_no_part(broker, turns) {
                let broker = broker.entrant;
                points.push(format!("{broker}, {name}: did not run {}.", named(&absent)));
            }
        }
    }
    points
}

fn named(rounds: &[u32]) -> String {
    let numbers: Vec<String> = rounds.iter().map(u32::to_string).collect();
    let word = if rounds.len() == 1 { "round" } else { "rounds" };
    format!("{word} {}", numbers.join(", "))
}

/// What the generator says of its own runs: first of all where it was the limit.
fn notes(turns: &[TurnResult]) -> Option<Section> {
    let mut notes: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<Entrant>)> = BTreeMap::new();
    let mut limited: BTreeMap<(&str, Entrant), Vec<&str>> = BTreeMap::new();
    for turn in turns {
        if let Some(measured) = turn.measured() {
            if let Some(reason) = &measured.report.last.limited_by_generator {
                let of = (turn.turn.scenario.as_str(), turn.turn.entrant);
                limited.entry(of).or_default().push(reason);
            }
            for note in &measured.report.notes {
                let (scenarios, entrants) = notes.entry(note).or_default();
                scenarios.insert(&turn.turn.scenario);
                entrants.insert(turn.turn.entrant);
            }
        }
    }
    let mut points: Vec<_> = limited
        .into_iter()
        .map(|((scenario, entrant), reasons)| {
            let first = reasons.first().copied().unwrap_or_default();
            let rounds = reasons.len();
            format!("{LIMITED} {scenario}, {entrant}: the generator may be the limit in {rounds} round(s): {first}")
        })
        .collect();
    points.extend(notes.into_iter().map(|(note, (scenarios, entrants))| {
        let scenarios: Vec<_> = scenarios.into_iter().collect();
        let entrants: Vec<_> = entrants.iter().map(Entrant::to_string).collect();
        format!("{note} ({}; {})", entrants.join(", "), scenarios.join(", "))
    }));
    (!points.is_empty()).then(|| Section::new("What the generator notes").list(points))
}

/// When the limits were measured: each sitting measures them before its first broker is started.
fn measured_when(setting: &Setting) -> String {
    let sittings = setting.limits_before.len() + 1;
    if sittings == 1 {
        return format!(
            "The limits were measured {}, before the first broker of that sitting was started. If the race was gone on with by then, those of the sittings before were not kept.",
            when(setting.limits_measured_at)
        );
    }
    format!(
        "The limits were measured when each of {sittings} sittings began, before its first broker was started."
    )
}

fn when(at: Option<u64>) -> String {
    at.map_or_else(
        || "at a time that was not kept".to_owned(),
        |at| format!("on {}", utc(at)),
    )
}

/// `2026-11-29 15:04 UTC`, of seconds since 1970.
fn utc(at: u64) -> String {
    let (mut days, minutes) = (at / 86_400, at % 86_400 / 60);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!(
        "{year}-{month:02}-{:02} {:02}:{:02} UTC",
        days + 1,
        minutes / 60,
        minutes % 60
    )
}

/// A column for each sitting, the last one first.
fn limits_head(setting: &Setting) -> Vec<String> {
    let mut head = vec!["what".to_owned(), when(setting.limits_measured_at)];
    let before = setting.limits_before.iter().rev();
    head.extend(before.map(|before| when(before.measured_at)));
    head
}

fn limits_rows(setting: &Setting) -> Vec<Vec<String>> {
    let mut rows = limits(&setting.limits);
    for before in setting.limits_before.iter().rev() {
        for (row, mut earlier) in rows.iter_mut().zip(limits(&before.limits)) {
            row.extend(earlier.pop());
        }
    }
    rows
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
             bench/race --budget 30m --scenario paced --peer gannet --peer kafka\n\
             bench/race --resume            # goes on with one that was interrupted\n\
             bench/race scale               # what changes with scale; --resume goes on with it"
                .to_owned(),
        ))
        .text("Let nothing else run meanwhile. Each single result stays as JSON in `target/race`.")
}

#[cfg(test)]
mod tests;
