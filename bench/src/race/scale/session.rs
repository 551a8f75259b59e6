//! All points, one after the other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use gannet_loadgen::broker::{RemovedWhenInterrupted, end_when_interrupted};
use gannet_loadgen::filesystem::choose_directory;
use gannet_loadgen::progress::ProgressLine;
use gannet_loadgen::report::Report;

use crate::race::broker::Broker;
use crate::race::command;
use crate::race::machine::MachineInfo;
use crate::race::options::ScaleOptions;
use crate::race::session::{RaceError, generator_program, io_error};

use super::limits::Needs;
use super::points::{
    PlannedPoint, greedy_neighbour, paced_neighbour, points, retention, same_bytes_max,
};
use super::{
    ALONE, ALONE_AGAIN, Axis, BESIDE, IdleFigure, IdleMemory, Pace, Point, PointFigures,
    ScaleReport, idle, keep,
};

/// A tiny point: longer than a disk that is shared stands still, or nothing is acknowledged in the measured part.
const TINY: Duration = Duration::from_secs(1);
const TINY_BYTES_MAX: u64 = 256 << 20;
/// What a broker keeps in a tiny one.
const TINY_KEPT_BYTES: u64 = 1 << 30;
/// No point fills more of the disk than this share of what is free.
const DISK_SHARE: u64 = 4;
const BYTES_MAX: u64 = 12 << 30;
/// What a broker keeps where retention is at work: so much that a consumer which falls behind for some seconds loses nothing.
const KEPT_BYTES: u64 = 6 << 30;
/// What a run may take beyond its load: topics with very many partitions, and reading again.
const PATIENCE: Duration = Duration::from_secs(300);
const PATIENCE_PER_LOAD: u32 = 10;
/// The paced producer begins when the greedy one is at it, and ends before it: the greedy one's load is so many times as long, and this longer.
const GREEDY_TIMES: u32 = 2;
const GREEDY_BEYOND: Duration = Duration::from_secs(5);
/// A broker that has used so much CPU since before the greedy one was started is at work for it: making its topic takes less.
const AT_WORK_CPU_S: f64 = 0.2;
/// The greedy one that has not begun by then never will.
const AT_WORK_WITHIN: Duration = Duration::from_secs(60);
/// How often the broker's CPU is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);

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
    let kept_bytes = if options.tiny {
        TINY_KEPT_BYTES
    } else {
        KEPT_BYTES
    };
    let kept_bytes = kept_bytes.min(filesystem.free_bytes / DISK_SHARE);
    // Figures that mean nothing do not stand beside others.
    let kept = super::read(&options.place.results())?.filter(|kept| kept.tiny == options.tiny);
    let mut scale = Scale {
        options,
        generator: generator_program(options.generator.as_deref()),
        directory: directory.path().to_owned(),
        results_dir: options.place.results(),
        bytes_max,
        kept_bytes,
        removed: removed.clone(),
        report: ScaleReport {
            machine: Some(MachineInfo::of(directory.path(), filesystem)),
            tiny: options.tiny,
            ..kept.unwrap_or_default()
        },
    };
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
    /// What a broker keeps where retention is at work, over all partitions.
    kept_bytes: u64,
    removed: RemovedWhenInterrupted,
    report: ScaleReport,
}

impl Scale<'_> {
    /// One axis, anew unless it is gone on with; the others stay as they were kept. What is found is kept at once.
    fn measure(&mut self, axis: Axis, progress: &mut ProgressLine) -> Result<(), RaceError> {
        if !self.options.resume {
            self.report.forget(axis);
        }
        progress.step(format!("scale: {axis:?}"));
        match axis {
            Axis::Idle => self.idle(),
            Axis::Neighbours => self.neighbours(),
            _ => self.runs(axis, progress),
        }
    }

    fn runs(&mut self, axis: Axis, progress: &mut ProgressLine) -> Result<(), RaceError> {
        let mut same_bytes = None;
        for planned in points(axis, self.options.tiny) {
            progress.step(format!(
                "scale: {axis:?} {}, {:?}",
                planned.at, planned.pace
            ));
            let known = self.report.measured(axis, planned.pace, planned.at);
            // Points that are to send as much as another must know how much that was.
            let known = known.filter(|known| !planned.same_bytes || known.acked_bytes > 0);
            let outcome = match (known, same_bytes) {
                (Some(known), _) => Ok(known.clone()),
                (None, Some(bytes)) if planned.same_bytes => {
                    self.own_broker(&planned, same_bytes_max(self.load()), Some(bytes))
                }
                (None, _) => self.own_broker(&planned, self.load(), self.bytes_max(&planned)),
            };
            if let (true, None, Ok(figures)) = (planned.same_bytes, same_bytes, &outcome) {
                same_bytes = Some(figures.acked_bytes);
            }
            self.enter(Point {
                axis,
                pace: planned.pace,
                at: planned.at,
                outcome,
            })?;
        }
        Ok(())
    }

    fn enter(&mut self, point: Point) -> Result<(), RaceError> {
        self.report.enter(point);
        keep(&self.results_dir, &self.report)
    }

    fn load(&self) -> Duration {
        if self.options.tiny {
            TINY
        } else {
            self.options.seconds
        }
    }

    /// What a point may send at most. Where the broker keeps only so much it ends with its time; a tiny one is over soon anyhow.
    fn bytes_max(&self, planned: &PlannedPoint) -> Option<u64> {
        (self.options.tiny || planned.retained_partitions.is_none()).then_some(self.bytes_max)
    }

    /// What a load is told that ends with its bytes, be it before a warm-up is over: on a fast disk a tiny one does.
    fn warm_up(&self, ends_with_its_bytes: bool) -> Vec<String> {
        if ends_with_its_bytes || self.options.tiny {
            ["--warm-up", "0ms"].map(str::to_owned).to_vec()
        } else {
            Vec::new()
        }
    }

    fn own_broker(
        &self,
        planned: &PlannedPoint,
        load: Duration,
        bytes_max: Option<u64>,
    ) -> Result<PointFigures, String> {
        let mut arguments = planned.arguments.clone();
        if let Some(partitions) = planned.retained_partitions {
            arguments.extend(retention(partitions, self.kept_bytes));
        }
        if let Some(path) = self.configuration(planned.needs)? {
            arguments.push("--config".to_owned());
            arguments.push(path.to_string_lossy().into_owned());
        }
        let place = self.empty("point")?;
        arguments.push("--data-dir".to_owned());
        arguments.push(place.to_string_lossy().into_owned());
        if let Some(shards) = self.options.shards {
            arguments.extend(["--shards".to_owned(), shards.to_string()]);
        }
        arguments.extend(self.warm_up(planned.same_bytes));
        let report = self.generate(&arguments, load, bytes_max, "point.json");
        // A generator that was killed has left its broker's data, and the next point needs the room. What cannot go yet goes before that.
        let _ = fs::remove_dir_all(&place);
        report.and_then(|report| figures(&report))
    }

    /// The file by which a broker takes that much; `None` where it does by default.
    fn configuration(&self, needs: Needs) -> Result<Option<PathBuf>, String> {
        let text = needs.configuration();
        if text.is_empty() {
            return Ok(None);
        }
        let path = self.directory.join("gannet.toml");
        fs::write(&path, text).map_err(|error| error.to_string())?;
        Ok(Some(path))
    }

    fn generate(
        &self,
        arguments: &[String],
        load: Duration,
        bytes_max: Option<u64>,
        report_name: &str,
    ) -> Result<Report, String> {
        let report_path = self.directory.join(report_name);
        let mut command = Command::new(&self.generator);
        command
            .args(arguments)
            .args(["--duration", &format!("{}ms", load.as_millis())])
            .arg("--report")
            .arg(&report_path);
        if let Some(bytes_max) = bytes_max {
            command.args(["--bytes-max", &bytes_max.to_string()]);
        }
        let duration_max = load * PATIENCE_PER_LOAD + PATIENCE;
        let ran = command::run(command, duration_max, &self.removed, || {})?;
        let report = read_report(&report_path);
        // A report of an earlier point must not be taken for the next one's.
        let _ = fs::remove_file(&report_path);
        report.map_err(|reason| ran.succeeded().err().unwrap_or(reason))
    }

    /// A directory of that name without what one before it may have left there.
    fn empty(&self, name: &str) -> Result<PathBuf, String> {
        let directory = self.directory.join(name);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
            _ => {}
        }
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        Ok(directory)
    }

    fn broker(&self, name: &str, needs: Needs) -> Result<Broker, String> {
        let directory = self.empty(name)?;
        let config = self.configuration(needs)?;
        Broker::gannet(&directory, self.options.shards, config, &self.removed)
    }

    fn clear(&self, name: &str, broker: Broker) -> Result<(), String> {
        broker.stop()?;
        fs::remove_dir_all(self.directory.join(name)).map_err(|error| error.to_string())
    }

    fn idle(&mut self) -> Result<(), RaceError> {
        let tiny = self.options.tiny;
        if !all_measured(&self.report.idle_partitions, &idle::partitions_of(tiny)) {
            self.report.idle_partitions.clear();
            self.idle_on("idle-partitions", idle::needs(), |scale, broker| {
                idle::partitions(broker, tiny, |figure| {
                    scale.report.idle_partitions.push(figure);
                    keep(&scale.results_dir, &scale.report)
                })
            })?;
        }
        if !all_measured(&self.report.idle_connections, &idle::connections_of(tiny)) {
            self.report.idle_connections.clear();
            self.idle_on("idle-connections", Needs::default(), |scale, broker| {
                idle::connections(broker, tiny, |figure| {
                    scale.report.idle_connections.push(figure);
                    keep(&scale.results_dir, &scale.report)
                })
            })?;
        }
        Ok(())
    }

    /// With a broker of that name. That it could not be started, or did not stop as it should, is a failure of the report's.
    fn idle_on(
        &mut self,
        name: &str,
        needs: Needs,
        measure: impl FnOnce(&mut Self, &Broker) -> Result<(), RaceError>,
    ) -> Result<(), RaceError> {
        let prefix = format!("{name}: ");
        self.report
            .failures
            .retain(|failure| !failure.starts_with(&prefix));
        let cleared = match self.broker(name, needs) {
            Ok(broker) => {
                measure(self, &broker)?;
                self.clear(name, broker)
            }
            Err(reason) => Err(reason),
        };
        if let Err(reason) = cleared {
            self.report.failures.push(format!("{prefix}{reason}"));
        }
        keep(&self.results_dir, &self.report)
    }

    /// A producer at a fixed rate: alone, then beside one that sends as fast as it goes, and alone again.
    fn neighbours(&mut self) -> Result<(), RaceError> {
        let (axis, pace) = (Axis::Neighbours, Pace::Paced);
        let is_measured = |at: &f64| self.report.measured(axis, pace, *at).is_some();
        if ![ALONE, BESIDE, ALONE_AGAIN].iter().all(is_measured) {
            // They are compared with each other: one of another day says nothing about the others.
            self.report.forget(axis);
        }
        for at in [ALONE, BESIDE, ALONE_AGAIN] {
            let greedy = at.total_cmp(&BESIDE).is_eq();
            if self.report.measured(axis, pace, at).is_some() {
                continue;
            }
            let outcome = self.neighbour(greedy).and_then(|report| figures(&report));
            self.enter(Point {
                axis,
                pace,
                at,
                outcome,
            })?;
        }
        Ok(())
    }

    fn neighbour(&self, greedy: bool) -> Result<Report, String> {
        let broker = self.broker("neighbours", Needs::default())?;
        let server = ["--server".to_owned(), broker.address()];
        let told =
            |arguments: Vec<String>| [arguments, server.to_vec(), self.warm_up(false)].concat();
        let paced = || {
            self.generate(
                &told(paced_neighbour()),
                self.load(),
                Some(self.bytes_max),
                "paced.json",
            )
        };
        let report = if greedy {
            let cpu_s = || {
                let usage = broker.usage().map_err(|error| error.to_string())?;
                Ok(usage.cpu_s)
            };
            let used_before = cpu_s();
            std::thread::scope(|scope| {
                let began = Instant::now();
                let beside = scope.spawn(|| {
                    let load = self.load() * GREEDY_TIMES + GREEDY_BEYOND;
                    let arguments = told(greedy_neighbour(self.kept_bytes));
                    self.generate(&arguments, load, None, "greedy.json")
                });
                let report = used_before
                    .and_then(|before| until_at_work(before, cpu_s, || beside.is_finished()))
                    .and_then(|()| paced());
                let ended = began.elapsed();
                let beside = beside
                    .join()
                    .unwrap_or_else(|_| Err("the greedy producer's thread panicked".to_owned()));
                beside
                    .and_then(|beside| greedy_until(&beside, ended))
                    .and(report)
            })
        } else {
            paced()
        };
        let cleared = self.clear("neighbours", broker);
        let report = report?;
        cleared.map(|()| report)
    }
}

/// Waits until a broker that had used so much CPU `before` is at work.
fn until_at_work(
    before: f64,
    cpu_s: impl Fn() -> Result<f64, String>,
    is_over: impl Fn() -> bool,
) -> Result<(), String> {
    let began = Instant::now();
    while cpu_s()? < before + AT_WORK_CPU_S {
        if is_over() || began.elapsed() >= AT_WORK_WITHIN {
            return Err("the greedy producer never was at work".to_owned());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Whether the greedy one, which was started then, was still at it when the paced one had `ended`, and came out with all its records. What it took to start is not counted: it sent longer than is
/// said here.
fn greedy_until(beside: &Report, ended: Duration) -> Result<(), String> {
    if !beside.passed {
        return Err(format!(
            "the greedy producer: {}",
            beside.failures.join("; ")
        ));
    }
    if beside.last.seconds < ended.as_secs_f64() {
        return Err(format!(
            "the greedy producer was at it for {:.1} s, and the paced one ended {:.1} s after it was started: it was alone in the end",
            beside.last.seconds,
            ended.as_secs_f64()
        ));
    }
    Ok(())
}

/// Whether each of these steps gave a figure.
fn all_measured(figures: &[IdleFigure], steps: &[u64]) -> bool {
    let is_measured = |(figure, step): (&IdleFigure, &u64)| {
        figure.count == *step && matches!(figure.memory, IdleMemory::Bytes(_))
    };
    figures.len() == steps.len() && figures.iter().zip(steps).all(is_measured)
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
        acked_bytes: report.acked * report.settings.record_bytes,
        limited_by_generator: last.limited_by_generator.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(count: u64, memory: IdleMemory) -> IdleFigure {
        IdleFigure { count, memory }
    }

    fn sent_for(seconds: f64) -> Report {
        let mut report = Report {
            passed: true,
            ..Report::default()
        };
        report.last.seconds = seconds;
        report
    }

    #[test]
    fn a_greedy_neighbour_that_ends_first_is_a_failure() {
        assert_eq!(
            greedy_until(&sent_for(22.0), Duration::from_secs(12)),
            Ok(())
        );
        let reason = greedy_until(&sent_for(9.0), Duration::from_secs(12)).unwrap_err();
        assert!(
            reason.contains("9.0 s") && reason.contains("12.0 s"),
            "{reason}"
        );
    }

    #[test]
    fn a_greedy_neighbour_that_lost_records_is_a_failure() {
        let report = Report {
            passed: false,
            failures: vec!["3 records were lost".to_owned()],
            ..sent_for(22.0)
        };
        let reason = greedy_until(&report, Duration::ZERO).unwrap_err();
        assert!(reason.contains("3 records"), "{reason}");
    }

    #[test]
    fn the_paced_neighbour_waits_for_the_greedy_one() {
        let used = std::cell::Cell::new(1.0);
        let more = || {
            used.set(used.get() + 0.05);
            Ok(used.get())
        };
        assert_eq!(until_at_work(1.0, more, || false), Ok(()));
        assert!(used.get() >= 1.0 + AT_WORK_CPU_S);
        assert!(until_at_work(1.0, || Ok(1.0), || true).is_err());
        assert!(until_at_work(1.0, || Err("gone".to_owned()), || false).is_err());
    }

    #[test]
    fn what_limited_a_point_is_kept() {
        let mut report = sent_for(10.0);
        report.last.publish.flow.records = 1;
        assert_eq!(figures(&report).unwrap().limited_by_generator, None);
        report.last.limited_by_generator = Some("no core was left".to_owned());
        let kept = figures(&report).unwrap().limited_by_generator;
        assert_eq!(kept.as_deref(), Some("no core was left"));
    }

    #[test]
    fn idle_things_are_measured_once_each_step_has_given_a_figure() {
        let measured = |count| figure(count, IdleMemory::Bytes(1));
        let failed = figure(10, IdleMemory::Failed("no room".to_owned()));
        assert!(all_measured(&[measured(0), measured(10)], &[0, 10]));
        assert!(!all_measured(&[measured(0)], &[0, 10]));
        assert!(!all_measured(&[measured(0), measured(9)], &[0, 10]));
        assert!(!all_measured(&[measured(0), failed], &[0, 10]));
    }
}
