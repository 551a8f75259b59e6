//! What a broker uses: the process that was started and all that it started in turn, as `/proc` tells it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use gannet_loadgen::usage::{ProcessUsage, disk_read_bytes};
use serde::{Deserialize, Serialize};

/// What a broker has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usage {
    /// CPU time, in seconds.
    pub(super) cpu_s: f64,
    /// Resident memory now.
    pub(super) rss_bytes: u64,
    /// What it made the disks read.
    pub(super) disk_read_bytes: u64,
}

/// Of the process with this id and its descendants. A child that ended is in its parent's count no more: a broker keeps its processes.
///
/// # Errors
/// When the process is gone, or `/proc` is not readable.
pub(super) fn usage_of_tree(root: u32) -> io::Result<Usage> {
    let parents = parents()?;
    let mut usage = usage_of(root)?;
    for pid in descendants(root, &parents) {
        // One that ended just now has used what it used.
        if let Ok(of_child) = usage_of(pid) {
            usage.cpu_s += of_child.cpu_s;
            usage.rss_bytes += of_child.rss_bytes;
            usage.disk_read_bytes += of_child.disk_read_bytes;
        }
    }
    Ok(usage)
}

fn usage_of(pid: u32) -> io::Result<Usage> {
    let ProcessUsage { cpu, rss_bytes, .. } = ProcessUsage::of(pid)?;
    Ok(Usage {
        cpu_s: Duration::as_secs_f64(&cpu),
        rss_bytes,
        // Not counted by every kernel.
        disk_read_bytes: disk_read_bytes(pid).unwrap_or(0),
    })
}

/// Each process's parent.
fn parents() -> io::Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let parent = fs::read_to_string(entry.path().join("stat"))
            .ok()
            .and_then(|stat| parent_of_stat(&stat));
        if let Some(parent) = parent {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

fn parent_of_stat(stat: &str) -> Option<u32> {
    // The name stands in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn descendants(root: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![root];
    let mut looked_at = 0;
    while let Some(&parent) = found.get(looked_at) {
        looked_at += 1;
        let children = parents
            .iter()
            .filter(|&(pid, of)| *of == parent && !found.contains(pid))
            .map(|(&pid, _)| pid)
            .collect::<Vec<_>>();
        found.extend(children);
    }
    found.remove(0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_children_belong_to_the_tree_and_nobody_else() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 3)]);
        let mut found = descendants(2, &parents);
        found.sort_unstable();
        assert_eq!(found, [3, 4, 6]);
        assert!(descendants(5, &parents).is_empty());
    }

    #[test]
    fn the_parent_is_found_behind_a_name_with_parentheses_and_spaces() {
        assert_eq!(parent_of_stat("7 (a) (b) S 42 7 7 0"), Some(42));
    }

    #[test]
    fn a_child_of_this_process_is_counted_with_it() {
        let alone = descendants(std::process::id(), &parents().unwrap());
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let with_child = descendants(std::process::id(), &parents().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(with_child.contains(&child.id()));
        assert!(!alone.contains(&child.id()));
    }
}
