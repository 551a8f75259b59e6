use std::path::PathBuf;

use gannet_engine::control::Machine;
use gannet_loadgen::filesystem::Filesystem;
use gannet_loadgen::latency::{LatencyHistogram, LatencySummary};
use gannet_loadgen::measure::SyncWrites;

use super::*;
use crate::interrupts::{Interrupt, Interrupts};
use crate::ring::RingFeatures;
use crate::storage::{Mount, Queue};

/// So long each.
fn summary(us: f64) -> LatencySummary {
    let mut histogram = LatencyHistogram::default();
    histogram.record_many((us * 1e3) as u64, 1000);
    histogram.summary()
}

/// Small synced writes, so many times as many a second with 16 at once as with one.
fn sync_writes(times: f64) -> Vec<SyncWrites> {
    [(1, 1.0), (16, times)]
        .map(|(depth, times)| SyncWrites {
            block_bytes: 4096,
            depth,
            latency_us: summary(100.0),
            writes_per_s: 10_000.0 * times,
        })
        .to_vec()
}

pub(crate) fn facts() -> Facts {
    Facts {
        kernel: "6.18.0".to_owned(),
        machine: Machine {
            cores: vec![0, 1, 2, 3],
            memory_bytes: 16 << 30,
            descriptors_max: 1 << 20,
        },
        siblings: ["0", "1", "2", "3"].map(str::to_owned).to_vec(),
        nodes: Some(vec!["0-3".to_owned()]),
        interrupts: Some(Interrupts {
            cores: vec![0, 1, 2, 3],
            interrupts: vec![Interrupt {
                number: 36,
                name: "nvme0q1".to_owned(),
                counts: vec![10, 11, 10, 11],
                allowed: Some("0-3".to_owned()),
            }],
        }),
        governor: None,
        memlock_bytes: None,
        descriptors_hard: None,
        ring: Ring::Available,
        ring_features: RingFeatures {
            cooperative: Some(true),
            deferred: Some(true),
            zero_copy_send: Some(true),
        },
        huge_pages: Some("madvise".to_owned()),
        mount: Some(Mount {
            point: "/data".to_owned(),
            kind: "ext4".to_owned(),
            source: "/dev/nvme0n1".to_owned(),
            options: vec!["rw".to_owned(), "noatime".to_owned()],
        }),
        queue: Some(Queue {
            device: "nvme0n1".to_owned(),
            scheduler: Some("none".to_owned()),
            write_back: Some(false),
            rotational: Some(false),
            requests: Some(1023),
        }),
        data_dir: PathBuf::from("/data"),
        filesystem: Filesystem::of(std::path::Path::new("/proc")).unwrap(),
        disk: Some(Disk {
            sync_write_us: summary(100.0),
            write_bytes_per_s: 2e9,
            sync_writes: sync_writes(8.0),
        }),
        ping_pong_us: summary(60.0),
    }
}

fn said(facts: &Facts, word: &str) -> bool {
    limits(facts).iter().any(|sentence| sentence.contains(word))
}

#[test]
fn a_good_machine_is_limited_by_its_disk_and_network_alone() {
    let limits = limits(&facts());
    assert_eq!(limits.len(), 3, "{limits:?}");
    assert!(
        limits[0].contains("160 us") && limits[0].contains("at most 6,2"),
        "{limits:?}"
    );
    assert!(limits[1].contains("2000 MB/s"), "{limits:?}");
    assert!(limits[2].contains("8.0 times"), "{limits:?}");
}

#[test]
fn a_refused_ring_comes_first_and_says_what_to_change() {
    for (ring, remedy) in [
        (Ring::SwitchedOff, "sysctl"),
        (Ring::Forbidden, "seccomp"),
        (Ring::LockedMemory, "ulimit -l"),
        (Ring::Missing, "5.11"),
        (Ring::Other(5), "error 5"),
    ] {
        let facts = Facts { ring, ..facts() };
        assert!(limits(&facts)[0].contains(remedy), "{ring:?}");
    }
}

#[test]
fn siblings_are_not_taken_for_cores() {
    let facts = Facts {
        siblings: ["0-1", "0-1", "2-3", "2-3"].map(str::to_owned).to_vec(),
        ..facts()
    };
    assert_eq!(facts.physical_cores(), 2);
    assert!(said(&facts, "2 physical"));
}

#[test]
fn low_limits_of_the_process_are_named() {
    let mut facts = facts();
    facts.machine.descriptors_max = 1024;
    facts.descriptors_hard = Some(2048);
    facts.governor = Some("powersave".to_owned());
    for word in ["LimitNOFILE", "powersave"] {
        assert!(said(&facts, word), "{word}");
    }
}

#[test]
fn a_disk_with_slow_outliers_is_named() {
    let mut facts = facts();
    facts.disk = Some(Disk {
        sync_write_us: LatencySummary {
            p99: 5_000.0,
            ..summary(100.0)
        },
        write_bytes_per_s: 2e9,
        sync_writes: Vec::new(),
    });
    assert!(said(&facts, "5.00 ms at p99"));
}

#[test]
fn a_limit_of_descriptors_that_the_broker_raises_by_itself_is_none() {
    let mut facts = facts();
    facts.machine.descriptors_max = 1024;
    assert!(!said(&facts, "LimitNOFILE"));
}

#[test]
fn a_disk_that_takes_writes_in_turns_gains_nothing_from_several() {
    let mut facts = facts();
    facts.disk = facts.disk.map(|disk| Disk {
        sync_writes: sync_writes(1.2),
        ..disk
    });
    assert!(said(&facts, "in turns"));
    assert!(!said(&facts, "worth trying"));
}

#[test]
fn what_only_root_can_change_is_said_with_the_command() {
    let mut facts = facts();
    if let Some(queue) = &mut facts.queue {
        queue.scheduler = Some("mq-deadline".to_owned());
        queue.write_back = Some(true);
    }
    if let Some(mount) = &mut facts.mount {
        mount.options.push("discard".to_owned());
    }
    if let Some(interrupts) = &mut facts.interrupts {
        interrupts.interrupts[0].counts = vec![0, 0, 999, 1];
    }
    facts.huge_pages = Some("never".to_owned());
    for word in [
        "/sys/block/nvme0n1/queue/scheduler",
        "must flush",
        "remount,nodiscard /data",
        "Core 2 has handled 100 %",
        "/proc/irq/36/smp_affinity_list",
        "echo madvise",
    ] {
        assert!(said(&facts, word), "{word}");
    }
}

#[test]
fn a_mount_that_does_not_keep_its_word_is_named() {
    for (option, word) in [
        ("nobarrier", "power cut"),
        ("barrier=0", "power cut"),
        ("data=journal", "O_DIRECT"),
    ] {
        let mut facts = facts();
        if let Some(mount) = &mut facts.mount {
            mount.options.push(option.to_owned());
        }
        assert!(said(&facts, word), "{option}");
    }
}

#[test]
fn several_nodes_and_an_older_kernel_are_named() {
    let mut facts = facts();
    facts.nodes = Some(vec!["0-1".to_owned(), "2-3".to_owned()]);
    facts.ring_features.deferred = Some(false);
    assert!(said(&facts, "2 NUMA nodes (0-1; 2-3)"));
    assert!(said(&facts, "Linux 6.1"));
}

#[test]
fn nothing_is_said_about_what_is_not_known() {
    let facts = Facts {
        nodes: None,
        interrupts: None,
        huge_pages: None,
        mount: None,
        queue: None,
        ring_features: RingFeatures::default(),
        ..facts()
    };
    assert_eq!(limits(&facts).len(), 3, "{:?}", limits(&facts));
}
