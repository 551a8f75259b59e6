//! Runs of the simulated world: seeds that must pass, bugs that must be found, and what was found before.

use gannet_tests::world::{Faults, Run};

#[test]
fn nothing_acknowledged_is_lost_in_crashes() {
    for seed in 0..100 {
        let run = Run {
            seed,
            faults: Faults::None,
            canary: None,
        };
        if let Err(finding) = run.go() {
            panic!("{finding}");
        }
    }
}
