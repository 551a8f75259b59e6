//! A measured load of the load generator's library on a broker of the harness.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser as _;
use gannet_loadgen::driver::native::{NewTopic, WireConnect};
use gannet_loadgen::options::{CommandLine, Rate};
use gannet_loadgen::plan::{PhasePlan, Plan};
use gannet_loadgen::progress::ProgressLine;
use gannet_loadgen::report::{Durability, PhaseReport};
use gannet_loadgen::run::{Run, failures};

/// What is not measured at the beginning.
const WARM_UP: Duration = Duration::from_secs(1);

/// A load on one topic, in one phase or several of the same rate. Returns what each measured.
///
/// # Panics
/// When the run cannot be made, or a record was lost, doubled, reordered or changed.
pub(super) fn measure(
    server: SocketAddr,
    topic: &str,
    rate: Rate,
    phases: &[Duration],
) -> Vec<PhaseReport> {
    // The generator's own defaults, but for what is said here.
    let line = CommandLine::try_parse_from(["gannet-loadgen", "--rate", "max"])
        .expect("the generator knows its options");
    let defaults = Plan::new(&line.options).expect("the defaults make a plan");
    let batching = defaults
        .phases
        .first()
        .expect("a plan has a phase")
        .batching;
    let plan = Plan {
        phases: phases
            .iter()
            .map(|duration| PhasePlan {
                name: "measured",
                rate,
                duration: *duration,
                warm_up: WARM_UP.min(*duration / 4),
                bytes_max: None,
                overrun_max: None,
                batching,
            })
            .collect(),
        kill: false,
        reread: false,
        limits: false,
        ..defaults
    };
    let connect = WireConnect::open(&server.to_string(), topic, &NewTopic::of(&plan))
        .expect("the broker serves");
    static RUNS: AtomicU32 = AtomicU32::new(1);
    // Several runs share a topic, and tell their records apart by it.
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let mut progress = ProgressLine::new();
    let outcome = Run::new(&plan, &connect, None, &mut progress, run, 1)
        .execute()
        .expect("a run can be made");
    progress.finish();
    let failures = failures(&outcome, Durability::Durable);
    assert!(failures.is_empty(), "{failures:#?}");
    outcome.phases
}
