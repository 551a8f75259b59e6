//! What the machine of the test has to offer.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::program::gannet;

/// Says that a test, or a part of it, did not run and why.
#[allow(
    clippy::disallowed_macros,
    reason = "only this way the test framework keeps it with its test"
)]
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Whether this process is root's.
#[must_use]
pub fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A text of some length that any Linux machine has, each line with its newline.
///
/// # Panics
/// When not even the repository's licence can be read.
#[must_use]
pub fn real_text_file() -> Vec<u8> {
    const PLACES: [&str; 4] = [
        "/usr/share/common-licenses/GPL-3",
        "/usr/share/perl5/perl5db.pl",
        "/etc/services",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../LICENSE-APACHE"),
    ];
    PLACES
        .iter()
        .filter_map(|place| std::fs::read(place).ok())
        .find(|text| text.len() > 4096 && text.ends_with(b"\n"))
        .expect("the licence is part of the repository")
}

/// A directory on a disk that any user can reach, which a build directory need not be; `None` where there is none.
#[must_use]
pub fn another_real_disk() -> Option<tempfile::TempDir> {
    let dir = tempfile::Builder::new()
        .prefix("gannet-test-")
        .tempdir_in("/var/tmp")
        .ok()?;
    let magic = rustix::fs::statfs(dir.path()).ok()?.f_type as u64 & 0xFFFF_FFFF;
    // tmpfs, ramfs, overlay.
    let refused = [0x0102_1994, 0x8584_58F6, 0x794C_7630];
    (!refused.contains(&magic)).then_some(dir)
}

/// An ordinary user with ordinary limits: 8 MiB of locked memory, 1,024 descriptors.
pub struct TestUser {
    home: tempfile::TempDir,
}

impl TestUser {
    /// `None`, said with its reason, where the machine lacks something.
    #[must_use]
    pub fn new() -> Option<Self> {
        for tool in ["prlimit", "setpriv"] {
            let there = Command::new(tool)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
            if !there {
                skipped(&format!("there is no {tool}"));
                return None;
            }
        }
        let Some(home) = another_real_disk() else {
            skipped("/var/tmp is not on a disk");
            return None;
        };
        let user = Self { home };
        // The build may lie where only its owner can go.
        std::fs::copy(gannet(), user.program()).expect("a program can be copied");
        if as_root() {
            for path in [user.home.path(), &user.program()] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))
                    .expect("root gives away what it has");
            }
        }
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(user.home.path(), private).expect("a directory's owner may");
        Some(user)
    }

    /// Where the user keeps things.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn program(&self) -> PathBuf {
        self.home.path().join("gannet")
    }

    /// The user's `gannet serve` on a free port, with a data directory at home.
    #[must_use]
    pub fn serve(&self) -> Command {
        let mut command = Command::new("prlimit");
        command.args(["--memlock=8388608:8388608", "--nofile=1024:1024", "--"]);
        if as_root() {
            command.args([
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
                "--",
            ]);
        }
        command
            .arg(self.program())
            .args(["serve", "--shards", "2", "--set", "runtime.pin=false"])
            .arg("--data-dir")
            .arg(self.home.path().join("data"))
            .env("GANNET_LISTEN", "127.0.0.1:0");
        command
    }
}

const NOBODY: u32 = 65534;

/// A small disk of its own: a file with ext4, mounted where only the server that runs on it sees it.
pub struct LoopDisk {
    dir: tempfile::TempDir,
}

impl LoopDisk {
    /// `None`, said with its reason, where it cannot be made.
    #[must_use]
    pub fn new(mebibytes: u64) -> Option<Self> {
        if !as_root() {
            skipped("only root mounts a disk");
            return None;
        }
        let disk = Self {
            dir: crate::data_dir(),
        };
        std::fs::create_dir(disk.mount_point()).expect("an empty directory takes one");
        let image = std::fs::File::create(disk.image()).expect("an empty directory takes a file");
        image.set_len(mebibytes << 20).expect("the file is sparse");
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(disk.image())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            skipped("mkfs.ext4 does not work here");
            return None;
        }
        let mounted = disk
            .command("true")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            skipped("a file cannot be mounted here");
            return None;
        }
        Some(disk)
    }

    /// A shell command with the disk mounted; the mount ends with the last process in it. `"$@"` are what is added.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec"])
            .arg(format!(
                "mount -o loop \"$IMAGE\" \"$MOUNT_POINT\"; {script}"
            ))
            .arg("sh")
            .env("IMAGE", self.image())
            .env("MOUNT_POINT", self.mount_point());
        command
    }

    /// `gannet serve` on the disk, with configuration of its own as `key=value`.
    #[must_use]
    pub fn serve(&self, settings: &[&str]) -> Command {
        self.serve_after("", settings)
    }

    /// The same once a file that lies in the disk's root is gone.
    #[must_use]
    pub fn serve_without(&self, file: &str, settings: &[&str]) -> Command {
        self.serve_after(&format!("rm \"$MOUNT_POINT/{file}\"; "), settings)
    }

    fn serve_after(&self, script: &str, settings: &[&str]) -> Command {
        let mut command = self.command(&format!("{script}exec \"$@\""));
        command
            .arg(gannet())
            .args(["serve", "--shards", "2", "--set", "runtime.pin=false"])
            .arg("--data-dir")
            .arg(self.mount_point().join("data"))
            .env("GANNET_LISTEN", "127.0.0.1:0");
        for setting in settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// The disk's root as the process that runs on it sees it.
    #[must_use]
    pub fn root_of(&self, pid: u32) -> PathBuf {
        let inside = self.mount_point();
        Path::new(&format!("/proc/{pid}/root")).join(inside.strip_prefix("/").unwrap_or(&inside))
    }

    /// Takes the power away: what was not synced is gone, and everything fails from now on. `false`, said with its reason, where that
    /// cannot be done.
    #[must_use]
    pub fn cut_power(&self, pid: u32) -> bool {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
        let done = Command::new("perl")
            .args([
                "-e",
                "open(my $d, '<', $ARGV[0]) or die; my $how = pack('L', 2); ioctl($d, 0x8004587d, $how) or die $!",
            ])
            .arg(self.root_of(pid))
            .status();
        let done = done.is_ok_and(|status| status.success());
        if !done {
            skipped("the file system cannot be shut down: no perl, or too old a kernel");
        }
        done
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn mount_point(&self) -> PathBuf {
        // A mount's place has to be named in full.
        let dir = self.dir.path();
        dir.canonicalize()
            .unwrap_or_else(|_| dir.to_owned())
            .join("disk")
    }
}
