//! The brokers' own load generators: their figures beside ours.

use crate::race::document::Section;
use crate::race::session::Setting;
use crate::race::standing::{Measure, Standing};

pub(super) fn own_tools(standing: &Standing, setting: &Setting) -> Section {
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
