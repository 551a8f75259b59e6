//! All points, one after the other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gannet_loadgen::broker::{RemovedWhenInterrupted, end_when_interrupted};
use gannet_loadgen::filesystem::choose_directory;
use gannet_loadgen::progress::ProgressLine;
use gannet_loadgen::report::Report;

use crate::race::broker::Broker;
use crate::race::command;
use crate::race::options::ScaleOptions;
use crate::race::session::{RaceError, generator_program, io_error};

use super::points::{PlannedPoint, greedy_neighbour, paced_neighbour, points, same_bytes_max};
use super::{Axis, Pace, Point, PointFigures, ScaleReport, idle, keep};

/// A tiny point.
const TINY: Duration = Duration::from_millis(400);
const TINY_BYTES_MAX: u64 = 256 << 20;
/// No point fills more of the disk than this share of what is free.
const DISK_SHARE: u64 = 4;
const BYTES_MAX: u64 = 12 << 30;
/// What a run may take beyond its load: topics with very many partitions, and reading again.
const PATIENCE: Duration = Duration::from_secs(300);
const PATIENCE_PER_LOAD: u32 = 10;
/// The paced producer begins when the greedy one is at it, and ends before it.
const GREEDY_TIMES: u32 = 2;

/// Measures all points, keeps them, and gives them.
///
/// # Errors
/// [`RaceError`] when nothing can be measured at all; a point that fails is in the report with its reason.
pub fn session(options: &ScaleOptions) -> Result<ScaleReport, RaceError> {
    let removed = RemovedWhenInterrupted::default();
    end_when_interrupted(removed.clone()).map_err(io_error("watching for Ctrl-C"))?;
    let (base, filesystem) = choose_directory(options.data_dir.as_deref())?;
    let directory = tempfile::Builder::new()
        .prefix("gannet-race-")
        .tempdir_in(&base)
        .map_err(io_error("making a directory for the brokers"))?;
    removed.set_directory(Some(directory.path().to_owned()));
    let bytes_max = if options.tiny {
        TINY_BYTES_MAX
    } else {
        BYTES_MAX.min(filesystem.free_bytes / DISK_SHARE)
    };
    let mut scale = Scale {
        options,
        generator: generator_program(options.generator.as_deref()),
        directory: directory.path().to_owned(),
        results_dir: options.place.results(),
        bytes_max,
        removed: removed.clone(),
        report: super::read(&options.place.results())?.unwrap_or_default(),
    };
    scale.report.tiny = options.tiny;
    let mut progress = ProgressLine::new();
    for axis in Axis::ALL {
        if options.only.is_empty() || options.only.contains(&axis) {
            scale.measure(axis, &mut progress)?;
        }
    }
    progress.finish();
    let report = scale.report;
    directory
        .close()
        .map_err(io_error("removing the brokers' directory"))?;
    removed.set_directory(None);
    Ok(report)
}

struct Scale<'a> {
    options: &'a ScaleOptions,
    generator: PathBuf,
    directory: PathBuf,
    results_dir: PathBuf,
    bytes_max: u64,
    removed: RemovedWhenInterrupted,
    report: ScaleReport,
}

impl Scale<'_> {
    /// One axis anew; the others stay as they were kept.
    fn measure(&mut self, axis: Axis, progress: &mut ProgressLine) -> Result<(), RaceError> {
        self.report.points.retain(|point| point.axis != axis);
        let prefix = format!("{axis:?}: ");
        self.report
            .failures
            .retain(|failure| !failure.starts_with(&prefix));
        progress.step(format!("scale: {axis:?}"));
        match axis {
            Axis::Idle => {
                if let Err(reason) = self.idle() {
                    self.report.failures.push(format!("{prefix}{reason}"));
                }
            }
            Axis::Neighbours => self.neighbours(),
            _ => self.runs(axis, progress)?,
        }
        keep(&self.results_dir, &self.report)
    }

    fn runs(&mut self, axis: Axis, progress: &mut ProgressLine) -> Result<(), RaceError> {
        let mut same_bytes = None;
        for planned in points(axis, self.options.tiny) {
            progress.step(format!(
                "scale: {axis:?} {}, {:?}",
                planned.at, planned.pace
            ));
            let (load, bytes_max) = match same_bytes {
                Some(bytes) if planned.same_bytes => (same_bytes_max(self.load()), bytes),
                _ => (self.load(), self.bytes_max),
            };
            let report = self.own_broker(&planned, load, bytes_max);
            if let (true, None, Ok(report)) = (planned.same_bytes, same_bytes, &report) {
                same_bytes = Some(report.acked * report.settings.record_bytes);
            }
            self.report.points.push(Point {
                axis,
                pace: planned.pace,
                at: planned.at,
                outcome: report.and_then(|report| figures(&report)),
            });
            keep(&self.results_dir, &self.report)?;
        }
        Ok(())
    }

    fn load(&self) -> Duration {
        if self.options.tiny {
            TINY
        } else {
            self.options.seconds
        }
    }

    fn own_broker(
        &self,
        planned: &PlannedPoint,
        load: Duration,
        bytes_max: u64,
    ) -> Result<Report, String> {
        let mut arguments = planned.arguments.clone();
        arguments.push("--data-dir".to_owned());
        arguments.push(self.directory.to_string_lossy().into_owned());
        if let Some(shards) = self.options.shards {
            arguments.extend(["--shards".to_owned(), shards.to_string()]);
        }
        self.generate(&arguments, load, bytes_max, "point.json")
    }

    fn generate(
        &self,
        arguments: &[String],
        load: Duration,
        bytes_max: u64,
        report_name: &str,
    ) -> Result<Report, String> {
        let report_path = self.directory.join(report_name);
        let mut command = Command::new(&self.generator);
        command
            .args(arguments)
            .args(["--duration", &format!("{}ms", load.as_millis())])
            .args(["--bytes-max", &bytes_max.to_string()])
            .arg("--report")
            .arg(&report_path);
        let duration_max = load * PATIENCE_PER_LOAD + PATIENCE;
        let ran = command::run(command, duration_max, &self.removed, || {})?;
        let report = read_report(&report_path);
        // A report of an earlier point must not be taken for the next one's.
        let _ = fs::remove_file(&report_path);
        report.map_err(|reason| ran.succeeded().err().unwrap_or(reason))
    }

    fn broker(&self, name: &str) -> Result<Broker, String> {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        Broker::gannet(&directory, self.options.shards, &self.removed)
    }

    fn clear(&self, name: &str, broker: Broker) -> Result<(), String> {
        broker.stop()?;
        fs::remove_dir_all(self.directory.join(name)).map_err(|error| error.to_string())
    }

    fn idle(&mut self) -> Result<(), String> {
        let tiny = self.options.tiny;
        let broker = self.broker("idle-partitions")?;
        self.report.idle_partitions = idle::partitions(&broker, tiny)?;
        self.clear("idle-partitions", broker)?;
        let broker = self.broker("idle-connections")?;
        self.report.idle_connections = idle::connections(&broker, tiny)?;
        self.clear("idle-connections", broker)
    }

    /// A producer at a fixed rate: alone, then beside one that sends as fast as it goes.
    fn neighbours(&mut self) {
        for greedy in [false, true] {
            let outcome = self.neighbour(greedy).and_then(|report| figures(&report));
            self.report.points.push(Point {
                axis: Axis::Neighbours,
                pace: Pace::Paced,
                at: f64::from(u8::from(greedy)),
                outcome,
            });
        }
    }

    fn neighbour(&self, greedy: bool) -> Result<Report, String> {
        let broker = self.broker("neighbours")?;
        let server = ["--server".to_owned(), broker.address()];
        let told = |arguments: Vec<String>| [arguments, server.to_vec()].concat();
        let paced = || {
            self.generate(
                &told(paced_neighbour()),
                self.load(),
                self.bytes_max,
                "paced.json",
            )
        };
        let report = if greedy {
            std::thread::scope(|scope| {
                let beside = scope.spawn(|| {
                    let load = self.load() * GREEDY_TIMES;
                    self.generate(
                        &told(greedy_neighbour()),
                        load,
                        self.bytes_max,
                        "greedy.json",
                    )
                });
                let report = paced();
                let beside = beside
                    .join()
                    .unwrap_or_else(|_| Err("the greedy producer's thread panicked".to_owned()));
                beside.and(report)
            })
        } else {
            paced()
        };
        self.clear("neighbours", broker)?;
        report
    }
}

fn read_report(path: &Path) -> Result<Report, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

fn figures(report: &Report) -> Result<PointFigures, String> {
    if !report.passed {
        return Err(report.failures.join("; "));
    }
    let last = &report.last;
    if last.publish.flow.records == 0 {
        return Err("nothing was acknowledged in the measured time".to_owned());
    }
    let broker = last.broker.unwrap_or_default();
    Ok(PointFigures {
        publish_records_per_s: last.publish.flow.records_per_s,
        publish_mb_per_s: last.publish.flow.mb_per_s,
        publish_p50_us: last.publish.latency_us.p50,
        publish_p99_us: last.publish.latency_us.p99,
        consume_mb_per_s: last.consume.mb_per_s,
        end_to_end_p99_us: last.end_to_end.latency_us.p99,
        broker_cpu_us_per_record: broker.cpu_us_per_record,
        broker_rss_bytes: broker.rss_bytes,
    })
}
