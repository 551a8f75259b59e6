//! The load generator, as the program that users run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use gannet_loadgen::broker::RemovedWhenInterrupted;
use gannet_loadgen::driver::{DriverError, DriverKind};
use gannet_loadgen::report::Report;
use serde::{Deserialize, Serialize};

use super::command;
use super::entrant::{Entrant, Peer};
use super::process_tree::Usage;

/// A run may take so many times its load, and this beyond: what was published is read again, and a slow broker drains.
const PATIENCE_PER_LOAD: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(120);
/// For an answer without a run.
const ASK_MAX: Duration = Duration::from_secs(30);
/// How often the broker's memory is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What the generator is run with.
#[derive(Clone, Debug)]
pub(super) struct Generator {
    program: PathBuf,
    removed: RemovedWhenInterrupted,
}

/// What a broker used while the generator was at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerUse {
    /// CPU time of all its processes, in seconds, over the whole run: warm-up, and reading again, included.
    pub cpu_s: f64,
    /// That for each record that was acknowledged, delivered at least once too, in microseconds.
    pub cpu_us_per_record: f64,
    /// The most resident memory seen.
    pub rss_max_bytes: u64,
    /// What it made the disks read.
    pub disk_read_bytes: u64,
}

impl Generator {
    pub(super) fn new(program: PathBuf, removed: &RemovedWhenInterrupted) -> Self {
        Self {
            program,
            removed: removed.clone(),
        }
    }

    /// Why it cannot speak to another broker, when it was built without the driver for it. Whatever else is wrong shows in its runs.
    pub(super) fn lacks_driver(&self, peer: Peer) -> Option<String> {
        if peer == Peer::Gannet {
            return None;
        }
        let driver = DriverKind::from_str(peer.driver(), false).ok()?;
        let reason = DriverError::NotBuilt(driver).to_string();
        let mut command = Command::new(&self.program);
        // Without a server it refuses the run anyway, and at once.
        command.args(["--driver", peer.driver()]);
        let ran = command::run(command, ASK_MAX, &self.removed, || {}).ok()?;
        ran.complained
            .contains(&reason)
            .then(|| format!("the load generator was built without the driver {driver}"))
    }

    /// Runs it with these arguments; gives its report and what the broker used meanwhile, of which `usage` tells.
    ///
    /// # Errors
    /// A sentence when there is no report.
    pub(super) fn run(
        &self,
        arguments: &[String],
        report_path: &Path,
        load: Duration,
        usage: impl Fn() -> std::io::Result<Usage>,
    ) -> Result<(Report, BrokerUse), String> {
        let gone = |error: std::io::Error| format!("the broker is gone: {error}");
        let before = usage().map_err(gone)?;
        let mut rss_max_bytes = before.rss_bytes;
        let mut looked = Instant::now();
        // A run that fails leaves none, and the one before it must not pass for its own.
        match std::fs::remove_file(report_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!(
                    "the report of the run before cannot be removed: {error}"
                ));
            }
            _ => {}
        }
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--report").arg(report_path);
        let duration_max = load * PATIENCE_PER_LOAD + PATIENCE;
        let ran = command::run(command, duration_max, &self.removed, || {
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                let now = usage().unwrap_or_default();
                rss_max_bytes = rss_max_bytes.max(now.rss_bytes);
            }
        })?;
        let after = usage().map_err(gone)?;
        let text = std::fs::read_to_string(report_path).unwrap_or_default();
        // A run whose records were not as they should be has a report too, and its status says so.
        let report: Report = match serde_json::from_str(&text) {
            Ok(report) => report,
            Err(error) => {
                return Err(ran.succeeded().err().unwrap_or_else(|| error.to_string()));
            }
        };
        let cpu_s = (after.cpu_s - before.cpu_s).max(0.0);
        let used = BrokerUse {
            cpu_s,
            cpu_us_per_record: cpu_s * 1e6 / (report.acked.max(1) as f64),
            rss_max_bytes: rss_max_bytes.max(after.rss_bytes),
            disk_read_bytes: after.disk_read_bytes.saturating_sub(before.disk_read_bytes),
        };
        Ok((report, used))
    }
}

/// What it is told for one turn.
pub(super) fn arguments(
    scenario_path: &Path,
    entrant: Entrant,
    server: &str,
    load: Duration,
    bytes_max: Option<u64>,
) -> Vec<String> {
    let mut arguments = vec![
        "--scenario".to_owned(),
        scenario_path.to_string_lossy().into_owned(),
        "--driver".to_owned(),
        entrant.peer.driver().to_owned(),
        "--server".to_owned(),
        server.to_owned(),
        "--label".to_owned(),
        entrant.to_string(),
        "--durability-label".to_owned(),
        entrant.acknowledged().to_owned(),
        "--duration".to_owned(),
        format!("{}ms", load.as_millis()),
    ];
    if let Some(bytes_max) = bytes_max {
        arguments.extend(["--bytes-max".to_owned(), bytes_max.to_string()]);
    }
    if let Some(durability) = entrant.topic_durability() {
        arguments.extend(["--durability".to_owned(), durability.to_string()]);
    }
    if let Some(queue) = entrant.queue_kind() {
        arguments.extend(["--amqp-queue".to_owned(), queue.to_owned()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::super::entrant::{GANNET_DURABLE, KAFKA_UNSYNCED};
    use super::*;

    fn told(entrant: Entrant) -> String {
        arguments(
            Path::new("scenarios/paced.toml"),
            entrant,
            "127.0.0.1:9",
            Duration::from_secs(2),
            Some(1000),
        )
        .join(" ")
    }

    #[test]
    fn a_generator_without_a_driver_is_told_from_one_that_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("generator");
        let lacking = DriverError::NotBuilt(DriverKind::Kafka);
        std::fs::write(
            &program,
            format!(
                "#!/bin/sh\n[ \"$2\" = kafka ] && echo 'generator: {}' >&2\nexit 2\n",
                lacking.to_string().replace('\'', "")
            ),
        )
        .unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
        let generator = Generator::new(program, &RemovedWhenInterrupted::default());
        let lacked = Peer::ALL.map(|peer| generator.lacks_driver(peer).is_some());
        assert_eq!(lacked, [false, true, false, false]);
    }

    #[test]
    fn a_run_that_fails_has_not_the_figures_of_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let report_path = directory.path().join("generator.json");
        let report = super::super::outcome::tests::measured("paced", GANNET_DURABLE, 1, |_| {});
        let report = &report.measured().unwrap().report;
        std::fs::write(&report_path, serde_json::to_vec(report).unwrap()).unwrap();
        let fails = Generator::new(PathBuf::from("false"), &RemovedWhenInterrupted::default());
        let ran = fails.run(&[], &report_path, Duration::from_millis(1), || {
            Ok(Usage::default())
        });
        assert!(ran.is_err(), "{ran:?}");
    }

    #[test]
    fn every_broker_gets_the_same_scenario_by_its_own_driver() {
        let (ours, theirs) = (told(GANNET_DURABLE), told(KAFKA_UNSYNCED));
        for told in [&ours, &theirs] {
            assert!(told.starts_with("--scenario scenarios/paced.toml --driver "));
            assert!(told.contains(" --duration 2000ms --bytes-max 1000"));
        }
        assert!(ours.contains("--driver native") && ours.contains("--durability durable"));
        assert!(theirs.contains("--driver kafka") && !theirs.contains("--durability "));
    }
}
