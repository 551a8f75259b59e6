//! What a race's report says.

mod bars;
mod brokers;
mod date;
mod disk;
mod generator;
mod limits;
mod machine;
mod missing;
#[cfg(test)]
mod sample;
mod scenario;
mod tools;

use std::collections::BTreeSet;

use self::bars::against_the_bars;
use self::brokers::brokers;
use self::generator::{generator, notes};
use self::machine::{machine_alone, machine_and_limits};
use self::missing::missing;
use self::scenario::scenario;
use self::tools::own_tools;
use super::bars::{CATCH_UP, PACED, SATURATED_LARGE, SATURATED_SINGLE};
use super::document::{Block, Document, Section};
use super::outcome::TurnResult;
use super::scale::ScaleReport;
use super::session::Setting;
use super::standing::Standing;

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
        Some(setting) => Some(machine_and_limits(setting)),
        None => scale
            .and_then(|scale| scale.machine.as_ref())
            .map(machine_alone),
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
