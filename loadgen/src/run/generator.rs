//! Whether a phase's figures are the generator's more than the broker's.

use crate::report::{PhaseReport, RereadReport};
use crate::units::micros;

/// Producers that wait less than this share of the time are the limit themselves.
const WAITING_MIN: f64 = 0.05;
/// From this share on the machine counts as full.
const BUSY: f64 = 0.95;
/// Lateness that explains less than this share of a latency, or is shorter than this, limits nothing.
pub(super) const LATE_SHARE: f64 = 0.25;
pub(super) const LATE_US: f64 = 500.0;

/// What the generator did to the figures of a phase: a sentence, or `None` when nothing says that it limited them.
#[must_use]
pub fn limited_by_generator(phase: &PhaseReport) -> Option<String> {
    let generator = &phase.generator;
    let mut reasons = Vec::new();
    if let Some(waiting) = generator.producers_waiting
        && waiting < WAITING_MIN
    {
        reasons.push(format!(
            "its producers waited only {:.0} % of the time, so more of them (--producers) may reach more",
            waiting * 100.0
        ));
    }
    let (late, latency) = (generator.late_own_us.p99, phase.publish.latency_us.p99);
    if is_late(late, latency) {
        reasons.push(format!(
            "it sent 1 % of the records {} late or more by its own doing, against a publish p99 of {}",
            micros(late),
            micros(latency)
        ));
    }
    if generator.machine_busy > BUSY {
        reasons.push(format!(
            "every core of the machine was busy, and it used {:.2} of them, which a broker on a machine of its own would have had",
            generator.cpu_cores
        ));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Likewise of reading everything again, where nobody publishes: whether its consumers had time to spare.
#[must_use]
pub fn reread_limited_by_generator(reread: &RereadReport) -> Option<String> {
    let mut reasons = Vec::new();
    let cpu_cores = reread.generator_cpu_cores;
    if let Some(waiting) = reread.consumers_waiting
        && waiting < WAITING_MIN
    {
        reasons.push(format!(
            "its {} consumer(s) waited only {:.0} % of the time, so more of them (--consumers) may read more",
            reread.consumers,
            waiting * 100.0
        ));
    }
    if let Some(busy) = reread.machine_busy
        && busy > BUSY
    {
        let used =
            cpu_cores.map_or_else(|| "some".to_owned(), |cpu_cores| format!("{cpu_cores:.2}"));
        reasons.push(format!(
            "every core of the machine was busy, and it used {used} of them, which a broker on a machine of its own would have had"
        ));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Whether lateness is a part of a latency that counts.
pub(super) fn is_late(late_us: f64, latency_us: f64) -> bool {
    late_us > LATE_US && late_us > latency_us * LATE_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> PhaseReport {
        let mut phase = PhaseReport::default();
        phase.generator.producers_waiting = Some(0.5);
        phase.generator.machine_busy = 0.9;
        phase.publish.latency_us.p99 = 2_000.0;
        phase
    }

    #[test]
    fn a_generator_that_waits_on_a_machine_with_room_limits_nothing() {
        assert_eq!(limited_by_generator(&quiet()), None);
    }

    #[test]
    fn producers_that_never_wait_are_the_limit() {
        let mut phase = quiet();
        phase.generator.producers_waiting = Some(0.01);
        let reason = limited_by_generator(&phase).unwrap();
        assert!(reason.contains("--producers"), "{reason}");
    }

    #[test]
    fn lateness_counts_when_it_is_its_own_and_a_part_of_the_latency() {
        let mut phase = quiet();
        phase.generator.late_us.p99 = 1_900.0;
        assert_eq!(limited_by_generator(&phase), None, "the broker's doing");
        phase.generator.late_own_us.p99 = 1_500.0;
        let reason = limited_by_generator(&phase).unwrap();
        assert!(reason.contains("1.50 ms late"), "{reason}");
        phase.publish.latency_us.p99 = 100_000.0;
        assert_eq!(limited_by_generator(&phase), None, "hardly a part of it");
    }

    #[test]
    fn a_machine_without_room_limits_both() {
        let mut phase = quiet();
        phase.generator.machine_busy = 0.97;
        phase.generator.cpu_cores = 0.75;
        let reason = limited_by_generator(&phase).unwrap();
        assert!(reason.contains("0.75"), "{reason}");
    }

    #[test]
    fn consumers_that_never_wait_limit_what_is_read_again() {
        let mut reread = RereadReport {
            consumers: 2,
            consumers_waiting: Some(0.3),
            generator_cpu_cores: Some(1.2),
            machine_busy: Some(0.9),
            ..RereadReport::default()
        };
        assert_eq!(reread_limited_by_generator(&reread), None);
        reread.consumers_waiting = Some(0.01);
        let reason = reread_limited_by_generator(&reread).unwrap();
        assert!(reason.contains("--consumers"), "{reason}");
        reread.consumers_waiting = None;
        reread.machine_busy = Some(0.99);
        let reason = reread_limited_by_generator(&reread).unwrap();
        assert!(reason.contains("used 1.20 of them"), "{reason}");
    }

    #[test]
    fn a_report_of_before_reading_again_was_judged_says_nothing_of_it() {
        let old = r#"{"records": 5, "records_per_s": 5.0, "mb_per_s": 1.0, "seconds": 1.0}"#;
        let reread: RereadReport = serde_json::from_str(old).unwrap();
        assert_eq!(reread.flow.records, 5);
        assert_eq!(reread_limited_by_generator(&reread), None);
    }

    #[test]
    fn where_the_kernel_does_not_count_waiting_nothing_is_said_of_it() {
        let mut phase = quiet();
        phase.generator.producers_waiting = None;
        assert_eq!(limited_by_generator(&phase), None);
    }
}
