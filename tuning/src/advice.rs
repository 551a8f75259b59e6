//! What the facts of a machine mean for a broker on it, in sentences.

use std::fmt::Write;
use std::time::Duration;

use gannet_loadgen::units::{bytes, grouped, micros};

use crate::facts::{Disk, Facts};
use crate::ring::Ring;
use crate::steadiness::Spin;

/// With fewer, connections and open segments are cut.
const DESCRIPTORS: u64 = 4096;
/// So many times the writes of one after the other are worth having several at once.
const DEPTH_HELPS: f64 = 1.5;
/// A shard's io_uring, its two queues and what belongs to them, is smaller than this.
const RING_BYTES_MAX: u64 = 1 << 20;
/// Standing still for longer than this shows in a latency.
const STALL: Duration = Duration::from_millis(1);
/// Less of a core's time than this is lost on any machine.
const SHARE_NOT_RUN: f64 = 0.01;

/// What limits a broker here, the gravest first.
#[must_use]
pub fn limits(facts: &Facts) -> Vec<String> {
    let mut sentences = Vec::new();
    sentences.extend(ring(facts));
    sentences.extend(memory_filesystem(facts));
    sentences.extend(latency(facts));
    sentences.extend(facts.disk.as_ref().map(bandwidth));
    sentences.extend(facts.disk.as_ref().and_then(depth));
    sentences.extend(reads(facts));
    sentences.extend(stalls(&facts.steadiness.spin));
    sentences.extend(stolen(facts));
    sentences.extend(quota(facts));
    sentences.extend(priority(facts));
    sentences.extend(scheduler(facts));
    sentences.extend(cache(facts));
    sentences.extend(mount(facts));
    sentences.extend(cores(facts));
    sentences.extend(nodes(facts));
    sentences.extend(interrupts(facts));
    sentences.extend(completions(facts));
    sentences.extend(descriptors(facts));
    sentences.push(locked_memory(facts));
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
        "The disk writes {:.0} MB/s, but {:.0} MB/s when 512 KiB at a time, four at once, are each synced, which is what durable means and bounds its throughput: large backlogs are written once and \
         can come near it; small batches are written to the journal and again to segments, which leaves about half.",
        disk.write_bytes_per_s / 1e6,
        disk.synced_bytes_per_s / 1e6
    )
}

/// Where a part of the way carries less than the disk takes.
fn reads(facts: &Facts) -> Option<String> {
    let disk = facts.disk.as_ref()?;
    let carried = facts.loopback_bytes_per_s;
    let mut sentence = format!(
        "Consumers that are behind are served at {:.0} MB/s at most, all together, which is what the disk reads",
        disk.read_bytes_per_s / 1e6
    );
    let _ = if carried < disk.read_bytes_per_s {
        write!(
            sentence,
            "; one connection carries {:.0} MB/s here, so a single one gets no more than that.",
            carried / 1e6
        )
    } else {
        write!(
            sentence,
            "; one connection carries more here, {:.0} MB/s.",
            carried / 1e6
        )
    };
    Some(sentence)
}

fn priority(facts: &Facts) -> Option<String> {
    let nice = facts.nice.filter(|nice| *nice >= 0)?;
    Some(format!(
        "This process runs at nice {nice}, and a broker that is started like it yields its cores to others as often as they to it. Where clients or anything else share them, a higher priority gives it more: \
         with a nice value of -10 one did 9 % more beside its load generator on two cores. Only root can set it: renice -n -10 -p PID (or Nice=-10 in the service)."
    ))
}

fn locked_memory(facts: &Facts) -> String {
    let shards = facts.machine.cores.len().max(1) as u64;
    let needed = shards * RING_BYTES_MAX;
    match facts.memlock_bytes {
        None => "This process may lock any amount of memory: more than a broker needs, which locks none itself.".to_owned(),
        Some(may) if may >= needed => format!(
            "This process may lock {} of memory, which is enough: a broker locks none itself, and only kernels before Linux 5.12 count its io_uring, less than {} a shard.",
            bytes(may),
            bytes(RING_BYTES_MAX)
        ),
        Some(may) => format!(
            "This process may lock {} of memory. A broker locks none itself, but kernels before Linux 5.12 count its io_uring, less than {} a shard: should it not start there, raise it (`ulimit -l`, or \
             LimitMEMLOCK= of the service; above the hard limit only root can).",
            bytes(may),
            bytes(RING_BYTES_MAX)
        ),
    }
}

fn stalls(spin: &Spin) -> Option<String> {
    if spin.longest < STALL && spin.missed_share() < SHARE_NOT_RUN {
        return None;
    }
    let because = match spin.waited {
        None => "",
        Some(waited) if waited * 2 >= spin.missed => {
            ", mostly because others on this machine had its core, or its control group had used up its quota"
        }
        Some(_) => {
            ", mostly although nobody else on this machine had its core: the host ran something else, or gives this virtual machine a quota"
        }
    };
    Some(format!(
        "A thread that never sleeps was not run for {:.1} % of {:.1} s, {} of it at once{because}. A broker's thread stands still as long, and its slowest publishes wait with it whatever the \
         configuration.",
        spin.missed_share() * 100.0,
        spin.watched.as_secs_f64(),
        micros(spin.longest.as_secs_f64() * 1e6)
    ))
}

fn stolen(facts: &Facts) -> Option<String> {
    let stolen = facts
        .steadiness
        .stolen
        .filter(|stolen| *stolen >= SHARE_NOT_RUN)?;
    Some(format!(
        "The host gave {:.1} % of the cores' time to others (steal in /proc/stat) while one core was kept busy: it has more to run than it has cores. Only the host can change that, by dedicated cores.",
        stolen * 100.0
    ))
}

fn quota(facts: &Facts) -> Option<String> {
    let quota = facts.steadiness.quota?;
    let usable = facts.machine.cores.len();
    if quota.cores() >= usable as f64 {
        return None;
    }
    let milliseconds = |of: Duration| of.as_secs_f64() * 1e3;
    let used_up = milliseconds(quota.allowed) / usable.max(1) as f64;
    let period = milliseconds(quota.period);
    Some(format!(
        "The control group allows {:.1} of the {usable} core(s) (cpu.max): when all of them are busy, it is used up after {used_up:.0} ms of every {period:.0} ms, and broker and clients stand still for the \
         other {:.0} ms. Raise the quota, or compare shards = {}, which leaves some of it to the kernel and to clients.",
        quota.cores(),
        (period - used_up).max(0.0),
        (quota.cores() as usize).max(1)
    ))
}

fn depth(disk: &Disk) -> Option<String> {
    let of = |depth: u32| {
        let smallest = disk.sync_writes.iter().map(|of| of.block_bytes).min()?;
        disk.sync_writes
            .iter()
            .find(|of| of.block_bytes == smallest && of.depth == depth)
    };
    let most = disk.sync_writes.iter().map(|of| of.depth).max()?;
    let (one, many) = (of(1)?, of(most)?);
    let times = many.writes_per_s / one.writes_per_s.max(1e-3);
    Some(if times < DEPTH_HELPS {
        format!(
            "{most} small synced writes at once make only {times:.1} times as many a second as one after the other: this disk takes them in turns, and more journal.commits_in_flight_max gain little."
        )
    } else {
        format!(
            "{most} small synced writes at once make {times:.1} times as many a second as one after the other: several commits in flight (journal.commits_in_flight_max) and several shards are worth trying."
        )
    })
}

fn scheduler(facts: &Facts) -> Option<String> {
    let queue = facts.queue.as_ref()?;
    let scheduler = queue.scheduler.as_deref().filter(|name| *name != "none")?;
    (queue.rotational == Some(false)).then(|| {
        format!(
            "Requests to {} go through the scheduler {scheduler}, which gains nothing on a disk without turning parts: compare with none. Only root can set it: echo none > \
             /sys/block/{}/queue/scheduler.",
            queue.device, queue.device
        )
    })
}

fn cache(facts: &Facts) -> Option<String> {
    let queue = facts.queue.as_ref()?;
    match queue.write_back {
        Some(true) => Some(format!(
            "{} keeps writes in a cache of its own, which each synced write must flush: that is most of what one takes. A device that survives a power cut with its cache says write through, and is \
             faster.",
            queue.device
        )),
        Some(false) | None => None,
    }
}

fn mount(facts: &Facts) -> Option<String> {
    let mount = facts.mount.as_ref()?;
    let remount = |what: &str| {
        format!(
            "Only root can change it: mount -o remount,{what} {}.",
            mount.point
        )
    };
    if mount.has("nobarrier") || mount.options.iter().any(|option| option == "barrier=0") {
        return Some(format!(
            "{} is mounted without barriers: what was acknowledged may be gone after a power cut. {}",
            mount.point,
            remount("barrier")
        ));
    }
    if mount.options.iter().any(|option| option == "data=journal") {
        return Some(format!(
            "{} is mounted with data=journal, so the filesystem writes all data twice and takes no O_DIRECT: put the data on another filesystem, or mount it with data=ordered.",
            mount.point
        ));
    }
    mount.has("discard").then(|| {
        format!(
            "{} is mounted with discard: each file that retention removes is discarded on the device at once, beside the commits. A timer that runs fstrim disturbs less. {}",
            mount.point,
            remount("nodiscard")
        )
    })
}

fn nodes(facts: &Facts) -> Option<String> {
    let nodes = facts.nodes.as_ref().filter(|nodes| nodes.len() > 1)?;
    Some(format!(
        "The cores are in {} NUMA nodes ({}), and memory of another node is farther: keep the shards in the one that the disk and the network card are in, with runtime.cores.",
        nodes.len(),
        nodes.join("; ")
    ))
}

fn interrupts(facts: &Facts) -> Option<String> {
    let interrupts = facts.interrupts.as_ref()?;
    let (core, share) = interrupts.busiest_core()?;
    let busiest = interrupts.busiest(1).into_iter().next()?;
    (share > 1.5 / interrupts.cores.len() as f64).then(|| {
        format!(
            "Core {core} has handled {:.0} % of the devices' interrupts, most of them of {}: a shard on it is disturbed more than others, and gets to the disk's completions sooner. Compare orders of \
             runtime.cores. Only root can move one: echo CORE > /proc/irq/{}/smp_affinity_list (irqbalance may move it back).",
            share * 100.0,
            busiest.name,
            busiest.number
        )
    })
}

fn completions(facts: &Facts) -> Option<String> {
    (facts.ring_features.deferred == Some(false)).then(|| {
        "This kernel interrupts a thread for its completions; since Linux 6.1 they wait until it asks, which costs less CPU.".to_owned()
    })
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

fn descriptors(facts: &Facts) -> Option<String> {
    // The broker takes what it may have by itself.
    let most = facts
        .descriptors_hard
        .unwrap_or(u64::MAX)
        .max(facts.machine.descriptors_max);
    (most < DESCRIPTORS).then(|| {
        format!(
            "This process may have {} descriptors open at most, which bounds connections and open segments: raise it (`ulimit -Hn`, or LimitNOFILE= of the service) for more than some hundred clients.",
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
        "The cores' frequency follows the governor {governor}: while the broker is not busy, waking up takes longer. `performance` gives the lowest latency and draws more power. \
         Only root can set it: echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor."
    ))
}

#[cfg(test)]
pub(crate) mod tests;
