//! A disk of a test's own: a file with ext4 that can be filled, and whose power can be taken away.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::machine::{as_root, skipped};
use crate::program::gannet;

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

    /// Takes the power away from the disk of the process that runs on it: what was not synced is gone, and everything fails from now on.
    /// `false`, said with its reason, where that cannot be done.
    #[must_use]
    pub fn cut_power(&self, pid: u32) -> bool {
        let cut = File::open(self.root_of(pid)).and_then(|root| shut_down(&root));
        if let Err(error) = &cut {
            skipped(&format!("the file system cannot be shut down: {error}"));
        }
        cut.is_ok()
    }

    /// Waits until the last mount of the disk is gone. A process that has ended leaves that to the kernel, which may take a moment; a second mount beside it would
    /// see another state of the file.
    ///
    /// # Panics
    /// When it stays mounted.
    pub fn until_unmounted(&self) {
        let deadline = Instant::now() + UNMOUNTED_MAX;
        while self.is_mounted() {
            assert!(
                Instant::now() < deadline,
                "{} stays mounted",
                self.image().display()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether a loop device has the file.
    fn is_mounted(&self) -> bool {
        let image = self.image();
        let image = image.canonicalize().unwrap_or(image);
        let Ok(devices) = std::fs::read_dir("/sys/block") else {
            return false;
        };
        devices.flatten().any(|device| {
            std::fs::read_to_string(device.path().join("loop/backing_file"))
                .is_ok_and(|file| Path::new(file.trim_end()) == image)
        })
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

/// How long the kernel may take to let go of a disk.
const UNMOUNTED_MAX: Duration = Duration::from_secs(30);

/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: not even the file system's own journal is written out.
#[allow(unsafe_code, reason = "this request has no wrapper in std or rustix")]
fn shut_down(root: &File) -> std::io::Result<()> {
    const SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
    const NO_LOG_FLUSH: u32 = 2;
    // SAFETY: the kernel reads one u32 by this request and writes nothing; other file systems refuse it.
    let done = unsafe {
        rustix::ioctl::ioctl(
            root,
            rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH),
        )
    };
    Ok(done?)
}
