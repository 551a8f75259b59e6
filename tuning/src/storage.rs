//! What a directory's data lies on: the mount and its options, the block device and its queue.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

/// Where a directory's filesystem is mounted from, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where to.
    pub point: String,
    /// The filesystem's name.
    pub kind: String,
    /// The device, or what stands for one.
    pub source: String,
    /// All options, those of the mount and those of the filesystem.
    pub options: Vec<String>,
}

/// A block device's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// The device's name.
    pub device: String,
    /// What orders its requests; `none` for nothing.
    pub scheduler: Option<String>,
    /// Whether it says that it keeps writes in a cache that a power cut empties, which each synced write must then flush.
    pub write_back: Option<bool>,
    /// Whether it has turning parts.
    pub rotational: Option<bool>,
    /// Requests it takes at once.
    pub requests: Option<u32>,
}

impl Mount {
    /// Of the filesystem that a directory is on. `None` when the kernel does not say.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Self> {
        let absolute = fs::canonicalize(directory).ok()?;
        parse_mounts(&fs::read_to_string("/proc/self/mountinfo").ok()?, &absolute)
    }

    /// Whether an option is set, by its name before any `=`.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options
            .iter()
            .any(|set| set == option || set.split('=').next() == Some(option))
    }
}

impl Queue {
    /// Of the device that a directory is on. `None` when it is on none, or the kernel does not say.
    #[must_use]
    pub fn of(directory: &Path) -> Option<Self> {
        let device = fs::metadata(directory).ok()?.dev();
        let node = format!("/sys/dev/block/{}:{}", major(device), minor(device));
        let node = fs::canonicalize(node).ok()?;
        // A partition has no queue of its own.
        let whole = [node.as_path(), node.parent()?]
            .into_iter()
            .find(|path| path.join("queue").is_dir())?
            .to_owned();
        Some(Self::read(&whole))
    }

    fn read(whole: &Path) -> Self {
        let said = |name: &str| -> Option<String> {
            let path: PathBuf = whole.join("queue").join(name);
            Some(fs::read_to_string(path).ok()?.trim().to_owned())
        };
        Self {
            device: whole
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            scheduler: said("scheduler").as_deref().and_then(chosen),
            write_back: said("write_cache").map(|cache| cache == "write back"),
            rotational: said("rotational").map(|rotational| rotational == "1"),
            requests: said("nr_requests").and_then(|requests| requests.parse().ok()),
        }
    }
}

/// Of several words the one in brackets.
fn chosen(words: &str) -> Option<String> {
    let (_, rest) = words.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// The mount that a path is below: the one with the longest point, and of several on the same point the last one, which covers the others. Fields as in proc(5).
fn parse_mounts(text: &str, path: &Path) -> Option<Mount> {
    let mut best: Option<Mount> = None;
    for line in text.lines() {
        let Some(mount) = parse_mount(line) else {
            continue;
        };
        let is_above = path.starts_with(&mount.point);
        let is_longer = best
            .as_ref()
            .is_none_or(|best| mount.point.len() >= best.point.len());
        if is_above && is_longer {
            best = Some(mount);
        }
    }
    best
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(4);
    let (point, mount_options) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let (kind, source) = (after.next()?, after.next()?);
    let mut options: Vec<String> = mount_options.split(',').map(str::to_owned).collect();
    for option in after.next().unwrap_or_default().split(',') {
        if !option.is_empty() && !options.iter().any(|known| known == option) {
            options.push(option.to_owned());
        }
    }
    Some(Mount {
        point: unescaped(point),
        kind: kind.to_owned(),
        source: unescaped(source),
        options,
    })
}

/// Blanks and the like stand as `\040`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let code = behind
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = r"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,data=ordered
40 27 8:1 / /data rw,noatime shared:1 master:2 - xfs /dev/sda1 rw
41 27 8:2 / /data\040two rw - ext4 /dev/sda2 rw
42 40 8:3 / /data rw - btrfs /dev/sda3 rw
";

    fn mount(path: &str) -> Mount {
        parse_mounts(MOUNTS, Path::new(path)).unwrap()
    }

    #[test]
    fn a_directory_is_on_the_innermost_mount_above_it() {
        assert_eq!(mount("/var/lib").source, "/dev/vda");
        assert_eq!(mount("/data two/x").source, "/dev/sda2");
        assert_eq!(mount("/database").source, "/dev/vda");
    }

    #[test]
    fn of_two_mounts_on_one_point_the_later_counts() {
        assert_eq!(mount("/data/x").kind, "btrfs");
    }

    #[test]
    fn options_of_mount_and_filesystem_stand_together() {
        let root = mount("/");
        assert_eq!(root.options, ["rw", "relatime", "discard", "data=ordered"]);
        assert!(root.has("discard") && root.has("data") && !root.has("dis"));
    }

    #[test]
    fn the_scheduler_in_brackets_is_the_chosen_one() {
        assert_eq!(
            chosen("none [mq-deadline] kyber").as_deref(),
            Some("mq-deadline")
        );
        assert_eq!(chosen("none"), None);
    }

    #[test]
    fn the_root_of_this_machine_is_mounted() {
        assert!(Mount::of(Path::new("/")).is_some_and(|mount| mount.point == "/"));
    }
}
