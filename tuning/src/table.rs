//! The facts of a machine, a line each.

use std::fmt::Write;

use gannet_loadgen::units::{bytes, grouped, micros};

use crate::facts::{Disk, Facts};
use crate::interrupts::Interrupts;
use crate::ring::{Ring, RingFeatures};
use crate::steadiness::Steadiness;
use crate::storage::Queue;

const INTERRUPTS_SHOWN: usize = 3;

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
        Ring::Available => format!("available; {}", ring_features(&facts.ring_features)),
        refused => format!("not available ({refused:?})"),
    };
    line(text, "kernel", &facts.kernel)?;
    line(
        text,
        "cores",
        &format!(
            "{} usable, {} physical",
            facts.machine.cores.len(),
            facts.physical_cores()
        ),
    )?;
    line(text, "siblings", &siblings(&facts.siblings))?;
    line(
        text,
        "NUMA nodes",
        &facts.nodes.as_ref().map_or_else(unknown, |nodes| {
            format!("{} (cores {})", nodes.len(), nodes.join("; "))
        }),
    )?;
    write_steadiness(text, &facts.steadiness)?;
    write_interrupts(text, facts.interrupts.as_ref())?;
    line(text, "memory", &bytes(facts.machine.memory_bytes))?;
    line(text, "locked memory", &memlock)?;
    line(
        text,
        "priority",
        &facts
            .nice
            .map_or_else(unknown, |nice| format!("nice {nice}")),
    )?;
    let hard = facts
        .descriptors_hard
        .map_or_else(|| "any number".to_owned(), grouped);
    line(
        text,
        "descriptors",
        &format!(
            "{}, the broker may raise it to {hard}",
            grouped(facts.machine.descriptors_max)
        ),
    )?;
    line(text, "io_uring", &ring)?;
    line(
        text,
        "frequency",
        &facts
            .governor
            .as_ref()
            .map_or_else(unknown, |governor| format!("governor {governor}")),
    )?;
    line(
        text,
        "data directory",
        &format!(
            "{} on {}, {} free",
            facts.data_dir.display(),
            facts.filesystem,
            bytes(facts.filesystem.free_bytes)
        ),
    )?;
    line(
        text,
        "mount",
        &facts.mount.as_ref().map_or_else(unknown, |mount| {
            format!(
                "{} at {}, {}",
                mount.source,
                mount.point,
                mount.options.join(",")
            )
        }),
    )?;
    line(
        text,
        "device",
        &facts.queue.as_ref().map_or_else(unknown, queue),
    )?;
    if let Some(disk) = &facts.disk {
        write_disk(text, disk)?;
    }
    line(
        text,
        "loopback TCP",
        &format!(
            "64 B to and fro: p50 {}, p99 {}",
            micros(facts.ping_pong_us.p50),
            micros(facts.ping_pong_us.p99)
        ),
    )?;
    line(
        text,
        "loopback stream",
        &format!(
            "one connection, 256 KiB at a time: {:.0} MB/s",
            facts.loopback_bytes_per_s / 1e6
        ),
    )
}

fn line(text: &mut String, name: &str, value: &str) -> std::fmt::Result {
    writeln!(text, "{name:<18}{value}")
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn siblings(siblings: &[String]) -> String {
    let mut groups: Vec<&str> = Vec::new();
    for group in siblings {
        if !groups.contains(&group.as_str()) {
            groups.push(group);
        }
    }
    groups.join("; ")
}

fn ring_features(features: &RingFeatures) -> String {
    let said = |known: Option<bool>| match known {
        Some(true) => "yes",
        Some(false) => "no",
        None => "unknown",
    };
    format!(
        "completions on demand {}, without interrupting {}, never lost {}, waited for with a limit {}, sockets without threads {}, sending without copying {}",
        said(features.deferred),
        said(features.cooperative),
        said(features.no_drop),
        said(features.timed_wait),
        said(features.fast_poll),
        said(features.zero_copy_send)
    )
}

fn write_steadiness(text: &mut String, steadiness: &Steadiness) -> std::fmt::Result {
    let spin = &steadiness.spin;
    line(
        text,
        "spinning thread",
        &format!(
            "not run for {:.2} % of {:.1} s, longest {}",
            spin.missed_share() * 100.0,
            spin.watched.as_secs_f64(),
            micros(spin.longest.as_secs_f64() * 1e6)
        ),
    )?;
    line(
        text,
        "stolen",
        &steadiness.stolen.map_or_else(unknown, |stolen| {
            format!("{:.2} % of the cores' time meanwhile", stolen * 100.0)
        }),
    )?;
    line(
        text,
        "CPU quota",
        &steadiness.quota.map_or_else(
            || "none".to_owned(),
            |quota| {
                format!(
                    "{:.1} core(s): {} of every {}",
                    quota.cores(),
                    micros(quota.allowed.as_secs_f64() * 1e6),
                    micros(quota.period.as_secs_f64() * 1e6)
                )
            },
        ),
    )
}

fn write_interrupts(text: &mut String, interrupts: Option<&Interrupts>) -> std::fmt::Result {
    let Some(interrupts) = interrupts else {
        return line(text, "interrupts", "unknown");
    };
    let mut name = "interrupts";
    for interrupt in interrupts.busiest(INTERRUPTS_SHOWN) {
        let counts: Vec<_> = interrupts
            .cores
            .iter()
            .zip(&interrupt.counts)
            .filter(|(_, count)| **count > 0)
            .map(|(core, count)| format!("core {core}: {}", grouped(*count)))
            .collect();
        let allowed = interrupt.allowed.as_deref().unwrap_or("unknown");
        line(
            text,
            name,
            &format!(
                "{} ({}): {}; may go to {allowed}",
                interrupt.number,
                interrupt.name,
                counts.join(", ")
            ),
        )?;
        name = "";
    }
    Ok(())
}

fn queue(queue: &Queue) -> String {
    let yes_no = |known: Option<bool>, yes: &'static str, no: &'static str| match known {
        Some(true) => yes,
        Some(false) => no,
        None => "unknown",
    };
    format!(
        "{}: scheduler {}, cache {}, {}, {} requests at once",
        queue.device,
        queue.scheduler.as_deref().unwrap_or("unknown"),
        yes_no(queue.write_back, "write back", "write through"),
        yes_no(queue.rotational, "rotational", "not rotational"),
        queue
            .requests
            .map_or_else(unknown, |requests| requests.to_string())
    )
}

fn write_disk(text: &mut String, disk: &Disk) -> std::fmt::Result {
    line(
        text,
        "synced write",
        &format!(
            "4 KiB O_DIRECT + O_DSYNC: p50 {}, p99 {}, longest {}",
            micros(disk.sync_write_us.p50),
            micros(disk.sync_write_us.p99),
            micros(disk.sync_write_us.max)
        ),
    )?;
    line(
        text,
        "sequential write",
        &format!("{:.0} MB/s", disk.write_bytes_per_s / 1e6),
    )?;
    line(
        text,
        "sequential read",
        &format!("{:.0} MB/s", disk.read_bytes_per_s / 1e6),
    )?;
    line(
        text,
        "synced sequential",
        &format!(
            "512 KiB O_DIRECT + O_DSYNC, four at once: {:.0} MB/s",
            disk.synced_bytes_per_s / 1e6
        ),
    )?;
    if disk.sync_writes.is_empty() {
        return Ok(());
    }
    writeln!(
        text,
        "synced writes     {:>10} {:>6} {:>10} {:>10} {:>10} {:>9}",
        "length", "depth", "p50", "p99", "writes/s", "MB/s"
    )?;
    for of in &disk.sync_writes {
        writeln!(
            text,
            "                  {:>10} {:>6} {:>10} {:>10} {:>10} {:>9.1}",
            bytes(of.block_bytes),
            of.depth,
            micros(of.latency_us.p50),
            micros(of.latency_us.p99),
            grouped(of.writes_per_s as u64),
            of.bytes_per_s() / 1e6
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
