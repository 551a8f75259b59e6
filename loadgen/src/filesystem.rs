//! Which filesystem a directory is on, and whether that is a real disk.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What `statfs` says of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filesystem {
    magic: u64,
    /// What an ordinary user may still write.
    pub free_bytes: u64,
}

const EXT4: u64 = 0xEF53;

/// The filesystems with a name in the kernel's `linux/magic.h`, and whether what is written there stays in memory.
const KNOWN: [(u64, &str, bool); 14] = [
    (EXT4, "ext4", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683E, "btrfs", false),
    (0x2FC1_2FC1, "zfs", false),
    (0xF2F5_2010, "f2fs", false),
    (0xCA45_1A4E, "bcachefs", false),
    (0x794C_7630, "overlay", false),
    (0x6969, "nfs", false),
    (0xFF53_4D42, "cifs", false),
    (0x6573_5546, "fuse", false),
    (0x0102_1997, "9p", false),
    (0x0102_1994, "tmpfs", true),
    (0x8584_58F6, "ramfs", true),
    (0x958_458F6, "hugetlbfs", true),
];

impl Filesystem {
    /// Of an existing directory.
    ///
    /// # Errors
    /// The operating system's.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let statfs = rustix::fs::statfs(directory)?;
        // The types of these fields differ between architectures; none is negative.
        Ok(Self {
            magic: (statfs.f_type as u64) & 0xFFFF_FFFF,
            free_bytes: (statfs.f_bavail as u64).saturating_mul(statfs.f_bsize as u64),
        })
    }

    /// Whether what is written there stays in memory.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        self.known().is_some_and(|(_, memory)| memory)
    }

    /// Whether it, in which that directory lies, is an ext4 with a journal inside, or one without. `None` for others, and where the kernel does not tell.
    #[must_use]
    pub fn has_journal(&self, directory: &Path) -> Option<bool> {
        if self.magic != EXT4 {
            return None;
        }
        let device = std::fs::metadata(directory).ok()?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let link = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        let journals = std::fs::read_dir("/proc/fs/jbd2").ok()?;
        let journals = journals.flatten().map(|entry| entry.file_name());
        Some(is_among(link.file_name()?.to_str()?, journals))
    }

    fn known(&self) -> Option<(&'static str, bool)> {
        KNOWN
            .iter()
            .find(|(magic, ..)| *magic == self.magic)
            .map(|&(_, name, memory)| (name, memory))
    }
}

/// Whether one of the journals, each named DEVICE-INODE, is that device's.
fn is_among(device: &str, journals: impl IntoIterator<Item = OsString>) -> bool {
    journals.into_iter().any(|journal| {
        let journal = journal.to_str().and_then(|name| name.rsplit_once('-'));
        journal.is_some_and(|(of, _)| of == device)
    })
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "filesystem {:#x}", self.magic),
        }
    }
}

/// No directory will do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoRealDisk(String);

/// The directory in which a broker's data goes: the one asked for, or the first of the usual ones on a real disk.
///
/// # Errors
/// A sentence that says what was tried.
pub fn choose_directory(asked: Option<&Path>) -> Result<(PathBuf, Filesystem), NoRealDisk> {
    match asked {
        Some(directory) => {
            // Not made here: one that is mistyped would stay.
            if !directory.is_dir() {
                return Err(NoRealDisk(format!(
                    "--data-dir {} is no directory: make it first",
                    directory.display()
                )));
            }
            first_on_disk(&[directory.to_owned()], Filesystem::of)
        }
        None => first_on_disk(&usual_directories(), Filesystem::of),
    }
}

fn usual_directories() -> Vec<PathBuf> {
    let temporary = std::env::var_os("TMPDIR")
        .filter(|name| !name.is_empty())
        .map(PathBuf::from);
    let beside = std::env::current_exe()
        .ok()
        .and_then(|program| program.parent().map(Path::to_owned));
    temporary
        .into_iter()
        .chain([PathBuf::from("/var/tmp")])
        .chain(beside)
        .collect()
}

fn first_on_disk(
    candidates: &[PathBuf],
    filesystem_of: impl Fn(&Path) -> io::Result<Filesystem>,
) -> Result<(PathBuf, Filesystem), NoRealDisk> {
    let mut tried = Vec::new();
    for directory in candidates {
        match filesystem_of(directory) {
            Ok(filesystem) if filesystem.is_memory() => {
                tried.push(format!(
                    "{} is {filesystem}, which is memory",
                    directory.display()
                ));
            }
            Ok(filesystem) => return Ok((directory.clone(), filesystem)),
            Err(error) => tried.push(format!("{}: {error}", directory.display())),
        }
    }
    Err(NoRealDisk(format!(
        "there is no directory on a real disk for the broker's data ({}): give one with --data-dir",
        tried.join("; ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(path: &Path) -> io::Result<Filesystem> {
        let magic = match path.to_str() {
            Some("/memory") => 0x0102_1994,
            Some("/disk") => 0xEF53,
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Filesystem {
            magic,
            free_bytes: 1,
        })
    }

    #[test]
    fn memory_and_missing_directories_are_passed_over() {
        let candidates = ["/memory", "/missing", "/disk"].map(PathBuf::from);
        let (directory, filesystem) = first_on_disk(&candidates, fake).unwrap();
        assert_eq!(
            (directory, filesystem.to_string()),
            (PathBuf::from("/disk"), "ext4".to_owned())
        );
    }

    #[test]
    fn without_a_real_disk_the_sentence_says_what_was_tried() {
        let error = first_on_disk(&["/memory", "/missing"].map(PathBuf::from), fake)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/memory is tmpfs")
                && error.contains("/missing")
                && error.contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn a_directory_that_is_not_there_is_not_made() {
        let there = tempfile::tempdir().unwrap();
        let missing = there.path().join("missing");
        let error = choose_directory(Some(&missing)).unwrap_err().to_string();
        assert!(
            error.contains("--data-dir") && error.contains("make it"),
            "{error}"
        );
        assert!(!missing.exists());
    }

    #[test]
    fn a_journal_is_that_of_its_own_device() {
        let journals = || ["vda1-8", "dm-0-8", "loop12-8"].map(OsString::from);
        for device in ["vda1", "dm-0", "loop12"] {
            assert!(is_among(device, journals()), "{device}");
        }
        for device in ["vda", "dm-1", "loop1", "dm"] {
            assert!(!is_among(device, journals()), "{device}");
        }
    }

    #[test]
    fn only_an_ext4_is_said_to_have_a_journal_or_none() {
        let other = Filesystem {
            magic: 0x5846_5342,
            free_bytes: 0,
        };
        assert_eq!(other.has_journal(Path::new("/")), None);
    }

    #[test]
    fn an_unknown_filesystem_counts_as_a_disk() {
        assert!(
            !Filesystem {
                magic: 0x1234,
                free_bytes: 0
            }
            .is_memory()
        );
    }
}
