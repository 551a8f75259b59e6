//! What the facts of a machine mean for a broker on it, in sentences.

use std::fmt::Write;

use gannet_loadgen::units::{bytes, grouped, micros};

use crate::facts::{Disk, Facts};
use crate::ring::Ring;

/// What an ordinary user may lock on most systems; the broker manages with it.
const MEMLOCK_BYTES: u64 = 8 << 20;
/// With fewer, connections and open segments are cut.
const DESCRIPTORS: u64 = 4096;

/// The facts, a line each.
#[must_use]
pub fn table(facts: &Facts) -> String {
    let mut text = String::new();
    write_table(&mut text, facts).expect("writing to a string does not fail");
    text
}

fn write_table(text: &mut String, facts: &Facts) -> std::fmt::Result {
    let memlock = facts
        .memlock_bytes
        .map_or_else(|| "unlimited".to_owned(), bytes);
    let ring = match facts.ring {
        Ring::Available => "available".to_owned(),
        refused => format!("not available ({refused:?})"),
    };
    writeln!(text, "kernel            {}", facts.kernel)?;
    writeln!(
        text,
        "cores             {} usable, {} physical",
        facts.machine.cores.len(),
        facts.physical_cores()
    )?;
    writeln!(
        text,
        "memory            {}",
        bytes(facts.machine.memory_bytes)
    )?;
    writeln!(text, "locked memory     {memlock}")?;
    writeln!(
        text,
        "descriptors       {}",
        grouped(facts.machine.descriptors_max)
    )?;
    writeln!(text, "io_uring          {ring}")?;
    if let Some(governor) = &facts.governor {
        writeln!(text, "frequency         governor {governor}")?;
    }
    writeln!(
        text,
        "data directory    {} on {}, {} free",
        facts.data_dir.display(),
        facts.filesystem,
        bytes(facts.filesystem.free_bytes)
    )?;
    if let Some(disk) = &facts.disk {
        writeln!(
            text,
            "synced write      4 KiB O_DIRECT + O_DSYNC: p50 {}, p99 {}, longest {}",
            micros(disk.sync_write_us.p50),
            micros(disk.sync_write_us.p99),
            micros(disk.sync_write_us.max)
        )?;
        writeln!(
            text,
            "sequential write  {:.0} MB/s",
            disk.write_bytes_per_s / 1e6
        )?;
    }
    writeln!(
        text,
        "loopback TCP      64 B to and fro: p50 {}, p99 {}",
        micros(facts.ping_pong_us.p50),
        micros(facts.ping_pong_us.p99)
    )
}

/// What limits a broker here, the gravest first.
#[must_use]
pub fn limits(facts: &Facts) -> Vec<String> {
    let mut sentences = Vec::new();
    sentences.extend(ring(facts));
    sentences.extend(memory_filesystem(facts));
    sentences.extend(latency(facts));
    sentences.extend(facts.disk.as_ref().map(bandwidth));
    sentences.extend(cores(facts));
    sentences.extend(locked_memory(facts));
    sentences.extend(descriptors(facts));
    sentences.extend(governor(facts));
    sentences
}

fn ring(facts: &Facts) -> Option<String> {
    let sentence = match facts.ring {
        Ring::Available => return None,
        Ring::Missing => "This kernel has no io_uring, which the broker needs: use Linux 5.11 or later.".to_owned(),
        Ring::SwitchedOff => {
            "kernel.io_uring_disabled forbids io_uring, which the broker needs: an administrator can allow it with `sysctl kernel.io_uring_disabled=0` (or 1, and the broker's group in \
             kernel.io_uring_group)."
                .to_owned()
        }
        Ring::Forbidden => {
            "Something forbids io_uring, which the broker needs; in a container it is most often the default seccomp profile: start the container with a profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register."
                .to_owned()
        }
        Ring::LockedMemory => {
            "io_uring gets too little locked memory: raise it (`ulimit -l`, or LimitMEMLOCK= of the service).".to_owned()
        }
        Ring::Other(code) => format!("io_uring, which the broker needs, fails with error {code}."),
    };
    Some(sentence)
}

fn memory_filesystem(facts: &Facts) -> Option<String> {
    facts.filesystem.is_memory().then(|| {
        format!(
            "{} is {}, which is memory: nothing stored there survives a restart of the machine, and it takes no O_DIRECT. Give a directory on a disk with --data-dir.",
            facts.data_dir.display(),
            facts.filesystem
        )
    })
}

fn latency(facts: &Facts) -> Option<String> {
    let disk = facts.disk.as_ref()?;
    let (network, write) = (facts.ping_pong_us.p50, disk.sync_write_us.p50);
    let least = network + write;
    let mut sentence = format!(
        "A durable publish over loopback takes at least about {}: {} for the way to and fro and {} for the synced write, so one that waits for each acknowledgement makes at most {} \
         a second; more in flight make more.",
        micros(least),
        micros(network),
        micros(write),
        grouped((1e6 / least.max(1.0)) as u64),
    );
    if disk.sync_write_us.p99 > 10.0 * write {
        let _ = write!(
            sentence,
            " The disk's slowest writes ({} at p99) are far behind its usual ones, and will be the broker's p99.",
            micros(disk.sync_write_us.p99)
        );
    }
    Some(sentence)
}

fn bandwidth(disk: &Disk) -> String {
    format!(
        "The disk writes {:.0} MB/s, which bounds durable throughput: large backlogs are written once and can come near it; small batches are written to the journal and again to segments, which leaves about half.",
        disk.write_bytes_per_s / 1e6
    )
}

fn cores(facts: &Facts) -> Option<String> {
    let (usable, physical) = (facts.machine.cores.len(), facts.physical_cores());
    if physical < usable {
        return Some(format!(
            "The {usable} cores are {physical} physical ones that run two threads each: two shards on one of them share it, so compare shards = {physical} with shards = {usable}."
        ));
    }
    (usable <= 2).then(|| {
        format!("There are {usable} core(s): clients on this machine take from the broker what they use. Compare shards = 1 with shards = {usable}.")
    })
}

fn locked_memory(facts: &Facts) -> Option<String> {
    let locked = facts
        .memlock_bytes
        .filter(|locked| *locked < MEMLOCK_BYTES)?;
    Some(format!(
        "This process may lock {} of memory; with less than {} the rings' buffers are not registered, which costs CPU: raise it (`ulimit -l`, or LimitMEMLOCK= of the service).",
        bytes(locked),
        bytes(MEMLOCK_BYTES)
    ))
}

fn descriptors(facts: &Facts) -> Option<String> {
    let most = facts.machine.descriptors_max;
    (most < DESCRIPTORS).then(|| {
        format!(
            "This process may have {} descriptors open, which bounds connections and open segments: raise it (`ulimit -n`, or LimitNOFILE= of the service) for more than some hundred clients.",
            grouped(most)
        )
    })
}

fn governor(facts: &Facts) -> Option<String> {
    let governor = facts
        .governor
        .as_deref()
        .filter(|governor| *governor != "performance")?;
    Some(format!(
        "The cores' frequency follows the governor {governor}: while the broker is not busy, waking up takes longer. `performance` gives the lowest latency and draws more power."
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use gannet_engine::control::Machine;
    use gannet_loadgen::filesystem::Filesystem;
    use gannet_loadgen::latency::LatencySummary;

    use super::*;

    fn summary(us: f64) -> LatencySummary {
        LatencySummary {
            count: 1000,
            mean: us,
            p50: us,
            p90: us,
            p99: us,
            p99_9: us,
            max: us,
        }
    }

    fn facts() -> Facts {
        Facts {
            kernel: "6.18.0".to_owned(),
            machine: Machine {
                cores: vec![0, 1, 2, 3],
                memory_bytes: 16 << 30,
                descriptors_max: 1 << 20,
            },
            siblings: ["0", "1", "2", "3"].map(str::to_owned).to_vec(),
            governor: None,
            memlock_bytes: None,
            ring: Ring::Available,
            data_dir: PathBuf::from("/data"),
            filesystem: Filesystem::of(std::path::Path::new("/proc")).unwrap(),
            disk: Some(Disk {
                sync_write_us: summary(100.0),
                write_bytes_per_s: 2e9,
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
        assert_eq!(limits.len(), 2, "{limits:?}");
        assert!(
            limits[0].contains("160 us") && limits[0].contains("6,250"),
            "{limits:?}"
        );
        assert!(limits[1].contains("2000 MB/s"), "{limits:?}");
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
        facts.memlock_bytes = Some(64 << 10);
        facts.machine.descriptors_max = 1024;
        facts.governor = Some("powersave".to_owned());
        for word in ["LimitMEMLOCK", "LimitNOFILE", "powersave"] {
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
        });
        assert!(said(&facts, "5.00 ms at p99"));
    }

    #[test]
    fn the_table_has_every_measurement() {
        let table = table(&facts());
        for word in [
            "6.18.0",
            "4 usable",
            "16.0 GiB",
            "unlimited",
            "available",
            "100 us",
            "2000 MB/s",
            "60 us",
        ] {
            assert!(table.contains(word), "{word}: {table}");
        }
    }
}
