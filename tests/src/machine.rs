//! What the machine of the test has to offer.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::gannet;

/// Says that a test, or a part of it, did not run and why: the machine lacks what it needs.
///
/// # Panics
/// On a machine that has to offer everything: where `TESTS_SKIP_NOTHING` is set.
pub fn skipped(why: &str) {
    say_skipped(why);
    assert!(
        !skips_nothing(std::env::var_os("TESTS_SKIP_NOTHING").as_deref()),
        "this machine is to skip nothing: {why}"
    );
}

/// Says that another broker took no part, which is nobody's duty: never a failure.
pub fn skipped_peer(why: &str) {
    say_skipped(why);
}

/// Past the test framework, which would keep it from who reads its output.
fn say_skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("main").to_owned();
    // Without a stderr there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// What `TESTS_SKIP_NOTHING` says. Empty is as good as not set. (Without a prefix of ours: a broker takes those for its configuration.)
fn skips_nothing(variable: Option<&OsStr>) -> bool {
    variable.is_some_and(|value| !value.is_empty())
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
        user.own(user.home.path());
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(user.home.path(), private).expect("a directory's owner may");
        Some(user)
    }

    /// Where the user keeps things.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    fn own(&self, path: &Path) {
        if as_root() {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))
                .expect("root gives away what it has");
        }
    }

    /// A program as that user runs it.
    ///
    /// # Panics
    /// When it cannot be copied to where the user can reach it.
    #[must_use]
    pub fn run(&self, program: &Path) -> Command {
        // The build may lie where only its owner can go.
        let own = self
            .home
            .path()
            .join(program.file_name().expect("a program has a name"));
        std::fs::copy(program, &own).expect("a program can be copied");
        self.own(&own);
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
        command.arg(own);
        command
    }

    /// The user's `gannet serve` on a free port, with a data directory at home.
    #[must_use]
    pub fn serve(&self) -> Command {
        let mut command = self.run(&gannet());
        command
            .args(["serve", "--shards", "2", "--set", "runtime.pin=false"])
            .arg("--data-dir")
            .arg(self.home.path().join("data"))
            .env("GANNET_LISTEN", "127.0.0.1:0");
        command
    }
}

const NOBODY: u32 = 65534;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_to_skip_nothing_says_so_by_any_value_but_the_empty_one() {
        assert!(skips_nothing(Some(OsStr::new("1"))));
        assert!(!skips_nothing(Some(OsStr::new(""))));
        assert!(!skips_nothing(None));
    }
}
