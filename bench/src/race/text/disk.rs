//! The disk beside what was published: what it takes by itself, as fio and our own measurement found it.

use crate::numbers::{MachineLimits, ToolRun};
use crate::race::bars::SATURATED_LARGE;
use crate::race::entrant::GANNET_DURABLE;
use crate::race::session::Setting;
use crate::race::spread::{Spread, figure};
use crate::race::standing::{Measure, Standing};

/// fio's sequential writes in each sitting that had it.
pub(super) fn fio_writes(setting: &Setting) -> Option<Spread> {
    let before = setting.limits_before.iter().map(|before| &before.limits);
    Spread::of(
        before
            .chain([&setting.limits])
            .filter_map(|limits| match &limits.fio {
                ToolRun::Measured(fio) => Some(fio.write_mb_per_s),
                ToolRun::Absent | ToolRun::Failed(_) => None,
            }),
    )
}

/// How near the saturated load came to what the disk takes by itself.
pub(super) fn beside_the_disk(standing: &Standing, limits: &MachineLimits) -> Option<String> {
    let saturated = standing.figure(SATURATED_LARGE, GANNET_DURABLE, Measure::PublishMbPerS)?;
    let published = saturated.counted.median;
    let beside = |mb_per_s: f64| {
        format!(
            "{} x of its {mb_per_s:.0} MB/s",
            figure(published / mb_per_s)
        )
    };
    let synced = limits.synced_write_mb_per_s.map_or_else(
        || "synced ones, as each of Gannet's is, were not measured".to_owned(),
        |mb_per_s| format!("{} synced, as each of Gannet's is", beside(mb_per_s)),
    );
    Some(format!(
        "Gannet durable, saturated, large batches, consumed meanwhile, to what the disk writes in order by our own measurement of the last sitting: {} un-synced; {synced}.",
        beside(limits.write_mb_per_s)
    ))
}

#[cfg(test)]
mod tests {
    use crate::race::entrant::{Entrant, GANNET_DURABLE, KAFKA_UNSYNCED};
    use crate::race::session::tests::setting;
    use crate::race::text::sample::{assert_says, assert_says_none, saturated, told};

    /// Of a race that has no figure but one of this broker's, on a disk that writes 2000 MB/s, and so many synced.
    fn told_of(entrant: Entrant, synced_write_mb_per_s: Option<f64>) -> String {
        let setting = setting(2_000.0, synced_write_mb_per_s);
        told(&setting, &[saturated(entrant, 500.0)])
    }

    #[test]
    fn the_saturated_figure_stands_beside_what_the_disk_writes_with_and_without_syncs() {
        assert_says(
            &told_of(GANNET_DURABLE, Some(1_000.0)),
            &[
                "0.25 x of its 2000 MB/s un-synced",
                "0.50 x of its 1000 MB/s synced",
                "| disk, sequential, synced: O_DIRECT + O_DSYNC, 512 KiB, four in flight | 1000 MB/s writing |",
            ],
        );
    }

    #[test]
    fn a_race_without_the_disks_synced_writes_says_so() {
        assert_says(
            &told_of(GANNET_DURABLE, None),
            &[
                "synced ones, as each of Gannet's is, were not measured",
                "four in flight | not measured |",
            ],
        );
    }

    #[test]
    fn nothing_is_said_about_the_disk_where_the_saturated_load_was_not_measured() {
        let text = told_of(KAFKA_UNSYNCED, None);
        assert_says_none(&text, &["to what the disk writes"]);
    }
}
