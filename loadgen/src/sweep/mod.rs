//! Latency against load: runs at rising rates against one broker until it does not keep up, and then the rate at which that begins.
//!
//! What is decided is in [`search`]; each step is a whole run in a fresh topic, with every record verified, so that no step finds the backlog of the one before it.

pub mod options;
pub mod report;
pub mod search;
mod table;

use std::time::{Duration, Instant};

use crate::options::{Options, Rate};
use crate::plan::{Plan, PlanError};
use crate::report::{PhaseReport, Report};
use crate::session::{Session, SessionError};
use crate::units::grouped;
use options::SweepOptions;
use report::{Knee, SweepReport, SweepStep};
use search::{End, Goal, Load, Next, Search};

pub use table::{render, sentence};

/// How long a step is, unless the options or the scenario say so.
const STEP: Duration = Duration::from_secs(5);
/// What a rate may fall short of and still be reached.
const KEPT_UP_MIN: f64 = 0.97;
/// The knee is known when the rates around it are so close.
const PRECISION: f64 = 0.05;
/// Failures until a rate is too high.
const TRIES: u32 = 2;

/// Makes the sweep. The report says whether it passed.
///
/// # Errors
/// [`SessionError`] when there is nothing to report.
pub fn sweep(options: &SweepOptions) -> Result<SweepReport, SessionError> {
    let began = Instant::now();
    let run = step_options(&options.run)?;
    let goal = goal(options);
    let mut session = Session::open(&run, &step(&run, goal.from)?)?.with_topics_deleted();
    let mut search = Search::new(goal);
    let mut steps: Vec<(Load, Report)> = Vec::new();
    let mut longest = Duration::ZERO;
    let end = loop {
        let rate = match search.next() {
            Next::Try(rate) => rate,
            Next::End(end) => break end,
        };
        let elapsed = began.elapsed();
        if !steps.is_empty() && elapsed + longest > options.budget {
            break End::Budget;
        }
        session.progress().whole(format!(
            "step {}, {:.0} of {:.0} s, {} records/s: ",
            steps.len() + 1,
            elapsed.as_secs_f64(),
            options.budget.as_secs_f64(),
            grouped(rate),
        ));
        let report = match session.run(&step(&run, rate)?) {
            Ok(report) => report,
            Err(SessionError::Plan(_)) if !steps.is_empty() => break End::NoRoom,
            Err(error) => return Err(error),
        };
        longest = longest.max(began.elapsed().saturating_sub(elapsed));
        let passed = report.passed;
        let load = load(rate, &report.last);
        search.take(load);
        steps.push((load, report));
        if !passed {
            break End::Failed;
        }
    };
    session.progress().whole("");
    let failures = session.close()?;
    Ok(report(
        &goal,
        &search,
        steps,
        end,
        began.elapsed(),
        failures,
    ))
}

/// The options of a step are those of a run, but for what a sweep decides itself.
fn step_options(options: &Options) -> Result<Options, PlanError> {
    for (is_given, what, instead) in [
        (
            options.rate.is_some(),
            "--rate",
            "a sweep chooses its rates: --from, --factor and --to bound them",
        ),
        (
            options.kill,
            "--kill",
            "a sweep needs its broker until the end",
        ),
        (
            options.limits,
            "--limits",
            "measure the limits of the machine in a run of its own",
        ),
    ] {
        if is_given {
            return Err(PlanError::new(format!(
                "{what} makes no sense here: {instead}"
            )));
        }
    }
    let mut options = options.clone();
    if options.scenario.is_none() {
        options.duration.get_or_insert(STEP);
    }
    Ok(options)
}

fn goal(options: &SweepOptions) -> Goal {
    Goal {
        from: options.from.get(),
        to: options.to.map_or(search::RATE_MAX, Into::into),
        factor: options.factor,
        kept_up_min: KEPT_UP_MIN,
        p99_times: options.p99_times,
        precision: PRECISION,
        tries: TRIES,
    }
}

/// The run at one rate. What a broker that is far behind did not take by twice the duration is not waited for: the rate is too high, whatever else would come.
fn step(options: &Options, rate: u64) -> Result<Plan, PlanError> {
    let mut plan = Plan::new(&Options {
        rate: Some(Rate::PerSecond(rate)),
        ..options.clone()
    })?;
    for phase in &mut plan.phases {
        phase.overrun_max = Some(phase.duration);
    }
    Ok(plan)
}

/// With consumers, the slower side counts.
fn load(offered: u64, phase: &PhaseReport) -> Load {
    let (published, delivered) = (&phase.publish, &phase.consume);
    let publish_p99 = published.latency_us.p99;
    if delivered.records == 0 {
        return Load {
            offered,
            achieved: published.flow.records_per_s,
            p99_us: publish_p99,
        };
    }
    // Each group of consumers gets every record.
    let groups = phase.groups.len().max(1) as f64;
    Load {
        offered,
        achieved: published
            .flow
            .records_per_s
            .min(delivered.records_per_s / groups),
        p99_us: publish_p99.max(phase.end_to_end.latency_us.p99),
    }
}

fn report(
    goal: &Goal,
    search: &Search,
    steps: Vec<(Load, Report)>,
    end: End,
    elapsed: Duration,
    failures: Vec<String>,
) -> SweepReport {
    let knee = knee(search, &steps);
    let first = steps.first().map(|(_, report)| report.clone());
    let first = first.unwrap_or_default();
    let mut report = SweepReport {
        version: first.version,
        scenario: first.scenario,
        driver: first.driver,
        label: first.label,
        seed: first.seed,
        settings: first.settings,
        machine: first.machine,
        low_load_p99_us: search.low_load_p99_us().unwrap_or_default(),
        kept_up_min: goal.kept_up_min,
        p99_times: goal.p99_times,
        knee,
        end: Some(end),
        seconds: elapsed.as_secs_f64(),
        passed: true,
        ..SweepReport::default()
    };
    for (load, step) in steps {
        let offered = grouped(load.offered);
        let failed = step.failures.iter();
        report.fail(failed.map(|failure| format!("at {offered} records/s: {failure}")));
        report.sweep.push(SweepStep {
            offered_records_per_s: load.offered,
            achieved_records_per_s: load.achieved,
            p99_us: load.p99_us,
            verdict: Some(search.verdict(&load)),
            report: step,
        });
    }
    report.fail(failures);
    report
}

fn knee(search: &Search, steps: &[(Load, Report)]) -> Option<Knee> {
    let (kept_up, too_high) = (search.kept_up()?, search.too_high()?);
    let at = |rate: u64| steps.iter().rfind(move |(load, _)| load.offered == rate);
    let (beyond, report) = at(too_high)?;
    Some(Knee {
        records_per_s: kept_up,
        p99_us: at(kept_up).map_or(0.0, |(load, _)| load.p99_us),
        too_high_records_per_s: too_high,
        verdict: Some(search.verdict(beyond)),
        limited_by_generator: report.last.limited_by_generator.clone(),
    })
}

#[cfg(test)]
mod tests;
