//! One scenario: its file, and every broker's figures under it, in tables and plots.

use crate::race::curves::curves;
use crate::race::document::{Block, Section, SpreadBars};
use crate::race::entrant::{Entrant, GANNET_DURABLE};
use crate::race::outcome::TurnResult;
use crate::race::standing::{Measure, Standing};

use super::{LIMITED, THEIRS};

/// What has a plot.
const PLOTTED: [Measure; 3] = [
    Measure::PublishMbPerS,
    Measure::EndToEndP99Us,
    Measure::RereadMbPerS,
];

pub(super) fn scenario(
    name: &str,
    text: &str,
    standing: &Standing,
    turns: &[TurnResult],
) -> Section {
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
