//! What the machine can do without a broker, in each sitting, and when that was measured.

use gannet_loadgen::latency::LatencySummary;
use gannet_loadgen::units::micros;

use crate::numbers::{MachineLimits, ToolRun};
use crate::race::document::Table;
use crate::race::session::Setting;

use super::date::utc;

/// When the limits were measured: each sitting measures them before its first broker is started.
pub(super) fn measured_when(setting: &Setting) -> String {
    let sittings = setting.limits_before.len() + 1;
    if sittings == 1 {
        return format!(
            "The limits were measured {}, before the first broker of that sitting was started. If the race was gone on with by then, those of the sittings before were not kept.",
            when(setting.limits_measured_at)
        );
    }
    format!(
        "The limits were measured when each of {sittings} sittings began, before its first broker was started."
    )
}

/// A column for each sitting, the last one first.
pub(super) fn limits_table(setting: &Setting) -> Table {
    let mut head = vec!["what".to_owned(), when(setting.limits_measured_at)];
    let mut rows = limits(&setting.limits);
    for before in setting.limits_before.iter().rev() {
        head.push(when(before.measured_at));
        for (row, mut earlier) in rows.iter_mut().zip(limits(&before.limits)) {
            row.extend(earlier.pop());
        }
    }
    Table { head, rows }
}

fn when(at: Option<u64>) -> String {
    at.map_or_else(
        || "at a time that was not kept".to_owned(),
        |at| format!("on {}", utc(at)),
    )
}

fn limits(limits: &MachineLimits) -> Vec<Vec<String>> {
    vec![
        row(
            "TCP ping-pong on the loopback",
            latency(&limits.ping_pong_us),
        ),
        row(
            "4 KiB O_DIRECT + O_DSYNC write",
            latency(&limits.sync_write_us),
        ),
        row(
            "sequential O_DIRECT, 1 MiB, eight in flight",
            format!(
                "{:.0} MB/s writing, {:.0} MB/s reading",
                limits.write_mb_per_s, limits.read_mb_per_s
            ),
        ),
        row(
            "disk, sequential, synced: O_DIRECT + O_DSYNC, 512 KiB, four in flight",
            synced(limits.synced_write_mb_per_s),
        ),
        row(
            "fio, the same",
            match &limits.fio {
                ToolRun::Absent => "not in PATH".to_owned(),
                ToolRun::Failed(reason) => format!("failed: {reason}"),
                ToolRun::Measured(fio) => format!(
                    "O_DSYNC write {} p50; {:.0} MB/s writing, {:.0} MB/s reading; synced: {}",
                    micros(fio.sync_write_p50_us),
                    fio.write_mb_per_s,
                    fio.read_mb_per_s,
                    synced(fio.synced_write_mb_per_s)
                ),
            },
        ),
        row(
            "iperf3 on the loopback",
            match &limits.iperf3 {
                ToolRun::Absent => "not in PATH".to_owned(),
                ToolRun::Failed(reason) => format!("failed: {reason}"),
                ToolRun::Measured(iperf3) => format!("{:.0} MB/s", iperf3.mb_per_s),
            },
        ),
    ]
}

fn latency(us: &LatencySummary) -> String {
    format!("{} p50, {} p99", micros(us.p50), micros(us.p99))
}

fn synced(mb_per_s: Option<f64>) -> String {
    mb_per_s.map_or_else(
        || "not measured".to_owned(),
        |mb_per_s| format!("{mb_per_s:.0} MB/s writing"),
    )
}

pub(super) fn row(what: &str, is: String) -> Vec<String> {
    vec![what.to_owned(), is]
}

#[cfg(test)]
mod tests {
    use crate::race::session::LimitsBefore;
    use crate::race::session::tests::setting;
    use crate::race::text::sample::{assert_says, told};

    #[test]
    fn the_limits_of_every_sitting_stand_with_their_time() {
        let mut race = setting(2_000.0, None);
        race.limits_measured_at = Some(1_795_964_700);
        race.limits_before = vec![LimitsBefore {
            limits: setting(1_000.0, None).limits,
            measured_at: None,
        }];
        assert_says(
            &told(&race, &[]),
            &[
                "when each of 2 sittings began",
                "| what | on 2026-11-29 15:05 UTC | at a time that was not kept |",
                "| 2000 MB/s writing, 1 MB/s reading | 1000 MB/s writing, 1 MB/s reading |",
            ],
        );
    }
}
