use std::path::PathBuf;
use std::time::Duration;

use gannet_engine::control::Machine;
use gannet_loadgen::filesystem::Filesystem;
use gannet_loadgen::latency::{LatencyHistogram, LatencySummary};
use gannet_loadgen::measure::SyncWrites;

use super::*;
use crate::interrupts::{Interrupt, Interrupts};
use crate::ring::RingFeatures;
use crate::steadiness::{Quota, Spin, Steadiness};
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
        steadiness: Steadiness {
            spin: Spin {
                watched: Duration::from_secs(1),
                missed: Duration::from_micros(900),
                longest: Duration::from_micros(80),
                waited: Some(Duration::ZERO),
            },
            stolen: Some(0.0),
            quota: None,
        },
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
        nice: Some(-10),
        descriptors_hard: None,
        ring: Ring::Available,
        ring_features: RingFeatures {
            cooperative: Some(true),
            deferred: Some(true),
            zero_copy_send: Some(true),
            fast_poll: Some(true),
            no_drop: Some(true),
            timed_wait: Some(true),
        },
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
            read_bytes_per_s: 3e9,
            synced_bytes_per_s: 1.5e9,
            sync_writes: sync_writes(8.0),
        }),
        ping_pong_us: summary(60.0),
        loopback_bytes_per_s: 5e9,
    }
}

fn said(facts: &Facts, word: &str) -> bool {
    limits(facts).iter().any(|sentence| sentence.contains(word))
}

#[test]
fn a_good_machine_is_limited_by_its_disk_and_network_alone() {
    let limits = limits(&facts());
    assert_eq!(limits.len(), 5, "{limits:?}");
    assert!(
        limits[0].contains("160 us") && limits[0].contains("at most 6,2"),
        "{limits:?}"
    );
    assert!(
        limits[1].contains("2000 MB/s, but 1500 MB/s when"),
        "{limits:?}"
    );
    assert!(limits[2].contains("8.0 times"), "{limits:?}");
    assert!(limits[3].contains("at 3000 MB/s at most"), "{limits:?}");
    assert!(limits[4].contains("any amount of memory"), "{limits:?}");
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

/// One that was not run for so many microseconds of a second, this many of them at once, and waited for its core for so many.
fn spin(missed: u64, longest: u64, waited: Option<u64>) -> Facts {
    let mut facts = facts();
    facts.steadiness.spin = Spin {
        watched: Duration::from_secs(1),
        missed: Duration::from_micros(missed),
        longest: Duration::from_micros(longest),
        waited: waited.map(Duration::from_micros),
    };
    facts
}

#[test]
fn a_core_that_stands_still_for_long_or_often_is_named() {
    for (missed, longest) in [(1_500, 1_000), (10_000, 60)] {
        assert!(said(
            &spin(missed, longest, None),
            "never sleeps was not run for"
        ));
    }
    assert!(!said(&spin(9_900, 999, None), "never sleeps"));
    let long = spin(13_000, 7_500, None);
    assert!(said(&long, "for 1.3 % of 1.0 s, 7.50 ms of it at once. A"));
}

#[test]
fn who_had_the_core_is_told_by_how_long_the_thread_waited_for_it() {
    assert!(said(
        &spin(20_000, 9_000, Some(10_000)),
        "others on this machine"
    ));
    assert!(said(
        &spin(20_000, 9_000, Some(9_000)),
        "the host ran something else"
    ));
}

#[test]
fn time_that_the_host_took_is_named_where_it_is_more_than_a_percent() {
    let mut facts = facts();
    facts.steadiness.stolen = Some(0.04);
    assert!(said(&facts, "gave 4.0 % of the cores' time to others"));
    facts.steadiness.stolen = Some(0.009);
    assert!(!said(&facts, "to others"));
}

#[test]
fn a_quota_of_fewer_cores_than_there_are_is_named_with_how_long_it_stops_everything() {
    let mut facts = facts();
    let quota = |allowed_ms| {
        Some(Quota {
            allowed: Duration::from_millis(allowed_ms),
            period: Duration::from_millis(100),
        })
    };
    facts.steadiness.quota = quota(250);
    for words in [
        "allows 2.5 of the 4 core(s)",
        "used up after 62 ms of every 100 ms",
        "for the other 38 ms",
        "shards = 2",
    ] {
        assert!(said(&facts, words), "{words}: {:?}", limits(&facts));
    }
    facts.steadiness.quota = quota(400);
    assert!(!said(&facts, "cpu.max"));
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
fn locked_memory_is_spoken_of_always_and_the_way_to_raise_it_where_it_is_little() {
    for (memlock_bytes, words) in [
        (None, "any amount of memory"),
        (Some(8 << 20), "8.0 MiB of memory, which is enough"),
        (Some(64 << 10), "LimitMEMLOCK="),
    ] {
        let facts = Facts {
            memlock_bytes,
            ..facts()
        };
        assert!(said(&facts, words), "{words}: {:?}", limits(&facts));
        assert_eq!(
            said(&facts, "ulimit -l"),
            memlock_bytes == Some(64 << 10),
            "{memlock_bytes:?}"
        );
    }
}

#[test]
fn a_priority_like_all_others_is_named_with_the_command_that_only_root_may_give() {
    let mut facts = facts();
    assert!(!said(&facts, "renice"));
    facts.nice = Some(0);
    assert!(said(&facts, "Only root can set it: renice -n -10 -p PID"));
}

#[test]
fn a_governor_that_saves_power_is_named_with_the_command_that_only_root_may_give() {
    let mut facts = facts();
    facts.governor = Some("powersave".to_owned());
    assert!(said(
        &facts,
        "Only root can set it: echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    ));
    facts.governor = Some("performance".to_owned());
    assert!(!said(&facts, "scaling_governor"));
}

#[test]
fn a_connection_that_carries_less_than_the_disk_reads_is_what_bounds_one_consumer() {
    let mut facts = facts();
    assert!(said(&facts, "carries more here, 5000 MB/s"));
    facts.loopback_bytes_per_s = 1e9;
    assert!(said(&facts, "a single one gets no more than that"));
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
        read_bytes_per_s: 3e9,
        synced_bytes_per_s: 1.5e9,
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
    for word in [
        "/sys/block/nvme0n1/queue/scheduler",
        "must flush",
        "remount,nodiscard /data",
        "Core 2 has handled 100 %",
        "/proc/irq/36/smp_affinity_list",
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
        mount: None,
        queue: None,
        ring_features: RingFeatures::default(),
        steadiness: Steadiness::default(),
        ..facts()
    };
    assert_eq!(limits(&facts).len(), 5, "{:?}", limits(&facts));
}
