//! What was measured, with the names under which it is compared.

use crate::latency::LatencySummary;
use crate::page::{Palette, PercentileCurve};
use crate::report::{PhaseReport, Report, Settings};
use crate::sweep::report::SweepReport;
use crate::units::{self, grouped};

use super::reading::{Content, Source};

/// All that the files hold.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    /// The phases of runs.
    pub(super) runs: Vec<RunEntry<'a>>,
    pub(super) sweeps: Vec<SweepEntry<'a>>,
    pub(super) palette: Palette,
}

/// A phase of a run.
#[derive(Clone, Debug)]
pub(super) struct RunEntry<'a> {
    pub(super) name: String,
    pub(super) workload: String,
    pub(super) durability: String,
    pub(super) file: &'a str,
    pub(super) report: &'a Report,
    pub(super) phase: &'a PhaseReport,
}

/// A sweep.
#[derive(Clone, Debug)]
pub(super) struct SweepEntry<'a> {
    pub(super) name: String,
    pub(super) workload: String,
    pub(super) durability: String,
    pub(super) file: &'a str,
    pub(super) report: &'a SweepReport,
}

/// What a name has to tell apart.
#[derive(Clone, PartialEq, Eq)]
struct Identity {
    label: String,
    driver: String,
    durability: String,
}

impl<'a> Entries<'a> {
    pub(super) fn of(sources: &'a [Source]) -> Self {
        let identities: Vec<Identity> = sources.iter().map(Identity::of).collect();
        let names: Vec<String> = identities
            .iter()
            .map(|identity| identity.name_among(&identities))
            .collect();
        let mut entries = Self {
            runs: Vec::new(),
            sweeps: Vec::new(),
            palette: Palette::new(names.clone()),
        };
        for ((source, name), identity) in sources.iter().zip(names).zip(identities) {
            match &source.content {
                Content::Run(report) => {
                    entries
                        .runs
                        .extend(report.phases.iter().map(|phase| RunEntry {
                            name: name.clone(),
                            workload: workload(report.scenario.as_deref(), &report.settings),
                            durability: identity.durability.clone(),
                            file: &source.file,
                            report,
                            phase,
                        }));
                }
                Content::Sweep(report) => entries.sweeps.push(SweepEntry {
                    name,
                    workload: workload(report.scenario.as_deref(), &report.settings),
                    durability: identity.durability,
                    file: &source.file,
                    report,
                }),
            }
        }
        entries
    }
}

impl Identity {
    fn of(source: &Source) -> Self {
        let (label, driver, settings, phase) = match &source.content {
            Content::Run(report) => (
                &report.label,
                report.driver,
                &report.settings,
                report.phases.last(),
            ),
            Content::Sweep(report) => (
                &report.label,
                report.driver,
                &report.settings,
                report.sweep.first().map(|step| &step.report.last),
            ),
        };
        let driver = driver.to_string();
        Self {
            label: if label.is_empty() {
                driver.clone()
            } else {
                label.clone()
            },
            driver,
            durability: durability(settings, phase),
        }
    }

    /// The label, and what else it takes to tell it from others with the same one.
    fn name_among(&self, all: &[Self]) -> String {
        let same = || all.iter().filter(|other| other.label == self.label);
        let mut name = self.label.clone();
        if same().any(|other| other.driver != self.driver) {
            name = format!("{name}, {}", self.driver);
        }
        if same().any(|other| other.durability != self.durability) {
            name = format!("{name}, {}", self.durability);
        }
        name
    }
}

impl RunEntry<'_> {
    /// How fast it was to go.
    pub(super) fn rate(&self) -> String {
        match self.phase.rate {
            Some(rate) => format!("{} records/s", grouped(rate)),
            None => "as fast as it goes".to_owned(),
        }
    }
}

/// What was done: the scenario's name, or the settings that make a difference.
fn workload(scenario: Option<&str>, settings: &Settings) -> String {
    if let Some(scenario) = scenario {
        return scenario.to_owned();
    }
    let mut text = format!(
        "{} B records, {} partition(s), {} producer(s), {} consumer(s)",
        grouped(settings.record_bytes),
        grouped(settings.partitions.into()),
        grouped(settings.producers.into()),
        grouped(settings.consumers.into()),
    );
    if settings.fan_out > 1 {
        text.push_str(&format!(" in each of {} groups", settings.fan_out));
    }
    if let Some(bytes) = settings.retention_bytes {
        text.push_str(&format!(", {} of each partition kept", units::bytes(bytes)));
    }
    text
}

/// What an acknowledgement meant: as the acknowledgements say, and as the caller does of brokers whose acknowledgements do not.
fn durability(settings: &Settings, phase: Option<&PhaseReport>) -> String {
    let said = phase.and_then(|phase| phase.publish.durability);
    match (said, &settings.durability_label) {
        (_, Some(label)) => label.clone(),
        (Some(said), None) => said.to_string(),
        (None, None) => "not said".to_owned(),
    }
}

/// A latency's percentiles for a plot; of a version without curves, the few it has.
pub(super) fn curve(name: &str, latency: &LatencySummary) -> PercentileCurve {
    let few = [
        (50.0, latency.p50),
        (90.0, latency.p90),
        (99.0, latency.p99),
        (99.9, latency.p99_9),
    ];
    PercentileCurve {
        name: name.to_owned(),
        curve: match (latency.count, latency.curve.is_empty()) {
            (0, _) => Vec::new(),
            (_, true) => few.to_vec(),
            (_, false) => latency.curve.clone(),
        },
    }
}

/// Things that belong together, in the order in which the first of each came.
pub(super) fn grouped_by<T, K: PartialEq>(
    things: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for thing in things {
        let key = key(&thing);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(thing),
            None => groups.push((key, vec![thing])),
        }
    }
    groups
}
