#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use super::*;
use crate::io::sim::{CrashPolicy, Fault, FaultKind, SimDisk, SimExecutor};
use crate::storage::sample::KEY;

const OWNER: Option<PartitionKey> = Some(KEY);

#[test]
fn a_directory_that_a_killed_life_left_is_durable_before_a_segment_in_it_counts() {
    // Wherever in the making of its directory the first life was killed.
    for micros in 0..400 {
        let executor = SimExecutor::new(micros);
        let disk = SimDisk::new(&executor);
        let data = DataDir::new("/data");
        executor.block_on(disk.create_dir_all(data.root())).unwrap();
        let killed = Box::pin({
            let (disk, dir) = (disk.clone(), data.segment_dir(OWNER));
            async move {
                let _ = disk.create_dir_all(&dir).await;
            }
        });
        crate::io::Spawn::spawn(&executor.spawner(), killed);
        executor.run_for(Duration::from_micros(micros));
        executor.crash();
        disk.crash(CrashPolicy::ProcessKilled);

        let id = SegmentId(1);
        executor
            .block_on(async {
                let segment =
                    OpenSegment::create(&disk, &data, &SegmentDirs::default(), id, OWNER).await?;
                segment.sync().await
            })
            .unwrap();
        disk.crash(CrashPolicy::KeepSynced);
        assert!(
            disk.read_file(&data.segment(OWNER, id)).is_some(),
            "killed after {micros} microseconds"
        );
    }
}

#[test]
fn a_segment_that_could_not_be_made_leaves_no_file() {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::new(&executor);
    let data = DataDir::new("/data");
    disk.inject(Fault::new(FaultKind::Write).at(".seg"));
    let dirs = SegmentDirs::default();
    let made = executor.block_on(OpenSegment::create(&disk, &data, &dirs, SegmentId(1), None));
    assert!(made.is_err());
    assert_eq!(disk.list_tree(), []);
}
