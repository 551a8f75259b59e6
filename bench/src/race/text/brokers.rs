//! The brokers: which builds of them ran, and how they were set.

use std::collections::BTreeMap;

use crate::race::document::Section;
use crate::race::outcome::TurnResult;
use crate::race::session::{BrokerSetting, Setting};

pub(super) fn brokers(setting: &Setting, turns: &[TurnResult]) -> Section {
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

#[cfg(test)]
mod tests {
    use crate::race::bars::PACED;
    use crate::race::entrant::GANNET_DURABLE;
    use crate::race::text::sample::{of_brokers, ran};

    use super::*;

    #[test]
    fn the_builds_that_figures_are_of_are_said() {
        let setting = of_brokers(&[GANNET_DURABLE], &[PACED], 3);
        let mut turns = ran(PACED, GANNET_DURABLE, 3);
        turns[1].build = Some("Gannet 1 (program a)".to_owned());
        turns[2].build = Some("Gannet 1 (program b)".to_owned());
        assert_eq!(
            builds(&setting.brokers[0], &turns),
            "build not kept (in the last sitting 1): 1; Gannet 1 (program a): 1; Gannet 1 (program b): 1"
        );
    }
}
